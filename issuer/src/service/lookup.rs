//! Look-ups (M25–M27, design §5): blinded numbers are evaluated, for a token each. Nobody says who asks.
//!
//! In this order, so that junk costs no write and bad input loses nothing: form, window, tokens, the ledger, evaluation. All
//! tokens of a request are spent together or none is. The identical request is answered again, byte for byte, until its
//! window is over; then what was spent in it is dropped, behind a fence that no clock can put back.

use std::collections::BTreeSet;
use std::sync::Arc;

use postern_credentials::blind_token::challenge_digest;
use postern_credentials::lookup_token::{WindowSecret, nullifier};
use postern_credentials::oprf::{self, Evaluation, SecretKey};
use postern_protocol::ids::{ChallengeDigest, LookupNullifier, OprfElement};
use postern_protocol::log::LogLeaf;
use postern_protocol::lookup::{
    LookupInfo, LookupRequest, LookupResponse, LookupToken, MAX_LOOKUPS, WindowKey, lookup_challenge,
};
use postern_protocol::problem::ProblemKind;
use postern_store::{Lease, Tx};

use super::lookup_tokens::window_secret;
use super::{blocking, log};
use crate::app::Issuer;
use crate::db;
use crate::error::Refusal;
use crate::secrets::digest;

/// The epoch of the VOPRF's key before it is ever changed.
const FIRST_EPOCH: u32 = 1;

/// Policy and keys: what a client needs first. The keys of windows are logged before they are shown.
///
/// # Errors
/// If the database fails.
pub async fn info(issuer: &Issuer) -> Result<LookupInfo, Refusal> {
    let (policy, now) = (issuer.config.lookup.policy(), issuer.now());
    let present = policy.window_at(now);
    let accepted = [Some(present), present.checked_sub(1)].into_iter().flatten().filter(|w| policy.accepts(*w, now));
    let key = |window| Ok(WindowKey { window, key: window_secret(issuer, window)?.public() });
    let keys = accepted.map(key).collect::<Result<Vec<_>, Refusal>>()?;
    // The older first, as the log has them.
    for key in keys.iter().rev() {
        log::ensure(issuer, &LogLeaf::LookupKey(*key)).await?;
    }
    let oprf_epoch = issuer.db.read("epoch", |tx| Box::pin(async move { serving_epoch(tx).await })).await?;
    Ok(LookupInfo { policy, keys, oprf_epoch, oprf_key: oprf_secret(issuer, oprf_epoch)?.public() })
}

/// The key of an epoch.
///
/// # Errors
/// Does not happen.
pub(crate) fn oprf_secret(issuer: &Issuer, epoch: u32) -> Result<SecretKey, Refusal> {
    let secret = SecretKey::for_epoch(&issuer.secrets.root, epoch);
    secret.map_err(|_| Refusal::Failed("an epoch's key could not be derived"))
}

/// The epoch of the build that is served, which look-ups are evaluated with.
async fn serving_epoch(tx: &mut Tx<'_>) -> Result<u32, Refusal> {
    match db::directory::latest_epoch(tx).await? {
        Some(epoch) => Ok(epoch),
        None => next_epoch(tx).await,
    }
}

/// The epoch that the next build of the directory is made with.
pub(crate) async fn next_epoch(tx: &mut Tx<'_>) -> Result<u32, Refusal> {
    Ok(db::lookup::last_epoch(tx).await?.unwrap_or(FIRST_EPOCH))
}

/// Changes the VOPRF's key from the next build on; returns its epoch. Until there has been a build with it, once more changes
/// nothing.
///
/// # Errors
/// If the database fails.
pub async fn rotate(issuer: &Issuer) -> Result<u32, Refusal> {
    let now = issuer.now();
    issuer
        .db
        .run("rotate the look-up key", |tx| {
            Box::pin(async move {
                let (serving, next) = (serving_epoch(tx).await?, next_epoch(tx).await?);
                if next > serving {
                    return Ok(next);
                }
                let next = next.checked_add(1).ok_or(Refusal::Failed("there are no epochs left"))?;
                db::lookup::insert_epoch(tx, next, now).await?;
                Ok(next)
            })
        })
        .await
}

/// A request of the right form.
struct Batch {
    window: u64,
    tokens: Vec<LookupToken>,
    nullifiers: Vec<LookupNullifier>,
    blinded: Vec<OprfElement>,
    digest: [u8; 32],
}

