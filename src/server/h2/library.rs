//! The HTTP/2 library with this gateway's limits: its handshake, its connection, and the PING that notices a dead peer.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::server::{Connection, Handshake, SendResponse};
use h2::{Ping, PingPong, Reason, RecvStream};

use super::guarded_io::LibraryIo;
use crate::snapshot::Limits;
use crate::wire::head::MAX_HEAD;

/// Windows of a stream and of the connection, as Envoy's edge guide advises.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// For each stream: bytes that were sent and that the client has not yet taken.
const SEND_BUFFER: usize = 64 * 1024;
/// Streams that were reset before they were accepted, and resets by the gateway: the library's own limits, below those
/// of [`super::flood_guard`] (CVE-2023-44487, CVE-2025-8671).
const PENDING_RESETS: usize = 20;
const LOCAL_RESETS: usize = 128;
/// How long a peer may be silent before it is sent a PING, and how long it has to answer.
const PING: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(10));

/// One connection of the library.
pub(super) struct Library {
    state: State,
    /// Whether GOAWAY is to be sent after the handshake.
    goes_away: bool,
}

enum State {
    Handshaking(Handshake<LibraryIo, Bytes>),
    Open(Connection<LibraryIo, Bytes>, KeepAlive),
}

/// Notices a peer that is gone without a word: nothing arrives from it, and it does not answer a PING.
struct KeepAlive {
    /// `None` once the peer was given up.
    pings: Option<PingPong>,
    /// When the PING that was not yet answered was sent.
    sent_at: Option<Instant>,
}

impl Library {
    pub(super) fn new(io: LibraryIo, limits: &Limits) -> Self {
        let mut builder = h2::server::Builder::new();
        builder
            .max_concurrent_streams(limits.h2_streams)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buffer_size(SEND_BUFFER)
            .max_header_list_size(u32::try_from(MAX_HEAD).unwrap_or(u32::MAX))
            .max_pending_accept_reset_streams(PENDING_RESETS)
            .max_local_error_reset_streams(Some(LOCAL_RESETS));
        Self {
            state: State::Handshaking(builder.handshake(io)),
            goes_away: false,
        }
    }

    /// Drives the connection and hands each new stream to `accept`. Ready when the connection has ended, for whatever
    /// reason: the library has told the client.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mut accept: impl FnMut(http::Request<RecvStream>, SendResponse<Bytes>),
    ) -> Poll<()> {
        loop {
            match &mut self.state {
                State::Handshaking(handshake) => {
                    let Ok(mut connection) = ready!(Pin::new(handshake).poll(cx)) else {
                        return Poll::Ready(());
                    };
                    if self.goes_away {
                        connection.graceful_shutdown();
                    }
                    let keep_alive = KeepAlive {
                        pings: connection.ping_pong(),
                        sent_at: None,
                    };
                    self.state = State::Open(connection, keep_alive);
                }
                State::Open(connection, _) => match ready!(connection.poll_accept(cx)) {
                    Some(Ok((request, respond))) => accept(request, respond),
                    Some(Err(_)) | None => return Poll::Ready(()),
                },
            }
        }
    }

    /// Sends GOAWAY. The streams that the client began before it knows are served, and the connection ends with the last
    /// one.
    pub(super) fn go_away(&mut self) {
        match &mut self.state {
            State::Handshaking(_) => self.goes_away = true,
            State::Open(connection, _) => connection.graceful_shutdown(),
        }
    }

    /// Ends the connection with GOAWAY and without its streams.
    pub(super) fn give_up(&mut self) {
        if let State::Open(connection, keep_alive) = &mut self.state {
            keep_alive.pings = None;
            connection.abrupt_shutdown(Reason::NO_ERROR);
        }
    }

    /// Sends the PINGs to a peer from which something arrived last at `read_at`. Says when to ask again, if ever. The task is
    /// woken when an answer arrives.
    ///
    /// # Errors
    /// [`Unresponsive`] when a PING was not answered in time.
    pub(super) fn poll_keep_alive(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        read_at: Instant,
    ) -> Result<Option<Instant>, Unresponsive> {
        match &mut self.state {
            State::Handshaking(_) => Ok(None),
            State::Open(_, keep_alive) => keep_alive.poll(cx, now, read_at),
        }
    }
}

