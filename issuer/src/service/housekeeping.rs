//! Deletes what has expired, again and again. Nothing is ever decided by whether it has run.

use std::sync::Arc;
use std::time::Duration;

use super::{keys, lookup};
use crate::app::Issuer;
use crate::db;
use crate::error::Refusal;

/// Runs until the task is dropped.
pub async fn run(issuer: Arc<Issuer>) {
    let mut ticks = tokio::time::interval(Duration::from_secs(issuer.config.limits.housekeeping_seconds));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = once(&issuer).await {
            tracing::warn!(%error, "housekeeping will be tried again");
        }
    }
}

/// Deletes expired counters, nonces, sessions and answers, and look-up windows that are over; retires keys, and logs new ones.
///
/// # Errors
/// If the database fails.
pub async fn once(issuer: &Issuer) -> Result<(), Refusal> {
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
    lookup::drop_windows(issuer).await?;
    keys::retire(issuer).await?;
    // What has come into force since, even if nobody has asked for it.
    keys::directory(issuer).await?;
    lookup::info(issuer).await.map(drop)
}
