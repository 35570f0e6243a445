//! Somebody in between: a server that speaks TLS with a certificate of its choice, passes what it is asked on, and notes it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use postern_listen::{Bounds, Listener};
use postern_tls::TlsFiles;

use crate::http::client_for;

/// Answers as the server behind it does, by asking it; 502 if there is none.
pub struct Between {
    /// Base URL, without a fingerprint.
    pub url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

#[derive(Clone)]
struct Passing {
    http: reqwest::Client,
    to: String,
    asked: Arc<Mutex<Vec<String>>>,
}

async fn pass(State(passing): State<Passing>, method: Method, uri: Uri, body: Bytes) -> Response {
    passing.asked.lock().unwrap().push(format!("{method} {uri}"));
    let answer = passing.http.request(method, format!("{}{uri}", passing.to)).body(body).send().await;
    let Ok(answer) = answer else { return StatusCode::BAD_GATEWAY.into_response() };
    (answer.status(), answer.bytes().await.unwrap()).into_response()
}

impl Between {
    /// Listens on a free port, in front of `server`; it lives as long as the test.
    pub async fn start(server: &str, files: &TlsFiles) -> Self {
        let (http, [to]) = client_for([server]);
        let asked = Arc::default();
        let router = Router::new().fallback(pass).with_state(Passing { http, to, asked: Arc::clone(&asked) });
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), Some(files)).await.unwrap();
        let url = listener.line().unwrap().strip_prefix("listening on ").unwrap().to_owned();
        let long = Duration::from_secs(10);
        let bounds = Bounds { connections: 100, idle: long, slow_reader: long, answer_bytes: 1 << 20 };
        tokio::spawn(postern_listen::serve(listener, router, bounds, std::future::pending::<()>()));
        Self { url, asked }
    }

    /// The requests that came through a handshake, `METHOD path` each.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}
