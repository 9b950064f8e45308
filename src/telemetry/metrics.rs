//! The registry behind `/metrics`: closures that read other parts' counters when asked.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

/// `Content-Type` of [`Metrics::render`]'s text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the numbers of a metric mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows; `_total` is added to the name.
    Counter,
    Gauge,
}

/// A label: its name, and its value (escaped when written).
pub type Label = (&'static str, String);

/// One number with its labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Labels; the set of their values must be bounded by configuration.
    pub labels: Vec<Label>,
    pub value: u64,
}

/// A histogram's state: not cumulative.
#[derive(Debug, Clone, PartialEq)]
pub struct HistogramSample {
    /// Sum of what was observed.
    pub sum: f64,
    /// Upper bound and count of each bucket; the last bound is infinite.
    pub buckets: Vec<(f64, u64)>,
}

/// Where metrics are registered and read. Registering and reading take a lock; counting does not
/// come here at all.
#[derive(Debug, Default, Clone)]
pub struct Metrics {
    families: Arc<Mutex<BTreeMap<&'static str, MetricFamily>>>,
}

impl Metrics {
    /// Registers a counter whose value is that of `read`. A second call with the same name and other labels adds a series.
    pub fn counter_fn(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &[(&'static str, &str)],
        read: impl Fn() -> u64 + Send + Sync + 'static,
    ) {
        self.number_fn(MetricKind::Counter, name, help, labels, read);
    }

    /// Registers a gauge whose value is that of `read`.
    pub fn gauge_fn(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &[(&'static str, &str)],
        read: impl Fn() -> u64 + Send + Sync + 'static,
    ) {
        self.number_fn(MetricKind::Gauge, name, help, labels, read);
    }

    fn number_fn(
        &self,
        kind: MetricKind,
        name: &'static str,
        help: &'static str,
        labels: &[(&'static str, &str)],
        read: impl Fn() -> u64 + Send + Sync + 'static,
    ) {
        let labels: Vec<Label> = labels.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        self.family_fn(kind, name, help, move || {
            vec![Sample {
                labels: labels.clone(),
                value: read(),
            }]
        });
    }

    /// Registers numbers whose labels are only known when they are read, such as upstreams after a reload.
    pub fn family_fn(
        &self,
        kind: MetricKind,
        name: &'static str,
        help: &'static str,
        read: impl Fn() -> Vec<Sample> + Send + Sync + 'static,
    ) {
        self.add(name, help, MetricShape::Numbers(kind), MetricSource::Numbers(Box::new(read)));
    }

    /// Registers a histogram whose state is that of `read`.
    pub fn histogram_fn(&self, name: &'static str, help: &'static str, read: impl Fn() -> HistogramSample + Send + Sync + 'static) {
        self.add(name, help, MetricShape::Histogram, MetricSource::Histogram(Box::new(read)));
    }

    fn add(&self, name: &'static str, help: &'static str, shape: MetricShape, source: MetricSource) {
        let mut families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        let family = families.entry(name).or_insert_with(|| MetricFamily {
            help,
            shape,
            sources: Vec::new(),
        });
        debug_assert_eq!(family.shape, shape, "{name} is registered with two meanings");
        if family.shape == shape {
            family.sources.push(source);
        }
    }

    /// Everything in the OpenMetrics text format, sorted by name.
    #[must_use]
    pub fn render(&self) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self.clone()));
        let mut text = String::with_capacity(16 * 1024);
        // Writing into a string cannot fail.
        let _ = encode(&mut text, &registry);
        text
    }
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, family) in families.iter() {
            let mut metric = encoder.encode_descriptor(name, family.help, None, family.shape.metric_type())?;
            for source in &family.sources {
                source.encode(family.shape, &mut metric)?;
            }
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MetricShape {
    Numbers(MetricKind),
    Histogram,
}

impl MetricShape {
    const fn metric_type(self) -> MetricType {
        match self {
            Self::Numbers(MetricKind::Counter) => MetricType::Counter,
            Self::Numbers(MetricKind::Gauge) => MetricType::Gauge,
            Self::Histogram => MetricType::Histogram,
        }
    }
}

#[derive(Debug)]
struct MetricFamily {
    help: &'static str,
    shape: MetricShape,
    sources: Vec<MetricSource>,
}

enum MetricSource {
    Numbers(Box<dyn Fn() -> Vec<Sample> + Send + Sync>),
    Histogram(Box<dyn Fn() -> HistogramSample + Send + Sync>),
}

impl fmt::Debug for MetricSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MetricSource(..)")
    }
}

impl MetricSource {
    fn encode(&self, shape: MetricShape, metric: &mut MetricEncoder<'_>) -> fmt::Result {
        match self {
            Self::Numbers(read) => {
                for sample in read() {
                    if sample.labels.is_empty() {
                        encode_number(shape, sample.value, metric)?;
                    } else {
                        encode_number(shape, sample.value, &mut metric.encode_family(&sample.labels)?)?;
                    }
                }
                Ok(())
            }
            Self::Histogram(read) => {
                let HistogramSample { sum, buckets } = read();
                let count = buckets.iter().map(|(_, count)| count).sum();
                metric.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
            }
        }
    }
}

fn encode_number(shape: MetricShape, value: u64, metric: &mut MetricEncoder<'_>) -> fmt::Result {
    if shape == MetricShape::Numbers(MetricKind::Counter) {
        metric.encode_counter::<NoLabelSet, u64, u64>(&value, None)
    } else {
        metric.encode_gauge(&value)
    }
}
