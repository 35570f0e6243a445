//! Ten thousand idle readers at one relay: `cargo bench --bench readers`, and with `POSTERN_TEST_ENGINE=postgres` on PostgreSQL.
//!
//! What memory one takes, beside an event stream of a bare server on the same library; what waiting costs; and how long it takes until somebody is told of a
//! message, beside another relay that has ten readers: in turn, for a second each, the other stopped meanwhile, so that what the machine does besides meets both.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed operation must not count as a fast one")]
#![allow(clippy::disallowed_methods, reason = "a benchmark measures the real clock")]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use postern_benches::client::{Client, latency};
use postern_benches::ratio::{Bar, Ratios, median};
use postern_benches::readers::Readers;
use postern_benches::relay::{Relay, engine};
use postern_benches::role::{Process, Role, is_bench, play};
use postern_load::measure::{Latency, Outcome, Recorder};
use postern_load::usage::Snapshot;
use tokio::time::sleep;

const MANY: usize = 10_000;
const FEW: usize = 10;
/// Pairs of rounds, one with few and one with many; odd, so that there is a median.
const PAIRS: usize = 41;
/// Messages of a round, one after the other.
const MESSAGES: usize = 400;
/// Between two messages.
const PAUSE: Duration = Duration::from_millis(1);
/// Until a process that was stopped has caught up.
const CATCH_UP: Duration = Duration::from_millis(300);
/// Until a server has given back what it needed for accepting.
const SETTLE: Duration = Duration::from_secs(3);
/// How long nothing happens but waiting: one heartbeat of each.
const IDLE: Duration = Duration::from_secs(15);
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
    let mut sides = [FEW, MANY].map(|count| (count, Readers::default()));
    let mut relays = Vec::new();
    for (count, readers) in &mut sides {
        let relay = Relay::start(*count, |limits| limits.waiting_readers = 2 * MANY, |_, _| {}).await;
        more(readers, &relay, &relay.process.url, FEW).await;
        // The first makes plans and pages.
        deliver(&relay, readers).await;
        relays.push(relay);
    }
    let (relay, bare) = (&relays[1], Process::start(Role::Events, &[]));
    let before = memory(&relay.process);
    more(&mut sides[1].1, relay, &relay.process.url, MANY - FEW).await;
    sleep(SETTLE).await;
    let ours = (memory(&relay.process) - before) / (MANY - FEW) as f64;
    let waiting = waiting(relay).await;
    let told = alternately(&relays, &mut sides).await;
    drop(sides);

    let mut readers = Readers::default();
    more(&mut readers, relay, &bare.url, FEW).await;
    let before = memory(&bare);
    more(&mut readers, relay, &bare.url, MANY - FEW).await;
    sleep(SETTLE).await;
    let theirs = (memory(&bare) - before) / (MANY - FEW) as f64;
    readers.check();

    let [relay_us, all_us] = waiting.map(|seconds| seconds * 1e6 / IDLE.as_secs_f64() / MANY as f64);
    println!("a reader takes {ours:.0} bytes; at a bare server {theirs:.0}");
    println!(
        "a reader who waits takes {all_us:.2} µs of processor time a second, {relay_us:.2} of them in the relay's process"
    );
    ratios.print("reader_memory_vs_bare", ours / theirs, Bar::AtMost(1.5));
    for (side, count) in [FEW, MANY].into_iter().enumerate() {
        let [p50, p99] = [|l: &Latency| l.p50, |l: &Latency| l.p99]
            .map(|of| median(told.iter().map(|pair| of(&pair[side])).collect()));
        println!(
            "with {count} readers, from sending to being told, medians of {PAIRS} rounds, ms: p50 {:.2}, p99 {:.2}",
            p50 / 1e3,
            p99 / 1e3
        );
    }
    let by_pairs = told.iter().map(|[few, many]| many.p99 / few.p99).collect();
    ratios.print("told_p99_with_10000_vs_10", median(by_pairs), Bar::AtMost(1.2));
    ratios.code()
}

/// Rounds with few and with many readers, each pair in another order; the relay that is not measured is stopped.
async fn alternately(relays: &[Relay], sides: &mut [(usize, Readers); 2]) -> Vec<[Latency; 2]> {
    let mut pairs = Vec::new();
    for pair in 0..PAIRS {
        let mut told = [None, None];
        for side in [pair % 2, 1 - pair % 2] {
            relays[1 - side].process.signal("STOP");
            relays[side].process.signal("CONT");
            sleep(CATCH_UP).await;
            told[side] = Some(deliver(&relays[side], &mut sides[side].1).await);
        }
        pairs.push(told.map(Option::unwrap));
    }
    relays.iter().for_each(|relay| relay.process.signal("CONT"));
    pairs
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
