//! Plain HTTP/1.1 over connections that are kept: as little work a request as possible, for the generator shares its cores with
//! the servers.
//!
//! A request takes a free connection, or waits for one: there are never more than was said. No redirects, no proxies, no TLS.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// How long a request may take, before it counts as unanswered.
pub const TIMEOUT: Duration = Duration::from_secs(60);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// Not `http://host:port`, or not a path.
    #[error("not a plain http address: {0}")]
    Address(String),
    /// No connection.
    #[error("cannot connect: {0}")]
    Connect(std::io::ErrorKind),
    /// It broke off. Whether the request was carried out is unknown.
    #[error("broken off: {0}")]
    Broken(hyper::Error),
    /// Nothing came within [`TIMEOUT`].
    #[error("no answer in time")]
    Late,
}

/// One request. Cheap to clone: the body is shared.
#[derive(Clone, Debug)]
pub struct Request {
    method: Method,
    path: Uri,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
}

impl Request {
    /// A request for a path (with query) of the server.
    ///
    /// # Errors
    /// [`HttpError::Address`] if it is no path.
    pub fn new(method: Method, path: &str, body: impl Into<Bytes>) -> Result<Self, HttpError> {
        let path: PathAndQuery = path.parse().map_err(|_| HttpError::Address(path.to_owned()))?;
        Ok(Self { method, path: Uri::from(path), headers: Vec::new(), body: body.into() })
    }

    /// A GET.
    ///
    /// # Errors
    /// As [`Request::new`].
    pub fn get(path: &str) -> Result<Self, HttpError> {
        Self::new(Method::GET, path, Bytes::new())
    }

    /// A POST.
    ///
    /// # Errors
    /// As [`Request::new`].
    pub fn post(path: &str, body: impl Into<Bytes>) -> Result<Self, HttpError> {
        Self::new(Method::POST, path, body)
    }

    /// The same with a header more.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// As it goes over the wire to `host`, for a client that does without hyper.
    pub fn encode(&self, host: &str) -> Vec<u8> {
        let mut bytes = format!("{} {} HTTP/1.1\r\nhost: {host}\r\n", self.method, self.path).into_bytes();
        for (name, value) in &self.headers {
            bytes.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
        }
        bytes.extend(format!("content-length: {}\r\n\r\n", self.body.len()).into_bytes());
        bytes.extend(&self.body);
        bytes
    }

