//! A thousand accounts that asked for look-up tokens, and a thousand numbers.

use postern_client::channel::{Authenticated, JSON, Request};
use postern_credentials::blind_token::challenge_digest;
use postern_credentials::certificate;
use postern_credentials::identity::IdentityKey;
use postern_credentials::lookup_token::PendingTokens;
use postern_credentials::session::{SessionKey, call_mac};
use postern_protocol::directory::{LISTING_PATH, ListingRequest};
use postern_protocol::ids::{
    Base64, LoginSalt, LoginVerifier, MailboxId, PhoneNumber, SessionId, SigningPublicKey, TokenKeyId,
};
use postern_protocol::login::{JWT_PATH, JwtAudience, JwtRequest, JwtResponse, SessionCall};
use postern_protocol::lookup::{
    AMORTIZED_REQUEST_MEDIA_TYPE, LOOKUP_PATH, LookupInfo, LookupToken, LookupTokenResponse, lookup_challenge,
};
use postern_protocol::register::{
    BlindedTokens, CODE_PATH, CodeRequest, CodeResponse, LoginEnrolment, REGISTRATION_PATH, RegistrationRequest,
    RegistrationResponse,
};
use postern_protocol::time::Clock;
use postern_protocol::tokens::{DIRECTORY_PATH, Directory, TOKEN_REQUEST_PATH};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_core::Rng;
use rusqlite::Connection;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::servers::{Servers, issuer_secrets};
use crate::world::{ISSUER, RELAY};

/// How many accounts, and how many numbers.
pub const CANDIDATES: usize = 1000;
/// Of the numbers so many are listed; of the others half have an account that does not want to be.
pub const LISTED: usize = 500;
/// Look-up tokens that everybody asks for.
pub const STOCK: usize = 8;
/// After so many askers the directory is built anew, so that the log grows.
const ASKERS_PER_BUILD: usize = 50;

/// One account, as its owner's client keeps it.
#[derive(Clone)]
pub struct Person {
    /// The number.
    pub phone: PhoneNumber,
    /// The certified key.
    pub identity: SigningPublicKey,
    /// The mailbox.
    pub mailbox: MailboxId,
    /// The session.
    pub session: SessionId,
    key: [u8; 32],
    seq: u64,
    /// Unspent look-up tokens.
    pub tokens: Vec<LookupToken>,
    /// The window that they are of.
    pub window: u64,
    /// Blinded elements that were sent for them.
    pub sent: Vec<[u8; 32]>,
    /// Size of the issuer's log when they were asked for.
    pub seen_log: u64,
}

/// Servers with people, before anybody looks anybody up.
pub struct Prepared {
    /// The servers. Games run on copies.
    pub servers: Servers,
    /// The accounts.
    pub people: Vec<Person>,
    /// The numbers.
    pub numbers: Vec<PhoneNumber>,
    /// In which order the accounts asked.
    pub askers: Vec<usize>,
    /// Everything that was recorded.
    pub exchanges: Vec<super::capture::Exchange>,
    /// What the adversary makes of it, once it was asked.
    pub adversary: std::sync::OnceLock<super::evidence::Adversary>,
}

/// Random bytes.
pub fn bytes<const N: usize>(rng: &mut StdRng) -> [u8; N] {
    let mut out = [0; N];
    rng.fill_bytes(&mut out);
    out
}

/// Lets a random time pass, of at most so many milliseconds.
pub fn pause(servers: &Servers, rng: &mut StdRng, most: u64) {
    let now = servers.clock.now().0;
    servers.clock.set(postern_protocol::time::Timestamp(now + rng.random_range(1..=most)));
}

/// The answer to a request that must succeed.
pub async fn ask<T: DeserializeOwned>(channel: &Authenticated, request: &Request) -> T {
    channel.send(request).await.unwrap().json().unwrap()
}

