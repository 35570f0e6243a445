//! Ten thousand idle readers at one relay: `cargo bench --bench readers`, and with `POSTERN_TEST_ENGINE=postgres` on PostgreSQL.
//!
//! What memory one takes, beside an event stream of a bare server on the same library; what waiting costs; and how long it takes until somebody is told of a
//! message, beside the same relay with ten readers.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed operation must not count as a fast one")]
#![allow(clippy::disallowed_methods, reason = "a benchmark measures the real clock")]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use postern_benches::client::{Client, latency, told};
use postern_benches::ratio::{Bar, Ratios, median};
use postern_benches::readers::Readers;
use postern_benches::relay::{Relay, engine};
use postern_benches::role::{Process, Role, is_bench, play};
use postern_load::measure::{Latency, Outcome, Recorder};
use postern_load::usage::Snapshot;
use tokio::time::sleep;

const MANY: usize = 10_000;
const FEW: usize = 10;
/// Rounds with few and with many; odd, so that there is a median.
const ROUNDS: usize = 7;
/// Messages of a round, one after the other.
const MESSAGES: usize = 1500;
/// Between two messages.
const PAUSE: Duration = Duration::from_millis(2);
/// Until a server has given back what it needed for accepting.
const SETTLE: Duration = Duration::from_secs(3);
/// How long nothing happens but waiting: two heartbeats.
const IDLE: Duration = Duration::from_secs(30);
const TOLD: &str = "told";

fn main() -> ExitCode {
    if let Some(code) = play() {
        return code;
    }
    if !is_bench("readers") {
        return ExitCode::SUCCESS;
    }
    tokio::runtime::Runtime::new().unwrap().block_on(measure())
}

async fn measure() -> ExitCode {
    let mut ratios = Ratios::new(engine());
    let relay = Relay::start(MANY, |limits| limits.waiting_readers = 2 * MANY, |_, _| {}).await;
    let bare = Process::start(Role::Events, &[]);

    let mut few = Vec::new();
    let mut readers = Readers::default();
    more(&mut readers, &relay, &relay.process.url, FEW).await;
    // The first makes plans and pages.
    deliver(&relay, &mut readers).await;
    for _ in 0..ROUNDS / 2 {
        few.push(deliver(&relay, &mut readers).await);
    }
    let before = memory(&relay.process);
    more(&mut readers, &relay, &relay.process.url, MANY - FEW).await;
    sleep(SETTLE).await;
    let ours = (memory(&relay.process) - before) / (MANY - FEW) as f64;
    let waiting = waiting(&relay).await;
    let mut many = Vec::new();
    for _ in 0..ROUNDS {
        many.push(deliver(&relay, &mut readers).await);
    }
    // And again with few, so that what changes with time is on both sides.
    readers.keep(FEW).await;
    sleep(SETTLE).await;
    while few.len() < ROUNDS {
        few.push(deliver(&relay, &mut readers).await);
    }
    drop(readers);

    let mut readers = Readers::default();
    more(&mut readers, &relay, &bare.url, FEW).await;
    let before = memory(&bare);
    more(&mut readers, &relay, &bare.url, MANY - FEW).await;
    sleep(SETTLE).await;
    let theirs = (memory(&bare) - before) / (MANY - FEW) as f64;
    readers.check();

    let [relay_us, all_us] = waiting.map(|seconds| seconds * 1e6 / IDLE.as_secs_f64() / MANY as f64);
    println!("a reader takes {ours:.0} bytes; at a bare server {theirs:.0}");
    println!(
        "a reader who waits takes {all_us:.2} µs of processor time a second, {relay_us:.2} of them in the relay's process"
    );
    ratios.print("reader_memory_vs_bare", ours / theirs, Bar::AtMost(1.5));
    for (count, rounds) in [(FEW, &few), (MANY, &many)] {
        for latency in rounds {
            println!("with {count} readers, from sending to being told, ms: {}", told(latency));
        }
    }
    let [few, many] = [few, many].map(|rounds| median(rounds.into_iter().map(|latency| latency.p99).collect()));
    ratios.print("told_p99_with_10000_vs_10", many / few, Bar::AtMost(1.2));
    ratios.code()
}

/// Processor seconds while nothing happens but waiting: of the relay's process, and with the engine's.
async fn waiting(relay: &Relay) -> [f64; 2] {
    let of = [vec![relay.process.id()], relay.servers()];
    let begun = of.each_ref().map(|of| Snapshot::of(of).unwrap());
    sleep(IDLE).await;
    let ended = of.each_ref().map(|of| Snapshot::of(of).unwrap());
    [begun[0].until(&ended[0]).cpu_seconds(), begun[1].until(&ended[1]).cpu_seconds()]
}

/// So many readers more, each at a mailbox of its own.
async fn more(readers: &mut Readers, relay: &Relay, url: &str, count: usize) {
    let from = readers.count();
    for mailbox in &relay.mailboxes[from..from + count] {
        let (_, permission) = relay.permission(mailbox);
        readers.open(url, &permission).await;
    }
}

/// Messages to the first readers in turn; how long it takes from sending one until its reader is told, µs.
async fn deliver(relay: &Relay, readers: &mut Readers) -> Latency {
    let client = Client::of(&relay.process.url).await;
    let recorder = Recorder::default();
    let tokens = relay.mint.tokens(MESSAGES);
    for (n, token) in tokens.iter().enumerate() {
        let to = n % FEW;
        let request = postern_benches::relay::send(&relay.mailboxes[to], token);
        let begun = Instant::now();
        let (reader, when) = {
            let (next, ()) = tokio::join!(readers.next(), client.send(request));
            next
        };
        assert_eq!(reader, to, "somebody else was told");
        recorder.record(TOLD, when - begun, &Outcome::Done(0));
        sleep(PAUSE).await;
    }
    readers.check();
    latency(&recorder, TOLD)
}

/// Resident memory of a process, bytes.
fn memory(process: &Process) -> f64 {
    let now = Snapshot::of(&[process.id()]).unwrap();
    now.until(&now).rss_bytes as f64
}
