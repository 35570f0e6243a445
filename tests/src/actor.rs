//! An actor who speaks the wire by hand, with `postern-credentials` alone: so every step can be taken twice, changed or left out.

use std::sync::atomic::{AtomicU64, Ordering};

use postern_credentials::blind_token::{PendingToken, VerifyingKey, challenge_digest};
use postern_credentials::identity::IdentityKey;
use postern_credentials::login_chain::{ClientLogin, client_enrol};
use postern_credentials::{certificate, envelope, session};
use postern_protocol::ids::{
    Base64, MailboxId, MessageId, PhoneNumber, RefundSecret, RsaElement, SealingPublicKey, SessionId,
};
use postern_protocol::login::{
    CHALLENGE_PATH, JWT_PATH, JwtAudience, JwtRequest, JwtResponse, LOGIN_PATH, LoginResponse, SessionCall,
};
use postern_protocol::problem::ProblemKind;
use postern_protocol::register::{
    BlindedTokens, CODE_PATH, CodeRequest, CodeResponse, ISSUER_INFO_PATH, IssuerInfo, REGISTRATION_PATH,
    RegistrationRequest, RegistrationResponse,
};
use postern_protocol::release::MessageList;
use postern_protocol::send::{MAILBOXES_PATH, MESSAGES_PATH, Messages, send_path};
use postern_protocol::tokens::{DIRECTORY_PATH, Directory, Token, TokenChallenge, authorization};
use postern_protocol::{exchange, release};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand_core::Rng;

use crate::http::{Reply, client_for, post_json};
use crate::replies::Group;
use crate::world::{Place, RELAY};

static SEED: AtomicU64 = AtomicU64::new(1);

/// A token with the secret that lets its owner exchange it.
#[derive(Clone, Debug)]
pub struct Minted {
    /// The token.
    pub token: Token,
    /// `r` behind its nonce.
    pub refund: RefundSecret,
}

/// A blinded message on its way to be signed.
pub struct Blinded {
    /// What the signer sees.
    pub message: RsaElement,
    /// What unblinds it.
    pub pending: PendingToken,
    /// `r` behind its nonce.
    pub refund: RefundSecret,
}

/// A person who has an account, or is about to get one.
pub struct Actor {
    /// For all requests.
    pub http: reqwest::Client,
    /// Seeded: no two actors of a test run share it.
    pub rng: StdRng,
    /// The number.
    pub phone: PhoneNumber,
    /// The password.
    pub password: String,
    /// The identity key.
    pub identity: IdentityKey,
    /// What the issuer says of itself.
    pub info: IssuerInfo,
    /// The active token key.
    pub key: VerifyingKey,
    /// Base URL of the issuer.
    pub issuer_url: String,
    /// Base URL of the relay.
    pub relay_url: String,
    /// After registration.
    pub account: Option<RegistrationResponse>,
    /// Unspent tokens.
    pub tokens: Vec<Minted>,
    /// After login.
    pub session: Option<(SessionId, session::SessionKey, u64)>,
    /// The own group, once it is open.
    pub group: Option<Group>,
    /// Whether a request is repeated, byte for byte, until a server that is down answers again.
    pub patient: bool,
}

impl Actor {
    /// A person with a phone, who has not registered.
    pub async fn new(world: &Place, phone: &str) -> Self {
        let mut rng = StdRng::seed_from_u64(SEED.fetch_add(1, Ordering::Relaxed));
        let (http, [issuer_url, relay_url]) = client_for([&world.issuer_url, &world.relay_url]);
        let info: IssuerInfo = Reply::until_answered(http.get(format!("{issuer_url}{ISSUER_INFO_PATH}"))).await.json();
        let key = active_key(&http, &issuer_url).await;
        Self {
            identity: IdentityKey::generate(&mut rng),
            rng,
            http,
            phone: phone.parse().unwrap(),
            password: format!("password of {phone}"),
            info,
            key,
            issuer_url,
            relay_url,
            account: None,
            tokens: Vec::new(),
            session: None,
            group: None,
            patient: false,
        }
    }

    /// One request, or as many as it takes if the actor is patient.
    pub async fn ask(&self, request: reqwest::RequestBuilder) -> Reply {
        if self.patient { Reply::until_answered(request).await } else { Reply::to(request).await.unwrap() }
    }

    /// A person with account, five tokens, open mailbox and session.
    pub async fn ready(world: &Place, phone: &str) -> Self {
        let mut actor = Self::new(world, phone).await;
        actor.register(world, 5).await;
        actor.open_mailbox().await;
        actor.login().await;
        actor
    }

    /// The URL of an issuer's path.
    pub fn issuer(&self, path: &str) -> String {
        format!("{}{path}", self.issuer_url)
    }

