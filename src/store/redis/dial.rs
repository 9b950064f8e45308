//! Opens one connection to Redis: address, TLS, socket options, deadlines.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ConnectionAddr, IntoConnectionInfo, ProtocolVersion, RedisConnectionInfo};
use rustls_pki_types::ServerName;
use secrecy::{ExposeSecret, SecretString};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::AbortHandle;
use tokio_rustls::TlsConnector;

use crate::store::{BoxFuture, StoreError};

use super::guard::Guarded;
use super::link::Backoff;
use super::pace::Pace;

/// From the first packet to an authenticated connection. A primary in the same network takes
/// milliseconds; a second lets one lost packet be sent again.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

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
}

impl Surroundings {
    /// Another network than the machine's, and jitter that can be repeated.
    #[must_use]
    pub fn simulated(network: Arc<dyn Network>, seed: u64) -> Self {
        Self {
            network,
            seed: AtomicU64::new(seed),
        }
    }
}

impl Default for Surroundings {
    fn default() -> Self {
        // The standard library's hash keys are random and need no generator of our own.
        Self::simulated(Arc::new(Sockets), RandomState::new().hash_one(0))
    }
}

/// Where Redis is and who we are there. Holds a password, so it has no `Debug`.
pub(super) struct Address {
    addr: ConnectionAddr,
    identity: RedisConnectionInfo,
    tls: Option<TlsConnector>,
    around: Surroundings,
    pace: Pace,
}

impl Address {
    /// Reads a `redis://`, `rediss://` or `redis+unix://` URL.
    ///
    /// # Errors
    /// A text that says what is wrong and repeats nothing of the URL, which may hold a password.
    pub(super) fn parse(url: &SecretString, around: Surroundings) -> Result<Self, String> {
        let info = url
            .expose_secret()
            .into_connection_info()
            .map_err(|_| "the URL is not redis://[user[:password]@]host[:port][/db] or rediss://…".to_owned())?;
        let tls = match info.addr() {
            ConnectionAddr::TcpTls { insecure: true, .. } => {
                return Err("the URL asks for TLS without verification, which is not supported".into());
            }
            ConnectionAddr::TcpTls { .. } => Some(connector()?),
            _ => None,
        };
        // RESP2: replies only, no pushes that a server could weave in between.
        let identity = info
            .redis_settings()
            .clone()
            .set_protocol(ProtocolVersion::RESP2)
            .set_lib_name("durward", env!("CARGO_PKG_VERSION"));
        Ok(Self {
            addr: info.addr().clone(),
            identity,
            tls,
            pace: Pace::new(around.seed.fetch_add(1, Ordering::Relaxed)),
            around,
        })
    }

    /// The pauses of one more connection.
    pub(super) fn backoff(&self) -> Backoff {
        Backoff::new(self.around.seed.fetch_add(1, Ordering::Relaxed))
    }
}

/// An open connection. Its driver ends with the last clone.
#[derive(Clone)]
pub(super) struct Wire {
    pub(super) connection: MultiplexedConnection,
    _driver: Arc<Driver>,
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
pub(super) async fn dial(address: &Address, response_timeout: Duration) -> Result<Wire, StoreError> {
    address.pace.wait().await;
    match tokio::time::timeout(CONNECT_TIMEOUT, connect(address, response_timeout)).await {
        Ok(result) => result,
        Err(_) => Err(StoreError::Unavailable("Redis did not accept a connection within 1 s".into())),
    }
}

async fn connect(address: &Address, response_timeout: Duration) -> Result<Wire, StoreError> {
    let stream = open(address)
        .await
        .map_err(|e| StoreError::Unavailable(format!("no connection to Redis: {e}")))?;
    let config = AsyncConnectionConfig::new()
        .set_response_timeout(Some(response_timeout))
        .set_pipeline_buffer_size(PIPELINE);
    let (connection, driver) = MultiplexedConnection::new_with_config(&address.identity, Guarded::new(stream), config)
        .await
        .map_err(|e| super::link::Fault::of(&e).error)?;
    let driver = tokio::spawn(driver).abort_handle();
    Ok(Wire {
        connection,
        _driver: Arc::new(Driver(driver)),
    })
}

async fn open(address: &Address) -> io::Result<Box<dyn ByteStream>> {
    let network = &address.around.network;
    match &address.addr {
        ConnectionAddr::Unix(path) => Ok(Box::new(UnixStream::connect(path).await?)),
        ConnectionAddr::Tcp(host, port) => network.connect(host, *port).await,
        ConnectionAddr::TcpTls { host, port, .. } => {
            let connector = address.tls.as_ref().ok_or_else(|| io::Error::other("TLS is not set up"))?;
            let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
            let stream = network.connect(host, *port).await?;
            Ok(Box::new(connector.connect(name, stream).await?))
        }
        _ => Err(io::Error::other("this kind of address is not supported")),
    }
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

/// TLS with the system's roots and the process's crypto provider.
fn connector() -> Result<TlsConnector, String> {
    let mut roots = rustls::RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if added == 0 {
        return Err("rediss:// needs root certificates, and the system has none".into());
    }
    let provider = rustls::crypto::CryptoProvider::get_default()
        .cloned()
        .unwrap_or_else(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_url_is_not_repeated() {
        for bad in [
            "http://user:canary-4711@host",
            "redis://user:canary-4711@host/notanumber",
            "rediss://user:canary-4711@host/#insecure",
            "canary-4711",
        ] {
            let error = Address::parse(&SecretString::from(bad), Surroundings::default()).err().unwrap();
            assert!(!error.contains("canary"), "{error}");
        }
        assert!(Address::parse(&SecretString::from("redis://user:pass@127.0.0.1:6379/2"), Surroundings::default()).is_ok());
        assert!(Address::parse(&SecretString::from("redis+unix:///run/redis.sock"), Surroundings::default()).is_ok());
    }
}
