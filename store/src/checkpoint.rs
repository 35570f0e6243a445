//! SQLite's log, emptied beside the writer.
//!
//! Left to itself SQLite moves the pages of the log into the file within a commit, which then takes a hundred times as long; and if there
//! is always somebody who reads, the log never begins anew, and every commit after that tries it again. So a task of the database's own
//! does it: most of the pages while the writer goes on, and the few that came meanwhile with the writer held back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection, Row};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::StoreError;

/// Between two looks at the log.
const PAUSE: Duration = Duration::from_millis(250);
/// Pages of the log, 4 KiB each, at which it is emptied.
const PAGES: i64 = 4000;
/// How long the writer is held back at most, because somebody still reads what lies in the log.
const PATIENCE: Duration = Duration::from_millis(100);
/// At so many pages a commit does it after all: this task has died, or the disk is too slow for what is written.
pub(crate) const LAST_RESORT: &str = "64000";

/// Ends when it is told to, or with the last clone.
#[derive(Clone, Debug)]
pub(crate) struct Checkpoints(Arc<Running>);

#[derive(Debug)]
struct Running {
    written: Arc<AtomicBool>,
    /// Dropped, or true: the task ends.
    stop: watch::Sender<bool>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Checkpoints {
    /// Starts the task, with a connection of its own.
    pub(crate) async fn start(options: SqliteConnectOptions) -> Result<Self, StoreError> {
        let mut connection = options.busy_timeout(PATIENCE).connect().await?;
        let (written, (stop, mut stopped)) = (Arc::new(AtomicBool::new(false)), watch::channel(false));
        let seen = Arc::clone(&written);
        let task = tokio::spawn(async move {
            while timeout(PAUSE, stopped.changed()).await.is_err() {
                if seen.swap(false, Ordering::Relaxed)
                    && let Err(error) = once(&mut connection).await
                {
                    tracing::warn!(%error, "the log of the database will be emptied later");
                }
            }
            // Whether it closes well is nobody's affair: everything is in the log.
            drop(connection.close().await);
        });
        Ok(Self(Arc::new(Running { written, stop, task: Mutex::new(Some(task)) })))
    }

    /// Something is being committed.
    pub(crate) fn written(&self) {
        self.0.written.store(true, Ordering::Relaxed);
    }

    /// Ends the task and closes its connection.
    pub(crate) async fn close(&self) {
        self.0.stop.send_replace(true);
        if let Some(task) = self.0.task.lock().await.take() {
            drop(task.await);
        }
    }
}

/// Another process that is at it is left to it.
async fn once(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    let pages = checkpoint(connection, "PRAGMA wal_checkpoint(NOOP)").await?;
    if pages >= PAGES {
        checkpoint(connection, "PRAGMA wal_checkpoint(PASSIVE)").await?;
        checkpoint(connection, "PRAGMA wal_checkpoint(RESTART)").await?;
    }
    Ok(())
}

/// Pages in the log; 0 if somebody was in the way.
async fn checkpoint(connection: &mut SqliteConnection, pragma: &'static str) -> Result<i64, StoreError> {
    let row = sqlx::query(pragma).fetch_one(connection).await?;
    let (busy, pages): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    Ok(if busy == 0 { pages } else { 0 })
}
