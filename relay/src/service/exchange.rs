//! Exchange (design §2.2): an old token and its refund secret for a blind signature on a fresh blinded message.
//!
//! 1. The token, its secret and the new key are checked.
//! 2. Transaction: the row becomes `exchanging`, bound to this new key and blinded message for good.
//! 3. The issuer signs. It learns nothing of the old token.
//! 4. Transaction: the row becomes `exchanged` and keeps the signature.
//!
//! A crash or a lost answer anywhere is repaired by the identical request: 2 finds the row, 3 gets the same signature
//! (the issuer signs a blinded message once), 4 changes nothing. Only the issuer's own word that it will *never* sign
//! this blinded message (`key-not-active`, see `protocol::internal`) undoes 2: otherwise two signatures could come of one token.

use postern_credentials::blind_token::{nullifier, refund_nonce};
use postern_protocol::exchange::ExchangeRequest;
use postern_protocol::ids::{RsaElement, TokenKeyId};
use postern_protocol::problem::{Problem, ProblemKind};
use postern_protocol::tokens::Token;
use postern_store::Tx;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::issuer::CallError;
use super::keys::Standing;
use super::send::{challenge, token_digest};
use crate::app::App;
use crate::db::exchange::{self, Exchange};
use crate::db::send::{self, TokenState};
use crate::error::Refusal;

/// Names the digest that a row is bound by.
const BLINDED_LABEL: &[u8] = b"postern/exchange/v1";
/// What a holder is told to wait when the issuer is silent, seconds.
const RETRY_SECONDS: u64 = 5;

/// The blind signature.
///
/// # Errors
/// `token-invalid`, `refund-secret-wrong`, `key-not-active`, `not-released`, `already-exchanged`; `exchange-budget` and
/// `unavailable`, after which the identical request goes on.
pub(crate) async fn exchange(app: &App, request: &ExchangeRequest) -> Result<RsaElement, Refusal> {
    let (exchange, right) = check(app, request).await?;
    match app.db.run("exchange_begin", |tx| Box::pin(async move { begin(tx, &exchange, right).await })).await? {
        Begun::Done(signature) => return Ok(*signature),
        Begun::Now => drop(app.counters.exchanges_begun.inc()),
        Begun::Before => {}
    }
    match app.issuer.sign(request.token_key_id, request.blinded).await {
        Ok(signature) => {
            let finishing =
                app.db.run("exchange_finish", |tx| Box::pin(async move { finish(tx, &exchange, signature).await }));
            let (signature, now) = finishing.await?;
            app.counters.exchanged.inc_by(now.into());
            Ok(signature)
        }
        Err(error) if error.refused_because() == Some(ProblemKind::KeyNotActive) => {
            let undone =
                app.db.run("exchange_undo", |tx| Box::pin(async move { exchange::undo(tx, &exchange).await })).await?;
            app.counters.exchanges_given_up.inc_by(undone.into());
            app.keys.refresh(&app.issuer).await;
            Err(ProblemKind::KeyNotActive.into())
        }
        Err(error) => Err(passed_on(error)),
    }
}

/// What this request may do with a token that has no exchange under way.
#[derive(Clone, Copy)]
struct Right {
    /// Whether the old token's key still counts; if not, only what was begun can go on.
    begin: bool,
    /// Whether the requested key signs.
    new_key_active: bool,
    /// Whether an unspent token of the old key may be exchanged.
    unspent: bool,
}

