//! A collector that takes OTLP over gRPC or HTTP and keeps it; and collectors that are away, silent or slow.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{self, State};
use axum::http::{HeaderMap, header};
use axum::middleware::{Next, from_fn};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{LogsService, LogsServiceServer};
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::metrics::v1::{Metric, metric, number_data_point};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinHandle;
use tonic::codec::CompressionEncoding;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

use super::authority::Authority;
use super::patience::eventually;

/// What an export says of the process that it came from, by name.
pub type Source = BTreeMap<String, String>;

#[derive(Default)]
struct Ledger {
    /// Each with who sent it.
    spans: Vec<(Source, Span)>,
    metrics: Vec<(Source, Metric)>,
    log_sources: Vec<Source>,
    /// With the target that each came from.
    logs: Vec<(String, LogRecord)>,
    resource: Vec<KeyValue>,
    tenants: Vec<String>,
}

type Shared = Arc<Mutex<Ledger>>;

pub struct Collector {
    address: SocketAddr,
    ledger: Shared,
    authority: Option<Authority>,
    /// Keeps a port that nothing listens on.
    _socket: Option<TcpSocket>,
    server: JoinHandle<()>,
}

impl Collector {
    pub async fn http() -> Self {
        Self::over_http(Duration::ZERO).await
    }

    /// Takes everything, but so late that others have given up on less.
    pub async fn slow(pause: Duration) -> Self {
        Self::over_http(pause).await
    }

