//! What is forgotten, and when: old messages, the ledger rows of a key some time after its end, claimed prekeys some time after the
//! claim, and nullifiers, strikes and reveals once no reply of their time is accepted.

use postern_protocol::ids::TokenKeyId;
use postern_store::StoreError;

use super::strike;
use crate::app::App;
use crate::db::{release, retention};

/// Rows in one transaction: senders wait no longer than for that.
const BATCH: u64 = 500;

/// One round of housekeeping.
///
/// # Errors
/// [`StoreError`]; what was done stays done, and the next round goes on.
pub(crate) async fn sweep(app: &App) -> Result<(), StoreError> {
    let now = app.clock.now();
    let limits = &app.config.limits;
    let old = delete_messages(app, now.minus_seconds(limits.retention_seconds).seconds()).await?;
    if old > 0 {
        tracing::info!(messages = old, "messages past their retention are deleted");
    }
    for key in app.keys.ended_before(now.minus_seconds(limits.ledger_grace_seconds).seconds()) {
        drop_key(app, key).await?;
        tracing::info!("the ledger rows of an ended key are dropped");
    }
    drop_claims(app, now.seconds()).await?;
    drop_epochs(app).await
}

/// Forgets who got which prekey. What was claimed is gone from the supply, so that it goes to nobody else.
async fn drop_claims(app: &App, now: u64) -> Result<(), StoreError> {
    loop {
        let dropped = app
            .db
            .run("retention_claims", |tx| Box::pin(async move { retention::drop_claims(tx, now, BATCH).await }))
            .await?;
        if dropped == 0 {
            return Ok(());
        }
    }
}

/// Deletes messages; their ledger rows stay, and so can still be released.
async fn delete_messages(app: &App, before: u64) -> Result<usize, StoreError> {
    let mut deleted = 0;
    loop {
        let batch = app
            .db
            .run("retention_messages", |tx| {
                Box::pin(async move {
                    let old = retention::old_messages(tx, before, BATCH).await?;
                    for (mailbox, message) in &old {
                        release::remove(tx, mailbox, message).await?;
                    }
                    Ok::<_, StoreError>(old.len())
                })
            })
            .await?;
        deleted += batch;
        if batch == 0 {
            return Ok(deleted);
        }
    }
}

/// Fences the key first: from then on no token of it is accepted, in any process, so that its rows can go. It is
/// forgotten last: after a crash in between, the next round goes on.
async fn drop_key(app: &App, key: TokenKeyId) -> Result<(), StoreError> {
    app.db.run("retire_key", |tx| Box::pin(async move { retention::fence(tx, &key).await })).await?;
    loop {
        let dropped = app
            .db
            .run("retire_rows", |tx| Box::pin(async move { retention::drop_rows(tx, &key, BATCH).await }))
            .await?;
        if dropped == 0 {
            break;
        }
    }
    app.db.run("forget_key", |tx| Box::pin(async move { retention::forget_key(tx, &key).await })).await?;
    app.keys.retire(&key);
    Ok(())
}

/// Fences the used epochs that are over first, as [`drop_key`] does with a key: what goes of them is what lies behind the fence, not behind
/// the clock, which may be set back.
async fn drop_epochs(app: &App) -> Result<(), StoreError> {
    let policy = &app.config.replies;
    let Some(over) = strike::live_epochs(policy, app.clock.now()).start.checked_sub(1) else { return Ok(()) };
    let fence =
        app.db.run("reply_fence", |tx| Box::pin(async move { retention::fence_epochs(tx, over).await })).await?;
    loop {
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
