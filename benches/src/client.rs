//! Sends what was prepared, through the load generator's own connections, and keeps how long it took.

use std::sync::Arc;
use std::time::Duration;

use postern_load::http::{Connections, Request};
use postern_load::measure::{Latency, Outcome, Recorder};
use postern_load::pace::{Limit, Pace, Stop, run};

/// Name of the sends in a [`Recorder`].
pub const SEND: &str = "send";

/// Connections to one server.
#[derive(Clone, Debug)]
pub struct Client {
    connections: Arc<Connections>,
    at_once: usize,
}

impl Client {
    /// With so many connections open.
    pub async fn of(url: &str, at_once: usize) -> Self {
        let connections = Connections::new(url, at_once).unwrap();
        connections.open(at_once).await.unwrap();
        Self { connections: Arc::new(connections), at_once }
    }

    /// One; it must be taken.
    pub async fn send(&self, request: Request) {
        let reply = self.connections.send(request).await.unwrap();
        assert_eq!(reply.status, 201, "a send was refused");
    }

    /// At a rate, as if from strangers who know nothing of each other. A send counts from when it was due.
    pub async fn paced(&self, prepared: Vec<Request>, per_second: f64, recorder: &Arc<Recorder>) {
        let count = prepared.len() as u64;
        let (prepared, connections) = (Arc::new(prepared), Arc::clone(&self.connections));
        let one = move |n: u64| {
            let (connections, request) = (Arc::clone(&connections), prepared[n as usize].clone());
            async move {
                match connections.send(request).await {
                    Ok(reply) if reply.status == 201 => Outcome::Done(201),
                    Ok(reply) => Outcome::Refused { status: reply.status, problem: String::new() },
                    Err(error) => Outcome::Failed(error.to_string()),
                }
            }
        };
        let pace = Pace::Open { per_second, most_outstanding: self.at_once };
        let limit = Limit { count: Some(count), ..Limit::default() };
        let ran = run(pace, limit, &Stop::default(), recorder, SEND, one).await;
        assert_eq!((ran.ended, ran.not_started), (count, 0));
    }
}

/// Of what went by that name, all of which must have gone well.
pub fn latency(recorder: &Recorder, name: &str) -> Latency {
    let report = &recorder.report(Duration::ZERO)[name];
    assert_eq!(report.unexpected, 0, "{:?}", report.outcomes);
    report.latency_us
}

/// In words.
pub fn told(latency: &Latency) -> String {
    let [p50, p99, p999] = [latency.p50, latency.p99, latency.p999].map(|us| us / 1000.0);
    format!("p50 {p50:.2}, p99 {p99:.2}, p99.9 {p999:.2}")
}
