//! Login (K1–K18, design §4).
//!
//! A challenge costs no write. A proof uses its nonce up and is counted, in one transaction, before it is looked at; only a
//! good one is given back. A number without an account takes the same path with a verifier that no password leads to, makes
//! the same writes and gets the same answers.

use std::sync::Arc;

use postern_credentials::login_chain::{MAX_LABEL, OpenedNonce};
use postern_credentials::session::SessionKey;
use postern_protocol::ids::{LoginVerifier, Mac, SessionId};
use postern_protocol::login::{ChallengeRequest, ChallengeResponse, LoginRequest, LoginResponse};
use postern_protocol::problem::ProblemKind;
use postern_protocol::time::Timestamp;
use rand_core::Rng;

use super::attempts::{self, Counter};
use super::blocking;
use crate::app::Issuer;
use crate::db;
use crate::db::register::AccountRow;
use crate::db::sessions::NewSession;
use crate::error::Refusal;

/// Answers with salt, M, a single-use nonce and our ephemeral key, signed.
///
/// # Errors
/// If the database fails.
pub async fn challenge(issuer: &Issuer, request: &ChallengeRequest) -> Result<ChallengeResponse, Refusal> {
    let account = &issuer.secrets.account_id(&request.user);
    let row: Option<AccountRow> = issuer
        .db
        .read("salt", |tx| Box::pin(async move { Ok::<_, Refusal>(db::register::find(tx, account).await?) }))
        .await?;
    let secrets = &issuer.secrets;
    let salt = row.as_ref().map(|row| &row.login_salt);
    let rng = &mut issuer.random.generator();
    Ok(secrets.login.challenge(rng, &secrets.identity, &issuer.config.name, request, salt, issuer.now()))
}

/// Checks a proof and opens a session.
///
/// # Errors
/// `login-refused` for a wrong password, a number without an account, a nonce that is used, expired or not ours;
/// `rate-limited` with the time to wait; `bad-request` for a label that is too long or not printable.
pub async fn login(issuer: &Arc<Issuer>, request: LoginRequest) -> Result<LoginResponse, Refusal> {
    if request.label.len() > MAX_LABEL || request.label.chars().any(char::is_control) {
        return Err(Refusal::detailed(ProblemKind::BadRequest, "the label is not up to 64 bytes of printable text"));
    }
    let now = issuer.now();
    let nonce = issuer.secrets.login.open_nonce(&request.nonce.0, &request.user, now);
    let nonce = nonce.map_err(|_| ProblemKind::LoginRefused)?;
    let account = issuer.secrets.account_id(&request.user);
    let (row, guess) = begin_guess(issuer, &account, &nonce, now).await?;

    let registered = row.as_ref().map(|row| row.registered);
    let mut rng = issuer.random.generator();
    let mut session = SessionId([0; 16]);
    rng.fill_bytes(&mut session.0);
    let label = request.label.clone();
    let (key, proof) = verify(issuer, account, row, nonce, request, session).await?;
    // Nobody gets here without an account; still, there is no session without one.
    let registered = registered.ok_or(ProblemKind::LoginRefused)?;

    let sealed_key = issuer.secrets.sessions.seal(&mut rng, &session.0, key.expose());
    let created = Timestamp::from_seconds(now.seconds());
    let expires = created.plus_seconds(issuer.config.limits.session_seconds);
    let new = NewSession { session, account: &account, sealed_key: &sealed_key, label: &label, created, expires };
    open_session(issuer, &new, registered, &guess, now).await?;
    issuer.counters.logins.inc();
    Ok(LoginResponse { proof, session, expires: expires.seconds() })
}

/// Counts the guess and uses the nonce up; returns what is known of the account, and where the guess was counted.
async fn begin_guess(
    issuer: &Issuer,
    account: &[u8; 32],
    nonce: &OpenedNonce,
    now: Timestamp,
) -> Result<(Option<AccountRow>, [Counter; 2]), Refusal> {
    let counters = attempts::guess(issuer, account, now);
    let (digest, expires) = (nonce.digest(), nonce.expires());
    issuer
        .db
        .run("count a guess", |tx| {
            Box::pin(async move {
                let counted = attempts::count_each(tx, counters, now).await?;
                // A nonce that was used cannot be guessed with: giving up here also takes the count back. Unless the one who used
                // it was this transaction, whose commit nobody heard of: then the guess is counted twice, and goes on.
                if !db::login::use_nonce(tx, &digest, expires).await? && !tx.may_have_committed() {
                    return Err(ProblemKind::LoginRefused.into());
                }
                Ok((db::register::find(tx, account).await?, counted))
            })
        })
        .await
}

async fn verify(
    issuer: &Arc<Issuer>,
    account: [u8; 32],
    row: Option<AccountRow>,
    nonce: OpenedNonce,
    request: LoginRequest,
    session: SessionId,
) -> Result<(SessionKey, Mac), Refusal> {
    let issuer = Arc::clone(issuer);
    blocking(move || {
        let secrets = &issuer.secrets;
        let fake = secrets.login.fake_verifier(&request.user);
        // The decoy is opened for strangers, so that both take the same time.
        let (context, sealed) =
            row.as_ref().map_or((&issuer.decoy.context, &issuer.decoy.sealed), |row| (&account, &row.sealed_verifier));
        let opened = secrets.verifiers.open(context, sealed);
        let opened = opened.map_err(|_| Refusal::Failed("a login verifier does not open"))?;
        let real = LoginVerifier::from_slice(&opened).map_err(|_| Refusal::Failed("a login verifier is malformed"))?;
        let verifier = if row.is_some() { real } else { fake };
        let verdict = secrets.login.verify(&nonce, &issuer.config.name, &verifier, &request, session);
        verdict.map_err(|_| ProblemKind::LoginRefused.into())
    })
    .await
}

/// Records the session and gives the guess back, unless the number has registered again since the proof was checked.
async fn open_session(
    issuer: &Issuer,
    new: &NewSession<'_>,
    registered: Timestamp,
    guess: &[Counter],
    now: Timestamp,
) -> Result<(), Refusal> {
    let keep = issuer.config.limits.sessions_per_account;
    issuer
        .db
        .run("open a session", |tx| {
            Box::pin(async move {
                // Committed before, and nobody heard of it: the session's name is its own.
                if db::sessions::find(tx, &new.session, now).await?.is_some() {
                    return Ok(());
                }
                db::sessions::delete_beyond(tx, new.account, keep.saturating_sub(1)).await?;
                db::sessions::insert(tx, new).await?;
                attempts::give_back_each(tx, guess).await?;
                let row = db::register::find(tx, new.account).await?;
                if row.is_none_or(|row| row.registered != registered) {
                    return Err(ProblemKind::LoginRefused.into());
                }
                Ok(())
            })
        })
        .await
}
