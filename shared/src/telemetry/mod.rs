//! Logs to standard error, metrics as Prometheus text; and where a collector is named, both and traces to it by OTLP.
//!
//! Nothing here makes a request wait: what a collector does not take in time waits in a bounded queue, and beyond that is dropped
//! and counted (`queue.rs`). The exporters run on threads of their own.

#[cfg(any(test, feature = "catalogue"))]
pub mod catalogue;
mod exemplars;
mod exporters;
mod logging;
mod metrics;
mod openmetrics;
mod post;
mod queue;
mod settings;
mod tracer;

pub use exemplars::{Exemplars, Recorded};
pub use logging::LogFormat;
pub use metrics::{
    BlockPropagation, CallOutcome, DECISION_SECONDS, Metrics, StateCalls, accept_failures, observe_losses,
};
pub use queue::{Losses, Signal};
pub use settings::{BATCH_ITEMS_MAX, Batching, Exports, Protocol, QUEUE_ITEMS_MAX, Root, Sampling, Source, Target};
pub use tracer::{ALLOWED_EVENT_SPANS_PER_SECOND_MAX, Description, Keep, Level, Trace, Tracer};

pub use opentelemetry_sdk::metrics::Temporality;

use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use std::sync::Arc;
use std::time::Duration;

use crate::tasks::Tasks;

#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("the log filter is not valid: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    #[error("metrics cannot be set up: {0}")]
    Metrics(String),
    #[error("{signal} cannot be exported: {message}")]
    Export { signal: Signal, message: String },
}

/// how the log is written
#[derive(Clone, Copy, Debug)]
pub struct Log<'a> {
    pub format: LogFormat,
    /// as in `info,picket_node=debug`
    pub filter: &'a str,
}

/// all that a process says of itself
pub struct Telemetry {
    pub metrics: Metrics,
    /// `None` where traces go nowhere
    pub tracer: Option<Arc<Tracer>>,
    logs: Option<SdkLoggerProvider>,
}

impl Telemetry {
    /// starts logging and the exporters; once per process, inside a runtime, which carries the exporters' connections
    pub fn start(source: &Source, exports: &Exports, log: Log<'_>, tasks: &Tasks) -> Result<Self, TelemetryError> {
        let (resource, losses) = (source.resource(), Losses::new(exports));
        let logs = match &exports.logs {
            Some(target) => {
                let exporter = exporters::logs(target, tasks)?;
                Some(queue::log_provider(exporter, &resource, exports.log_batching, &losses))
            }
            None => None,
        };
        logging::start(log, logs.as_ref())?;
        let metrics = match &exports.metrics {
            Some(target) => {
                let exporter = exporters::metrics(target, exports.temporality, tasks)?;
                Metrics::also_pushed(resource.clone(), queue::counted(exporter, &losses), exports.metric_interval)?
            }
            None => Metrics::of(resource.clone())?,
        };
        let tracer = match &exports.traces {
            Some(target) => {
                let exporter = exporters::spans(target, tasks)?;
                Some(Arc::new(Tracer::new(exporter, &resource, exports, &losses)))
            }
            None => None,
        };
        observe_losses(&metrics.meter("picket"), &losses);
        Ok(Telemetry { metrics, tracer, logs })
    }

    /// delivers what waits, at most for `patience`; says whether all was delivered
    pub async fn stop(self, patience: Duration) -> bool {
        let Telemetry { metrics, tracer, logs } = self;
        let traces = flush("traces", move || tracer.map_or(Ok(()), |tracer| tracer.stop(patience)));
        let metrics = flush("metrics", move || metrics.stop(patience));
        let logs = flush("logs", move || logs.map_or(Ok(()), |logs| logs.shutdown_with_timeout(patience)));
        let all = async { tokio::join!(traces, metrics, logs) };
        tokio::time::timeout(patience, all).await.is_ok_and(|flushed| flushed == (true, true, true))
    }
}

/// on a thread that the process does not wait for when it ends: the library's own patience is not always ours
async fn flush(name: &str, stop: impl FnOnce() -> OTelSdkResult + Send + 'static) -> bool {
    let (done, outcome) = tokio::sync::oneshot::channel();
    let thread = std::thread::Builder::new().name(name.to_owned());
    let started = thread.spawn(move || done.send(stop().is_ok()).ok());
    started.is_ok() && outcome.await.unwrap_or(false)
}
