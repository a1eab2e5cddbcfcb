//! Traces: a connection joins its client's, and what is worth it becomes a span once it is over.
//!
//! Spans are made after the fact, of a start that somebody kept and the present as their end. So a refusal can be recorded that
//! nobody would have sampled, and an event that passed unsampled costs nothing.

use http::HeaderMap;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags};
use opentelemetry::{Context, InstrumentationScope, KeyValue};
use opentelemetry_http::HeaderExtractor;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, IdGenerator, RandomIdGenerator, Sampler, SamplingDecision, ShouldSample,
    SpanData, SpanEvents, SpanExporter, SpanLinks, SpanProcessor,
};
use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::queue::{Counted, Queue};
use super::{Exports, Losses, Recorded, Signal};
use crate::clock::wall;

/// spans of events that passed, of all sampled connections together: a chat that is busy costs no more than this
pub const ALLOWED_EVENT_SPANS_PER_SECOND_MAX: u64 = 100;

/// of a client's `tracestate`; a longer one is left out, as W3C Trace Context allows
pub const TRACESTATE_BYTES_MAX: usize = 512;

/// a connection's place in a trace
#[derive(Clone, Debug)]
pub struct Trace {
    own: SpanContext,
    /// the client's span
    parent: Option<SpanId>,
    /// when the upgrade was asked for; `None` once the connection is open
    asked: Option<SystemTime>,
}

impl Trace {
    /// of a connection that was just opened: what follows begins when it happens
    pub fn opened(self) -> Self {
        Trace { asked: None, ..self }
    }

    /// when a decision began whose case is opened now
    pub fn begun(&self) -> SystemTime {
        self.asked.unwrap_or_else(wall)
    }

    pub fn is_sampled(&self) -> bool {
        self.own.is_sampled()
    }

    /// what the upstream is told: the same trace, with the connection's span as its parent
    pub fn traceparent(&self) -> String {
        let flags = self.own.trace_flags().to_u8() & TraceFlags::SAMPLED.to_u8();
        format!("00-{}-{}-{flags:02x}", self.own.trace_id(), self.own.span_id())
    }

    /// what the client told of other systems, passed on as it is; empty where there is nothing
    pub fn tracestate(&self) -> String {
        self.own.trace_state().header()
    }
}

/// whether a span is worth recording
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// a refusal
    Always,
    /// with the rest of its trace
    IfSampled,
    /// as before, and not more than [`ALLOWED_EVENT_SPANS_PER_SECOND_MAX`]
    IfSampledAndPaced,
}

/// which span of a connection
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// the connection's own: the upgrade and its answer
    Connection,
    /// one decision in it
    Decision,
}

/// a span that ends at the moment it is recorded
#[derive(Debug)]
pub struct Description {
    pub level: Level,
    pub name: Cow<'static, str>,
    pub started: SystemTime,
    pub attributes: Vec<KeyValue>,
    pub status: Status,
}

#[derive(Debug)]
pub struct Tracer {
    batches: BatchSpanProcessor,
    queue: Arc<Queue>,
    sampler: Sampler,
    ids: RandomIdGenerator,
    propagator: TraceContextPropagator,
    scope: InstrumentationScope,
    pace: Pace,
}

impl Tracer {
    pub(super) fn new<E>(exporter: E, resource: &Resource, exports: &Exports, losses: &Losses) -> Self
    where
        E: SpanExporter + 'static,
    {
        let (batching, queue) = (exports.span_batching, losses.of(Signal::Traces));
        let config = BatchConfigBuilder::default()
            .with_max_queue_size(batching.queue_items_max)
            .with_max_export_batch_size(batching.batch_items_max)
            .with_scheduled_delay(batching.delay)
            .build();
        let mut batches = BatchSpanProcessor::new(Counted::new(exporter, queue.clone()), config);
        batches.set_resource(resource);
        Tracer {
            batches,
            queue,
            sampler: exports.sampling.sampler(),
            ids: RandomIdGenerator::default(),
            propagator: TraceContextPropagator::new(),
            scope: InstrumentationScope::builder("picket").with_version(env!("CARGO_PKG_VERSION")).build(),
            pace: Pace::default(),
        }
    }

