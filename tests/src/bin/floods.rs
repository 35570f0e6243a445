//! Prints the table of docs/operating.md: what each kind of junk costs a server. On a quiet machine: `cargo run --release --bin floods`.

use std::process::ExitCode;

use postern_load::usage::Snapshot;
use postern_tests::junk::{self, Sender};
use postern_tests::{Actor, World, own};

/// Of each kind.
const REQUESTS: u32 = 4000;

fn main() -> ExitCode {
    if let Some(code) = own::play() {
        return code;
    }
    tokio::runtime::Runtime::new().unwrap().block_on(measure())
}

async fn measure() -> ExitCode {
    let (programs, _names) = own::programs();
    let world = World::start(programs);
    let alice = Actor::ready(&world, "+41791238006").await;
    let before = junk::stored(&world);
    println!("| request | answer | processor, µs | bytes in | bytes out | memory, KiB in all | rows written |");
    println!("|---|--:|--:|--:|--:|--:|--:|");
    for junk in junk::all(&alice) {
        let (server, part) = if junk.relay { (&world.relay, "relay") } else { (&world.issuer, "issuer") };
        let mut sender = Sender::to(server.address().parse().unwrap()).await;
        sender.send(&junk.bytes).await;
        let (began, mut out) = (Snapshot::of(&[server.id()]).unwrap(), 0);
        let memory = began.until(&began).rss_bytes;
        for _ in 0..REQUESTS {
            let (status, bytes) = sender.send(&junk.bytes).await;
            assert_eq!(status, junk.status, "{}", junk.name);
            out = bytes;
        }
        let used = began.until(&Snapshot::of(&[server.id()]).unwrap());
        let micros = used.cpu_seconds() * 1e6 / f64::from(REQUESTS);
        let grown = used.rss_bytes.saturating_sub(memory) / 1024;
        let (name, status, bytes) = (junk.name.trim(), junk.status, junk.bytes.len());
        if junk::stored(&world) != before {
            eprintln!("{name} wrote something");
            return ExitCode::FAILURE;
        }
        println!("| {part}: {name} | {status} | {micros:.0} | {bytes} | {out} | {grown} | 0 |");
    }
    ExitCode::SUCCESS
}
