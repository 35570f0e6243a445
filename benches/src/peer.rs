//! Bare servers on the same library, to compare with.

use std::convert::Infallible;
use std::process::ExitCode;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use futures::Stream;
use postern_protocol::send::EVENTS_PATH;
use tokio::net::TcpListener;

/// Takes a message as a relay does, and forgets it.
pub fn hello() -> Router {
    let answer = async |_: HeaderMap, body: Bytes| {
        let status = if body.is_empty() { StatusCode::BAD_REQUEST } else { StatusCode::CREATED };
        (
            status,
            [(header::CONTENT_TYPE, "application/json")],
            r#"{"message":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}"#,
        )
    };
    Router::new().route("/v1/mailboxes/{mailbox}/messages", post(answer))
}

/// An event stream on which nothing ever happens but the heartbeat.
pub fn events() -> Router {
    async fn silent() -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
        Sse::new(futures::stream::pending()).keep_alive(KeepAlive::new().interval(Duration::from_secs(15)))
    }
    Router::new().route(EVENTS_PATH, get(silent))
}

/// Serves until the process is ended; says where, as the relay does.
pub fn serve(router: Router) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("listening on http://{}", listener.local_addr().unwrap());
        let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
        axum::serve(listener, router).await.unwrap();
    });
    ExitCode::SUCCESS
}
