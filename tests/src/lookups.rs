//! The actor's look-ups, step by step.

use postern_credentials::blind_token::challenge_digest;
use postern_credentials::lookup_token::PendingTokens;
use postern_credentials::oprf;
use postern_protocol::ids::LookupTokenBytes;
use postern_protocol::login::JwtAudience;
use postern_protocol::lookup::{
    AMORTIZED_REQUEST_MEDIA_TYPE, LOOKUP_PATH, LookupInfo, LookupRequest, LookupToken, LookupTokenResponse, WindowKey,
    lookup_challenge,
};
use postern_protocol::tokens::TOKEN_REQUEST_PATH;

use crate::actor::Actor;
use crate::http::Reply;

impl Actor {
    /// The key of the present window.
    pub async fn lookup_window(&self) -> WindowKey {
        let info: LookupInfo = self.ask(self.http.get(self.issuer(LOOKUP_PATH))).await.json();
        info.keys[0]
    }

    /// Blinds so many look-up tokens of a window.
    pub fn blind_lookups(&mut self, window: &WindowKey, count: usize) -> PendingTokens {
        let challenge = challenge_digest(&lookup_challenge(&self.info.name)).unwrap();
        PendingTokens::begin(&mut self.rng, &window.key, challenge, count).unwrap()
    }

    /// Asks for look-up tokens.
    pub async fn ask_for_lookups(&mut self, pending: &PendingTokens) -> Reply {
        let jwt = self.jwt(JwtAudience::Issuer).await;
        let body = pending.request().encode().unwrap();
        let request = self.http.post(self.issuer(TOKEN_REQUEST_PATH)).bearer_auth(jwt);
        self.ask(request.header("content-type", AMORTIZED_REQUEST_MEDIA_TYPE).body(body)).await
    }

    /// So many look-up tokens.
    pub async fn lookup_tokens(&mut self, window: &WindowKey, count: usize) -> Vec<LookupToken> {
        let pending = self.blind_lookups(window, count);
        let reply = self.ask_for_lookups(&pending).await;
        pending.finish(&window.key, &LookupTokenResponse::decode(&reply.body).unwrap()).unwrap()
    }

    /// A look-up of these numbers, a token each.
    pub fn lookup(&mut self, window: &WindowKey, tokens: &[LookupToken], numbers: &[&str]) -> LookupRequest {
        let tokens = tokens.iter().map(|token| LookupTokenBytes(*token.encode().as_bytes())).collect();
        let blinded = numbers.iter().map(|number| oprf::blind(&mut self.rng, number.as_bytes()).unwrap().0).collect();
        LookupRequest { window: window.window, tokens, blinded }
    }
}
