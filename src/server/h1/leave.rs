//! The orderly end of a connection. What the client still sends is read and discarded for a while: unread bytes would
//! cause a reset, which destroys an answer that the client has not read yet (RFC 9112, section 9.6).

use std::future::poll_fn;
use std::task::{Context as TaskContext, Poll};
use std::time::{Duration, Instant};

use super::Conversation;
use super::incoming::MAX_DRAINED;
use super::socket::Stream;
use crate::base::clock;
use crate::server::context::Lingering;
use crate::server::service::Service;

/// How long a client may be silent. A client without a [`Lingering`] place is waited for no longer than this in all.
const PAUSE: Duration = Duration::from_secs(1);
/// Bytes that are read, and time in all, for a client that goes on sending and has a [`Lingering`] place: some clients
/// write a whole upload before they read its refusal.
const LONG: (u64, Duration) = (64 * 1024 * 1024, Duration::from_secs(30));

/// How much longer a client is waited for.
struct Patience {
    began: Instant,
    /// When bytes last arrived.
    heard: Option<Instant>,
    /// Bytes that are still read.
    left: u64,
    /// The place of a client that is waited for longer.
    long: Option<Lingering>,
}

impl<Io: Stream, S: Service> Conversation<Io, S> {
    /// Ends its own side of the connection, then gives the client time to read.
    pub(super) async fn linger(&self) {
        let mut patience = Patience {
            began: clock::instant(),
            heard: None,
            left: MAX_DRAINED,
            long: None,
        };
        let mut said = false;
        poll_fn(|cx| {
            if !said {
                let shut = self.socket.borrow_mut().poll_shutdown(cx);
                match shut {
                    Poll::Ready(Ok(())) => said = true,
                    Poll::Ready(Err(_)) => return Poll::Ready(()),
                    Poll::Pending => return self.poll_silent(cx, &mut patience),
                }
            }
            loop {
                let discarded = self.socket.borrow_mut().poll_discard(cx);
                match discarded {
                    Poll::Ready(Ok(n @ 1..)) if self.goes_on(&mut patience, n as u64) => {}
                    Poll::Ready(_) => return Poll::Ready(()),
                    Poll::Pending => return self.poll_silent(cx, &mut patience),
                }
            }
        })
        .await;
    }

    /// Counts bytes that were read: whether more are read.
    fn goes_on(&self, patience: &mut Patience, bytes: u64) -> bool {
        patience.heard = Some(clock::instant());
        if patience.left < bytes && !self.wait_longer(patience) {
            return false;
        }
        patience.left = patience.left.saturating_sub(bytes);
        patience.left > 0
    }

    /// Ready when the client has been silent for too long, or has had all its time.
    fn poll_silent(&self, cx: &mut TaskContext<'_>, patience: &mut Patience) -> Poll<()> {
        loop {
            let deadline = match patience.long {
                Some(_) => end_of_long(patience.began, patience.heard),
                None => patience.began + PAUSE,
            };
            std::task::ready!(self.socket.borrow_mut().alarm.poll_until(cx, deadline));
            if patience.heard.is_none_or(|at| at + PAUSE <= deadline) || !self.wait_longer(patience) {
                return Poll::Ready(());
            }
        }
    }

    /// Waits longer for a client that is still sending, if it has no place yet and finds one.
    fn wait_longer(&self, patience: &mut Patience) -> bool {
        if patience.long.is_some() {
            return false;
        }
        patience.long = self.context.linger();
        patience.left += LONG.0;
        patience.long.is_some()
    }
}

/// When a client with a place among those that are waited for longer is given up, if it sends nothing more.
fn end_of_long(began: Instant, heard: Option<Instant>) -> Instant {
    (heard.unwrap_or(began) + PAUSE).min(began + LONG.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_piece_puts_the_end_off_and_none_beyond_the_whole_time() {
        let began = clock::instant();
        let at = |millis| began + Duration::from_millis(millis);
        assert_eq!(end_of_long(began, None), at(1_000));
        for (heard, end) in [(0, 1_000), (1_500, 2_500), (28_999, 29_999), (29_001, 30_000), (29_999, 30_000)] {
            assert_eq!(end_of_long(began, Some(at(heard))), at(end), "{heard}");
        }
    }
}
