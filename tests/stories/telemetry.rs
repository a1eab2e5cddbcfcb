//! What Picket tells a collector, how traces go through it, and that no collector is in anybody's way.

use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use serde_json::json;

use crate::harness::{Client, Collector, Picket, PicketBuilder, Program, SocketIo, Upstream, eventually, text};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CLIENT_SPAN: &str = "b7ad6b7169203331";
/// What the row X36 allows a collector's absence to cost.
const GROWTH_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Longer than everything that the end of a process waits for, telemetry included.
const ENDS_WITHIN: Duration = Duration::from_secs(9);

fn traceparent(flags: &str) -> String {
    format!("00-{TRACE}-{CLIENT_SPAN}-{flags}")
}

fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attribute(span: &Span, name: &str) -> String {
    text(&span.attributes, name).unwrap_or_else(|| panic!("no {name} in {span:?}"))
}

/// A gateway that knows two kinds of events.
fn picky(upstream: &Upstream) -> PicketBuilder {
    Picket::guarding(upstream).patient().policy(json!({ "validation": { "allowedEventTypes": ["still-served"] } }))
}

#[tokio::test]
async fn a_trace_goes_from_the_client_through_the_node_to_the_upstream_and_a_refusal_is_in_it() {
    let (upstream, collector) = (Upstream::echo().await, Collector::http().await);
    let picket = picky(&upstream)
        .exporting_to(&collector, None)
        .environment("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=edge%201")
        .environment("OTEL_RESOURCE_ATTRIBUTES", "team=platform")
        .start()
        .await;
    let mut alice = picket
        .caller("198.51.100.7")
        .path("/ws?token=query-canary")
        .bearing("token-canary")
        .header("User-Agent", "story/1")
        .header("traceparent", &traceparent("01"))
        .header("tracestate", "vendor=1")
        .comes_in()
        .await;
    alice.is_still_served().await;
    alice.sends(json!({ "type": "nonsense", "text": "payload-canary" })).await;
    alice.is_refused("unknown_event").await;

    let connection = collector.receives_span("GET /ws", |_| true).await;
    let asked = upstream.requests().remove(0);
    let told = asked.first("traceparent").expect("a traceparent at the upstream");
    assert_eq!(told, format!("00-{TRACE}-{}-01", hex(&connection.span_id)));
    assert_eq!((asked.first("tracestate"), asked.all("traceparent").len()), (Some("vendor=1"), 1));
    assert_eq!((hex(&connection.trace_id), hex(&connection.parent_span_id)), (TRACE.into(), CLIENT_SPAN.into()));
    assert_eq!(connection.kind, SpanKind::Server as i32);
    assert!(connection.start_time_unix_nano < connection.end_time_unix_nano, "{connection:?}");
    for (name, value) in [
        ("http.request.method", "GET"),
        ("http.response.status_code", "101"),
        ("http.route", "/ws"),
        ("url.path", "/ws"),
        ("url.scheme", "http"),
        ("client.address", "198.51.100.7"),
        ("server.address", "127.0.0.1"),
        ("user_agent.original", "story/1"),
        ("network.protocol.name", "http"),
    ] {
        assert_eq!(attribute(&connection, name), value, "{name}");
    }
    assert_eq!(text(&connection.attributes, "error.type"), None);

    let admission = collector.receives_span("picket.admission", |_| true).await;
    let passed =
        collector.receives_span("picket.inspection", |span| attribute(span, "picket.outcome") == "allowed").await;
    let refused =
        collector.receives_span("picket.inspection", |span| attribute(span, "picket.outcome") == "refused").await;
    for decision in [&admission, &passed, &refused] {
        assert_eq!((&decision.trace_id, &decision.parent_span_id), (&connection.trace_id, &connection.span_id));
        assert_eq!(decision.kind, SpanKind::Internal as i32);
        assert!(decision.start_time_unix_nano < decision.end_time_unix_nano, "{decision:?}");
        assert_eq!(attribute(decision, "picket.connection.id"), asked.first("x-picket-connection").unwrap());
    }
    assert_eq!(attribute(&refused, "error.type"), "unknown_event");
    assert_eq!(attribute(&refused, "picket.event.name"), "nonsense");
    assert_eq!(refused.status.unwrap().code, StatusCode::Error as i32);
    assert_eq!(attribute(&passed, "picket.event.name"), "still-served");
    let counted = picket.openmetrics().await;
    let counted = counted.lines().find(|line| line.contains("picket_reason=\"unknown_event\"")).expect("the refusal");
    let exemplar = format!(" # {{trace_id=\"{TRACE}\",span_id=\"{}\"}} 1 ", hex(&refused.span_id));
    assert!(counted.starts_with("picket_decisions_total{") && counted.contains(&exemplar), "{counted}");

    for (name, value) in [
        ("service.name", "picket"),
        ("service.version", env!("CARGO_PKG_VERSION")),
        ("service.instance.id", "edge-1"),
        ("picket.role", "standalone"),
        ("deployment.environment.name", "production"),
        ("telemetry.sdk.language", "rust"),
        ("team", "platform"),
    ] {
        assert_eq!(collector.resource(name).as_deref(), Some(value), "{name}");
    }
    assert!(collector.tenants().iter().all(|tenant| tenant == "edge 1"), "{:?}", collector.tenants());
    assert!(!collector.everything().contains("canary"), "a secret or a payload was exported");
}

