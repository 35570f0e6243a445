//! How both servers take connections: as many as they can bear, and none for ever.
//!
//! **Owns** the loop that accepts, and every bound on a connection: how many there are, how long one may have nothing to answer (a head that is
//! sent slowly, or never, counts as nothing), how large a head may be, how slowly an answer may be read. And the bound on one endpoint's share of the
//! requests that are handled at a time. **May call** `postern-protocol` (a refusal is a problem document) and `postern-tls`. It knows no endpoint,
//! and nobody's address: addresses are not looked at, since behind Tor or a proxy they mean nothing, and they would be personal data.
//!
//! A handshake of TLS is nothing to answer: it has the time of an idle connection and no more, in its connection's own task.
//!
//! When all places are taken, the connection that has had nothing to answer for longest gives its place up: so ten thousand that do
//! nothing do not keep one out that does something.

mod answers;
mod endpoints;
mod listener;
mod paced;
mod seats;

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderMap, Request, Response, StatusCode};
use axum::response::IntoResponse;
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use postern_protocol::problem::{MEDIA_TYPE, Problem, ProblemKind};
use postern_tls::ServerConfig;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tower::Service;

use answers::{Answers, Full, Held};
pub use endpoints::Endpoints;
pub use listener::{ListenError, Listener};
use paced::Paced;
pub use seats::open_connections;
use seats::{Seat, Seats, Watch};

/// The largest head of a request that gets an answer of ours, bytes: names and values of headers, and the path.
pub const MAX_HEAD: usize = 16 * 1024;
/// What of a connection is read ahead. A head that does not fit is refused before it is all there.
const READ_AHEAD: usize = 32 * 1024;
/// Streams at a time on one connection of HTTP/2.
const STREAMS: u32 = 64;
/// After the operating system had no more to give (file handles), how long until it is asked again.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// File handles that are not for connections: databases, the issuer, logs.
const OTHER_HANDLES: usize = 128;

/// The bounds of one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Connections open at a time, and no more than there are file handles for. With one more, the one that has had nothing to answer for
    /// longest is closed.
    pub connections: usize,
    /// How long a connection may have nothing to answer: before its first request, between two, and while a head is being sent.
    pub idle: Duration,
    /// How long 64 KiB of an answer may take to be read, or what is left of it.
    pub slow_reader: Duration,
    /// Bytes of large answers that wait to be read, in all; a request for more is told to come again.
    pub answer_bytes: usize,
}

/// Asks for as many open files as this process may have; returns how many.
pub fn raise_file_handles() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = if setrlimit(Resource::Nofile, raised).is_ok() { raised.current } else { limit.current };
    current.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX)
}

/// Serves until `stop`; then takes no more, and returns when the requests under way are answered.
pub async fn serve(listener: impl Into<Listener>, router: Router, bounds: Bounds, stop: impl Future<Output = ()>) {
    let Listener { tcp: listener, tls } = listener.into();
    let handles = raise_file_handles().saturating_sub(OTHER_HANDLES).max(1);
    let seats = Arc::new(Seats::new(bounds.connections.min(handles)));
    let answers = Arc::new(Answers::new(bounds.answer_bytes));
    // Made ready once: a router that is not would be made ready for each connection, 15 KB.
    let (router, mut stop) = (router.with_state(()), pin!(stop));
    let (stopping, stopped) = watch::channel(false);
    loop {
        let stream = tokio::select! {
            biased;
            () = &mut stop => break,
            stream = accept(&listener, &seats) => stream,
        };
        // An answer is one small write; waiting for a second one would only add latency.
        drop(stream.set_nodelay(true));
        // Every connection has something to answer: this one is one too many.
        let Some(seat) = seats.take() else { continue };
        let service = Handling { router: router.clone(), answers: Arc::clone(&answers), watch: seat.watch() };
        let tls = tls.as_ref().map(|tls| tls.config());
        tokio::spawn(connection(stream, tls, seat, service, bounds, stopped.clone()));
    }
    drop((listener, stopped));
    stopping.send_replace(true);
    stopping.closed().await;
}

