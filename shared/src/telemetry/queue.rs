//! The bounds between what happens and a collector: how much may wait, and what was lost.
//!
//! The library's batch processors drop beyond their bound without telling how much. Here a place is taken before an item is made,
//! and given back when a batch of them leaves; so the library's queue is never full, and a span that finds no place costs nothing.

use opentelemetry::InstrumentationScope;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::{
    BatchConfigBuilder, BatchLogProcessor, LogBatch, LogExporter, LogProcessor, SdkLogRecord, SdkLoggerProvider,
};
use opentelemetry_sdk::metrics::Temporality;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use super::{Batching, Exports};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    Traces,
    Metrics,
    Logs,
}

impl Signal {
    pub const ALL: [Signal; 3] = [Signal::Traces, Signal::Metrics, Signal::Logs];

    pub const fn as_str(self) -> &'static str {
        match self {
            Signal::Traces => "traces",
            Signal::Metrics => "metrics",
            Signal::Logs => "logs",
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// why an item was lost
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    QueueFull,
    /// the collector was away, slow or did not take it
    NotDelivered,
}

impl Cause {
    pub const fn as_str(self) -> &'static str {
        match self {
            Cause::QueueFull => "queue_full",
            Cause::NotDelivered => "not_delivered",
        }
    }
}

/// one signal's items on their way
#[derive(Debug)]
pub struct Queue {
    signal: Signal,
    is_used: bool,
    waiting: AtomicUsize,
    items_max: usize,
    turned_away: AtomicU64,
    not_delivered: AtomicU64,
    is_failing: AtomicBool,
}

impl Queue {
    fn new(signal: Signal, is_used: bool, items_max: usize) -> Self {
        Queue {
            signal,
            is_used,
            waiting: AtomicUsize::new(0),
            items_max,
            turned_away: AtomicU64::new(0),
            not_delivered: AtomicU64::new(0),
            is_failing: AtomicBool::new(false),
        }
    }

    /// takes a place for one item; without one the item is lost, which is counted
    pub fn enter(&self) -> bool {
        let taken = self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |waiting| {
            (waiting < self.items_max).then_some(waiting + 1)
        });
        if taken.is_err() {
            self.turned_away.fetch_add(1, Ordering::Relaxed);
        }
        taken.is_ok()
    }

    fn leave(&self, items: usize) {
        self.waiting.fetch_sub(items, Ordering::Relaxed);
    }

    /// counts what was lost, and says once that deliveries fail and once that they do not any more
    fn delivered(&self, items: usize, outcome: OTelSdkResult) -> OTelSdkResult {
        match &outcome {
            Ok(()) => {
                if self.is_failing.swap(false, Ordering::Relaxed) {
                    tracing::info!(signal = %self.signal, "telemetry is delivered again");
                }
            }
            Err(error) => {
                self.not_delivered.fetch_add(items as u64, Ordering::Relaxed);
                if !self.is_failing.swap(true, Ordering::Relaxed) {
                    tracing::warn!(signal = %self.signal, %error, "telemetry is not delivered");
                }
            }
        }
        outcome
    }
}

/// the three queues of a process
#[derive(Clone, Debug)]
pub struct Losses([Arc<Queue>; 3]);

impl Losses {
    pub fn new(exports: &Exports) -> Self {
        let queue = |signal| {
            let (used, items_max) = match signal {
                Signal::Traces => (exports.traces.is_some(), exports.span_batching.queue_items_max),
                Signal::Metrics => (exports.metrics.is_some(), 1),
                Signal::Logs => (exports.logs.is_some(), exports.log_batching.queue_items_max),
            };
            Arc::new(Queue::new(signal, used, items_max))
        };
        Losses(Signal::ALL.map(queue))
    }

    pub(super) fn of(&self, signal: Signal) -> Arc<Queue> {
        self.0[signal as usize].clone()
    }

