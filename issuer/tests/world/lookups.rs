//! Looking numbers up: tokens by account, then look-ups by nobody.

use axum::body::Body;
use axum::http::{Request, header};
use postern_credentials::blind_token::challenge_digest;
use postern_credentials::lookup_token::PendingTokens;
use postern_credentials::oprf::{self, Blinding};
use postern_protocol::ids::{OprfOutput, OprfPublicKey, PhoneNumber};
use postern_protocol::login::JwtAudience;
use postern_protocol::lookup::{
    ALLOWANCE_PATH, AMORTIZED_REQUEST_MEDIA_TYPE, LOOKUP_PATH, LookupAllowance, LookupInfo, LookupRequest,
    LookupResponse, LookupToken, LookupTokenResponse, lookup_challenge,
};
use postern_protocol::tokens::TOKEN_REQUEST_PATH;

use super::people::Session;
use super::{ISSUER, Person, Reply, START, World};

/// Tokens on their way, with the window that they are of.
pub struct Pending {
    pub window: u64,
    pub key: OprfPublicKey,
    pub tokens: PendingTokens,
}

/// Tokens of a window.
pub struct Tokens {
    pub window: u64,
    pub tokens: Vec<LookupToken>,
}

/// A look-up on its way.
pub struct Asked {
    pub request: LookupRequest,
    inputs: Vec<(PhoneNumber, Blinding)>,
}

impl World {
    pub async fn lookup_info(&self) -> LookupInfo {
        self.get(LOOKUP_PATH).await.json()
    }

    /// Begins tokens for the present window.
    pub async fn begin_tokens(&self, n: usize) -> Pending {
        let window = self.lookup_info().await.keys[0];
        let challenge = challenge_digest(&lookup_challenge(ISSUER)).unwrap();
        let tokens = PendingTokens::begin(&mut self.rng(), &window.key, challenge, n).unwrap();
        Pending { window: window.window, key: window.key, tokens }
    }

    /// Gets tokens.
    pub async fn lookup_tokens(&self, jwt: &str, n: usize) -> Tokens {
        let pending = self.begin_tokens(n).await;
        let reply = self.send(pending.request(jwt)).await;
        pending.finish(&reply)
    }

    pub async fn look_up(&self, request: &LookupRequest) -> Reply {
        self.post(LOOKUP_PATH, request).await
    }

    /// Begins looking numbers up, for a token each.
    pub fn ask(&self, tokens: &Tokens, numbers: &[PhoneNumber]) -> Asked {
        let rng = &mut self.rng();
        let inputs: Vec<_> = numbers
            .iter()
            .map(|phone| (phone.clone(), oprf::blind(rng, phone.as_str().as_bytes()).unwrap().1))
            .collect();
        let request = LookupRequest {
            window: tokens.window,
            tokens: tokens.tokens.iter().map(LookupToken::encode).collect(),
            blinded: inputs.iter().map(|(_, blinding)| blinding.element()).collect(),
        };
        Asked { request, inputs }
    }
}

impl Pending {
    pub fn request(&self, jwt: &str) -> Request<Body> {
        Request::post(TOKEN_REQUEST_PATH)
            .header(header::AUTHORIZATION, format!("Bearer {jwt}"))
            .header(header::CONTENT_TYPE, AMORTIZED_REQUEST_MEDIA_TYPE)
            .body(Body::from(self.tokens.request().encode().unwrap()))
            .unwrap()
    }

    #[track_caller]
    pub fn finish(&self, reply: &Reply) -> Tokens {
        assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
        let response = LookupTokenResponse::decode(&reply.body).unwrap();
        Tokens { window: self.window, tokens: self.tokens.finish(&self.key, &response).unwrap() }
    }
}

impl Tokens {
    /// Takes the first `n`.
    pub fn take(&mut self, n: usize) -> Self {
        Self { window: self.window, tokens: self.tokens.drain(..n).collect() }
    }
}

impl Asked {
    /// Verifies an answer.
    #[track_caller]
    pub fn finish(&self, key: &OprfPublicKey, reply: &Reply) -> Vec<OprfOutput> {
        let response: LookupResponse = reply.json();
        let batch: Vec<(&[u8], &Blinding)> =
            self.inputs.iter().map(|(phone, blinding)| (phone.as_str().as_bytes(), blinding)).collect();
        oprf::finish(key, &batch, &response.evaluated, &response.proof).unwrap()
    }
}

impl Session {
    pub async fn allowance(&mut self, world: &World) -> LookupAllowance {
        self.call(world, "GET", ALLOWANCE_PATH, Vec::new()).await.json()
    }
}

pub fn number(n: u32) -> PhoneNumber {
    format!("+4179{:07}", 1_000_000 + n).parse().unwrap()
}

/// What is left at START of its window.
pub const UNTIL_NEXT_WINDOW: u64 = 86_400 - START.seconds() % 86_400;

/// The `n`-th person, registered, in a session and with a bearer JWT.
pub async fn logged_in(world: &World, n: u32) -> (Session, String) {
    let person = Person::new(world, n);
    person.register(world, 0).await;
    let mut session = person.login(world).await;
    let jwt = session.jwt(world, JwtAudience::Issuer).await;
    (session, jwt)
}
