//! Readers who wait: event streams over plain sockets, so that ten thousand of them cost the client little.

use std::time::Instant;

use http::HeaderValue;
use postern_protocol::send::EVENTS_PATH;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;

/// Open event streams of one server.
#[derive(Debug)]
pub struct Readers {
    tasks: JoinSet<()>,
    count: usize,
    news: UnboundedReceiver<(usize, Instant)>,
    tell: UnboundedSender<(usize, Instant)>,
}

impl Default for Readers {
    fn default() -> Self {
        let (tell, news) = unbounded_channel();
        Self { tasks: JoinSet::new(), count: 0, news, tell }
    }
}

impl Readers {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// One more, by this permission; returns once the server has begun to answer.
    pub async fn open(&mut self, url: &str, authorization: &HeaderValue) {
        let mut stream = TcpStream::connect(url.trim_start_matches("http://")).await.unwrap();
        let authorization = authorization.to_str().unwrap();
        let request = format!(
            "GET {EVENTS_PATH} HTTP/1.1\r\nhost: relay\r\nauthorization: {authorization}\r\naccept: text/event-stream\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut buffer = [0; 1024];
        let read = stream.read(&mut buffer).await.unwrap();
        assert!(buffer[..read].starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&buffer[..read]));
        let (reader, tell) = (self.count, self.tell.clone());
        self.tasks.spawn(async move {
            // A server's chunk comes in one piece: it is written in one.
            loop {
                let read = stream.read(&mut buffer).await.unwrap();
                assert_ne!(read, 0, "the server ended the stream of a reader");
                if buffer[..read].windows(14).any(|bytes| bytes == b"event: message") {
                    let _ = tell.send((reader, Instant::now()));
                }
            }
        });
        self.count += 1;
    }

    /// The next that is told of mail, and when.
    pub async fn next(&mut self) -> (usize, Instant) {
        self.news.recv().await.unwrap()
    }

    /// Nobody has failed meanwhile.
    pub fn check(&mut self) {
        assert!(self.tasks.try_join_next().is_none(), "a reader has ended");
    }
}
