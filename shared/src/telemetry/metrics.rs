//! The process's instruments: read as Prometheus text, and pushed to a collector where one is named.

use http::{HeaderValue, StatusCode, header};
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Meter, MeterProvider};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::{MeterProviderBuilder, PeriodicReader, SdkMeterProvider};
use prometheus::{Registry, TextEncoder};
use std::time::Duration;

use super::{Losses, TelemetryError};

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

    /// the answer to a scrape
    pub fn answer(&self, is_enabled: bool) -> http::Response<String> {
        let mut response = http::Response::new(String::new());
        match is_enabled.then(|| self.render()) {
            None => *response.status_mut() = StatusCode::NOT_FOUND,
            Some(Ok(text)) => {
                *response.body_mut() = text;
                response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE_OF_TEXT));
            }
            Some(Err(error)) => {
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
        observe_losses(&catalogue.meter(), &Losses::new(&Exports::default()));

        let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/telemetry.md");
        assert!(catalogue.is_in(&document, "every process"), "docs/telemetry.md is stale");
    }
}
