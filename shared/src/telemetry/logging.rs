//! The log: lines on standard error, and the same events to a collector where one is named.

use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing::Subscriber;
use tracing_subscriber::filter::{EnvFilter, FilterExt, LevelFilter, filter_fn};
use tracing_subscriber::layer::{Filter, Layer, SubscriberExt};
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
    subscriber(log, provider)?.init();
    log_panics();
    Ok(())
}

fn subscriber(log: Log<'_>, provider: Option<&SdkLoggerProvider>) -> Result<impl Subscriber, TelemetryError> {
    let exported = match provider {
        Some(provider) => Some(OpenTelemetryTracingBridge::new(provider).with_filter(own_words(log.filter)?)),
        None => None,
    };
    let written = lines(log.format).with_filter(EnvFilter::try_new(log.filter)?);
    Ok(tracing_subscriber::registry().with(written).with(exported))
}

/// what the log shows of Picket itself
fn own_words<S>(filter: &str) -> Result<impl Filter<S> + use<S>, TelemetryError> {
    let shown = EnvFilter::try_new(filter)?;
    let own = filter_fn(|event| event.target().starts_with(OWN_TARGETS));
    // Without the hint no level counts as off, and all that the libraries below trace of each message is looked at.
    let own = own.with_max_level_hint(shown.max_level_hint().unwrap_or(LevelFilter::TRACE));
    Ok(own.and(shown))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_that_the_log_does_not_show_stay_off_for_every_library() {
        let provider = SdkLoggerProvider::builder().build();
        for (filter, level) in [("info", LevelFilter::INFO), ("info,picket_node=debug", LevelFilter::DEBUG)] {
            for provider in [None, Some(&provider)] {
                let subscriber = subscriber(Log { format: LogFormat::Json, filter }, provider).unwrap();
                assert_eq!(subscriber.max_level_hint(), Some(level), "{filter}");
            }
        }
    }
}
