//! An issuer in memory, as honest as a test needs it. The code is always 123456.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use postern_credentials::blind_token::IssuerKey;
use postern_credentials::certificate::{CertificateAuthority, CertifiedSubject, parse_request};
use postern_credentials::identity::IdentityKey;
use postern_credentials::login_chain::ServerLogin;
use postern_credentials::secrets::RootSecret;
use postern_credentials::session::{SessionKey, reply_mac, verify_call};
use postern_protocol::ids::{Base64, LoginVerifier, MailboxId, PhoneNumber, SessionId, SigningPublicKey};
use postern_protocol::log::LogLeaf;
use postern_protocol::login::{
    CHALLENGE_PATH, ChallengeRequest, JWT_PATH, JwtAudience, JwtRequest, JwtResponse, LOGIN_PATH, LoginRequest,
    LoginResponse, SESSION_REPLY_HEADER, SessionCall,
};
use postern_protocol::lookup::ALLOWANCE_PATH;
use postern_protocol::problem::ProblemKind;
use postern_protocol::register::{
    CODE_PATH, CodeResponse, ISSUER_INFO_PATH, IssuerInfo, REGISTRATION_PATH, RegistrationRequest,
    RegistrationResponse, RelayEntry,
};
use postern_protocol::texts::Channel;
use postern_protocol::time::{MockClock, Timestamp};
use postern_protocol::tokens::{DIRECTORY_PATH, Directory, DirectoryKey, KeyState, TOKEN_REQUEST_PATH, TOKEN_TYPE};
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::http::{Asked, Told};
use super::lookups::Lookups;
use super::{ISSUER_NAME, NOW, RELAY_NAME};

/// What an issuer remembers.
pub(crate) struct Issuer {
    pub(crate) url: String,
    pub(crate) identity: IdentityKey,
    pub(crate) authority: CertificateAuthority,
    pub(crate) token_key: IssuerKey,
    /// Keys that sign no more, newest first.
    pub(crate) retiring: Vec<IssuerKey>,
    pub(crate) lookups: Lookups,
    login: ServerLogin,
    rng: StdRng,
    /// Registrations by request, byte for byte.
    answers: HashMap<Vec<u8>, Vec<u8>>,
    pub(super) accounts: HashMap<PhoneNumber, RegistrationRequest>,
    pub(super) mailboxes: HashMap<PhoneNumber, MailboxId>,
    sessions: HashMap<SessionId, (PhoneNumber, SessionKey, u64)>,
}

/// Making a key takes longer than most tests: the first is the same for all.
fn first_key() -> IssuerKey {
    static KEY: OnceLock<Vec<u8>> = OnceLock::new();
    let pkcs8 = KEY.get_or_init(|| IssuerKey::generate().unwrap().to_pkcs8().unwrap().to_vec());
    IssuerKey::from_pkcs8(pkcs8).unwrap()
}

impl Issuer {
    pub(crate) fn new(url: &str, clock: Arc<MockClock>) -> Self {
        let (from, until) = (Timestamp::from_seconds(NOW - 3600), Timestamp::from_seconds(NOW + 10 * 365 * 86_400));
        Self {
            url: url.to_owned(),
            identity: IdentityKey::from_seed([1; 32]),
            authority: CertificateAuthority::create([2; 32], ISSUER_NAME, from, until).unwrap(),
            token_key: first_key(),
            retiring: Vec::new(),
            lookups: Lookups::new(url, clock),
            login: ServerLogin::derive(&RootSecret::from_bytes([3; 32])),
            rng: StdRng::seed_from_u64(4),
            answers: HashMap::new(),
            accounts: HashMap::new(),
            mailboxes: HashMap::new(),
            sessions: HashMap::new(),
        }
    }

    /// Rotates the token key.
    pub(crate) fn rotate(&mut self) {
        let old = std::mem::replace(&mut self.token_key, IssuerKey::generate().unwrap());
        self.retiring.insert(0, old);
    }

    pub(crate) fn certify(&self, phone: &PhoneNumber, key: SigningPublicKey) -> Vec<u8> {
        let subject = CertifiedSubject { phone: phone.clone(), key };
        let (from, until) = (Timestamp::from_seconds(NOW - 3600), Timestamp::from_seconds(NOW + 730 * 86_400));
        self.authority.issue(&subject, [9; 16], from, until).unwrap()
    }

    pub(crate) fn info(&self) -> IssuerInfo {
        IssuerInfo {
            name: ISSUER_NAME.into(),
            public_key: self.identity.public(),
            ca_certificate: Base64(self.authority.certificate_der().to_vec()),
            relays: vec![RelayEntry { name: RELAY_NAME.into(), url: self.url.clone() }],
            tokens_per_account: 5,
            setup_seconds: 3600,
            code_digits: 6,
            version: "test".into(),
        }
    }

    pub(crate) fn directory(&self) -> Directory {
        let entry = |key: &IssuerKey, state| DirectoryKey {
            token_type: TOKEN_TYPE,
            token_key: Base64(key.public().spki().to_vec()),
            not_before: None,
            not_after: (state == KeyState::Retiring).then_some(NOW + 86_400),
            state: Some(state),
        };
        let mut token_keys = vec![entry(&self.token_key, KeyState::Active)];
        token_keys.extend(self.retiring.iter().map(|key| entry(key, KeyState::Retiring)));
        Directory { issuer_request_uri: "/v1/token-request".into(), token_keys }
    }

    /// Answers; `None` if the path is not an issuer's.
    pub(crate) fn answer(&mut self, asked: &Asked) -> Option<Told> {
        let told = self.honest_answer(asked)?;
        Some(match &mut self.lookups.tamper {
            Some(tamper) => tamper(asked, told),
            None => told,
        })
    }

