//! What the gateway tells of itself: one access line for each request, counters, diagnostics.

use std::cell::RefCell;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::base::clock::UnixMillis;
use crate::base::denial::Denial;
use crate::base::ids::{CredentialId, Subject, SurfaceName, TenantId};
use crate::base::principal::Facts;

mod counters;
pub mod diagnostics;
mod line;
pub mod metrics;
mod streams;
mod writer;

use counters::{Totals, WorkerCounters};
use line::LineFormatter;
use metrics::Metrics;
pub use streams::{StreamEnd, StreamKind};
use writer::LineSender;
pub use writer::Output;

/// Everything one access line says. Borrowed; written and counted by [`WorkerTelemetry::record`].
/// Nothing of the client's is written unescaped; there is no query string, no header value and no
/// credential in it, only names and ids.
#[derive(Debug)]
pub struct AccessLine<'a> {
    /// When the request head had arrived.
    pub at: UnixMillis,
    /// The request's id.
    pub request_id: &'a str,
    /// The client's address.
    pub client: IpAddr,
    /// `1.0`, `1.1` or `2`.
    pub version: &'static str,
    /// The method, if it was one of ours.
    pub method: Option<&'static str>,
    /// The host asked for, if it was valid.
    pub host: Option<&'a str>,
    /// The canonical path, if it was valid.
    pub path: Option<&'a str>,
    /// The route's name.
    pub route: Option<&'a str>,
    /// Where the route is counted, from [`Telemetry::route_slot`]; [`RouteSlot::NONE`] without a route.
    pub route_slot: RouteSlot,
    /// The surface's name.
    pub surface: Option<&'a SurfaceName>,
    /// The tenant's id.
    pub tenant: Option<&'a TenantId>,
    /// The principal's subject.
    pub principal: Option<&'a Subject>,
    /// The credential's id.
    pub credential: Option<&'a CredentialId>,
    /// The facts that tenant, principal and credential are of, if all three are: what is written of them
    /// is kept there for the next line.
    pub of: Option<&'a Facts>,
    /// What a served route did, and to which records.
    pub done: Option<&'a str>,
    /// How old the facts were by which it was judged.
    pub facts_age: Option<Duration>,
    /// Why it was refused.
    pub denial: Option<Denial>,
    /// What was wrong with the credential, where the denial does not say it. The caller is not told.
    pub cause: Option<&'static str>,
    /// The status sent (or that would have been sent).
    pub status: u16,
    /// The upstream's name.
    pub upstream: Option<&'a str>,
    /// The endpoint's authority.
    pub endpoint: Option<&'a str>,
    /// Attempts made upstream.
    pub attempts: u32,
    /// Why the last attempt gave no answer.
    pub failure: Option<&'static str>,
    /// Bytes of the response body sent, or to the client through a tunnel.
    pub bytes_out: u64,
    /// Bytes from the client through a tunnel.
    pub bytes_in: Option<u64>,
    /// Fields of the request that were not forwarded because of their names (`limits.odd_names`).
    pub dropped_fields: u32,
    /// Why a stream ended that did not end by itself.
    pub ended: Option<(StreamKind, StreamEnd)>,
    /// From the request head to the end of the response.
    pub took: Duration,
    /// Whether the answer was sent to its end.
    pub completed: bool,
}

/// Where a route's requests are counted. Handed out once for each name, kept over reloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RouteSlot(pub(crate) u16);

impl RouteSlot {
    /// Requests that matched no route.
    pub const NONE: Self = Self(0);
}

/// How access lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineFormat {
    /// One JSON object a line.
    Json,
    /// For a terminal.
    Pretty,
    /// None; counters go on.
    Off,
}

/// The whole process's telemetry: what [`WorkerTelemetry`]s are made from and what `/metrics` reads.
#[derive(Debug)]
pub struct Telemetry {
    format: LineFormat,
    lines: Option<Output>,
    totals: Arc<Totals>,
    metrics: Metrics,
}