async fn accept(listener: &TcpListener, seats: &Seats) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) => {
                // Those of one connection are its own affair; else there are no file handles left, and one more is made free.
                tracing::debug!(%error, "a connection could not be accepted");
                let pause = if seats.evict() { Duration::from_millis(1) } else { EXHAUSTED };
                tokio::time::sleep(pause).await;
            }
        }
    }
}

/// What answers the requests of a connection.
#[derive(Clone)]
struct Handling {
    router: Router,
    answers: Arc<Answers>,
    watch: Watch,
}

impl Handling {
    async fn answer(mut self, request: Request<Incoming>) -> Response<Held> {
        let busy = self.watch.busy();
        if head_of(&request) > MAX_HEAD {
            return refusal(&Problem::new(ProblemKind::HeadTooLarge)).map(|body| Held::small(body, busy));
        }
        let Ok(response) = self.router.call(request.map(Body::new)).await;
        let size = response.body().size_hint().lower();
        match self.answers.promise(usize::try_from(size).unwrap_or(usize::MAX)) {
            Ok(owed) => response.map(|body| Held::new(body, busy, owed)),
            Err(Full) => {
                refusal(&Problem::new(ProblemKind::Unavailable).retry_after(1)).map(|body| Held::small(body, busy))
            }
        }
    }
}

async fn connection(
    stream: TcpStream,
    tls: Option<Arc<ServerConfig>>,
    seat: Seat,
    handling: Handling,
    bounds: Bounds,
    stopped: watch::Receiver<bool>,
) {
    let stream = Paced::new(stream, seat.watch(), bounds.slow_reader);
    let Some(tls) = tls else { return converse(stream, seat, handling, bounds, stopped).await };
    let mut stopping = stopped.clone();
    let shaken = tokio::select! {
        shaken = tokio::time::timeout(bounds.idle, TlsAcceptor::from(tls).accept(stream)) => shaken,
        () = seat.evicted() => return,
        _ = stopping.changed() => return,
    };
    match shaken {
        Ok(Ok(stream)) => converse(stream, seat, handling, bounds, stopped).await,
        Ok(Err(error)) => tracing::trace!(%error, "a handshake failed"),
        Err(_) => tracing::trace!("a handshake took too long"),
    }
}

/// Requests and answers, until the connection ends or has to.
async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    seat: Seat,
    handling: Handling,
    bounds: Bounds,
    mut stopped: watch::Receiver<bool>,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let handling = handling.clone();
        async move { Ok::<_, Infallible>(handling.answer(request).await) }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().max_buf_size(READ_AHEAD);
    let head = u32::try_from(MAX_HEAD).unwrap_or(u32::MAX);
    builder.http2().max_concurrent_streams(STREAMS).max_header_list_size(head);
    let mut conn = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut idle = pin!(seat.idle_for(bounds.idle));
    let mut told = false;
    loop {
        tokio::select! {
            result = conn.as_mut() => {
                if let Err(error) = result {
                    tracing::trace!(%error, "a connection ended");
                }
                break;
            }
            () = &mut idle => break,
            () = seat.evicted() => break,
            _ = stopped.changed(), if !told => {
                told = true;
                conn.as_mut().graceful_shutdown();
            }
        }
    }
}

/// Bytes of a head, without what separates its parts.
fn head_of<B>(request: &Request<B>) -> usize {
    let headers: &HeaderMap = request.headers();
    let fields: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    fields + request.uri().path_and_query().map_or(0, |it| it.as_str().len())
}

/// A refusal that no handler makes, after which the connection is closed.
fn refusal(problem: &Problem) -> Response<Body> {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    let body = serde_json::to_vec(problem).unwrap_or_default();
    let headers = [("content-type", MEDIA_TYPE), ("cache-control", "no-store"), ("connection", "close")];
    let mut response = (status, headers, body).into_response();
    if let Some(seconds) = problem.retry_after {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    response
}

#[cfg(test)]
mod tests;
