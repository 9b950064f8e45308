//! The metrics telemetry itself has: requests, refusals, durations, the build.

use std::sync::Arc;

use super::counters::{BOUNDS, Totals};
use super::metrics::{HistogramSample, Kind, Metrics, Sample};
use super::streams::StreamKind;

/// Registers what workers count.
pub(crate) fn register(metrics: &Metrics, totals: &Arc<Totals>) {
    let t = Arc::clone(totals);
    metrics.family_fn(
        Kind::Counter,
        "durward_requests",
        "Requests by route and by class of status",
        move || {
            let count = |(route, class, value): (String, &str, u64)| Sample {
                labels: vec![("route", route), ("class", class.to_owned())],
                value,
            };
            t.requests().into_iter().map(count).collect()
        },
    );
    let t = Arc::clone(totals);
    metrics.family_fn(Kind::Counter, "durward_refusals", "Requests refused, by reason", move || {
        let count = |(denial, value): (&str, u64)| Sample {
            labels: vec![("denial", denial.to_owned())],
            value,
        };
        t.refusals().into_iter().map(count).collect()
    });
    let t = Arc::clone(totals);
    metrics.histogram_fn(
        "durward_request_duration_seconds",
        "From the request head to the end of the response",
        move || {
            let (sum, counts) = t.durations();
            let bounds = BOUNDS.iter().map(std::time::Duration::as_secs_f64).chain([f64::INFINITY]);
            HistogramSample {
                sum: sum.as_secs_f64(),
                buckets: bounds.zip(counts).collect(),
            }
        },
    );
    let t = Arc::clone(totals);
    metrics.gauge_fn("durward_requests_in_flight", "Requests begun and not ended", &[], move || {
        t.in_flight()
    });
    register_streams(metrics, totals);
    metrics.gauge_fn(
        "durward_build_info",
        "The version that runs",
        &[("version", env!("CARGO_PKG_VERSION"))],
        || 1,
    );
}

fn register_streams(metrics: &Metrics, totals: &Arc<Totals>) {
    let t = Arc::clone(totals);
    metrics.family_fn(
        Kind::Gauge,
        "durward_streams_open",
        "Requests under a credential that have been open for half a second or more, by kind; they are judged again until they end",
        move || {
            let row = |kind: StreamKind| Sample {
                labels: vec![("kind", kind.as_str().to_owned())],
                value: t.open_streams(kind),
            };
            StreamKind::ALL.into_iter().map(row).collect()
        },
    );
    let t = Arc::clone(totals);
    metrics.family_fn(
        Kind::Counter,
        "durward_streams_ended",
        "WebSockets that ended and other streams that were cut off, by reason; a denial is one whose credential died",
        move || {
            let row = |(kind, reason, value): (StreamKind, &str, u64)| Sample {
                labels: vec![("kind", kind.as_str().to_owned()), ("reason", reason.to_owned())],
                value,
            };
            t.ended_streams().into_iter().map(row).collect()
        },
    );
}
