//! The process's instruments: read as text of Prometheus or OpenMetrics, and pushed to a collector where one is named.

use http::{HeaderMap, HeaderValue, StatusCode, header};
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram, Meter, MeterProvider};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::{MeterProviderBuilder, PeriodicReader, SdkMeterProvider};
use prometheus::{Registry, TextEncoder};
use std::time::Duration;

use super::{Exemplars, Losses, TelemetryError, logging, openmetrics};

/// the content type of the Prometheus text format
const CONTENT_TYPE_OF_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    provider: SdkMeterProvider,
}

impl Metrics {
    /// read where it is asked for, and nothing more
    pub fn start(service_name: &str) -> Result<Self, TelemetryError> {
        Self::of(Resource::builder_empty().with_service_name(service_name.to_owned()).build())
    }

    pub(super) fn of(resource: Resource) -> Result<Self, TelemetryError> {
        Self::built(SdkMeterProvider::builder().with_resource(resource))
    }

    pub(super) fn also_pushed(
        resource: Resource,
        exporter: impl PushMetricExporter,
        interval: Duration,
    ) -> Result<Self, TelemetryError> {
        let reader = PeriodicReader::builder(exporter).with_interval(interval).build();
        Self::built(SdkMeterProvider::builder().with_resource(resource).with_reader(reader))
    }

    fn built(provider: MeterProviderBuilder) -> Result<Self, TelemetryError> {
        let registry = Registry::new();
        let exporter = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .build()
            .map_err(|error| TelemetryError::Metrics(error.to_string()))?;
        Ok(Metrics { registry, provider: provider.with_reader(exporter).build() })
    }

    pub fn meter(&self, name: &'static str) -> Meter {
        self.provider.meter(name)
    }

    /// the answer to a scrape: as OpenMetrics with exemplars where that is asked for, else as Prometheus's text
    pub fn answer(&self, is_enabled: bool, asked: &HeaderMap, exemplars: &Exemplars) -> http::Response<String> {
        let mut response = http::Response::new(String::new());
        if !is_enabled {
            *response.status_mut() = StatusCode::NOT_FOUND;
            return response;
        }
        let (content_type, rendered) = if openmetrics::is_preferred(asked) {
            (openmetrics::CONTENT_TYPE, Ok(openmetrics::encode(&self.registry.gather(), exemplars)))
        } else {
            (CONTENT_TYPE_OF_TEXT, self.render())
        };
        match rendered {
            Ok(text) => {
                *response.body_mut() = text;
                let headers = response.headers_mut();
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
                headers.insert(header::VARY, HeaderValue::from_static("accept"));
            }
            Err(error) => {
                tracing::error!(%error, "metrics cannot be rendered");
                *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            }
        }
        response
    }

    /// everything in the Prometheus text format
    pub fn render(&self) -> Result<String, TelemetryError> {
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .map_err(|error| TelemetryError::Metrics(error.to_string()))
    }

    /// pushes once more
    pub(super) fn stop(&self, patience: Duration) -> OTelSdkResult {
        self.provider.shutdown_with_timeout(patience)
    }
}

/// boundaries of histograms of what is quick
pub const DECISION_SECONDS: [f64; 16] =
    [0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0];
const PROPAGATION_SECONDS: [f64; 13] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// how long blocks take to be in force in this process
#[derive(Clone)]
pub struct BlockPropagation(Histogram<f64>);

impl BlockPropagation {
    pub fn new(meter: &Meter) -> Self {
        let histogram = meter
            .f64_histogram("picket.block.propagation")
            .with_description(
                "From a block's making to its being in force in this process; what was loaded at a start is left out.",
            )
            .with_unit("s")
            .with_boundaries(PROPAGATION_SECONDS.to_vec());
        BlockPropagation(histogram.build())
    }

    pub fn took(&self, time: Duration) {
        self.0.record(time.as_secs_f64(), &[]);
    }
}

/// how long calls to the shared state take, as this process sees them
#[derive(Clone, Debug)]
pub struct StateCalls(Histogram<f64>);

/// how a call to the shared state ended
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallOutcome {
    Answered,
    TimedOut,
    Failed,
}

impl CallOutcome {
    const fn as_str(self) -> &'static str {
        match self {
            CallOutcome::Answered => "answered",
            CallOutcome::TimedOut => "timed_out",
            CallOutcome::Failed => "failed",
        }
    }
}

impl StateCalls {
    pub fn new(meter: &Meter) -> Self {
        let histogram = meter
            .f64_histogram("picket.state.call.duration")
            .with_description(
                "Calls to the shared state, by lane and outcome; those that an open circuit spares are none.",
            )
            .with_unit("s")
            .with_boundaries(DECISION_SECONDS.to_vec());
        StateCalls(histogram.build())
    }

    pub fn ended(&self, lane: &'static str, outcome: CallOutcome, took: Duration) {
        let labels = [KeyValue::new("picket.lane", lane), KeyValue::new("picket.outcome", outcome.as_str())];
        self.0.record(took.as_secs_f64(), &labels);
    }
}

/// how often a listener could not accept a socket
pub fn accept_failures(meter: &Meter) -> Counter<u64> {
    meter
        .u64_counter("picket.accept.failures")
        .with_description("Times that a listener could not accept a socket, for lack of file descriptors for instance.")
        .with_unit("{failure}")
        .build()
}

/// what of the telemetry itself was lost
pub fn observe_losses(meter: &Meter, losses: &Losses) {
    let losses = losses.clone();
    meter
        .u64_observable_counter("picket.telemetry.dropped")
        .with_description(
            "Spans, log records and pushes of metrics that did not reach a collector, by signal and cause.",
        )
        .with_unit("{item}")
        .with_callback(move |observer| {
            for (signal, cause, lost) in losses.all() {
                let labels =
                    [KeyValue::new("picket.signal", signal.as_str()), KeyValue::new("picket.cause", cause.as_str())];
                observer.observe(lost, &labels);
            }
        })
        .build();
    meter
        .u64_observable_counter("picket.log.lines.lost")
        .with_description(
            "Lines of the log that standard error did not take, because a disk is full or nobody reads it.",
        )
        .with_unit("{line}")
        .with_callback(|observer| observer.observe(logging::lines_lost(), &[]))
        .build();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Exports;
    use crate::telemetry::catalogue::Catalogue;
    use std::path::Path;

    #[test]
    fn metrics_are_documented() {
        let catalogue = Catalogue::default();
        accept_failures(&catalogue.meter());
        BlockPropagation::new(&catalogue.meter());
        StateCalls::new(&catalogue.meter());
        observe_losses(&catalogue.meter(), &Losses::new(&Exports::default()));

        let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/telemetry.md");
        assert!(catalogue.is_in(&document, "every process"), "docs/telemetry.md is stale");
        let sources = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src"));
        assert_eq!(catalogue.misses(sources), Vec::<String>::new(), "instruments that this test does not make");
    }
}
