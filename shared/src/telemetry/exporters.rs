//! The library's exporters for a target, over gRPC or HTTP.
//!
//! They get everything as arguments, and would otherwise ask the environment themselves.

use http::HeaderMap;
use opentelemetry_otlp::tonic_types::metadata::MetadataMap;
use opentelemetry_otlp::{
    Compression, ExporterBuildError, LogExporter, MetricExporter, SpanExporter, WithExportConfig, WithHttpConfig,
    WithTonicConfig,
};
use std::collections::HashMap;
use tokio::runtime::Handle;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

use super::post::Post;
use super::{Protocol, Signal, Target, TelemetryError, Temporality};
use crate::tasks::Tasks;

/// the same for each signal: the builders have no common type
macro_rules! exporter {
    ($signal:expr, $builder:expr, $target:expr, $tasks:expr) => {{
        let target: &Target = $target;
        let failed = |message: String| TelemetryError::Export { signal: $signal, message };
        let built: Result<_, ExporterBuildError> = match target.protocol {
            Protocol::Grpc => {
                let builder = $builder.with_tonic().with_timeout(target.timeout);
                let builder = builder.with_channel(channel(target).map_err(failed)?).with_metadata(metadata(target));
                if target.gzip { builder.with_compression(Compression::Gzip).build() } else { builder.build() }
            }
            Protocol::HttpProtobuf => {
                let builder = $builder.with_http().with_timeout(target.timeout);
                let builder = builder
                    .with_protocol(opentelemetry_otlp::Protocol::HttpBinary)
                    .with_endpoint(target.endpoint.as_str())
                    .with_headers(headers(target))
                    .with_http_client(Post::new(target, Handle::current(), $tasks).map_err(failed)?);
                if target.gzip { builder.with_compression(Compression::Gzip).build() } else { builder.build() }
            }
        };
        built.map_err(|error| failed(error.to_string()))
    }};
}

pub fn spans(target: &Target, tasks: &Tasks) -> Result<SpanExporter, TelemetryError> {
    exporter!(Signal::Traces, SpanExporter::builder(), target, tasks)
}

pub fn metrics(target: &Target, temporality: Temporality, tasks: &Tasks) -> Result<MetricExporter, TelemetryError> {
    exporter!(Signal::Metrics, MetricExporter::builder().with_temporality(temporality), target, tasks)
}

pub fn logs(target: &Target, tasks: &Tasks) -> Result<LogExporter, TelemetryError> {
    exporter!(Signal::Logs, LogExporter::builder(), target, tasks)
}

/// connects when something is first sent; the library's own channel would wait for a connection without end
fn channel(target: &Target) -> Result<Channel, String> {
    let describe = |error: tonic::transport::Error| error.to_string();
    let endpoint = Endpoint::from_shared(target.endpoint.as_str().to_owned()).map_err(describe)?;
    let endpoint = endpoint.connect_timeout(target.timeout).timeout(target.timeout);
    let endpoint = match target.endpoint.scheme() {
        "https" => endpoint.tls_config(tls(target)).map_err(describe)?,
        _ => endpoint,
    };
    Ok(endpoint.connect_lazy())
}

fn tls(target: &Target) -> ClientTlsConfig {
    match &target.authorities {
        Some(authorities) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authorities)),
        None => ClientTlsConfig::new().with_native_roots(),
    }
}

fn metadata(target: &Target) -> MetadataMap {
    MetadataMap::from_headers(target.headers.iter().cloned().collect::<HeaderMap>())
}

fn headers(target: &Target) -> HashMap<String, String> {
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    target.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
}
