//! `GET /v1/authz`: may the request that a reverse proxy asks about come in? For nginx `auth_request` and its kind, which tell of
//! it in forwarded headers and understand a status.
//!
//! Nobody says when such a connection ends, so it holds no slot: it must find one free, and gives it back.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use ipnet::IpNet;
use picket_shared::random;
use picket_shared::reason::Reason;
use picket_shared::telemetry::Trace;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::CheckApi;
use super::problem::Problem;
use crate::admission::{admit, count_handshake};
use crate::answer::Answer;
use crate::attempt::Attempt;
use crate::checks::upgrade_rate;
use crate::decide::{self, Case, Stage};
use crate::forwarded;
use crate::handshake;
use crate::pardons::Pardons;
use crate::refusal::Refusal;
use crate::stopwatch::Stopwatch;

/// where proxies put the request's target: Traefik, nginx by custom
const TARGETS: [&str; 2] = ["x-forwarded-uri", "x-original-uri"];
/// where a proxy puts the client's Authorization, as its own has the check API's token
const CLIENT_AUTHORIZATION: &str = "x-forwarded-authorization";
/// what audit names as the route
const ROUTE: &str = "/v1/authz";

pub async fn check(State(api): State<Arc<CheckApi>>, request: Request) -> Result<Response, Problem> {
    let attempt = attempt(&api, &request)?;
    let agent = request.headers().get(header::USER_AGENT).and_then(|agent| agent.to_str().ok());
    Ok(match api.decides(&attempt, agent).await {
        Ok(response) => response,
        Err(answer) => refused(answer),
    })
}

fn attempt(api: &CheckApi, request: &Request) -> Result<Attempt, Problem> {
    let headers = client_headers(request.headers())?;
    let target = TARGETS.iter().find_map(|name| headers.get(*name)?.to_str().ok());
    let query = match target {
        Some(target) => target.split_once('?').map(|(_, query)| query),
        None => request.uri().query(),
    };
    Ok(Attempt {
        id: random::hex(16).into(),
        address: client_address(&headers, &api.trusted_proxies)?,
        origin: handshake::origin(&headers),
        token: api.gate.keys.sources.in_request(&headers, query),
        route: ROUTE.into(),
        trace: request.extensions().get::<Trace>().cloned(),
    })
}

/// the client's own headers: Authorization is the proxy's
fn client_headers(headers: &HeaderMap) -> Result<HeaderMap, Problem> {
    for name in [header::ORIGIN.as_str(), CLIENT_AUTHORIZATION].iter().chain(&TARGETS) {
        if headers.get_all(*name).iter().count() > 1 {
            return Err(Problem::bad_request(format!("two {name} headers")));
        }
    }
    let mut own = headers.clone();
    match own.remove(CLIENT_AUTHORIZATION) {
        Some(authorization) => own.insert(header::AUTHORIZATION, authorization),
        None => own.remove(header::AUTHORIZATION),
    };
    Ok(own)
}

/// the right-most address that no trusted proxy has; whoever knows the check token may say one
fn client_address(headers: &HeaderMap, trusted: &[IpNet]) -> Result<IpAddr, Problem> {
    const NOBODY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let trusted: Vec<_> = trusted.iter().copied().chain([IpNet::from(NOBODY)]).collect();
    match forwarded::client_address(NOBODY, headers, &trusted) {
        Ok(NOBODY) | Err(_) => Err(Problem::bad_request("X-Forwarded-For does not name the client's address")),
        Ok(client) => Ok(client),
    }
}

impl CheckApi {
    async fn decides(&self, attempt: &Attempt, user_agent: Option<&str>) -> Result<Response, Answer> {
        let (gate, now) = (&self.gate, self.gate.clock.now());
        let case = |stage| Case { user_agent, ..Case::of(attempt, stage) };
        let refuse = |stage, refusal: Refusal| Answer::from(decide::refuse(gate, case(stage), refusal));
        let mut pardons = Pardons::by(gate);
        let counted = count_handshake(gate, attempt.address, &mut pardons, now);
        decide::pardoned(gate, case(Stage::Handshake), pardons);
        counted.map_err(|denial| refuse(Stage::Handshake, denial.into()))?;
        gate.memory
            .check()
            .and_then(|()| upgrade_rate::check(&gate.upgrades, now, u16::from_le_bytes(random::bytes())))
            .map_err(|denial| refuse(Stage::Handshake, denial.into()))?;
        let mut pardons = Pardons::by(gate);
        let stopwatch = Stopwatch::of_admission();
        let outcome = admit(gate, attempt, &mut pardons, now).await;
        stopwatch.stop(gate);
        decide::pardoned(gate, case(Stage::Admission), pardons);
        let (_, admitted) = outcome.map_err(|refusal| refuse(Stage::Admission, refusal))?;
        decide::came_in(gate, case(Stage::Admission), &admitted.principal);
        let mut response = Response::new(Body::empty());
        forwarded::add_claims(response.headers_mut(), attempt, None, "http", Some(&admitted.principal));
        keep_claims(response.headers_mut());
        Ok(response)
    }
}

/// of what an upstream is told, that which Picket alone can say
fn keep_claims(headers: &mut HeaderMap) {
    let others: Vec<HeaderName> =
        headers.keys().filter(|name| !name.as_str().starts_with("x-picket-")).cloned().collect();
    for name in others {
        headers.remove(name);
    }
}

/// 401, 403 or 429; 503 only where there is no verdict
fn refused(answer: Answer) -> Response {
    let reason = answer.denial.as_ref().map(|denial| denial.reason);
    let answer = match reason {
        Some(Reason::AnonymousLimit) => answer.status(StatusCode::TOO_MANY_REQUESTS),
        _ => answer,
    };
    let mut response = answer.into_response().map(Body::new);
    response.headers_mut().remove(header::CONNECTION);
    if let Some(reason) = reason {
        response.extensions_mut().insert(reason);
        response.headers_mut().insert("x-picket-reason", HeaderValue::from_static(reason.token()));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn the_client_is_the_last_address_that_is_no_proxy_or_the_question_is_wrong() {
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        let client = |forwarded: &str| client_address(&headers(&[("x-forwarded-for", forwarded)]), &trusted).ok();
        assert_eq!(client("198.51.100.7"), Some([198, 51, 100, 7].into()));
        assert_eq!(client("192.0.2.66, 198.51.100.7, 10.0.0.1"), Some([198, 51, 100, 7].into()));
        assert_eq!(client("nobody"), None);
        assert_eq!(client(""), None);
        assert!(client_address(&HeaderMap::new(), &trusted).is_err());
    }

    #[test]
    fn the_check_token_is_never_taken_for_the_clients() {
        let own = client_headers(&headers(&[("authorization", "Bearer of-the-api")])).unwrap();
        assert!(!own.contains_key(header::AUTHORIZATION));
        let both = [("authorization", "Bearer of-the-api"), (CLIENT_AUTHORIZATION, "Bearer mine")];
        assert_eq!(client_headers(&headers(&both)).unwrap()[header::AUTHORIZATION], "Bearer mine");
        assert!(client_headers(&headers(&[("origin", "https://a.test"), ("origin", "https://b.test")])).is_err());
    }
}
