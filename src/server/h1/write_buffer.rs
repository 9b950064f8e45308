//! What is waiting to be written. Small pieces are gathered in one buffer and a large piece stays beside it, so that a
//! small response is one system call and a large one is not copied.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::AsyncWrite;

/// Pieces up to this size are copied into the buffer. That is cheaper than another vector entry, and several events of
/// a stream leave in one packet.
const COPIED: usize = 4 * 1024;
/// With this much waiting, no more of the response's body is taken. At most 64 KiB are buffered.
const FULL: usize = 64 * 1024;

/// Order on the wire: `small`, `large`, `tail`.
#[derive(Default)]
pub(super) struct WriteBuffer {
    small: Vec<u8>,
    written: usize,
    large: Bytes,
    tail: &'static [u8],
}

impl WriteBuffer {
    pub(super) fn is_empty(&self) -> bool {
        self.written == self.small.len() && self.large.is_empty() && self.tail.is_empty()
    }

    /// Whether more may be pushed.
    pub(super) fn has_room(&self) -> bool {
        self.large.is_empty() && self.tail.is_empty() && self.small.len() < FULL
    }

    /// The buffer for small pieces. It may be used only while there is room.
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        debug_assert!(self.large.is_empty() && self.tail.is_empty());
        &mut self.small
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer().extend_from_slice(bytes);
    }

    /// Appends a piece of a body and what follows it. This may be called only while there is room.
    pub(super) fn push_data(&mut self, data: Bytes, tail: &'static [u8]) {
        if data.len() <= COPIED {
            self.push(&data);
            self.push(tail);
        } else {
            self.large = data;
            self.tail = tail;
        }
    }

    /// Writes once. Ready with the number of bytes, which is at least 1.
    pub(super) fn poll_write<Io: AsyncWrite + Unpin>(&mut self, io: &mut Io, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let small = self.small.get(self.written..).unwrap_or_default();
        let n = if self.large.is_empty() && self.tail.is_empty() {
            ready!(Pin::new(io).poll_write(cx, small))?
        } else {
            let slices = [IoSlice::new(small), IoSlice::new(&self.large), IoSlice::new(self.tail)];
            ready!(Pin::new(io).poll_write_vectored(cx, &slices))?
        };
        if n == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.advance(n);
        Poll::Ready(Ok(n))
    }

    fn advance(&mut self, written: usize) {
        let mut left = written;
        let small = left.min(self.small.len() - self.written);
        self.written += small;
        left -= small;
        if self.written == self.small.len() {
            self.small.clear();
            self.written = 0;
        }
        let large = left.min(self.large.len());
        self.large.advance(large);
        left -= large;
        self.tail = self.tail.get(left..).unwrap_or_default();
        if self.large.is_empty() {
            self.large = Bytes::new();
        }
    }

    /// Uses `spare` as the buffer for small pieces, if there is none.
    pub(super) fn equip(&mut self, spare: impl FnOnce() -> Vec<u8>) {
        if self.small.capacity() == 0 {
            self.small = spare();
        }
    }

    /// Gives up the buffer for small pieces, if nothing is waiting.
    pub(super) fn take_buffer(&mut self) -> Option<Vec<u8>> {
        self.is_empty().then(|| {
            self.written = 0;
            std::mem::take(&mut self.small)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes at most `step` bytes at a time.
    struct Narrow {
        step: usize,
        taken: Vec<u8>,
    }

    impl AsyncWrite for Narrow {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            let n = buf.len().min(self.step);
            self.taken.extend_from_slice(&buf[..n]);
            Poll::Ready(Ok(n))
        }

        fn poll_write_vectored(mut self: Pin<&mut Self>, _: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
            let all: Vec<u8> = bufs.iter().flat_map(|b| b.iter().copied()).take(self.step).collect();
            self.taken.extend_from_slice(&all);
            Poll::Ready(Ok(all.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn bytes_leave_in_order_whatever_the_socket_takes() {
        let large = Bytes::from(vec![b'x'; COPIED + 1]);
        for step in [1, 2, 3, 7, 100, COPIED, 1 << 20] {
            let mut io = Narrow { step, taken: Vec::new() };
            let mut write_buffer = WriteBuffer::default();
            write_buffer.push(b"head;");
            write_buffer.push_data(Bytes::from_static(b"small"), b"\r\n");
            assert!(write_buffer.has_room());
            write_buffer.push_data(large.clone(), b"\r\n");
            assert!(!write_buffer.has_room());
            let mut cx = Context::from_waker(std::task::Waker::noop());
            while !write_buffer.is_empty() {
                assert!(matches!(write_buffer.poll_write(&mut io, &mut cx), Poll::Ready(Ok(1..))));
            }
            let expected = [b"head;small\r\n".as_slice(), &large, b"\r\n"].concat();
            assert_eq!(io.taken, expected, "{step}");
            assert!(write_buffer.has_room());
        }
    }

    #[test]
    fn a_full_buffer_has_no_room() {
        let mut write_buffer = WriteBuffer::default();
        while write_buffer.has_room() {
            write_buffer.push(&[0; 1024]);
        }
        assert!(write_buffer.small.len() <= FULL + 1024);
    }
}
