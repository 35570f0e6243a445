//! Durable cold sends a second, through HTTP into a real relay, beside bare group commits of the same rows on the same engine:
//! `cargo bench --bench sends`, and with `POSTERN_TEST_ENGINE=postgres` on PostgreSQL.
//!
//! Client, relay and database share the machine. Rounds of both alternate, and the medians are compared.
#![allow(clippy::disallowed_methods, reason = "a benchmark measures the real clock")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    dead_code,
    reason = "a failed operation must not count as a fast one; the tests' world has more than is needed here"
)]

#[path = "../tests/relay/issuer.rs"]
mod issuer;
#[path = "../tests/relay/world.rs"]
mod world;

use std::time::Instant;

use futures::StreamExt;
use postern_protocol::ids::MailboxId;
use postern_protocol::tokens::Token;
use postern_store::{Db, Many, Migration, StoreError, Value};
use postern_test_database::{Engine, TestDatabase};

use crate::world::{World, envelope, random, token};

/// Rounds of each side; odd, so that there is a median.
const ROUNDS: usize = 3;
/// Messages of a round.
const MESSAGES: usize = 3000;
/// Requests under way at a time.
const IN_FLIGHT: usize = 256;
const MAILBOXES: usize = 64;
/// Rows of a bare commit.
const BATCH: usize = 256;

static SCHEMA: [Migration; 2] = [
    Migration {
        version: 1,
        name: "initial",
        sqlite: include_str!("../../migrations/relay/sqlite/0001_initial.sql"),
        postgres: include_str!("../../migrations/relay/postgres/0001_initial.sql"),
    },
    Migration {
        version: 2,
        name: "reply credentials",
        sqlite: include_str!("../../migrations/relay/sqlite/0002_reply_credentials.sql"),
        postgres: include_str!("../../migrations/relay/postgres/0002_reply_credentials.sql"),
    },
];
static LEDGER: Many = Many::rows(
    "INSERT INTO ledger (nullifier, key_id, token_digest, mailbox, envelope_digest, state) \
     VALUES ($1, $2, $3, $4, $5, 'attached')",
);
static MAILBOX: Many = Many::rows(
    "INSERT INTO mailboxes (mailbox, queued_messages, queued_bytes, arrivals) VALUES ($1, $2, $3, $2) \
     ON CONFLICT (mailbox) DO UPDATE SET queued_messages = mailboxes.queued_messages + excluded.queued_messages, \
     queued_bytes = mailboxes.queued_bytes + excluded.queued_bytes, arrivals = mailboxes.arrivals + excluded.arrivals",
);
static MESSAGE: Many = Many::rows(
    "INSERT INTO messages (mailbox, message, position, arrived_at, size, envelope) VALUES ($1, $2, $3, $4, $5, $6)",
);

type Prepared = (MailboxId, Token, Vec<u8>);

fn main() {
    // `cargo test --benches` runs this binary without `--bench`: nothing to measure then.
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("sends: run by `cargo bench`");
        return;
    }
    tokio::runtime::Runtime::new().unwrap().block_on(measure());
}

async fn measure() {
    let engine = match Engine::of_this_run() {
        Engine::Sqlite => "sqlite",
        Engine::Postgres => "postgres",
    };
    let world = World::start_with(|limits| {
        limits.quota_messages = u64::MAX / 4;
        limits.quota_bytes = u64::MAX / 4;
    })
    .await;
    let mut mailboxes = Vec::new();
    for _ in 0..MAILBOXES {
        mailboxes.push(world.mailbox().await.id);
    }
    let bare = Bare::open().await;
    let (mut through_http, mut by_loop) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let prepared: Vec<Prepared> =
            (0..MESSAGES).map(|n| (mailboxes[n % MAILBOXES], token(0).token, envelope())).collect();
        by_loop.push(bare.round(&mailboxes).await);
        through_http.push(round(&world, prepared).await);
    }
    let [sends, rows] = [through_http, by_loop].map(median);
    println!("cold sends through HTTP: {sends:.0} a second; bare commits of {BATCH} rows: {rows:.0} a second");
    println!("ratio cold_sends_vs_bare_{engine} = {:.2}", sends / rows);
}

/// Sends them all, so many at a time; messages a second.
async fn round(world: &World, prepared: Vec<Prepared>) -> f64 {
    let begun = Instant::now();
    let sends = prepared.iter().map(|(to, token, envelope)| world.send(to, token, envelope));
    let refused = futures::stream::iter(sends)
        .buffer_unordered(IN_FLIGHT)
        .filter(|reply| std::future::ready(reply.status != 201))
        .count()
        .await;
    assert_eq!(refused, 0);
    MESSAGES as f64 / begun.elapsed().as_secs_f64()
}

/// The same tables without a relay.
struct Bare {
    db: Db,
    _files: tempfile::TempDir,
    _database: TestDatabase,
}

impl Bare {
    async fn open() -> Self {
        let files = tempfile::tempdir().unwrap();
        let database = TestDatabase::of_this_run(files.path().join("bare.db"));
        Self { db: Db::open(&database.url(), &SCHEMA).await.unwrap(), _files: files, _database: database }
    }

    /// Rows a second.
    async fn round(&self, mailboxes: &[MailboxId]) -> f64 {
        let rows: Vec<(MailboxId, [u8; 32], Vec<u8>)> =
            (0..MESSAGES).map(|n| (mailboxes[n % MAILBOXES], random(), envelope())).collect();
        let begun = Instant::now();
        for batch in rows.chunks(BATCH) {
            let written: Result<(), StoreError> = self
                .db
                .run("bare", |tx| {
                    Box::pin(async move {
                        let ledger = |(mailbox, name, _): &(MailboxId, [u8; 32], Vec<u8>)| -> Vec<Value> {
                            vec![name.into(), [1; 32].into(), [2; 32].into(), mailbox.0.into(), [3; 32].into()]
                        };
                        let message = |(mailbox, name, envelope): &(MailboxId, [u8; 32], Vec<u8>)| -> Vec<Value> {
                            let size = i64::try_from(envelope.len()).unwrap();
                            vec![
                                mailbox.0.into(),
                                name.into(),
                                1_i64.into(),
                                1_i64.into(),
                                size.into(),
                                envelope.clone().into(),
                            ]
                        };
                        tx.fetch_many(&LEDGER, batch.iter().map(ledger).collect()).await?;
                        let counts = mailboxes
                            .iter()
                            .map(|mailbox| vec![mailbox.0.into(), 4_i64.into(), 16_384_i64.into()])
                            .collect();
                        tx.fetch_many(&MAILBOX, counts).await?;
                        tx.fetch_many(&MESSAGE, batch.iter().map(message).collect()).await.map(drop)
                    })
                })
                .await;
            written.unwrap();
        }
        MESSAGES as f64 / begun.elapsed().as_secs_f64()
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
