//! A synthetic account: what a client does to have one, and no more of it than the servers can tell.

use http::Method;
use postern_credentials::blind_token::PendingToken;
use postern_credentials::certificate;
use postern_credentials::identity::IdentityKey;
use postern_credentials::login_chain::{ClientLogin, client_enrol};
use postern_credentials::session::{self, SessionKey};
use postern_protocol::ids::{
    Base64, LoginSalt, LoginVerifier, MailboxId, PhoneNumber, RefundSecret, RsaElement, SessionId,
};
use postern_protocol::login::{
    CHALLENGE_PATH, JWT_PATH, JwtAudience, JwtRequest, JwtResponse, LOGIN_PATH, LoginResponse, SessionCall,
};
use postern_protocol::register::{
    BlindedTokens, CODE_PATH, CodeRequest, CodeResponse, LoginEnrolment, REGISTRATION_PATH, RegistrationRequest,
    RegistrationResponse,
};
use postern_protocol::send::{MAILBOXES_PATH, MailboxOpened};
use postern_protocol::synthetic;
use postern_protocol::time::Timestamp;
use postern_protocol::tokens::Token;
use rand_core::CryptoRng;

use crate::wire::{Called, Terms, Wire, authorized, json, json_request, nonsense, with_body};

/// A JWT that has less than this left is replaced, seconds.
const SPARE_SECONDS: u64 = 60;
/// The password of every synthetic account: what it protects is worth nothing.
const PASSWORD: &str = "synthetic";

/// A token with the secret that lets its owner exchange it.
#[derive(Clone, Debug)]
pub struct Minted {
    /// The token.
    pub token: Token,
    /// Behind its nonce.
    pub refund: RefundSecret,
}

/// A token on its way to be signed.
pub struct Blinded {
    /// What the signer sees.
    pub message: RsaElement,
    pending: PendingToken,
    refund: RefundSecret,
}

impl Blinded {
    /// Draws and blinds one.
    ///
    /// # Errors
    /// If the issuer's key does not serve.
    pub fn begin(terms: &Terms, rng: &mut impl CryptoRng) -> Called<Self> {
        let mut r = [0; 32];
        rng.fill_bytes(&mut r);
        let refund = RefundSecret::new(r);
        let begun = PendingToken::begin(rng, &terms.key, terms.challenge, &refund);
        let (message, pending) = begun.map_err(|_| nonsense("nothing can be blinded for the key"))?;
        Ok(Self { message, pending, refund })
    }

    /// The token, once it is signed.
    ///
    /// # Errors
    /// If the signature is none.
    pub fn finish(self, terms: &Terms, signature: &RsaElement) -> Called<Minted> {
        let token = self.pending.finish(&terms.key, signature).map_err(|_| nonsense("a blind signature is none"))?;
        Ok(Minted { token, refund: self.refund })
    }
}

/// Whether somebody will log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Login {
    /// The password chain is computed: some 20 ms.
    Possible,
    /// The issuer gets random bytes to keep, which it cannot tell from a chain.
    Never,
}

/// A registered account.
#[derive(Debug)]
pub struct Account {
    phone: PhoneNumber,
    /// Where its mailbox is, or will be.
    pub mailbox: MailboxId,
    grant: String,
    /// Unspent tokens.
    pub tokens: Vec<Minted>,
}

impl Account {
    /// Registers the `index`th synthetic number with so many tokens.
    ///
    /// # Errors
    /// What the issuer answered instead; also if the number had an account and so got no tokens.
    pub async fn register(
        wire: &Wire,
        terms: &Terms,
        rng: &mut impl CryptoRng,
        index: u32,
        tokens: u32,
        login: Login,
    ) -> Called<Self> {
        let phone = synthetic::number(index).ok_or_else(|| nonsense("there are no more synthetic numbers"))?;
        let identity = IdentityKey::generate(rng);
        let asking = CodeRequest { phone: phone.clone(), client_key: identity.public(), channel: None };
        let code: CodeResponse = json(&wire.issuer("code", json_request(Method::POST, CODE_PATH, &asking)?).await?)?;
        let blinded = (0..tokens).map(|_| Blinded::begin(terms, rng)).collect::<Called<Vec<_>>>()?;
        let request = RegistrationRequest {
            cookie: code.cookie,
            code: synthetic::CODE.to_owned(),
            certificate_request: Base64(certificate::request(&identity).map_err(|_| nonsense("no request"))?),
            login: enrol(terms, rng, &phone, login)?,
            relay: terms.relay.name.clone(),
            tokens: BlindedTokens {
                token_key_id: terms.key.key_id(),
                blinded: blinded.iter().map(|blinded| blinded.message).collect(),
            },
            phone,
        };
        let reply = wire.issuer("register", json_request(Method::POST, REGISTRATION_PATH, &request)?).await?;
        let response: RegistrationResponse = json(&reply)?;
        if response.blind_signatures.len() != blinded.len() {
            return Err(nonsense("no tokens: the number had an account (see --first-number)"));
        }
        let signed = blinded.into_iter().zip(&response.blind_signatures);
        let tokens = signed.map(|(blinded, signature)| blinded.finish(terms, signature)).collect::<Called<_>>()?;
        Ok(Self { phone: request.phone, mailbox: response.mailbox, grant: response.mailbox_grant, tokens })
    }

