//! The issuer's internal API, as far as a relay uses it, with a switch for everything that can go wrong.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use postern_credentials::blind_token::IssuerKey;
use postern_credentials::identity::IdentityKey;
use postern_credentials::relay_call::{sign_reply, verify_call};
use postern_protocol::ids::{Base64, CallNonce, RsaElement, SigningPublicKey};
use postern_protocol::internal::{KEYS_PATH, Keys, REPLY_HEADER, RelayCall, SIGN_PATH, SignRequest, SignResponse};
use postern_protocol::problem::{Problem, ProblemKind};
use postern_protocol::time::Timestamp;
use postern_protocol::tokens::{DirectoryKey, KeyState, TOKEN_TYPE};

pub(crate) const ISSUER: &str = "issuer.test";

/// Token keys are slow to make: all tests share three.
pub(crate) fn key(n: usize) -> Arc<IssuerKey> {
    static KEYS: OnceLock<Vec<Arc<IssuerKey>>> = OnceLock::new();
    Arc::clone(&KEYS.get_or_init(|| (0..3).map(|_| Arc::new(IssuerKey::generate().unwrap())).collect())[n])
}

/// What it does to the next calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Honest,
    /// Somebody in between answers, who cannot sign.
    Down,
    /// Does what is asked, and the answer is lost.
    LosesAnswers,
    /// The body is changed after signing.
    TamperedBody,
    /// The signature is that of another call.
    OtherNonce,
    /// Signed by another key.
    OtherKey,
    /// `key-not-active`, but not signed by the issuer.
    ForgedRefusal,
    /// No budget left.
    Budget,
}

pub(crate) struct Inner {
    pub(crate) mode: Mode,
    pub(crate) keys: Vec<(Arc<IssuerKey>, KeyState, Option<u64>)>,
    pub(crate) signed: HashMap<RsaElement, RsaElement>,
    pub(crate) sign_calls: usize,
    relay: Option<SigningPublicKey>,
}

#[derive(Clone)]
pub(crate) struct Issuer {
    inner: Arc<Mutex<Inner>>,
    pub(crate) url: String,
}

impl Issuer {
    pub(crate) async fn start() -> Self {
        let keys = vec![(key(0), KeyState::Active, None)];
        let inner = Inner { mode: Mode::Honest, keys, signed: HashMap::new(), sign_calls: 0, relay: None };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let issuer = Self { inner: Arc::new(Mutex::new(inner)), url };
        let router = Router::new().route(KEYS_PATH, post(keys_call)).route(SIGN_PATH, post(sign_call));
        let router = router.with_state(issuer.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        issuer
    }

    pub(crate) fn identity() -> IdentityKey {
        IdentityKey::from_seed([1; 32])
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.state().mode = mode;
    }

    pub(crate) fn know_relay(&self, key: SigningPublicKey) {
        self.state().relay = Some(key);
    }

    /// Key `to` signs from now on; key `from` is accepted until `not_after`, Unix seconds.
    pub(crate) fn rotate(&self, from: usize, to: usize, not_after: u64) {
        self.state().keys = vec![(key(to), KeyState::Active, None), (key(from), KeyState::Retiring, Some(not_after))];
    }

    /// Says something else about the end of key `n`.
    pub(crate) fn set_not_after(&self, n: usize, not_after: u64) {
        let id = key(n).public().key_id();
        for (key, _, end) in &mut self.state().keys {
            if key.public().key_id() == id {
                *end = Some(not_after);
            }
        }
    }

    fn check(&self, headers: &HeaderMap, path: &str, body: &[u8]) -> CallNonce {
        let call = RelayCall::parse(headers["authorization"].to_str().unwrap()).unwrap();
        let key = self.state().relay.unwrap();
        // The tests turn the relay's clock as they like.
        let now = Timestamp::from_seconds(call.time);
        verify_call(&key, ISSUER, &call, "POST", path, body, now).unwrap();
        call.nonce
    }

    fn answer(&self, nonce: CallNonce, result: Result<Vec<u8>, Problem>) -> Response {
        let mode = self.state().mode;
        let (status, mut body) = match result {
            Ok(body) => (200, body),
            Err(problem) => (problem.status, serde_json::to_vec(&problem).unwrap()),
        };
        let signer = if mode == Mode::OtherKey { IdentityKey::from_seed([9; 32]) } else { Self::identity() };
        let nonce = if mode == Mode::OtherNonce { CallNonce([0; 16]) } else { nonce };
        let signature = sign_reply(&signer, &nonce, status, &body);
        if mode == Mode::TamperedBody {
            let at = body.len() / 2;
            body[at] = if body[at] == b'A' { b'B' } else { b'A' };
        }
        let unsigned = |kind: ProblemKind| {
            let problem = Problem::new(kind);
            (StatusCode::from_u16(problem.status).unwrap(), serde_json::to_vec(&problem).unwrap()).into_response()
        };
        match mode {
            Mode::Down | Mode::LosesAnswers => unsigned(ProblemKind::Unavailable),
            Mode::ForgedRefusal => unsigned(ProblemKind::KeyNotActive),
            _ => (StatusCode::from_u16(status).unwrap(), [(REPLY_HEADER, signature.to_string())], body).into_response(),
        }
    }

    fn sign(&self, request: &SignRequest) -> Result<RsaElement, ProblemKind> {
        let mut state = self.state();
        state.sign_calls += 1;
        if let Some(signature) = state.signed.get(&request.blinded) {
            return Ok(*signature);
        }
        if matches!(state.mode, Mode::Down | Mode::ForgedRefusal) {
            return Err(ProblemKind::Unavailable);
        }
        if state.mode == Mode::Budget {
            return Err(ProblemKind::ExchangeBudget);
        }
        let active = state
            .keys
            .iter()
            .find(|(key, state, _)| *state == KeyState::Active && key.public().key_id() == request.token_key_id);
        let signature = active.ok_or(ProblemKind::KeyNotActive)?.0.blind_sign(&request.blinded).unwrap();
        state.signed.insert(request.blinded, signature);
        Ok(signature)
    }
}

async fn keys_call(State(issuer): State<Issuer>, headers: HeaderMap, body: Bytes) -> Response {
    let nonce = issuer.check(&headers, KEYS_PATH, &body);
    let listed = issuer.state().keys.clone();
    let entries = listed.iter().map(|(key, state, not_after)| DirectoryKey {
        token_type: TOKEN_TYPE,
        token_key: Base64(key.public().spki().to_vec()),
        not_before: None,
        not_after: *not_after,
        state: Some(*state),
    });
    let keys = Keys { token_keys: entries.collect() };
    issuer.answer(nonce, Ok(serde_json::to_vec(&keys).unwrap()))
}

async fn sign_call(State(issuer): State<Issuer>, headers: HeaderMap, body: Bytes) -> Response {
    let nonce = issuer.check(&headers, SIGN_PATH, &body);
    let request: SignRequest = serde_json::from_slice(&body).unwrap();
    let result = issuer.sign(&request);
    let result = result.map(|blind_signature| serde_json::to_vec(&SignResponse { blind_signature }).unwrap());
    issuer.answer(nonce, result.map_err(|kind| Problem::new(kind).retry_after(7)))
}
