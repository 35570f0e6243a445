//! Login (K1–K18), calls signed with the session's key, and the JWTs that it is exchanged for.
//!
//! The password is used once and forgotten (K6, K11). A call's number is on disk before the call is sent, so none is ever used twice;
//! numbers follow the clock, so that a profile put back from a copy does not get stuck behind its own past.

use postern_credentials::login_chain::{ClientLogin, LoginError};
use postern_credentials::session::{SessionKey, call_mac, verify_reply};
use postern_protocol::ids::{Mac, PhoneNumber, SessionId};
use postern_protocol::login::{
    ACCOUNT_PATH, Account as IssuerAccount, CHALLENGE_PATH, ChallengeResponse, JWT_PATH, JwtAudience, JwtRequest,
    JwtResponse, LOGIN_PATH, LoginResponse, REVOKE_PATH, RevokeRequest, SESSION_REPLY_HEADER, SESSIONS_PATH,
    SessionCall, SessionEntry, Sessions,
};
use postern_protocol::lookup::{ALLOWANCE_PATH, LookupAllowance};
use postern_protocol::problem::ProblemKind;
use postern_protocol::time::Clock;
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};

use crate::channel::{JSON, Reply, Request, pause_before};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::profile::{Record, Tx};
use crate::secret::{SecretBytes, SecretText};

/// A JWT is renewed so long before it ends, seconds.
const JWT_MARGIN: u64 = 30;

/// The session's row.
#[derive(Clone, Serialize, Deserialize)]
struct SessionRecord {
    session: SessionId,
    key: SecretBytes,
    expires: u64,
    /// The last number used.
    seq: u64,
}

impl Record for SessionRecord {
    const KIND: &'static str = "session";
}

/// A JWT, until it ends; its key is for whom it is.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct JwtRecord {
    jwt: SecretText,
    expires: u64,
}

impl Record for JwtRecord {
    const KIND: &'static str = "jwt";
}

/// A request of the session, before it has a number.
struct Call<'a> {
    method: http::Method,
    path: &'a str,
    body: Vec<u8>,
}

impl<C: Clock, R: CryptoRng> Client<C, R> {
    /// Logs in: there is a session afterwards. The older one, if any, is forgotten here and ends at the issuer in its time.
    ///
    /// # Errors
    /// [`Error::LoginRefused`], [`Error::Misbehaved`] if the issuer does not prove itself, and what the channel says.
    pub async fn log_in(&mut self, password: &str) -> Result<()> {
        let phone = self.account()?.phone;
        self.log_in_as(&phone, password).await
    }

    /// [`Self::log_in`] while the registration is not yet complete.
    pub(crate) async fn log_in_as(&mut self, phone: &PhoneNumber, password: &str) -> Result<()> {
        let mut last = Error::Internal("no attempt was made");
        let mut n = 0;
        while pause_before(n, &self.network).await {
            n += 1;
            // A lost answer has used the nonce up: the whole login is done again.
            match self.log_in_once(phone, password).await {
                Err(error) if error.is_passing() => last = error,
                other => return other,
            }
        }
        Err(last)
    }

    async fn log_in_once(&mut self, phone: &PhoneNumber, password: &str) -> Result<()> {
        let pins = self.pins()?;
        let label = self.settings()?.session_label;
        let (request, login) = ClientLogin::begin(&mut self.rng, phone.clone());
        let request = Request::post_json(&pins.issuer_url, CHALLENGE_PATH, &request)?;
        let challenge: ChallengeResponse = self.authenticated()?.send(&request).await?.json()?;
        let (request, pending) =
            login.answer(&pins.issuer_name, &pins.issuer_key, password, &challenge, &label).map_err(login_error)?;
        let request = Request::post_json(&pins.issuer_url, LOGIN_PATH, &request)?;
        let response: LoginResponse = self.authenticated()?.send_once(&request).await?.json().map_err(refused_login)?;
        let key = pending.finish(&response).map_err(|_| Error::Misbehaved("it did not prove itself at the login"))?;
        let session = SessionRecord {
            session: response.session,
            key: SecretBytes::new(*key.expose()),
            expires: response.expires,
            seq: 0,
        };
        self.profile.tx(&mut self.rng, |t| {
            forget_jwts(t)?;
            t.put("", &session)
        })
    }

