//! A worker: one thread with its own runtime, its own service and its own connections. Workers share nothing that a
//! request touches.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::MissedTickBehavior;

use super::connection;
use super::context::WorkerContext;
use super::counters::WorkerCounters;
use super::drain::DrainPhase;
use super::listener::{AcceptedConnection, WorkerHandle};
use super::service::Service;
use super::tls::TlsListener;
use crate::snapshot::Limits;

/// Interval of a worker's periodic work. `Date` is never older than its second and this, and an access line never waits
/// longer.
pub const TICK: Duration = Duration::from_millis(100);
/// Most tasks that a worker runs before it polls sockets and timers again; it polls sooner when no task is ready. A
/// poll is a system call, and more requests arrive together when there are fewer polls: with the runtime's default of
/// 61, a request cost a twentieth more. 256 tasks take a millisecond or two, more when they move large bodies. A
/// deadline may be late by that.
const EVENT_INTERVAL: u32 = 256;
/// How long a worker without connections waits for work that its requests have started: the longest deadline that a
/// hook may have.
const SETTLE: Duration = Duration::from_secs(10);
/// Connections on their way to one worker. A worker that is this far behind is stuck.
const MAX_ARRIVALS: usize = 1_024;

/// What a worker is started with.
pub(super) struct WorkerPlan {
    pub(super) index: usize,
    pub(super) limits: Limits,
    /// The worker's part of the requests in flight.
    pub(super) share: usize,
    pub(super) tls: Vec<Option<Arc<TlsListener>>>,
    pub(super) counters: Arc<WorkerCounters>,
    pub(super) phase: watch::Receiver<DrainPhase>,
}

/// A running worker, as other threads see it.
pub(super) struct WorkerThread {
    thread: JoinHandle<()>,
    /// Gives the number of connections that had to be cut off. It fails if the thread died.
    ended: oneshot::Receiver<usize>,
}

/// Starts a worker's thread. `factory` makes the worker's service there, inside its runtime.
///
/// # Errors
/// When the thread or its runtime cannot be made.
pub(super) fn start<S, F>(plan: WorkerPlan, factory: F) -> io::Result<(WorkerHandle, WorkerThread)>
where
    S: Service,
    F: FnOnce() -> S + Send + 'static,
{
    let (arrivals, receiver) = mpsc::channel(MAX_ARRIVALS);
    let (report, ended) = oneshot::channel();
    let (ready, started) = std::sync::mpsc::sync_channel(1);
    let thread = std::thread::Builder::new()
        .name(format!("durward-worker-{}", plan.index))
        .spawn(move || {
            let mut builder = Builder::new_current_thread();
            builder.enable_all().event_interval(EVENT_INTERVAL);
            let runtime = match builder.build_local(LocalOptions::default()) {
                Ok(runtime) => runtime,
                Err(error) => {
                    let _ = ready.send(Err(error));
                    return;
                }
            };
            // This fails only if the start was given up.
            let _ = ready.send(Ok(()));
            let aborted = runtime.block_on(work(plan, factory, receiver));
            drop(runtime);
            let _ = report.send(aborted);
        })?;
    started.recv().unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))?;
    let worker_handle = WorkerHandle {
        arrivals,
        load: Arc::new(AtomicUsize::new(0)),
    };
    Ok((worker_handle, WorkerThread { thread, ended }))
}

impl WorkerThread {
    /// Waits for the worker to end.
    pub(super) async fn ended(&mut self) -> Result<usize, oneshot::error::RecvError> {
        (&mut self.ended).await
    }

    /// Joins the thread, which has ended or died.
    pub(super) fn join(self) {
        if self.thread.join().is_err() {
            tracing::error!("a worker thread died of a panic");
        }
    }
}

/// Runs a worker to its end. Returns how many connections were cut off.
async fn work<S: Service, F: FnOnce() -> S>(plan: WorkerPlan, factory: F, mut arrivals: mpsc::Receiver<AcceptedConnection>) -> usize {
    let WorkerPlan {
        limits,
        share,
        tls,
        counters,
        mut phase,
        ..
    } = plan;
    let context = Rc::new(WorkerContext::new(factory(), limits, counters, share));
    let mut connections = JoinSet::new();
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut accepting = true;
    while accepting || !connections.is_empty() {
        tokio::select! {
            arrival = arrivals.recv(), if accepting => match arrival {
                Some(arrival) => {
                    let tls = tls.get(arrival.listener).cloned().flatten();
                    connections.spawn_local(connection::serve(arrival, tls, Rc::clone(&context)));
                }
                None => accepting = false,
            },
            Some(ended) = connections.join_next() => note_end(ended, &context.counters),
            _ = ticks.tick() => {
                context.refresh();
                context.service.tick();
            }
            // The sender outlives the worker. If it is gone, nobody waits for a drain either.
            changed = phase.wait_for(|phase| *phase != context.drain.phase()) => match changed.map(|phase| *phase) {
                Ok(DrainPhase::Aborting) | Err(_) => break,
                Ok(next) => context.drain.advance(next),
            },
        }
    }
    let aborted = connections.len();
    connections.shutdown().await;
    if tokio::time::timeout(SETTLE, context.service.settle()).await.is_err() {
        tracing::warn!("the worker ends before every hook after a step has been sent");
    }
    context.refresh();
    context.service.tick();
    aborted
}

/// A panic ends the connection on which it happened, and nothing else. It is counted and logged.
fn note_end(ended: Result<(), JoinError>, counters: &WorkerCounters) {
    if let Err(error) = ended
        && error.is_panic()
    {
        note_panic(counters);
    }
}

/// Counts and logs a panic that ended a connection, or a stream of one.
pub(super) fn note_panic(counters: &WorkerCounters) {
    counters.panics.add_one();
    tracing::error!("a panic ended a connection; this is a defect");
}