    async fn over_http(pause: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, ledger) = (listener.local_addr().unwrap(), Shared::default());
        let late = from_fn(move |request: extract::Request, next: Next| async move {
            tokio::time::sleep(pause).await;
            next.run(request).await
        });
        let router = Router::new()
            .route("/v1/traces", post(traces))
            .route("/v1/metrics", post(metrics))
            .route("/v1/logs", post(logs))
            .layer(late)
            .with_state(ledger.clone());
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, ledger, authority: None, _socket: None, server }
    }

    pub async fn grpc() -> Self {
        Self::over_grpc(Server::builder(), None).await
    }

    /// With a certificate of an authority that nobody else knows.
    pub async fn grpc_over_tls() -> Self {
        let authority = Authority::new();
        authority.signs("server");
        let pem = |name| std::fs::read(authority.file(name)).unwrap();
        let tls = ServerTlsConfig::new().identity(Identity::from_pem(pem("server.pem"), pem("server.key")));
        Self::over_grpc(Server::builder().tls_config(tls).unwrap(), Some(authority)).await
    }

    async fn over_grpc(mut server: Server, authority: Option<Authority>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, ledger) = (listener.local_addr().unwrap(), Shared::default());
        let services = Services(ledger.clone());
        let server = server
            .add_service(TraceServiceServer::new(services.clone()).accept_compressed(CompressionEncoding::Gzip))
            .add_service(MetricsServiceServer::new(services.clone()).accept_compressed(CompressionEncoding::Gzip))
            .add_service(LogsServiceServer::new(services).accept_compressed(CompressionEncoding::Gzip));
        let server =
            tokio::spawn(async move { server.serve_with_incoming(TcpIncoming::from(listener)).await.unwrap() });
        Self { address, ledger, authority, _socket: None, server }
    }

    /// Connections are refused.
    pub fn away() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = socket.local_addr().unwrap();
        Self {
            address,
            ledger: Shared::default(),
            authority: None,
            _socket: Some(socket),
            server: tokio::spawn(async {}),
        }
    }

    /// Connections are accepted, and that is all.
    pub async fn silent() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                held.push(stream);
            }
        });
        Self { address, ledger: Shared::default(), authority: None, _socket: None, server }
    }

    pub fn endpoint(&self) -> String {
        format!("{}://{}", if self.authority.is_some() { "https" } else { "http" }, self.address)
    }

    pub fn authority_file(&self) -> String {
        let authority = self.authority.as_ref().expect("a collector over TLS");
        authority.file("ca.pem").display().to_string()
    }

    pub fn spans(&self) -> Vec<Span> {
        self.ledger.lock().unwrap().spans.iter().map(|(_, span)| span.clone()).collect()
    }

    pub fn spans_and_sources(&self) -> Vec<(Source, Span)> {
        self.ledger.lock().unwrap().spans.clone()
    }

    pub fn metrics_and_sources(&self) -> Vec<(Source, Metric)> {
        self.ledger.lock().unwrap().metrics.clone()
    }

    pub fn log_sources(&self) -> Vec<Source> {
        self.ledger.lock().unwrap().log_sources.clone()
    }

    pub fn logs(&self) -> Vec<(String, LogRecord)> {
        self.ledger.lock().unwrap().logs.clone()
    }

    /// Of what was sent last.
    pub fn resource(&self, name: &str) -> Option<String> {
        text(&self.ledger.lock().unwrap().resource, name)
    }

    /// What every export said in its `x-tenant` header.
    pub fn tenants(&self) -> Vec<String> {
        self.ledger.lock().unwrap().tenants.clone()
    }

    pub async fn receives_span(&self, name: &str, wanted: impl Fn(&Span) -> bool) -> Span {
        eventually(&format!("a span {name}"), async || {
            self.spans().into_iter().find(|span| span.name == name && wanted(span))
        })
        .await
    }

    pub async fn receives_log(&self, message: &str) -> LogRecord {
        eventually(&format!("a log record {message:?}"), async || {
            self.logs().into_iter().map(|(_, record)| record).find(|record| said(record.body.as_ref()) == message)
        })
        .await
    }

    /// The newest sum or gauge of the points that have these attributes.
    pub fn metric(&self, name: &str, attributes: &[(&str, &str)]) -> Option<f64> {
        let ledger = self.ledger.lock().unwrap();
        let (_, newest) = ledger.metrics.iter().rev().find(|(_, metric)| metric.name == name)?;
        let points = match newest.data.as_ref()? {
            metric::Data::Sum(sum) => &sum.data_points,
            metric::Data::Gauge(gauge) => &gauge.data_points,
            _ => return None,
        };
        let chosen = points.iter().filter(|point| {
            attributes.iter().all(|(name, value)| text(&point.attributes, name).as_deref() == Some(*value))
        });
        let values = chosen.filter_map(|point| match point.value? {
            number_data_point::Value::AsInt(number) => Some(number as f64),
            number_data_point::Value::AsDouble(number) => Some(number),
        });
        Some(values.sum())
    }

    /// Everything that came, as one text to search.
    pub fn everything(&self) -> String {
        let ledger = self.ledger.lock().unwrap();
        format!("{:?}{:?}{:?}{:?}", ledger.spans, ledger.metrics, ledger.logs, ledger.resource)
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// An attribute as a text.
pub fn text(attributes: &[KeyValue], name: &str) -> Option<String> {
    attributes.iter().find(|one| one.key == name).map(|one| said(one.value.as_ref()))
}

fn source(resource: &[KeyValue]) -> Source {
    resource.iter().map(|one| (one.key.clone(), said(one.value.as_ref()))).collect()
}

fn said(value: Option<&AnyValue>) -> String {
    match value.and_then(|value| value.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => text.clone(),
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    }
}

async fn traces(State(ledger): State<Shared>, headers: HeaderMap, body: Bytes) -> Vec<u8> {
    take_traces(&ledger, tenant(&headers), decoded(&headers, body));
    ExportTraceServiceResponse::default().encode_to_vec()
}

async fn metrics(State(ledger): State<Shared>, headers: HeaderMap, body: Bytes) -> Vec<u8> {
    take_metrics(&ledger, tenant(&headers), decoded(&headers, body));
    ExportMetricsServiceResponse::default().encode_to_vec()
}

async fn logs(State(ledger): State<Shared>, headers: HeaderMap, body: Bytes) -> Vec<u8> {
    take_logs(&ledger, tenant(&headers), decoded(&headers, body));
    ExportLogsServiceResponse::default().encode_to_vec()
}

fn decoded<M: Message + Default>(headers: &HeaderMap, body: Bytes) -> M {
    assert_eq!(headers[header::CONTENT_TYPE], "application/x-protobuf");
    M::decode(body).unwrap()
}

fn tenant(headers: &HeaderMap) -> String {
    headers.get("x-tenant").map_or_else(String::new, |value| value.to_str().unwrap().to_owned())
}

fn take_traces(ledger: &Shared, tenant: String, request: ExportTraceServiceRequest) {
    let mut ledger = ledger.lock().unwrap();
    ledger.tenants.push(tenant);
    for resource in request.resource_spans {
        ledger.resource = resource.resource.unwrap().attributes;
        let source = source(&ledger.resource);
        let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
        ledger.spans.extend(spans.map(|span| (source.clone(), span)));
    }
}

fn take_metrics(ledger: &Shared, tenant: String, request: ExportMetricsServiceRequest) {
    let mut ledger = ledger.lock().unwrap();
    ledger.tenants.push(tenant);
    for resource in request.resource_metrics {
        let source = source(&resource.resource.unwrap().attributes);
        let metrics = resource.scope_metrics.into_iter().flat_map(|scope| scope.metrics);
        ledger.metrics.extend(metrics.map(|metric| (source.clone(), metric)));
    }
}

fn take_logs(ledger: &Shared, tenant: String, request: ExportLogsServiceRequest) {
    let mut ledger = ledger.lock().unwrap();
    ledger.tenants.push(tenant);
    for resource in request.resource_logs {
        ledger.log_sources.push(source(&resource.resource.unwrap().attributes));
        for scope in resource.scope_logs {
            let target = scope.scope.unwrap().name;
            ledger.logs.extend(scope.log_records.into_iter().map(|record| (target.clone(), record)));
        }
    }
}

#[derive(Clone)]
struct Services(Shared);

impl Services {
    fn tenant<T>(request: &Request<T>) -> String {
        request.metadata().get("x-tenant").map_or_else(String::new, |value| value.to_str().unwrap().to_owned())
    }
}

#[tonic::async_trait]
impl TraceService for Services {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        take_traces(&self.0, Self::tenant(&request), request.into_inner());
        Ok(Response::new(Default::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Services {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        take_metrics(&self.0, Self::tenant(&request), request.into_inner());
        Ok(Response::new(Default::default()))
    }
}

#[tonic::async_trait]
impl LogsService for Services {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        take_logs(&self.0, Self::tenant(&request), request.into_inner());
        Ok(Response::new(Default::default()))
    }
}
