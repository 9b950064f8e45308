//! The request path, top to bottom: the only file that knows the order of the steps.

use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;

use crate::base::denial::Denial;
use crate::decide::headers::Scheme;
use crate::upstream::UpstreamBody;
use crate::wire::body::{BodyError, BodySource, Chunk};
use crate::wire::framing::Framing;
use crate::wire::head::{RequestHead, ResponseHead};

/// What one worker has to itself: its view of the snapshot, its upstream connections, its counters.
pub struct Worker {}

/// What is known of a connection before its first request.
#[derive(Debug, Clone)]
pub struct Connection {
    /// The socket's peer.
    pub peer: SocketAddr,
    /// Plain or TLS.
    pub scheme: Scheme,
    /// The server name the client asked for in its TLS handshake, lower case.
    pub sni: Option<Box<str>>,
    /// Index of the listener in the settings.
    pub listener: usize,
}

/// What goes back to the client. `framing` is what the head declares; `body` may be shorter only for
/// `HEAD` (nothing is sent).
pub struct Reply<B> {
    /// Status and fields, without `Date`, framing and `Connection`: those are the server's.
    pub head: ResponseHead,
    /// What the head declares.
    pub framing: Framing,
    /// The body.
    pub body: ReplyBody<B>,
    /// Whether the connection must close after this answer (h1).
    pub close: bool,
    /// The one access event of this request; the server tells it how the answer went, or drops it.
    pub access: Access,
}

/// A reply's body.
pub enum ReplyBody<B> {
    /// Nothing.
    Empty,
    /// Ours.
    Bytes(Bytes),
    /// The upstream's, as it comes.
    Upstream(UpstreamBody<B>),
}

/// Collects what the access line says; written when finished, or as aborted when dropped unfinished.
pub struct Access {}

impl Access {
    /// The answer was sent to its end.
    pub fn finish(self, bytes_out: u64) {
        let _ = bytes_out;
    }

    /// The answer broke off.
    pub fn abort(self, bytes_out: u64) {
        let _ = bytes_out;
    }
}

/// Serves one request. Dropping the future (the client went away) closes whatever it used upstream.
pub async fn handle<B: BodySource + Unpin>(worker: &Rc<Worker>, connection: &Connection, head: &RequestHead, body: B) -> Reply<B> {
    let _ = (head, body);
    refuse(worker, connection, Denial::NoRoute)
}

/// Answers a request whose head could not be read.
#[must_use]
pub fn refuse<B>(worker: &Rc<Worker>, connection: &Connection, denial: Denial) -> Reply<B> {
    let _ = (worker, connection);
    Reply {
        head: ResponseHead::default(),
        framing: Framing::None,
        body: ReplyBody::Empty,
        close: denial.closes_connection(),
        access: Access {},
    }
}

impl<B: BodySource + Unpin> BodySource for ReplyBody<B> {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Chunk, BodyError>>> {
        match self {
            Self::Empty => Poll::Ready(None),
            Self::Bytes(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Bytes(bytes) => Poll::Ready(Some(Ok(Chunk::Data(std::mem::take(bytes))))),
            Self::Upstream(body) => body.poll_chunk(cx),
        }
    }

    fn is_end(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Bytes(bytes) => bytes.is_empty(),
            Self::Upstream(body) => body.is_end(),
        }
    }
}