    /// The URL of a relay's path.
    pub fn relay(&self, path: &str) -> String {
        format!("{}{path}", self.relay_url)
    }

    /// The digest of the relay's challenge.
    pub fn challenge(&self) -> postern_protocol::ids::ChallengeDigest {
        challenge_digest(&TokenChallenge::for_relay(&self.info.name, RELAY)).unwrap()
    }

    /// Blinds fresh tokens.
    pub fn blind(&mut self, count: usize) -> Vec<Blinded> {
        let challenge = self.challenge();
        (0..count)
            .map(|_| {
                let mut r = [0; 32];
                self.rng.fill_bytes(&mut r);
                let refund = RefundSecret::new(r);
                let (message, pending) = PendingToken::begin(&mut self.rng, &self.key, challenge, &refund).unwrap();
                Blinded { message, pending, refund }
            })
            .collect()
    }

    /// Unblinds what was signed.
    pub fn unblind(&self, blinded: &Blinded, signature: &RsaElement) -> Minted {
        Minted { token: blinded.pending.finish(&self.key, signature).unwrap(), refund: blinded.refund.clone() }
    }

    /// Asks for a code.
    pub async fn ask_code(&self) -> Reply {
        let request = CodeRequest { phone: self.phone.clone(), client_key: self.identity.public(), channel: None };
        self.ask(post_json(&self.http, &self.issuer(CODE_PATH), &request)).await
    }

    /// The complete registration request for a cookie and a code.
    pub fn registration(&mut self, cookie: Base64, code: String, blinded: &[Blinded]) -> RegistrationRequest {
        RegistrationRequest {
            phone: self.phone.clone(),
            cookie,
            code,
            certificate_request: Base64(certificate::request(&self.identity).unwrap()),
            login: client_enrol(&mut self.rng, &self.info.name, &self.phone, &self.password).unwrap(),
            relay: RELAY.to_owned(),
            tokens: BlindedTokens {
                token_key_id: self.key.key_id(),
                blinded: blinded.iter().map(|b| b.message).collect(),
            },
        }
    }

    /// Sends a registration request.
    pub async fn send_registration(&self, request: &RegistrationRequest) -> Reply {
        self.ask(post_json(&self.http, &self.issuer(REGISTRATION_PATH), request)).await
    }

    /// Registers with so many tokens; returns the request, so that it can be replayed.
    pub async fn register(&mut self, world: &Place, tokens: usize) -> RegistrationRequest {
        let cookie: CodeResponse = self.ask_code().await.json();
        let code = world.code_for(self.phone.as_str()).unwrap();
        let blinded = self.blind(tokens);
        let request = self.registration(cookie.cookie, code, &blinded);
        let account: RegistrationResponse = self.send_registration(&request).await.json();
        self.tokens = blinded.iter().zip(&account.blind_signatures).map(|(b, s)| self.unblind(b, s)).collect();
        self.account = Some(account);
        request
    }

    /// The own mailbox.
    pub fn mailbox(&self) -> MailboxId {
        self.account.as_ref().unwrap().mailbox
    }

    /// Opens the mailbox with the grant.
    pub async fn open_mailbox(&self) -> Reply {
        let grant = &self.account.as_ref().unwrap().mailbox_grant;
        self.ask(self.http.post(self.relay(MAILBOXES_PATH)).bearer_auth(grant)).await
    }

    /// Logs in with this password; the server's refusal if there is one.
    pub async fn login_with(&mut self, password: &str) -> Result<(), Reply> {
        let (request, login) = ClientLogin::begin(&mut self.rng, self.phone.clone());
        let reply = self.ask(post_json(&self.http, &self.issuer(CHALLENGE_PATH), &request)).await;
        if reply.status != 200 {
            return Err(reply);
        }
        let answer = login.answer(&self.info.name, &self.info.public_key, password, &reply.json(), "test");
        let (request, pending) = answer.unwrap();
        let reply = self.ask(post_json(&self.http, &self.issuer(LOGIN_PATH), &request)).await;
        if reply.status != 200 {
            return Err(reply);
        }
        let response: LoginResponse = reply.json();
        let key = pending.finish(&response).unwrap();
        self.session = Some((response.session, key, 0));
        Ok(())
    }

    /// Logs in.
    pub async fn login(&mut self) {
        let password = self.password.clone();
        while let Err(refused) = self.login_with(&password).await {
            // A lost answer has used the nonce up: the whole login is done again.
            assert!(self.patient && refused.refusal() == ProblemKind::LoginRefused, "{}", refused.status);
        }
    }

