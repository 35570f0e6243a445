//! Registration (M1–M6, M35, design §4).
//!
//! 1. [`ask_code`] stores nothing but counts: everything is sealed in the cookie, and the code is a function of the cookie.
//! 2. [`register`] makes the account in one transaction: identity, certificate, login, mailbox grant and blind signatures.
//!    The identical request gets the identical answer; any other request with a used cookie is refused.
//!
//! A number that registers again gets a new identity and no new tokens; its sessions end. So does one whose account was
//! deleted or revoked: whoever has the number has proved it anew.

use std::collections::BTreeSet;
use std::sync::Arc;

use postern_credentials::certificate::{self, CertifiedSubject};
use postern_credentials::jwt;
use postern_credentials::phone_code::{CookieContents, CookieError};
use postern_protocol::ids::{Base64, CallNonce, MailboxId, PhoneNumber, RsaElement, SigningPublicKey, TokenKeyId};
use postern_protocol::login::{Claims, Purpose};
use postern_protocol::problem::ProblemKind;
use postern_protocol::register::{CodeRequest, CodeResponse, RegistrationRequest, RegistrationResponse, RelayEntry};
use postern_protocol::texts::Channel;
use postern_protocol::time::Timestamp;
use postern_store::Tx;
use rand_core::Rng;

use super::pumping::Places;
use super::texts::{Recipient, Route};
use super::{attempts, blocking, keys, phone, texts, tokens};
use crate::app::Issuer;
use crate::db;
use crate::db::register::Identity;
use crate::error::Refusal;
use crate::secrets::{BACKDATE_SECONDS, digest};

/// Sends a code to the number; under the synthetic gateway nothing is sent, and nobody with a phone is served.
///
/// # Errors
/// `phone-invalid`, `phone-refused`, `voice-unavailable`, `text-undeliverable`; `text-limit`, `text-budget` and `text-failed`, each with the
/// time to wait.
pub async fn ask_code(issuer: &Arc<Issuer>, request: &CodeRequest) -> Result<CodeResponse, Refusal> {
    let country = phone::check(&request.phone, &issuer.config.limits)?;
    phone::check_gateway(&request.phone, issuer.config.is_synthetic())?;
    let now = issuer.now();
    let to = Recipient { phone: &request.phone, country, wanted: request.channel };
    let (counters, routes) = count_text(issuer, &to, now).await.inspect_err(|refusal| {
        issuer.told.tell(refusal, country, now);
    })?;

    let expires = Timestamp::from_seconds(now.seconds()).plus_seconds(issuer.config.limits.code_seconds);
    let mut rng = issuer.random.generator();
    let (cookie, code) = issuer.secrets.phone_codes.issue(&mut rng, &request.phone, &request.client_key, expires);
    let channel = if issuer.config.is_synthetic() {
        Channel::Text
    } else {
        let sent = texts::send(issuer, &to, &routes, &code, counters, now).await;
        issuer.counters.texted(sent.is_ok());
        sent?
    };
    Ok(CodeResponse { cookie: Base64(cookie), expires: expires.seconds(), channel })
}

/// Counts a text on everything that it counts on, or on nothing; and by which ways it may go.
async fn count_text<'a>(
    issuer: &'a Issuer,
    to: &Recipient<'_>,
    now: Timestamp,
) -> Result<([attempts::Counter; 3], Vec<Route<'a>>), Refusal> {
    let each = attempts::texts(issuer, to.phone, now);
    let places = Places::of(&issuer.secrets, to.phone);
    // Where no texts are sent nobody is paid for them, and all numbers lie close together.
    let is_counted = !issuer.config.is_synthetic();
    if is_counted {
        issuer.pumping.count(&issuer.config.limits, places, now)?;
    }
    let counting = issuer.db.run("count a text", |tx| {
        Box::pin(async move {
            let routes = texts::routes(issuer, tx, to, now).await?;
            Ok::<_, Refusal>((attempts::count_each(tx, each, now).await?, routes))
        })
    });
    counting.await.inspect_err(|_| {
        if is_counted {
            issuer.pumping.take_back(places, now);
        }
    })
}

/// What a request is recognised by.
#[derive(Clone, Copy)]
struct Names {
    cookie: [u8; 32],
    body: [u8; 32],
}

