//! The public side: listeners, TLS, limits of connections, workers, HTTP/1.1 and HTTP/2, drain.
//!
//! A [`listener::Acceptor`] on the control runtime hands each connection to a worker. From then on the connection
//! belongs to that worker's thread. The responses are not decided here: a connection asks its [`service::Service`],
//! which in production is [`crate::gateway`].

#[cfg(any(test, feature = "internals"))]
pub use h2::tables_agree;

mod connection;
mod connection_limit;
mod context;
pub mod counters;
mod deadline;
mod drain;
mod h1;
mod h2;
mod listener;
pub mod service;
mod spares;
pub mod tls;
pub mod worker;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::sync::oneshot::error::RecvError;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use self::connection_limit::ConnectionLimiter;
use self::counters::{AcceptCounters, WorkerCounters};
use self::drain::DrainPhase;
use self::listener::{Acceptor, WorkerHandle};
use self::service::Service;
use self::tls::{CertificateSource, TicketKeySource, TlsListener, TlsParts};
use self::worker::WorkerThread;
use crate::snapshot::{Limits, ListenerSettings, ListenerTransport};

/// After the drain's deadline connections are cut off. A worker that does not end within this time is stuck.
const ABORT_TIME: Duration = Duration::from_secs(2);
/// Before that, tunnels get this long to send Close and to see it answered.
const CLOSE_TIME: Duration = Duration::from_secs(1);

