//! The request body as it arrives: framing, size limit, timeouts, and the `100 Continue` that the client may wait for.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::BytesMut;

use super::socket::{H1Socket, ResettableStream};
use crate::server::deadline::TransferTimeout;
use crate::snapshot::Limits;
use crate::wire::body::{BodyError, BodySource, Chunk, RequestBody};
use crate::wire::chunked::{BodyDecoder, Decoded};
use crate::wire::head::{RequestHead, Version};

/// At most this much of an unread body is read and discarded to keep the connection.
pub(super) const MAX_DRAINED: u64 = 256 * 1024;

/// Whether the client waits for a `100 Continue`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ExpectContinue {
    NotAsked,
    Owed,
    Sent,
}

/// The body of the current request. A connection has one at a time. A reader that is left over from an earlier request
/// is recognised by its number and gets nothing.
#[derive(Debug)]
pub(super) struct RequestBodyReader {
    number: u64,
    decoder: BodyDecoder,
    error: Option<BodyError>,
    expected: ExpectContinue,
    /// Shared with the control of the connection's requests.
    received: Rc<Cell<u64>>,
    limit: u64,
    pub(super) timeout: TransferTimeout,
    /// A timeout in its initial state.
    initial_timeout: TransferTimeout,
}

impl RequestBodyReader {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            number: 0,
            decoder: BodyDecoder::Done,
            error: None,
            expected: ExpectContinue::NotAsked,
            received: Rc::default(),
            limit: u64::MAX,
            timeout: TransferTimeout::new(limits),
            initial_timeout: TransferTimeout::new(limits),
        }
    }

    /// Begins the body of this request. Returns the number for its reader.
    pub(super) fn begin(&mut self, head: &RequestHead) -> u64 {
        self.number += 1;
        self.decoder = BodyDecoder::new(head.framing);
        self.error = None;
        self.received.set(0);
        self.limit = u64::MAX;
        self.timeout = self.initial_timeout;
        let rules = !self.decoder.is_done()
            && head.version == Version::Http11
            && head.fields.all("expect").any(|v| v.eq_ignore_ascii_case(b"100-continue"));
        self.expected = if rules { ExpectContinue::Owed } else { ExpectContinue::NotAsked };
        self.number
    }

    /// Whether this is the number of the current body.
    pub(super) const fn is_current(&self, number: u64) -> bool {
        self.number == number
    }

    /// How many bytes of the current body were read, as it changes.
    pub(super) fn received(&self) -> Rc<Cell<u64>> {
        Rc::clone(&self.received)
    }

    pub(super) fn limit(&mut self, max: u64) {
        self.limit = max;
    }

    /// Takes the next piece out of `input`.
    pub(super) fn decode(&mut self, input: &mut BytesMut) -> Result<Decoded, BodyError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        if self
            .declared_left()
            .is_some_and(|left| left.saturating_add(self.received.get()) > self.limit)
        {
            return Err(self.fail(BodyError::TooLarge));
        }
        match self.decoder.decode(input) {
            Ok(Decoded::Data(data)) => {
                self.expected = ExpectContinue::NotAsked;
                let received = self.received.get().saturating_add(data.len() as u64);
                self.received.set(received);
                if received > self.limit {
                    return Err(self.fail(BodyError::TooLarge));
                }
                self.timeout.note_transfer(data.len(), crate::base::clock::instant);
                Ok(Decoded::Data(data))
            }
            Ok(other) => Ok(other),
            Err(error) => Err(self.fail(error)),
        }
    }

    /// Ends the body with this error, now and at every later read.
    pub(super) fn fail(&mut self, error: BodyError) -> BodyError {
        self.error = Some(error);
        error
    }

    /// Whether a `100 Continue` is to be written now.
    pub(super) fn take_owed_continue(&mut self) -> bool {
        let owed = self.expected == ExpectContinue::Owed;
        if owed {
            self.expected = ExpectContinue::Sent;
        }
        owed
    }

    /// Whether the body was read to its end.
    pub(super) const fn is_complete(&self) -> bool {
        self.decoder.is_done() && self.error.is_none()
    }

    /// Whether the next request can be reached by reading a little further. It cannot if the client was never told to
    /// send its body: the bytes that come next may be that body or the next request.
    pub(super) fn may_drain(&self) -> bool {
        self.error.is_none() && self.expected != ExpectContinue::Owed && self.declared_left().is_none_or(|left| left <= MAX_DRAINED)
    }

    fn declared_left(&self) -> Option<u64> {
        match self.decoder {
            BodyDecoder::Length(left) => Some(left),
            BodyDecoder::Done => Some(0),
            BodyDecoder::Chunked(_) | BodyDecoder::UntilClose => None,
        }
    }
}

