//! What the gateway reports about itself: one access line for each request, counters and metrics, diagnostics.

use std::cell::RefCell;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::base::clock::UnixMillis;
use crate::base::denial::Denial;
use crate::base::ids::{CredentialId, Subject, SurfaceName, TenantId};
use crate::base::principal::{Facts, TokenClaims};

mod counters;
pub mod diagnostics;
mod line;
pub(crate) mod members;
pub mod metrics;
mod streams;
mod writer;

use counters::{Totals, WorkerCounters};
use line::LineFormatter;
use metrics::Metrics;
pub use streams::{StreamEnd, StreamKind};
use writer::LineSender;
pub use writer::Output;

/// The content of one access line. Borrowed; [`WorkerTelemetry::record`] writes and counts it. Whatever the client sent is
/// escaped. The line has no query string, no header value and no credential, only names and ids.
#[derive(Debug)]
pub struct AccessLine<'a> {
    /// When the request head had arrived.
    pub at: UnixMillis,
    pub request_id: &'a str,
    pub client: IpAddr,
    /// `1.0`, `1.1` or `2`.
    pub version: &'static str,
    /// The method, if it is one that the gateway knows.
    pub method: Option<&'static str>,
    /// The host asked for, if it was valid.
    pub host: Option<&'a str>,
    /// The canonical path, if it was valid.
    pub path: Option<&'a str>,
    pub route: Option<&'a str>,
    /// The route's counters, from [`Telemetry::route_slot`]; [`RouteSlot::NONE`] without a route.
    pub route_slot: RouteSlot,
    pub surface: Option<&'a SurfaceName>,
    pub tenant: Option<&'a TenantId>,
    pub principal: Option<&'a Subject>,
    pub credential: Option<&'a CredentialId>,
    /// What tenant, principal and credential come from: facts, and a token that hangs on them. The text of these three fields
    /// is kept there for the next line.
    pub of: Option<(&'a Facts, Option<&'a TokenClaims>)>,
    /// What a served route did, and to which records.
    pub done: Option<&'a str>,
    /// How old the facts were by which the request was judged.
    pub facts_age: Option<Duration>,
    pub denial: Option<Denial>,
    /// Why the request would be refused if its route did not only report (`insecure_report_only`).
    pub reported: Option<Denial>,
    /// What was wrong with the credential, where the denial does not say it. The caller is not told.
    pub cause: Option<&'static str>,
    /// The status sent (or that would have been sent).
    pub status: u16,
    pub upstream: Option<&'a str>,
    pub endpoint: Option<&'a str>,
    pub attempts: u32,
    /// Why the last attempt gave no answer.
    pub failure: Option<&'static str>,
    /// Bytes of the response body sent, or to the client through a tunnel.
    pub bytes_out: u64,
    /// Bytes of the request's body that were read, or from the client through a tunnel; `None` without a body.
    pub bytes_in: Option<u64>,
    /// Fields of the request that were not forwarded because of their names (`limits.odd_names`).
    pub dropped_fields: u32,
    /// Why the stream ended, unless it ended by itself.
    pub ended: Option<(StreamKind, StreamEnd)>,
    /// From the request head to the end of the response.
    pub took: Duration,
    /// Whether the answer was sent to its end.
    pub completed: bool,
}

/// The number of a route's counters. Assigned once for each name; a reload does not change it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RouteSlot(pub(crate) u16);

impl RouteSlot {
    /// Requests that matched no route.
    pub const NONE: Self = Self(0);
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineFormat {
    /// One JSON object a line.
    Json,
    Pretty,
    /// No access lines; requests are still counted.
    Off,
}

/// The telemetry of the process. It makes a [`WorkerTelemetry`] for each worker, and `/metrics` reads it.
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

    /// The telemetry of one worker. `/metrics` reads its counters for as long as the process lives.
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

    /// The slot of a route's name. Called when a snapshot is adopted, never on the request path. At most
    /// [`MAX_ROUTE_SLOTS`](counters::MAX_ROUTE_SLOTS) names have slots of their own; the others share `_other`.
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

    /// Counts a call of a hook whose service did not answer.
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
    /// of a quiet gateway appears soon. Never waits.
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
