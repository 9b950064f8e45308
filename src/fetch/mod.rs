//! Asks servers of others one question over HTTPS: key sets, identity providers. To a checked address, without redirects, with
//! everything bounded.

use std::fmt;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, DATE, HOST, HeaderValue, USER_AGENT,
};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use crate::base::clock::UnixMillis;
use crate::decide::external::FetchAddresses;

mod guard;
mod url;

use guard::is_public;
pub use url::{FetchScheme, FetchSchemes, FetchUrl, InvalidUrl};

/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 4;

/// Most characters of an error of TLS.
const MAX_TLS_ERROR: usize = 300;

/// One question to a server.
pub struct FetchRequest<'a> {
    pub url: &'a FetchUrl,
    /// How the server is verified.
    pub tls: &'a Arc<rustls::ClientConfig>,
    pub addresses: FetchAddresses,
    pub body: FetchBody,
    /// The value of `Authorization`. It is a secret.
    pub authorization: Option<HeaderValue>,
    pub expected: &'a ExpectedAnswer,
    /// Deadline, from the look-up of the name to the last byte.
    pub timeout: Duration,
}

/// What a question carries.
pub enum FetchBody {
    /// Nothing: `GET`.
    None,
    /// A form in its encoding: `POST`. It may hold secrets.
    Form(Zeroizing<String>),
}

/// Which answers are read.
#[derive(Debug)]
pub struct ExpectedAnswer {
    /// Media types, the first one preferred.
    pub types: &'static [&'static str],
    /// Status codes. A redirect is never followed.
    pub statuses: &'static [u16],
    /// Most bytes of the content.
    pub max_len: usize,
}

/// An answer that was expected.
#[derive(Debug)]
pub struct FetchedAnswer {
    pub status: u16,
    pub content: Bytes,
    /// The server's time, by its `Date`.
    pub date: Option<UnixMillis>,
}

/// Why a question brought no answer. It names no contents, so nothing that the server sent gets into logs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchFault {
    #[error("it took longer than {} s", .0.as_secs_f32())]
    Timeout(Duration),
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
    #[error("the `Content-Type` of its answer is not {}, or the answer is compressed", Types(.0))]
    Type(&'static [&'static str]),
    #[error("its answer is larger than {} KiB, or broke off", .0 / 1024)]
    Body(usize),
}

/// Whether a URL names an address, and one that is never asked.
#[must_use]
pub fn is_refused_address(url: &FetchUrl, addresses: FetchAddresses) -> bool {
    let address = url.host.parse::<IpAddr>().ok();
    addresses == FetchAddresses::Public && address.is_some_and(|address| !is_public(address))
}

/// Media types as a sentence names them.
struct Types<'a>(&'a [&'a str]);

impl fmt::Display for Types<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, name) in self.0.iter().enumerate() {
            write!(f, "{}`{name}`", if i == 0 { "" } else { " or " })?;
        }
        Ok(())
    }
}

/// Asks, and ends within the deadline of the request. `lookups` bounds the look-ups of names at a time.
///
/// # Errors
/// [`FetchFault`].
pub async fn fetch(request: FetchRequest<'_>, lookups: &Arc<Semaphore>) -> Result<FetchedAnswer, FetchFault> {
    let timeout = request.timeout;
    // On the heap: those who wait for an answer keep their own state small.
    tokio::time::timeout(timeout, Box::pin(ask(request, lookups)))
        .await
        .unwrap_or(Err(FetchFault::Timeout(timeout)))
}

async fn ask(request: FetchRequest<'_>, lookups: &Arc<Semaphore>) -> Result<FetchedAnswer, FetchFault> {
    let stream = connect(&request, lookups).await?;
    if request.url.scheme == FetchScheme::Http {
        return exchange(stream, request).await;
    }
    let name = ServerName::try_from(request.url.host.clone()).map_err(|_| FetchFault::Name)?;
    let stream = TlsConnector::from(Arc::clone(request.tls))
        .connect(name, stream)
        .await
        .map_err(|error| FetchFault::Tls(bounded(&error.to_string())))?;
    exchange(stream, request).await
}

/// The beginning of an error of TLS, which may name what stands in the server's certificate.
fn bounded(error: &str) -> String {
    error.chars().filter(|c| !c.is_control()).take(MAX_TLS_ERROR).collect()
}

