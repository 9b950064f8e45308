//! Opens one connection to Redis: TLS, socket options, deadlines, who we are.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, ProtocolVersion, RedisConnectionInfo, RedisError, Value};
use rustls_pki_types::ServerName;
use secrecy::ExposeSecret;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::task::AbortHandle;
use tokio_rustls::TlsConnector;

use crate::store::redis::scripts::Rights;
use crate::store::{BoxFuture, StoreError, watch};

use super::fault::Fault;
use super::reconnect::{Backoff, Pace};
use super::reply_guard::Guarded;
use super::{Endpoint, RedisTls, RedisUser};

/// From the first packet to an authenticated connection. A primary in the same network takes
/// milliseconds; a second lets one lost packet be sent again.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// How long written bytes may stay unacknowledged before the kernel ends the connection: within the
/// five seconds in which a silent partition must be noticed (hardening F6).
const USER_TIMEOUT: Duration = Duration::from_secs(5);

/// Idle time before the kernel asks whether the peer is there, and between its questions.
const KEEPALIVE: Duration = Duration::from_secs(5);

/// Requests that may wait for the socket: as many as look-ups may be in flight by default.
const PIPELINE: usize = 512;

/// A connected stream of bytes.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for S {}

/// How hosts are reached. The one seam below the client of Redis: sockets, or the network of a
/// simulation.
pub trait Network: Send + Sync + 'static {
    /// Connects to a host, without TLS. The caller sets the deadline; dropping the future gives up.
    fn connect(&self, host: &str, port: u16) -> BoxFuture<'_, io::Result<Box<dyn ByteStream>>>;
}

/// What a store finds around it. A simulation brings its own, so that a run can be repeated.
pub struct Surroundings {
    network: Arc<dyn Network>,
    /// Begins the jitter of every connection's pauses.
    seed: AtomicU64,
    rights: Arc<Rights>,
}

impl Surroundings {
    /// Another network than the machine's, and jitter that can be repeated.
    #[must_use]
    pub fn simulated(network: Arc<dyn Network>, seed: u64) -> Self {
        Self {
            network,
            seed: AtomicU64::new(seed),
            rights: Arc::default(),
        }
    }

    /// What was refused to this gateway's users.
    pub(crate) const fn rights(&self) -> &Arc<Rights> {
        &self.rights
    }

    /// The pace of all connections together.
    pub(crate) fn pace(&self) -> Pace {
        Pace::new(self.seed.fetch_add(1, Ordering::Relaxed))
    }

    /// The pauses of one more connection.
    pub(crate) fn backoff(&self) -> Backoff {
        Backoff::new(self.seed.fetch_add(1, Ordering::Relaxed))
    }
}

impl Default for Surroundings {
    fn default() -> Self {
        // The standard library's hash keys are random and need no generator of our own.
        Self::simulated(Arc::new(Sockets), RandomState::new().hash_one(0))
    }
}

/// Who we are towards servers of one kind. Holds a password, so it has no `Debug`.
pub(crate) struct Caller {
    network: Arc<dyn Network>,
    identity: RedisConnectionInfo,
    tls: Option<(TlsConnector, Option<ServerName<'static>>)>,
    rights: Arc<Rights>,
}

impl Caller {
    pub(crate) fn new(around: &Surroundings, user: &RedisUser, database: u32, tls: Option<&RedisTls>) -> Self {
        // RESP2: replies only, no pushes that a server could weave in between.
        let mut identity = RedisConnectionInfo::default()
            .set_protocol(ProtocolVersion::RESP2)
            .set_lib_name("durward", env!("CARGO_PKG_VERSION"))
            .set_db(i64::from(database));
        if let Some(name) = &user.name {
            identity = identity.set_username(name);
        }
        if let Some(password) = &user.password {
            identity = identity.set_password(password.expose_secret());
        }
        let tls = tls.map(|tls| (TlsConnector::from(Arc::clone(&tls.config)), tls.server_name.clone()));
        Self {
            network: Arc::clone(&around.network),
            identity,
            tls,
            rights: Arc::clone(&around.rights),
        }
    }

    /// What a server answered that refuses something.
    pub(crate) fn fault(&self, error: &RedisError) -> Fault {
        let fault = Fault::of(error);
        self.rights.note(&fault);
        fault
    }
}

/// An open connection. Its driver ends with the last clone.
#[derive(Clone)]
pub(crate) struct Wire {
    pub(crate) connection: MultiplexedConnection,
    /// Ends with the connection.
    open: watch::Receiver<()>,
    _driver: Arc<Driver>,
}

impl Wire {
    /// Whether the connection has not been closed by the other side.
    pub(crate) fn is_open(&self) -> bool {
        self.open.has_changed().is_ok()
    }

