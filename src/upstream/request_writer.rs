//! Writes a request: head and body as bytes, written while there is room, and more of the body while there is some.

use std::io::IoSlice;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};

use super::Outgoing;
use super::connection::UpstreamConnection;
use crate::base::text::push_decimal;
use crate::decide::method::Method;
use crate::decide::route::Trailers;
use crate::wire::body::{BodyError, BodySource, Chunk};
use crate::wire::chunked::{CHUNK_END, LAST_CHUNK, SizeLine, write_trailers};
use crate::wire::framing::Framing;

/// Chunks up to this size are copied after the head and leave in the same write. Larger ones are written from where
/// they are. Copying 8 KiB costs less than the second slice of a vectored write.
const COPY_UP_TO: usize = 8 * 1024;
/// While this many bytes wait, no more of the body is taken. Together with one chunk (at most 64 KiB from either
/// server) this bounds the memory for a slow upstream.
const MAX_BUFFERED: usize = 16 * 1024;
/// Most writes of one poll before the answer is read and other tasks run.
const MAX_WRITES: u32 = 16;

pub(super) struct RequestWriter<B> {
    body: B,
    state: SendState,
    /// The state in which the connection broke, from which the request goes on over another one.
    resume: SendState,
    /// How the body is framed. A length is what is left of it.
    framing: Framing,
    trailers: Trailers,
    /// The head and the copied parts of the body.
    out: Vec<u8>,
    /// How much of `out` is written.
    at: usize,
    /// Where the body begins in `out`, so that the head can be written again for another endpoint.
    head_len: usize,
    /// A part of the body that is written from where it is, after `out`.
    large: Bytes,
    /// What follows `large`.
    tail: &'static [u8],
    /// Whether a byte was written. From then on only an idempotent request may be repeated.
    bytes_sent: BytesSent,
    progress: Progress,
    waits_for: WaitsFor,
}

/// How far the request has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SendState {
    /// More of the body may come.
    Open,
    /// The whole body was taken, but not all of it may be written.
    Taken,
    Sent,
    /// The upstream takes no more. It may still answer.
    Broken,
}

/// Whether any byte of the request has been written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BytesSent {
    No,
    Yes,
}

/// Whether bytes have moved since the last call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    None,
    Made,
}

/// Who keeps the request from going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WaitsFor {
    /// The client's body has not arrived yet.
    Client,
    /// The endpoint does not take what is there, or has all of it.
    Endpoint,
}

/// Why the request cannot be sent.
#[derive(Debug)]
pub(super) enum SendError {
    Body(BodyError),
    Connection,
}

impl<B: BodySource + Unpin> RequestWriter<B> {
    pub(super) fn new(body: B, request: &Outgoing<'_>) -> Self {
        let state = match request.framing {
            Framing::None | Framing::Length(0) => SendState::Taken,
            _ => SendState::Open,
        };
        Self {
            body,
            state,
            resume: state,
            framing: request.framing,
            trailers: request.trailers,
            out: Vec::new(),
            at: 0,
            head_len: 0,
            large: Bytes::new(),
            tail: b"",
            bytes_sent: BytesSent::No,
            progress: Progress::None,
            waits_for: WaitsFor::Endpoint,
        }
    }

    /// Puts the head before the body. The buffer belongs to the connection. Parts of the body that were taken for a
    /// connection that broke before a byte was written are kept.
    pub(super) fn write_head(&mut self, request: &Outgoing<'_>, host: &[u8], buffer: Vec<u8>) {
        let unsent = std::mem::replace(&mut self.out, buffer);
        self.out.clear();
        write_head(request, host, &mut self.out);
        let head_len = self.out.len();
        self.out.extend_from_slice(unsent.get(self.head_len..).unwrap_or_default());
        self.head_len = head_len;
        self.at = 0;
        self.bytes_sent = BytesSent::No;
        self.state = match self.state {
            SendState::Broken => self.resume,
            SendState::Sent => SendState::Taken,
            state => state,
        };
    }

    pub(super) const fn state(&self) -> SendState {
        self.state
    }

    pub(super) const fn bytes_sent(&self) -> BytesSent {
        self.bytes_sent
    }

    /// Whether anything moved since this was last called.
    pub(super) const fn take_progress(&mut self) -> Progress {
        std::mem::replace(&mut self.progress, Progress::None)
    }

    /// Whose fault it is if no byte moves.
    pub(super) const fn waits_for(&self) -> WaitsFor {
        self.waits_for
    }

