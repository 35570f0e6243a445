//! What is forgotten, and when: old messages, the ledger rows of a key some time after its end, claimed prekeys some time after the
//! claim, and nullifiers, strikes and reveals once no reply of their time is accepted.

use postern_protocol::ids::TokenKeyId;
use postern_store::{Lease, StoreError};

use super::strike;
use crate::app::App;
use crate::db::{keys, release, retention, rollout};

/// Rows in one transaction: senders wait no longer than for that.
const BATCH: u64 = 500;
/// The lease of all this.
const LEASE: &str = "retention";
/// How long after its next round was due a holder is taken for dead, seconds: longer than a batch may take with all its tries.
const PATIENCE_SECONDS: u64 = 60;

/// A process that has rung no bell for so long is taken for gone.
const BELL_SECONDS: u64 = 86_400;

/// One round of housekeeping. What is in the database is seen to by the process that holds the lease, and by no other until that has
/// missed a round; what is in memory by each.
///
/// # Errors
/// [`StoreError`]; what was done stays done, and the next round goes on.
pub(crate) async fn sweep(app: &App) -> Result<(), StoreError> {
    let seconds = app.config.limits.housekeeping_seconds.saturating_add(PATIENCE_SECONDS);
    let swept = match Lease::take(&app.db, LEASE, app.holder, seconds, app.clock.now()).await {
        Ok(Some(mut lease)) => sweep_database(app, &mut lease).await,
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    app.keys.forget_retired().await?;
    swept
}

/// Gives the lease back: this process stops, and the next round is another's.
pub(crate) async fn leave(app: &App) {
    Lease::give_back(&app.db, LEASE, app.holder).await;
}

async fn sweep_database(app: &App, lease: &mut Lease) -> Result<(), StoreError> {
    let now = app.clock.now();
    let limits = &app.config.limits;
    let old = delete_messages(app, lease, now.minus_seconds(limits.retention_seconds).seconds()).await?;
    if old > 0 {
        tracing::info!(messages = old, "messages past their retention are deleted");
    }
    for key in ended_keys(app, now.minus_seconds(limits.ledger_grace_seconds).seconds()).await? {
        drop_key(app, lease, key).await?;
        tracing::info!("the ledger rows of an ended key are dropped");
    }
    drop_claims(app, lease, now.seconds()).await?;
    drop_unenforced(app, lease, now.seconds()).await?;
    let silent = now.minus_seconds(BELL_SECONDS).seconds();
    app.db.run("retention_bells", |tx| Box::pin(async move { retention::drop_bells(tx, silent).await })).await?;
    drop_epochs(app, lease).await
}

/// Forgets who got which prekey. What was claimed is gone from the supply, so that it goes to nobody else.
async fn drop_claims(app: &App, lease: &mut Lease, now: u64) -> Result<(), StoreError> {
    loop {
        lease.keep(app.clock.now()).await?;
        let dropped = app
            .db
            .run("retention_claims", |tx| Box::pin(async move { retention::drop_claims(tx, now, BATCH).await }))
            .await?;
        if dropped == 0 {
            return Ok(());
        }
    }
}

/// Forgets what was taken without a token; its messages are gone before.
async fn drop_unenforced(app: &App, lease: &mut Lease, now: u64) -> Result<(), StoreError> {
    loop {
        lease.keep(app.clock.now()).await?;
        let dropping =
            app.db.run("retention_unenforced", |tx| Box::pin(async move { rollout::drop_some(tx, now, BATCH).await }));
        if dropping.await? == 0 {
            return Ok(());
        }
    }
}

/// Deletes messages; their ledger rows stay, and so can still be released.
async fn delete_messages(app: &App, lease: &mut Lease, before: u64) -> Result<usize, StoreError> {
    let mut deleted = 0;
    loop {
        lease.keep(app.clock.now()).await?;
        let (batch, removed) = app
            .db
            .run("retention_messages", |tx| {
                Box::pin(async move {
                    let old = retention::old_messages(tx, before, BATCH).await?;
                    let removed = release::remove(tx, &old).await?.len();
                    Ok::<_, StoreError>((old.len(), removed as u64))
                })
            })
            .await?;
        app.counters.expired.inc_by(removed);
        deleted += batch;
        if batch == 0 {
            return Ok(deleted);
        }
    }
}

/// The keys that ended before `moment` (Unix seconds), as all processes know them.
async fn ended_keys(app: &App, moment: u64) -> Result<Vec<TokenKeyId>, StoreError> {
    app.db.read("ended_keys", |tx| Box::pin(async move { keys::ended_before(tx, moment).await })).await
}

/// Fences the key first: from then on no token of it is accepted, in any process, so that its rows can go. It is
/// forgotten last: after a crash in between, the next round goes on.
async fn drop_key(app: &App, lease: &mut Lease, key: TokenKeyId) -> Result<(), StoreError> {
    app.db.run("retire_key", |tx| Box::pin(async move { retention::fence(tx, &key).await })).await?;
    loop {
        lease.keep(app.clock.now()).await?;
        let dropped = app
            .db
            .run("retire_rows", |tx| Box::pin(async move { retention::drop_rows(tx, &key, BATCH).await }))
            .await?;
        if dropped == 0 {
            break;
        }
    }
    app.db.run("forget_key", |tx| Box::pin(async move { retention::forget_key(tx, &key).await })).await
}

/// Fences the used epochs that are over first, as [`drop_key`] does with a key: what goes of them is what lies behind the fence, not behind
/// the clock, which may be set back.
async fn drop_epochs(app: &App, lease: &mut Lease) -> Result<(), StoreError> {
    let policy = &app.config.replies;
    let Some(over) = strike::live_epochs(policy, app.clock.now()).start.checked_sub(1) else { return Ok(()) };
    let fence =
        app.db.run("reply_fence", |tx| Box::pin(async move { retention::fence_epochs(tx, over).await })).await?;
    loop {
        lease.keep(app.clock.now()).await?;
        let dropped = app
            .db
            .run("reply_epochs", |tx| {
                Box::pin(async move {
                    let mut dropped = retention::drop_strikes(tx, over, BATCH).await?;
                    dropped += retention::drop_reveals(tx, policy.period_of(over.saturating_add(1)), BATCH).await?;
                    if let Some(fence) = fence {
                        dropped += retention::drop_nullifiers(tx, fence, BATCH).await?;
                    }
                    Ok::<_, StoreError>(dropped)
                })
            })
            .await?;
        if dropped == 0 {
            return Ok(());
        }
    }
}
