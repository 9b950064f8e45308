//! `/livez`, `/readyz`, `/metrics`: what orchestrators and monitoring ask.

use std::sync::Arc;
use std::time::Duration;

use ::http::Request;
use hyper::body::Incoming;

use crate::telemetry::metrics::CONTENT_TYPE;

use super::Operations;
use super::http::{Answer, Call, Service, no_such_path, read, wrong_method};
use super::readiness::Checks;

/// How often the store is asked: readiness tells the truth within two seconds.
const PROBE_INTERVAL: Duration = Duration::from_millis(500);

/// How long one answer may take: a slow one still counts.
const PROBE_DEADLINE: Duration = Duration::from_secs(1);

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
            Ok(call) => answer(&self.0, &call).unwrap_or_else(|| no_such_path(&call)),
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
        Some(wrong_method("GET"))
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
