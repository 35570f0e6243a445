//! Two other implementations of the same RFCs against ours: the `privacypass` crate, and `blind-rsa-signatures` beneath it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::HashMap;
use std::pin::{Pin, pin};
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};

use blind_rsa_signatures::{Deterministic, KeyPair, PSS, PublicKey, SecretKey, Sha384};
use postern_credentials::blind_token::{IssuerKey, PendingToken, VerifyingKey, challenge_digest};
use postern_protocol::ids::{RefundSecret, RsaElement};
use postern_protocol::tokens::{TOKEN_TYPE, Token, TokenChallenge};
use privacypass::auth::authenticate::TokenChallenge as TheirChallenge;
use privacypass::common::errors::RedeemTokenError;
use privacypass::public_tokens::server::{IssuerKeyStore, IssuerServer, OriginKeyStore, OriginServer};
use privacypass::public_tokens::{PublicToken, TokenRequest, TokenResponse, public_key_to_truncated_token_key_id};
use privacypass::{Deserialize, Nonce, NonceStore, Serialize, TokenType};
use rand::SeedableRng;
use rand::rngs::StdRng;

type TheirPublicKey = PublicKey<Sha384, PSS, Deterministic>;
type TheirSecretKey = SecretKey<Sha384, PSS, Deterministic>;
type TheirKeyPair = KeyPair<Sha384, PSS, Deterministic>;

const REFUND: RefundSecret = RefundSecret::new([5; 32]);

fn rng() -> StdRng {
    StdRng::seed_from_u64(11)
}

fn our_challenge() -> TokenChallenge {
    TokenChallenge {
        token_type: TOKEN_TYPE,
        issuer_name: "issuer.example".into(),
        redemption_context: None,
        origin_info: "relay.example".into(),
    }
}

fn their_challenge() -> TheirChallenge {
    TheirChallenge::new(TokenType::Public, "issuer.example", None, &["relay.example".to_owned()])
}

fn their_secret_key(key: &IssuerKey) -> TheirSecretKey {
    TheirSecretKey::from_der(&key.to_pkcs8().unwrap()).unwrap()
}

fn their_public_key(key: &VerifyingKey) -> TheirPublicKey {
    TheirPublicKey::from_spki(key.spki()).unwrap()
}

#[test]
fn both_encode_and_digest_a_challenge_alike() {
    assert_eq!(our_challenge().encode().unwrap(), their_challenge().serialize().unwrap());
    assert_eq!(challenge_digest(&our_challenge()).unwrap().0, their_challenge().digest().unwrap());
}

#[test]
fn their_client_gets_a_token_from_our_issuer_that_our_verifier_takes() {
    let issuer = IssuerKey::generate().unwrap();
    let (request, state) =
        TokenRequest::new(&mut rng(), their_public_key(issuer.public()), &their_challenge()).unwrap();
    let request = request.tls_serialize_detached().unwrap();
    assert_eq!(request[..3], [0, 2, issuer.public().truncated_key_id()]);

    let answer = issuer.blind_sign(&RsaElement::from_slice(&request[3..]).unwrap()).unwrap();
    let response = TokenResponse::tls_deserialize(&mut answer.0.as_slice()).unwrap();
    let token = response.issue_token(&state).unwrap().tls_serialize_detached().unwrap();

    let token = Token::decode(&token).unwrap();
    let digest = challenge_digest(&our_challenge()).unwrap();
    assert_eq!(issuer.public().verify(&token, &digest), Ok(()));
}

#[test]
fn their_origin_takes_our_client_s_token_once() {
    let issuer = IssuerKey::generate().unwrap();
    let digest = challenge_digest(&our_challenge()).unwrap();
    let (blinded, pending) = PendingToken::begin(&mut rng(), issuer.public(), digest, &REFUND).unwrap();
    let token = pending.finish(issuer.public(), &issuer.blind_sign(&blinded).unwrap()).unwrap();

    let theirs = PublicToken::tls_deserialize(&mut token.encode().as_slice()).unwrap();
    let store = Store::default();
    block_on(OriginKeyStore::insert(&store, issuer.public().truncated_key_id(), their_public_key(issuer.public())));
    let redeem = |token| block_on(OriginServer::new().redeem_token(&store, &store, token));
    assert_eq!(redeem(theirs.clone()), Ok(()));
    assert_eq!(redeem(theirs), Err(RedeemTokenError::DoubleSpending));
}

