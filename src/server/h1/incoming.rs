//! The request body as it comes in: framing, limit, patience, and the `100 Continue` that is owed.

use bytes::BytesMut;

use crate::server::patience::Patience;
use crate::snapshot::Limits;
use crate::wire::body::BodyError;
use crate::wire::chunked::{BodyDecoder, Decoded};
use crate::wire::head::{RequestHead, Version};

/// Of an unread body at most this much is read and forgotten to keep the connection.
pub(super) const MAX_DRAINED: u64 = 256 * 1024;

/// Whether a `100 Continue` is owed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Continue {
    NotAsked,
    Owed,
    Sent,
}

/// The current request's body. One connection has one at a time; a reader left over from an
/// earlier request is recognised by its number and gets nothing.
#[derive(Debug)]
pub(super) struct Incoming {
    number: u64,
    decoder: BodyDecoder,
    error: Option<BodyError>,
    expected: Continue,
    received: u64,
    limit: u64,
    pub(super) patience: Patience,
    limits: Limits,
}

impl Incoming {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            number: 0,
            decoder: BodyDecoder::Done,
            error: None,
            expected: Continue::NotAsked,
            received: 0,
            limit: u64::MAX,
            patience: Patience::new(limits),
            limits: *limits,
        }
    }

    /// Begins the body of this request; the number is its reader's.
    pub(super) fn begin(&mut self, head: &RequestHead) -> u64 {
        self.number += 1;
        self.decoder = BodyDecoder::new(head.framing);
        self.error = None;
        self.received = 0;
        self.limit = u64::MAX;
        self.patience = Patience::new(&self.limits);
        let asked = !self.decoder.is_done()
            && head.version == Version::Http11
            && head.fields.all("expect").any(|v| v.eq_ignore_ascii_case(b"100-continue"));
        self.expected = if asked { Continue::Owed } else { Continue::NotAsked };
        self.number
    }

    /// Whether this is the number of the current body.
    pub(super) const fn is_current(&self, number: u64) -> bool {
        self.number == number
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
            .is_some_and(|left| left.saturating_add(self.received) > self.limit)
        {
            return Err(self.fail(BodyError::TooLarge));
        }
        match self.decoder.decode(input) {
            Ok(Decoded::Data(data)) => {
                self.expected = Continue::NotAsked;
                self.received = self.received.saturating_add(data.len() as u64);
                if self.received > self.limit {
                    return Err(self.fail(BodyError::TooLarge));
                }
                self.patience.receive(data.len(), crate::base::clock::instant);
                Ok(Decoded::Data(data))
            }
            Ok(other) => Ok(other),
            Err(error) => Err(self.fail(error)),
        }
    }

    /// Ends the body with this error, now and whenever it is asked again.
    pub(super) fn fail(&mut self, error: BodyError) -> BodyError {
        self.error = Some(error);
        error
    }

    /// Whether the client waits for a `100 Continue` that is to be written now.
    pub(super) fn take_owed_continue(&mut self) -> bool {
        let owed = self.expected == Continue::Owed;
        if owed {
            self.expected = Continue::Sent;
        }
        owed
    }

    /// Whether the body was read to its end.
    pub(super) const fn is_complete(&self) -> bool {
        self.decoder.is_done() && self.error.is_none()
    }

    /// Whether the next request can be reached by reading on a little. Not if the client was never
    /// told to send its body: nobody can say whether what comes next is that body.
    pub(super) fn may_drain(&self) -> bool {
        self.error.is_none() && self.expected != Continue::Owed && self.declared_left().is_none_or(|left| left <= MAX_DRAINED)
    }

    fn declared_left(&self) -> Option<u64> {
        match self.decoder {
            BodyDecoder::Length(left) => Some(left),
            BodyDecoder::Done => Some(0),
            BodyDecoder::Chunked(_) | BodyDecoder::UntilClose => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::framing::Framing;

    fn incoming(framing: Framing, expect: &str) -> Incoming {
        let mut head = RequestHead {
            framing,
            ..RequestHead::default()
        };
        head.fields.push(b"Expect", expect.as_bytes());
        let mut incoming = Incoming::new(&Limits::default());
        incoming.begin(&head);
        incoming
    }

    #[test]
    fn a_declared_body_over_its_limit_is_refused_before_it_is_read() {
        let mut body = incoming(Framing::Length(11), "");
        body.limit(10);
        let mut input = BytesMut::from("hello");
        assert!(matches!(body.decode(&mut input), Err(BodyError::TooLarge)));
        assert!(matches!(body.decode(&mut input), Err(BodyError::TooLarge)));
        assert!(!body.is_complete() && !body.may_drain());
    }

    #[test]
    fn a_body_at_its_limit_passes_and_a_chunked_one_over_it_does_not() {
        for (size, ok) in [("a", true), ("b", false)] {
            let mut body = incoming(Framing::Chunked, "");
            body.limit(10);
            let mut input = BytesMut::from(format!("{size}\r\n01234567890123").as_str());
            assert_eq!(body.decode(&mut input).is_ok(), ok, "{size}");
        }
    }

    #[test]
    fn continue_is_owed_once_and_only_for_a_body_that_is_to_come() {
        let mut body = incoming(Framing::Length(5), "100-Continue");
        assert!(!body.may_drain());
        assert!(body.take_owed_continue() && !body.take_owed_continue());
        assert!(body.may_drain());
        assert!(!incoming(Framing::None, "100-continue").take_owed_continue());
        assert!(!incoming(Framing::Length(5), "").take_owed_continue());
    }

    #[test]
    fn a_reader_of_an_earlier_request_is_not_current() {
        let mut body = incoming(Framing::None, "");
        let old = body.number;
        let new = body.begin(&RequestHead::default());
        assert!(body.is_current(new) && !body.is_current(old));
    }

    #[test]
    fn only_what_is_short_is_drained() {
        assert!(incoming(Framing::Length(MAX_DRAINED), "").may_drain());
        assert!(!incoming(Framing::Length(MAX_DRAINED + 1), "").may_drain());
        assert!(incoming(Framing::Chunked, "").may_drain());
    }
}