/// Makes the account. `body` is the request as it came, byte for byte; the answer is JSON, the same for the same `body`.
///
/// # Errors
/// `cookie-invalid`, `cookie-expired`, `rate-limited` (tries), `phone-refused` (by the synthetic gateway alone), `code-wrong`,
/// `certificate-request-invalid`, `bad-request`, `key-not-active`, `registration-conflict`; decided in this order, but for the
/// last, which may come first.
pub async fn register(issuer: &Arc<Issuer>, body: &[u8], request: &RegistrationRequest) -> Result<Vec<u8>, Refusal> {
    let names = Names { cookie: digest(&request.cookie.0), body: digest(body) };
    // One at a time per cookie: retries sent in parallel must find the answer, not use the tries up.
    let _lane = issuer.lanes.enter(&names.cookie).await;
    let now = issuer.now();
    let known: Option<_> = issuer
        .db
        .read("find an answer", |tx| Box::pin(async move { recorded_answer(issuer, tx, &names).await }))
        .await?;
    if let Some(answer) = known {
        issuer.db.settle().await?;
        return Ok(answer);
    }
    let cookie = issuer.secrets.phone_codes.open(&request.cookie.0, &request.phone, now).map_err(|e| match e {
        CookieError::Invalid => ProblemKind::CookieInvalid,
        CookieError::Expired => ProblemKind::CookieExpired,
    })?;
    if let Some(answer) = count_try(issuer, &names, request, &cookie, now).await? {
        return Ok(answer);
    }
    // Again, for a cookie may be older than the gateway.
    phone::check_gateway(&request.phone, issuer.config.is_synthetic())?;
    let is_right = issuer.secrets.phone_codes.check(&request.cookie.0, &request.code)
        || phone::is_synthetic_code(&request.phone, &request.code, issuer.config.is_synthetic());
    if !is_right {
        return Err(ProblemKind::CodeWrong.into());
    }
    check_certificate_request(request, &cookie)?;
    let relay = issuer.config.relay(&request.relay);
    let relay = relay.ok_or_else(|| Refusal::detailed(ProblemKind::BadRequest, "no such relay"))?.entry();
    check_blinded(&request.tokens.blinded, issuer.config.limits.tokens_per_account)?;
    let prepared = prepare(issuer, request, &cookie, relay, now).await?;
    let (prepared, names) = (&prepared, &names);
    let recording = issuer.db.run("register", |tx| Box::pin(async move { record(issuer, tx, names, prepared).await }));
    let (answer, made) = recording.await?;
    if let Some(made) = made {
        issuer.counters.registered(made.is_first, made.tokens);
        issuer.pumping.answered(&issuer.config.limits, Places::of(&issuer.secrets, &request.phone), now);
    }
    Ok(answer)
}

/// The answer that this request was given before.
async fn recorded_answer(issuer: &Issuer, tx: &mut Tx<'_>, names: &Names) -> Result<Option<Vec<u8>>, Refusal> {
    let Some((body, sealed)) = db::register::find_answer(tx, &names.cookie).await? else { return Ok(None) };
    if body != names.body {
        return Err(ProblemKind::RegistrationConflict.into());
    }
    let answer = issuer.secrets.answers.open(&names.cookie, &sealed);
    answer.map(|answer| Some(answer.to_vec())).map_err(|_| Refusal::Failed("a recorded answer does not open"))
}

/// Counts a try of the code, unless the answer has been recorded meanwhile by another process.
async fn count_try(
    issuer: &Issuer,
    names: &Names,
    request: &RegistrationRequest,
    cookie: &CookieContents,
    now: Timestamp,
) -> Result<Option<Vec<u8>>, Refusal> {
    let counters = [attempts::code_try(issuer, &request.cookie.0, cookie.expires)];
    issuer
        .db
        .run("count a try", |tx| {
            Box::pin(async move {
                let known = recorded_answer(issuer, tx, names).await?;
                if known.is_none() {
                    attempts::count_each(tx, counters, now).await?;
                }
                Ok(known)
            })
        })
        .await
}

/// Proof of possession of the key that the cookie is for. Nothing else is read from the request.
fn check_certificate_request(request: &RegistrationRequest, cookie: &CookieContents) -> Result<(), Refusal> {
    match certificate::parse_request(&request.certificate_request.0) {
        Ok(key) if key == cookie.client_key => Ok(()),
        _ => Err(ProblemKind::CertificateRequestInvalid.into()),
    }
}

