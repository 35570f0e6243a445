//! The port that metrics are on: apart from the one that clients use, and on loopback.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;

use crate::health::{Operated, health_routes};
use crate::metrics::{MEDIA_TYPE, METRICS_PATH};

/// Opens the port, if there is to be one, and serves it for as long as the process lives.
///
/// # Errors
/// If it cannot be opened; says which it is.
pub async fn start_metrics(at: Option<SocketAddr>, server: Arc<dyn Operated>) -> io::Result<()> {
    let Some(at) = at else { return Ok(()) };
    let listener = TcpListener::bind(at).await;
    let listener = listener.map_err(|e| io::Error::new(e.kind(), format!("cannot serve metrics on {at}: {e}")))?;
    tokio::spawn(serve_metrics(listener, server));
    Ok(())
}

/// Serves `/metrics`, `/healthz` and `/readyz` until it is dropped. An error of the listener is logged, and no affair of those who write.
pub async fn serve_metrics(listener: TcpListener, server: Arc<dyn Operated>) {
    let health = health_routes(Arc::clone(&server));
    let router = Router::new().route(METRICS_PATH, get(metrics)).with_state(server).merge(health);
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!(%error, "metrics cannot be served");
    }
}

async fn metrics(State(server): State<Arc<dyn Operated>>) -> impl IntoResponse {
    ([(CONTENT_TYPE, MEDIA_TYPE), (CACHE_CONTROL, "no-store")], server.metrics().await)
}
