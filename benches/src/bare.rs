//! The rows of cold sends written to the same tables by a loop, without HTTP and without cryptography: what the engine itself can do.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use postern_load::measure::{Outcome, Recorder};
use postern_protocol::ids::MailboxId;
use postern_store::{Column, Db, Many, Value};
use postern_test_database::TestDatabase;

use crate::mint::random;
use crate::relay::envelope;

static LEDGER: Many = Many::rows(
    "INSERT INTO ledger (nullifier, key_id, token_digest, mailbox, envelope_digest, state) \
     VALUES ($1, $2, $3, $4, $5, 'attached')",
    &[Column::Blob; 5],
);
static MAILBOX: Many = Many::rows(
    "INSERT INTO mailboxes (mailbox, queued_messages, queued_bytes, arrivals) VALUES ($1, $2, $3, $2) \
     ON CONFLICT (mailbox) DO UPDATE SET queued_messages = mailboxes.queued_messages + excluded.queued_messages, \
     queued_bytes = mailboxes.queued_bytes + excluded.queued_bytes, arrivals = mailboxes.arrivals + excluded.arrivals",
    &[Column::Blob, Column::Int, Column::Int],
);
static MESSAGE: Many = Many::rows(
    "INSERT INTO messages (mailbox, message, position, arrived_at, size, envelope) VALUES ($1, $2, $3, $4, $5, $6)",
    &[Column::Blob, Column::Blob, Column::Int, Column::Int, Column::Int, Column::Blob],
);

/// Rows of a commit: as the relay's.
pub const BATCH: usize = 256;
/// Name of the commits in a [`Recorder`].
pub const COMMIT: &str = "commit";

/// One send's rows.
#[derive(Debug)]
pub struct Row {
    mailbox: MailboxId,
    name: [u8; 32],
    envelope: Bytes,
}

/// A connection to a database that has the relay's tables.
#[derive(Debug)]
pub struct Bare(Db);

impl Bare {
    /// Of a relay's database.
    pub async fn open(database: &TestDatabase) -> Self {
        Self(Db::open(&database.url(), postern_relay::MIGRATIONS).await.unwrap())
    }

    /// So many rows, to these mailboxes in turn.
    pub fn rows(mailboxes: &[MailboxId], count: usize) -> Vec<Row> {
        let to = mailboxes.iter().cycle().take(count);
        to.map(|mailbox| Row { mailbox: *mailbox, name: random(), envelope: envelope().into() }).collect()
    }

    /// Writes them all, [`BATCH`] a commit; rows a second.
    pub async fn write(&self, rows: &[Row]) -> f64 {
        let begun = Instant::now();
        for batch in rows.chunks(BATCH) {
            self.commit(batch).await;
        }
        rows.len() as f64 / begun.elapsed().as_secs_f64()
    }

    /// Writes them at a rate, evenly: each commit takes what is due, as a queue does. Recorded as [`COMMIT`] is how long each row took from
    /// the moment when it was due, as the load generator's open loop counts it: a commit that stalls is charged for all who wait.
    pub async fn write_at(&self, rows: &[Row], per_second: f64, recorder: &Arc<Recorder>) {
        let (begun, mut written) = (Instant::now(), 0);
        while written < rows.len() {
            let due = (begun.elapsed().as_secs_f64() * per_second) as usize;
            let until = due.min(rows.len()).min(written + BATCH);
            if until == written {
                tokio::time::sleep(Duration::from_micros(100)).await;
                continue;
            }
            self.commit(&rows[written..until]).await;
            let now = begun.elapsed();
            for row in written..until {
                let due = Duration::from_secs_f64((row + 1) as f64 / per_second);
                recorder.record(COMMIT, now.saturating_sub(due), &Outcome::Done(0));
            }
            written = until;
        }
    }

    async fn commit(&self, batch: &[Row]) {
        let written: Result<(), postern_store::StoreError> = self
            .0
            .run("bare", |tx| {
                Box::pin(async move {
                    let mut counts = std::collections::BTreeMap::new();
                    for row in batch {
                        *counts.entry(row.mailbox.0).or_insert(0_i64) += 1;
                    }
                    let counts = counts.into_iter().map(|(to, n)| vec![to.into(), n.into(), (n * 4096).into()]);
                    tx.fetch_many(&LEDGER, batch.iter().map(ledger).collect()).await?;
                    tx.fetch_many(&MAILBOX, counts.collect()).await?;
                    tx.fetch_many(&MESSAGE, batch.iter().map(message).collect()).await.map(drop)
                })
            })
            .await;
        written.unwrap();
    }
}

fn ledger(row: &Row) -> Vec<Value> {
    vec![row.name.into(), [1; 32].into(), [2; 32].into(), row.mailbox.0.into(), [3; 32].into()]
}

fn message(row: &Row) -> Vec<Value> {
    let size = i64::try_from(row.envelope.len()).unwrap();
    vec![row.mailbox.0.into(), row.name.into(), 1_i64.into(), 1_i64.into(), size.into(), row.envelope.clone().into()]
}