    fn build(self, host: &HeaderValue) -> http::Request<Full<Bytes>> {
        let has_body = !self.body.is_empty() || self.method != Method::GET;
        let length = self.body.len();
        let mut request = http::Request::new(Full::new(self.body));
        *request.method_mut() = self.method;
        *request.uri_mut() = self.path;
        let headers = request.headers_mut();
        headers.insert(HOST, host.clone());
        if has_body {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        headers.extend(self.headers);
        request
    }
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Status code.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

type Sender = SendRequest<Full<Bytes>>;

/// Connections to one server, opened when they are needed, kept, and never more than so many.
#[derive(Debug)]
pub struct Connections {
    address: String,
    host: HeaderValue,
    permits: Semaphore,
    free: Mutex<Vec<Sender>>,
}

impl Connections {
    /// At most `most` connections to `url`, such as `http://127.0.0.1:8080`. Opens none yet.
    ///
    /// # Errors
    /// [`HttpError::Address`].
    pub fn new(url: &str, most: usize) -> Result<Self, HttpError> {
        let wrong = || HttpError::Address(url.to_owned());
        let parsed = url::Url::parse(url).map_err(|_| wrong())?;
        let plain = parsed.scheme() == "http" && parsed.path() == "/" && parsed.query().is_none();
        let host = parsed.host_str().filter(|_| plain).ok_or_else(wrong)?;
        let address = format!("{host}:{}", parsed.port_or_known_default().ok_or_else(wrong)?);
        let host = HeaderValue::from_str(&address).map_err(|_| wrong())?;
        Ok(Self { address, host, permits: Semaphore::new(most.max(1)), free: Mutex::new(Vec::new()) })
    }

    /// Sends a request and reads the whole answer, whatever its status.
    ///
    /// # Errors
    /// If there is no answer. A kept connection that the server had closed meanwhile is replaced, and only if nothing was sent over it.
    pub async fn send(&self, request: Request) -> Result<Reply, HttpError> {
        // The semaphore is never closed; if it were, there would be one connection more.
        let _permit = self.permits.acquire().await.ok();
        let exchange = self.exchange(request.build(&self.host));
        tokio::time::timeout(TIMEOUT, exchange).await.unwrap_or(Err(HttpError::Late))
    }

    /// Opens so many connections ahead, so that their handshakes are not measured.
    ///
    /// # Errors
    /// [`HttpError::Connect`].
    pub async fn open(&self, count: usize) -> Result<(), HttpError> {
        for _ in 0..count {
            let mut sender = self.connect().await?;
            sender.ready().await.map_err(HttpError::Broken)?;
            self.keep(sender);
        }
        Ok(())
    }

    async fn exchange(&self, mut request: http::Request<Full<Bytes>>) -> Result<Reply, HttpError> {
        loop {
            let kept = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let is_kept = kept.is_some();
            let mut sender = match kept {
                Some(sender) => sender,
                None => self.connect().await?,
            };
            if let Err(error) = sender.ready().await {
                if is_kept {
                    continue;
                }
                return Err(HttpError::Broken(error));
            }
            match sender.try_send_request(request).await {
                Ok(response) => return self.read(sender, response).await,
                Err(mut error) => match error.take_message() {
                    Some(unsent) if is_kept => request = unsent,
                    _ => return Err(HttpError::Broken(error.into_error())),
                },
            }
        }
    }

    async fn read(&self, sender: Sender, response: http::Response<hyper::body::Incoming>) -> Result<Reply, HttpError> {
        let (head, body) = response.into_parts();
        let body = body.collect().await.map_err(HttpError::Broken)?.to_bytes();
        self.keep(sender);
        Ok(Reply { status: head.status.as_u16(), headers: head.headers, body })
    }

    fn keep(&self, sender: Sender) {
        // The one used last is taken first: its buffers are warm, and those too many idle away.
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
    }

    async fn connect(&self) -> Result<Sender, HttpError> {
        let failed = |error: std::io::Error| HttpError::Connect(error.kind());
        let stream = TcpStream::connect(&self.address).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(HttpError::Broken)?;
        // It ends with the last sender, or with the server.
        tokio::spawn(connection);
        Ok(sender)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A server that answers each request with how many came over its connection before, and closes after `per_connection`.
    async fn server(per_connection: usize) -> (String, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let accepted = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&accepted);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    let mut buffer = vec![0; 65_536];
                    for served in 0..per_connection {
                        let mut text = String::new();
                        while !text.ends_with("\r\n\r\nhello") {
                            let n = stream.read(&mut buffer).await.unwrap();
                            if n == 0 {
                                return;
                            }
                            text.push_str(std::str::from_utf8(&buffer[..n]).unwrap());
                        }
                        let lower = text.to_ascii_lowercase();
                        assert!(lower.contains("content-length: 5\r\n") && lower.contains("host: 127.0.0.1:"));
                        let body = served.to_string();
                        let answer = format!("HTTP/1.1 201 Created\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                        stream.write_all(answer.as_bytes()).await.unwrap();
                    }
                });
            }
        });
        (url, accepted)
    }

    fn hello() -> Request {
        Request::post("/v1/x?y=1", "hello").unwrap()
    }

    #[tokio::test]
    async fn one_connection_serves_all_requests_that_come_one_after_the_other() {
        let (url, accepted) = server(usize::MAX).await;
        let connections = Connections::new(&url, 4).unwrap();
        for i in 0..20 {
            let reply = connections.send(hello()).await.unwrap();
            assert_eq!((reply.status, reply.body.as_ref()), (201, i.to_string().as_bytes()));
        }
        assert_eq!(accepted.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn there_are_never_more_connections_than_was_said() {
        let (url, accepted) = server(usize::MAX).await;
        let connections = Arc::new(Connections::new(&url, 3).unwrap());
        let all = (0..50).map(|_| {
            let connections = Arc::clone(&connections);
            tokio::spawn(async move { connections.send(hello()).await.unwrap().status })
        });
        for task in all.collect::<Vec<_>>() {
            assert_eq!(task.await.unwrap(), 201);
        }
        assert!(accepted.load(Ordering::SeqCst) <= 3);
    }

    #[tokio::test]
    async fn a_connection_that_the_server_closed_is_replaced() {
        let (url, accepted) = server(1).await;
        let connections = Connections::new(&url, 1).unwrap();
        for i in 1..=5 {
            assert_eq!(connections.send(hello()).await.unwrap().status, 201);
            assert_eq!(accepted.load(Ordering::SeqCst), i);
            // Until the end of the stream has been seen: otherwise it may break off in the middle, which is an error.
            let mut kept = connections.free.lock().unwrap().pop().unwrap();
            while kept.ready().await.is_ok() {
                tokio::task::yield_now().await;
            }
            connections.keep(kept);
        }
    }

    #[tokio::test]
    async fn nobody_there_is_an_error_and_not_a_hang() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let error = Connections::new(&url, 1).unwrap().send(hello()).await.unwrap_err();
        assert!(matches!(error, HttpError::Connect(std::io::ErrorKind::ConnectionRefused)), "{error}");
    }

    #[test]
    fn only_plain_addresses_without_a_path_are_taken() {
        for url in ["https://127.0.0.1", "http://127.0.0.1/x", "127.0.0.1:80", "http://127.0.0.1/?q"] {
            assert!(Connections::new(url, 1).is_err(), "{url}");
        }
        assert!(Connections::new("http://127.0.0.1:8080", 1).is_ok());
        assert!(Connections::new("http://[::1]:8080/", 1).is_ok());
    }
}
