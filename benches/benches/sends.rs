//! Cold sends through HTTP into a relay of its own process: `cargo bench --bench sends`, and with `POSTERN_TEST_ENGINE=postgres` on
//! PostgreSQL. Client, relay and database share the machine.
//!
//! How many a second, beside bare commits of the same rows; how long one takes at half of that, beside the bare commits at the same rate;
//! and what processor time one takes, beside a bare HTTP server, one check of a token, and the engine's own share.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed operation must not count as a fast one")]

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use postern_benches::bare::{BATCH, Bare, COMMIT};
use postern_benches::ratio::{Bar, Ratios, median};
use postern_benches::relay::{Relay, engine, engine_process};
use postern_benches::role::{Process, Role, is_bench, play};
use postern_load::http::{Connections, Request};
use postern_load::measure::{Latency, Outcome, Recorder};
use postern_load::pace::{Limit, Pace, Stop, run};
use postern_load::usage::Snapshot;

/// Rounds of each side; odd, so that there is a median.
const ROUNDS: usize = 5;
/// Messages of a round.
const MESSAGES: usize = 6000;
/// Requests under way at a time: two groups, one that is written and one that comes in.
const IN_FLIGHT: usize = 2 * BATCH;
/// Messages at half the rate.
const PACED: usize = 20_000;
const MAILBOXES: usize = 64;
const SEND: &str = "send";

fn main() -> ExitCode {
    if let Some(code) = play() {
        return code;
    }
    if !is_bench("sends") {
        return ExitCode::SUCCESS;
    }
    tokio::runtime::Runtime::new().unwrap().block_on(measure())
}

async fn measure() -> ExitCode {
    let mut ratios = Ratios::new(engine());
    let relay = Relay::start(MAILBOXES, |_| {}, |_, _| {}).await;
    let bare = Bare::open(&relay.database).await;
    let client = Client::of(&relay.process.url).await;
    let hello = Process::start(Role::Hello, &[]);
    let hello_client = Client::of(&hello.url).await;

    // Plans and pages are made at first use.
    client.round(relay.sends(2000)).await;
    bare.write(&Bare::rows(&relay.mailboxes, 2000)).await;
    let (mut sends, mut rows) = (Vec::new(), Vec::new());
    let (mut send_cpu, mut row_cpu, mut hello_cpu) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let prepared = Bare::rows(&relay.mailboxes, MESSAGES);
        let ours: Vec<u32> = [std::process::id()].into_iter().chain(engine_process()).collect();
        let cpu = Cpu::of(ours);
        rows.push(bare.write(&prepared).await);
        row_cpu.push(cpu.each(MESSAGES));

        let prepared = relay.sends(MESSAGES);
        let cpu = Cpu::of(relay.servers());
        sends.push(client.round(prepared.clone()).await);
        send_cpu.push(cpu.each(MESSAGES));

        let cpu = Cpu::of(vec![hello.id()]);
        hello_client.round(prepared).await;
        hello_cpu.push(cpu.each(MESSAGES));
    }
    let [sends, rows] = [sends, rows].map(median);
    println!("cold sends through HTTP: {sends:.0} a second; bare commits of {BATCH} rows: {rows:.0} a second");
    ratios.print("cold_sends_vs_bare", sends / rows, Bar::AtLeast(if engine() == "sqlite" { 0.5 } else { 0.6 }));

    let [send_cpu, row_cpu, hello_cpu] = [send_cpu, row_cpu, hello_cpu].map(median);
    let verify = relay.mint.verify_seconds() * 1e6;
    println!(
        "processor time, µs: a cold send {send_cpu:.1}; bare HTTP {hello_cpu:.1}, a check {verify:.1}, bare rows {row_cpu:.1}"
    );
    ratios.print("send_cpu_vs_floor", send_cpu / (hello_cpu + verify + row_cpu), Bar::AtMost(1.5));

    let half = sends / 2.0;
    let recorder = Arc::new(Recorder::default());
    bare.write_at(&Bare::rows(&relay.mailboxes, PACED), half, &recorder).await;
    client.paced(relay.sends(PACED), half, &recorder).await;
    let [commit, send] = [COMMIT, SEND].map(|name| latency(&recorder, name));
    println!("at {half:.0} a second, ms: a cold send {}; a bare commit {}", told(&send), told(&commit));
    ratios.print("send_p99_vs_commit_p99", send.p99 / commit.p99, Bar::AtMost(5.0));
    ratios.code()
}

fn latency(recorder: &Recorder, name: &str) -> Latency {
    let report = &recorder.report(Duration::ZERO)[name];
    assert_eq!(report.unexpected, 0, "{:?}", report.outcomes);
    report.latency_us
}

fn told(latency: &Latency) -> String {
    let [p50, p99, p999] = [latency.p50, latency.p99, latency.p999].map(|us| us / 1000.0);
    format!("p50 {p50:.2}, p99 {p99:.2}, p99.9 {p999:.2}")
}

/// Sends what was prepared.
struct Client(Arc<Connections>);

impl Client {
    async fn of(url: &str) -> Self {
        let connections = Connections::new(url, IN_FLIGHT).unwrap();
        connections.open(IN_FLIGHT).await.unwrap();
        Self(Arc::new(connections))
    }

    /// As fast as it goes; messages a second.
    async fn round(&self, prepared: Vec<Request>) -> f64 {
        let (count, recorder) = (prepared.len(), Arc::new(Recorder::default()));
        let ran = self.run(Pace::Closed { in_flight: IN_FLIGHT }, prepared, &recorder).await;
        latency(&recorder, SEND);
        count as f64 / ran.as_secs_f64()
    }

    /// At a rate, as if from strangers who know nothing of each other.
    async fn paced(&self, prepared: Vec<Request>, per_second: f64, recorder: &Arc<Recorder>) {
        self.run(Pace::Open { per_second, most_outstanding: IN_FLIGHT }, prepared, recorder).await;
    }

    async fn run(&self, pace: Pace, prepared: Vec<Request>, recorder: &Arc<Recorder>) -> Duration {
        let count = prepared.len() as u64;
        let (prepared, connections) = (Arc::new(prepared), Arc::clone(&self.0));
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
        let limit = Limit { count: Some(count), ..Limit::default() };
        let ran = run(pace, limit, &Stop::default(), recorder, SEND, one).await;
        assert_eq!((ran.ended, ran.not_started), (count, 0));
        ran.elapsed
    }
}

/// Processor time of some processes from a moment on.
struct Cpu {
    of: Vec<u32>,
    before: Snapshot,
}

impl Cpu {
    fn of(of: Vec<u32>) -> Self {
        let before = Snapshot::of(&of).unwrap();
        Self { of, before }
    }

    /// For each of so many, µs.
    fn each(&self, count: usize) -> f64 {
        self.before.until(&Snapshot::of(&self.of).unwrap()).cpu_seconds() * 1e6 / count as f64
    }
}
