//! Where telemetry goes and how much of it, as typed values. Whoever reads the environment makes them; this crate does not.

use http::{HeaderName, HeaderValue};
use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::Temporality;
use opentelemetry_sdk::resource::{ResourceDetector, TelemetryResourceDetector};
use opentelemetry_sdk::trace::Sampler;
use std::time::Duration;
use url::Url;

/// the most spans or log records that a setting may let wait
pub const QUEUE_ITEMS_MAX: usize = 65_536;
/// the most of them in one export
pub const BATCH_ITEMS_MAX: usize = 8192;

/// what speaks: the attributes of everything that is exported
#[derive(Clone, Debug, Default)]
pub struct Source {
    pub service_name: String,
    pub version: &'static str,
    pub instance: String,
    pub role: &'static str,
    pub environment: &'static str,
    /// what the operator adds; it goes before everything but the name
    pub attributes: Vec<(String, String)>,
}

impl Source {
    pub(super) fn resource(&self) -> Resource {
        let own = [
            KeyValue::new("service.version", self.version),
            KeyValue::new("service.instance.id", self.instance.clone()),
            KeyValue::new("deployment.environment.name", self.environment),
            KeyValue::new("picket.role", self.role),
        ];
        let added = self.attributes.iter().map(|(name, value)| KeyValue::new(name.clone(), value.clone()));
        let sdk = TelemetryResourceDetector.detect();
        let sdk = sdk.iter().map(|(name, value)| KeyValue::new(name.clone(), value.clone()));
        Resource::builder_empty()
            .with_attributes(sdk.chain(own).chain(added))
            .with_service_name(self.service_name.clone())
            .build()
    }
}

/// where the signals go; one that has no target is not exported
#[derive(Clone, Debug, PartialEq)]
pub struct Exports {
    pub traces: Option<Target>,
    pub metrics: Option<Target>,
    pub logs: Option<Target>,
    pub sampling: Sampling,
    pub span_batching: Batching,
    pub log_batching: Batching,
    pub metric_interval: Duration,
    /// what pushed counters count from: the start, or the push before
    pub temporality: Temporality,
}

impl Default for Exports {
    /// the specification's numbers
    fn default() -> Self {
        let batching =
            |delay_ms| Batching { queue_items_max: 2048, batch_items_max: 512, delay: Duration::from_millis(delay_ms) };
        Exports {
            traces: None,
            metrics: None,
            logs: None,
            sampling: Sampling::default(),
            span_batching: batching(5000),
            log_batching: batching(1000),
            metric_interval: Duration::from_secs(60),
            temporality: Temporality::Cumulative,
        }
    }
}

/// a collector, as one signal reaches it
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// over HTTP with the signal's path
    pub endpoint: Url,
    pub protocol: Protocol,
    /// marked as sensitive, so that none is ever printed
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// for one export with its repetitions
    pub timeout: Duration,
    pub gzip: bool,
    /// certificates in PEM of the only authorities that vouch for the collector; `None`: the system's
    pub authorities: Option<Vec<u8>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Grpc,
    HttpProtobuf,
}

/// how many items wait, and how they leave
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batching {
    pub queue_items_max: usize,
    pub batch_items_max: usize,
    pub delay: Duration,
}

/// which connections are traced; refusals are recorded in any case
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    pub root: Root,
    /// a client's own decision goes before
    pub follows_parent: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Root {
    All,
    None,
    /// of traces, by their id
    Ratio(f64),
}

impl Default for Sampling {
    fn default() -> Self {
        Sampling { root: Root::All, follows_parent: true }
    }
}

impl Sampling {
    pub(super) fn sampler(self) -> Sampler {
        let root = match self.root {
            Root::All => Sampler::AlwaysOn,
            Root::None => Sampler::AlwaysOff,
            Root::Ratio(share) => Sampler::TraceIdRatioBased(share),
        };
        if self.follows_parent { Sampler::ParentBased(Box::new(root)) } else { root }
    }
}