    /// Waits until it is closed.
    pub(crate) async fn closed(&self) {
        let mut open = self.open.clone();
        // Nothing is ever sent: this ends with the other half.
        while open.changed().await.is_ok() {}
    }
}

struct Driver(AbortHandle);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Connects and authenticates, when it is this gateway's turn. Every command on the connection ends within `response_timeout`.
///
/// # Errors
/// [`StoreError::Unavailable`], also after [`CONNECT_TIMEOUT`].
pub(crate) async fn dial(endpoint: &Endpoint, caller: &Caller, response_timeout: Duration) -> Result<Wire, StoreError> {
    match tokio::time::timeout(CONNECT_TIMEOUT, connect(endpoint, caller, response_timeout)).await {
        Ok(result) => result,
        Err(_) => Err(StoreError::Unavailable("Redis did not accept a connection within 1 s".into())),
    }
}

async fn connect(endpoint: &Endpoint, caller: &Caller, response_timeout: Duration) -> Result<Wire, StoreError> {
    let stream = open(endpoint, caller)
        .await
        .map_err(|e| StoreError::Unavailable(format!("no connection to Redis: {e}")))?;
    let config = AsyncConnectionConfig::new()
        .set_response_timeout(Some(response_timeout))
        .set_pipeline_buffer_size(PIPELINE);
    let (connection, driver) = MultiplexedConnection::new_with_config(&caller.identity, Guarded::new(stream), config)
        .await
        .map_err(|e| caller.fault(&e).error)?;
    let (closing, open) = watch::channel(());
    let driver = async move {
        driver.await;
        drop(closing);
    };
    let driver = tokio::spawn(driver).abort_handle();
    Ok(Wire {
        connection,
        open,
        _driver: Arc::new(Driver(driver)),
    })
}

async fn open(endpoint: &Endpoint, caller: &Caller) -> io::Result<Box<dyn ByteStream>> {
    let (host, port) = match endpoint {
        Endpoint::Unix(path) => return Ok(Box::new(UnixStream::connect(path).await?)),
        Endpoint::Tcp { host, port } => (host, *port),
    };
    let Some((connector, name)) = &caller.tls else {
        return caller.network.connect(host, port).await;
    };
    let name = match name {
        Some(name) => name.clone(),
        None => ServerName::try_from(host.clone()).map_err(io::Error::other)?,
    };
    let stream = caller.network.connect(host, port).await?;
    Ok(Box::new(connector.connect(name, stream).await?))
}

/// The machine's network.
struct Sockets;

impl Network for Sockets {
    fn connect(&self, host: &str, port: u16) -> BoxFuture<'_, io::Result<Box<dyn ByteStream>>> {
        let host = host.to_owned();
        Box::pin(async move {
            let stream = TcpStream::connect((host.as_str(), port)).await?;
            stream.set_nodelay(true)?;
            let socket = SockRef::from(&stream);
            socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
            socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE))?;
            Ok(Box::new(stream) as Box<dyn ByteStream>)
        })
    }
}

/// From the question to its answer, with a new connection if the kept one is dead. [`CONNECT_TIMEOUT`] for each.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(2);

/// Somebody who is asked, and the connection to it.
pub(crate) struct Witness {
    endpoint: Endpoint,
    caller: Arc<Caller>,
    /// Locked while a question is open.
    wire: Arc<Mutex<Option<Wire>>>,
}

impl Witness {
    pub(crate) fn new(endpoint: Endpoint, caller: &Arc<Caller>) -> Self {
        Self {
            endpoint,
            caller: Arc::clone(caller),
            wire: Arc::default(),
        }
    }

    pub(crate) const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Puts a question. It is sent after the call. Ends within [`QUESTION_TIMEOUT`].
    ///
    /// Whoever has enough answers may drop this: the question goes on by itself to its end, so that a connection
    /// that hangs is found out and replaced whoever waits. There is one such question for each witness at a time.
    pub(crate) async fn ask(&self, question: Cmd) -> Result<Value, Fault> {
        let answered = async {
            let wire = Arc::clone(&self.wire).lock_owned().await;
            let asked = put(self.endpoint.clone(), Arc::clone(&self.caller), wire, question);
            let asked = tokio::spawn(async move { tokio::time::timeout(QUESTION_TIMEOUT, asked).await });
            asked.await.unwrap_or_else(|_| Ok(Err(away("it is closed".into()))))
        };
        match tokio::time::timeout(QUESTION_TIMEOUT, answered).await {
            Ok(Ok(answer)) => answer,
            _ => Err(away(format!("{} did not answer in time", self.endpoint))),
        }
    }
}

/// Asks on the kept connection, or on a new one if that was closed meanwhile, and keeps what answered.
async fn put(endpoint: Endpoint, caller: Arc<Caller>, mut kept: OwnedMutexGuard<Option<Wire>>, question: Cmd) -> Result<Value, Fault> {
    if let Some(wire) = kept.take().filter(Wire::is_open) {
        match question.query_async(&mut wire.connection.clone()).await {
            Ok(answer) => {
                *kept = Some(wire);
                return Ok(answer);
            }
            Err(error) if error.is_timeout() || error.code().is_some() => return Err(caller.fault(&error)),
            // Closed in this moment, as by a restart.
            Err(_) => {}
        }
    }
    let wire = dial(&endpoint, &caller, CONNECT_TIMEOUT).await.map_err(Fault::kept)?;
    let answer = question.query_async(&mut wire.connection.clone()).await;
    let answer = answer.map_err(|error| caller.fault(&error))?;
    *kept = Some(wire);
    Ok(answer)
}

const fn away(why: String) -> Fault {
    Fault::kept(StoreError::Unavailable(why))
}
