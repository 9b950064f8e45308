//! Registers the figures of all parts for `/metrics`.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Panics;
use super::reload::Reloader;
use crate::admin::readiness::Readiness;
use crate::audit::trail::Trail;
use crate::base::clock::Clock;
use crate::cli::descriptors::DescriptorBudget;
use crate::gateway::UpstreamRegistry;
use crate::jwks::KeyRenewal;
use crate::limit::Limiter;
use crate::server::RunningServer;
use crate::store::announce::Announcer;
use crate::store::cached::CachedStore;
use crate::store::events::ReaderState;
use crate::telemetry::metrics::{HistogramSample, MetricKind, Metrics, Sample};

/// Where the figures come from.
pub(super) struct MetricSources<'a> {
    pub(super) cached: Arc<CachedStore>,
    pub(super) announcer: Arc<Announcer>,
    pub(super) upstreams: Arc<UpstreamRegistry>,
    pub(super) limiter: Arc<Limiter>,
    pub(super) renewal: Arc<KeyRenewal>,
    pub(super) running: &'a RunningServer,
    pub(super) reloader: &'a Arc<Reloader>,
    pub(super) readiness: &'a Arc<Readiness>,
    pub(super) clock: &'a Arc<dyn Clock>,
    pub(super) panics: &'a Panics,
    pub(super) budget: DescriptorBudget,
    pub(super) trail: Option<&'a Arc<Trail>>,
}

pub(super) fn register(metrics: &Metrics, sources: &MetricSources<'_>) {
    register_receipts(metrics, &sources.cached, &sources.announcer);
    if let Some(trail) = sources.trail {
        register_trail(metrics, trail);
    }
    register_cache(metrics, &sources.cached);
    register_trust(metrics, &sources.cached);
    register_concerns(metrics, &sources.cached);
    register_rights(metrics, &sources.cached);
    register_upstreams(metrics, &sources.upstreams);
    register_connections(metrics, sources.running);
    register_descriptors(metrics, sources.budget);
    register_limits(metrics, &sources.limiter);
    register_keys(metrics, &sources.renewal);
    register_writes(metrics, &sources.cached);
    let (readiness, clock, cached) = (sources.readiness.clone(), sources.clock.clone(), sources.cached.clone());
    metrics.gauge_fn(
        "durward_store_up",
        "Whether the store answered a moment ago and, as far as is known, takes changes",
        &[],
        move || {
            let takes_changes = cached.store().writes().is_none_or(|writes| writes.refused.is_none());
            u64::from(takes_changes && readiness.store_is_up(clock.now().boot))
        },
    );
    let reloader = sources.reloader.clone();
    metrics.family_fn(
        MetricKind::Counter,
        "durward_config_reloads",
        "Reloads of the configuration, by result",
        move || {
            let (done, failed) = reloader.counts();
            vec![sample(&[("result", "ok")], done), sample(&[("result", "failed")], failed)]
        },
    );
    let panics = sources.panics.clone();
    metrics.counter_fn("durward_panics", "Defects that ended a request or a task", &[], move || {
        panics.load(Ordering::Relaxed)
    });
}

fn register_concerns(metrics: &Metrics, cached: &Arc<CachedStore>) {
    let cached = cached.clone();
    metrics.family_fn(
        MetricKind::Gauge,
        "durward_store_concerns",
        "What should be changed about the store's settings; none when all is well",
        move || {
            let concerns = cached.store().concerns();
            concerns.iter().map(|concern| sample(&[("concern", concern.word())], 1)).collect()
        },
    );
}

/// The figures of the embedded store. Other stores have monitoring of their own.
fn register_writes(metrics: &Metrics, cached: &Arc<CachedStore>) {
    let store = cached.clone();
    metrics.family_fn(
        MetricKind::Gauge,
        "durward_store_writable",
        "Whether the file of the embedded store takes changes; no row for other stores",
        move || {
            let writes = store.store().writes();
            writes.iter().map(|w| sample(&[], u64::from(w.refused.is_none()))).collect()
        },
    );
    let store = cached.clone();
    metrics.family_fn(
        MetricKind::Counter,
        "durward_store_write_failures",
        "Failures to write the file of the embedded store; no row for other stores",
        move || store.store().writes().iter().map(|w| sample(&[], w.failed)).collect(),
    );
    let store = cached.clone();
    metrics.family_fn(
        MetricKind::Counter,
        "durward_store_reopenings",
        "How often the file of the embedded store was opened again after a failure; no row for other stores",
        move || store.store().writes().iter().map(|w| sample(&[], w.reopened)).collect(),
    );
}

fn register_rights(metrics: &Metrics, cached: &Arc<CachedStore>) {
    let cached = cached.clone();
    metrics.family_fn(
        MetricKind::Gauge,
        "durward_store_denied_rights",
        "Rights that the store's user lacks, `~keys` for its keys; none when all is well",
        move || {
            let concerns = cached.store().concerns();
            let rights = concerns.iter().flat_map(|concern| concern.refused_rights());
            rights.map(|right| sample(&[("right", right)], 1)).collect()
        },
    );
}

