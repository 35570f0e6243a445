//! One message after the other through a connection of the load generator's own, and how long sends took.

use std::time::Duration;

use postern_load::http::{Connections, Request};
use postern_load::measure::{Latency, Recorder};

/// Name of the sends in a [`Recorder`].
pub const SEND: &str = "send";

/// A connection to one server.
#[derive(Debug)]
pub struct Client(Connections);

impl Client {
    /// Opens it.
    pub async fn of(url: &str) -> Self {
        let connection = Connections::new(url, 1).unwrap();
        connection.open(1).await.unwrap();
        Self(connection)
    }

    /// One; it must be taken.
    pub async fn send(&self, request: Request) {
        let reply = self.0.send(request).await.unwrap();
        assert_eq!(reply.status, 201, "a send was refused");
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
