//! A worker: one thread with its own runtime, its own service and its own connections. Nothing it
//! does for a request is shared with another worker.

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
use super::context::Context;
use super::counters::WorkerCounters;
use super::drain::Phase;
use super::listener::{Arrival, Desk};
use super::service::Service;
use super::tls::TlsListener;
use crate::snapshot::Limits;

/// How often a worker does what is done in batches: `Date` is never older than this beyond its
/// second, and an access line never waits longer.
pub const TICK: Duration = Duration::from_millis(100);
/// Most tasks that a worker runs before it looks at sockets and timers again; it looks sooner when none is
/// ready. A look is a system call, and more requests arrive together when it is made less often: with the
/// runtime's 61, a request cost a twentieth more. 256 tasks take a millisecond or two, more when they
/// move large bodies; a deadline may be late by that.
const EVENT_INTERVAL: u32 = 256;
/// How long a worker without connections waits for work that its requests have started: the longest deadline that a
/// hook may have.
const SETTLE: Duration = Duration::from_secs(10);
/// Connections on their way to one worker. A worker that is this far behind is stuck.
const MAX_ARRIVALS: usize = 1_024;

/// What a worker is started with.
pub(super) struct Plan {
    pub(super) index: usize,
    pub(super) limits: Limits,
    /// Its part of the requests in flight.
    pub(super) share: usize,
    /// One for each listener.
    pub(super) tls: Vec<Option<Arc<TlsListener>>>,
    pub(super) counters: Arc<WorkerCounters>,
    pub(super) phase: watch::Receiver<Phase>,
}

/// A running worker, seen from outside its thread.
pub(super) struct WorkerThread {
    thread: JoinHandle<()>,
    /// Gives the number of connections that had to be cut off; fails if the thread died.
    ended: oneshot::Receiver<usize>,
}

/// Starts a worker's thread. `factory` makes its service there, inside its runtime.
///
/// # Errors
/// When the thread or its runtime cannot be made.
pub(super) fn start<S, F>(plan: Plan, factory: F) -> io::Result<(Desk, WorkerThread)>
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
            // Nobody waits any more only if the start was given up.
            let _ = ready.send(Ok(()));
            let aborted = runtime.block_on(work(plan, factory, receiver));
            drop(runtime);
            let _ = report.send(aborted);
        })?;
    started.recv().unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))?;
    let desk = Desk {
        arrivals,
        load: Arc::new(AtomicUsize::new(0)),
    };
    Ok((desk, WorkerThread { thread, ended }))
}

impl WorkerThread {
    /// Waits for the worker to end.
    pub(super) async fn ended(&mut self) -> Result<usize, oneshot::error::RecvError> {
        (&mut self.ended).await
    }

    /// Joins the thread, which has said that it ended or has died.
    pub(super) fn join(self) {
        if self.thread.join().is_err() {
            tracing::error!("a worker thread died of a panic");
        }
    }
}

/// A worker's life: how many connections were cut off at its end.
async fn work<S: Service, F: FnOnce() -> S>(plan: Plan, factory: F, mut arrivals: mpsc::Receiver<Arrival>) -> usize {
    let Plan {
        limits,
        share,
        tls,
        counters,
        mut phase,
        ..
    } = plan;
    let context = Rc::new(Context::new(factory(), limits, counters, share));
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
            // The sender outlives the worker; if it is gone, so is whoever would wait for a drain.
            changed = phase.wait_for(|phase| *phase != context.drain.phase()) => match changed.map(|phase| *phase) {
                Ok(Phase::Aborting) | Err(_) => break,
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

/// A panic ends the connection it happened on, and nothing else; it is counted and said aloud.
pub(super) fn note_end(ended: Result<(), JoinError>, counters: &WorkerCounters) {
    if let Err(error) = ended
        && error.is_panic()
    {
        counters.panics.add_one();
        tracing::error!("a panic ended a connection; this is a defect");
    }
}
