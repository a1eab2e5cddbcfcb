//! The log: lines on standard error, and the same events to a collector where one is named.

use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing_subscriber::filter::{EnvFilter, FilterExt, filter_fn};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::Registry;
use tracing_subscriber::util::SubscriberInitExt;

use super::{Log, TelemetryError};

/// only Picket's own words go to a collector: what the exporters' libraries say of an export would be exported in turn, without end
const OWN_TARGETS: &str = "picket";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    #[default]
    Json,
    Text,
}

pub fn start(log: Log<'_>, provider: Option<&SdkLoggerProvider>) -> Result<(), TelemetryError> {
    let exported = match provider {
        Some(provider) => {
            let own = filter_fn(|event| event.target().starts_with(OWN_TARGETS));
            Some(OpenTelemetryTracingBridge::new(provider).with_filter(own.and(EnvFilter::try_new(log.filter)?)))
        }
        None => None,
    };
    let written = lines(log.format).with_filter(EnvFilter::try_new(log.filter)?);
    tracing_subscriber::registry().with(written).with(exported).init();
    log_panics();
    Ok(())
}

fn lines(format: LogFormat) -> Box<dyn Layer<Registry> + Send + Sync> {
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    match format {
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed(),
        LogFormat::Text => lines.boxed(),
    }
}

/// has panics logged as one JSON line without their message, which could hold a client's words (R06)
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "panic");
    }));
}
