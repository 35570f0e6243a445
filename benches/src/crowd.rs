//! Senders over plain sockets, each with its next message as soon as the last is answered, or when it is due: they share the cores with the
//! servers, and must cost little.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use postern_load::http::Request;
use postern_load::measure::{Latency, Outcome, Recorder};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::client::{SEND, latency};

/// The longest answer to a send.
const LONGEST_ANSWER: usize = 2048;

/// Senders, and where to.
#[derive(Debug)]
pub struct Crowd {
    address: String,
    streams: Vec<TcpStream>,
}

impl Crowd {
    /// So many, connected.
    pub async fn of(url: &str, count: usize) -> Self {
        let address = url.trim_start_matches("http://").to_owned();
        let mut streams = Vec::with_capacity(count);
        for _ in 0..count {
            let stream = TcpStream::connect(&address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            streams.push(stream);
        }
        Self { address, streams }
    }

    /// All of the requests, which must be taken, as fast as it goes; messages a second, and how long one took, µs.
    pub async fn round(&mut self, prepared: &[Request]) -> (f64, Latency) {
        let recorder = Arc::new(Recorder::default());
        let took = self.run(prepared, None, &recorder).await;
        (prepared.len() as f64 / took.as_secs_f64(), latency(&recorder, SEND))
    }

    /// The same at a rate, as if from strangers who know nothing of each other: each begins when it is due, whatever became of the others,
    /// as long as there is a connection left; and counts from then.
    pub async fn paced(&mut self, prepared: &[Request], per_second: f64, recorder: &Arc<Recorder>) {
        self.run(prepared, Some(per_second), recorder).await;
    }

    async fn run(&mut self, prepared: &[Request], rate: Option<f64>, recorder: &Arc<Recorder>) -> Duration {
        let prepared: Arc<Vec<_>> = Arc::new(prepared.iter().map(|request| request.encode(&self.address)).collect());
        let next = Arc::new(AtomicUsize::new(0));
        let mut senders = JoinSet::new();
        let start = Instant::now();
        for mut stream in self.streams.drain(..) {
            let (prepared, next, recorder) = (Arc::clone(&prepared), Arc::clone(&next), Arc::clone(recorder));
            senders.spawn(async move {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    let Some(request) = prepared.get(n) else { break };
                    let due = match rate {
                        Some(rate) => start + Duration::from_secs_f64(n as f64 / rate),
                        None => Instant::now(),
                    };
                    tokio::time::sleep_until(due.into()).await;
                    send(&mut stream, request).await;
                    recorder.record(SEND, due.elapsed(), &Outcome::Done(201));
                }
                (stream, Instant::now())
            });
        }
        let mut ended = start;
        for (stream, when) in senders.join_all().await {
            self.streams.push(stream);
            ended = ended.max(when);
        }
        ended - start
    }
}

async fn send(stream: &mut TcpStream, request: &[u8]) {
    stream.write_all(request).await.unwrap();
    let (mut answer, mut read) = ([0; LONGEST_ANSWER], 0);
    loop {
        let more = stream.read(&mut answer[read..]).await.unwrap();
        assert_ne!(more, 0, "broken off: {}", String::from_utf8_lossy(&answer[..read]));
        read += more;
        if is_whole(&answer[..read]) {
            break;
        }
    }
    assert!(answer.starts_with(b"HTTP/1.1 201 "), "a send was refused: {}", String::from_utf8_lossy(&answer[..read]));
}

fn is_whole(answer: &[u8]) -> bool {
    let Some(head) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { return false };
    let text = String::from_utf8_lossy(&answer[..head]);
    let length =
        text.split("\r\n").find_map(|line| line.strip_prefix("content-length: ")).expect("an answer with a length");
    answer.len() >= head + 4 + length.parse::<usize>().unwrap()
}
