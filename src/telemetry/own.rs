//! The metrics telemetry itself has: requests, refusals, durations, the build.

use std::sync::Arc;
use std::time::Duration;

use super::counters::{AGES, BOUNDS, Totals};
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
    metrics.family_fn(
        Kind::Counter,
        "durward_dropped_fields",
        "Request fields that were not forwarded for their odd names, see limits.odd_names",
        move || {
            vec![Sample {
                labels: Vec::new(),
                value: t.dropped_fields(),
            }]
        },
    );
    let t = Arc::clone(totals);
    metrics.histogram_fn(
        "durward_request_duration_seconds",
        "From the request head to the end of the response",
        move || histogram(&BOUNDS, t.durations()),
    );
    let t = Arc::clone(totals);
    metrics.histogram_fn(
        "durward_facts_age_seconds",
        "How old the facts were by which a request was judged, counted from when their read was sent; never above store.max_age",
        move || histogram(&AGES, t.facts_ages()),
    );
    let t = Arc::clone(totals);
    metrics.gauge_fn("durward_requests_in_flight", "Requests begun and not ended", &[], move || {
        t.in_flight()
    });
    let t = Arc::clone(totals);
    metrics.counter_fn(
        "durward_hook_failures",
        "Hooks of served routes whose service could not be asked or told",
        &[],
        move || t.failed_hooks(),
    );
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
        "Requests under a credential that have been open for 200 ms or more, by kind; they are judged again until they end",
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

fn histogram(bounds: &[Duration], (sum, counts): (Duration, Vec<u64>)) -> HistogramSample {
    let bounds = bounds.iter().map(Duration::as_secs_f64).chain([f64::INFINITY]);
    HistogramSample {
        sum: sum.as_secs_f64(),
        buckets: bounds.zip(counts).collect(),
    }
}
