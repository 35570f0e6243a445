//! People: an identity, a number, a password, tokens on their way.

use axum::body::Body;
use axum::http::{Request, header};
use postern_credentials::blind_token::{PendingToken, VerifyingKey, challenge_digest};
use postern_credentials::certificate;
use postern_credentials::identity::IdentityKey;
use postern_credentials::login_chain::{ClientLogin, client_enrol};
use postern_credentials::session::{SessionKey, call_mac, verify_reply};
use postern_protocol::ids::{Base64, Mac, PhoneNumber, RefundSecret, RsaElement, SessionId};
use postern_protocol::login::{
    CHALLENGE_PATH, ChallengeRequest, ChallengeResponse, JWT_PATH, JwtAudience, JwtRequest, JwtResponse, LOGIN_PATH,
    LoginRequest, LoginResponse, SESSION_REPLY_HEADER, SessionCall,
};
use postern_protocol::register::{
    BlindedTokens, CODE_PATH, CodeRequest, CodeResponse, REGISTRATION_PATH, RegistrationRequest, RegistrationResponse,
};
use postern_protocol::tokens::{
    BATCH_REQUEST_MEDIA_TYPE, BatchTokenRequest, REQUEST_MEDIA_TYPE, TOKEN_REQUEST_PATH, Token, TokenChallenge,
    TokenRequest,
};
use rand_core::Rng;

use super::{ISSUER, RELAY, Reply, World};

pub struct Person {
    pub phone: PhoneNumber,
    pub identity: IdentityKey,
    pub password: String,
}

/// A blinded message and what its sender keeps.
pub struct Blinded {
    pub message: RsaElement,
    pub pending: PendingToken,
}

impl Person {
    /// Somebody with the `n`-th Swiss mobile number of a row.
    pub fn new(world: &World, n: u32) -> Self {
        let phone = format!("+4179{:07}", 1_000_000 + n).parse().unwrap();
        Self { phone, identity: IdentityKey::generate(&mut world.rng()), password: format!("password {n}") }
    }

    pub fn code_request(&self) -> CodeRequest {
        CodeRequest { phone: self.phone.clone(), client_key: self.identity.public(), channel: None }
    }

    /// Asks for a code and reads the text.
    pub async fn ask_code(&self, world: &World) -> (CodeResponse, String) {
        let response = world.post(CODE_PATH, &self.code_request()).await.json();
        let texts = world.texts.all();
        let (to, text) = texts.last().unwrap();
        assert_eq!(*to, self.phone);
        let code = text.strip_prefix("Your Postern code is ").unwrap().to_owned();
        (response, code)
    }

    /// `n` tokens on their way, under a key.
    pub fn blind(&self, world: &World, key: &VerifyingKey, n: usize) -> Vec<Blinded> {
        let mut rng = world.rng();
        let challenge = challenge_digest(&TokenChallenge::for_relay(ISSUER, RELAY)).unwrap();
        let begin = |_| {
            let mut secret = [0; 32];
            rng.fill_bytes(&mut secret);
            let (message, pending) = PendingToken::begin(&mut rng, key, challenge, &RefundSecret::new(secret)).unwrap();
            Blinded { message, pending }
        };
        (0..n).map(begin).collect()
    }

    /// A complete request with these blinded messages.
    pub fn registration(
        &self,
        world: &World,
        (cookie, code): &(CodeResponse, String),
        key: &VerifyingKey,
        blinded: &[Blinded],
    ) -> RegistrationRequest {
        RegistrationRequest {
            phone: self.phone.clone(),
            cookie: cookie.cookie.clone(),
            code: code.clone(),
            certificate_request: Base64(certificate::request(&self.identity).unwrap()),
            login: client_enrol(&mut world.rng(), ISSUER, &self.phone, &self.password).unwrap(),
            relay: RELAY.to_owned(),
            tokens: BlindedTokens {
                token_key_id: key.key_id(),
                blinded: blinded.iter().map(|token| token.message).collect(),
            },
        }
    }

    /// Registers with `n` tokens.
    pub async fn register(&self, world: &World, n: usize) -> (RegistrationResponse, Vec<Token>) {
        let key = world.active_key().await;
        let blinded = self.blind(world, &key, n);
        let code = self.ask_code(world).await;
        let request = self.registration(world, &code, &key, &blinded);
        let response: RegistrationResponse = world.post(REGISTRATION_PATH, &request).await.json();
        let tokens = finish(&key, &blinded, &response.blind_signatures);
        (response, tokens)
    }

