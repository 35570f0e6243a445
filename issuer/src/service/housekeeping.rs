//! Deletes what has expired, again and again. Nothing is ever decided by whether it has run, nor by who runs it: of all processes on
//! one database the one that holds the lease does, and the others wait until it has missed a round (ADR 17).

use std::sync::Arc;
use std::time::Duration;

use postern_store::Lease;
use tokio::sync::watch;

use super::{keys, lookup};
use crate::app::{Issuer, until_told};
use crate::db;
use crate::error::Refusal;

/// The lease of all this.
const LEASE: &str = "housekeeping";
/// How long after its next round was due a holder is taken for dead, seconds: longer than a step may take with all its tries.
const PATIENCE_SECONDS: u64 = 60;

/// Runs until the process is told to stop; then another one's turn is next.
pub async fn run(issuer: Arc<Issuer>, mut stopped: watch::Receiver<bool>) {
    let mut ticks = tokio::time::interval(Duration::from_secs(issuer.config.limits.housekeeping_seconds));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let rounds = async {
        loop {
            ticks.tick().await;
            if let Err(error) = once(&issuer).await {
                tracing::warn!(%error, "housekeeping will be tried again");
            }
        }
    };
    tokio::select! {
        () = rounds => {}
        () = until_told(&mut stopped) => {}
    }
    Lease::give_back(&issuer.db, LEASE, issuer.holder).await;
}

/// One round: what is in the database is seen to if no other process does, what is in memory always.
///
/// # Errors
/// If the database fails, or another process has taken the lease since.
pub async fn once(issuer: &Issuer) -> Result<(), Refusal> {
    let seconds = issuer.config.limits.housekeeping_seconds.saturating_add(PATIENCE_SECONDS);
    let done = match Lease::take(&issuer.db, LEASE, issuer.holder, seconds, issuer.now()).await {
        Ok(Some(mut lease)) => clean(issuer, &mut lease).await,
        Ok(None) => Ok(()),
        Err(error) => Err(error.into()),
    };
    keys::forget_retired(issuer).await?;
    done
}

/// Deletes expired counters, nonces, sessions and answers, and look-up windows that are over; retires keys, and logs new ones.
async fn clean(issuer: &Issuer, lease: &mut Lease) -> Result<(), Refusal> {
    let now = issuer.now();
    let pruning = issuer.db.run("prune", |tx| {
        Box::pin(async move {
            db::attempts::prune(tx, now).await?;
            db::login::prune_nonces(tx, now).await?;
            db::sessions::prune(tx, now).await?;
            Ok::<_, Refusal>(db::register::prune_answers(tx, now).await?)
        })
    });
    pruning.await?;
    lookup::drop_windows(issuer, lease).await?;
    keys::retire(issuer, Some(lease)).await?;
    // What has come into force since, even if nobody has asked for it.
    keys::directory(issuer).await?;
    lookup::info(issuer).await.map(drop)
}
