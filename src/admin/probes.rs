//! `/livez`, `/readyz`, `/metrics`: what orchestrators and monitoring ask.

use std::sync::Arc;
use std::time::Duration;

use ::http::Request;
use hyper::body::Incoming;

use crate::telemetry::metrics::CONTENT_TYPE;

use super::Operations;
use super::http::{AdminCall, AdminReply, AdminService, no_such_path, read, wrong_method};
use super::readiness::ReadinessChecks;

/// How often the store is probed. Readiness follows the store within two seconds.
const PROBE_INTERVAL: Duration = Duration::from_millis(500);

/// How long one answer of the store may take. A slow answer still counts.
const PROBE_DEADLINE: Duration = Duration::from_secs(1);

#[derive(serde::Serialize)]
struct ReadinessReport {
    ready: bool,
    checks: ReadinessChecks,
    /// What should be changed about the store; says nothing about readiness.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    store_concerns: Vec<String>,
    /// What there are too few descriptors for; says nothing about readiness.
    #[serde(skip_serializing_if = "Option::is_none")]
    shortage: Option<String>,
}

/// The service of the TCP listener for probes, which has no operations.
#[derive(Debug)]
pub struct Probes(pub Arc<Operations>);

impl AdminService for Probes {
    async fn answer(&self, request: Request<Incoming>) -> AdminReply {
        match read(request).await {
            Ok(call) => answer(&self.0, &call).unwrap_or_else(|| no_such_path(&call)),
            Err(refusal) => refusal,
        }
    }
}

/// Answers a probe; `None` for another path.
pub(crate) fn answer(operations: &Operations, call: &AdminCall) -> Option<AdminReply> {
    let answer = match call.uri.path() {
        "/livez" => AdminReply {
            status: 200,
            content_type: "text/plain; charset=utf-8",
            body: "alive\n".into(),
        },
        "/readyz" => {
            let checks = operations.checks();
            let ready = checks.all_pass();
            let store_concerns = operations.store.concerns().iter().map(ToString::to_string).collect();
            AdminReply::json(
                if ready { 200 } else { 503 },
                &ReadinessReport {
                    ready,
                    checks,
                    store_concerns,
                    shortage: operations.shortage.clone(),
                },
            )
        }
        "/metrics" => AdminReply {
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

/// Probes the store twice a second, without an end. The caller owns the task and aborts it.
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
