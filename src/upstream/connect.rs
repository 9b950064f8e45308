//! Connects to an endpoint: name, TCP and TLS, all under one deadline.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Instant;

use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout_at;
use tokio_rustls::TlsConnector;

use super::Cause;
use super::connection::{EndpointStream, UpstreamConnection};
use super::spec::EndpointSpec;
use crate::base::clock;

/// How many addresses of one name are tried: enough for both families of a service with replicas under one name. More
/// would leave each too little of the deadline.
const MAX_ADDRESSES: usize = 4;

/// Look-ups of names of one pool at a time. A resolver that hangs occupies a thread for each, long after the request's
/// deadline. Four are enough for a service that reconnects.
const MAX_LOOKUPS: usize = 4;

/// Resolves host names on threads of its own, of which there is a bounded number.
pub(super) struct HostResolver(Arc<Semaphore>);

impl Default for HostResolver {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_LOOKUPS)))
    }
}

impl HostResolver {
    /// The addresses of a name, in the resolver's order. Dropping the future does not stop a look-up that has begun;
    /// the look-up counts until it ends.
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let place = Arc::clone(&self.0).acquire_owned().await.map_err(io::Error::other)?;
        let host = host.to_owned();
        tokio::task::spawn_blocking(move || {
            let found = (host.as_str(), port).to_socket_addrs().map(|all| all.take(MAX_ADDRESSES).collect());
            drop(place);
            found
        })
        .await?
    }
}

/// Why there is no connection.
pub(super) struct ConnectError {
    pub(super) cause: Cause,
    /// The message of the system or of the TLS library.
    pub(super) error: io::Error,
}

impl From<io::Error> for ConnectError {
    fn from(error: io::Error) -> Self {
        Self {
            cause: Cause::of_connect(&error),
            error,
        }
    }
}

/// Connects, and shakes hands if `tls` is given. Dropping the future closes the connection that is being made.
///
/// # Errors
/// The last error; [`Cause::ConnectTimedOut`] after `deadline`.
pub(super) async fn connect(
    endpoint: &EndpointSpec,
    tls: Option<&Arc<rustls::ClientConfig>>,
    resolver: &HostResolver,
    deadline: Instant,
) -> Result<Box<UpstreamConnection>, ConnectError> {
    match timeout_at(deadline.into(), establish(endpoint, tls, resolver, deadline)).await {
        Ok(established) => established,
        Err(late) => Err(io::Error::from(late).into()),
    }
}

async fn establish(
    endpoint: &EndpointSpec,
    tls: Option<&Arc<rustls::ClientConfig>>,
    resolver: &HostResolver,
    deadline: Instant,
) -> Result<Box<UpstreamConnection>, ConnectError> {
    let stream = open(endpoint, resolver, deadline).await?;
    // Heads are written whole. Waiting for more bytes would only delay them.
    stream.set_nodelay(true)?;
    let Some(config) = tls else {
        return Ok(UpstreamConnection::new(EndpointStream::Plain(stream)));
    };
    let name = match &endpoint.server_name {
        Some(name) => name.clone(),
        None => ServerName::try_from(endpoint.host.clone()).map_err(io::Error::other)?,
    };
    let stream = TlsConnector::from(Arc::clone(config)).connect(name, stream).await;
    let stream = stream.map_err(|error| ConnectError { cause: Cause::Tls, error })?;
    Ok(UpstreamConnection::new(EndpointStream::Tls(Box::new(stream))))
}

/// Opens a TCP connection. An address literal needs no resolver.
async fn open(endpoint: &EndpointSpec, resolver: &HostResolver, deadline: Instant) -> Result<TcpStream, ConnectError> {
    if let Ok(ip) = endpoint.host.parse::<IpAddr>() {
        return Ok(TcpStream::connect(SocketAddr::new(ip, endpoint.port)).await?);
    }
    let unknown = |error| ConnectError { cause: Cause::Dns, error };
    let found = resolver.resolve(&endpoint.host, endpoint.port).await.map_err(unknown)?;
    if found.is_empty() {
        return Err(unknown(io::ErrorKind::NotFound.into()));
    }
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for (tried, address) in found.iter().enumerate() {
        // Each address gets a share of the remaining time, so that one silent address does not use it up.
        let now = clock::instant();
        let shares = u32::try_from(found.len() - tried).unwrap_or(1).max(1);
        let until = now + deadline.saturating_duration_since(now) / shares;
        match timeout_at(until.into(), TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(late) => last = late.into(),
        }
    }
    Err(last.into())
}