    pub async fn challenge(&self, world: &World) -> (ClientLogin, ChallengeResponse) {
        let (request, login) = ClientLogin::begin(&mut world.rng(), self.phone.clone());
        (login, world.post(CHALLENGE_PATH, &request).await.json())
    }

    pub fn challenge_request(&self, world: &World) -> ChallengeRequest {
        ClientLogin::begin(&mut world.rng(), self.phone.clone()).0
    }

    /// A proof with this password, ready to be sent.
    pub async fn proof(&self, world: &World, password: &str) -> LoginRequest {
        let (login, challenge) = self.challenge(world).await;
        let public_key = world.info().await.public_key;
        login.answer(ISSUER, &public_key, password, &challenge, "laptop").unwrap().0
    }

    pub async fn login(&self, world: &World) -> Session {
        let (login, challenge) = self.challenge(world).await;
        let public_key = world.info().await.public_key;
        let (request, pending) = login.answer(ISSUER, &public_key, &self.password, &challenge, "laptop").unwrap();
        let response: LoginResponse = world.post(LOGIN_PATH, &request).await.json();
        Session { id: response.session, key: pending.finish(&response).unwrap(), seq: 0, expires: response.expires }
    }

    /// A bearer JWT for token requests.
    pub async fn issuance_jwt(&self, world: &World) -> String {
        self.login(world).await.jwt(world, JwtAudience::Issuer).await
    }
}

/// Unblinds and verifies.
pub fn finish(key: &VerifyingKey, blinded: &[Blinded], signatures: &[RsaElement]) -> Vec<Token> {
    blinded.iter().zip(signatures).map(|(token, signature)| token.pending.finish(key, signature).unwrap()).collect()
}

pub fn token_request(key: &VerifyingKey, message: RsaElement) -> TokenRequest {
    TokenRequest { truncated_token_key_id: key.truncated_key_id(), blinded_msg: message }
}

/// `POST /v1/token-request` for one token.
pub fn single_request(jwt: &str, request: &TokenRequest) -> Request<Body> {
    bearer(jwt, REQUEST_MEDIA_TYPE, request.encode())
}

/// `POST /v1/token-request` for several.
pub fn batch_request(jwt: &str, requests: Vec<TokenRequest>) -> Request<Body> {
    bearer(jwt, BATCH_REQUEST_MEDIA_TYPE, BatchTokenRequest(requests).encode().unwrap())
}

fn bearer(jwt: &str, media_type: &str, body: Vec<u8>) -> Request<Body> {
    Request::post(TOKEN_REQUEST_PATH)
        .header(header::AUTHORIZATION, format!("Bearer {jwt}"))
        .header(header::CONTENT_TYPE, media_type)
        .body(Body::from(body))
        .unwrap()
}

/// A session as the client keeps it.
pub struct Session {
    pub id: SessionId,
    pub key: SessionKey,
    pub seq: u64,
    pub expires: u64,
}

impl Session {
    /// A signed call with the next number.
    pub fn sign(&mut self, method: &str, path: &str, body: Vec<u8>) -> (Request<Body>, Mac) {
        self.seq += 1;
        let mac = call_mac(&self.key, method, path, self.seq, &body);
        (session_request(method, path, &SessionCall { session: self.id, seq: self.seq, mac }, body), mac)
    }

    /// Makes a call; the answer's tag must verify.
    pub async fn call(&mut self, world: &World, method: &str, path: &str, body: Vec<u8>) -> Reply {
        let (request, mac) = self.sign(method, path, body);
        let reply = world.send(request).await;
        assert!(self.has_tagged(&mac, &reply), "{reply:?}");
        reply
    }

    /// Whether the answer carries the tag for this call.
    pub fn has_tagged(&self, mac: &Mac, reply: &Reply) -> bool {
        let tag = reply.header(SESSION_REPLY_HEADER).and_then(|text| text.parse().ok());
        tag.is_some_and(|tag| verify_reply(&self.key, mac, reply.status, &reply.body, &tag))
    }

    pub async fn jwt(&mut self, world: &World, audience: JwtAudience) -> String {
        let body = serde_json::to_vec(&JwtRequest { audience }).unwrap();
        let response: JwtResponse = self.call(world, "POST", JWT_PATH, body).await.json();
        response.jwt
    }
}

pub fn session_request(method: &str, path: &str, call: &SessionCall, body: Vec<u8>) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri(path)
        .header(header::AUTHORIZATION, call.to_string())
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(body))
        .unwrap()
}