/// The body of one HTTP/1 request. It reads from the connection on which it came, and only while its request is the
/// current one.
pub(in crate::server) struct H1Body<Io> {
    socket: Rc<RefCell<H1Socket<Io>>>,
    number: u64,
}

impl<Io> H1Body<Io> {
    pub(super) const fn new(socket: Rc<RefCell<H1Socket<Io>>>, number: u64) -> Self {
        Self { socket, number }
    }
}

impl<Io: ResettableStream> BodySource for H1Body<Io> {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Chunk, BodyError>>> {
        match self.socket.try_borrow_mut() {
            Ok(mut socket) if socket.request_body.is_current(self.number) => socket.poll_body(cx),
            _ => Poll::Ready(Some(Err(BodyError::Aborted))),
        }
    }

    fn is_end(&self) -> bool {
        self.socket
            .try_borrow()
            .is_ok_and(|socket| socket.request_body.is_current(self.number) && socket.request_body.is_complete())
    }
}

impl<Io: ResettableStream> RequestBody for H1Body<Io> {
    fn limit(&mut self, max: u64) {
        if let Ok(mut socket) = self.socket.try_borrow_mut()
            && socket.request_body.is_current(self.number)
        {
            socket.request_body.limit(max);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::framing::Framing;

    fn request_body(framing: Framing, expect: &str) -> RequestBodyReader {
        let mut head = RequestHead {
            framing,
            ..RequestHead::default()
        };
        head.fields.push(b"Expect", expect.as_bytes());
        let mut request_body = RequestBodyReader::new(&Limits::default());
        request_body.begin(&head);
        request_body
    }

    #[test]
    fn a_declared_body_over_its_limit_is_refused_before_it_is_read() {
        let mut body = request_body(Framing::Length(11), "");
        body.limit(10);
        let mut input = BytesMut::from("hello");
        assert!(matches!(body.decode(&mut input), Err(BodyError::TooLarge)));
        assert!(matches!(body.decode(&mut input), Err(BodyError::TooLarge)));
        assert!(!body.is_complete() && !body.may_drain());
    }

    #[test]
    fn a_body_at_its_limit_passes_and_a_chunked_one_over_it_does_not() {
        for (size, ok) in [("a", true), ("b", false)] {
            let mut body = request_body(Framing::Chunked, "");
            body.limit(10);
            let mut input = BytesMut::from(format!("{size}\r\n01234567890123").as_str());
            assert_eq!(body.decode(&mut input).is_ok(), ok, "{size}");
        }
    }

    #[test]
    fn continue_is_owed_once_and_only_for_a_body_that_is_to_come() {
        let mut body = request_body(Framing::Length(5), "100-Continue");
        assert!(!body.may_drain());
        assert!(body.take_owed_continue() && !body.take_owed_continue());
        assert!(body.may_drain());
        assert!(!request_body(Framing::None, "100-continue").take_owed_continue());
        assert!(!request_body(Framing::Length(5), "").take_owed_continue());
    }

    #[test]
    fn a_reader_of_an_earlier_request_is_not_current() {
        let mut body = request_body(Framing::None, "");
        let old = body.number;
        let new = body.begin(&RequestHead::default());
        assert!(body.is_current(new) && !body.is_current(old));
    }

    #[test]
    fn only_what_is_short_is_drained() {
        assert!(request_body(Framing::Length(MAX_DRAINED), "").may_drain());
        assert!(!request_body(Framing::Length(MAX_DRAINED + 1), "").may_drain());
        assert!(request_body(Framing::Chunked, "").may_drain());
    }
}
