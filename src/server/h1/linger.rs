//! The orderly end of a connection. What the client still sends is read and discarded for a while, since unread bytes
//! would cause a reset, which destroys a response that the client has not read yet (RFC 9112, section 9.6).

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::H1Connection;
use super::request_body::MAX_DRAINED;
use super::socket::ResettableStream;
use crate::base::clock;
use crate::server::context::LingerSlot;
use crate::server::service::Service;

/// How long a client may be silent. A client without a [`LingerSlot`] has no more time than this in all.
const SILENCE: Duration = Duration::from_secs(1);
/// How many bytes are read, and for how long in all, from a client that goes on sending and has a [`LingerSlot`]. Some
/// clients write a whole upload before they read its refusal.
const EXTENDED: (u64, Duration) = (64 * 1024 * 1024, Duration::from_secs(30));

/// How much longer a client is waited for.
struct LingerState {
    began: Instant,
    /// When bytes last arrived.
    last_received: Option<Instant>,
    /// How many bytes are still read.
    bytes_left: u64,
    /// The slot of a client that is waited for longer.
    extended: Option<LingerSlot>,
}

impl<Io: ResettableStream, S: Service> H1Connection<Io, S> {
    /// Ends the gateway's side of the connection, then gives the client time to read.
    pub(super) async fn linger(&self) {
        let mut state = LingerState {
            began: clock::instant(),
            last_received: None,
            bytes_left: MAX_DRAINED,
            extended: None,
        };
        let mut shut_down = false;
        poll_fn(|cx| {
            if !shut_down {
                let shut = self.socket.borrow_mut().poll_shutdown(cx);
                match shut {
                    Poll::Ready(Ok(())) => shut_down = true,
                    Poll::Ready(Err(_)) => return Poll::Ready(()),
                    Poll::Pending => return self.poll_silence(cx, &mut state),
                }
            }
            loop {
                let discarded = self.socket.borrow_mut().poll_discard(cx);
                match discarded {
                    Poll::Ready(Ok(n @ 1..)) if self.may_read_more(&mut state, n as u64) => {}
                    Poll::Ready(_) => return Poll::Ready(()),
                    Poll::Pending => return self.poll_silence(cx, &mut state),
                }
            }
        })
        .await;
    }

    /// Counts bytes that were read. Says whether more are read.
    fn may_read_more(&self, state: &mut LingerState, bytes: u64) -> bool {
        state.last_received = Some(clock::instant());
        if state.bytes_left < bytes && !self.extend(state) {
            return false;
        }
        state.bytes_left = state.bytes_left.saturating_sub(bytes);
        state.bytes_left > 0
    }

    /// Ready when the client has been silent for too long, or has used up its time.
    fn poll_silence(&self, cx: &mut Context<'_>, state: &mut LingerState) -> Poll<()> {
        loop {
            let deadline = match state.extended {
                Some(_) => extended_deadline(state.began, state.last_received),
                None => state.began + SILENCE,
            };
            std::task::ready!(self.socket.borrow_mut().timer.poll_until(cx, deadline));
            if state.last_received.is_none_or(|at| at + SILENCE <= deadline) || !self.extend(state) {
                return Poll::Ready(());
            }
        }
    }

    /// Waits longer for a client that is still sending, if it has no slot yet and one is free.
    fn extend(&self, state: &mut LingerState) -> bool {
        if state.extended.is_some() {
            return false;
        }
        state.extended = self.context.acquire_linger_slot();
        state.bytes_left += EXTENDED.0;
        state.extended.is_some()
    }
}

/// When a client with a slot is given up, if it sends nothing more.
fn extended_deadline(began: Instant, last_received: Option<Instant>) -> Instant {
    (last_received.unwrap_or(began) + SILENCE).min(began + EXTENDED.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_piece_puts_the_end_off_and_none_beyond_the_whole_time() {
        let began = clock::instant();
        let at = |millis| began + Duration::from_millis(millis);
        assert_eq!(extended_deadline(began, None), at(1_000));
        for (last_received, end) in [(0, 1_000), (1_500, 2_500), (28_999, 29_999), (29_001, 30_000), (29_999, 30_000)] {
            assert_eq!(extended_deadline(began, Some(at(last_received))), at(end), "{last_received}");
        }
    }
}
