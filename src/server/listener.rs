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

use super::admission::{Admission, Place, Refused};
use super::counters::AcceptCounters;
use super::drain::Phase;
use crate::base::clock;

/// Connections the kernel keeps for us between two accepts: a burst of reconnects after a restart
/// must not be refused. The kernel lowers it to `somaxconn` (4,096 by default).
const BACKLOG: i32 = 4_096;
/// First and longest pause after an accept failed for want of descriptors or memory: long enough
/// not to spin, short enough to be back within a second of their release.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// Most that the kernel takes for a client beyond what the client has room for. By default it takes megabytes, and a
/// client that reads a hundred bytes a second looks like one that takes them. It has the next piece written
/// at half of it, so a client at the least rate (`answer_rate`) is seen to take something every half minute.
const MAX_UNSENT: u32 = 64 * 1024;

/// A connection on its way to a worker.
pub(super) struct Arrival {
    /// Taken off the control runtime; not blocking.
    pub(super) stream: std::net::TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) listener: usize,
    pub(super) accepted_at: Instant,
    pub(super) place: Place,
}

/// A worker as the acceptor sees it.
#[derive(Clone)]
pub(super) struct Desk {
    pub(super) arrivals: mpsc::Sender<Arrival>,
    pub(super) load: Arc<AtomicUsize>,
}

/// Binds a listening socket on this runtime. Port 0 has the kernel choose one.
///
/// # Errors
/// Those of the kernel.
pub(super) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for connections of the process before it to leave TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket.into())
}

/// One listening socket's accept loop.
pub(super) struct Acceptor {
    pub(super) index: usize,
    pub(super) desks: Vec<Desk>,
    pub(super) admission: Arc<Admission>,
    pub(super) counters: Arc<AcceptCounters>,
}

impl Acceptor {
    /// Accepts until the gateway has withdrawn; then takes what the kernel has accepted already, and ends.
    pub(super) async fn run(self, listener: TcpListener, mut phase: watch::Receiver<Phase>) {
        let mut pause = PAUSES.0;
        loop {
            let accepted = tokio::select! {
                biased;
                _ = phase.wait_for(|phase| *phase >= Phase::Withdrawn) => break,
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
                    let withdrawn = phase.wait_for(|phase| *phase >= Phase::Withdrawn);
                    // Cut short when the gateway withdraws, which the loop looks at first.
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
        let mut place = match self.admission.admit(peer.ip()) {
            Ok(place) => place,
            Err(Refused::Total) => return self.counters.refused_total.add_one(),
            Err(Refused::Address) => return self.counters.refused_address.add_one(),
        };
        let Some(desk) = self.desks.iter().min_by_key(|desk| desk.load.load(Ordering::Relaxed)) else {
            return self.counters.refused_workers.add_one();
        };
        // Answers leave at once: without this a small one waits for the client's delayed acknowledgement.
        let Ok(stream) = stream.set_nodelay(true).and_then(|()| stream.into_std()) else {
            return self.counters.failed.add_one();
        };
        // What a client does not take shall be seen here, not be kept by the kernel. A failure costs only that.
        let _ = socket2::SockRef::from(&stream).set_tcp_notsent_lowat(MAX_UNSENT);
        place.assign(&desk.load);
        let arrival = Arrival {
            stream,
            peer,
            listener: self.index,
            accepted_at: clock::instant(),
            place,
        };
        match desk.arrivals.try_send(arrival) {
            Ok(()) => self.counters.accepted.add_one(),
            Err(mpsc::error::TrySendError::Full(arrival) | mpsc::error::TrySendError::Closed(arrival)) => self.dispatch_elsewhere(arrival),
        }
    }

    /// The least loaded worker takes no more (it is stuck or gone): any other will do.
    fn dispatch_elsewhere(&self, mut arrival: Arrival) {
        for desk in &self.desks {
            arrival.place.assign(&desk.load);
            match desk.arrivals.try_send(arrival) {
                Ok(()) => return self.counters.accepted.add_one(),
                Err(mpsc::error::TrySendError::Full(back) | mpsc::error::TrySendError::Closed(back)) => arrival = back,
            }
        }
        self.counters.refused_workers.add_one();
    }
}

/// What a future gives without waiting, if it does.
async fn now<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// Whether an accept failed because of the connection that was to be accepted: the next one may
/// succeed at once (`accept(2)`: Linux passes errors already pending on the new socket).
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
