//! The byte stream below the HTTP/2 library. Every byte passes the flood guard, and a client that does not read is
//! noticed.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::flood_guard::FloodGuard;
use super::header_filter::{HeaderFilter, Passed};
use crate::base::clock;
use crate::server::tls::ClientStream;

/// The stream, which the library and the connection share.
pub(super) struct GuardedIo {
    io: ClientStream,
    header_filter: HeaderFilter,
    pub(super) flood_guard: FloodGuard,
    /// When something last arrived from the client.
    pub(super) read_at: Instant,
    /// When the client last took something.
    pub(super) wrote_at: Instant,
    /// Since when the client has taken nothing although data is waiting for it.
    pub(super) blocked_since: Option<Instant>,
    pub(super) flooded: Option<super::flood_guard::Flood>,
}

impl GuardedIo {
    pub(super) fn new(io: ClientStream, now: Instant) -> Rc<RefCell<Self>> {
        Rc::new(RefCell::new(Self {
            io,
            header_filter: HeaderFilter::new(),
            flood_guard: FloodGuard::new(now),
            read_at: now,
            wrote_at: now,
            blocked_since: None,
            flooded: None,
        }))
    }

    /// Tells the client why it is being cut off, as far as that is possible without waiting. It does not matter whether
    /// the message arrives.
    pub(super) fn send_goaway(&mut self, cx: &mut Context<'_>) {
        if let Some(words) = self.flood_guard.goaway_frame() {
            let _ = Pin::new(&mut self.io).poll_write(cx, &words);
            let _ = Pin::new(&mut self.io).poll_flush(cx);
        }
    }

    /// Ends the sending side, then reads and discards at most `left` bytes. Ready when that is done or the client has
    /// closed.
    pub(super) fn poll_close(&mut self, cx: &mut Context<'_>, left: &mut usize) -> Poll<()> {
        // This fails or is pending only if the client does not read. Then only the client's end is left to wait for.
        let _ = Pin::new(&mut self.io).poll_shutdown(cx);
        let mut scratch = [0; 4_096];
        while *left > 0 {
            let mut buf = ReadBuf::new(&mut scratch);
            match Pin::new(&mut self.io).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => *left = left.saturating_sub(buf.filled().len()),
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(())
    }

    fn note_flood(&mut self, metered: Result<(), super::flood_guard::Flood>) -> io::Result<()> {
        metered.map_err(|flood| {
            self.flooded = Some(flood);
            io::Error::other(flood)
        })
    }

    fn note_write<T>(&mut self, written: &Poll<io::Result<T>>) {
        match written {
            Poll::Pending => _ = self.blocked_since.get_or_insert_with(clock::instant),
            Poll::Ready(_) => {
                self.blocked_since = None;
                self.wrote_at = clock::instant();
            }
        }
    }
}

/// The end of the stream that the library gets.
pub(super) struct LibraryIo(pub(super) Rc<RefCell<GuardedIo>>);

impl AsyncRead for LibraryIo {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut guarded_io = self.0.borrow_mut();
        loop {
            if let Some(ready) = guarded_io.header_filter.take_ready(buf.remaining()) {
                buf.put_slice(ready);
                return Poll::Ready(Ok(()));
            }
            let before = buf.filled().len();
            std::task::ready!(Pin::new(&mut guarded_io.io).poll_read(cx, buf))?;
            let new = buf.filled().get(before..).unwrap_or_default();
            if new.is_empty() {
                return Poll::Ready(Ok(()));
            }
            guarded_io.read_at = clock::instant();
            let now = guarded_io.read_at;
            let metered = guarded_io.flood_guard.receive(new, now);
            guarded_io.note_flood(metered)?;
            if guarded_io.header_filter.filter(new) == Passed::Unchanged {
                return Poll::Ready(Ok(()));
            }
            buf.set_filled(before);
        }
    }
}

impl AsyncWrite for LibraryIo {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut guarded_io = self.0.borrow_mut();
        let written = Pin::new(&mut guarded_io.io).poll_write(cx, buf);
        guarded_io.note_write(&written);
        if let Poll::Ready(Ok(n)) = &written {
            let metered = guarded_io.flood_guard.send(buf.get(..*n).unwrap_or_default());
            guarded_io.note_flood(metered)?;
        }
        written
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut guarded_io = self.0.borrow_mut();
        let written = Pin::new(&mut guarded_io.io).poll_write_vectored(cx, bufs);
        guarded_io.note_write(&written);
        if let Poll::Ready(Ok(n)) = &written {
            let mut left = *n;
            for buf in bufs {
                let part = buf.get(..left.min(buf.len())).unwrap_or_default();
                left -= part.len();
                let metered = guarded_io.flood_guard.send(part);
                guarded_io.note_flood(metered)?;
            }
        }
        written
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut guarded_io = self.0.borrow_mut();
        let flushed = Pin::new(&mut guarded_io.io).poll_flush(cx);
        if flushed.is_pending() {
            guarded_io.note_write(&flushed);
        }
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut guarded_io = self.0.borrow_mut();
        let shut = Pin::new(&mut guarded_io.io).poll_shutdown(cx);
        guarded_io.note_write(&shut);
        shut
    }
}
