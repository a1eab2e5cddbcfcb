//! The table of operations: none is served that is not described, and what its description says about access is what is enforced.

use axum::Router;
use axum::extract::{Request, State};
use axum::handler::Handler;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use http::Method;
use picket_shared::audit::{EventType, Severity};
use std::sync::Arc;

use super::Api;
use super::auth::Caller;
use super::openapi::{Access, Operation};
use super::problem::Problem;

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
            let door = middleware::from_fn_with_state((api.clone(), route.operation.access), admit);
            router.route(route.path, route.endpoint.route_layer(door))
        })
    }
}

/// lets in who has the operation's scope; who has not is on the record
async fn admit(State((api, access)): State<(Arc<Api>, Access)>, request: Request, next: Next) -> Response {
    let caller = request.extensions().get::<Caller>();
    match (access, caller) {
        (Access::Open, _) | (Access::Known, Some(_)) => next.run(request).await,
        (Access::Scope(scope), Some(caller)) if caller.may(scope) => next.run(request).await,
        (Access::Scope(scope), Some(caller)) => {
            let (method, path) = (request.method().as_str(), request.uri().path());
            api.record(EventType::AdminAction, Severity::Medium, caller, "administrative act refused", |record| {
                record.with("method", method).with("path", path).with("missingScope", scope.as_str())
            });
            Problem::forbidden(format!(
                "this needs the scope `{}`, which {} does not have",
                scope.as_str(),
                caller.name
            ))
            .into_response()
        }
        (Access::Known | Access::Scope(_), None) => Problem::unauthorized("log in first").into_response(),
    }
}