    /// how much each signal in use has lost, by cause
    pub(super) fn all(&self) -> impl Iterator<Item = (Signal, Cause, u64)> {
        self.0.iter().filter(|queue| queue.is_used).flat_map(|queue| {
            let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            [
                (queue.signal, Cause::QueueFull, count(&queue.turned_away)),
                (queue.signal, Cause::NotDelivered, count(&queue.not_delivered)),
            ]
        })
    }
}

/// an exporter whose outcomes are counted
#[derive(Debug)]
pub struct Counted<E> {
    exporter: E,
    queue: Arc<Queue>,
}

impl<E> Counted<E> {
    pub fn new(exporter: E, queue: Arc<Queue>) -> Self {
        Counted { exporter, queue }
    }
}

pub fn counted<E: PushMetricExporter>(exporter: E, losses: &Losses) -> Counted<E> {
    Counted::new(exporter, losses.of(Signal::Metrics))
}

impl<E: SpanExporter> SpanExporter for Counted<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let items = batch.len();
        self.queue.leave(items);
        self.queue.delivered(items, self.exporter.export(batch).await)
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

impl<E: LogExporter> LogExporter for Counted<E> {
    async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
        let items = batch.iter().count();
        self.queue.leave(items);
        self.queue.delivered(items, self.exporter.export(batch).await)
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

impl<E: PushMetricExporter> PushMetricExporter for Counted<E> {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        self.queue.delivered(1, self.exporter.export(metrics).await)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.exporter.temporality()
    }
}

/// the library's batches of log records, behind the queue's bound
#[derive(Debug)]
struct BoundedLogs {
    batches: BatchLogProcessor,
    queue: Arc<Queue>,
}

impl LogProcessor for BoundedLogs {
    fn emit(&self, record: &mut SdkLogRecord, scope: &InstrumentationScope) {
        if self.queue.enter() {
            self.batches.emit(record, scope);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.batches.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.batches.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.batches.set_resource(resource);
    }
}

pub fn log_provider(
    exporter: impl LogExporter + 'static,
    resource: &Resource,
    batching: Batching,
    losses: &Losses,
) -> SdkLoggerProvider {
    let queue = losses.of(Signal::Logs);
    let config = BatchConfigBuilder::default()
        .with_max_queue_size(batching.queue_items_max)
        .with_max_export_batch_size(batching.batch_items_max)
        .with_scheduled_delay(batching.delay)
        .build();
    let batches = BatchLogProcessor::builder(Counted::new(exporter, queue.clone())).with_batch_config(config).build();
    SdkLoggerProvider::builder()
        .with_resource(resource.clone())
        .with_log_processor(BoundedLogs { batches, queue })
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_sdk::error::OTelSdkError;

    fn queue(items_max: usize) -> Queue {
        Queue::new(Signal::Traces, true, items_max)
    }

    #[test]
    fn beyond_its_bound_items_are_turned_away_and_counted_until_some_have_left() {
        let queue = queue(2);
        assert_eq!([queue.enter(), queue.enter(), queue.enter()], [true, true, false]);
        queue.leave(2);
        assert!(queue.enter());
        assert_eq!(queue.turned_away.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn what_is_not_delivered_is_counted_and_ends_with_a_delivery() {
        let queue = queue(2);
        assert!(queue.delivered(3, Err(OTelSdkError::InternalFailure("away".into()))).is_err());
        assert!(queue.is_failing.load(Ordering::Relaxed));
        assert!(queue.delivered(2, Ok(())).is_ok());
        assert!(!queue.is_failing.load(Ordering::Relaxed));
        assert_eq!(queue.not_delivered.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn signals_stand_in_the_order_of_their_numbers() {
        let losses = Losses::new(&Exports::default());
        for signal in Signal::ALL {
            assert_eq!(losses.of(signal).signal, signal);
        }
        assert_eq!(losses.all().count(), 0, "none is in use");
    }
}