    /// the place in the client's trace, or in a new one where it told of none (or of none that is well-formed)
    pub fn join(&self, headers: &HeaderMap) -> Trace {
        let nothing = Context::new();
        let client = match headers.get_all("traceparent").iter().count() {
            1 => self.propagator.extract_with_context(&nothing, &HeaderExtractor(headers)),
            _ => nothing,
        };
        let span = client.span();
        let parent = Some(span.span_context()).filter(|context| context.is_valid());
        let trace_id = parent.map_or_else(|| self.ids.new_trace_id(), SpanContext::trace_id);
        let verdict = self.sampler.should_sample(Some(&client), trace_id, "", &SpanKind::Server, &[], &[]);
        let flags = match verdict.decision {
            SamplingDecision::RecordAndSample => TraceFlags::SAMPLED,
            SamplingDecision::RecordOnly | SamplingDecision::Drop => TraceFlags::default(),
        };
        let state = parent.map(SpanContext::trace_state).filter(|state| state.header().len() <= TRACESTATE_BYTES_MAX);
        Trace {
            own: SpanContext::new(trace_id, self.ids.new_span_id(), flags, false, state.cloned().unwrap_or_default()),
            parent: parent.map(SpanContext::span_id),
            asked: Some(wall()),
        }
    }

    /// records a span that ends here, if it is worth it and finds a place, and says which; it is described only then
    pub fn record(&self, trace: &Trace, keep: Keep, describe: impl FnOnce() -> Description) -> Option<Recorded> {
        let is_wanted = match keep {
            Keep::Always => true,
            Keep::IfSampled => trace.is_sampled(),
            Keep::IfSampledAndPaced => trace.is_sampled() && self.pace.allows(wall()),
        };
        if !is_wanted || !self.queue.enter() {
            return None;
        }
        let span = self.span(trace, describe());
        let (context, at) = (&span.span_context, span.end_time);
        let recorded = Recorded { trace_id: context.trace_id(), span_id: context.span_id(), at };
        self.batches.on_end(span);
        Some(recorded)
    }

    fn span(&self, trace: &Trace, description: Description) -> SpanData {
        let (id, parent, kind) = match description.level {
            Level::Connection => (trace.own.span_id(), trace.parent, SpanKind::Server),
            Level::Decision => (self.ids.new_span_id(), Some(trace.own.span_id()), SpanKind::Internal),
        };
        // What is recorded is exported, whatever was sampled.
        let (flags, state) = (TraceFlags::SAMPLED, trace.own.trace_state().clone());
        SpanData {
            span_context: SpanContext::new(trace.own.trace_id(), id, flags, false, state),
            parent_span_id: parent.unwrap_or(SpanId::INVALID),
            parent_span_is_remote: description.level == Level::Connection && parent.is_some(),
            span_kind: kind,
            name: description.name,
            start_time: description.started,
            end_time: wall().max(description.started),
            attributes: description.attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: description.status,
            instrumentation_scope: self.scope.clone(),
        }
    }

    pub(super) fn stop(&self, patience: Duration) -> OTelSdkResult {
        self.batches.shutdown_with_timeout(patience)
    }
}

/// so many a second; two threads at the turn of a second may let one more pass
#[derive(Debug, Default)]
struct Pace {
    second: AtomicU64,
    taken: AtomicU64,
}

impl Pace {
    fn allows(&self, now: SystemTime) -> bool {
        let second = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        if self.second.swap(second, Ordering::Relaxed) != second {
            self.taken.store(0, Ordering::Relaxed);
        }
        self.taken.fetch_add(1, Ordering::Relaxed) < ALLOWED_EVENT_SPANS_PER_SECOND_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{Root, Sampling, Source};
    use parking_lot::Mutex;

    const CLIENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const CLIENT_UNSAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

    #[derive(Clone, Debug, Default)]
    struct Received(Arc<Mutex<Vec<SpanData>>>);

    impl SpanExporter for Received {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            self.0.lock().extend(batch);
            Ok(())
        }
    }

    fn tracer(sampling: Sampling, queue_items_max: usize) -> (Tracer, Received, Losses) {
        let mut exports = Exports { sampling, ..Exports::default() };
        exports.span_batching.queue_items_max = queue_items_max;
        let (received, losses) = (Received::default(), Losses::new(&exports));
        (Tracer::new(received.clone(), &Source::default().resource(), &exports, &losses), received, losses)
    }

    fn joined(sampling: Sampling, traceparent: &[&str]) -> Trace {
        let mut headers = HeaderMap::new();
        for line in traceparent {
            headers.append("traceparent", line.parse().unwrap());
        }
        headers.insert("tracestate", "vendor=1".parse().unwrap());
        tracer(sampling, 16).0.join(&headers)
    }

    fn description(name: &'static str) -> Description {
        Description {
            level: Level::Decision,
            name: name.into(),
            started: wall(),
            attributes: Vec::new(),
            status: Status::Unset,
        }
    }