/// At most `limit` blinded messages, no two alike.
pub(crate) fn check_blinded(blinded: &[RsaElement], limit: u32) -> Result<(), Refusal> {
    if u32::try_from(blinded.len()).is_ok_and(|n| n > limit) {
        return Err(Refusal::detailed(ProblemKind::BadRequest, "more blinded messages than an account has tokens"));
    }
    let distinct: BTreeSet<_> = blinded.iter().collect();
    if distinct.len() != blinded.len() {
        return Err(Refusal::detailed(ProblemKind::BadRequest, "a blinded message comes twice"));
    }
    Ok(())
}

/// Everything about the account that is computed before the transaction.
struct Prepared {
    account: [u8; 32],
    phone: PhoneNumber,
    key: SigningPublicKey,
    certificate: Vec<u8>,
    certificate_expires: Timestamp,
    login_salt: postern_protocol::ids::LoginSalt,
    sealed_verifier: Vec<u8>,
    mailbox: MailboxId,
    relay: RelayEntry,
    grant_id: CallNonce,
    token_key_id: TokenKeyId,
    /// Blinded message and blind signature; empty if the number has registered before.
    signed: Vec<(RsaElement, RsaElement)>,
    now: Timestamp,
    answer_expires: Timestamp,
}

async fn prepare(
    issuer: &Arc<Issuer>,
    request: &RegistrationRequest,
    cookie: &CookieContents,
    relay: RelayEntry,
    now: Timestamp,
) -> Result<Prepared, Refusal> {
    let limits = &issuer.config.limits;
    let account = issuer.secrets.account_id(&request.phone);
    let signed = sign_if_new(issuer, &account, request).await?;
    let certificate_expires = Timestamp::from_seconds(now.seconds()).plus_seconds(limits.certificate_seconds);
    let certificate = certify(issuer, request, cookie.client_key, now, certificate_expires).await?;
    let mut rng = issuer.random.generator();
    let mut mailbox = MailboxId([0; 32]);
    rng.fill_bytes(&mut mailbox.0);
    let mut grant_id = CallNonce([0; 16]);
    rng.fill_bytes(&mut grant_id.0);
    let sealed_verifier = issuer.secrets.verifiers.seal(&mut rng, &account, request.login.verifier.expose());
    Ok(Prepared {
        account,
        phone: request.phone.clone(),
        key: cookie.client_key,
        certificate,
        certificate_expires,
        login_salt: request.login.salt,
        sealed_verifier,
        mailbox,
        relay,
        grant_id,
        token_key_id: request.tokens.token_key_id,
        signed,
        now,
        answer_expires: cookie.expires.max(now.plus_seconds(limits.registration_replay_seconds)),
    })
}

/// Signs the blinded messages of a number that has no account yet. That it still has none, and the key is still active, is
/// decided in the transaction.
async fn sign_if_new(
    issuer: &Arc<Issuer>,
    account: &[u8; 32],
    request: &RegistrationRequest,
) -> Result<Vec<(RsaElement, RsaElement)>, Refusal> {
    if request.tokens.blinded.is_empty() {
        return Ok(Vec::new());
    }
    let key_id = request.tokens.token_key_id;
    let is_new: bool = issuer
        .db
        .read("may be signed for", |tx| {
            Box::pin(async move {
                keys::require_active(tx, &key_id).await?;
                Ok::<_, Refusal>(db::register::find_earlier(tx, account).await?.is_none())
            })
        })
        .await?;
    if !is_new {
        return Ok(Vec::new());
    }
    let key = keys::signing_key(issuer, key_id).await?;
    let signatures = keys::blind_sign(key, request.tokens.blinded.clone()).await?;
    Ok(request.tokens.blinded.iter().copied().zip(signatures).collect())
}

async fn certify(
    issuer: &Arc<Issuer>,
    request: &RegistrationRequest,
    key: SigningPublicKey,
    now: Timestamp,
    expires: Timestamp,
) -> Result<Vec<u8>, Refusal> {
    let subject = CertifiedSubject { phone: request.phone.clone(), key };
    let mut serial = [0; 16];
    issuer.random.generator().fill_bytes(&mut serial);
    let issuer = Arc::clone(issuer);
    blocking(move || {
        let certificate = issuer.secrets.ca.issue(&subject, serial, now.minus_seconds(BACKDATE_SECONDS), expires);
        certificate.map_err(|_| Refusal::Failed("a certificate could not be made"))
    })
    .await
}

