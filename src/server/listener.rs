//! Accepts connections and hands each to the worker that has the fewest.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

use super::connection_limit::{ConnectionLimiter, ConnectionPermit, LimitReached};
use super::counters::AcceptCounters;
use super::drain::DrainPhase;
use crate::base::clock;

/// Connections that the kernel holds between two accepts. A burst of reconnects after a restart must not be refused.
/// The kernel lowers this to `somaxconn` (4,096 by default).
const BACKLOG: i32 = 4_096;
/// First and longest pause after an accept failed for want of descriptors or memory: long enough not to spin, and short
/// enough to accept again within a second of their release.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// Most unsent bytes that the kernel takes for a client. By default it takes megabytes, and then a client that reads a
/// hundred bytes a second looks like one that reads them all. The kernel takes the next piece when half of this is
/// sent, so a client at the least rate (`answer_rate`) is seen to read something every half minute.
const MAX_UNSENT: u32 = 64 * 1024;

/// A connection on its way to a worker.
pub(super) struct AcceptedConnection {
    /// Detached from the control runtime, not blocking.
    pub(super) stream: std::net::TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) listener: usize,
    pub(super) accepted_at: Instant,
    pub(super) permit: ConnectionPermit,
}

/// The acceptor's handle of a worker.
#[derive(Clone)]
pub(super) struct WorkerHandle {
    pub(super) arrivals: mpsc::Sender<AcceptedConnection>,
    pub(super) load: Arc<AtomicUsize>,
}

/// Binds a listening socket on this runtime. For port 0 the kernel chooses a port.
///
/// # Errors
/// Those of the kernel.
pub(super) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait until connections of the previous process leave TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket.into())
}

/// The accept loop of one listening socket.
pub(super) struct Acceptor {
    pub(super) index: usize,
    pub(super) workers: Vec<WorkerHandle>,
    pub(super) limiter: Arc<ConnectionLimiter>,
    pub(super) counters: Arc<AcceptCounters>,
}

impl Acceptor {
    /// Accepts until the phase [`DrainPhase::NotAccepting`]. Then takes what the kernel has accepted already, and ends.
    pub(super) async fn run(self, listener: TcpListener, mut phase: watch::Receiver<DrainPhase>) {
        let mut pause = PAUSES.0;
        loop {
            let accepted = tokio::select! {
                biased;
                _ = phase.wait_for(|phase| *phase >= DrainPhase::NotAccepting) => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    pause = PAUSES.0;
                    self.dispatch(stream, peer);
                }
                Err(error) if is_of_the_connection(&error) => self.counters.failed.add_one(),
                Err(error) => {
                    self.counters.exhausted.add_one();
                    tracing::warn!(%error, "accepting pauses");
                    let withdrawn = phase.wait_for(|phase| *phase >= DrainPhase::NotAccepting);
                    // The pause ends early when the drain begins, which the loop checks first.
                    let _ = tokio::time::timeout(pause, withdrawn).await;
                    pause = (pause * 2).min(PAUSES.1);
                }
            }
        }
        for _ in 0..BACKLOG {
            let Some(Ok((stream, peer))) = now(listener.accept()).await else {
                break;
            };
            self.dispatch(stream, peer);
        }
    }

    /// Hands a connection to a worker, or closes it.
    fn dispatch(&self, stream: TcpStream, peer: SocketAddr) {
        let mut permit = match self.limiter.admit(peer.ip()) {
            Ok(permit) => permit,
            Err(LimitReached::Total) => return self.counters.refused_total.add_one(),
            Err(LimitReached::Address) => return self.counters.refused_address.add_one(),
        };
        let Some(worker_handle) = self
            .workers
            .iter()
            .min_by_key(|worker_handle| worker_handle.load.load(Ordering::Relaxed))
        else {
            return self.counters.refused_workers.add_one();
        };
        // Without this, a small response waits for the client's delayed acknowledgement.
        let Ok(stream) = stream.set_nodelay(true).and_then(|()| stream.into_std()) else {
            return self.counters.failed.add_one();
        };
        // The gateway must notice what a client does not read, so the kernel must not buffer much of it. A failure only
        // makes that less exact.
        let _ = socket2::SockRef::from(&stream).set_tcp_notsent_lowat(MAX_UNSENT);
        permit.assign(&worker_handle.load);
        let arrival = AcceptedConnection {
            stream,
            peer,
            listener: self.index,
            accepted_at: clock::instant(),
            permit,
        };
        match worker_handle.arrivals.try_send(arrival) {
            Ok(()) => self.counters.accepted.add_one(),
            Err(mpsc::error::TrySendError::Full(arrival) | mpsc::error::TrySendError::Closed(arrival)) => self.dispatch_elsewhere(arrival),
        }
    }

    /// The least loaded worker takes no more (it is stuck or gone), so any other worker will do.
    fn dispatch_elsewhere(&self, mut arrival: AcceptedConnection) {
        for worker_handle in &self.workers {
            arrival.permit.assign(&worker_handle.load);
            match worker_handle.arrivals.try_send(arrival) {
                Ok(()) => return self.counters.accepted.add_one(),
                Err(mpsc::error::TrySendError::Full(back) | mpsc::error::TrySendError::Closed(back)) => arrival = back,
            }
        }
        self.counters.refused_workers.add_one();
    }
}

/// The output of a future that is ready without waiting.
async fn now<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// Whether an accept failed because of the connection that was to be accepted. The next accept may then succeed at once
/// (`accept(2)`: Linux passes errors that are already pending on the new socket).
fn is_of_the_connection(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error().map(Errno::from_raw_os_error),
        Some(
            Errno::CONNABORTED
                | Errno::CONNRESET
                | Errno::INTR
                | Errno::PROTO
                | Errno::PERM
                | Errno::NETDOWN
                | Errno::NETUNREACH
                | Errno::HOSTUNREACH
                | Errno::HOSTDOWN
                | Errno::NONET
                | Errno::NOPROTOOPT
                | Errno::OPNOTSUPP
                | Errno::TIMEDOUT
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lack_of_descriptors_pauses_and_a_lost_connection_does_not() {
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::INVAL] {
            assert!(!is_of_the_connection(&errno.into()), "{errno:?}");
        }
        for errno in [Errno::CONNABORTED, Errno::INTR] {
            assert!(is_of_the_connection(&errno.into()), "{errno:?}");
        }
    }

    #[tokio::test]
    async fn port_zero_is_given_a_port() {
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        assert_ne!(listener.local_addr().unwrap().port(), 0);
    }
}