async fn check(app: &App, request: &ExchangeRequest) -> Result<(Exchange, Right), Refusal> {
    let invalid = || challenge(app, ProblemKind::TokenInvalid);
    let token = Token::decode(&request.token.0).map_err(|_| invalid())?;
    if !bool::from(refund_nonce(&request.refund_secret).ct_eq(&token.input.nonce)) {
        return Err(ProblemKind::RefundSecretWrong.into());
    }
    let now = app.clock.now();
    let old = app.keys.find(&token.input.token_key_id, &app.issuer).await?.ok_or_else(invalid)?;
    let standing = old.standing(now).ok_or_else(invalid)?;
    old.verifying.verify(&token, &app.challenge_digest).map_err(|_| invalid())?;
    let new = app.keys.find(&request.token_key_id, &app.issuer).await?;
    let new_key_active = new.as_ref().and_then(|key| key.standing(now)) == Some(Standing::Active);
    // The issuer would refuse it for ever, and the token would hang.
    if new.is_some_and(|key| !key.verifying.is_signable(&request.blinded)) {
        return Err(Refusal::detailed(ProblemKind::BadRequest, "The blinded message is out of range."));
    }
    let exchange = Exchange {
        nullifier: nullifier(&token.input),
        key_id: token.input.token_key_id,
        token_digest: token_digest(&token),
        blinded_digest: blinded_digest(&request.token_key_id, &request.blinded),
        new_key_id: request.token_key_id,
    };
    let right = Right { begin: standing != Standing::Expired, new_key_active, unspent: standing == Standing::Retiring };
    Ok((exchange, right))
}

fn blinded_digest(key: &TokenKeyId, blinded: &RsaElement) -> [u8; 32] {
    Sha256::new_with_prefix(BLINDED_LABEL).chain_update(key.0).chain_update(blinded.0).finalize().into()
}

/// How far an exchange was.
enum Begun {
    /// To its end: the stored answer.
    Done(Box<RsaElement>),
    /// The issuer is to be asked, and was perhaps before.
    Before,
    /// The issuer is to be asked, for the first time.
    Now,
}

/// Step 2. What is under way or done goes on whatever has become
/// of the keys since.
async fn begin(tx: &mut Tx<'_>, exchange: &Exchange, right: Right) -> Result<Begun, Refusal> {
    let row = send::find(tx, &exchange.nullifier).await?;
    if let Some(row) = &row
        && matches!(row.state, TokenState::Exchanging | TokenState::Exchanged)
    {
        let same = row.blinded_digest.is_some_and(|digest| digest.ct_eq(&exchange.blinded_digest).into());
        let signature = row.blind_signature.map(|signature| Begun::Done(Box::new(signature)));
        return if same { Ok(signature.unwrap_or(Begun::Before)) } else { Err(ProblemKind::AlreadyExchanged.into()) };
    }
    if !right.begin || send::key_is_retired(tx, &exchange.key_id).await? {
        return Err(ProblemKind::TokenInvalid.into());
    }
    if !right.new_key_active {
        return Err(ProblemKind::KeyNotActive.into());
    }
    let begun = match row.map(|row| row.state) {
        Some(TokenState::Released) => exchange::begin_released(tx, exchange).await?,
        None if right.unspent => exchange::begin_unspent(tx, exchange).await?,
        // Attached, burnt, or not to be had yet: one answer.
        _ => return Err(ProblemKind::NotReleased.into()),
    };
    // Not begun: another process was faster, after the look above. The holder's next try sees what came of it.
    if begun { Ok(Begun::Now) } else { Err(Refusal::retry_after(ProblemKind::Unavailable, 1)) }
}

/// Step 4, and whether it was taken now. A concurrent identical request may have been faster.
async fn finish(tx: &mut Tx<'_>, exchange: &Exchange, signature: RsaElement) -> Result<(RsaElement, bool), Refusal> {
    if exchange::finish(tx, exchange, &signature).await? {
        return Ok((signature, true));
    }
    let row = send::find(tx, &exchange.nullifier).await?;
    let same = row.filter(|row| row.blinded_digest == Some(exchange.blinded_digest));
    let signature = same.and_then(|row| row.blind_signature).ok_or(ProblemKind::Internal)?;
    Ok((signature, false))
}

/// What a holder hears when the issuer has not signed. His row stays `exchanging`: the identical request goes on.
fn passed_on(error: CallError) -> Refusal {
    match error.refused_because() {
        Some(kind @ (ProblemKind::ExchangeBudget | ProblemKind::BadRequest)) => {
            let retry_after = if let CallError::Refused(problem) = error { problem.retry_after } else { None };
            let mut passed = Problem::new(kind);
            passed.retry_after = retry_after;
            passed.into()
        }
        _ => {
            tracing::warn!(%error, "an exchange waits for the issuer");
            Refusal::retry_after(ProblemKind::Unavailable, RETRY_SECONDS)
        }
    }
}