/// What a server is started with.
pub struct ServerSetup {
    /// Listeners, in the order of [`crate::gateway::ConnectionInfo::listener`].
    pub listeners: Vec<ListenerSettings>,
    pub limits: Limits,
    /// Certificates of the TLS listeners.
    pub certificates: Arc<dyn CertificateSource>,
    /// What session tickets are encrypted under, so that other gateways read them; without it each listener makes keys of its own.
    pub ticket_keys: Option<TicketKeySource>,
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerStartError {
    /// A listener's address cannot be had.
    #[error("listener {name} cannot listen on {address}: {source}")]
    Bind {
        name: String,
        address: SocketAddr,
        source: io::Error,
    },
    /// A worker cannot be started.
    #[error("a worker cannot be started: {0}")]
    Worker(#[source] io::Error),
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    #[error("there must be at least one worker")]
    NoWorkers,
}

/// Starts a worker for each factory and begins to accept. Each factory makes its worker's service on the worker's own
/// thread. Must be called inside the control runtime, which accepts from then on.
///
/// # Errors
/// [`ServerStartError`]; then nothing is left running.
pub fn start<S, F>(setup: ServerSetup, factories: Vec<F>) -> Result<RunningServer, ServerStartError>
where
    S: Service,
    F: FnOnce() -> S + Send + 'static,
{
    if factories.is_empty() {
        return Err(ServerStartError::NoWorkers);
    }
    let ServerSetup {
        listeners,
        limits,
        certificates,
        ticket_keys,
    } = setup;
    let sockets = listeners.iter().map(bind).collect::<Result<Vec<_>, _>>()?;
    let addresses = sockets.iter().map(|(_, address)| *address).collect();
    let parts = TlsParts {
        certificates,
        ticket_keys,
        slots: Arc::new(Semaphore::new(limits.handshakes)),
    };
    let tls = tls_listeners(&listeners, &parts)?;
    let (phase, phases) = watch::channel(DrainPhase::Serving);
    let counters: Vec<Arc<WorkerCounters>> = factories.iter().map(|_| Arc::default()).collect();
    let share = limits.requests.div_ceil(factories.len());
    let (mut handles, mut workers) = (Vec::new(), Vec::new());
    for ((index, factory), counters) in factories.into_iter().enumerate().zip(&counters) {
        let plan = worker::WorkerPlan {
            index,
            limits,
            share,
            tls: tls.clone(),
            counters: Arc::clone(counters),
            phase: phases.clone(),
        };
        let (handle, worker) = worker::start(plan, factory).map_err(ServerStartError::Worker)?;
        handles.push(handle);
        workers.push(worker);
    }
    let accept_counters = Arc::<AcceptCounters>::default();
    let acceptors = accept(sockets, &handles, &limits, &accept_counters, &phases);
    Ok(RunningServer {
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

fn bind(listener: &ListenerSettings) -> Result<Bound, ServerStartError> {
    let bound = listener::bind(listener.address).and_then(|socket| {
        let address = socket.local_addr()?;
        Ok((socket, address))
    });
    bound.map_err(|source| ServerStartError::Bind {
        name: listener.name.clone(),
        address: listener.address,
        source,
    })
}

fn tls_listeners(listeners: &[ListenerSettings], parts: &TlsParts) -> Result<Vec<Option<Arc<TlsListener>>>, rustls::Error> {
    let tls = |(index, listener): (usize, &ListenerSettings)| match listener.transport {
        ListenerTransport::Plain => Ok(None),
        ListenerTransport::Tls => TlsListener::new(parts, index, &listener.name).map(|tls| Some(Arc::new(tls))),
    };
    listeners.iter().enumerate().map(tls).collect()
}

fn accept(
    sockets: Vec<Bound>,
    handles: &[WorkerHandle],
    limits: &Limits,
    counters: &Arc<AcceptCounters>,
    phases: &watch::Receiver<DrainPhase>,
) -> JoinSet<()> {
    let limiter = ConnectionLimiter::new(limits);
    let mut acceptors = JoinSet::new();
    for (index, (socket, _)) in sockets.into_iter().enumerate() {
        let acceptor = Acceptor {
            index,
            workers: handles.to_vec(),
            limiter: Arc::clone(&limiter),
            counters: Arc::clone(counters),
        };
        acceptors.spawn(acceptor.run(socket, phases.clone()));
    }
    acceptors
}

/// A server that accepts connections. Dropping it cuts everything off; [`RunningServer::drain`] ends it in order.
pub struct RunningServer {
    addresses: Vec<SocketAddr>,
    counters: Vec<Arc<WorkerCounters>>,
    accept_counters: Arc<AcceptCounters>,
    limits: Limits,
    phase: watch::Sender<DrainPhase>,
    acceptors: JoinSet<()>,
    workers: Vec<WorkerThread>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainReport {
    /// Connections that had something in flight when the deadline passed and were cut off.
    pub aborted: usize,
    /// Workers that died, or that did not end even after that.
    pub lost_workers: usize,
}

impl RunningServer {
    /// The address of each listener, in their order.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    #[must_use]
    pub fn counters(&self) -> &[Arc<WorkerCounters>] {
        &self.counters
    }

    #[must_use]
    pub const fn accept_counters(&self) -> &Arc<AcceptCounters> {
        &self.accept_counters
    }

    /// Ends a worker whose time was over at `deadline`: first the protocols' own ends (a WebSocket's Close), then by
    /// cutting off.
    async fn end(&self, worker: &mut WorkerThread, deadline: Instant) -> Option<Result<usize, RecvError>> {
        self.phase.send_if_modified(|phase| {
            let before = *phase;
            *phase = before.max(DrainPhase::Ending);
            *phase != before
        });
        match tokio::time::timeout_at((deadline + CLOSE_TIME).into(), worker.ended()).await {
            Ok(ended) => Some(ended),
            Err(_) => {
                self.phase.send_replace(DrainPhase::Aborting);
                let last = deadline + ABORT_TIME;
                tokio::time::timeout_at(last.into(), worker.ended()).await.ok()
            }
        }
    }

    /// Shuts down in order. The caller has already turned readiness off. For `drain_delay` connections are still
    /// accepted, since load balancers need a moment to notice, and HTTP/1 responses carry `Connection: close`. Then the
    /// listeners close, idle connections close, HTTP/2 clients get GOAWAY, and requests in flight have `drain_timeout`
    /// to end. Then WebSockets get Close, and whatever is left is cut off.
    ///
    /// Takes at most both times and two seconds. Dropping the future cuts everything off.
    pub async fn drain(mut self) -> DrainReport {
        self.phase.send_replace(DrainPhase::Announced);
        tokio::time::sleep(self.limits.drain_delay).await;
        self.phase.send_replace(DrainPhase::NotAccepting);
        while self.acceptors.join_next().await.is_some() {}
        self.phase.send_replace(DrainPhase::Closing);
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