impl Prepared {
    /// Registers everybody, lists half of them, and lets them ask for tokens in random order.
    pub async fn new(servers: Servers) -> Self {
        let mut rng = StdRng::seed_from_u64(3);
        let mut phones = std::collections::BTreeSet::new();
        while phones.len() < CANDIDATES + LISTED / 2 {
            phones.insert(format!("+4179{:07}", 1_000_000 + rng.random_range(0..9_000_000)));
        }
        let mut phones: Vec<PhoneNumber> = phones.iter().map(|phone| phone.parse().unwrap()).collect();
        phones.shuffle(&mut rng);
        let nobodys = phones.split_off(CANDIDATES);
        let key = Person::active_key(&servers).await;
        let mut people = Vec::new();
        for (n, phone) in phones.iter().enumerate() {
            pause(&servers, &mut rng, 4000);
            people.push(Person::register(&servers, &mut rng, phone, key, n < LISTED).await);
        }
        let mut numbers: Vec<_> = phones.into_iter().take(LISTED * 3 / 2).chain(nobodys).collect();
        numbers.shuffle(&mut rng);
        give_cards(&servers, &mut rng, &people);
        let askers = all_ask(&servers, &mut rng, &mut people).await;
        let exchanges = servers.recorder.take();
        Self { servers, people, numbers, askers, exchanges, adversary: std::sync::OnceLock::new() }
    }
}

/// A mailbox and a card for everybody, past the relay: they play no part but in what an earlier client did.
fn give_cards(servers: &Servers, rng: &mut StdRng, people: &[Person]) {
    let mut db = Connection::open(servers.relay_db()).unwrap();
    let tx = db.transaction().unwrap();
    for person in people {
        tx.execute("insert into mailboxes (mailbox) values (?1)", [person.mailbox.0]).unwrap();
        let card = bytes::<2048>(rng).to_vec();
        tx.execute("insert into cards (mailbox, card) values (?1, ?2)", rusqlite::params![person.mailbox.0, card])
            .unwrap();
    }
    tx.commit().unwrap();
}

async fn all_ask(servers: &Servers, rng: &mut StdRng, people: &mut [Person]) -> Vec<usize> {
    let mut askers: Vec<usize> = (0..people.len()).collect();
    askers.shuffle(rng);
    for (n, asker) in askers.iter().enumerate() {
        if n % ASKERS_PER_BUILD == 0 {
            servers.build_directory().await;
        }
        pause(servers, rng, 20_000);
        people[*asker].ask_for_tokens(servers, rng, STOCK).await;
    }
    servers.build_directory().await;
    askers
}

impl Person {
    async fn active_key(servers: &Servers) -> TokenKeyId {
        let request = Request::get(&servers.issuer_url, DIRECTORY_PATH).unwrap();
        let directory: Directory = ask(&servers.authenticated(), &request).await;
        postern_credentials::blind_token::VerifyingKey::from_spki(&directory.token_keys[0].token_key.0)
            .unwrap()
            .key_id()
    }

    /// Registers with the requests of the client, but for the password: the verifier is drawn, the session put in its table.
    async fn register(servers: &Servers, rng: &mut StdRng, phone: &PhoneNumber, key: TokenKeyId, listed: bool) -> Self {
        let (channel, identity) = (servers.authenticated(), IdentityKey::generate(rng));
        let code = CodeRequest { phone: phone.clone(), client_key: identity.public(), channel: None };
        let cookie: CodeResponse =
            ask(&channel, &Request::post_json(&servers.issuer_url, CODE_PATH, &code).unwrap()).await;
        let request = RegistrationRequest {
            phone: phone.clone(),
            cookie: cookie.cookie,
            code: servers.last_code(),
            certificate_request: Base64(certificate::request(&identity).unwrap()),
            login: LoginEnrolment { salt: LoginSalt(bytes(rng)), verifier: LoginVerifier::new(bytes(rng)) },
            relay: RELAY.to_owned(),
            tokens: BlindedTokens { token_key_id: key, blinded: Vec::new() },
        };
        let request = Request::post_json(&servers.issuer_url, REGISTRATION_PATH, &request).unwrap();
        let account: RegistrationResponse = ask(&channel, &request).await;
        let mut person = Self {
            phone: phone.clone(),
            identity: identity.public(),
            mailbox: account.mailbox,
            session: SessionId(bytes(rng)),
            key: bytes(rng),
            seq: 0,
            tokens: Vec::new(),
            window: 0,
            sent: Vec::new(),
            seen_log: 0,
        };
        begin_session(servers, rng, &person.phone, &person.session, &person.key);
        if !listed {
            let choice = ListingRequest { listed: false };
            let request = person.signed(servers, "PUT", LISTING_PATH, &choice);
            assert_eq!(channel.send(&request).await.unwrap().status, 204);
        }
        person
    }

