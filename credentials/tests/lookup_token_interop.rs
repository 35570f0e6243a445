//! Look-up tokens against the `privacypass` crate's amortized tokens, both ways. It implements draft-ietf-privacypass-batched-tokens-04 (as its
//! README says), whose type 0x0005 is ours: same challenge, request, answer and token. (It uses the same VOPRF crate; the vectors of RFC 9497
//! and of a Go implementation are in the unit tests.)
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::{HashMap, HashSet};
use std::pin::{Pin, pin};
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};

use postern_credentials::blind_token::challenge_digest;
use postern_credentials::lookup_token::{PendingTokens, WindowSecret};
use postern_credentials::secrets::RootSecret;
use postern_protocol::ids::OprfPublicKey;
use postern_protocol::lookup::{LookupToken, LookupTokenRequest, LookupTokenResponse, lookup_challenge};
use privacypass::amortized_tokens::server::Server;
use privacypass::amortized_tokens::{AmortizedBatchTokenRequest, AmortizedBatchTokenResponse, AmortizedToken};
use privacypass::auth::authenticate::TokenChallenge as TheirChallenge;
use privacypass::common::errors::RedeemTokenError;
use privacypass::common::private::{deserialize_public_key, serialize_public_key};
use privacypass::common::store::PrivateKeyStore;
use privacypass::{Deserialize, Nonce, NonceStore, Serialize, TokenType};
use rand::SeedableRng;
use rand::rngs::StdRng;
use voprf_ng::{Ristretto255, VoprfServer};

const NAME: &str = "issuer.example";

fn rng() -> StdRng {
    StdRng::seed_from_u64(11)
}

fn our_issuer() -> WindowSecret {
    WindowSecret::derive(&RootSecret::from_bytes([1; 32]), 20_000).unwrap()
}

fn their_challenge() -> TheirChallenge {
    TheirChallenge::new(TokenType::PrivateRistretto255, NAME, None, &[NAME.to_owned()])
}

#[test]
fn both_encode_and_digest_a_challenge_alike() {
    let ours = lookup_challenge(NAME);
    assert_eq!(ours.encode().unwrap(), their_challenge().serialize().unwrap());
    assert_eq!(challenge_digest(&ours).unwrap().0, their_challenge().digest().unwrap());
}

#[test]
fn their_client_gets_tokens_from_our_issuer_that_our_verifier_takes() {
    let issuer = our_issuer();
    let key = deserialize_public_key::<Ristretto255>(issuer.public().as_bytes()).unwrap();
    let (request, state) = AmortizedBatchTokenRequest::<Ristretto255>::new(key, &their_challenge(), 5).unwrap();
    let request = LookupTokenRequest::decode(&request.tls_serialize_detached().unwrap()).unwrap();

    let answer = issuer.issue(&request).unwrap().encode().unwrap();
    let response = AmortizedBatchTokenResponse::try_from_bytes(&answer).unwrap();
    let tokens = response.issue_tokens(&state).unwrap();

    assert_eq!(tokens.len(), 5);
    let digest = challenge_digest(&lookup_challenge(NAME)).unwrap();
    for token in tokens {
        let token = LookupToken::decode(&token.tls_serialize_detached().unwrap()).unwrap();
        assert_eq!(issuer.verify(&token, &digest), Ok(()));
    }
}

#[test]
fn our_client_gets_tokens_from_their_issuer_that_their_origin_takes_once() {
    let (server, store) = (Server::<Ristretto255>::new(), Store::default());
    let key = block_on(server.create_keypair(&store)).unwrap();
    let key = OprfPublicKey::from_slice(&serialize_public_key::<Ristretto255>(key)).unwrap();
    let digest = challenge_digest(&lookup_challenge(NAME)).unwrap();
    let pending = PendingTokens::begin(&mut rng(), &key, digest, 3).unwrap();

    let request = pending.request().encode().unwrap();
    let request = AmortizedBatchTokenRequest::tls_deserialize(&mut request.as_slice()).unwrap();
    let response = block_on(server.issue_token_response(&store, request)).unwrap();
    let answer = LookupTokenResponse::decode(&response.tls_serialize_detached().unwrap()).unwrap();

    for token in pending.finish(&key, &answer).unwrap() {
        let token = AmortizedToken::<Ristretto255>::tls_deserialize(&mut token.encode().as_bytes().as_slice()).unwrap();
        assert_eq!(block_on(server.redeem_token(&store, &store, token.clone())), Ok(()));
        assert_eq!(block_on(server.redeem_token(&store, &store, token)), Err(RedeemTokenError::DoubleSpending));
    }
}

/// What `privacypass` asks of a server's memory. Its own test stores need tokio; these never wait.
#[derive(Default)]
struct Store {
    keys: Mutex<HashMap<u8, VoprfServer<Ristretto255>>>,
    nonces: Mutex<HashSet<Nonce>>,
}

type Ready<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

fn ready<'a, T: Send + 'a>(value: T) -> Ready<'a, T> {
    Box::pin(std::future::ready(value))
}

// The signatures below are what `#[async_trait]` turns the traits' methods into.
impl PrivateKeyStore for Store {
    type CS = Ristretto255;

    fn insert<'a, 't>(&'a self, id: u8, server: VoprfServer<Ristretto255>) -> Ready<'t, bool>
    where
        'a: 't,
        Self: 't,
    {
        ready(self.keys.lock().unwrap().insert(id, server).is_none())
    }
    fn get<'a, 'b, 't>(&'a self, id: &'b u8) -> Ready<'t, Option<VoprfServer<Ristretto255>>>
    where
        'a: 't,
        'b: 't,
        Self: 't,
    {
        ready(self.keys.lock().unwrap().get(id).cloned())
    }
    fn remove<'a, 'b, 't>(&'a self, id: &'b u8) -> Ready<'t, bool>
    where
        'a: 't,
        'b: 't,
        Self: 't,
    {
        ready(self.keys.lock().unwrap().remove(id).is_some())
    }
}

impl NonceStore for Store {
    fn reserve<'a, 'b, 't>(&'a self, nonce: &'b Nonce) -> Ready<'t, bool>
    where
        'a: 't,
        'b: 't,
        Self: 't,
    {
        ready(self.nonces.lock().unwrap().insert(*nonce))
    }
    fn commit<'a, 'b, 't>(&'a self, _: &'b Nonce) -> Ready<'t, ()>
    where
        'a: 't,
        'b: 't,
        Self: 't,
    {
        ready(())
    }
    fn release<'a, 'b, 't>(&'a self, nonce: &'b Nonce) -> Ready<'t, ()>
    where
        'a: 't,
        'b: 't,
        Self: 't,
    {
        self.nonces.lock().unwrap().remove(nonce);
        ready(())
    }
}

/// Runs a future that never waits.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return value;
        }
    }
}