impl Telemetry {
    /// Telemetry whose access lines go to `lines`; without an output, or with [`LineFormat::Off`],
    /// there are only counters.
    #[must_use]
    pub fn new(format: LineFormat, lines: Option<Output>) -> Arc<Self> {
        let totals = Arc::new(Totals::default());
        let metrics = Metrics::default();
        counters::register(&metrics, &totals);
        if let Some(output) = &lines {
            let dropped = output.dropped();
            metrics.counter_fn(
                "durward_access_lines_dropped",
                "Access lines that were not written because the output was too slow or broken",
                &[],
                move || dropped.load(std::sync::atomic::Ordering::Relaxed),
            );
        }
        Arc::new(Self {
            format,
            lines,
            totals,
            metrics,
        })
    }

    /// The part of one worker. Its counters are read by `/metrics` for as long as the process lives.
    #[must_use]
    pub fn worker(&self) -> WorkerTelemetry {
        let sender = match self.format {
            LineFormat::Off => None,
            LineFormat::Json | LineFormat::Pretty => self.lines.as_ref().map(Output::sender),
        };
        WorkerTelemetry {
            counters: self.totals.add_worker(),
            lines: sender.map(|sender| RefCell::new(LineBuffer::new(self.format, sender))),
        }
    }

    /// The slot of a route's name. Called when a snapshot is adopted, never on the request path; at
    /// most [`MAX_ROUTE_SLOTS`](counters::MAX_ROUTE_SLOTS) names are told apart, the rest is `_other`.
    #[must_use]
    pub fn route_slot(&self, name: &str) -> RouteSlot {
        self.totals.route_slot(name)
    }

    /// The registry behind `/metrics`, for counters of other parts.
    #[must_use]
    pub const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Requests begun and not ended, over all workers.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.totals.in_flight()
    }

    /// Waits until everything handed over so far is written, at most `deadline`. Blocks; called
    /// after the workers have ended (each flushes when it is dropped).
    pub fn flush(&self, deadline: Duration) {
        if let Some(output) = &self.lines {
            output.flush(deadline);
        }
    }
}

/// One worker's counters and its buffer of access lines; no lock is shared with other workers.
/// `!Sync`: a counter has exactly one writer, so that counting is a load and a store.
#[derive(Debug)]
pub struct WorkerTelemetry {
    counters: Arc<WorkerCounters>,
    lines: Option<RefCell<LineBuffer>>,
}

impl WorkerTelemetry {
    /// Counts a request as in flight, from its head's arrival until [`record`](Self::record).
    pub fn begin(&self) {
        self.counters.begin();
    }

    /// Counts a service that could not be asked or told.
    pub fn fail_hook(&self) {
        self.counters.fail_hook();
    }

    /// Counts the request and writes its line. Never waits.
    pub fn record(&self, line: &AccessLine<'_>) {
        self.counters.record(line);
        if let Some(lines) = &self.lines {
            lines.borrow_mut().push(line);
        }
    }

    /// Publishes how many streams are open, by kind in the order of [`StreamKind::ALL`].
    pub fn set_open_streams(&self, counts: [u64; StreamKind::ALL.len()]) {
        self.counters.streams.set_open(counts);
    }

    /// Hands buffered lines over; the worker calls it about every 100 ms, so that a line
    /// of a quiet gateway is not held back. Never waits.
    pub fn tick(&self) {
        if let Some(lines) = &self.lines {
            lines.borrow_mut().hand_over();
        }
    }
}

impl Drop for WorkerTelemetry {
    fn drop(&mut self) {
        self.tick();
    }
}

/// A buffer is handed over when it is this full: large enough that the hand-over costs nothing for
/// each line and wakes its thread every 150 lines, small enough that a full queue is a few megabytes.
const CHUNK: usize = 64 * 1024;

#[derive(Debug)]
struct LineBuffer {
    formatter: LineFormatter,
    sender: LineSender,
    buffer: Vec<u8>,
    count: u64,
}

impl LineBuffer {
    fn new(format: LineFormat, sender: LineSender) -> Self {
        Self {
            formatter: LineFormatter::new(format),
            sender,
            buffer: Vec::with_capacity(CHUNK + CHUNK / 4),
            count: 0,
        }
    }

    fn push(&mut self, line: &AccessLine<'_>) {
        self.formatter.write(line, &mut self.buffer);
        self.count += 1;
        if self.buffer.len() >= CHUNK {
            self.hand_over();
        }
    }

    fn hand_over(&mut self) {
        if self.count > 0 {
            let full = std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK + CHUNK / 4));
            self.sender.send(full, std::mem::take(&mut self.count));
        }
    }
}

#[cfg(test)]
mod tests;
