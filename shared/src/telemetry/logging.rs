//! The log: lines on standard error, and the same events to a collector where one is named.

use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
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
    let lines = tracing_subscriber::fmt::layer().with_writer(|| Lines(std::io::stderr()));
    match format {
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed(),
        LogFormat::Text => lines.boxed(),
    }
}

/// lines that were not taken
static LOST: AtomicU64 = AtomicU64::new(0);

/// how many lines of the log are lost
pub(super) fn lines_lost() -> u64 {
    LOST.load(Ordering::Relaxed)
}

/// Takes whole lines. One that cannot be written, because the disk is full or nobody reads any more, is lost and counted: the library
/// loses it without a word.
struct Lines<W>(W);

impl<W: Write> Write for Lines<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.0.write_all(line).is_err() {
            LOST.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
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
    fn x33_a_line_that_is_not_taken_is_lost_and_counted() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let before = lines_lost();
        Lines(Full).write_all(b"a line\n").unwrap();
        assert!(lines_lost() > before);
        let mut taken = Vec::new();
        Lines(&mut taken).write_all(b"a line\n").unwrap();
        assert_eq!(taken, b"a line\n");
    }

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
