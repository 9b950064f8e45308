//! One fetch of a key set: HTTPS to a checked address, no redirect, everything bounded.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, HOST, USER_AGENT};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use crate::decide::external::keys::MAX_SET_LEN;
use crate::decide::external::{FetchAddresses, KeySet, KeySetError, KeyUrl};

use super::guard::is_public;

/// Deadline of a fetch, from the look-up of the name to the last byte. An issuer's file comes from a cache within milliseconds; a
/// slower answer is not worth waiting for.
pub(super) const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 4;

/// Why a fetch brought no keys. It names no contents, so nothing that the issuer sent gets into logs.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("it took longer than 5 s")]
    Timeout,
    #[error("its name does not resolve")]
    Name,
    #[error("it has a private or local address; `insecure_private_address` would allow that")]
    PrivateAddress,
    #[error("no connection: {0}")]
    Connect(std::io::ErrorKind),
    #[error("TLS: {0}")]
    Tls(String),
    #[error("its answer is not HTTP/1.1")]
    Http,
    #[error("it answered {0}; redirects are not followed")]
    Status(u16),
    #[error("its answer is neither `application/json` nor `application/jwk-set+json`, as it is")]
    Type,
    #[error("its answer is larger than 64 KiB, or broke off")]
    Body,
    #[error("{0}")]
    Set(#[from] KeySetError),
}

/// Fetches and reads a key set; ends within [`FETCH_TIMEOUT`].
pub(super) async fn fetch(url: &KeyUrl, lookups: &Arc<Semaphore>) -> Result<KeySet, FetchError> {
    tokio::time::timeout(FETCH_TIMEOUT, ask(url, lookups))
        .await
        .unwrap_or(Err(FetchError::Timeout))
}

async fn ask(url: &KeyUrl, lookups: &Arc<Semaphore>) -> Result<KeySet, FetchError> {
    let stream = connect(url, lookups).await?;
    let name = ServerName::try_from(url.host.clone()).map_err(|_| FetchError::Name)?;
    let stream = TlsConnector::from(Arc::clone(&url.tls))
        .connect(name, stream)
        .await
        .map_err(|error| FetchError::Tls(error.to_string()))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|_| FetchError::Http)?;
    let _driver = ConnectionTask(tokio::spawn(async move {
        // The request gets the same error.
        let _ = connection.await;
    }));
    let response = sender.send_request(request(url)?).await.map_err(|_| FetchError::Http)?;
    if response.status() != http::StatusCode::OK {
        return Err(FetchError::Status(response.status().as_u16()));
    }
    if !is_key_set(&response) {
        return Err(FetchError::Type);
    }
    let body = Limited::new(response.into_body(), MAX_SET_LEN).collect().await;
    Ok(KeySet::parse_with(
        &body.map_err(|_| FetchError::Body)?.to_bytes(),
        url.unnamed_rsa,
    )?)
}

/// The task of a connection. It ends when the caller that waits for the answer is dropped.
struct ConnectionTask(JoinHandle<()>);

impl Drop for ConnectionTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn request(url: &KeyUrl) -> Result<http::Request<Empty<Bytes>>, FetchError> {
    let text = url.text();
    let host = text
        .strip_prefix("https://")
        .and_then(|rest| rest.split_once('/'))
        .map_or("", |(host, _)| host);
    http::Request::get(url.target.as_str())
        .header(HOST, host.strip_suffix(":443").unwrap_or(host))
        .header(ACCEPT, "application/jwk-set+json, application/json")
        .header(ACCEPT_ENCODING, "identity")
        .header(CONNECTION, "close")
        .header(USER_AGENT, concat!("durward/", env!("CARGO_PKG_VERSION")))
        .body(Empty::new())
        .map_err(|_| FetchError::Http)
}

/// Whether the answer is declared as a key set and is not compressed: a small compressed answer could become large.
fn is_key_set(response: &http::Response<Incoming>) -> bool {
    let text = |name| {
        response
            .headers()
            .get(name)
            .and_then(|value: &http::HeaderValue| value.to_str().ok())
    };
    let essence = text(CONTENT_TYPE).and_then(|value| value.split(';').next()).map(str::trim);
    let plain = response
        .headers()
        .get(CONTENT_ENCODING)
        .is_none_or(|coding| coding.as_bytes().eq_ignore_ascii_case(b"identity"));
    let json = |essence: &str| {
        ["application/json", "application/jwk-set+json"]
            .iter()
            .any(|known| essence.eq_ignore_ascii_case(known))
    };
    plain && essence.is_some_and(json)
}

async fn connect(url: &KeyUrl, lookups: &Arc<Semaphore>) -> Result<TcpStream, FetchError> {
    let addresses = resolve(url, lookups).await?;
    let allowed = addresses
        .iter()
        .filter(|address| url.addresses == FetchAddresses::InsecureAny || is_public(address.ip()));
    let mut last = FetchError::PrivateAddress;
    for address in allowed {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = FetchError::Connect(error.kind()),
        }
    }
    Err(last)
}

async fn resolve(url: &KeyUrl, lookups: &Arc<Semaphore>) -> Result<Vec<SocketAddr>, FetchError> {
    if let Ok(ip) = url.host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, url.port)]);
    }
    // A resolver that hangs holds its thread and its permit, so no more threads hang than there are permits.
    let permit = Arc::clone(lookups).acquire_owned().await.map_err(|_| FetchError::Name)?;
    let (host, port) = (url.host.clone(), url.port);
    let looked_up = tokio::task::spawn_blocking(move || {
        let found = (host.as_str(), port).to_socket_addrs().map(|all| all.take(MAX_ADDRESSES).collect());
        drop(permit);
        found
    });
    looked_up.await.map_err(|_| FetchError::Name)?.map_err(|_| FetchError::Name)
}
