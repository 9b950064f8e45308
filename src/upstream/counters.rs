//! What one worker's connections to one upstream have done. Other threads may read it.

use std::sync::atomic::{AtomicU64, Ordering};

/// A counter with one writer and any number of readers, so the writer needs no locked instruction.
#[derive(Debug, Default)]
pub struct SingleWriterCounter(AtomicU64);

impl SingleWriterCounter {
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Adds one. Only the owning worker calls it.
    pub(super) fn increment(&self) {
        self.0.store(self.value().wrapping_add(1), Ordering::Relaxed);
    }

    /// Subtracts one. Only the owning worker calls it.
    pub(super) fn decrement(&self) {
        self.0.store(self.value().saturating_sub(1), Ordering::Relaxed);
    }
}

/// The counters of one worker's pool of one upstream. Telemetry keeps the `Arc` and sums over workers.
#[derive(Debug, Default)]
pub struct UpstreamCounters {
    /// Attempts: requests that were given a connection or tried to get one.
    pub attempts: SingleWriterCounter,
    /// Attempts after the first of the same request.
    pub retries: SingleWriterCounter,
    pub connects: SingleWriterCounter,
    /// Connections that could not be made.
    pub connect_failures: SingleWriterCounter,
    /// Attempts that used an idle connection.
    pub reuses: SingleWriterCounter,
    /// Idle connections that were found closed, or that were lost before they answered.
    pub stale: SingleWriterCounter,
    /// Answers or bodies that did not come in time.
    pub timeouts: SingleWriterCounter,
    /// Answers that were not HTTP responses: malformed, cut off, or a 101 without a handshake.
    pub invalid: SingleWriterCounter,
    /// Answers over `response_head` or `response_fields`, or after too many interim answers.
    pub oversized: SingleWriterCounter,
    /// Connections given up because bytes followed the answer.
    pub surplus: SingleWriterCounter,
    /// Requests refused because no connection came free in time or too many waited.
    pub busy: SingleWriterCounter,
    /// Requests that were ended because their clients read nothing and another request waited for a connection.
    pub displaced: SingleWriterCounter,
    /// How often an endpoint was ejected.
    pub ejections: SingleWriterCounter,
    /// Connections open now, idle ones included.
    pub open: SingleWriterCounter,
    pub idle: SingleWriterCounter,
}

impl UpstreamCounters {
    /// Every total with its name, for metrics. The numbers of open and idle connections are no totals.
    #[must_use]
    pub fn totals(&self) -> [(&'static str, u64); 13] {
        [
            ("attempts", self.attempts.value()),
            ("retries", self.retries.value()),
            ("connects", self.connects.value()),
            ("connect_failures", self.connect_failures.value()),
            ("reuses", self.reuses.value()),
            ("stale", self.stale.value()),
            ("timeouts", self.timeouts.value()),
            ("invalid", self.invalid.value()),
            ("oversized", self.oversized.value()),
            ("surplus", self.surplus.value()),
            ("busy", self.busy.value()),
            ("displaced", self.displaced.value()),
            ("ejections", self.ejections.value()),
        ]
    }
}
