//! Look-up tokens (M26): so many per account and window, blind, on the wire of
//! draft-ietf-privacypass-batched-tokens (type 0x0005).
//!
//! A batch is counted first and evaluated then: evaluation is a function of key and request, so an answer that was lost is
//! made again, and counted once.

use std::sync::Arc;

use postern_credentials::lookup_token::{IssueError, WindowSecret};
use postern_credentials::oprf;
use postern_protocol::lookup::{LookupAllowance, LookupPolicy, LookupTokenRequest, LookupTokenResponse};
use postern_protocol::problem::ProblemKind;
use postern_protocol::time::Timestamp;
use postern_store::Tx;

use super::tokens::{self, Bearer};
use super::{blocking, sessions};
use crate::app::Issuer;
use crate::db;
use crate::db::lookup::Quota;
use crate::error::Refusal;
use crate::secrets::digest;

/// The key of a window.
///
/// # Errors
/// Does not happen.
pub(crate) fn window_secret(issuer: &Issuer, window: u64) -> Result<WindowSecret, Refusal> {
    let secret = WindowSecret::derive(&issuer.secrets.root, window);
    secret.map_err(|_| Refusal::Failed("a window's key could not be derived"))
}

/// A batch that is about to be counted.
struct Batch {
    digest: [u8; 32],
    size: u64,
    truncated_key_id: u8,
    now: Timestamp,
}

/// Issues a batch, all or nothing. `body` is the request as it came, byte for byte; the same gets the same answer, uncounted,
/// until its window is over.
///
/// # Errors
/// Unauthorised for an account that is gone or has registered again; `bad-request`; `lookup-window` for a key that is not the
/// present window's; `lookup-quota` with the time until the next window.
pub async fn issue(
    issuer: &Arc<Issuer>,
    bearer: Bearer,
    body: &[u8],
    request: LookupTokenRequest,
) -> Result<LookupTokenResponse, Refusal> {
    let now = issuer.now();
    let truncated_key_id = request.truncated_token_key_id;
    let batch = &Batch { digest: digest(body), size: request.blinded.len() as u64, truncated_key_id, now };
    // Nothing that cannot be evaluated is counted.
    let request = blocking(move || match oprf::check_batch(&request.blinded) {
        Ok(()) => Ok(request),
        Err(_) => Err(malformed()),
    })
    .await?;
    let policy = &issuer.config.lookup.policy();
    let (window, counted) = issuer
        .db
        .run("issue look-up tokens", |tx| Box::pin(async move { count(issuer, tx, &bearer, batch, policy).await }))
        .await?;
    issuer.counters.lookup_tokens.inc_by(counted);
    let secret = window_secret(issuer, window)?;
    blocking(move || {
        secret.issue(&request).map_err(|error| match error {
            IssueError::OtherKey => ProblemKind::LookupWindow.into(),
            IssueError::Batch(_) => malformed(),
        })
    })
    .await
}

fn malformed() -> Refusal {
    Refusal::detailed(ProblemKind::BadRequest, "a blinded element is none")
}

/// Counts a batch in the present window, unless it was counted before; returns the window that it is issued in, and how many were counted now.
async fn count(
    issuer: &Issuer,
    tx: &mut Tx<'_>,
    bearer: &Bearer,
    batch: &Batch,
    policy: &LookupPolicy,
) -> Result<(u64, u64), Refusal> {
    tokens::account(tx, bearer).await?;
    if let Some(window) = db::lookup::find_issuance(tx, &bearer.account, &batch.digest).await? {
        return if policy.accepts(window, batch.now) { Ok((window, 0)) } else { Err(ProblemKind::LookupWindow.into()) };
    }
    let window = policy.window_at(batch.now);
    if window_secret(issuer, window)?.truncated_key_id() != batch.truncated_key_id {
        return Err(ProblemKind::LookupWindow.into());
    }
    let quota = Quota { first: policy.quota_first.into(), later: policy.quota_window.into() };
    if !db::lookup::take(tx, &bearer.account, window, batch.size, quota).await? {
        let next = policy.window_start(window.saturating_add(1));
        let seconds = next.0.saturating_sub(batch.now.0).div_ceil(1000);
        return Err(Refusal::retry_after(ProblemKind::LookupQuota, seconds));
    }
    db::lookup::insert_issuance(tx, &bearer.account, &batch.digest, window, batch.size).await?;
    Ok((window, batch.size))
}

/// What the caller's account has left in the present window.
///
/// # Errors
/// `call-replayed`; unauthorised if the session was revoked meanwhile.
pub async fn allowance(issuer: &Issuer, caller: &sessions::Caller) -> Result<LookupAllowance, Refusal> {
    let now = issuer.now();
    let reading = issuer.db.run("look-up allowance", |tx| {
        Box::pin(async move {
            sessions::accept(tx, caller, now).await?;
            Ok::<_, Refusal>(db::lookup::allowance(tx, &caller.account).await?)
        })
    });
    let (row, policy) = (reading.await?, issuer.config.lookup.policy());
    let window = policy.window_at(now);
    let is_first = row.is_none_or(|row| row.first_window == window);
    let issued = row.filter(|row| row.window == window).map_or(0, |row| row.issued);
    Ok(LookupAllowance {
        window,
        quota: if is_first { policy.quota_first } else { policy.quota_window },
        issued: u32::try_from(issued).unwrap_or(u32::MAX),
    })
}