async fn exchange<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    request: FetchRequest<'_>,
) -> Result<FetchedAnswer, FetchFault> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|_| FetchFault::Http)?;
    let _driver = ConnectionTask(tokio::spawn(async move {
        // The request gets the same error.
        let _ = connection.await;
    }));
    let expected = request.expected;
    let response = sender.send_request(message(request)?).await.map_err(|_| FetchFault::Http)?;
    let status = response.status().as_u16();
    if !expected.statuses.contains(&status) {
        return Err(FetchFault::Status(status));
    }
    if !is_expected_type(&response, expected) {
        // An error with a page for people is known by its status.
        return Err(if status == 200 {
            FetchFault::Type(expected.types)
        } else {
            FetchFault::Status(status)
        });
    }
    let date = response.headers().get(DATE).and_then(read_date);
    let content = Limited::new(response.into_body(), expected.max_len).collect().await;
    Ok(FetchedAnswer {
        status,
        content: content.map_err(|_| FetchFault::Body(expected.max_len))?.to_bytes(),
        date,
    })
}

/// A date of HTTP (RFC 9110, section 5.6.7), which is one of mail.
fn read_date(value: &HeaderValue) -> Option<UnixMillis> {
    let parsed = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(value.as_bytes());
    parsed.ok().map(|time| UnixMillis(time.as_millisecond()))
}

/// The task of a connection. It ends when the caller that waits for the answer is dropped.
struct ConnectionTask(JoinHandle<()>);

impl Drop for ConnectionTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn message(request: FetchRequest<'_>) -> Result<http::Request<Full<Bytes>>, FetchFault> {
    let mut message = match &request.body {
        FetchBody::None => http::Request::get(request.url.target.as_str()),
        FetchBody::Form(_) => http::Request::post(request.url.target.as_str()).header(CONTENT_TYPE, "application/x-www-form-urlencoded"),
    };
    message = message
        .header(HOST, request.url.authority())
        .header(ACCEPT, request.expected.types.join(", "))
        .header(ACCEPT_ENCODING, "identity")
        .header(CONNECTION, "close")
        .header(USER_AGENT, concat!("durward/", env!("CARGO_PKG_VERSION")));
    if let Some(mut value) = request.authorization {
        value.set_sensitive(true);
        message = message.header(AUTHORIZATION, value);
    }
    let body = match request.body {
        FetchBody::None => Bytes::new(),
        FetchBody::Form(form) => Bytes::from_owner(WipedForm(form)),
    };
    message.body(Full::new(body)).map_err(|_| FetchFault::Http)
}

/// A form that is wiped when its last reader is done.
struct WipedForm(Zeroizing<String>);

impl AsRef<[u8]> for WipedForm {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// Whether the answer is of an expected type and is not compressed: a small compressed answer could become large.
fn is_expected_type(response: &http::Response<Incoming>, expected: &ExpectedAnswer) -> bool {
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
    plain && essence.is_some_and(|essence| expected.types.iter().any(|known| essence.eq_ignore_ascii_case(known)))
}

async fn connect(request: &FetchRequest<'_>, lookups: &Arc<Semaphore>) -> Result<TcpStream, FetchFault> {
    let addresses = resolve(request.url, lookups).await?;
    let allowed = addresses
        .iter()
        .filter(|address| request.addresses == FetchAddresses::InsecureAny || is_public(address.ip()));
    let mut last = FetchFault::PrivateAddress;
    for address in allowed {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = FetchFault::Connect(error.kind()),
        }
    }
    Err(last)
}

async fn resolve(url: &FetchUrl, lookups: &Arc<Semaphore>) -> Result<Vec<SocketAddr>, FetchFault> {
    if let Ok(ip) = url.host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, url.port)]);
    }
    // A resolver that hangs holds its thread and its permit, so no more threads hang than there are permits.
    let permit = Arc::clone(lookups).acquire_owned().await.map_err(|_| FetchFault::Name)?;
    let (host, port) = (url.host.clone(), url.port);
    let looked_up = tokio::task::spawn_blocking(move || {
        let found = (host.as_str(), port).to_socket_addrs().map(|all| all.take(MAX_ADDRESSES).collect());
        drop(permit);
        found
    });
    looked_up.await.map_err(|_| FetchFault::Name)?.map_err(|_| FetchFault::Name)
}

#[cfg(test)]
mod tests;
