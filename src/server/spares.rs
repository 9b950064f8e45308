//! Buffers that the connections of one worker use in turn, so that a connection that waits for a request holds none.
//!
//! The buffer that was used last is used next, so a busy worker with many connections works in a few buffers that are
//! in the processor's caches.

use std::cell::RefCell;

use bytes::BytesMut;

use crate::wire::head::RequestHead;

/// Most buffers of each kind that a worker keeps. A worker rarely reads more heads at a time than this, and allocates
/// one when it does. With [`MAX_SIZE`] and the largest head, a worker keeps at most 3 MiB.
const KEPT: usize = 64;
/// A larger buffer is freed, in bytes. Nearly all heads and small responses fit.
const MAX_SIZE: usize = 8 * 1024;

/// The spare buffers of one worker. What they held before is never read again: their lengths are zero.
#[derive(Default)]
pub(super) struct Spares {
    inputs: RefCell<Vec<BytesMut>>,
    outputs: RefCell<Vec<Vec<u8>>>,
    heads: RefCell<Vec<RequestHead>>,
}

impl Spares {
    /// An empty buffer for bytes from a client. It may have no room yet.
    pub(super) fn take_input(&self) -> BytesMut {
        self.inputs.borrow_mut().pop().unwrap_or_default()
    }

    /// Takes back a buffer for bytes from a client, and discards what is in it.
    pub(super) fn give_input(&self, mut input: BytesMut) {
        input.clear();
        if (1..=MAX_SIZE).contains(&input.capacity()) {
            keep(&self.inputs, input);
        }
    }

    /// An empty buffer for bytes to a client. It may have no room yet.
    pub(super) fn take_output(&self) -> Vec<u8> {
        self.outputs.borrow_mut().pop().unwrap_or_default()
    }

    /// Takes back a buffer for bytes to a client, and discards what is in it.
    pub(super) fn give_output(&self, mut output: Vec<u8>) {
        output.clear();
        if (1..=MAX_SIZE).contains(&output.capacity()) {
            keep(&self.outputs, output);
        }
    }

    /// An empty head, to be filled.
    pub(super) fn take_head(&self) -> RequestHead {
        self.heads.borrow_mut().pop().unwrap_or_default()
    }

    /// Takes back a head that is not needed any more, and empties it: the next request is another client's.
    pub(super) fn give_head(&self, mut head: RequestHead) {
        head.clear();
        keep(&self.heads, head);
    }
}

fn keep<T>(kept: &RefCell<Vec<T>>, spare: T) {
    let mut kept = kept.borrow_mut();
    if kept.len() < KEPT {
        kept.push(spare);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again_without_what_it_held() {
        let spares = Spares::default();
        spares.give_input(BytesMut::from(&b"Authorization: Bearer canary"[..]));
        spares.give_output(b"canary".to_vec());
        let (input, output) = (spares.take_input(), spares.take_output());
        assert!(input.is_empty() && input.capacity() > 0);
        assert!(output.is_empty() && output.capacity() > 0);
        assert_eq!(spares.take_input().capacity() + spares.take_output().capacity(), 0, "each once");
    }

    #[test]
    fn a_head_is_used_again_without_the_request_of_another_client() {
        let (spares, mut head) = (Spares::default(), RequestHead::default());
        let parsed = head
            .parse(b"POST /canary HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer canary\r\nContent-Length: 3\r\nConnection: close\r\n\r\n");
        assert!(parsed.is_ok());
        head.authority = Some(b"canary".to_vec());
        spares.give_head(head);
        let again = spares.take_head();
        assert!(again.target.capacity() > 0, "its room is kept");
        assert_eq!(format!("{again:?}"), format!("{:?}", RequestHead::default()));
    }

    #[test]
    fn neither_large_buffers_nor_many_are_kept() {
        let spares = Spares::default();
        spares.give_input(BytesMut::with_capacity(MAX_SIZE + 1));
        spares.give_output(Vec::with_capacity(MAX_SIZE + 1));
        assert_eq!(spares.take_input().capacity() + spares.take_output().capacity(), 0);
        for _ in 0..=KEPT {
            spares.give_input(BytesMut::with_capacity(1));
            spares.give_output(Vec::with_capacity(1));
            spares.give_head(RequestHead::default());
        }
        assert_eq!(spares.inputs.borrow().len(), KEPT);
        assert_eq!(spares.outputs.borrow().len(), KEPT);
        assert_eq!(spares.heads.borrow().len(), KEPT);
    }
}