/// What was made, if it was not there before.
#[derive(Clone, Copy)]
struct Made {
    /// Whether the number never had an account.
    is_first: bool,
    tokens: u64,
}

/// What the transaction found out.
struct Outcome {
    made: Made,
    blind_signatures: Vec<RsaElement>,
    tokens_issued: u64,
    setup_until: Timestamp,
    replaces: Option<MailboxId>,
}

async fn record(
    issuer: &Issuer,
    tx: &mut Tx<'_>,
    names: &Names,
    prepared: &Prepared,
) -> Result<(Vec<u8>, Option<Made>), Refusal> {
    if let Some(answer) = recorded_answer(issuer, tx, names).await? {
        return Ok((answer, None));
    }
    let identity = Identity {
        key: prepared.key,
        certificate: &prepared.certificate,
        certificate_expires: prepared.certificate_expires,
        login_salt: prepared.login_salt,
        sealed_verifier: &prepared.sealed_verifier,
        mailbox: prepared.mailbox,
        relay: &prepared.relay.name,
        registered: prepared.now,
    };
    let outcome = match db::register::find_earlier(tx, &prepared.account).await? {
        None => record_first(issuer, tx, prepared, &identity).await?,
        Some(earlier) => {
            db::register::replace(tx, &prepared.account, &prepared.phone, &identity).await?;
            db::sessions::delete_of_account(tx, &prepared.account).await?;
            // Only the relay that has the old mailbox may learn which it was.
            let replaces = (earlier.relay == prepared.relay.name).then_some(earlier.mailbox);
            Outcome {
                made: Made { is_first: false, tokens: 0 },
                blind_signatures: Vec::new(),
                tokens_issued: earlier.tokens_issued,
                setup_until: earlier.setup_until,
                replaces,
            }
        }
    };
    let made = outcome.made;
    let answer = render(issuer, prepared, outcome)?;
    let sealed = issuer.secrets.answers.seal(&mut issuer.random.generator(), &names.cookie, &answer);
    db::register::insert_answer(tx, &names.cookie, &names.body, sealed, prepared.answer_expires).await?;
    Ok((answer, Some(made)))
}

async fn record_first(
    issuer: &Issuer,
    tx: &mut Tx<'_>,
    prepared: &Prepared,
    identity: &Identity<'_>,
) -> Result<Outcome, Refusal> {
    let limits = &issuer.config.limits;
    let setup_until = Timestamp::from_seconds(prepared.now.seconds()).plus_seconds(limits.setup_seconds);
    db::register::insert(tx, &prepared.account, &prepared.phone, identity, setup_until).await?;
    if !prepared.signed.is_empty() {
        keys::require_active(tx, &prepared.token_key_id).await?;
        tokens::record(issuer, tx, &prepared.account, &prepared.token_key_id, &prepared.signed, prepared.now).await?;
    }
    Ok(Outcome {
        made: Made { is_first: true, tokens: prepared.signed.len() as u64 },
        blind_signatures: prepared.signed.iter().map(|(_, signature)| *signature).collect(),
        tokens_issued: prepared.signed.len() as u64,
        setup_until,
        replaces: None,
    })
}

fn render(issuer: &Issuer, prepared: &Prepared, outcome: Outcome) -> Result<Vec<u8>, Refusal> {
    let issued_at = prepared.now.seconds();
    let claims = Claims {
        iss: issuer.config.name.clone(),
        aud: prepared.relay.name.clone(),
        sub: prepared.mailbox.to_string(),
        purpose: Purpose::Grant,
        iat: issued_at,
        exp: issued_at.saturating_add(issuer.config.limits.grant_seconds),
        jti: prepared.grant_id,
        replaces: outcome.replaces,
    };
    let response = RegistrationResponse {
        certificate: Base64(prepared.certificate.clone()),
        mailbox: prepared.mailbox,
        relay: prepared.relay.clone(),
        mailbox_grant: jwt::sign(&issuer.secrets.identity, &claims)
            .map_err(|_| Refusal::Failed("a grant could not be signed"))?,
        blind_signatures: outcome.blind_signatures,
        tokens_issued: u32::try_from(outcome.tokens_issued).unwrap_or(u32::MAX),
        setup_until: outcome.setup_until.seconds(),
    };
    serde_json::to_vec(&response).map_err(|_| Refusal::Failed("an answer does not encode"))
}