    #[test]
    fn a_connection_joins_its_clients_trace_and_passes_on_a_span_of_its_own() {
        let trace = joined(Sampling::default(), &[CLIENT]);
        let told = trace.traceparent();
        assert!(told.starts_with("00-0af7651916cd43dd8448eb211c80319c-") && told.ends_with("-01"), "{told}");
        assert!(!told.contains("b7ad6b7169203331"), "the upstream's parent is the node: {told}");
        assert_eq!(trace.tracestate(), "vendor=1");
    }

    #[test]
    fn what_is_not_well_formed_begins_a_new_trace_without_its_state() {
        for bad in ["", "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", "00-zz-b7ad6b7169203331-01"] {
            let trace = joined(Sampling::default(), &[bad]);
            assert!(trace.parent.is_none() && trace.tracestate().is_empty(), "{bad}");
            assert!(!trace.traceparent().contains("0af7651916cd43dd8448eb211c80319c"), "{bad}");
        }
        assert!(joined(Sampling::default(), &[CLIENT, CLIENT_UNSAMPLED]).parent.is_none(), "two are none");
    }

    #[test]
    fn a_client_cannot_make_the_queue_heavy_with_its_state() {
        let mut headers = HeaderMap::new();
        headers.insert("traceparent", CLIENT.parse().unwrap());
        headers.insert("tracestate", format!("vendor={}", "x".repeat(250)).parse().unwrap());
        let (tracer, ..) = tracer(Sampling::default(), 16);
        assert_eq!(tracer.join(&headers).tracestate().len(), 257);
        headers.insert(
            "tracestate",
            ["a", "b", "c"].map(|key| format!("{key}={}", "x".repeat(250))).join(",").parse().unwrap(),
        );
        let trace = tracer.join(&headers);
        assert!(trace.parent.is_some() && trace.tracestate().is_empty());
    }

    #[test]
    fn the_clients_decision_counts_where_the_sampler_follows_it_and_the_ratio_elsewhere() {
        let follow = |root| Sampling { root, follows_parent: true };
        let ignore = |root| Sampling { root, follows_parent: false };
        assert!(joined(follow(Root::None), &[CLIENT]).is_sampled());
        assert!(!joined(follow(Root::All), &[CLIENT_UNSAMPLED]).is_sampled());
        assert!(joined(follow(Root::All), &[]).is_sampled() && !joined(follow(Root::None), &[]).is_sampled());
        assert!(joined(ignore(Root::All), &[CLIENT_UNSAMPLED]).is_sampled());
        assert!(!joined(ignore(Root::Ratio(0.0)), &[CLIENT]).is_sampled());
        assert!(joined(ignore(Root::Ratio(1.0)), &[]).is_sampled());
    }

    #[test]
    fn a_refusal_is_recorded_whatever_was_sampled_and_nothing_else_is_even_described() {
        let (tracer, received, _) = tracer(Sampling { root: Root::None, follows_parent: false }, 16);
        let trace = tracer.join(&HeaderMap::new());
        tracer.record(&trace, Keep::IfSampled, || panic!("described"));
        tracer.record(&trace, Keep::IfSampledAndPaced, || panic!("described"));
        let recorded = tracer.record(&trace, Keep::Always, || description("refused")).unwrap();
        tracer.stop(Duration::from_secs(5)).unwrap();
        let spans = received.0.lock();
        assert_eq!(spans.len(), 1);
        assert!(spans[0].span_context.is_sampled() && !trace.is_sampled());
        assert_eq!(spans[0].parent_span_id, trace.own.span_id());
        assert_eq!(recorded.trace_id, trace.own.trace_id());
        assert_eq!((recorded.span_id, recorded.at), (spans[0].span_context.span_id(), spans[0].end_time));
        assert!(trace.traceparent().ends_with("-00"), "the upstream is not asked to sample");
    }

    #[test]
    fn without_a_place_a_span_is_not_described_but_counted() {
        let (tracer, _, losses) = tracer(Sampling::default(), 1);
        let trace = tracer.join(&HeaderMap::new());
        let queue = losses.of(Signal::Traces);
        assert!(queue.enter());
        assert_eq!(tracer.record(&trace, Keep::Always, || panic!("described")), None);
    }

    #[test]
    fn events_that_passed_have_so_many_spans_a_second() {
        let pace = Pace::default();
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let allowed = |second| (0..1000).filter(|_| pace.allows(at(second))).count() as u64;
        assert_eq!([allowed(7), allowed(8)], [ALLOWED_EVENT_SPANS_PER_SECOND_MAX; 2]);
    }
}
