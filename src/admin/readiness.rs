//! Readiness: a gateway sets it while it starts, runs and stops; `/readyz` and `durward status` show it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::clock::BootMillis;
use crate::store::cached::ReadAheadProgress;

/// How long after its last answer the store counts as up. Two probes must be missed, since one lost answer must not take
/// a gateway out of rotation that still serves all callers it knows.
const STORE_FRESH: Duration = Duration::from_millis(1_500);

/// The facts behind readiness. A new gateway is not ready.
#[derive(Debug, Default)]
pub struct Readiness {
    configured: AtomicBool,
    draining: AtomicBool,
    /// Boot time of the last good answer, plus one; zero for none.
    store_answered_at: AtomicU64,
    /// Why the store did not answer when it was last asked; empty if there is no reason.
    store_failed: Mutex<String>,
    warming: AtomicBool,
    /// How much of what was in use before the start has been read.
    pub ahead: ReadAheadProgress,
}

impl Readiness {
    /// A configuration is in force and the workers serve.
    pub fn configured(&self) {
        self.configured.store(true, Ordering::Relaxed);
    }

    /// The gateway begins to read what was in use before the start: it is not ready meanwhile.
    pub fn warming(&self) {
        self.warming.store(true, Ordering::Relaxed);
    }

    /// The gateway has read ahead, or the time for it is over.
    pub fn warm(&self) {
        self.warming.store(false, Ordering::Relaxed);
    }

    /// The gateway is shutting down; there is no way back.
    pub fn draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// The store answered at this time.
    pub fn store_answered(&self, at: BootMillis) {
        self.store_answered_at.store(at.0.saturating_add(1), Ordering::Relaxed);
    }

    /// The store did not answer, or answered with an error, for this reason.
    pub fn store_failed(&self, why: String) {
        *self.store_failed.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    /// Whether the store answered a moment ago.
    #[must_use]
    pub fn store_is_up(&self, now: BootMillis) -> bool {
        let answered = self.store_answered_at.load(Ordering::Relaxed);
        answered > 0 && now.since(BootMillis(answered - 1)) <= STORE_FRESH
    }

    fn no_answer(&self) -> String {
        let why = self.store_failed.lock().unwrap_or_else(PoisonError::into_inner);
        if why.is_empty() {
            "no answer".to_owned()
        } else {
            format!("no answer: {why}")
        }
    }

    /// Each check in words: `ok`, or what is wrong.
    #[must_use]
    pub fn checks(&self, now: BootMillis) -> ReadinessChecks {
        let say = |passed: bool, otherwise: &str| if passed { "ok" } else { otherwise }.to_owned();
        ReadinessChecks {
            configuration: say(self.configured.load(Ordering::Relaxed), "not loaded yet"),
            store: say(self.store_is_up(now), &self.no_answer()),
            warm: if self.warming.load(Ordering::Relaxed) {
                self.ahead.to_string()
            } else {
                "ok".to_owned()
            },
            serving: say(!self.draining.load(Ordering::Relaxed), "shutting down"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadinessChecks {
    /// A configuration is in force.
    pub configuration: String,
    /// The store answered a moment ago.
    pub store: String,
    /// What was in use before the start is in memory, or the time to read it is over.
    #[serde(default)]
    pub warm: String,
    /// The gateway is not shutting down.
    pub serving: String,
}

impl ReadinessChecks {
    #[must_use]
    pub fn all_pass(&self) -> bool {
        [&self.configuration, &self.store, &self.warm, &self.serving]
            .into_iter()
            .all(|check| check == "ok")
    }
}