fn register_cache(metrics: &Metrics, cached: &Arc<CachedStore>) {
    let cache = cached.clone();
    metrics.family_fn(
        MetricKind::Counter,
        "durward_cache_lookups",
        "Look-ups in memory, by what was found",
        move || {
            let f = cache.figures();
            vec![
                sample(&[("found", "present")], f.hits_present),
                sample(&[("found", "absent")], f.hits_absent),
                sample(&[("found", "nothing")], f.misses),
            ]
        },
    );
    let cache = cached.clone();
    metrics.family_fn(
        MetricKind::Counter,
        "durward_store_reads",
        "Reads of the store, by reason and result",
        move || {
            let f = cache.figures();
            let row = |reason, result, value| sample(&[("reason", reason), ("result", result)], value);
            vec![
                row("request", "answered", f.loads.saturating_sub(f.load_errors)),
                row("request", "failed", f.load_errors),
                row("refresh", "answered", f.refreshes.saturating_sub(f.refresh_errors)),
                row("refresh", "failed", f.refresh_errors),
            ]
        },
    );
    let cache = cached.clone();
    metrics.family_fn(
        MetricKind::Counter,
        "durward_store_lookups_avoided",
        "Look-ups that did not read the store, by reason",
        move || {
            let f = cache.figures();
            vec![
                sample(&[("reason", "coalesced")], f.coalesced),
                sample(&[("reason", "too_many")], f.rejected),
                sample(&[("reason", "too_many_unknown")], f.capped),
                sample(&[("reason", "store_failing")], f.short_circuited),
            ]
        },
    );
}

fn register_trust(metrics: &Metrics, cached: &Arc<CachedStore>) {
    let cache = cached.clone();
    metrics.counter_fn(
        "durward_store_corrupt",
        "Answers of the store that could not be trusted; any at all is an alarm",
        &[],
        move || cache.figures().corrupt,
    );
    let cache = cached.clone();
    metrics.counter_fn(
        "durward_store_outdated",
        "Answers that an event had made out of date before they arrived",
        &[],
        move || cache.figures().outdated,
    );
    let cache = cached.clone();
    metrics.family_fn(MetricKind::Gauge, "durward_cache_entries", "What is remembered", move || {
        let f = cache.figures();
        vec![
            sample(&[("of", "credentials")], f.entries),
            sample(&[("of", "absences")], f.absences),
        ]
    });
    let cache = cached.clone();
    metrics.gauge_fn(
        "durward_store_position",
        "The newest change this gateway has applied",
        &[],
        move || cache.positions().newest().0,
    );
}

fn register_upstreams(metrics: &Metrics, upstreams: &Arc<UpstreamRegistry>) {
    let registry = upstreams.clone();
    metrics.family_fn(
        MetricKind::Counter,
        "durward_upstream_events",
        "What happened towards upstreams",
        move || {
            let mut samples = Vec::new();
            registry.visit(|name, counters| {
                for (event, value) in counters.totals() {
                    samples.push(sample(&[("upstream", name), ("event", event)], value));
                }
            });
            sum(samples)
        },
    );
    let registry = upstreams.clone();
    metrics.family_fn(
        MetricKind::Gauge,
        "durward_upstream_connections",
        "Connections to upstreams",
        move || {
            let mut samples = Vec::new();
            registry.visit(|name, counters| {
                samples.push(sample(&[("upstream", name), ("state", "open")], counters.open.value()));
                samples.push(sample(&[("upstream", name), ("state", "idle")], counters.idle.value()));
            });
            sum(samples)
        },
    );
}

fn register_connections(metrics: &Metrics, running: &RunningServer) {
    let accept = running.accept_counters().clone();
    metrics.family_fn(
        MetricKind::Counter,
        "durward_connections_accepted",
        "What became of accepted connections",
        move || {
            accept
                .figures()
                .into_iter()
                .map(|(name, value)| sample(&[("result", name)], value))
                .collect()
        },
    );
    let workers = running.counters().to_vec();
    metrics.family_fn(
        MetricKind::Gauge,
        "durward_connections_open",
        "Open client connections, by worker",
        move || {
            workers
                .iter()
                .enumerate()
                .map(|(index, c)| sample(&[("worker", &index.to_string())], c.open.read()))
                .collect()
        },
    );
    let workers = running.counters().to_vec();
    metrics.family_fn(
        MetricKind::Counter,
        "durward_connection_events",
        "What happened on client connections",
        move || {
            let all = workers.iter().flat_map(|c| c.figures());
            sum(all
                .filter(|(name, _)| !matches!(*name, "open" | "in_flight"))
                .map(|(name, value)| sample(&[("event", name)], value))
                .collect())
        },
    );
}

fn register_descriptors(metrics: &Metrics, budget: DescriptorBudget) {
    metrics.gauge_fn(
        "durward_connections_limit",
        "Client connections that are accepted at a time: as configured, or as there are descriptors for",
        &[],
        move || budget.connections as u64,
    );
    metrics.gauge_fn(
        "durward_descriptors_limit",
        "Files and sockets that the process may have open",
        &[],
        move || budget.limit,
    );
    metrics.gauge_fn(
        "durward_descriptors_open",
        "Files and sockets that the process has open",
        &[],
        // Reading the folder takes one descriptor itself.
        || std::fs::read_dir("/proc/self/fd").map_or(0, |open| (open.count() as u64).saturating_sub(1)),
    );
}

