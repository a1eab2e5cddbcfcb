//! Three nodes and a coordinator tell one collector who each is and what it saw, as docs/telemetry.md says.

use std::collections::{BTreeMap, BTreeSet};

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::{Metric, metric};
use opentelemetry_proto::tonic::trace::v1::Span;
use serde_json::json;

use crate::harness::{Cluster, Collector, Picket, Redis, Source, eventually, text};

const DOCUMENT: &str = include_str!("../../../docs/telemetry.md");
const CLIENT_SPAN: &str = "b7ad6b7169203331";
const BLOCKED: &str = "203.0.113.66";

/// What the document says of a metric: its kind and unit, by name.
fn documented() -> BTreeMap<&'static str, (&'static str, &'static str)> {
    let rows = DOCUMENT.lines().filter_map(|line| line.strip_prefix("| `picket."));
    let cells = rows.map(|row| row.split('|').map(|cell| cell.trim().trim_matches('`')).collect::<Vec<_>>());
    let rows = cells.filter(|cells| cells.len() > 3);
    rows.map(|cells| (cells[0], (cells[1], cells[2]))).collect()
}

fn kind(metric: &Metric) -> &'static str {
    match metric.data.as_ref().unwrap() {
        metric::Data::Gauge(_) => "gauge",
        metric::Data::Sum(sum) if sum.is_monotonic => "counter",
        metric::Data::Sum(_) => "up-down counter",
        _ => "histogram",
    }
}

fn labels(metric: &Metric) -> Vec<KeyValue> {
    let of_points: Vec<_> = match metric.data.as_ref().unwrap() {
        metric::Data::Gauge(gauge) => gauge.data_points.iter().map(|point| &point.attributes).collect(),
        metric::Data::Sum(sum) => sum.data_points.iter().map(|point| &point.attributes).collect(),
        metric::Data::Histogram(histogram) => histogram.data_points.iter().map(|point| &point.attributes).collect(),
        other => panic!("{other:?}"),
    };
    of_points.into_iter().flatten().cloned().collect()
}

fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn trace(number: usize) -> String {
    format!("0af7651916cd43dd8448eb211c8031{number:02}")
}

/// Traffic, and an attack of each kind.
async fn is_visited(node: &Picket, number: usize) {
    let traceparent = |flags| format!("00-{}-{CLIENT_SPAN}-{flags}", trace(number));
    let alice = node.caller(&format!("198.51.100.{number}")).header("traceparent", &traceparent("01"));
    let mut alice = alice.comes_in().await;
    alice.is_still_served().await;
    alice.sends(json!({ "type": "nonsense" })).await;
    alice.is_refused("unknown_event").await;
    let mallory = node.caller(&format!("198.51.101.{number}")).origin("https://evil.example");
    mallory.connects().await.refused_with(403, "origin_not_allowed");
    alice.leaves().await;
}

fn is_named(source: &Source, instance: &str) -> bool {
    source["service.instance.id"] == instance
}

/// A refused event of a node lies in its client's trace, which the application was told of.
async fn has_a_whole_trace(cluster: &Cluster, collector: &Collector, number: usize) {
    let instance = format!("edge-{number}");
    let span = async |name: &str, wanted: &dyn Fn(&Span) -> bool| {
        let found = async || {
            let all = collector.spans_and_sources().into_iter();
            all.filter(|(source, _)| is_named(source, &instance))
                .map(|(_, span)| span)
                .find(|span| span.name == name && hex(&span.trace_id) == trace(number) && wanted(span))
        };
        eventually(&format!("{name} of {instance}"), found).await
    };
    let connection = span("GET /ws", &|_| true).await;
    let refusal = span("picket.inspection", &|span| text(&span.attributes, "error.type").is_some()).await;
    assert_eq!(hex(&connection.parent_span_id), CLIENT_SPAN);
    assert_eq!(refusal.parent_span_id, connection.span_id);
    assert_eq!(text(&refusal.attributes, "error.type").as_deref(), Some("unknown_event"));
    let told = format!("00-{}-{}-01", trace(number), hex(&connection.span_id));
    let requests = cluster.upstream().requests();
    assert!(requests.iter().any(|head| head.first("traceparent") == Some(told.as_str())), "no {told}");
}

#[tokio::test]
async fn every_process_of_a_cluster_tells_who_it_is_and_what_it_saw() {
    let (redis, collector) = (Redis::start().await, Collector::http().await);
    let policy = json!({ "validation": { "allowedEventTypes": ["still-served"] } });
    let cluster = Cluster::of(3).on(&redis).exporting_to(&collector).policy(policy).start().await;
    for (index, node) in cluster.nodes().iter().enumerate() {
        is_visited(node, index + 1).await;
    }
    cluster.admin().blocks(BLOCKED).await;
    for node in cluster.nodes() {
        node.caller(BLOCKED).gets_refused_eventually().await;
    }
    for number in 1..=3 {
        has_a_whole_trace(&cluster, &collector, number).await;
    }

    let of_a_node = ["picket.decisions", "picket.decision.duration", "picket.block.propagation", "picket.mode"];
    let of_a_coordinator = ["picket.audit.lag", "picket.audit.records_stored", "picket.block.propagation"];
    let of_both = ["picket.state.call.duration", "picket.telemetry.dropped"];
    let processes = [("edge-1", "node"), ("edge-2", "node"), ("edge-3", "node"), ("coordinator-1", "coordinator")];
    for (instance, role) in processes {
        let expected = if role == "node" { &of_a_node[..] } else { &of_a_coordinator[..] };
        eventually(&format!("all metrics of {instance}"), async || {
            let all = collector.metrics_and_sources();
            let names: BTreeSet<_> =
                all.iter().filter(|(source, _)| is_named(source, instance)).map(|(_, metric)| &*metric.name).collect();
            expected.iter().chain(&of_both).all(|name| names.contains(name)).then_some(())
        })
        .await;
        let by_signal = [
            collector.metrics_and_sources().into_iter().map(|(source, _)| source).collect(),
            collector.log_sources(),
            collector.spans_and_sources().into_iter().map(|(source, _)| source).collect::<Vec<_>>(),
        ];
        // Spans are made of connections, which a coordinator has none of.
        let signals = if role == "node" { 3 } else { 2 };
        for sources in &by_signal[..signals] {
            let source = sources.iter().find(|source| is_named(source, instance)).expect(instance);
            for (name, value) in [
                ("service.name", "picket"),
                ("service.version", env!("CARGO_PKG_VERSION")),
                ("picket.role", role),
                ("deployment.environment.name", "production"),
            ] {
                assert_eq!(source[name], value, "{name} of {instance}");
            }
        }
    }

    let documented = documented();
    for (_, metric) in collector.metrics_and_sources() {
        let name = metric.name.strip_prefix("picket.").unwrap_or(&metric.name);
        let said = documented.get(name).unwrap_or_else(|| panic!("docs/telemetry.md lacks {}", metric.name));
        assert_eq!(*said, (kind(&metric), metric.unit.as_str()), "{}", metric.name);
        for label in labels(&metric) {
            assert!(DOCUMENT.contains(&format!("`{}`", label.key)), "docs/telemetry.md lacks the label {}", label.key);
        }
    }
    for attribute in collector.spans().into_iter().flat_map(|span| span.attributes) {
        assert!(DOCUMENT.contains(&format!("`{}`", attribute.key)), "docs/telemetry.md lacks {}", attribute.key);
    }
}
