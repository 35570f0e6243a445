//! What goes round every handler: bounded time, bounded numbers, no caching, and a log without identifiers.

use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{CACHE_CONTROL, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use postern_protocol::problem::ProblemKind;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout};

use crate::app::App;
use crate::error::Refusal;

/// How long a request waits for its turn before it is sent away.
const PATIENCE: Duration = Duration::from_secs(1);

/// Bounds how many requests are handled at a time, and how long one may take, its body included. Not for readers that
/// wait: those are counted on their own.
pub(crate) async fn bounded(State(app): State<App>, request: Request, next: Next) -> Response {
    // First its endpoint's, so that who waits for a crowded one takes nothing from the others.
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let endpoint = app.endpoints.of(route);
    let Some((_share, _permit)) = timeout(PATIENCE, both(&endpoint, &app.permits)).await.ok().flatten() else {
        return Refusal::retry_after(ProblemKind::Unavailable, 1).into_response();
    };
    let longest = Duration::from_secs(app.config.limits.request_timeout_seconds);
    match timeout(longest, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Refusal::retry_after(ProblemKind::Timeout, 1).into_response(),
    }
}

async fn both<'a>(first: &'a Semaphore, then: &'a Semaphore) -> Option<(SemaphorePermit<'a>, SemaphorePermit<'a>)> {
    Some((first.acquire().await.ok()?, then.acquire().await.ok()?))
}

/// Nothing here is for a cache. Log and counters name the route, never the path: that has a mailbox in it.
pub(crate) async fn outermost(State(app): State<App>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let mut response = next.run(request).await;
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let route = route.as_ref().map(MatchedPath::as_str);
    let refused = response.extensions().get::<ProblemKind>().copied();
    app.counters.requests.count(&method, route, response.status(), refused, began.elapsed());
    let route = route.unwrap_or("none");
    tracing::debug!(%method, route, status = response.status().as_u16(), "request");
    response
}