    /// Takes the write buffer, which is kept with its connection.
    pub(super) fn take_buffer(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    pub(super) fn into_body(self) -> B {
        self.body
    }

    /// Writes what can be written. `Ready(Ok)` when the whole request is written. It must not be called after that.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>, connection: &mut UpstreamConnection) -> Poll<Result<(), SendError>> {
        self.waits_for = WaitsFor::Endpoint;
        for _ in 0..MAX_WRITES {
            let filled = self.fill(cx).map_err(SendError::Body)?;
            if self.write_pending() {
                match self.poll_write(cx, connection) {
                    Poll::Ready(Ok(())) => continue,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => return Poll::Pending,
                }
            }
            if connection.poll_flush(cx).map_err(|_| self.broken())?.is_pending() {
                return Poll::Pending;
            }
            if self.state == SendState::Taken {
                self.state = SendState::Sent;
                return Poll::Ready(Ok(()));
            }
            if filled.is_pending() {
                self.waits_for = WaitsFor::Client;
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn write_pending(&self) -> bool {
        self.at < self.out.len() || !self.large.is_empty() || !self.tail.is_empty()
    }

    fn broken(&mut self) -> SendError {
        self.resume = self.state;
        self.state = SendState::Broken;
        SendError::Connection
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, connection: &mut UpstreamConnection) -> Poll<Result<(), SendError>> {
        let rest = self.out.get(self.at..).unwrap_or_default();
        let written = if self.large.is_empty() && self.tail.is_empty() {
            connection.poll_write(cx, &[IoSlice::new(rest)])
        } else {
            connection.poll_write(cx, &[IoSlice::new(rest), IoSlice::new(&self.large), IoSlice::new(self.tail)])
        };
        match written {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(0) | Err(_)) => Poll::Ready(Err(self.broken())),
            Poll::Ready(Ok(n)) => {
                self.advance(n);
                Poll::Ready(Ok(()))
            }
        }
    }

    /// Takes note of `n` written bytes.
    fn advance(&mut self, n: usize) {
        self.bytes_sent = BytesSent::Yes;
        self.progress = Progress::Made;
        let from_out = n.min(self.out.len() - self.at);
        self.at += from_out;
        let from_large = (n - from_out).min(self.large.len());
        self.large.advance(from_large);
        let from_tail = n - from_out - from_large;
        self.tail = self.tail.get(from_tail..).unwrap_or_default();
        if !self.write_pending() {
            self.out.clear();
            self.at = 0;
            self.head_len = 0;
        }
    }

    /// Takes more of the body while there is room for it. `Pending` while the client is waited for.
    fn fill(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, BodyError> {
        while self.state == SendState::Open && self.large.is_empty() && self.tail.is_empty() && self.out.len() - self.at < MAX_BUFFERED {
            match self.body.poll_chunk(cx) {
                Poll::Pending => return Ok(Poll::Pending),
                Poll::Ready(None) => self.end_body(None)?,
                Poll::Ready(Some(Ok(Chunk::Trailers(fields)))) => self.end_body(Some(&fields))?,
                Poll::Ready(Some(Ok(Chunk::Data(data)))) => self.push(data)?,
                Poll::Ready(Some(Err(error))) => return Err(error),
            }
            self.progress = Progress::Made;
        }
        Ok(Poll::Ready(()))
    }

    fn push(&mut self, data: Bytes) -> Result<(), BodyError> {
        match &mut self.framing {
            Framing::Length(left) => {
                // Bytes beyond the declared length would be read as the next request.
                *left = left.checked_sub(data.len() as u64).ok_or(BodyError::Framing)?;
                self.wait_queue(data, b"");
                if self.framing == Framing::Length(0) {
                    self.state = SendState::Taken;
                }
            }
            Framing::Chunked if !data.is_empty() => {
                self.out.extend_from_slice(SizeLine::new(data.len()).as_bytes());
                self.wait_queue(data, CHUNK_END);
                // The end is known without another poll, so the last chunk leaves with the data.
                if self.body.is_end() {
                    self.end_body(None)?;
                }
            }
            Framing::Chunked => {}
            Framing::None | Framing::UntilClose => return Err(BodyError::Framing),
        }
        Ok(())
    }

    fn wait_queue(&mut self, data: Bytes, tail: &'static [u8]) {
        if data.len() <= COPY_UP_TO {
            self.out.extend_from_slice(&data);
            self.out.extend_from_slice(tail);
        } else {
            self.large = data;
            self.tail = tail;
        }
    }

    /// The body has ended. If it is shorter than declared, it must not look complete.
    fn end_body(&mut self, trailers: Option<&crate::wire::fields::Fields>) -> Result<(), BodyError> {
        match self.framing {
            Framing::Chunked => match trailers {
                Some(fields) if self.trailers == Trailers::Forwarded => write_trailers(fields, &mut self.out),
                _ if self.large.is_empty() => self.out.extend_from_slice(LAST_CHUNK),
                _ => self.tail = b"\r\n0\r\n\r\n",
            },
            Framing::Length(1..) | Framing::UntilClose => return Err(BodyError::Framing),
            Framing::Length(0) | Framing::None => {}
        }
        self.state = SendState::Taken;
        Ok(())
    }
}

/// Appends the request head: request line, `Host`, the fields, the framing.
///
/// For a method that usually has a body, an empty body is declared as `Content-Length: 0` (RFC 9110, section 8.6),
/// since some services wait for one or answer 411 otherwise.
fn write_head(request: &Outgoing<'_>, host: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(request.method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(request.target);
    out.extend_from_slice(b" HTTP/1.1\r\nHost: ");
    out.extend_from_slice(host);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(request.fields);
    match request.framing {
        Framing::Length(length) => {
            out.extend_from_slice(b"Content-Length: ");
            push_decimal(out, length);
            out.extend_from_slice(b"\r\n\r\n");
        }
        Framing::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n"),
        Framing::None | Framing::UntilClose if matches!(request.method, Method::Post | Method::Put | Method::Patch) => {
            out.extend_from_slice(b"Content-Length: 0\r\n\r\n");
        }
        Framing::None | Framing::UntilClose => out.extend_from_slice(b"\r\n"),
    }
}