    /// A session-signed request with the next number.
    pub async fn call(&mut self, method: &str, path: &str, body: Vec<u8>) -> Reply {
        loop {
            let reply = self.call_once(method, path, body.clone()).await;
            // A lost answer has used the number up.
            if !(self.patient && reply.status == 409) {
                return reply;
            }
        }
    }

    async fn call_once(&mut self, method: &str, path: &str, body: Vec<u8>) -> Reply {
        let (id, key, seq) = self.session.as_mut().unwrap();
        *seq += 1;
        let mac = session::call_mac(key, method, path, *seq, &body);
        let call = SessionCall { session: *id, seq: *seq, mac };
        let request = self
            .http
            .request(method.parse().unwrap(), format!("{}{path}", self.issuer_url))
            .header("authorization", call.to_string())
            .header("content-type", "application/json")
            .body(body);
        self.ask(request).await
    }

    /// A fresh JWT.
    pub async fn jwt(&mut self, audience: JwtAudience) -> String {
        let body = serde_json::to_vec(&JwtRequest { audience }).unwrap();
        let response: JwtResponse = self.call("POST", JWT_PATH, body).await.json();
        response.jwt
    }

    /// An envelope of the smallest size, sealed to a key that nobody has: what the relay sees of any message.
    pub fn envelope(&mut self, to: &MailboxId, text: &str) -> Vec<u8> {
        let key = envelope::SealingKey::generate(&mut self.rng);
        let public: SealingPublicKey = key.public();
        envelope::seal(&mut self.rng, &public, to, text.as_bytes()).unwrap()
    }

    /// A cold send.
    pub async fn send(&self, to: &MailboxId, token: &Token, envelope: &[u8]) -> Reply {
        self.deliver(to, authorization(token), envelope).await
    }

    /// An envelope, and by what right.
    pub async fn deliver(&self, to: &MailboxId, authorization: String, envelope: &[u8]) -> Reply {
        let request = self
            .http
            .post(self.relay(&send_path(to)))
            .header("authorization", authorization)
            .header("content-type", "application/octet-stream")
            .body(envelope.to_vec());
        self.ask(request).await
    }

    /// What waits in the own mailbox.
    pub async fn inbox(&mut self) -> Messages {
        let jwt = self.jwt(JwtAudience::Relay).await;
        self.ask(self.http.get(self.relay(MESSAGES_PATH)).bearer_auth(jwt)).await.json()
    }

    /// Reads and acknowledges until nothing is left; what there was.
    pub async fn read_all(&mut self) -> Vec<MessageId> {
        let mut all = Vec::new();
        loop {
            let page: Vec<_> = self.inbox().await.messages.iter().map(|message| message.message).collect();
            if page.is_empty() {
                return all;
            }
            assert_eq!(self.verdict(release::ACK_PATH, &page).await.done.len(), page.len());
            all.extend(page);
        }
    }

    /// Posts message ids to one of the verdict paths.
    pub async fn verdict(&mut self, path: &str, messages: &[MessageId]) -> release::Outcome {
        let jwt = self.jwt(JwtAudience::Relay).await;
        let list = MessageList { messages: messages.to_vec() };
        self.ask(post_json(&self.http, &self.relay(path), &list).bearer_auth(jwt)).await.json()
    }

    /// The exchange request for an old token and a blinded message.
    pub fn exchange_request(&self, old: &Minted, blinded: &Blinded) -> exchange::ExchangeRequest {
        exchange::ExchangeRequest {
            token: Base64(old.token.encode()),
            refund_secret: old.refund.clone(),
            token_key_id: self.key.key_id(),
            blinded: blinded.message,
        }
    }

    /// Sends an exchange request.
    pub async fn send_exchange(&self, request: &exchange::ExchangeRequest) -> Reply {
        self.ask(post_json(&self.http, &self.relay(exchange::EXCHANGE_PATH), request)).await
    }

    /// Exchanges a token to the end.
    pub async fn exchange(&mut self, old: &Minted) -> Minted {
        let blinded = self.blind(1).remove(0);
        let request = self.exchange_request(old, &blinded);
        let response: exchange::ExchangeResponse = self.send_exchange(&request).await.json();
        self.unblind(&blinded, &response.blind_signature)
    }

    /// Takes the directory's active key again, after a rotation.
    pub async fn refresh_key(&mut self) {
        self.key = active_key(&self.http, &self.issuer_url).await;
    }
}

async fn active_key(http: &reqwest::Client, issuer_url: &str) -> VerifyingKey {
    let directory: Directory = Reply::until_answered(http.get(format!("{issuer_url}{DIRECTORY_PATH}"))).await.json();
    VerifyingKey::from_spki(&directory.token_keys.first().unwrap().token_key.0).unwrap()
}
