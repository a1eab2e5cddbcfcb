//! The table of operations: none is served that is not described, and what its description says about access is what is enforced.

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::handler::Handler;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use http::Method;
use picket_shared::audit::{AuditRecord, EventType, Severity};
use std::sync::Arc;

use super::auth::{Caller, Due, write};
use super::openapi::{Access, Operation};
use super::problem::Problem;
use super::{Api, change, idempotency};
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
            let endpoint = match route.operation.is_change() {
                true => changing(route.endpoint, &route.operation, api),
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

/// what comes last here comes first to a request
fn changing(endpoint: MethodRouter<Arc<Api>>, operation: &Operation, api: &Arc<Api>) -> MethodRouter<Arc<Api>> {
    let endpoint = endpoint.route_layer(middleware::from_fn_with_state(api.clone(), change::make));
    let endpoint = match operation.once {
        true => endpoint.route_layer(middleware::from_fn_with_state(api.clone(), idempotency::once)),
        false => endpoint,
    };
    endpoint.route_layer(middleware::from_fn_with_state(api.clone(), change::to_its_end))
}

/// what was asked for, as far as it names nobody
pub(super) struct Act {
    method: String,
    /// as it is described: a real one may name a person
    path: String,
}

impl Act {
    pub(super) fn of(request: &Request) -> Self {
        let path = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
        Act { method: request.method().to_string(), path: path.to_owned() }
    }

    pub(super) fn told(self, record: AuditRecord) -> AuditRecord {
        record.with("method", self.method).with("path", self.path)
    }
}

/// changes come as they must, and whoever calls has the operation's scope; a caller who is refused is on the record, and so is who
/// reads the trail
async fn admit(State(door): State<Door>, request: Request, next: Next) -> Response {
    let caller = request.extensions().get::<Caller>().cloned();
    let act = Act::of(&request);
    let refused =
        write::check(request.method(), request.headers()).err().or_else(|| objection(door.access, caller.as_ref()));
    if let Some(problem) = refused {
        if let Some(caller) = &caller {
            door.api.record(EventType::AdminAction, Severity::Medium, caller, "administrative act refused", |record| {
                act.told(record).with("because", problem.detail())
            });
        }
        return problem.into_response();
    }
    let response = next.run(request).await;
    if let (Some(caller), Some(reading)) = (&caller, door.reading)
        && response.status().is_success()
        && door.api.gate.visits.come(&caller.name, caller.address, reading, door.api.clock.now()) == Due::Now
    {
        door.api.record(EventType::AdminAction, Severity::Low, caller, "audit trail read", |record| act.told(record));
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
