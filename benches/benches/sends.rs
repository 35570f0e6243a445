//! Cold sends through HTTP into a relay of its own process: `cargo bench --bench sends`, and with `POSTERN_TEST_ENGINE=postgres` on
//! PostgreSQL. Client, relay and database share the machine.
//!
//! How many a second, beside bare commits of the same rows; how long one takes at half of that, beside the bare commits at the same rate;
//! and what processor time one takes, beside a bare HTTP server, one check of a token, and the engine's own share.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed operation must not count as a fast one")]

use std::process::ExitCode;
use std::sync::Arc;

use postern_benches::bare::{BATCH, Bare, COMMIT};
use postern_benches::client::{SEND, latency};
use postern_benches::crowd::Crowd;
use postern_benches::ratio::{Bar, Ratios, median};
use postern_benches::relay::{Relay, engine, engine_process};
use postern_benches::role::{Process, Role, is_bench, play};
use postern_load::measure::{Latency, Recorder};
use postern_load::usage::Snapshot;

/// Rounds of each side; odd, so that there is a median.
const ROUNDS: usize = 9;
/// Messages of a round.
const MESSAGES: usize = 6000;
/// Requests under way at a time: a group that is written, one that waits, and one that comes in.
const IN_FLIGHT: usize = 3 * BATCH;
/// Requests that may be under way at half the rate: all that come while the disk stalls.
const OUTSTANDING: usize = 1000;
/// Messages at half the rate, in each of the rounds.
const PACED: usize = 4000;
const MAILBOXES: usize = 64;

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
    let mut crowd = Crowd::of(&relay.process.url, IN_FLIGHT).await;
    let hello = Process::start(Role::Hello, &[]);
    let mut hello_crowd = Crowd::of(&hello.url, IN_FLIGHT).await;

    // Plans and pages are made at first use.
    crowd.round(&relay.sends(2000)).await;
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
        sends.push(crowd.round(&prepared).await.0);
        send_cpu.push(cpu.each(MESSAGES));

        let cpu = Cpu::of(vec![hello.id()]);
        hello_crowd.round(&prepared).await;
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
    drop(crowd);
    let mut strangers = Crowd::of(&relay.process.url, OUTSTANDING).await;
    // In turn: a checkpoint, or whoever else uses the disk, stops some rounds of either side, and the median is of the others.
    let (mut commits, mut sends) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let recorder = Arc::new(Recorder::default());
        bare.write_at(&Bare::rows(&relay.mailboxes, PACED), half, &recorder).await;
        strangers.paced(&relay.sends(PACED), half, &recorder).await;
        commits.push(latency(&recorder, COMMIT));
        sends.push(latency(&recorder, SEND));
    }
    println!("at {half:.0} a second, ms, each round: a cold send {}; a bare commit {}", told(&sends), told(&commits));
    let [send, commit] = [sends, commits].map(|rounds| median(rounds.iter().map(|round| round.p99).collect()));
    ratios.print("send_p99_vs_commit_p99", send / commit, Bar::AtMost(5.0));
    ratios.code()
}

/// The p50 and p99 of all rounds, the least first.
fn told(rounds: &[Latency]) -> String {
    let of = |which: fn(&Latency) -> f64| {
        let mut of: Vec<f64> = rounds.iter().map(|round| which(round) / 1000.0).collect();
        of.sort_by(f64::total_cmp);
        of.iter().map(|ms| format!("{ms:.1}")).collect::<Vec<_>>().join(" ")
    };
    format!("p50 {}, p99 {}", of(|round| round.p50), of(|round| round.p99))
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
