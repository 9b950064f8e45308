//! The byte stream below the HTTP/2 library: every byte passes the meter, and a client that does
//! not read is noticed.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::front::{Front, Passed};
use super::meter::Meter;
use crate::base::clock;
use crate::server::transport::ClientStream;

/// The stream, as the library and the connection share it.
pub(super) struct Wire {
    io: ClientStream,
    front: Front,
    pub(super) meter: Meter,
    /// When the client last took something.
    pub(super) wrote_at: Instant,
    /// Since when it has taken nothing of what waits.
    pub(super) blocked_since: Option<Instant>,
    pub(super) flooded: Option<super::meter::Flood>,
}

impl Wire {
    pub(super) fn new(io: ClientStream, now: Instant) -> Rc<RefCell<Self>> {
        Rc::new(RefCell::new(Self {
            io,
            front: Front::new(),
            meter: Meter::new(now),
            wrote_at: now,
            blocked_since: None,
            flooded: None,
        }))
    }

    /// Tells the client why it is being cut off, as far as that is possible without waiting.
    /// Whether it arrives makes no difference to us.
    pub(super) fn say_last_words(&mut self, cx: &mut Context<'_>) {
        if let Some(words) = self.meter.last_words() {
            let _ = Pin::new(&mut self.io).poll_write(cx, &words);
            let _ = Pin::new(&mut self.io).poll_flush(cx);
        }
    }

    /// Says that nothing more will be written, then reads and forgets at most `left` bytes: ready
    /// when that is done or the client has closed.
    pub(super) fn poll_leave(&mut self, cx: &mut Context<'_>, left: &mut usize) -> Poll<()> {
        // Fails or is pending only if the client does not read; then there is nothing to wait for but its end.
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

    fn note_flood(&mut self, metered: Result<(), super::meter::Flood>) -> io::Result<()> {
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

/// The library's end of it.
pub(super) struct Metered(pub(super) Rc<RefCell<Wire>>);

impl AsyncRead for Metered {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut wire = self.0.borrow_mut();
        loop {
            if let Some(ready) = wire.front.take_ready(buf.remaining()) {
                buf.put_slice(ready);
                return Poll::Ready(Ok(()));
            }
            let before = buf.filled().len();
            std::task::ready!(Pin::new(&mut wire.io).poll_read(cx, buf))?;
            let new = buf.filled().get(before..).unwrap_or_default();
            if new.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let metered = wire.meter.receive(new, clock::instant());
            wire.note_flood(metered)?;
            if wire.front.look(new) == Passed::Unchanged {
                return Poll::Ready(Ok(()));
            }
            buf.set_filled(before);
        }
    }
}

impl AsyncWrite for Metered {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut wire = self.0.borrow_mut();
        let written = Pin::new(&mut wire.io).poll_write(cx, buf);
        wire.note_write(&written);
        if let Poll::Ready(Ok(n)) = &written {
            let metered = wire.meter.send(buf.get(..*n).unwrap_or_default());
            wire.note_flood(metered)?;
        }
        written
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut wire = self.0.borrow_mut();
        let written = Pin::new(&mut wire.io).poll_write_vectored(cx, bufs);
        wire.note_write(&written);
        if let Poll::Ready(Ok(n)) = &written {
            let mut left = *n;
            for buf in bufs {
                let part = buf.get(..left.min(buf.len())).unwrap_or_default();
                left -= part.len();
                let metered = wire.meter.send(part);
                wire.note_flood(metered)?;
            }
        }
        written
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut wire = self.0.borrow_mut();
        let flushed = Pin::new(&mut wire.io).poll_flush(cx);
        if flushed.is_pending() {
            wire.note_write(&flushed);
        }
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut wire = self.0.borrow_mut();
        let shut = Pin::new(&mut wire.io).poll_shutdown(cx);
        wire.note_write(&shut);
        shut
    }
}