#[test]
fn our_client_finishes_with_their_issuer_s_signature() {
    let store = Store::default();
    let server = IssuerServer::new();
    let their_key = block_on(server.create_keypair(&mut rng(), &store)).unwrap();
    let key = VerifyingKey::from_spki(&their_key.to_spki().unwrap()).unwrap();
    assert_eq!(key.truncated_key_id(), public_key_to_truncated_token_key_id(&their_key).unwrap());

    let digest = challenge_digest(&our_challenge()).unwrap();
    let (blinded, pending) = PendingToken::begin(&mut rng(), &key, digest, &REFUND).unwrap();
    let request = [&[0, 2, key.truncated_key_id()], blinded.0.as_slice()].concat();
    let request = TokenRequest::tls_deserialize(&mut request.as_slice()).unwrap();
    let response = block_on(server.issue_token_response(&store, request)).unwrap();
    let answer = RsaElement::from_slice(&response.tls_serialize_detached().unwrap()).unwrap();

    let token = pending.finish(&key, &answer).unwrap();
    assert_eq!(key.verify(&token, &digest), Ok(()));
}

#[test]
fn aws_lc_and_the_pure_rust_library_sign_to_equal_bytes_in_both_directions() {
    let ours = IssuerKey::generate().unwrap();
    let theirs = their_secret_key(&ours);
    assert_eq!(theirs.public_key().unwrap().to_spki().unwrap(), ours.public().spki());
    for fill in [2_u8, 0x33, 0x5a, 0x7f] {
        let blinded = RsaElement([fill; 256]);
        assert_eq!(ours.blind_sign(&blinded).unwrap().0.to_vec(), theirs.blind_sign(blinded.0).unwrap().0);
    }

    // A key that they made, in their encoding.
    let pair = TheirKeyPair::generate(&mut rng(), 2048).unwrap();
    let ours = IssuerKey::from_pkcs8(&pair.sk.to_der().unwrap()).unwrap();
    let blinded = RsaElement([0x44; 256]);
    assert_eq!(ours.blind_sign(&blinded).unwrap().0.to_vec(), pair.sk.blind_sign(blinded.0).unwrap().0);
}

/// What `privacypass` asks of a server's memory, all in one. Its own test stores need tokio; these never wait.
#[derive(Default)]
struct Store {
    issuer: Mutex<HashMap<u8, TheirKeyPair>>,
    origin: Mutex<HashMap<u8, Vec<TheirPublicKey>>>,
    nonces: Mutex<HashMap<Nonce, bool>>,
}

type Ready<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

fn ready<'a, T: Send + 'a>(value: T) -> Ready<'a, T> {
    Box::pin(std::future::ready(value))
}

// The signatures below are what `#[async_trait]` turns the traits' methods into.
impl IssuerKeyStore for Store {
    fn insert<'a, 't>(&'a self, id: u8, pair: TheirKeyPair) -> Ready<'t, bool>
    where
        'a: 't,
        Self: 't,
    {
        ready(self.issuer.lock().unwrap().insert(id, pair).is_none())
    }
    fn get<'a, 'b, 't>(&'a self, id: &'b u8) -> Ready<'t, Option<TheirKeyPair>>
    where
        'a: 't,
        'b: 't,
        Self: 't,
    {
        ready(self.issuer.lock().unwrap().get(id).cloned())
    }
    fn remove<'a, 'b, 't>(&'a self, id: &'b u8) -> Ready<'t, bool>
    where
        'a: 't,
        'b: 't,
        Self: 't,
    {
        ready(self.issuer.lock().unwrap().remove(id).is_some())
    }
}

impl OriginKeyStore for Store {
    fn insert<'a, 't>(&'a self, id: u8, key: TheirPublicKey) -> Ready<'t, ()>
    where
        'a: 't,
        Self: 't,
    {
        self.origin.lock().unwrap().entry(id).or_default().push(key);
        ready(())
    }
    fn get<'a, 'b, 't>(&'a self, id: &'b u8) -> Ready<'t, Vec<TheirPublicKey>>
    where
        'a: 't,
        'b: 't,
        Self: 't,
    {
        ready(self.origin.lock().unwrap().get(id).cloned().unwrap_or_default())
    }
    fn remove<'a, 'b, 't>(&'a self, id: &'b u8) -> Ready<'t, bool>
    where
        'a: 't,
        'b: 't,
        Self: 't,
    {
        ready(self.origin.lock().unwrap().remove(id).is_some())
    }
}

impl NonceStore for Store {
    fn reserve<'a, 'b, 't>(&'a self, nonce: &'b Nonce) -> Ready<'t, bool>
    where
        'a: 't,
        'b: 't,
        Self: 't,
    {
        ready(self.nonces.lock().unwrap().insert(*nonce, false).is_none())
    }
    fn commit<'a, 'b, 't>(&'a self, nonce: &'b Nonce) -> Ready<'t, ()>
    where
        'a: 't,
        'b: 't,
        Self: 't,
    {
        self.nonces.lock().unwrap().insert(*nonce, true);
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