    /// Whether there is a session that has not ended by itself.
    ///
    /// # Errors
    /// A damaged profile.
    pub fn has_session(&self) -> Result<bool> {
        let now = self.now().seconds();
        Ok(self.profile.get::<SessionRecord>("")?.is_some_and(|session| session.expires > now))
    }

    /// All live sessions of the account, newest first.
    ///
    /// # Errors
    /// [`Error::NeedsLogin`], and what the channel and the issuer say.
    pub async fn sessions(&mut self) -> Result<Vec<SessionEntry>> {
        let reply = self.call(Call { method: http::Method::GET, path: SESSIONS_PATH, body: Vec::new() }).await?;
        Ok(reply.json::<Sessions>()?.sessions)
    }

    /// Ends a session, given by the first letters of its id; one's own as well.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Ambiguous`], [`Error::NeedsLogin`], and what the channel and the issuer say.
    pub async fn revoke_session(&mut self, prefix: &str) -> Result<SessionEntry> {
        let mut found: Vec<_> = self
            .sessions()
            .await?
            .into_iter()
            .filter(|entry| crate::names::hex(&entry.session.0).starts_with(&prefix.to_lowercase()))
            .collect();
        let entry = found.pop().ok_or(Error::NotFound("session"))?;
        if !found.is_empty() {
            return Err(Error::Ambiguous("session"));
        }
        self.call(Call::post(REVOKE_PATH, &RevokeRequest { session: entry.session })?).await?.success()?;
        if entry.current {
            self.forget_session()?;
        }
        Ok(entry)
    }

    /// What the issuer says about the account.
    ///
    /// # Errors
    /// [`Error::NeedsLogin`], and what the channel and the issuer say.
    pub async fn issuer_account(&mut self) -> Result<IssuerAccount> {
        self.call(Call { method: http::Method::GET, path: ACCOUNT_PATH, body: Vec::new() }).await?.json()
    }

    /// What the account may still look up in this window.
    pub(crate) async fn lookup_allowance(&mut self) -> Result<LookupAllowance> {
        self.call(Call { method: http::Method::GET, path: ALLOWANCE_PATH, body: Vec::new() }).await?.json()
    }

    /// A JWT for the own mailbox: the one at hand, or a new one when that is about to end.
    pub(crate) async fn mailbox_jwt(&mut self) -> Result<SecretText> {
        self.jwt(JwtAudience::Relay).await
    }

    async fn jwt(&mut self, audience: JwtAudience) -> Result<SecretText> {
        let soon = self.now().plus_seconds(JWT_MARGIN).seconds();
        if let Some(record) = self.profile.get::<JwtRecord>(jwt_row(audience))?.filter(|record| record.expires > soon) {
            return Ok(record.jwt);
        }
        let reply = self.call(Call::post(JWT_PATH, &JwtRequest { audience })?).await?;
        let response: JwtResponse = reply.json()?;
        let record = JwtRecord { jwt: SecretText::new(response.jwt), expires: response.expires };
        self.profile.tx(&mut self.rng, |t| t.put(jwt_row(audience), &record))?;
        Ok(record.jwt)
    }

    /// Sends a request to the own mailbox, with a JWT.
    pub(crate) async fn at_mailbox(&mut self, request: Request) -> Result<Reply> {
        self.with_jwt(JwtAudience::Relay, request).await
    }

    /// Sends a request to the issuer, with a JWT.
    pub(crate) async fn at_issuer(&mut self, request: Request) -> Result<Reply> {
        self.with_jwt(JwtAudience::Issuer, request).await
    }

    /// A JWT that the server does not take is replaced once.
    async fn with_jwt(&mut self, audience: JwtAudience, request: Request) -> Result<Reply> {
        let jwt = self.jwt(audience).await?;
        let reply = self.authenticated()?.send_protected(&bearer(&request, &jwt)).await?;
        if reply.status != 401 {
            return Ok(reply);
        }
        self.profile.tx(&mut self.rng, |t| t.delete::<JwtRecord>(jwt_row(audience)))?;
        let jwt = self.jwt(audience).await?;
        self.authenticated()?.send_protected(&bearer(&request, &jwt)).await
    }

