//! Every span of this crate, by OpenTelemetry's semantic conventions. What a client wrote is escaped and bounded; query strings,
//! tokens, payloads and users' names are in none.
//!
//! A connection is one `SERVER` span, from its request to the answer; each decision about it is an `INTERNAL` span below. Refusals
//! are recorded always, everything else with its trace.

use http::{Method, Request, StatusCode, header};
use opentelemetry::trace::Status;
use opentelemetry::{KeyValue, Value};
use picket_shared::audit::{IDENTIFIER_BYTES_MAX, printable};
use picket_shared::reason::Reason;
use picket_shared::telemetry::{Description, Keep, Level, Recorded, Trace};
use std::net::IpAddr;

use crate::decide::{Case, Stage};
use crate::gate::Gate;
use crate::handshake;
use crate::route::Routes;

/// what is kept of a request until it is answered
pub struct Exchange {
    trace: Trace,
    /// `None`: it speaks for others
    address: Option<IpAddr>,
    scheme: &'static str,
    method: &'static str,
    path: String,
    host: Option<String>,
    user_agent: Option<String>,
}

impl Exchange {
    pub fn new<B>(trace: &Trace, address: Option<IpAddr>, scheme: &'static str, request: &Request<B>) -> Self {
        let user_agent = request.headers().get(header::USER_AGENT);
        Exchange {
            trace: trace.clone(),
            address,
            scheme,
            method: known_method(request.method()),
            path: request.uri().path().to_owned(),
            host: handshake::host(request.uri(), request.headers()),
            user_agent: user_agent.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()),
        }
    }

    /// the route at the proxy that the request is for
    pub fn route(&self, routes: &Routes) -> Option<String> {
        routes.find(self.host.as_deref(), &self.path).map(|route| route.path.to_string())
    }

    /// records the exchange; `reason` is that of a refusal
    pub fn answered(self, gate: &Gate, route: Option<String>, status: StatusCode, reason: Option<Reason>) {
        let Some(tracer) = &gate.tracer else {
            return;
        };
        let keep = if reason.is_some() { Keep::Always } else { Keep::IfSampled };
        tracer.record(&self.trace, keep, || self.describe(route, status, reason));
    }

    fn describe(&self, route: Option<String>, status: StatusCode, reason: Option<Reason>) -> Description {
        let mut attributes = vec![
            KeyValue::new("http.request.method", self.method),
            KeyValue::new("http.response.status_code", i64::from(status.as_u16())),
            KeyValue::new("url.path", bounded(&self.path)),
            KeyValue::new("url.scheme", self.scheme),
            KeyValue::new("network.protocol.name", "http"),
        ];
        let mut add = |name: &'static str, text: Option<Value>| {
            attributes.extend(text.map(|text| KeyValue::new(name, text)));
        };
        add("client.address", self.address.map(|address| address.to_string().into()));
        add("http.route", route.clone().map(Value::from));
        add("server.address", self.host.as_deref().map(bounded));
        add("user_agent.original", self.user_agent.as_deref().map(bounded));
        // An error of the server without a reason is the application's own answer.
        let own = status.is_server_error().then(|| Value::from(status.as_str().to_owned()));
        add("error.type", reason.map(|reason| Value::from(reason.token())).or(own));
        Description {
            level: Level::Connection,
            name: route.map_or(self.method.into(), |route| format!("{} {route}", self.method).into()),
            started: self.trace.begun(),
            attributes,
            // To refuse is what a gateway is for: only what is not the client's doing is an error of the exchange.
            status: if status.is_server_error() { Status::error("") } else { Status::Unset },
        }
    }
}

/// a decision against a connection or an event
pub fn refused(gate: &Gate, case: &Case<'_>, reason: Reason) -> Option<Recorded> {
    record(gate, case, Keep::Always, Some(reason))
}

/// a connection, or one namespace of it, came in
pub fn admitted(gate: &Gate, case: &Case<'_>) {
    record(gate, case, Keep::IfSampled, None);
}

/// an event passed
pub fn cleared(gate: &Gate, case: &Case<'_>) {
    record(gate, case, Keep::IfSampledAndPaced, None);
}

fn record(gate: &Gate, case: &Case<'_>, keep: Keep, reason: Option<Reason>) -> Option<Recorded> {
    let (tracer, trace, started) = (gate.tracer.as_ref()?, case.attempt.trace.as_ref()?, case.started?);
    tracer.record(trace, keep, || Description {
        level: Level::Decision,
        name: name(case.stage).into(),
        started,
        attributes: decision(gate, case, reason),
        status: reason.map_or(Status::Unset, |reason| Status::error(reason.token())),
    })
}

const fn name(stage: Stage) -> &'static str {
    match stage {
        Stage::Handshake => "picket.handshake",
        Stage::Admission => "picket.admission",
        Stage::Inspection => "picket.inspection",
        Stage::Session => "picket.session",
    }
}

fn decision(gate: &Gate, case: &Case<'_>, reason: Option<Reason>) -> Vec<KeyValue> {
    let mut attributes = vec![
        KeyValue::new("picket.outcome", if reason.is_some() { "refused" } else { "allowed" }),
        KeyValue::new("picket.connection.id", case.attempt.id.to_string()),
        KeyValue::new("picket.policy.version", i64::try_from(gate.policy.version()).unwrap_or(i64::MAX)),
        KeyValue::new("client.address", case.attempt.address.to_string()),
        KeyValue::new("http.route", case.attempt.route.to_string()),
        KeyValue::new("network.protocol.name", "websocket"),
    ];
    attributes.extend(case.event.map(|event| KeyValue::new("picket.event.name", bounded(event))));
    attributes.extend(case.message.map(|message| KeyValue::new("picket.message.size", message.len() as i64)));
    attributes.extend(reason.map(|reason| KeyValue::new("error.type", reason.token())));
    attributes
}

/// a client may invent methods, and names of spans and their attributes should be few
fn known_method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        Method::PATCH => "PATCH",
        Method::CONNECT => "CONNECT",
        Method::TRACE => "TRACE",
        _ => "_OTHER",
    }
}

fn bounded(text: &str) -> Value {
    printable(text, IDENTIFIER_BYTES_MAX).into()
}
