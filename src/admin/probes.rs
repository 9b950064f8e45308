//! `/livez`, `/readyz`, `/metrics`: what orchestrators and monitoring ask.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;

use crate::base::clock::BootMillis;
use crate::store::cached::ReadAheadProgress;
use crate::telemetry::metrics::CONTENT_TYPE;

use super::Operations;
use super::api::Checks;
use super::http::{Answer, Call, Service, read};

/// How often the store is asked: readiness tells the truth within two seconds.
const PROBE_INTERVAL: Duration = Duration::from_millis(500);
/// How long one answer may take: a slow one still counts.
const PROBE_DEADLINE: Duration = Duration::from_secs(1);
/// How long after its last answer the store counts as there: two missed probes, so that one lost
/// answer does not take a gateway out of rotation that still serves all known callers.
const STORE_FRESH: Duration = Duration::from_millis(1_500);

/// What readiness rests on. Starts as not ready.
#[derive(Debug, Default)]
pub struct Readiness {
    configured: AtomicBool,
    draining: AtomicBool,
    /// Boot time of the last good answer, plus one; zero for none.
    store_seen: AtomicU64,
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

    /// That is done, or the time for it is over.
    pub fn warm(&self) {
        self.warming.store(false, Ordering::Relaxed);
    }

    /// The gateway is shutting down; there is no way back.
    pub fn draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// The store answered at this time.
    pub fn store_answered(&self, at: BootMillis) {
        self.store_seen.store(at.0.saturating_add(1), Ordering::Relaxed);
    }

    /// The store did not answer, or answered with an error, for this reason.
    pub fn store_failed(&self, why: String) {
        *self.store_failed.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    /// Whether the store answered a moment ago.
    #[must_use]
    pub fn store_is_up(&self, now: BootMillis) -> bool {
        let seen = self.store_seen.load(Ordering::Relaxed);
        seen > 0 && now.since(BootMillis(seen - 1)) <= STORE_FRESH
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
    pub fn checks(&self, now: BootMillis) -> Checks {
        let say = |passed: bool, otherwise: &str| if passed { "ok" } else { otherwise }.to_owned();
        Checks {
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

impl Checks {
    /// Whether every check passes.
    #[must_use]
    pub fn all_pass(&self) -> bool {
        [&self.configuration, &self.store, &self.warm, &self.serving]
            .into_iter()
            .all(|check| check == "ok")
    }
}

#[derive(serde::Serialize)]
struct Ready {
    ready: bool,
    checks: Checks,
    /// What should be changed about the store; says nothing about readiness.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    store_concerns: Vec<String>,
    /// What there are too few descriptors for; says nothing about readiness.
    #[serde(skip_serializing_if = "Option::is_none")]
    shortage: Option<String>,
}

/// The probes alone, for their TCP listener.
#[derive(Debug)]
pub struct Probes(pub Arc<Operations>);

impl Service for Probes {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        match read(request).await {
            Ok(call) => answer(&self.0, &call).unwrap_or_else(|| super::routes::no_such_path(&call)),
            Err(refusal) => refusal,
        }
    }
}

/// Answers a probe; `None` for another path.
pub(crate) fn answer(operations: &Operations, call: &Call) -> Option<Answer> {
    let answer = match call.uri.path() {
        "/livez" => Answer {
            status: 200,
            content_type: "text/plain; charset=utf-8",
            body: "alive\n".into(),
        },
        "/readyz" => {
            let checks = operations.checks();
            let ready = checks.all_pass();
            let store_concerns = operations.store.concerns().iter().map(ToString::to_string).collect();
            Answer::json(
                if ready { 200 } else { 503 },
                &Ready {
                    ready,
                    checks,
                    store_concerns,
                    shortage: operations.shortage.clone(),
                },
            )
        }
        "/metrics" => Answer {
            status: 200,
            content_type: CONTENT_TYPE,
            body: operations.telemetry.metrics().render().into(),
        },
        _ => return None,
    };
    if matches!(call.method, http::Method::GET | http::Method::HEAD) {
        Some(answer)
    } else {
        Some(super::routes::wrong_method("GET"))
    }
}

/// Asks the store twice a second, for ever; the caller owns the task and aborts it at the end.
pub async fn watch_store(operations: Arc<Operations>) {
    let mut ticks = tokio::time::interval(PROBE_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let sent = operations.clock.now().boot;
        match tokio::time::timeout(PROBE_DEADLINE, operations.store.probe(PROBE_DEADLINE)).await {
            Ok(Ok(())) => operations.readiness.store_answered(sent),
            Ok(Err(error)) => operations.readiness.store_failed(error.to_string()),
            Err(_) => operations
                .readiness
                .store_failed(format!("nothing within {} ms", PROBE_DEADLINE.as_millis())),
        }
    }
}
