//! Opens one connection to Redis: TLS, socket options, deadlines, log-in.

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

use super::fault::StoreFault;
use super::reconnect::{Backoff, Pace};
use super::reply_guard::GuardedStream;
use super::{Endpoint, RedisTls, RedisUser};

/// From the first packet to an authenticated connection. A primary in the same network takes
/// milliseconds; one second leaves time to send a lost packet again.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// How long written bytes may stay unacknowledged before the kernel ends the connection: within the
/// five seconds in which a silent partition must be noticed (docs/threats.md F6).
const USER_TIMEOUT: Duration = Duration::from_secs(5);

/// TCP keepalive: the idle time before the first probe, and the time between probes.
const KEEPALIVE: Duration = Duration::from_secs(5);

/// Requests that may wait for the socket: the default number of look-ups in flight.
const PIPELINE: usize = 512;

/// A connected stream of bytes.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for S {}

/// How hosts are reached: by TCP, or in the network of a simulation. This is the only thing below the Redis client that a
/// simulation replaces.
pub trait Network: Send + Sync + 'static {
    /// Connects to a host, without TLS and without a deadline of its own. Cancel-safe: a dropped future ends the attempt.
    fn connect(&self, host: &str, port: u16) -> BoxFuture<'_, io::Result<Box<dyn ByteStream>>>;
}

/// What a store needs from the machine. A simulation brings its own, so that a run can be repeated.
pub struct RedisEnvironment {
    network: Arc<dyn Network>,
    /// The seed of the next connection's jitter.
    seed: AtomicU64,
    rights: Arc<Rights>,
}

impl RedisEnvironment {
    /// The network of a simulation, and jitter that a seed repeats.
    #[must_use]
    pub fn simulated(network: Arc<dyn Network>, seed: u64) -> Self {
        Self {
            network,
            seed: AtomicU64::new(seed),
            rights: Arc::default(),
        }
    }

    /// The rights that this gateway's users lack.
    pub(crate) const fn rights(&self) -> &Arc<Rights> {
        &self.rights
    }

    /// The limit for connection attempts of the whole process.
    pub(crate) fn pace(&self) -> Pace {
        Pace::new(self.seed.fetch_add(1, Ordering::Relaxed))
    }

    /// Pauses between the attempts of one connection.
    pub(crate) fn backoff(&self) -> Backoff {
        Backoff::new(self.seed.fetch_add(1, Ordering::Relaxed))
    }
}

impl Default for RedisEnvironment {
    fn default() -> Self {
        // The keys of the standard library's hasher are random.
        Self::simulated(Arc::new(TcpNetwork), RandomState::new().hash_one(0))
    }
}

/// Connects to servers of one kind, with the user and the TLS for them. It holds a password, so it has no `Debug`.
pub(crate) struct Dialer {
    network: Arc<dyn Network>,
    identity: RedisConnectionInfo,
    tls: Option<(TlsConnector, Option<ServerName<'static>>)>,
    rights: Arc<Rights>,
}

impl Dialer {
    pub(crate) fn new(environment: &RedisEnvironment, user: &RedisUser, database: u32, tls: Option<&RedisTls>) -> Self {
        // RESP2 has replies only. RESP3 would let a server push messages between them.
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
            network: Arc::clone(&environment.network),
            identity,
            tls,
            rights: Arc::clone(&environment.rights),
        }
    }

    /// Judges an error that a server answered, and notes a missing right.
    pub(crate) fn fault(&self, error: &RedisError) -> StoreFault {
        let fault = StoreFault::of(error);
        self.rights.note(&fault);
        fault
    }
}

/// An open connection. The task that drives it ends with the last clone.
#[derive(Clone)]
pub(crate) struct RedisConnection {
    pub(crate) connection: MultiplexedConnection,
    open: watch::WatchReceiver<()>,
    _driver: Arc<DriverTask>,
}

impl RedisConnection {
    /// False once the server has closed the connection.
    pub(crate) fn is_open(&self) -> bool {
        self.open.has_changed().is_ok()
    }

    /// Waits until the connection is closed.
    pub(crate) async fn closed(&self) {
        let mut open = self.open.clone();
        // No value is ever sent: the wait ends when the driver drops the sender.
        while open.changed().await.is_ok() {}
    }
}

struct DriverTask(AbortHandle);

impl Drop for DriverTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Connects and authenticates. Every command on the connection ends within `response_timeout`.
///
/// # Errors
/// [`StoreError::Unavailable`], also after [`CONNECT_TIMEOUT`].
pub(crate) async fn dial(endpoint: &Endpoint, dialer: &Dialer, response_timeout: Duration) -> Result<RedisConnection, StoreError> {
    match tokio::time::timeout(CONNECT_TIMEOUT, connect(endpoint, dialer, response_timeout)).await {
        Ok(result) => result,
        Err(_) => Err(StoreError::Unavailable("Redis did not accept a connection within 1 s".into())),
    }
}

