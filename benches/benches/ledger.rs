//! How long a cold send takes while the ledger is small and once it is large: `cargo bench --bench ledger`, and with
//! `POSTERN_TEST_ENGINE=postgres` on PostgreSQL. `POSTERN_BENCH_ROWS` says another size than ten million; a hundred million need 25 GB.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed operation must not count as a fast one")]
#![allow(clippy::disallowed_methods, reason = "a benchmark measures the real clock")]

use std::process::ExitCode;
use std::time::Instant;

use postern_benches::client::told;
use postern_benches::crowd::Crowd;
use postern_benches::mint::Mint;
use postern_benches::ratio::{Bar, Ratios, median};
use postern_benches::relay::{Relay, engine};
use postern_benches::role::{is_bench, play};
use postern_test_database::{Engine, TestDatabase};

const SMALL: u64 = 100_000;
const LARGE: u64 = 10_000_000;
/// Rounds of each side; odd, so that there is a median.
const ROUNDS: usize = 7;
/// Messages of a round.
const MESSAGES: usize = 3000;
const IN_FLIGHT: usize = 32;
const MAILBOXES: usize = 64;
/// Rows of one transaction of the filling.
const STEP: u64 = 1_000_000;

fn main() -> ExitCode {
    if let Some(code) = play() {
        return code;
    }
    if !is_bench("ledger") {
        return ExitCode::SUCCESS;
    }
    tokio::runtime::Runtime::new().unwrap().block_on(measure())
}

async fn measure() -> ExitCode {
    let rows = std::env::var("POSTERN_BENCH_ROWS").map_or(LARGE, |rows| rows.parse().unwrap());
    let small = Relay::start(MAILBOXES, |_| {}, |database, mint| fill(database, mint, SMALL)).await;
    let large = Relay::start(MAILBOXES, |_| {}, |database, mint| fill(database, mint, rows)).await;
    let relays = [small, large];
    let mut crowds =
        [Crowd::of(&relays[0].process.url, IN_FLIGHT).await, Crowd::of(&relays[1].process.url, IN_FLIGHT).await];

    let mut means = [Vec::new(), Vec::new()];
    // The first makes plans and finds pages.
    for round in 0..=ROUNDS {
        for (n, (relay, crowd)) in relays.iter().zip(&mut crowds).enumerate() {
            let (rate, latency) = crowd.round(&relay.sends(MESSAGES)).await;
            if round > 0 {
                println!("ledger of {:>9} rows: {rate:.0} a second; ms: {}", [SMALL, rows][n], told(&latency));
                means[n].push(latency.mean);
            }
        }
    }
    let [small, large] = means.map(median);
    println!("mean of a send, median of {ROUNDS} rounds, ms: {:.2} and {:.2}", small / 1000.0, large / 1000.0);
    let mut ratios = Ratios::new(engine());
    ratios.print("send_latency_large_vs_small_ledger", large / small, Bar::AtMost(1.3));
    ratios.code()
}

/// Puts so many spent tokens into the ledger, spread evenly.
///
/// In ascending order, since that is fast; but three of five at first and the rest between them, so that pages are as full as those of a tree that
/// grew by chance, and not all full.
fn fill(database: &TestDatabase, mint: &Mint, rows: u64) {
    let begun = Instant::now();
    let before = database.int("select count(*) from ledger");
    let sql = match database.engine() {
        Engine::Sqlite => SQLITE,
        Engine::Postgres => POSTGRES,
    };
    let key_id = mint.key.public().key_id().0.to_vec();
    let apart = (1_u64 << 59) / rows;
    for [first, last] in [[0, 2], [3, 4]] {
        for from in (0..rows).step_by(STEP as usize) {
            let to = (from + STEP).min(rows) - 1;
            let [from, to, apart, first, last] =
                [from, to, apart, first, last].map(|n| i64::try_from(n).unwrap().into());
            database.execute(sql, &[from, to, apart, key_id.clone().into(), first, last]);
        }
    }
    let tidy: &[&str] = match database.engine() {
        Engine::Sqlite => &["pragma wal_checkpoint(truncate)"],
        Engine::Postgres => &["vacuum analyze ledger", "checkpoint"],
    };
    for statement in tidy {
        database.script(statement);
    }
    let there = database.int("select count(*) from ledger") - before;
    assert_eq!(u64::try_from(there).unwrap(), rows);
    println!("a ledger of {rows} rows took {:.0} s", begun.elapsed().as_secs_f64());
}

const SQLITE: &str = "INSERT INTO ledger (nullifier, key_id, token_digest, mailbox, envelope_digest, state) \
     WITH RECURSIVE n(n) AS (SELECT $1 UNION ALL SELECT n + 1 FROM n WHERE n < $2) \
     SELECT CAST(unhex(printf('%015x', n * $3) || '0') || randomblob(24) AS BLOB), $4, randomblob(32), randomblob(32), randomblob(32), 'burnt' \
     FROM n WHERE n % 5 BETWEEN $5 AND $6";
const POSTGRES: &str = "INSERT INTO ledger (nullifier, key_id, token_digest, mailbox, envelope_digest, state) \
     SELECT decode(lpad(to_hex(n * $3), 15, '0') || '0', 'hex') || substr(h, 1, 24), $4, h, h, h, 'burnt' \
     FROM (SELECT n, sha256(int8send(n)) AS h FROM generate_series($1::bigint, $2::bigint) n) AS rows \
     WHERE n % 5 BETWEEN $5 AND $6";