fn register_limits(metrics: &Metrics, limiter: &Arc<Limiter>) {
    let limits = limiter.clone();
    metrics.family_fn(
        MetricKind::Counter,
        "durward_rate_limit_checks",
        "Requests under rate limits, by what a limit said; `unavailable` are those the shared count could not answer",
        move || {
            let f = limits.figures();
            vec![
                sample(&[("result", "admitted")], f.admitted),
                sample(&[("result", "refused")], f.refused),
                sample(&[("result", "unavailable")], f.unavailable),
            ]
        },
    );
    let limits = limiter.clone();
    metrics.gauge_fn(
        "durward_rate_limit_entries",
        "Callers in the table of rate limits",
        &[],
        move || limits.figures().entries,
    );
    let limits = limiter.clone();
    metrics.counter_fn(
        "durward_rate_limit_evictions",
        "Callers who lost their place in the table of rate limits although something of theirs still counted",
        &[],
        move || limits.figures().evicted,
    );
}

fn register_keys(metrics: &Metrics, renewal: &Arc<KeyRenewal>) {
    let keys = renewal.clone();
    metrics.family_fn(
        MetricKind::Counter,
        "durward_issuer_key_fetches",
        "Fetches of issuers' key sets, by result",
        move || {
            let f = keys.figures();
            vec![sample(&[("result", "ok")], f.fetched), sample(&[("result", "failed")], f.failed)]
        },
    );
    let keys = renewal.clone();
    metrics.gauge_fn(
        "durward_issuer_keys_age_seconds",
        "Age of the oldest fetched key set of an issuer",
        &[],
        move || keys.figures().oldest_seconds,
    );
    let keys = renewal.clone();
    metrics.gauge_fn(
        "durward_issuers_without_keys",
        "Issuers whose tokens are answered with 503, since no usable key set was fetched",
        &[],
        move || keys.figures().without,
    );
}

/// How changes reach this gateway.
fn register_receipts(metrics: &Metrics, cached: &Arc<CachedStore>, announcer: &Arc<Announcer>) {
    let cache = cached.clone();
    metrics.family_fn(
        MetricKind::Gauge,
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
    let cache = cached.clone();
    metrics.gauge_fn(
        "durward_store_revalidation_age_seconds",
        "Time since one answer of the store last made all facts younger; beyond half of store.max_age facts are read one by one",
        &[],
        move || cache.revalidation_age().as_secs(),
    );
    let receipts = announcer.clone();
    metrics.family_fn(
        MetricKind::Counter,
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

/// How the audit trail is written.
fn register_trail(metrics: &Metrics, trail: &Arc<Trail>) {
    let figures = trail.clone();
    metrics.family_fn(
        MetricKind::Counter,
        "durward_audit_entries",
        "Entries of the audit trail: written, dropped since they could not be written, and requests that were refused since they could not be recorded",
        move || {
            let figures = figures.figures();
            vec![
                sample(&[("result", "written")], figures.entries),
                sample(&[("result", "dropped")], figures.dropped),
                sample(&[("result", "refused")], figures.refused),
            ]
        },
    );
    let figures = trail.clone();
    metrics.counter_fn("durward_audit_bytes", "Bytes of the entries that were written", &[], move || {
        figures.figures().bytes
    });
    let figures = trail.clone();
    metrics.gauge_fn(
        "durward_audit_failing",
        "1 while the audit trail cannot be written",
        &[],
        move || u64::from(figures.figures().failing),
    );
    let figures = trail.clone();
    metrics.gauge_fn(
        "durward_audit_unsynced_milliseconds",
        "How long the oldest entry has waited for the disk; audit.durable is the bound",
        &[],
        move || u64::try_from(figures.figures().unsynced.as_millis()).unwrap_or(u64::MAX),
    );
    let figures = trail.clone();
    metrics.gauge_fn(
        "durward_audit_checkpoint_age_seconds",
        "Age of the newest signed checkpoint; it grows while nothing is recorded",
        &[],
        move || figures.figures().checkpoint_age.as_secs(),
    );
}

fn sample(labels: &[(&'static str, &str)], value: u64) -> Sample {
    Sample {
        labels: labels.iter().map(|(name, text)| (*name, (*text).to_owned())).collect(),
        value,
    }
}

/// Adds up what several workers say under the same labels.
fn sum(samples: Vec<Sample>) -> Vec<Sample> {
    let mut totals: Vec<Sample> = Vec::new();
    let mut places: HashMap<_, usize> = HashMap::new();
    for next in samples {
        let place = *places.entry(next.labels.clone()).or_insert(totals.len());
        match totals.get_mut(place) {
            Some(known) => known.value += next.value,
            None => totals.push(next),
        }
    }
    totals
}
