//! The group secrets that an owner declares, sealed at rest (design §3).

use postern_credentials::reply_credential::GroupSecret;
use postern_protocol::ids::{GroupSecretBytes, MailboxId};
use postern_protocol::problem::ProblemKind;
use postern_protocol::reply::{MAX_REPLY_KEYS, ReplyKey};

use crate::app::App;
use crate::db::{mailbox, reply};
use crate::error::Refusal;

/// Names the use of the seal key.
const SEALED_FOR: &[u8] = b"postern/reply-key/v1";

/// From now on the mailbox has these group secrets, at most [`MAX_REPLY_KEYS`], and no others. Repeating is harmless.
///
/// # Errors
/// `bad-request` for too many, a version named twice, or bytes that are no group secret; `reply-key-conflict` for a version that has
/// another secret (and then nothing changes); `mailbox-unknown` if the mailbox was closed meanwhile.
pub(crate) async fn declare(app: &App, mailbox: MailboxId, keys: &[ReplyKey]) -> Result<(), Refusal> {
    check(keys)?;
    let seal =
        |key: &ReplyKey| app.seal.seal(&mut (app.rng)(), &context(&mailbox, key.key_version), key.secret.expose());
    let sealed: Vec<_> = keys.iter().map(seal).collect();
    let sealed = &sealed;
    app.db
        .run("reply_keys", |tx| {
            Box::pin(async move {
                if !mailbox::exists(tx, &mailbox).await? {
                    return Err(ProblemKind::MailboxUnknown.into());
                }
                let stored = reply::keys(tx, &mailbox).await?;
                for (version, old) in &stored {
                    match keys.iter().find(|key| key.key_version == *version) {
                        None => reply::drop_key(tx, &mailbox, *version).await?,
                        Some(key) if open_bytes(app, &mailbox, *version, old)? == key.secret => {}
                        Some(_) => return Err(ProblemKind::ReplyKeyConflict.into()),
                    }
                }
                for (key, sealed) in keys.iter().zip(sealed) {
                    if !stored.iter().any(|(version, _)| *version == key.key_version) {
                        reply::put_key(tx, &mailbox, key.key_version, sealed).await?;
                    }
                }
                Ok(())
            })
        })
        .await
}

fn check(keys: &[ReplyKey]) -> Result<(), Refusal> {
    if keys.len() > MAX_REPLY_KEYS {
        return Err(Refusal::detailed(ProblemKind::BadRequest, "At most 2 group secrets at a time."));
    }
    let mut versions: Vec<_> = keys.iter().map(|key| key.key_version).collect();
    versions.sort_unstable();
    versions.dedup();
    if versions.len() != keys.len() {
        return Err(Refusal::detailed(ProblemKind::BadRequest, "A version has one secret."));
    }
    if keys.iter().any(|key| GroupSecret::from_stored(key.secret.expose()).is_err()) {
        return Err(Refusal::detailed(ProblemKind::BadRequest, "These bytes are no group secret."));
    }
    Ok(())
}

/// Opens a group secret out of its row.
///
/// # Errors
/// `internal` if the row was not sealed here: the root secret has been changed.
pub(crate) fn open(app: &App, mailbox: &MailboxId, version: u32, sealed: &[u8]) -> Result<GroupSecret, Refusal> {
    let bytes = open_bytes(app, mailbox, version, sealed)?;
    GroupSecret::from_stored(bytes.expose()).map_err(|_| ProblemKind::Internal.into())
}

fn open_bytes(app: &App, mailbox: &MailboxId, version: u32, sealed: &[u8]) -> Result<GroupSecretBytes, Refusal> {
    let opened = app.seal.open(&context(mailbox, version), sealed).map_err(|_| {
        tracing::error!("a group secret was not sealed with this relay's secret");
        ProblemKind::Internal
    })?;
    GroupSecretBytes::from_slice(&opened).map_err(|_| ProblemKind::Internal.into())
}

/// The row that it is sealed for.
fn context(mailbox: &MailboxId, version: u32) -> Vec<u8> {
    [SEALED_FOR, &mailbox.0, &version.to_be_bytes()].concat()
}
