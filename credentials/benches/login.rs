//! What a login costs the server, against the bare primitives that it cannot do without, measured in the same run:
//! `cargo bench -p postern-credentials --bench login`.
//!
//! challenge ÷ (two X25519 + one Ed25519 signature), and verify ÷ (one X25519 + the mean number of chain steps as bare HMACs). Ours
//! and the primitives alternate, and medians are compared, so that a machine that slows down slows both.
#![allow(clippy::disallowed_methods, reason = "a benchmark measures the real clock")]
#![allow(clippy::unwrap_used, reason = "a failed operation must not count as a fast one")]

use std::hint::black_box;
use std::time::Instant;

use ed25519_dalek::Signer;
use hmac::{Hmac, KeyInit, Mac};
use postern_credentials::identity::IdentityKey;
use postern_credentials::login_chain::{ClientLogin, OpenedNonce, ServerLogin, client_enrol};
use postern_credentials::secrets::RootSecret;
use postern_protocol::ids::{PhoneNumber, SessionId};
use postern_protocol::login::{CHAIN_N, ChallengeRequest, LoginRequest};
use postern_protocol::register::LoginEnrolment;
use postern_protocol::time::Timestamp;
use rand::SeedableRng;
use rand::rngs::StdRng;
use sha2::Sha256;
use x25519_dalek::{PublicKey, StaticSecret};

const ISSUER: &str = "issuer.example";
const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
/// Rounds of each measurement; odd, so that there is a median.
const ROUNDS: usize = 15;
/// Repetitions within a round.
const REPEAT: u32 = 420;
/// How many different proofs are verified: M varies from login to login.
const LOGINS: usize = 60;

fn main() {
    // `cargo test --benches` runs this binary without `--bench`: nothing to measure then.
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("login: run by `cargo bench`");
        return;
    }
    let mut stage = Stage::new();
    let (logins, mean_steps) = stage.logins();
    let mut samples: [Vec<f64>; 6] = Default::default();
    for _ in 0..ROUNDS {
        let round = [
            stage.challenge(),
            stage.verify(&logins),
            x25519_micros(),
            ed25519_micros(),
            hmac_micros(),
            stage.open(&logins),
        ];
        for (all, one) in samples.iter_mut().zip(round) {
            all.push(one);
        }
    }
    let [challenge, verify, x25519, ed25519, hmac, open] = samples.map(median);
    println!("x25519 {x25519:.1} us, ed25519 sign {ed25519:.1} us, hmac step {hmac:.3} us");
    println!("login challenge {challenge:.1} us, open nonce {open:.1} us, verify {verify:.1} us");
    println!("ratio login_challenge_vs_primitives = {:.2}", challenge / (2.0 * x25519 + ed25519));
    println!("ratio login_verify_vs_primitives = {:.2}", verify / (x25519 + mean_steps * hmac));
}

/// One issuer and one enrolled user.
struct Stage {
    rng: StdRng,
    server: ServerLogin,
    signer: IdentityKey,
    user: PhoneNumber,
    enrolment: LoginEnrolment,
}

impl Stage {
    fn new() -> Self {
        let mut rng = StdRng::seed_from_u64(1);
        let server = ServerLogin::derive(&RootSecret::generate(&mut rng));
        let signer = IdentityKey::generate(&mut rng);
        let user: PhoneNumber = "+41791234567".parse().unwrap();
        let enrolment = client_enrol(&mut rng, ISSUER, &user, "password").unwrap();
        Self { rng, server, signer, user, enrolment }
    }

    /// Proofs that wait to be verified, and the mean of their M − N.
    fn logins(&mut self) -> (Vec<(OpenedNonce, LoginRequest)>, f64) {
        let mut logins = Vec::with_capacity(LOGINS);
        let mut steps = 0.0;
        for _ in 0..LOGINS {
            let (request, login) = ClientLogin::begin(&mut self.rng, self.user.clone());
            let salt = self.enrolment.salt;
            let reply = self.server.challenge(&mut self.rng, &self.signer, ISSUER, &request, Some(&salt), NOW);
            let (proof, _) = login.answer(ISSUER, &self.signer.public(), "password", &reply, "bench").unwrap();
            let opened = self.server.open_nonce(&proof.nonce.0, &self.user, NOW).unwrap();
            logins.push((opened, proof));
            steps += f64::from(reply.m - CHAIN_N);
        }
        (logins, steps / LOGINS as f64)
    }

    fn challenge(&mut self) -> f64 {
        let (request, _): (ChallengeRequest, _) = ClientLogin::begin(&mut self.rng, self.user.clone());
        let salt = self.enrolment.salt;
        micros(REPEAT, || {
            black_box(self.server.challenge(
                &mut self.rng,
                &self.signer,
                ISSUER,
                black_box(&request),
                Some(&salt),
                NOW,
            ));
        })
    }

    /// The mean over all logins, each as often as another.
    fn verify(&self, logins: &[(OpenedNonce, LoginRequest)]) -> f64 {
        let verifier = &self.enrolment.verifier;
        let mut all = logins.iter().cycle();
        micros(REPEAT, || {
            let (opened, proof) = all.next().unwrap();
            black_box(self.server.verify(opened, ISSUER, verifier, proof, SessionId([1; 16])).unwrap());
        })
    }

    fn open(&self, logins: &[(OpenedNonce, LoginRequest)]) -> f64 {
        let mut all = logins.iter().cycle();
        micros(REPEAT, || {
            let (_, proof) = all.next().unwrap();
            black_box(self.server.open_nonce(&proof.nonce.0, &self.user, NOW).unwrap());
        })
    }
}

/// One Diffie–Hellman on a point that is not the base point.
fn x25519_micros() -> f64 {
    let (secret, public) = (StaticSecret::from([3; 32]), PublicKey::from(&StaticSecret::from([4; 32])));
    micros(REPEAT, || {
        black_box(secret.diffie_hellman(black_box(&public)));
    })
}

fn ed25519_micros() -> f64 {
    let key = ed25519_dalek::SigningKey::from_bytes(&[5; 32]);
    micros(REPEAT, || {
        black_box(key.sign(black_box(&[6; 300])));
    })
}

/// One step of the chain, as anybody would write it.
fn hmac_micros() -> f64 {
    let mut value = [7u8; 32];
    micros(REPEAT.saturating_mul(50), || {
        let mut mac = Hmac::<Sha256>::new_from_slice(&value).unwrap();
        mac.update(black_box(&[8; 36]));
        value = mac.finalize().into_bytes().into();
    })
}

fn micros(count: u32, mut operation: impl FnMut()) -> f64 {
    let start = Instant::now();
    for _ in 0..count {
        operation();
    }
    start.elapsed().as_secs_f64() * 1e6 / f64::from(count)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
