//! Tokens, made before anything is measured.

use std::sync::Arc;
use std::thread;

use postern_credentials::blind_token::{IssuerKey, PendingToken, challenge_digest};
use postern_protocol::ids::RefundSecret;
use postern_protocol::tokens::{Token, TokenChallenge};
use rand::rngs::SysRng;
use rand_core::{Rng, UnwrapErr};

/// Random bytes.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    UnwrapErr(SysRng).fill_bytes(&mut bytes);
    bytes
}

/// An issuer of tokens for one relay.
#[derive(Clone)]
pub struct Mint {
    /// Its key.
    pub key: Arc<IssuerKey>,
    challenge: TokenChallenge,
}

impl std::fmt::Debug for Mint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Mint(..)")
    }
}

impl Mint {
    /// With a fresh key.
    pub fn new(issuer: &str, relay: &str) -> Self {
        Self { key: Arc::new(IssuerKey::generate().unwrap()), challenge: TokenChallenge::for_relay(issuer, relay) }
    }

    fn token(&self) -> Token {
        let (refund, challenge) = (RefundSecret::new(random()), challenge_digest(&self.challenge).unwrap());
        let public = self.key.public();
        let (blinded, pending) = PendingToken::begin(&mut UnwrapErr(SysRng), public, challenge, &refund).unwrap();
        pending.finish(public, &self.key.blind_sign(&blinded).unwrap()).unwrap()
    }

    /// So many tokens, made on all cores.
    pub fn tokens(&self, count: usize) -> Vec<Token> {
        let threads = thread::available_parallelism().map_or(1, |n| n.get());
        let share = count.div_ceil(threads);
        let mut tokens: Vec<Token> = thread::scope(|scope| {
            let workers: Vec<_> =
                (0..threads).map(|_| scope.spawn(|| (0..share).map(|_| self.token()).collect::<Vec<_>>())).collect();
            workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
        });
        tokens.truncate(count);
        tokens
    }

    /// Processor time that checking one token takes, seconds: the mean over many.
    pub fn verify_seconds(&self) -> f64 {
        const MANY: usize = 20_000;
        let (token, challenge) = (self.token(), challenge_digest(&self.challenge).unwrap());
        let verifying = self.key.public();
        let before = postern_load::usage::Snapshot::of_self_alone().unwrap();
        for _ in 0..MANY {
            verifying.verify(std::hint::black_box(&token), &challenge).unwrap();
        }
        let after = postern_load::usage::Snapshot::of_self_alone().unwrap();
        before.until(&after).cpu_seconds() / MANY as f64
    }
}
