use postern_protocol::ids::{Base64, Signature, SigningPublicKey};
use postern_protocol::login::{LoginRequest, LoginResponse, MAX_M, MIN_M};
use postern_protocol::register::LoginEnrolment;
use postern_protocol::time::Timestamp;
use rand::rngs::StdRng;

use super::*;
use crate::identity::IdentityKey;
use crate::secrets::RootSecret;

const ISSUER: &str = "issuer.example";
const PASSWORD: &str = "correct horse";
const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
const SESSION: SessionId = SessionId([3; 16]);

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
        let mut rng = crate::testing::rng();
        let root = RootSecret::generate(&mut rng);
        let user = phone("+41791234567");
        let enrolment = client_enrol(&mut rng, ISSUER, &user, PASSWORD).unwrap();
        let signer = IdentityKey::generate(&mut rng);
        Self { rng, server: ServerLogin::derive(&root), signer, user, enrolment }
    }

    fn pinned(&self) -> SigningPublicKey {
        self.signer.public()
    }

    fn begin(&mut self) -> (ChallengeRequest, ClientLogin) {
        ClientLogin::begin(&mut self.rng, self.user.clone())
    }

    fn challenge(&mut self, request: &ChallengeRequest) -> ChallengeResponse {
        let salt = self.enrolment.salt;
        self.server.challenge(&mut self.rng, &self.signer, ISSUER, request, Some(&salt), NOW)
    }

    /// Changes a challenge and signs it again, as an issuer gone bad could.
    fn resign(&self, request: &ChallengeRequest, response: &mut ChallengeResponse) {
        let signed = Exchange::of(ISSUER, request, response).signed_part();
        response.signature = self.signer.sign_transcript(&signed);
    }

    fn answer(
        &self,
        login: ClientLogin,
        response: &ChallengeResponse,
    ) -> Result<(LoginRequest, PendingLogin), LoginError> {
        login.answer(ISSUER, &self.pinned(), PASSWORD, response, "laptop")
    }

    /// A login up to the client's proof.
    fn proof(&mut self, password: &str) -> (LoginRequest, PendingLogin) {
        let (request, login) = self.begin();
        let response = self.challenge(&request);
        login.answer(ISSUER, &self.pinned(), password, &response, "laptop").unwrap()
    }

    fn open(&self, request: &LoginRequest) -> OpenedNonce {
        self.server.open_nonce(&request.nonce.0, &request.user, NOW).unwrap()
    }

    fn verify(&self, request: &LoginRequest) -> Result<(SessionKey, Mac), Refused> {
        let opened = self.open(request);
        self.server.verify(&opened, ISSUER, &self.enrolment.verifier, request, SESSION)
    }
}

fn phone(text: &str) -> PhoneNumber {
    text.parse().unwrap()
}

fn response(proof: Mac, session: SessionId) -> LoginResponse {
    LoginResponse { proof, session, expires: 0 }
}

#[test]
fn walking_n_steps_and_then_the_rest_is_walking_m_steps() {
    let (start, salt) = ([1; 32], [2; 32]);
    for (n, m) in [(0, 0), (0, 1), (1, 2), (20, 57), (CHAIN_N, MIN_M + 999)] {
        assert_eq!(*chain(&chain(&start, &salt, n), &salt, m - n), *chain(&start, &salt, m), "{n} then {m}");
    }
    assert_ne!(*chain(&start, &salt, 5), *chain(&start, &[3; 32], 5), "another salt is another chain");
}

#[test]
fn the_right_password_gives_both_sides_the_same_session_key() {
    let mut stage = Stage::new();
    let (request, pending) = stage.proof(PASSWORD);
    let (key, proof) = stage.verify(&request).unwrap();
    assert_eq!(pending.finish(&response(proof, SESSION)), Ok(key));
}

#[test]
fn two_logins_of_one_user_have_nothing_in_common() {
    let mut stage = Stage::new();
    let (first, second) = (stage.proof(PASSWORD).0, stage.proof(PASSWORD).0);
    assert_ne!(first.nonce, second.nonce);
    assert_ne!(first.proof, second.proof);
    assert_ne!(stage.verify(&first).unwrap().0, stage.verify(&second).unwrap().0);
}

#[test]
fn a_wrong_password_is_refused() {
    let mut stage = Stage::new();
    let (request, _) = stage.proof("correct horsf");
    assert_eq!(stage.verify(&request), Err(Refused));
}