/// Evaluates blinded numbers, for a token each.
///
/// # Errors
/// `bad-request`; `lookup-window` for a window that is over or has not begun; `lookup-token-invalid` if any token is;
/// `lookup-token-used` if any was spent in another request. Nothing is spent then.
pub async fn evaluate(issuer: &Arc<Issuer>, request: LookupRequest) -> Result<LookupResponse, Refusal> {
    let batch = read(request)?;
    if !issuer.config.lookup.policy().accepts(batch.window, issuer.now()) {
        return Err(ProblemKind::LookupWindow.into());
    }
    let secret = window_secret(issuer, batch.window)?;
    let challenge = challenge_digest(&lookup_challenge(&issuer.config.name))
        .map_err(|_| Refusal::Failed("the challenge of look-up tokens does not encode"))?;
    let batch = blocking(move || verify(&secret, &challenge, &batch).map(|()| batch)).await?;
    let spent = &batch;
    let (oprf_epoch, now) =
        issuer.db.run("spend look-up tokens", |tx| Box::pin(async move { spend(tx, spent).await })).await?;
    issuer.counters.lookups.inc_by(now);
    let key = oprf_secret(issuer, oprf_epoch)?;
    let evaluation = blocking(move || {
        key.evaluate(&batch.blinded).map_err(|_| Refusal::Failed("a checked batch could not be evaluated"))
    });
    let Evaluation { evaluated, proof } = evaluation.await?;
    Ok(LookupResponse { oprf_epoch, evaluated, proof })
}

/// The form: numbers, lengths, no token twice.
fn read(request: LookupRequest) -> Result<Batch, Refusal> {
    let LookupRequest { window, tokens, blinded } = request;
    if blinded.is_empty() || blinded.len() > MAX_LOOKUPS {
        return Err(Refusal::detailed(ProblemKind::BadRequest, "not as many blinded numbers as one request may have"));
    }
    if tokens.len() != blinded.len() {
        return Err(Refusal::detailed(ProblemKind::BadRequest, "not one token for each blinded number"));
    }
    // Of what is asked, not of how it was spelt: a client may keep the parts and write the JSON again.
    let mut asked = window.to_be_bytes().to_vec();
    tokens.iter().for_each(|token| asked.extend_from_slice(token.as_bytes()));
    blinded.iter().for_each(|element| asked.extend_from_slice(element.as_bytes()));
    let tokens: Vec<_> = tokens
        .iter()
        .map(|token| LookupToken::decode(token.as_bytes()))
        .collect::<Result<_, _>>()
        .map_err(|_| ProblemKind::LookupTokenInvalid)?;
    let nullifiers: Vec<_> = tokens.iter().map(|token| nullifier(&token.input)).collect();
    if nullifiers.iter().collect::<BTreeSet<_>>().len() != nullifiers.len() {
        return Err(Refusal::detailed(ProblemKind::BadRequest, "a token comes twice"));
    }
    Ok(Batch { window, tokens, nullifiers, blinded, digest: digest(&asked) })
}

fn verify(secret: &WindowSecret, challenge: &ChallengeDigest, batch: &Batch) -> Result<(), Refusal> {
    oprf::check_batch(&batch.blinded)
        .map_err(|_| Refusal::detailed(ProblemKind::BadRequest, "a blinded number is no group element"))?;
    let valid = batch.tokens.iter().try_for_each(|token| secret.verify(token, challenge));
    valid.map_err(|_| ProblemKind::LookupTokenInvalid.into())
}

/// Spends all tokens; returns the epoch to evaluate with, which for an identical request is the one of the first time, and how many were spent now.
async fn spend(tx: &mut Tx<'_>, batch: &Batch) -> Result<(u32, u64), Refusal> {
    if db::lookup::is_fenced(tx, batch.window).await? {
        return Err(ProblemKind::LookupWindow.into());
    }
    let oprf_epoch = serving_epoch(tx).await?;
    let spent = db::lookup::spend(tx, &batch.nullifiers, batch.window, &batch.digest, oprf_epoch).await?;
    if spent == batch.nullifiers.len() {
        return Ok((oprf_epoch, spent as u64));
    }
    // The digest covers all tokens: if one was spent in this request, all were.
    let first = batch.nullifiers.first().ok_or(ProblemKind::BadRequest)?;
    match db::lookup::find_spent(tx, first).await? {
        Some((request, oprf_epoch)) if spent == 0 && request == batch.digest => Ok((oprf_epoch, 0)),
        _ => Err(ProblemKind::LookupTokenUsed.into()),
    }
}

/// Drops what was issued and spent in windows that are over, after raising the fence.
///
/// # Errors
/// If the database fails, or the lease is another's; what was done stays done, and the rest is done next time.
pub(crate) async fn drop_windows(issuer: &Issuer, lease: &mut Lease) -> Result<(), Refusal> {
    let (policy, now) = (issuer.config.lookup.policy(), issuer.now());
    let present = policy.window_at(now);
    let over = (1..=2).filter_map(|back| present.checked_sub(back)).find(|window| now >= policy.window_over(*window));
    let Some(window) = over else { return Ok(()) };
    let raising = issuer.db.run("raise the fence of look-ups", |tx| {
        Box::pin(async move { Ok::<_, Refusal>(db::lookup::raise_fence(tx, window).await?) })
    });
    raising.await?;
    loop {
        lease.keep(issuer.now()).await?;
        let dropping = issuer.db.run("drop a window", |tx| {
            Box::pin(async move { Ok::<_, Refusal>(db::lookup::drop_some(tx, window).await?) })
        });
        if dropping.await? == 0 {
            return Ok(());
        }
    }
}
