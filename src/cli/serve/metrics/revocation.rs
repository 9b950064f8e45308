//! What `/metrics` says of how changes reach this gateway.

use std::sync::Arc;
use std::time::Duration;

use crate::store::announce::Announcer;
use crate::store::cached::CachedStore;
use crate::store::events::ReaderState;
use crate::telemetry::metrics::{HistogramSample, Kind, Metrics};

use super::sample;

pub(super) fn register(metrics: &Metrics, cached: &Arc<CachedStore>, announcer: &Arc<Announcer>) {
    let cache = cached.clone();
    metrics.family_fn(
        Kind::Gauge,
        "durward_store_reader",
        "What the reader of the store's events does: 1 for the state it is in",
        move || {
            let state = cache.store().status().reader;
            [ReaderState::Live, ReaderState::CatchingUp, ReaderState::Lost]
                .into_iter()
                .map(|each| sample(&[("state", each.as_str())], u64::from(each == state)))
                .collect()
        },
    );
    let silent = announcer.clone();
    metrics.gauge_fn(
        "durward_store_out_of_contact_seconds",
        "Time since the store was last heard; facts beyond store.max_age are not used",
        &[],
        move || silent.out_of_contact().as_secs(),
    );
    let receipts = announcer.clone();
    metrics.family_fn(
        Kind::Counter,
        "durward_receipts",
        "Receipts of this gateway, by whether they could be written to the store",
        move || {
            let figures = receipts.figures();
            vec![
                sample(&[("result", "written")], figures.written),
                sample(&[("result", "failed")], figures.failed),
            ]
        },
    );
    let receipts = announcer.clone();
    metrics.gauge_fn(
        "durward_receipt_age_seconds",
        "Time since the last receipt was written; above 6 operators see this gateway as silent",
        &[],
        move || receipts.figures().silent_for.as_secs(),
    );
    let lags = announcer.clone();
    metrics.histogram_fn(
        "durward_event_propagation_seconds",
        "From a change in the store to its application here, both by the store's clock as it was told with the last receipt: wrong by at most half a round trip, and by no difference of clocks",
        move || {
            let figures = lags.figures();
            let bounds = Announcer::bounds().into_iter().map(|millis| Duration::from_millis(millis).as_secs_f64());
            HistogramSample {
                sum: Duration::from_millis(figures.lag_millis).as_secs_f64(),
                buckets: bounds.chain([f64::INFINITY]).zip(figures.lags).collect(),
            }
        },
    );
}
