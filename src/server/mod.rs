//! The public side: listeners, TLS, limits of connections, workers, HTTP/1.1 and HTTP/2, drain.
//!
//! An [`listener::Acceptor`] on the control runtime hands each connection to a worker; from then on
//! it belongs to that worker's thread. What is answered is not decided here: a connection asks its
//! [`service::Service`], which in production is [`crate::gateway`].

pub use h2::tables_agree;

mod admission;
mod alarm;
mod connection;
mod context;
pub mod counters;
mod date;
mod drain;
mod h1;
mod h2;
mod listener;
mod patience;
pub mod service;
pub mod tls;
mod transport;
pub mod worker;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::sync::oneshot::error::RecvError;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use self::admission::Admission;
use self::counters::{AcceptCounters, WorkerCounters};
use self::drain::Phase;
use self::listener::{Acceptor, Desk};
use self::service::Service;
use self::tls::{CertificateSource, TlsListener};
use self::worker::WorkerThread;
use crate::snapshot::{Limits, ListenerSettings, ListenerTransport};

/// After the drain's deadline connections are cut off; a worker that does not end within this is stuck.
const ABORT_TIME: Duration = Duration::from_secs(2);
/// Before that, tunnels get this long to say goodbye and to see it answered.
const FAREWELL: Duration = Duration::from_secs(1);

/// What a server is started with.
pub struct Setup {
    /// Listeners, in the order [`crate::gateway::Connection::listener`] counts them.
    pub listeners: Vec<ListenerSettings>,
    /// Limits.
    pub limits: Limits,
    /// Certificates of the TLS listeners.
    pub certificates: Arc<dyn CertificateSource>,
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener's address cannot be had.
    #[error("listener {name} cannot listen on {address}: {source}")]
    Bind {
        /// The listener's name.
        name: String,
        /// Its address.
        address: SocketAddr,
        /// The kernel's reason.
        source: io::Error,
    },
    /// A worker cannot be started.
    #[error("a worker cannot be started: {0}")]
    Worker(#[source] io::Error),
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    /// There are no workers.
    #[error("there must be at least one worker")]
    NoWorkers,
}

/// Starts a worker for each factory, which makes the worker's service on the worker's own thread,
/// and begins to accept. Must be called inside the control runtime, which accepts from then on.
///
/// # Errors
/// [`StartError`]; then nothing is left running.
pub fn start<S, F>(setup: Setup, factories: Vec<F>) -> Result<Running, StartError>
where
    S: Service,
    F: FnOnce() -> S + Send + 'static,
{
    if factories.is_empty() {
        return Err(StartError::NoWorkers);
    }
    let Setup {
        listeners,
        limits,
        certificates,
    } = setup;
    let sockets = listeners.iter().map(bind).collect::<Result<Vec<_>, _>>()?;
    let addresses = sockets.iter().map(|(_, address)| *address).collect();
    let slots = Arc::new(Semaphore::new(limits.handshakes));
    let tls = tls_listeners(&listeners, &certificates, &slots)?;
    let (phase, phases) = watch::channel(Phase::Serving);
    let counters: Vec<Arc<WorkerCounters>> = factories.iter().map(|_| Arc::default()).collect();
    let share = limits.requests.div_ceil(factories.len());
    let (mut desks, mut workers) = (Vec::new(), Vec::new());
    for ((index, factory), counters) in factories.into_iter().enumerate().zip(&counters) {
        let plan = worker::Plan {
            index,
            limits,
            share,
            tls: tls.clone(),
            counters: Arc::clone(counters),
            phase: phases.clone(),
        };
        let (desk, worker) = worker::start(plan, factory).map_err(StartError::Worker)?;
        desks.push(desk);
        workers.push(worker);
    }
    let accept_counters = Arc::<AcceptCounters>::default();
    let acceptors = accept(sockets, &desks, &limits, &accept_counters, &phases);
    Ok(Running {
        addresses,
        counters,
        accept_counters,
        limits,
        phase,
        acceptors,
        workers,
    })
}

type Bound = (TcpListener, SocketAddr);

fn bind(listener: &ListenerSettings) -> Result<Bound, StartError> {
    let bound = listener::bind(listener.address).and_then(|socket| {
        let address = socket.local_addr()?;
        Ok((socket, address))
    });
    bound.map_err(|source| StartError::Bind {
        name: listener.name.clone(),
        address: listener.address,
        source,
    })
}

fn tls_listeners(
    listeners: &[ListenerSettings],
    certificates: &Arc<dyn CertificateSource>,
    slots: &Arc<Semaphore>,
) -> Result<Vec<Option<Arc<TlsListener>>>, rustls::Error> {
    let tls = |(index, listener): (usize, &ListenerSettings)| match listener.transport {
        ListenerTransport::Plain => Ok(None),
        ListenerTransport::Tls => TlsListener::new(Arc::clone(certificates), index, Arc::clone(slots)).map(|tls| Some(Arc::new(tls))),
    };
    listeners.iter().enumerate().map(tls).collect()
}

fn accept(
    sockets: Vec<Bound>,
    desks: &[Desk],
    limits: &Limits,
    counters: &Arc<AcceptCounters>,
    phases: &watch::Receiver<Phase>,
) -> JoinSet<()> {
    let admission = Admission::new(limits);
    let mut acceptors = JoinSet::new();
    for (index, (socket, _)) in sockets.into_iter().enumerate() {
        let acceptor = Acceptor {
            index,
            desks: desks.to_vec(),
            admission: Arc::clone(&admission),
            counters: Arc::clone(counters),
        };
        acceptors.spawn(acceptor.run(socket, phases.clone()));
    }
    acceptors
}

/// A server that accepts connections. Dropping it cuts everything off; [`Running::drain`] ends it in peace.
pub struct Running {
    addresses: Vec<SocketAddr>,
    counters: Vec<Arc<WorkerCounters>>,
    accept_counters: Arc<AcceptCounters>,
    limits: Limits,
    phase: watch::Sender<Phase>,
    acceptors: JoinSet<()>,
    workers: Vec<WorkerThread>,
}

/// How a drain went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainReport {
    /// Connections that had something in flight when the deadline passed and were cut off.
    pub aborted: usize,
    /// Workers that died or did not end even then.
    pub lost_workers: usize,
}