#[tokio::test]
async fn over_grpc_a_refused_connection_is_recorded_though_nobody_sampled_it() {
    let (upstream, collector) = (Upstream::echo().await, Collector::grpc().await);
    let picket = Picket::guarding(&upstream)
        .exporting_to(&collector, Some("grpc"))
        .environment("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
        .environment("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=edge%201")
        .environment("OTEL_SERVICE_NAME", "edge")
        .environment("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
        .environment("OTEL_TRACES_SAMPLER_ARG", "0")
        .start()
        .await;
    let mut alice = picket.caller("198.51.100.7").comes_in().await;
    alice.is_still_served().await;
    let mallory =
        picket.caller("198.51.100.8").origin("https://evil.example").header("traceparent", &traceparent("00"));
    mallory.connects().await.refused_with(403, "origin_not_allowed");
    picket.caller("198.51.100.9").header("traceparent", &traceparent("00")).comes_in().await;

    let connection = collector.receives_span("GET /ws", |_| true).await;
    let admission = collector.receives_span("picket.admission", |_| true).await;
    assert_eq!(attribute(&connection, "http.response.status_code"), "403");
    assert_eq!((hex(&connection.trace_id), hex(&connection.parent_span_id)), (TRACE.into(), CLIENT_SPAN.into()));
    for span in [&connection, &admission] {
        assert_eq!(attribute(span, "error.type"), "origin_not_allowed");
        assert_eq!(attribute(span, "client.address"), "198.51.100.8");
    }
    let told: Vec<_> = upstream.requests().iter().map(|head| head.first("traceparent").unwrap().to_owned()).collect();
    assert!(told.len() == 2 && told.iter().all(|one| one.ends_with("-00")), "nobody was asked to sample: {told:?}");
    assert!(told[1].contains(TRACE), "{told:?}");

    collector.receives_log("listening").await;
    eventually("the refusal among the metrics", async || {
        let refused = [("picket.outcome", "refused"), ("picket.reason", "origin_not_allowed")];
        collector.metric("picket.decisions", &refused).filter(|count| *count == 1.0)
    })
    .await;
    assert_eq!(collector.metric("picket.telemetry.dropped", &[("picket.signal", "traces")]), Some(0.0));
    assert_eq!(picket.metric("picket_decisions_total").await, 3.0, "Prometheus reads the same");
    assert_eq!(collector.resource("service.name").as_deref(), Some("edge"));
    assert!(collector.tenants().iter().all(|tenant| tenant == "edge 1"), "{:?}", collector.tenants());
    assert_eq!(collector.spans().len(), 2, "what was not sampled is not there: {:?}", collector.spans());
}

#[tokio::test]
async fn a_collector_over_tls_is_believed_by_the_authority_that_was_named_and_by_no_other() {
    let (upstream, collector) = (Upstream::echo().await, Collector::grpc_over_tls().await);
    let builder = Picket::guarding(&upstream).exporting_to(&collector, Some("grpc"));
    let trusting = builder.clone().environment("OTEL_EXPORTER_OTLP_CERTIFICATE", &collector.authority_file());
    let (trusting, wary) = (trusting.start().await, builder.start().await);

    collector.receives_log("listening").await;

    eventually("losses of who knows no such authority", async || {
        Some(wary.metric("picket_telemetry_dropped_total").await).filter(|lost| *lost > 0.0)
    })
    .await;
    assert_eq!(trusting.metric("picket_telemetry_dropped_total").await, 0.0);
}

#[tokio::test]
async fn an_event_refused_on_a_socketio_connection_is_in_its_trace() {
    let (upstream, collector) = (Upstream::engine_io().await, Collector::http().await);
    let picket = Picket::guarding_socketio(&upstream)
        .exporting_to(&collector, None)
        .policy(json!({ "validation": { "allowedEventTypes": ["known"] } }))
        .start()
        .await;
    let caller = picket.socketio_caller("198.51.100.7").header("traceparent", &traceparent("01"));
    let mut alice = SocketIo::connected(caller.comes_in().await).await;
    alice.says(r#"42["unknown"]"#).await;
    alice.hears_refusal("unknown_event").await;

    let connection = collector.receives_span("GET /socket.io/", |_| true).await;
    let admission = collector.receives_span("picket.admission", |_| true).await;
    let refused = collector.receives_span("picket.inspection", |_| true).await;
    for decision in [&admission, &refused] {
        assert_eq!((&decision.trace_id, &decision.parent_span_id), (&connection.trace_id, &connection.span_id));
    }
    assert_eq!(hex(&refused.trace_id), TRACE);
    assert_eq!(attribute(&refused, "error.type"), "unknown_event");
}

#[tokio::test]
async fn an_export_causes_no_log_record_and_so_no_further_export() {
    let (upstream, collector) = (Upstream::echo().await, Collector::grpc().await);
    let picket = picky(&upstream)
        .exporting_to(&collector, Some("grpc"))
        .environment("PICKET_LOG", "trace")
        .environment("OTEL_METRICS_EXPORTER", "none")
        .start()
        .await;
    let mut alice = picket.caller("198.51.100.7").comes_in().await;
    for _ in 0..5 {
        alice.sends(json!({ "type": "nonsense" })).await;
        alice.is_refused("unknown_event").await;
    }
    collector.receives_span("picket.inspection", |_| true).await;
    collector.receives_log("listening").await;

    let log = picket.log();
    assert!(log.iter().any(|line| line.contains("\"target\":\"h2")), "the exporter's libraries do speak, in the log");
    let targets: Vec<_> = collector.logs().into_iter().map(|(target, _)| target).collect();
    assert!(targets.iter().all(|target| target.starts_with("picket")), "{targets:?}");
}

#[tokio::test]
async fn without_a_collector_the_clients_trace_headers_pass_as_they_are() {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream).environment("OTEL_TRACES_SAMPLER", "always_on").start().await;

    picket.caller("198.51.100.7").header("traceparent", &traceparent("01")).comes_in().await;

    assert_eq!(upstream.requests()[0].first("traceparent"), Some(traceparent("01").as_str()));
    assert_eq!(picket.metric("picket_telemetry_dropped_total").await, 0.0);
    picket.caller("198.51.100.8").origin("https://evil.example").connects().await.refused();
    let counted = picket.openmetrics().await;
    assert!(
        counted.contains("picket_outcome=\"refused\"") && !counted.contains("trace_id"),
        "no trace to lead to: {counted}"
    );
}

#[tokio::test]
async fn what_waits_is_delivered_when_the_process_ends() {
    let (upstream, collector) = (Upstream::echo().await, Collector::http().await);
    let mut picket = Picket::guarding(&upstream)
        .exporting_to(&collector, None)
        .environment("OTEL_BSP_SCHEDULE_DELAY", "3600000")
        .environment("OTEL_BLRP_SCHEDULE_DELAY", "3600000")
        .environment("OTEL_METRIC_EXPORT_INTERVAL", "3600000")
        .start()
        .await;
    picket.caller("198.51.100.8").origin("https://evil.example").connects().await.refused();
    assert!(collector.spans().is_empty() && collector.logs().is_empty());

    picket.terminates();
    assert_eq!(picket.exit_code().await, Some(0));

    collector.receives_span("GET /ws", |_| true).await;
    collector.receives_log("drained").await;
    assert_eq!(collector.metric("picket.decisions", &[("picket.outcome", "refused")]), Some(1.0));
}

/// Traffic and refusals, answered in full; then a bounded memory, losses that are counted, and an end in time.
async fn is_in_nobodys_way(collector: Collector, protocol: &str) {
    /// More refusals than spans may wait.
    const ROUNDS: usize = 3000;

    let upstream = Upstream::echo().await;
    let mut picket = picky(&upstream)
        .exporting_to(&collector, Some(protocol))
        // So that the losses come within the story.
        .environment("OTEL_EXPORTER_OTLP_TIMEOUT", "1000")
        .start()
        .await;
    let mut alice = picket.caller("198.51.100.7").comes_in().await;
    converses(&mut alice, 200).await;
    let before = picket.resident_bytes();

    converses(&mut alice, ROUNDS).await;
    for _ in 0..20 {
        picket
            .caller("198.51.100.8")
            .origin("https://evil.example")
            .connects()
            .await
            .refused_with(403, "origin_not_allowed");
    }

    let grown = picket.resident_bytes().saturating_sub(before);
    assert!(grown <= GROWTH_BYTES_MAX, "grew by {} KiB", grown / 1024);
    let lost = eventually("losses in the metrics", async || {
        Some(picket.metric("picket_telemetry_dropped_total").await).filter(|lost| *lost > 0.0)
    })
    .await;
    eprintln!("{protocol} at {}: grew by {} KiB, lost {lost}", collector.endpoint(), grown / 1024);
    picket.terminates();
    let told = Instant::now();
    assert_eq!(picket.exit_code().await, Some(0));
    assert!(told.elapsed() < ENDS_WITHIN, "it took {:?} to end", told.elapsed());
}

async fn converses(client: &mut Client, rounds: usize) {
    for _ in 0..rounds {
        client.is_still_served().await;
        client.sends(json!({ "type": "nonsense" })).await;
        client.is_refused("unknown_event").await;
    }
}

#[tokio::test]
async fn x36_a_collector_that_is_away_is_in_nobodys_way() {
    is_in_nobodys_way(Collector::away(), "grpc").await;
}

#[tokio::test]
async fn x36_a_collector_that_never_answers_is_in_nobodys_way() {
    is_in_nobodys_way(Collector::silent().await, "grpc").await;
    is_in_nobodys_way(Collector::silent().await, "http/protobuf").await;
}

#[tokio::test]
async fn x36_a_slow_collector_is_in_nobodys_way() {
    is_in_nobodys_way(Collector::slow(Duration::from_secs(3)).await, "http/protobuf").await;
}

#[tokio::test]
async fn a_variable_that_cannot_be_understood_stops_the_start_with_its_name() {
    let said = Program::new()
        .with_admin()
        .environment("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")
        .environment("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317")
        .runs(&["check-config"])
        .refuses_the_configuration();
    assert!(said.contains("OTEL_EXPORTER_OTLP_PROTOCOL: must be one of grpc, http/protobuf"), "{said}");
    assert!(said.contains("OTEL_EXPORTER_OTLP_ENDPOINT: telemetry.otlpEndpoint: must be an http://"), "{said}");
}
