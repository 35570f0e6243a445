//! One-time prekeys: the owner fills a supply that nobody here can read; a stranger claims one for a first message. Whoever asks again with
//! the same claim gets the same prekey, nobody else does; and an empty supply costs no write.

use bytes::Bytes;
use postern_protocol::ids::{MailboxId, PrekeyClaim, SealedPrekey};
use postern_protocol::prekeys::{PrekeySupply, PrekeyUpload};
use postern_protocol::problem::ProblemKind;
use postern_store::{StoreError, Tx};
use sha2::{Digest, Sha256};

use crate::app::App;
use crate::db::mailbox;
use crate::db::prekeys::{self, LastUpload};
use crate::error::Refusal;

/// So many times the supply may lie here as claims that are still remembered; more uploads add nothing until some are forgotten. Else an
/// owner who claims their own could fill the disk.
const CLAIMS_PER_SUPPLY: u64 = 10;
/// Times of claims are kept this coarsely, seconds.
const COARSE: u64 = 3600;

/// Adds to the supply of an open mailbox as much as there is room for. The last upload again changes nothing.
///
/// # Errors
/// `bad-request` if it is no upload; `prekey-batch` if its number is not above the last one's; `mailbox-unknown` if the mailbox was
/// closed meanwhile.
pub(crate) async fn add(app: &App, mailbox: MailboxId, body: Bytes) -> Result<PrekeySupply, Refusal> {
    let upload = PrekeyUpload::decode(&body).map_err(|_| ProblemKind::BadRequest)?;
    let (upload, digest) = (&upload, Sha256::digest(&body).into());
    app.db
        .run("prekeys_add", |tx| {
            Box::pin(async move {
                if !mailbox::exists(tx, &mailbox).await? {
                    return Err(ProblemKind::MailboxUnknown.into());
                }
                match prekeys::last_upload(tx, &mailbox).await? {
                    Some(last) if last.batch == upload.batch && last.digest == digest => {}
                    Some(last) if last.batch >= upload.batch => return Err(ProblemKind::PrekeyBatch.into()),
                    _ => {
                        let room = room(app, tx, &mailbox).await?;
                        let fitting = upload.prekeys.get(..room).unwrap_or(&upload.prekeys);
                        prekeys::add(tx, &mailbox, upload.batch, fitting).await?;
                        let last = LastUpload { batch: upload.batch, digest };
                        prekeys::set_last_upload(tx, &mailbox, &last).await?;
                    }
                }
                Ok(supply(app, tx, &mailbox).await?)
            })
        })
        .await
}

/// How many more are kept.
async fn room(app: &App, tx: &mut Tx<'_>, mailbox: &MailboxId) -> Result<usize, StoreError> {
    let limit = app.config.limits.prekeys_per_mailbox;
    if prekeys::claimed(tx, mailbox).await? >= limit.saturating_mul(CLAIMS_PER_SUPPLY) {
        return Ok(0);
    }
    let room = limit.saturating_sub(prekeys::unclaimed(tx, mailbox).await?);
    Ok(usize::try_from(room).unwrap_or(usize::MAX))
}

async fn supply(app: &App, tx: &mut Tx<'_>, mailbox: &MailboxId) -> Result<PrekeySupply, StoreError> {
    let last = prekeys::last_upload(tx, mailbox).await?;
    Ok(PrekeySupply {
        unclaimed: prekeys::unclaimed(tx, mailbox).await?,
        limit: app.config.limits.prekeys_per_mailbox,
        batch: last.map_or(0, |last| last.batch),
    })
}

/// How the supply stands.
///
/// # Errors
/// A failure of the database.
pub(crate) async fn look(app: &App, mailbox: MailboxId) -> Result<PrekeySupply, Refusal> {
    app.db.read("prekeys_look", |tx| Box::pin(async move { Ok(supply(app, tx, &mailbox).await?) })).await
}

/// The prekey of this claim: the one that it got before, or the oldest that nobody has; `None` if there is none left. A claim that got
/// none may get one later: nothing is kept of it.
///
/// # Errors
/// `mailbox-unknown`.
pub(crate) async fn claim(app: &App, mailbox: MailboxId, claim: PrekeyClaim) -> Result<Option<SealedPrekey>, Refusal> {
    // What an unknown mailbox, an empty supply or a repetition costs is this reading.
    let (known, any) = app
        .db
        .read("prekey_find", |tx| {
            Box::pin(async move {
                if !mailbox::exists(tx, &mailbox).await? {
                    return Err(Refusal::from(ProblemKind::MailboxUnknown));
                }
                let known = prekeys::of_claim(tx, &mailbox, &claim).await?;
                Ok((known, prekeys::unclaimed(tx, &mailbox).await? > 0))
            })
        })
        .await?;
    if known.is_some() || !any {
        return Ok(known);
    }
    let kept_until = kept_until(app);
    app.db
        .run("prekey_claim", |tx| Box::pin(async move { take(tx, &mailbox, &claim, kept_until).await }))
        .await
        .map_err(Refusal::from)
}

async fn take(
    tx: &mut Tx<'_>,
    mailbox: &MailboxId,
    claim: &PrekeyClaim,
    kept_until: u64,
) -> Result<Option<SealedPrekey>, StoreError> {
    loop {
        if let Some(known) = prekeys::of_claim(tx, mailbox, claim).await? {
            return Ok(Some(known));
        }
        // A mailbox that was closed meanwhile has no supply.
        let Some(prekey) = prekeys::oldest(tx, mailbox).await? else { return Ok(None) };
        if prekeys::give(tx, mailbox, claim, &prekey, kept_until).await? {
            return Ok(Some(prekey.sealed));
        }
    }
}

/// At least as long as published, to the next whole hour.
fn kept_until(app: &App) -> u64 {
    let until = app.clock.now().plus_seconds(app.config.limits.prekey_claim_seconds).seconds();
    until.div_ceil(COARSE).saturating_mul(COARSE)
}