async fn connect(endpoint: &Endpoint, dialer: &Dialer, response_timeout: Duration) -> Result<RedisConnection, StoreError> {
    let stream = open(endpoint, dialer)
        .await
        .map_err(|e| StoreError::Unavailable(format!("no connection to Redis: {e}")))?;
    let config = AsyncConnectionConfig::new()
        .set_response_timeout(Some(response_timeout))
        .set_pipeline_buffer_size(PIPELINE);
    let (connection, driver) = MultiplexedConnection::new_with_config(&dialer.identity, GuardedStream::new(stream), config)
        .await
        .map_err(|e| dialer.fault(&e).error)?;
    let (closing, open) = watch::channel(());
    let driver = async move {
        driver.await;
        drop(closing);
    };
    let driver = tokio::spawn(driver).abort_handle();
    Ok(RedisConnection {
        connection,
        open,
        _driver: Arc::new(DriverTask(driver)),
    })
}

async fn open(endpoint: &Endpoint, dialer: &Dialer) -> io::Result<Box<dyn ByteStream>> {
    let (host, port) = match endpoint {
        Endpoint::Unix(path) => return Ok(Box::new(UnixStream::connect(path).await?)),
        Endpoint::Tcp { host, port } => (host, *port),
    };
    let Some((connector, name)) = &dialer.tls else {
        return dialer.network.connect(host, port).await;
    };
    let name = match name {
        Some(name) => name.clone(),
        None => ServerName::try_from(host.clone()).map_err(io::Error::other)?,
    };
    let stream = dialer.network.connect(host, port).await?;
    Ok(Box::new(connector.connect(name, stream).await?))
}

struct TcpNetwork;

impl Network for TcpNetwork {
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

/// Deadline of one question: [`CONNECT_TIMEOUT`] on the open connection, and as long on a new one if that is dead.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(2);

/// A server that says which server is the primary (a sentinel, or a primary of the cluster), and the connection to it.
pub(crate) struct Witness {
    endpoint: Endpoint,
    dialer: Arc<Dialer>,
    /// Locked while a question is open.
    wire: Arc<Mutex<Option<RedisConnection>>>,
}

impl Witness {
    pub(crate) fn new(endpoint: Endpoint, dialer: &Arc<Dialer>) -> Self {
        Self {
            endpoint,
            dialer: Arc::clone(dialer),
            wire: Arc::default(),
        }
    }

    pub(crate) const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Sends a question, after the call, and answers the reply. Ends within [`QUESTION_TIMEOUT`].
    ///
    /// Cancel-safe: a caller that has enough answers may drop this future. The question goes on to its end, so that a
    /// connection that hangs is noticed and replaced. Each witness is asked one question at a time.
    pub(crate) async fn ask(&self, question: Cmd) -> Result<Value, StoreFault> {
        let answered = async {
            let wire = Arc::clone(&self.wire).lock_owned().await;
            let answer = ask_on(self.endpoint.clone(), Arc::clone(&self.dialer), wire, question);
            let answer = tokio::spawn(async move { tokio::time::timeout(QUESTION_TIMEOUT, answer).await });
            answer.await.unwrap_or_else(|_| Ok(Err(away("it is closed".into()))))
        };
        match tokio::time::timeout(QUESTION_TIMEOUT, answered).await {
            Ok(Ok(answer)) => answer,
            _ => Err(away(format!("{} did not answer in time", self.endpoint))),
        }
    }
}

/// Asks on the open connection, or on a new one if that was closed meanwhile, and keeps the one that answered.
async fn ask_on(
    endpoint: Endpoint,
    dialer: Arc<Dialer>,
    mut open_connection: OwnedMutexGuard<Option<RedisConnection>>,
    question: Cmd,
) -> Result<Value, StoreFault> {
    if let Some(wire) = open_connection.take().filter(RedisConnection::is_open) {
        match question.query_async(&mut wire.connection.clone()).await {
            Ok(answer) => {
                *open_connection = Some(wire);
                return Ok(answer);
            }
            Err(error) if error.is_timeout() || error.code().is_some() => return Err(dialer.fault(&error)),
            // The server has just closed it, as in a restart.
            Err(_) => {}
        }
    }
    let wire = dial(&endpoint, &dialer, CONNECT_TIMEOUT).await.map_err(StoreFault::kept)?;
    let answer = question.query_async(&mut wire.connection.clone()).await;
    let answer = answer.map_err(|error| dialer.fault(&error))?;
    *open_connection = Some(wire);
    Ok(answer)
}

const fn away(why: String) -> StoreFault {
    StoreFault::kept(StoreError::Unavailable(why))
}