#[test]
fn the_same_password_at_another_issuer_or_for_another_user_is_another_chain() {
    let salt = LoginSalt([1; 16]);
    let user = phone("+41791234567");
    let base = effective_salt(ISSUER, &user, &salt);
    assert_ne!(base, effective_salt("other.example", &user, &salt));
    assert_ne!(base, effective_salt(ISSUER, &phone("+41791234568"), &salt));
    assert_ne!(base, effective_salt(ISSUER, &user, &LoginSalt([2; 16])));
}

#[test]
fn a_challenge_that_is_unsigned_changed_or_signed_by_another_is_not_answered() {
    type Change = fn(&mut ChallengeResponse);
    let changes: [(&str, Change); 6] = [
        ("unsigned", |r| r.signature = Signature([0; 64])),
        ("salt", |r| r.salt.0[0] ^= 1),
        ("m", |r| r.m += 1),
        ("nonce", |r| r.nonce.0[5] ^= 1),
        ("swapped ephemeral", |r| r.server_ephemeral = public_of(&x25519_dalek::StaticSecret::from([9; 32]))),
        ("expires", |r| r.expires += 1),
    ];
    let mut stage = Stage::new();
    for (what, change) in changes {
        let (request, login) = stage.begin();
        let mut challenge = stage.challenge(&request);
        change(&mut challenge);
        assert_eq!(stage.answer(login, &challenge).unwrap_err(), LoginError::BadSignature, "{what}");
    }
    let (request, login) = stage.begin();
    let challenge = stage.challenge(&request);
    let other = IdentityKey::from_seed([8; 32]).public();
    let refused = login.answer(ISSUER, &other, PASSWORD, &challenge, "laptop");
    assert_eq!(refused.unwrap_err(), LoginError::BadSignature);
}

#[test]
fn a_genuine_challenge_for_another_user_issuer_or_login_is_not_answered() {
    let mut stage = Stage::new();
    let (request, login) = stage.begin();
    let challenge = stage.challenge(&request);
    let refused = login.answer("other.example", &stage.pinned(), PASSWORD, &challenge, "laptop");
    assert_eq!(refused.unwrap_err(), LoginError::BadSignature, "another issuer's name");

    let (_, second) = stage.begin();
    assert_eq!(stage.answer(second, &challenge).unwrap_err(), LoginError::BadSignature, "recorded before");

    let (other, other_login) = ClientLogin::begin(&mut stage.rng, phone("+41791234568"));
    let swapped = ChallengeRequest { client_ephemeral: other.client_ephemeral, ..request };
    let challenge = stage.challenge(&swapped);
    assert_eq!(stage.answer(other_login, &challenge).unwrap_err(), LoginError::BadSignature, "another user");
}

#[test]
fn an_m_out_of_bounds_is_not_answered_even_if_the_issuer_signed_it() {
    let mut stage = Stage::new();
    for (m, error) in [
        (0, LoginError::TooFewSteps),
        (1, LoginError::TooFewSteps),
        (CHAIN_N, LoginError::TooFewSteps),
        (MIN_M - 1, LoginError::TooFewSteps),
        (MAX_M + 1, LoginError::TooManySteps),
        (u32::MAX, LoginError::TooManySteps),
    ] {
        let (request, login) = stage.begin();
        let mut challenge = stage.challenge(&request);
        challenge.m = m;
        stage.resign(&request, &mut challenge);
        assert_eq!(stage.answer(login, &challenge).unwrap_err(), error, "{m}");
    }
    for m in [MIN_M, MAX_M] {
        let (request, login) = stage.begin();
        let mut challenge = stage.challenge(&request);
        challenge.m = m;
        stage.resign(&request, &mut challenge);
        assert!(stage.answer(login, &challenge).is_ok(), "{m}");
    }
}

#[test]
fn ephemeral_keys_of_small_order_are_refused_on_both_sides() {
    let mut stage = Stage::new();
    let mut one = [0; 32];
    one[0] = 1;
    for weak in [[0; 32], one].map(DhPublicKey) {
        let (request, login) = stage.begin();
        let mut challenge = stage.challenge(&request);
        challenge.server_ephemeral = weak;
        stage.resign(&request, &mut challenge);
        assert_eq!(stage.answer(login, &challenge).unwrap_err(), LoginError::WeakKey);

        // A client that knows the verifier but not the password gains nothing from a known dh either: it is refused.
        let request = ChallengeRequest { user: stage.user.clone(), client_ephemeral: weak };
        let challenge = stage.challenge(&request);
        let opened = stage.server.open_nonce(&challenge.nonce.0, &stage.user, NOW).unwrap();
        let salt = effective_salt(ISSUER, &stage.user, &challenge.salt);
        let c_m = chain(stage.enrolment.verifier.expose(), &salt, challenge.m - CHAIN_N);
        let keys = opened_keys(&request, &challenge, &c_m, &[0; 32]);
        let login = LoginRequest {
            user: stage.user.clone(),
            nonce: challenge.nonce.clone(),
            proof: keys.client_proof(&stage.user),
            label: "laptop".into(),
        };
        assert_eq!(stage.server.verify(&opened, ISSUER, &stage.enrolment.verifier, &login, SESSION), Err(Refused));
    }
}

