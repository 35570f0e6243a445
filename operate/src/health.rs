//! Whether the process is up (`/healthz`), and whether it can do its work (`/readyz`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures::future::BoxFuture;
use postern_protocol::operate::{HEALTH_PATH, READY_PATH};
use postern_protocol::problem::{MEDIA_TYPE, Problem, ProblemKind};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

/// How long the look may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long what was found is taken to be so: whoever asks a thousand times a second costs no more than who asks once.
const FRESH: Duration = Duration::from_secs(1);

/// Why a server cannot do its work at the moment. Says nothing that is secret: anybody may read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotReady {
    /// It was told to take no more.
    #[error("The server is stopping.")]
    Stopping,
    /// No answer, or not in time.
    #[error("The database does not answer.")]
    Database,
    /// Nothing can be signed, or nothing that is signed be checked.
    #[error("There is no active token key.")]
    NoKey,
}

/// A server, as seen from here.
pub trait Operated: Send + Sync + 'static {
    /// Looks whether the database answers and keys are there.
    fn look(&self) -> BoxFuture<'_, Result<(), NotReady>>;
    /// What is kept of it.
    fn health(&self) -> &Health;
    /// All metrics, as Prometheus reads them.
    fn metrics(&self) -> BoxFuture<'_, String>;
}

/// What was found at the last look, and whether the server was told to stop.
#[derive(Debug, Default)]
pub struct Health {
    stopping: AtomicBool,
    last: Mutex<Option<(Instant, Result<(), NotReady>)>>,
}

impl Health {
    /// From here on it is not ready: balancers send nothing more.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Whether it was told to stop.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Whether the server can do its work. One looks, and the others hear what it found.
    ///
    /// # Errors
    /// Why it cannot.
    pub async fn is_ready(&self, look: impl Future<Output = Result<(), NotReady>>) -> Result<(), NotReady> {
        if self.is_stopping() {
            return Err(NotReady::Stopping);
        }
        let mut last = self.last.lock().await;
        if let Some((at, found)) = *last
            && at.elapsed() < FRESH
        {
            return found;
        }
        let found = timeout(PATIENCE, look).await.unwrap_or(Err(NotReady::Database));
        *last = Some((Instant::now(), found));
        found
    }
}

/// `/healthz` and `/readyz`, for a router of any state.
pub fn health_routes<S: Clone + Send + Sync + 'static>(server: Arc<dyn Operated>) -> Router<S> {
    Router::new().route(HEALTH_PATH, get(health)).route(READY_PATH, get(ready)).with_state(server)
}

/// Touches nothing: that it is answered is the answer.
async fn health() -> Response {
    good("up\n")
}

async fn ready(State(server): State<Arc<dyn Operated>>) -> Response {
    match server.health().is_ready(server.look()).await {
        Ok(()) => good("ready\n"),
        Err(why) => bad(why),
    }
}

fn good(body: &'static str) -> Response {
    ([(CACHE_CONTROL, "no-store"), (CONTENT_TYPE, "text/plain; charset=utf-8")], body).into_response()
}

fn bad(why: NotReady) -> Response {
    let problem = Problem::new(ProblemKind::Unavailable).detail(why.to_string()).retry_after(1);
    let mut headers = HeaderMap::new();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    headers.insert(RETRY_AFTER, HeaderValue::from(1));
    (StatusCode::SERVICE_UNAVAILABLE, headers, serde_json::to_vec(&problem).unwrap_or_default()).into_response()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_look_that_takes_too_long_is_a_database_that_does_not_answer() {
        let health = Health::default();
        let found = health.is_ready(std::future::pending()).await;
        assert_eq!(found, Err(NotReady::Database));
    }

    #[tokio::test(start_paused = true)]
    async fn many_who_ask_cost_one_look_a_second() {
        let (health, looks) = (Health::default(), AtomicUsize::new(0));
        let look = || async {
            looks.fetch_add(1, Ordering::Relaxed);
            Ok(())
        };
        for _ in 0..1000 {
            assert_eq!(health.is_ready(look()).await, Ok(()));
        }
        assert_eq!(looks.load(Ordering::Relaxed), 1);
        tokio::time::advance(FRESH).await;
        assert_eq!(health.is_ready(async { Err(NotReady::NoKey) }).await, Err(NotReady::NoKey));
        assert_eq!(health.is_ready(look()).await, Err(NotReady::NoKey), "still");
    }

    #[tokio::test]
    async fn one_that_was_told_to_stop_is_not_ready_whatever_was_found_before() {
        let health = Health::default();
        assert_eq!(health.is_ready(async { Ok(()) }).await, Ok(()));
        health.stop();
        assert_eq!(health.is_ready(async { Ok(()) }).await, Err(NotReady::Stopping));
    }
}