/// The peer did not answer a PING.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the peer does not answer a PING")]
pub(super) struct Unresponsive;

impl KeepAlive {
    fn poll(&mut self, cx: &mut Context<'_>, now: Instant, read_at: Instant) -> Result<Option<Instant>, Unresponsive> {
        let Some(pings) = &mut self.pings else { return Ok(None) };
        if self.sent_at.is_some() && pings.poll_pong(cx).is_ready() {
            self.sent_at = None;
        }
        let deadline = match self.sent_at {
            None if read_at + PING.0 > now => return Ok(Some(read_at + PING.0)),
            None => {
                // It fails only if the connection has ended, and then so does its task.
                let _ = pings.send_ping(Ping::opaque());
                let _ = pings.poll_pong(cx);
                self.sent_at = Some(now);
                now + PING.1
            }
            Some(sent_at) => sent_at + PING.1,
        };
        if deadline <= now { Err(Unresponsive) } else { Ok(Some(deadline)) }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

    use super::*;
    use crate::base::clock;

    /// A connection whose client has sent its preface and settings.
    async fn opened() -> (Connection<DuplexStream, Bytes>, KeepAlive, DuplexStream) {
        let (ours, mut client) = tokio::io::duplex(4_096);
        client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        client.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
        let mut connection = h2::server::Builder::new().handshake(ours).await.unwrap();
        let keep_alive = KeepAlive {
            pings: connection.ping_pong(),
            sent_at: None,
        };
        (connection, keep_alive, client)
    }

    fn drive(connection: &mut Connection<DuplexStream, Bytes>) {
        assert!(connection.poll_accept(&mut Context::from_waker(Waker::noop())).is_pending());
    }

    #[tokio::test]
    async fn a_peer_that_does_not_answer_a_ping_is_given_up() {
        let (_connection, mut keep_alive, _client) = opened().await;
        let (cx, t) = (&mut Context::from_waker(Waker::noop()), clock::instant());
        let after = |seconds| t + Duration::from_secs(seconds);
        assert_eq!(keep_alive.poll(cx, t, t), Ok(Some(after(20))));
        assert_eq!(keep_alive.poll(cx, after(19), after(5)), Ok(Some(after(25))), "something arrived");
        assert_eq!(keep_alive.poll(cx, after(25), after(5)), Ok(Some(after(35))));
        assert_eq!(
            keep_alive.poll(cx, after(34), after(30)),
            Ok(Some(after(35))),
            "other frames are no answer"
        );
        assert_eq!(keep_alive.poll(cx, after(35), after(30)), Err(Unresponsive));
    }

    #[tokio::test]
    async fn a_peer_that_answers_is_sent_the_next_ping_when_it_is_silent_again() {
        let (mut connection, mut keep_alive, mut client) = opened().await;
        let (cx, t) = (&mut Context::from_waker(Waker::noop()), clock::instant());
        let after = |seconds| t + Duration::from_secs(seconds);
        drive(&mut connection);
        assert_eq!(keep_alive.poll(cx, after(20), t), Ok(Some(after(30))));
        drive(&mut connection);
        let mut sent = vec![0; 4_096];
        let length = client.read(&mut sent).await.unwrap();
        let mut ping = sent[length - 17..length].to_vec();
        assert_eq!(ping[..5], [0, 0, 8, 6, 0], "{:?}", &sent[..length]);
        ping[4] = 1;
        client.write_all(&ping).await.unwrap();
        drive(&mut connection);
        assert_eq!(keep_alive.poll(cx, after(21), after(21)), Ok(Some(after(41))));
        assert_eq!(keep_alive.poll(cx, after(41), after(21)), Ok(Some(after(51))));
    }
}