fn opened_keys(request: &ChallengeRequest, challenge: &ChallengeResponse, c_m: &[u8; 32], dh: &[u8; 32]) -> Keys {
    Exchange::of(ISSUER, request, challenge).keys(c_m, dh, "laptop")
}

#[test]
fn who_listens_cannot_try_passwords_on_what_he_heard() {
    let mut stage = Stage::new();
    let (request, login) = stage.begin();
    let challenge = stage.challenge(&request);
    let (heard, _) = stage.answer(login, &challenge).unwrap();
    // Even the right password does not reproduce the proof: one of the two X25519 secrets is missing.
    let salt = effective_salt(ISSUER, &stage.user, &challenge.salt);
    let c_m = chain(&chain_start(PASSWORD, &salt).unwrap(), &salt, challenge.m);
    let guessed = diffie_hellman(&x25519_dalek::StaticSecret::from([9; 32]), &challenge.server_ephemeral).unwrap();
    for dh in [&[0; 32], &*guessed, &request.client_ephemeral.0] {
        assert_ne!(opened_keys(&request, &challenge, &c_m, dh).client_proof(&stage.user), heard.proof);
    }
}

#[test]
fn a_proof_is_good_for_its_own_nonce_user_and_label_alone() {
    let mut stage = Stage::new();
    let (good, _) = stage.proof(PASSWORD);
    let (other, _) = stage.proof(PASSWORD);
    let opened = stage.open(&good);
    let verifier = stage.enrolment.verifier.clone();
    let check = |request: &LoginRequest| stage.server.verify(&opened, ISSUER, &verifier, request, SESSION);
    assert!(check(&good).is_ok());
    assert_eq!(check(&LoginRequest { nonce: other.nonce.clone(), ..good.clone() }), Err(Refused));
    assert_eq!(check(&LoginRequest { proof: other.proof, ..good.clone() }), Err(Refused));
    assert_eq!(check(&LoginRequest { label: "phone".into(), ..good.clone() }), Err(Refused));
    assert_eq!(check(&LoginRequest { user: phone("+41791234568"), ..good.clone() }), Err(Refused));
    assert_eq!(stage.server.verify(&opened, "other.example", &verifier, &good, SESSION), Err(Refused));
    for n in 0..32 {
        let mut bad = good.clone();
        bad.proof.0[n] ^= 1;
        assert_eq!(check(&bad), Err(Refused), "{n}");
    }
}

#[test]
fn a_nonce_opened_twice_has_one_digest_and_every_nonce_its_own() {
    let mut stage = Stage::new();
    let (first, second) = (stage.proof(PASSWORD).0, stage.proof(PASSWORD).0);
    assert_eq!(stage.open(&first).digest(), stage.open(&first).digest());
    assert_ne!(stage.open(&first).digest(), stage.open(&second).digest());
}

#[test]
fn a_nonce_that_is_changed_expired_or_of_another_user_or_server_does_not_open() {
    let mut stage = Stage::new();
    let (request, _) = stage.begin();
    let challenge = stage.challenge(&request);
    let nonce = challenge.nonce.0.clone();
    assert!(nonce.len() <= MAX_NONCE);
    let open = |nonce: &[u8], now| stage.server.open_nonce(nonce, &stage.user, now);
    for n in 0..nonce.len() {
        let mut bad = nonce.clone();
        bad[n] ^= 1;
        assert_eq!(open(&bad, NOW).unwrap_err(), NonceError::Invalid, "{n}");
        assert_eq!(open(&nonce[..n], NOW).unwrap_err(), NonceError::Invalid, "cut to {n}");
    }
    assert_eq!(open(&[0; MAX_NONCE + 1], NOW).unwrap_err(), NonceError::Invalid);
    let end = Timestamp::from_seconds(challenge.expires);
    assert!(open(&nonce, Timestamp(end.0 - 1)).is_ok());
    assert_eq!(open(&nonce, end).unwrap_err(), NonceError::Expired);
    let other_user = stage.server.open_nonce(&nonce, &phone("+41791234568"), NOW);
    assert_eq!(other_user.unwrap_err(), NonceError::Invalid);
    let other_server = ServerLogin::derive(&RootSecret::from_bytes([9; 32]));
    assert_eq!(other_server.open_nonce(&nonce, &stage.user, NOW).unwrap_err(), NonceError::Invalid);
}

