//! The rest of an account's tokens (M6): asked for with a bearer JWT during the set-up time, on the wire of RFC 9578.
//!
//! The account's allowance is counted over every way of asking, in the transaction that records the signatures. The
//! identical blinded message gets the identical signature again, uncounted, also after the set-up time. A batch is all or
//! nothing.

use std::sync::Arc;

use postern_credentials::jwt;
use postern_protocol::ids::{RsaElement, TokenKeyId, decode_base64};
use postern_protocol::login::Purpose;
use postern_protocol::problem::ProblemKind;
use postern_protocol::time::Timestamp;
use postern_protocol::tokens::TokenRequest;
use postern_store::Tx;

use super::{keys, register};
use crate::app::Issuer;
use crate::db;
use crate::db::keys::ACCOUNTS;
use crate::db::parts::Part;
use crate::db::register::AccountRow;
use crate::error::Refusal;
use crate::secrets::digest;

/// `Authorization` scheme of token requests.
pub const SCHEME: &str = "Bearer";

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Bearer {
    pub(super) account: [u8; 32],
    issued_at: u64,
}

/// Reads the bearer JWT.
///
/// # Errors
/// Unauthorised, whatever is wrong with it.
pub fn authorise(issuer: &Issuer, jwt: &str) -> Result<Bearer, Refusal> {
    let (key, name) = (issuer.secrets.identity.public(), &issuer.config.name);
    let claims = jwt::verify(&key, jwt, name, name, Purpose::Issuance, issuer.now())
        .map_err(|_| Refusal::Unauthorized(SCHEME))?;
    let account = decode_base64(&claims.sub).ok().and_then(|sub| sub.try_into().ok());
    Ok(Bearer { account: account.ok_or(Refusal::Unauthorized(SCHEME))?, issued_at: claims.iat })
}

/// What is known before anything is signed.
struct Plan {
    /// Per request, the signature that was given before.
    known: Vec<Option<RsaElement>>,
    active: TokenKeyId,
}

/// Signs each request, all or none, in order.
///
/// # Errors
/// Unauthorised for an account that is gone or has registered again; `bad-request`; `key-not-active` if the truncated id is
/// not the active key's; `allowance-exhausted`; `setup-over`.
pub async fn issue(
    issuer: &Arc<Issuer>,
    bearer: Bearer,
    requests: &[TokenRequest],
) -> Result<Vec<RsaElement>, Refusal> {
    if requests.is_empty() {
        return Err(Refusal::detailed(ProblemKind::BadRequest, "the batch is empty"));
    }
    let blinded: Vec<_> = requests.iter().map(|request| request.blinded_msg).collect();
    register::check_blinded(&blinded, issuer.config.limits.tokens_per_account)?;
    let now = issuer.now();
    let plan: Plan = issuer
        .db
        .read("plan issuance", |tx| Box::pin(async move { plan(issuer, tx, &bearer, requests, now).await }))
        .await?;
    let missing: Vec<_> =
        blinded.iter().zip(&plan.known).filter(|(_, known)| known.is_none()).map(|(message, _)| *message).collect();
    if missing.is_empty() {
        issuer.db.settle().await?;
        return Ok(plan.known.into_iter().flatten().collect());
    }
    let key = keys::signing_key(issuer, plan.active).await?;
    let signatures = keys::blind_sign(key, missing.clone()).await?;
    let signed: Vec<_> = missing.into_iter().zip(signatures).collect();

    let (fresh, active) = (&signed, &plan.active);
    let recording = issuer.db.run("issue tokens", |tx| {
        Box::pin(async move {
            let mut unrecorded = Vec::new();
            for (message, signature) in fresh {
                // A retry of this very request may have been faster; what it got is what we have, for signing is
                // deterministic.
                if find(tx, &bearer.account, message, |key| key == active).await?.is_none() {
                    unrecorded.push((*message, *signature));
                }
            }
            if !unrecorded.is_empty() {
                keys::require_active(tx, active).await?;
                record(issuer, tx, &bearer.account, active, &unrecorded, now).await?;
            }
            Ok::<_, Refusal>(unrecorded.len() as u64)
        })
    });
    issuer.counters.issued.inc_by(recording.await?);
    let mut fresh = signed.into_iter().map(|(_, signature)| signature);
    Ok(plan.known.into_iter().filter_map(|known| known.or_else(|| fresh.next())).collect())
}

