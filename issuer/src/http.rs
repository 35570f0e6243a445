//! HTTP: decode, one call of a service, encode. Every refusal is a problem document (RFC 9457).

pub mod answer;
pub mod directory;
pub mod exchange;
pub mod incoming;
pub mod keys;
pub mod log;
pub mod login;
pub mod lookup;
pub mod register;
pub mod sessions;
pub mod texts;
pub mod tokens;

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use postern_protocol::operate::{HEALTH_PATH, READY_PATH};
use postern_protocol::problem::ProblemKind;
use tokio::time::Instant;

use crate::app::Issuer;
use crate::error::Refusal;

/// Any other path.
pub async fn not_found() -> Refusal {
    ProblemKind::NotFound.into()
}

/// Any other method.
pub async fn method_not_allowed() -> Refusal {
    ProblemKind::MethodNotAllowed.into()
}

/// Bounds how many requests are handled at a time and how long each may take; logs and counts what the route answered: no
/// address, no body, no header.
pub async fn guard(State(issuer): State<Arc<Issuer>>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or("-", MatchedPath::as_str);
    // Whoever asks how the server is must hear so when it has much to do.
    let is_health = matches!(route, HEALTH_PATH | READY_PATH);
    let work = async {
        // First its endpoint's, so that who waits for a crowded one takes nothing from the others.
        if is_health {
            return next.run(request).await;
        }
        let endpoint = issuer.endpoints.of(route);
        let _share = endpoint.acquire().await;
        let _permit = issuer.permits.acquire().await;
        next.run(request).await
    };
    let limit = Duration::from_secs(issuer.config.limits.request_timeout_seconds);
    let response = match tokio::time::timeout(limit, work).await {
        Ok(response) => response,
        Err(_) => Refusal::retry_after(ProblemKind::Timeout, 1).into_response(),
    };
    let refused = response.extensions().get::<ProblemKind>().copied();
    issuer.counters.requests.count(&method, Some(route), response.status(), refused, began.elapsed());
    tracing::debug!(%method, route, status = response.status().as_u16(), "answered");
    response
}

/// A handler panicked: a bug, and nothing was committed.
pub fn panicked(_payload: Box<dyn Any + Send>) -> Response {
    Refusal::Failed("a request handler panicked").into_response()
}