#[test]
fn a_server_without_the_verifier_cannot_prove_itself() {
    let mut stage = Stage::new();
    let (request, pending) = stage.proof(PASSWORD);
    let opened = stage.open(&request);
    // It has the issuer's keys, both ephemerals and the transcript; what it lacks is c_N.
    let effective = effective_salt(ISSUER, &stage.user, &stage.enrolment.salt);
    let c_m = chain(&[7; 32], &effective, 1);
    let dh = opened.shared_secret().unwrap();
    let exchange = opened.exchange(ISSUER, &request.nonce.0);
    let forged = exchange.keys(&c_m, &dh, &request.label).server_proof(&SESSION);
    assert_eq!(pending.finish(&response(forged, SESSION)), Err(ServerProofWrong));
}

#[test]
fn the_servers_proof_is_good_for_its_session_alone() {
    let mut stage = Stage::new();
    for change in [0, 1, 2] {
        let (request, pending) = stage.proof(PASSWORD);
        let (_, mut proof) = stage.verify(&request).unwrap();
        let mut session = SESSION;
        match change {
            0 => session.0[0] ^= 1,
            1 => proof.0[0] ^= 1,
            _ => proof = request.proof,
        }
        assert_eq!(pending.finish(&response(proof, session)), Err(ServerProofWrong));
    }
}

#[test]
fn an_unknown_user_gets_a_challenge_of_the_same_shape_with_a_steady_salt_and_is_refused() {
    let mut stage = Stage::new();
    let (known, _) = stage.begin();
    let real = stage.challenge(&known);
    let nobody = phone("+41791234568");
    let mut salts = Vec::new();
    for _ in 0..2 {
        let (request, login) = ClientLogin::begin(&mut stage.rng, nobody.clone());
        let fake = stage.server.challenge(&mut stage.rng, &stage.signer, ISSUER, &request, None, NOW);
        assert_eq!(fake.nonce.0.len(), real.nonce.0.len());
        assert_eq!(fake.expires, real.expires);
        assert!((MIN_M..MIN_M + 1000).contains(&fake.m));
        salts.push(fake.salt);
        let (proof, _) = stage.answer(login, &fake).unwrap();
        let opened = stage.server.open_nonce(&proof.nonce.0, &nobody, NOW).unwrap();
        let verifier = stage.server.fake_verifier(&nobody);
        assert_eq!(stage.server.verify(&opened, ISSUER, &verifier, &proof, SESSION), Err(Refused));
    }
    assert_eq!(salts[0], salts[1], "a salt that changed would tell that there is no account");
    assert_ne!(salts[0], real.salt);
    assert_ne!(stage.server.fake_verifier(&nobody), stage.server.fake_verifier(&stage.user));
}

#[test]
fn m_stays_within_its_thousand_values_and_moves() {
    let mut stage = Stage::new();
    let (request, _) = stage.begin();
    let ms: Vec<u32> = (0..200).map(|_| stage.challenge(&request).m).collect();
    assert!(ms.iter().all(|m| (MIN_M..MIN_M + 1000).contains(m)));
    assert!(ms.iter().max().unwrap() - ms.iter().min().unwrap() > 500);
}

#[test]
fn an_overlong_nonce_or_label_is_refused_before_any_work() {
    let mut stage = Stage::new();
    let (request, login) = stage.begin();
    let mut challenge = stage.challenge(&request);
    challenge.nonce = Base64(vec![0; MAX_NONCE + 1]);
    assert_eq!(stage.answer(login, &challenge).unwrap_err(), LoginError::Malformed);
    let (request, login) = stage.begin();
    let challenge = stage.challenge(&request);
    let refused = login.answer(ISSUER, &stage.pinned(), PASSWORD, &challenge, &"x".repeat(MAX_LABEL + 1));
    assert_eq!(refused.unwrap_err(), LoginError::Label);
}

#[test]
fn debug_shows_nothing() {
    let mut stage = Stage::new();
    let (request, login) = stage.begin();
    assert_eq!(format!("{login:?}"), "ClientLogin(secret)");
    let challenge = stage.challenge(&request);
    let (request, pending) = stage.answer(login, &challenge).unwrap();
    assert_eq!(format!("{pending:?} {:?}", stage.open(&request)), "PendingLogin(secret) OpenedNonce(secret)");
    assert_eq!(
        format!("{:?}", stage.server),
        "ServerLogin { nonces: SealKey(secret), strangers: StrangerKey(secret) }"
    );
}