    fn honest_answer(&mut self, asked: &Asked) -> Option<Told> {
        Some(match asked.path.as_str() {
            ISSUER_INFO_PATH => Told::json(200, &self.info()),
            DIRECTORY_PATH => {
                let told = Told::json(200, &self.directory());
                self.lookups.log(&LogLeaf::TokenKeys(told.body.clone()));
                told
            }
            CODE_PATH => Told::json(
                200,
                &CodeResponse { cookie: Base64(vec![7; 40]), expires: NOW + 600, channel: Channel::Text },
            ),
            REGISTRATION_PATH => self.register(asked),
            CHALLENGE_PATH => self.challenge(asked),
            LOGIN_PATH => self.log_in(asked),
            JWT_PATH => self.jwt(asked),
            ALLOWANCE_PATH => {
                self.in_session(asked, |issuer, user| Told::json(200, &issuer.lookups.allowance(user.as_str())))
            }
            TOKEN_REQUEST_PATH => match asked.authorization.strip_prefix("Bearer for-issuer-") {
                Some(account) => self.lookups.issue(account, &asked.body),
                None => Told::problem(ProblemKind::Unauthorized),
            },
            _ => return self.lookups.answer(asked),
        })
    }

    fn register(&mut self, asked: &Asked) -> Told {
        if let Some(answer) = self.answers.get(&asked.body) {
            return Told::bytes(201, answer.clone());
        }
        let request: RegistrationRequest = asked.json();
        if request.code != "123456" {
            return Told::problem(ProblemKind::CodeWrong);
        }
        if request.tokens.token_key_id != self.token_key.public().key_id() {
            return Told::problem(ProblemKind::KeyNotActive);
        }
        // Any other request for this number would be a second account with a second five.
        if self.accounts.contains_key(&request.phone) {
            return Told::problem(ProblemKind::RegistrationConflict);
        }
        let key = parse_request(&request.certificate_request.0).unwrap();
        let mailbox = MailboxId([self.accounts.len() as u8 + 1; 32]);
        let response = RegistrationResponse {
            certificate: Base64(self.certify(&request.phone, key)),
            mailbox,
            relay: RelayEntry { name: RELAY_NAME.into(), url: self.url.clone() },
            mailbox_grant: mailbox.to_string(),
            blind_signatures: request.tokens.blinded.iter().map(|b| self.token_key.blind_sign(b).unwrap()).collect(),
            tokens_issued: 5,
            setup_until: NOW + 3600,
        };
        self.mailboxes.insert(request.phone.clone(), mailbox);
        self.accounts.insert(request.phone.clone(), request);
        let told = Told::json(201, &response);
        self.answers.insert(asked.body.clone(), told.body.clone());
        told
    }

    fn challenge(&mut self, asked: &Asked) -> Told {
        let request: ChallengeRequest = asked.json();
        let salt = self.accounts.get(&request.user).map(|account| account.login.salt);
        let now = Timestamp::from_seconds(NOW);
        let rng = &mut self.rng;
        Told::json(200, &self.login.challenge(rng, &self.identity, ISSUER_NAME, &request, salt.as_ref(), now))
    }

    fn log_in(&mut self, asked: &Asked) -> Told {
        let request: LoginRequest = asked.json();
        let opened = self.login.open_nonce(&request.nonce.0, &request.user, Timestamp::from_seconds(NOW)).unwrap();
        let session = SessionId([self.sessions.len() as u8 + 1; 16]);
        let unknown = LoginVerifier::new([0; 32]);
        let verifier = self.accounts.get(&request.user).map_or(&unknown, |account| &account.login.verifier);
        match self.login.verify(&opened, ISSUER_NAME, verifier, &request, session) {
            Ok((key, proof)) => {
                self.sessions.insert(session, (request.user, key, 0));
                Told::json(200, &LoginResponse { proof, session, expires: NOW + 90 * 86_400 })
            }
            Err(_) => Told::problem(ProblemKind::LoginRefused),
        }
    }

    fn jwt(&mut self, asked: &Asked) -> Told {
        self.in_session(asked, |issuer, user| {
            let jwt = match asked.json::<JwtRequest>().audience {
                JwtAudience::Relay => issuer.mailboxes.get(user).unwrap().to_string(),
                JwtAudience::Issuer => format!("for-issuer-{}", user.as_str()),
            };
            Told::json(200, &JwtResponse { jwt, expires: NOW + 90 * 86_400 })
        })
    }

    /// Checks a call's signature and number, and signs the answer.
    fn in_session(&mut self, asked: &Asked, answer: impl FnOnce(&Self, &PhoneNumber) -> Told) -> Told {
        let call = SessionCall::parse(&asked.authorization).unwrap();
        let Some((user, key, last)) = self.sessions.get_mut(&call.session) else {
            return Told::problem(ProblemKind::Unauthorized);
        };
        assert!(verify_call(key, &asked.method, &asked.path, call.seq, &asked.body, &call.mac));
        if call.seq <= *last {
            return Told::problem(ProblemKind::CallReplayed);
        }
        *last = call.seq;
        let user = user.clone();
        let mut told = answer(self, &user);
        let key = &self.sessions[&call.session].1;
        told.headers.push((SESSION_REPLY_HEADER, reply_mac(key, &call.mac, told.status, &told.body).to_string()));
        told
    }

    /// Ends every session.
    pub(crate) fn end_sessions(&mut self) {
        self.sessions.clear();
    }
}