    /// Signs and sends a call; signs it anew when it was lost on the way. The answer's tag is checked.
    async fn call(&mut self, call: Call<'_>) -> Result<Reply> {
        let mut last = Error::NeedsLogin;
        let mut n = 0;
        while pause_before(n, &self.network).await {
            n += 1;
            match self.call_once(&call).await {
                Err(error) if error.is_passing() || error.refusal() == Some(ProblemKind::CallReplayed) => last = error,
                other => return other,
            }
        }
        Err(last)
    }

    async fn call_once(&mut self, call: &Call<'_>) -> Result<Reply> {
        let (session, key) = self.next_number()?;
        let mac = call_mac(&key, call.method.as_str(), call.path, session.seq, &call.body);
        let header = SessionCall { session: session.session, seq: session.seq, mac };
        let issuer_url = self.pins()?.issuer_url;
        let mut request = Request::new(call.method.clone(), &issuer_url, call.path)?.authorization(header.to_string());
        if call.method != http::Method::GET {
            request = request.body(JSON, call.body.clone());
        }
        let reply = self.authenticated()?.send_once(&request).await?;
        let ours = is_signed(&key, &mac, &reply);
        match reply.status {
            // Whoever sits in between can say so as well, and gains a login by it, no more.
            401 => Err(Error::NeedsLogin),
            200..300 if !ours => Err(Error::Misbehaved("its answer is not signed with the session's key")),
            200..300 => Ok(reply),
            _ => Err(Error::Refused(Box::new(reply.problem()))),
        }
    }

    /// Takes the next number of the session, on disk before it is used.
    fn next_number(&mut self) -> Result<(SessionRecord, SessionKey)> {
        let now = self.now();
        self.profile.tx(&mut self.rng, |t| {
            let mut session = t.get::<SessionRecord>("")?.ok_or(Error::NeedsLogin)?;
            if session.expires <= now.seconds() {
                return Err(Error::NeedsLogin);
            }
            session.seq = session.seq.saturating_add(1).max(now.0);
            t.put("", &session)?;
            let key = session.key.array().ok_or(Error::ProfileDamaged("the session key has another length"))?;
            Ok((session, SessionKey::from_bytes(*key)))
        })
    }

    fn forget_session(&mut self) -> Result<()> {
        self.profile.tx(&mut self.rng, |t| {
            forget_jwts(t)?;
            t.delete::<SessionRecord>("").map(drop)
        })
    }
}

impl<'a> Call<'a> {
    fn post(path: &'a str, body: &impl Serialize) -> Result<Self> {
        let body = serde_json::to_vec(body).map_err(|_| Error::Internal("a request does not encode"))?;
        Ok(Self { method: http::Method::POST, path, body })
    }
}

/// The key of a JWT's row.
const fn jwt_row(audience: JwtAudience) -> &'static str {
    match audience {
        JwtAudience::Relay => "",
        JwtAudience::Issuer => "issuer",
    }
}

fn forget_jwts(t: &mut Tx<'_>) -> Result<()> {
    for audience in [JwtAudience::Relay, JwtAudience::Issuer] {
        t.delete::<JwtRecord>(jwt_row(audience))?;
    }
    Ok(())
}

fn bearer(request: &Request, jwt: &SecretText) -> Request {
    request.clone().authorization(format!("Bearer {}", jwt.expose()))
}

fn is_signed(key: &SessionKey, request: &Mac, reply: &Reply) -> bool {
    let mac: Option<Mac> = reply.header(SESSION_REPLY_HEADER).and_then(|value| value.parse().ok());
    mac.is_some_and(|mac| verify_reply(key, request, reply.status, &reply.body, &mac))
}

fn login_error(error: LoginError) -> Error {
    match error {
        LoginError::BadSignature => Error::PinChanged("the login challenge is not signed by the issuer's pinned key"),
        LoginError::TooFewSteps => Error::PinChanged("the issuer asks for less work than is safe (K16)"),
        LoginError::TooManySteps => Error::Misbehaved("it asks for more work than a login is worth"),
        LoginError::Label => Error::Invalid("the session's label is longer than 64 bytes".to_owned()),
        LoginError::Malformed | LoginError::WeakKey => Error::Misbehaved("its login challenge is malformed"),
        LoginError::Kdf(_) => Error::Internal("the password cannot be hashed"),
    }
}

fn refused_login(error: Error) -> Error {
    match error.refusal() {
        Some(ProblemKind::LoginRefused) => Error::LoginRefused,
        _ => error,
    }
}
