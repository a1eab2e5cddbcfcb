//! The table of operations: none is served that is not described, and what its description says about access is what is enforced.

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::handler::Handler;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use http::Method;
use picket_shared::audit::{EventType, Severity};
use std::sync::Arc;

use super::Api;
use super::auth::{Caller, Due, write};
use super::idempotency;
use super::openapi::{Access, Operation};
use super::problem::Problem;
use crate::scope::Scope;

#[derive(Default)]
pub(super) struct Routes(Vec<Route>);

pub(super) struct Route {
    pub(super) method: Method,
    pub(super) path: &'static str,
    pub(super) operation: Operation,
    endpoint: MethodRouter<Arc<Api>>,
}

impl Routes {
    pub(super) fn get<H: Handler<T, Arc<Api>>, T: 'static>(
        self,
        path: &'static str,
        handler: H,
        operation: Operation,
    ) -> Self {
        self.add(Method::GET, path, on(MethodFilter::GET, handler), operation)
    }

    pub(super) fn post<H: Handler<T, Arc<Api>>, T: 'static>(
        self,
        path: &'static str,
        handler: H,
        operation: Operation,
    ) -> Self {
        self.add(Method::POST, path, on(MethodFilter::POST, handler), operation)
    }

    pub(super) fn put<H: Handler<T, Arc<Api>>, T: 'static>(
        self,
        path: &'static str,
        handler: H,
        operation: Operation,
    ) -> Self {
        self.add(Method::PUT, path, on(MethodFilter::PUT, handler), operation)
    }

    pub(super) fn delete<H: Handler<T, Arc<Api>>, T: 'static>(
        self,
        path: &'static str,
        handler: H,
        operation: Operation,
    ) -> Self {
        self.add(Method::DELETE, path, on(MethodFilter::DELETE, handler), operation)
    }

    fn add(
        mut self,
        method: Method,
        path: &'static str,
        endpoint: MethodRouter<Arc<Api>>,
        operation: Operation,
    ) -> Self {
        self.0.push(Route { method, path, operation, endpoint });
        self
    }

    pub(super) fn list(&self) -> &[Route] {
        &self.0
    }

    pub(super) fn into_router(self, api: &Arc<Api>) -> Router<Arc<Api>> {
        self.0.into_iter().fold(Router::new(), |router, route| {
            let Operation { access, records_itself, .. } = route.operation;
            let reading = (access.asks_for(Scope::AuditRead) && !records_itself).then_some(route.path);
            let door = middleware::from_fn_with_state(Door { api: api.clone(), access, reading }, admit);
            let endpoint = match route.operation.once {
                true => route.endpoint.route_layer(middleware::from_fn_with_state(api.clone(), idempotency::once)),
                false => route.endpoint,
            };
            router.route(route.path, endpoint.route_layer(door))
        })
    }
}

/// what stands before an operation
#[derive(Clone)]
struct Door {
    api: Arc<Api>,
    access: Access,
    /// the operation's path, if whoever calls it reads the trail
    reading: Option<&'static str>,
}

/// changes come as they must, and whoever calls has the operation's scope; a caller who is refused is on the record, and so is who
/// reads the trail
async fn admit(State(door): State<Door>, request: Request, next: Next) -> Response {
    let caller = request.extensions().get::<Caller>().cloned();
    let method = request.method().clone();
    // The path as it is described: a real one may name a person.
    let path = request.extensions().get::<MatchedPath>().cloned();
    let path = path.as_ref().map_or("", MatchedPath::as_str);
    let refused = write::check(&method, request.headers()).err().or_else(|| objection(door.access, caller.as_ref()));
    let record = |severity, caller: &Caller, message, because: Option<&str>| {
        door.api.record(EventType::AdminAction, severity, caller, message, |record| {
            let record = record.with("method", method.as_str()).with("path", path);
            because.into_iter().fold(record, |record, because| record.with("because", because))
        });
    };
    if let Some(problem) = refused {
        if let Some(caller) = &caller {
            record(Severity::Medium, caller, "administrative act refused", Some(problem.detail()));
        }
        return problem.into_response();
    }
    let response = next.run(request).await;
    if let (Some(caller), Some(reading)) = (&caller, door.reading)
        && response.status().is_success()
        && door.api.gate.visits.come(caller, reading, door.api.clock.now()) == Due::Now
    {
        record(Severity::Low, caller, "audit trail read", None);
    }
    response
}

fn objection(access: Access, caller: Option<&Caller>) -> Option<Problem> {
    let lacks = |caller: &Caller, scope: Scope| {
        let (needed, name) = (scope.as_str(), &caller.name);
        let told = || Problem::forbidden(format!("this needs the scope `{needed}`, which {name} does not have"));
        (!caller.may(scope)).then(told)
    };
    match (access, caller) {
        (Access::Open, _) | (Access::Known, Some(_)) => None,
        (Access::Scope(scope), Some(caller)) => lacks(caller, scope),
        (Access::Both(one, other), Some(caller)) => lacks(caller, one).or_else(|| lacks(caller, other)),
        (Access::Known | Access::Scope(_) | Access::Both(..), None) => Some(Problem::unauthorized("log in first")),
    }
}