    /// Opens its mailbox at the relay.
    ///
    /// # Errors
    /// What the relay answered instead.
    pub async fn open_mailbox(&self, wire: &Wire) -> Called<u16> {
        let request = with_body(Method::POST, MAILBOXES_PATH, "application/json", Vec::new().into())?;
        let request = authorized(request, &format!("Bearer {}", self.grant))?;
        let reply = wire.relay("open mailbox", request).await?;
        let opened: MailboxOpened = json(&reply)?;
        if opened.mailbox == self.mailbox { Ok(reply.status) } else { Err(nonsense("another mailbox was opened")) }
    }

    /// Logs in.
    ///
    /// # Errors
    /// What the issuer answered instead.
    pub async fn log_in(&self, wire: &Wire, terms: &Terms, rng: &mut impl CryptoRng) -> Called<Session> {
        let (request, login) = ClientLogin::begin(rng, self.phone.clone());
        let reply = wire.issuer("challenge", json_request(Method::POST, CHALLENGE_PATH, &request)?).await?;
        let info = &terms.issuer;
        let answered = login.answer(&info.name, &info.public_key, PASSWORD, &json(&reply)?, "load");
        let (request, pending) = answered.map_err(|_| nonsense("a challenge that is none"))?;
        let reply = wire.issuer("log in", json_request(Method::POST, LOGIN_PATH, &request)?).await?;
        let response: LoginResponse = json(&reply)?;
        let key = pending.finish(&response).map_err(|_| nonsense("the issuer proves nothing"))?;
        Ok(Session { id: response.session, key, seq: 0, jwt: None })
    }
}

fn enrol(terms: &Terms, rng: &mut impl CryptoRng, phone: &PhoneNumber, login: Login) -> Called<LoginEnrolment> {
    if login == Login::Possible {
        return client_enrol(rng, &terms.issuer.name, phone, PASSWORD).map_err(|_| nonsense("no login"));
    }
    let (mut salt, mut verifier) = ([0; LoginSalt::LEN], [0; LoginVerifier::LEN]);
    rng.fill_bytes(&mut salt);
    rng.fill_bytes(&mut verifier);
    Ok(LoginEnrolment { salt: LoginSalt(salt), verifier: LoginVerifier::new(verifier) })
}

/// A session, and the JWT for the mailbox that it was given last.
#[derive(Debug)]
pub struct Session {
    id: SessionId,
    key: SessionKey,
    seq: u64,
    jwt: Option<JwtResponse>,
}

impl Session {
    /// The `Authorization` of the mailbox's owner, good for a while from `now` on.
    ///
    /// # Errors
    /// What the issuer answered instead.
    pub async fn authorization(&mut self, wire: &Wire, now: Timestamp) -> Called<String> {
        let jwt = match self.jwt.take() {
            Some(jwt) if jwt.expires > now.seconds().saturating_add(SPARE_SECONDS) => jwt,
            _ => self.ask_jwt(wire).await?,
        };
        let value = format!("Bearer {}", jwt.jwt);
        self.jwt = Some(jwt);
        Ok(value)
    }

    /// Asks for another JWT, however long the last one is still good.
    ///
    /// # Errors
    /// What the issuer answered instead.
    pub async fn renew(&mut self, wire: &Wire) -> Called<u16> {
        self.jwt = Some(self.ask_jwt(wire).await?);
        Ok(200)
    }

    async fn ask_jwt(&mut self, wire: &Wire) -> Called<JwtResponse> {
        let body = serde_json::to_vec(&JwtRequest { audience: JwtAudience::Relay });
        let body = body.map_err(|_| nonsense("a request does not serialise"))?;
        self.seq += 1;
        let mac = session::call_mac(&self.key, "POST", JWT_PATH, self.seq, &body);
        let call = SessionCall { session: self.id, seq: self.seq, mac };
        let request = with_body(Method::POST, JWT_PATH, "application/json", body.into())?;
        json(&wire.issuer("jwt", authorized(request, &call.to_string())?).await?)
    }
}