    fn signed(&mut self, servers: &Servers, method: &str, path: &str, body: &impl Serialize) -> Request {
        self.seq += 1;
        let body = serde_json::to_vec(body).unwrap();
        let mac = call_mac(&SessionKey::from_bytes(self.key), method, path, self.seq, &body);
        let call = SessionCall { session: self.session, seq: self.seq, mac };
        let request = Request::new(method.parse().unwrap(), &servers.issuer_url, path).unwrap();
        request.authorization(call.to_string()).body(JSON, body)
    }

    /// A bearer JWT for asking.
    pub async fn jwt(&mut self, servers: &Servers, channel: &Authenticated) -> String {
        let request = self.signed(servers, "POST", JWT_PATH, &JwtRequest { audience: JwtAudience::Issuer });
        let response: JwtResponse = ask(channel, &request).await;
        response.jwt
    }

    /// Asks for tokens of the present window, as the account.
    pub async fn ask_for_tokens(&mut self, servers: &Servers, rng: &mut StdRng, count: usize) {
        let key = self.lookup_info(servers).await.keys[0];
        let challenge = challenge_digest(&lookup_challenge(ISSUER)).unwrap();
        let pending = PendingTokens::begin(rng, &key.key, challenge, count).unwrap();
        self.ask_for(servers, &pending, key, |_| None).await;
    }

    /// Policy and keys, over the anonymous channel as always.
    pub async fn lookup_info(&self, servers: &Servers) -> LookupInfo {
        let mut rng = StdRng::seed_from_u64(0);
        let request = Request::get(&servers.issuer_url, LOOKUP_PATH).unwrap();
        servers.anonymous().send(&mut rng, &request).await.unwrap().json().unwrap()
    }

    /// Asks for these tokens. `header` may add one to the request, which no client does.
    pub async fn ask_for(
        &mut self,
        servers: &Servers,
        pending: &PendingTokens,
        key: postern_protocol::lookup::WindowKey,
        header: impl FnOnce(&mut Self) -> Option<String>,
    ) {
        let channel = servers.authenticated();
        let jwt = self.jwt(servers, &channel).await;
        let body = pending.request().encode().unwrap();
        let (url, header) = (format!("{}{TOKEN_REQUEST_PATH}", servers.issuer_url), header(self));
        let answer = if let Some(value) = header {
            let request = reqwest::Client::new().post(url).bearer_auth(jwt).header("idempotency-key", value);
            let request = request.header("content-type", AMORTIZED_REQUEST_MEDIA_TYPE).body(body);
            request.send().await.unwrap().bytes().await.unwrap().to_vec()
        } else {
            let request = Request::new(reqwest::Method::POST, &servers.issuer_url, TOKEN_REQUEST_PATH).unwrap();
            let request = request.authorization(format!("Bearer {jwt}")).body(AMORTIZED_REQUEST_MEDIA_TYPE, body);
            channel.send(&request).await.unwrap().success().unwrap()
        };
        let tokens = pending.finish(&key.key, &LookupTokenResponse::decode(&answer).unwrap()).unwrap();
        if self.window != key.window {
            self.tokens.clear();
        }
        self.window = key.window;
        // The latest first: a leaky game uses what it has just asked for.
        self.tokens.splice(0..0, tokens);
        self.sent = pending.request().blinded.iter().map(|element| element.0).collect();
        self.seen_log = log_size(servers);
    }
}

/// How long the issuer's log is.
pub fn log_size(servers: &Servers) -> u64 {
    let db = Connection::open(servers.issuer_db()).unwrap();
    db.query_row("select count(*) from key_log", [], |row| row.get::<_, i64>(0)).unwrap().unsigned_abs()
}

/// Puts a session into the issuer's table: what a login leaves there.
pub fn begin_session(servers: &Servers, rng: &mut StdRng, phone: &PhoneNumber, session: &SessionId, key: &[u8; 32]) {
    let (secrets, now) = (issuer_secrets(), i64::try_from(servers.clock.now().0).unwrap());
    let sealed = secrets.sessions.seal(rng, &session.0, key);
    let row = rusqlite::params![session.0, secrets.account_id(phone), sealed, now, now + 90 * 86_400_000];
    let insert = "insert into sessions (session, account, session_key, label, created, last_used, expires, seq)
        values (?1, ?2, ?3, 'phone', ?4, ?4, ?5, 0)";
    let db = Connection::open(servers.issuer_db()).unwrap();
    db.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
    db.execute(insert, row).unwrap();
}
