//! A small bounded HTTP/1.1 server for the operator's side: the only place with hyper's http1 server builder.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::error::{ErrorBody, ErrorDetail};
use super::text::printable;

pub const MAX_BODY: usize = 64 * 1024;

/// Longest time from the accept, or from the last answer, to the end of the next head. Local peers need milliseconds.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest time for the whole body of a request.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest time for an operation. The slowest one is a reload of a large configuration.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest time that requests in flight get after the stop.
const DRAIN: Duration = Duration::from_secs(5);

/// The pause after a failed accept, so that the loop does not spin. Most often there are no descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The process at the other end of a Unix socket, as the kernel tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketPeer {
    pub uid: u32,
}

/// One request with its whole body.
#[derive(Debug)]
pub struct AdminCall {
    pub method: Method,
    pub uri: Uri,
    /// The body, at most [`MAX_BODY`] bytes.
    pub body: Bytes,
    /// Who asks; none over TCP.
    pub peer: Option<SocketPeer>,
}

#[derive(Debug)]
pub struct AdminReply {
    pub status: u16,
    pub content_type: &'static str,
    pub body: Bytes,
}

impl AdminReply {
    #[must_use]
    pub fn json(status: u16, value: &impl serde::Serialize) -> Self {
        Self {
            status,
            content_type: "application/json",
            body: serde_json::to_vec(value).unwrap_or_default().into(),
        }
    }
}

#[derive(Debug)]
pub enum Listener {
    /// A Unix socket; peers other than our user and root are turned away.
    Unix(UnixListener),
    Tcp(TcpListener),
}

/// The limits that a server sets for its peers.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Most connections at a time; more of them wait in the queue of the kernel.
    pub connections: usize,
    /// Longest life of a connection. It also ends a peer that does not read its answer.
    pub age: Duration,
}

impl Bounds {
    /// The limits for operators and probes. An operator has one connection; a scraper and two probes have three.
    pub const OPERATOR: Self = Self {
        connections: 64,
        age: Duration::from_secs(60),
    };
}

pub trait AdminService: Send + Sync + 'static {
    /// Answers one request; [`read`] reads its body.
    fn answer(&self, request: Request<Incoming>) -> impl Future<Output = AdminReply> + Send;
}

/// Serves until `stop` changes (or its sender is dropped), then finishes what is in flight for at
/// most five seconds. Owns its connections.
pub async fn serve<S: AdminService>(listener: Listener, bounds: Bounds, service: Arc<S>, mut stop: watch::Receiver<()>) {
    let permits = Arc::new(Semaphore::new(bounds.connections));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            _ = stop.changed() => break,
            accepted = accept(&listener, &permits) => accepted,
        };
        match accepted {
            Ok(Accepted { io, peer, permit }) => {
                let (service, stop) = (Arc::clone(&service), stop.clone());
                connections.spawn(async move {
                    serve_connection(Peered { io, peer }, bounds.age, service, stop).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "an operator connection was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    // Connections that are not done by then are cut off when the set is dropped.
    let _ = timeout(DRAIN, async { while connections.join_next().await.is_some() {} }).await;
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection that was accepted, with its place.
struct Accepted {
    io: Box<dyn Stream>,
    peer: Option<SocketPeer>,
    permit: tokio::sync::OwnedSemaphorePermit,
}

/// A connection and who is at its other end.
struct Peered {
    io: Box<dyn Stream>,
    peer: Option<SocketPeer>,
}

async fn accept(listener: &Listener, permits: &Arc<Semaphore>) -> io::Result<Accepted> {
    let permit = Arc::clone(permits).acquire_owned().await.map_err(io::Error::other)?;
    let mut peer = None;
    let io: Box<dyn Stream> = match listener {
        Listener::Unix(listener) => {
            let (io, _) = listener.accept().await?;
            let uid = io.peer_cred()?.uid();
            // The mode of the socket keeps other users away too; this check stays even if somebody changes the mode.
            if uid != 0 && uid != rustix::process::geteuid().as_raw() {
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, "a peer of another user"));
            }
            peer = Some(SocketPeer { uid });
            Box::new(io)
        }
        Listener::Tcp(listener) => Box::new(listener.accept().await?.0),
    };
    Ok(Accepted { io, peer, permit })
}

async fn serve_connection<S: AdminService>(connected: Peered, age: Duration, service: Arc<S>, mut stop: watch::Receiver<()>) {
    let Peered { io, peer } = connected;
    let answer = service_fn(move |mut request: Request<Incoming>| {
        if let Some(peer) = peer {
            request.extensions_mut().insert(peer);
        }
        let service = Arc::clone(&service);
        async move { Ok::<_, Infallible>(answer(&*service, request).await) }
    });
    let mut connection = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(MAX_BODY)
            .serve_connection(TokioIo::new(io), answer)
    );
    // An error of a connection needs no report: its peer went away, or did not speak HTTP.
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = stop.changed() => {}
        () = tokio::time::sleep(age) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(DRAIN, connection).await;
}

async fn answer<S: AdminService>(service: &S, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let answer = timeout(ANSWER_TIMEOUT, service.answer(request)).await;
    write(answer.unwrap_or_else(|_| {
        fail(
            503,
            "unavailable",
            "the operation did not end in time; whether it was done is not known",
        )
    }))
}

/// Reads a request's body, up to [`MAX_BODY`] bytes and ten seconds.
///
/// # Errors
/// The answer that says what was wrong with it.
pub async fn read(request: Request<Incoming>) -> Result<AdminCall, AdminReply> {
    let (head, body) = request.into_parts();
    let body = match timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(_)) => return Err(fail(413, "usage", "the body is larger than 64 KiB, or ended too early")),
        Err(_) => return Err(fail(408, "usage", "the body did not arrive in time")),
    };
    Ok(AdminCall {
        method: head.method,
        uri: head.uri,
        body,
        peer: head.extensions.get::<SocketPeer>().copied(),
    })
}

/// An answer that says why something was not done.
pub(crate) fn fail(status: u16, code: &str, message: &str) -> AdminReply {
    let error = ErrorDetail {
        code: code.into(),
        message: message.into(),
    };
    AdminReply::json(status, &ErrorBody { error })
}

pub(crate) fn no_such_path(call: &AdminCall) -> AdminReply {
    let path = printable(call.uri.path());
    fail(404, "not_found", &format!("there is no `{} {path}` here", call.method))
}

pub(crate) fn wrong_method(right: &str) -> AdminReply {
    fail(405, "usage", &format!("this path takes {right}"))
}

fn write(answer: AdminReply) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(answer.body));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    // Answers hold keys that are shown once.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