impl Running {
    /// Where each listener listens, in their order.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Each worker's figures.
    #[must_use]
    pub fn counters(&self) -> &[Arc<WorkerCounters>] {
        &self.counters
    }

    /// The acceptor's figures.
    #[must_use]
    pub const fn accept_counters(&self) -> &Arc<AcceptCounters> {
        &self.accept_counters
    }

    /// Ends a worker whose time was over at `deadline`: with a farewell where the protocol has one, then
    /// without.
    async fn end(&self, worker: &mut WorkerThread, deadline: Instant) -> Option<Result<usize, RecvError>> {
        self.phase.send_if_modified(|phase| {
            let before = *phase;
            *phase = before.max(Phase::Ending);
            *phase != before
        });
        match tokio::time::timeout_at((deadline + FAREWELL).into(), worker.ended()).await {
            Ok(ended) => Some(ended),
            Err(_) => {
                self.phase.send_replace(Phase::Aborting);
                let last = deadline + ABORT_TIME;
                tokio::time::timeout_at(last.into(), worker.ended()).await.ok()
            }
        }
    }

    /// Leaves in peace. The caller has turned readiness off. For `drain_delay` connections are
    /// still accepted, since load balancers need a moment to hear of it, and HTTP/1 answers already
    /// say `Connection: close`. Then the listeners close, idle connections close, HTTP/2 clients get
    /// GOAWAY, and what is in flight has `drain_timeout` to end. Then WebSockets are told that the gateway
    /// goes away; what is left after that is cut off.
    ///
    /// Takes at most both times and two seconds. Dropping the future cuts everything off.
    pub async fn drain(mut self) -> DrainReport {
        self.phase.send_replace(Phase::Leaving);
        tokio::time::sleep(self.limits.drain_delay).await;
        self.phase.send_replace(Phase::Withdrawn);
        while self.acceptors.join_next().await.is_some() {}
        self.phase.send_replace(Phase::Closing);
        let mut report = DrainReport {
            aborted: 0,
            lost_workers: 0,
        };
        let deadline = crate::base::clock::instant() + self.limits.drain_timeout;
        for mut worker in std::mem::take(&mut self.workers) {
            let ended = match tokio::time::timeout_at(deadline.into(), worker.ended()).await {
                Ok(ended) => Some(ended),
                Err(_) => self.end(&mut worker, deadline).await,
            };
            match ended {
                Some(Ok(aborted)) => {
                    report.aborted += aborted;
                    worker.join();
                }
                Some(Err(_)) => {
                    report.lost_workers += 1;
                    worker.join();
                }
                None => report.lost_workers += 1,
            }
        }
        report
    }
}
