//! Around every request: the bearer token, a bound on requests at once, a panic that ends one request only, and its span.

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, header};
use picket_shared::reason::Reason;
use picket_shared::secret::Secret;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Semaphore;

use super::CheckApi;
use super::problem::Problem;
use crate::spans::Exchange;

pub struct Guard {
    token: Secret,
    places: Semaphore,
    /// the last caller had no valid token: said once, until one has
    said: AtomicBool,
}

impl Guard {
    pub fn new(token: Secret, places: Semaphore) -> Self {
        Guard { token, places, said: AtomicBool::new(false) }
    }

    /// the same answer to a missing and to a wrong token, after a time that tells nothing about it
    fn knows(&self, headers: &HeaderMap) -> bool {
        let known = bearer(headers).is_some_and(|token| self.token.matches(token));
        if !self.said.swap(!known, Ordering::Relaxed) && !known {
            tracing::warn!("a caller of the check API does not have node.checkToken");
        }
        known
    }
}

pub async fn pass(State(api): State<Arc<CheckApi>>, request: Request, next: Next) -> Response {
    if !api.guard.knows(request.headers()) {
        return Problem::unauthorized().into_response();
    }
    let Ok(_place) = api.guard.places.try_acquire() else {
        return Problem::overload("node.limits.checkRequestsMax requests are being answered").into_response();
    };
    let (request, exchange) = traced(&api, request);
    let answered = api.tasks.isolate("check", next.run(request)).await;
    let response = answered.unwrap_or_else(|| Problem::internal().into_response());
    if let Some((exchange, route)) = exchange {
        let reason = response.extensions().get::<Reason>().copied();
        exchange.answered(&api.gate, route, response.status(), reason);
    }
    response
}

/// the request with its place in the application's trace, and what its span is made of
fn traced(api: &CheckApi, mut request: Request) -> (Request, Option<(Exchange, Option<String>)>) {
    let Some(tracer) = &api.gate.tracer else {
        return (request, None);
    };
    let trace = tracer.join(request.headers());
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let exchange = Exchange::new(&trace, None, "http", &request);
    request.extensions_mut().insert(trace);
    (request, Some((exchange, route)))
}

/// the token of the only Authorization header
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return None;
    };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_one_bearer_token_opens() {
        let guard = Guard::new(Secret::new("the-token"), Semaphore::new(1));
        let knows = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::AUTHORIZATION, value.parse().unwrap());
            }
            guard.knows(&headers)
        };
        assert!(knows(&["Bearer the-token"]) && knows(&["bearer  the-token"]));
        for wrong in
            [&[][..], &["Bearer"], &["Bearer "], &["Bearer the-tokem"], &["Bearer the-token-2"], &["the-token"]]
        {
            assert!(!knows(wrong), "{wrong:?}");
        }
        assert!(!knows(&["Basic the-token"]));
        assert!(!knows(&["Bearer the-token", "Bearer the-token"]), "two headers have two readings");
    }
}