async fn plan(
    issuer: &Issuer,
    tx: &mut Tx<'_>,
    bearer: &Bearer,
    requests: &[TokenRequest],
    now: Timestamp,
) -> Result<Plan, Refusal> {
    let account = account(tx, bearer).await?;
    let mut known = Vec::with_capacity(requests.len());
    for request in requests {
        let same_key = |key: &TokenKeyId| key.0.last() == Some(&request.truncated_token_key_id);
        known.push(find(tx, &bearer.account, &request.blinded_msg, same_key).await?);
    }
    let active = keys::active(tx, now).await?.ok_or(Refusal::Failed("there is no active token key"))?.key_id;
    let missing = known.iter().filter(|known| known.is_none()).count() as u64;
    if missing > 0 {
        if requests.iter().any(|request| active.0.last() != Some(&request.truncated_token_key_id)) {
            return Err(ProblemKind::KeyNotActive.into());
        }
        if account.tokens_issued.saturating_add(missing) > issuer.config.limits.tokens_per_account.into() {
            return Err(ProblemKind::AllowanceExhausted.into());
        }
        if now > account.setup_until {
            return Err(ProblemKind::SetupOver.into());
        }
    }
    Ok(Plan { known, active })
}

/// The bearer's account. A JWT of an identity that has been replaced speaks for nobody.
pub(super) async fn account(tx: &mut Tx<'_>, bearer: &Bearer) -> Result<AccountRow, Refusal> {
    let account = db::register::find(tx, &bearer.account).await?;
    let current = account.filter(|account| bearer.issued_at >= account.registered.seconds());
    current.ok_or(Refusal::Unauthorized(SCHEME))
}

/// What the account was given for this blinded message, under a key that `of_key` accepts.
async fn find(
    tx: &mut Tx<'_>,
    account: &[u8; 32],
    blinded: &RsaElement,
    of_key: impl Fn(&TokenKeyId) -> bool,
) -> Result<Option<RsaElement>, Refusal> {
    let given = db::tokens::find(tx, account, &digest(&blinded.0)).await?;
    Ok(given.into_iter().find(|(key, _)| of_key(key)).map(|(_, signature)| signature))
}

/// Takes the allowance and records the signatures: the only place where an account gets tokens. The caller has made sure,
/// in this transaction, that the key is active and that none of them is recorded.
///
/// # Errors
/// `allowance-exhausted`.
pub(crate) async fn record(
    issuer: &Issuer,
    tx: &mut Tx<'_>,
    account: &[u8; 32],
    key: &TokenKeyId,
    signed: &[(RsaElement, RsaElement)],
    now: Timestamp,
) -> Result<(), Refusal> {
    let n = signed.len() as u64;
    let limit = issuer.config.limits.tokens_per_account.into();
    if !db::register::take_allowance(tx, account, n, limit).await? {
        return Err(ProblemKind::AllowanceExhausted.into());
    }
    for (message, signature) in signed {
        if !db::tokens::insert(tx, account, &digest(&message.0), key, signature).await? {
            return Err(Refusal::Failed("a token was about to be counted twice"));
        }
    }
    let part = Part::draw(&mut issuer.random.generator());
    let counted = db::keys::add(tx, (key, ACCOUNTS, part), n, u64::MAX, now).await?;
    if counted { Ok(()) } else { Err(Refusal::Failed("a counter is full")) }
}
