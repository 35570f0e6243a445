//! The look-ups of the issuer in memory: real tokens, real evaluation, a real directory, a real log.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use postern_credentials::blind_token::challenge_digest;
use postern_credentials::card::seal_card;
use postern_credentials::directory::{Account, Build, BuildParams, Previous, build, manifest_digest, sign_manifest};
use postern_credentials::envelope::SealingKey;
use postern_credentials::identity::IdentityKey;
use postern_credentials::key_log::KeyLog;
use postern_credentials::lookup_token::{WindowSecret, nullifier};
use postern_credentials::oprf::{Evaluation, SecretKey};
use postern_credentials::secrets::RootSecret;
use postern_protocol::card::Card;
use postern_protocol::directory::{MANIFEST_PATH, Record};
use postern_protocol::ids::{Base64, DhPublicKey, LookupNullifier, MailboxId, PhoneNumber, Signature};
use postern_protocol::log::{ENTRIES_PATH, LOG_PATH, LogEntries, LogLeaf, MAX_ENTRIES};
use postern_protocol::lookup::{
    LOOKUP_PATH, LookupAllowance, LookupInfo, LookupPolicy, LookupRequest, LookupResponse, LookupToken,
    LookupTokenRequest, WindowKey, lookup_challenge,
};
use postern_protocol::problem::{Problem, ProblemKind};
use postern_protocol::register::RelayEntry;
use postern_protocol::time::{Clock, MockClock};
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::http::{Asked, Told};
use super::{ISSUER_NAME, Issuer, NOW, RELAY_NAME, Town};
use crate::olm::sign_card;

/// Changes what is told, as a dishonest issuer would.
type Tamper = Box<dyn FnMut(&Asked, Told) -> Told + Send>;

/// What the issuer remembers of look-ups.
pub(crate) struct Lookups {
    clock: Arc<MockClock>,
    root: RootSecret,
    rng: StdRng,
    pub(crate) policy: LookupPolicy,
    pub(crate) epoch: u32,
    pub(crate) identity: IdentityKey,
    url: String,
    first_window: HashMap<String, u64>,
    issued: HashMap<(String, u64), u32>,
    /// Batches by account and request, with their window.
    batches: HashMap<(String, Vec<u8>), u64>,
    spent: HashMap<LookupNullifier, (Vec<u8>, u32)>,
    leaves: Vec<Vec<u8>>,
    /// Who is listed.
    pub(crate) listed: HashMap<PhoneNumber, Record>,
    built: Option<(Build, Vec<u8>)>,
    pub(crate) tamper: Option<Tamper>,
}

impl Lookups {
    pub(crate) fn new(url: &str, clock: Arc<MockClock>) -> Self {
        Self {
            clock,
            root: RootSecret::from_bytes([3; 32]),
            rng: StdRng::seed_from_u64(5),
            policy: LookupPolicy::default(),
            epoch: 1,
            identity: IdentityKey::from_seed([1; 32]),
            url: url.to_owned(),
            first_window: HashMap::new(),
            issued: HashMap::new(),
            batches: HashMap::new(),
            spent: HashMap::new(),
            leaves: Vec::new(),
            listed: HashMap::new(),
            built: None,
            tamper: None,
        }
    }

    /// Logs before anything is shown.
    pub(crate) fn log(&mut self, leaf: &LogLeaf) {
        let leaf = leaf.encode();
        if !self.leaves.contains(&leaf) {
            self.leaves.push(leaf);
        }
    }

    /// A second log, of another beginning, for somebody in particular.
    pub(crate) fn fork_log(&mut self, leaves: u64) {
        self.leaves = (0..leaves).map(|n| n.to_be_bytes().to_vec()).collect();
    }

    pub(crate) fn log_size(&self) -> u64 {
        self.leaves.len() as u64
    }

    /// The key of this epoch.
    pub(crate) fn key(&self) -> SecretKey {
        SecretKey::for_epoch(&self.root, self.epoch).unwrap()
    }

    /// Makes the next build of who is listed now.
    pub(crate) fn publish(&mut self) {
        let key = self.key();
        let accounts: Vec<_> = self
            .listed
            .iter()
            .map(|(phone, record)| Account {
                y: key.output(phone.as_str().as_bytes()).unwrap(),
                record: record.clone(),
            })
            .collect();
        let before = self.built.as_ref();
        let previous = before.map(|(build, served)| Previous {
            digest: manifest_digest(served),
            oprf_epoch: build.manifest.oprf_epoch,
            entries: &build.entries,
        });
        let params = BuildParams {
            build: before.map_or(1, |(build, _)| build.manifest.build + 1),
            oprf_epoch: self.epoch,
            oprf_key: key.public(),
            created: self.clock.now().seconds(),
            relays: vec![RelayEntry { name: RELAY_NAME.into(), url: self.url.clone() }],
            previous,
        };
        let built = build(&mut self.rng, params, accounts).unwrap();
        self.show(built);
    }

    /// The present build, changed before it is signed.
    pub(crate) fn republish(&mut self, change: impl FnOnce(&mut Build)) {
        let (mut build, _) = self.built.clone().unwrap();
        change(&mut build);
        self.show(build);
    }

    fn show(&mut self, built: Build) {
        let served = sign_manifest(&self.identity, built.manifest.clone()).unwrap().encode().unwrap();
        self.log(&LogLeaf::Manifest(served.clone()));
        self.built = Some((built, served));
    }

    pub(crate) fn build(&self) -> &Build {
        &self.built.as_ref().unwrap().0
    }

    /// Answers what nobody says who they are for; `None` if the path is another's.
    pub(crate) fn answer(&mut self, asked: &Asked) -> Option<Told> {
        let (path, query) = asked.path.split_once('?').unwrap_or((&asked.path, ""));
        Some(match (asked.method.as_str(), path) {
            ("GET", LOOKUP_PATH) => self.info(),
            ("POST", LOOKUP_PATH) => self.evaluate(asked),
            ("GET", LOG_PATH) => {
                let log: KeyLog = self.leaves.iter().cloned().collect();
                Told::json(200, &log.head(&self.identity, self.clock.now().seconds()))
            }
            ("GET", ENTRIES_PATH) => {
                let [from, to] = ["from", "to"].map(|name| parameter(query, name).parse::<usize>().unwrap());
                assert!(from.is_multiple_of(MAX_ENTRIES as usize) && to - from <= MAX_ENTRIES as usize);
                let entries = self.leaves[from..to].iter().cloned().map(Base64).collect();
                Told::json(200, &LogEntries { from: from as u64, entries })
            }
            ("GET", path) if path.starts_with(MANIFEST_PATH) => self.file(path.strip_prefix(MANIFEST_PATH)?),
            _ => return None,
        })
    }

    fn window(&self) -> u64 {
        self.policy.window_at(self.clock.now())
    }

    fn info(&mut self) -> Told {
        let (now, present) = (self.clock.now(), self.window());
        let windows = [present, present - 1].into_iter().filter(|window| self.policy.accepts(*window, now));
        let keys: Vec<_> = windows
            .map(|window| WindowKey { window, key: WindowSecret::derive(&self.root, window).unwrap().public() })
            .collect();
        keys.iter().for_each(|key| self.log(&LogLeaf::LookupKey(*key)));
        let (policy, oprf_epoch, oprf_key) = (self.policy, self.epoch, self.key().public());
        Told::json(200, &LookupInfo { policy, keys, oprf_epoch, oprf_key })
    }

    fn file(&self, path: &str) -> Told {
        let Some((built, served)) = &self.built else { return Told::problem(ProblemKind::NotFound) };
        if path.is_empty() {
            return Told::bytes(200, served.clone());
        }
        let parts: Vec<_> = path.trim_start_matches('/').split('/').collect();
        if parts[0] != built.manifest.build.to_string() {
            return Told::problem(ProblemKind::NotFound);
        }
        let file = match parts[1..] {
            ["filter"] => built.filter.clone(),
            ["delta"] => built.delta.clone(),
            ["fingerprints", bucket] => built.fingerprints_file(bucket.parse().unwrap()),
            ["records", bucket] => built.records_file(bucket.parse().unwrap()),
            _ => None,
        };
        file.map_or_else(|| Told::problem(ProblemKind::NotFound), |file| Told::bytes(200, file))
    }

    pub(crate) fn allowance(&self, account: &str) -> LookupAllowance {
        let window = self.window();
        let is_first = self.first_window.get(account).is_none_or(|first| *first == window);
        let quota = if is_first { self.policy.quota_first } else { self.policy.quota_window };
        let issued = self.issued.get(&(account.to_owned(), window)).copied().unwrap_or(0);
        LookupAllowance { window, quota, issued }
    }

    /// Issues a batch to an account; the identical request is counted once.
    pub(crate) fn issue(&mut self, account: &str, body: &[u8]) -> Told {
        let request = LookupTokenRequest::decode(body).unwrap();
        let name = (account.to_owned(), body.to_vec());
        let present = self.window();
        let window = self.batches.get(&name).copied().unwrap_or(present);
        if !self.policy.accepts(window, self.clock.now()) {
            return Told::problem(ProblemKind::LookupWindow);
        }
        let secret = WindowSecret::derive(&self.root, window).unwrap();
        let Ok(answer) = secret.issue(&request) else { return Told::problem(ProblemKind::LookupWindow) };
        if !self.batches.contains_key(&name) {
            let LookupAllowance { quota, issued, .. } = self.allowance(account);
            let many = request.blinded.len() as u32;
            if issued + many > quota {
                let next = self.policy.window_start(present + 1).seconds() - self.clock.now().seconds();
                return Told::problem_document(Problem::new(ProblemKind::LookupQuota).retry_after(next));
            }
            self.first_window.entry(account.to_owned()).or_insert(present);
            *self.issued.entry((account.to_owned(), present)).or_insert(0) += many;
            self.batches.insert(name, window);
        }
        Told::bytes(200, answer.encode().unwrap())
    }

    fn evaluate(&mut self, asked: &Asked) -> Told {
        let LookupRequest { window, tokens, blinded } = asked.json();
        assert!(!blinded.is_empty() && blinded.len() <= 128 && tokens.len() == blinded.len());
        if !self.policy.accepts(window, self.clock.now()) {
            return Told::problem(ProblemKind::LookupWindow);
        }
        let secret = WindowSecret::derive(&self.root, window).unwrap();
        let challenge = challenge_digest(&lookup_challenge(ISSUER_NAME)).unwrap();
        let mut nullifiers = HashSet::new();
        for token in &tokens {
            let token = LookupToken::decode(token.as_bytes()).unwrap();
            if secret.verify(&token, &challenge).is_err() {
                return Told::problem(ProblemKind::LookupTokenInvalid);
            }
            assert!(nullifiers.insert(nullifier(&token.input)), "a token comes twice");
        }
        let mut epoch = self.epoch;
        for nullifier in &nullifiers {
            match self.spent.get(nullifier) {
                Some((body, first)) if *body == asked.body => epoch = *first,
                Some(_) => return Told::problem(ProblemKind::LookupTokenUsed),
                None => {}
            }
        }
        for nullifier in nullifiers {
            self.spent.insert(nullifier, (asked.body.clone(), epoch));
        }
        let key = SecretKey::for_epoch(&self.root, epoch).unwrap();
        let Evaluation { evaluated, proof } = key.evaluate(&blinded).unwrap();
        Told::json(200, &LookupResponse { oprf_epoch: epoch, evaluated, proof })
    }

    /// How many tokens were spent by anybody.
    pub(crate) fn spent(&self) -> usize {
        self.spent.len()
    }

    /// How many tokens an account was issued in this window.
    pub(crate) fn issued(&self, account: &str) -> u32 {
        self.allowance(account).issued
    }
}

fn parameter<'a>(query: &'a str, name: &str) -> &'a str {
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')).unwrap()
}

impl Town {
    /// Changes the issuer's look-ups.
    pub(crate) fn lookups<T>(&self, change: impl FnOnce(&mut Lookups) -> T) -> T {
        change(&mut self.issuer.lock().unwrap().lookups)
    }

    /// Everybody who has registered is listed from the next build on, and that is made.
    pub(crate) fn publish(&self) {
        let mut issuer = self.issuer.lock().unwrap();
        for (phone, record) in issuer.records() {
            issuer.lookups.listed.insert(phone, record);
        }
        issuer.lookups.publish();
    }

    /// Somebody who is listed and has a card, but no profile here; `certified` is the number that the certificate says.
    pub(crate) fn stranger(&self, listed: &PhoneNumber, certified: &PhoneNumber, n: u32) {
        let mut issuer = self.issuer.lock().unwrap();
        let mut seed = [0x51; 32];
        seed[..4].copy_from_slice(&n.to_be_bytes());
        let (identity, mailbox) = (IdentityKey::from_seed(seed), MailboxId(seed));
        let certificate = issuer.certify(certified, identity.public());
        let mut rng = StdRng::seed_from_u64(u64::from(n));
        let card = Card {
            certificate,
            relay_url: self.server.url.clone(),
            mailbox,
            sealing_key: SealingKey::generate(&mut rng).public(),
            olm_identity: DhPublicKey([7; 32]),
            olm_fallback: DhPublicKey([8; 32]),
            signed_at: NOW,
            signature: Signature([0; 64]),
        };
        let sealed = seal_card(&mut rng, &sign_card(&identity, card).unwrap()).unwrap();
        let record = Record { identity: identity.public(), mailbox, relay: 0 };
        issuer.lookups.listed.insert(listed.clone(), record);
        self.relay.lock().unwrap().cards.insert(mailbox, sealed);
    }
}

impl Issuer {
    /// The records of who has registered.
    fn records(&self) -> Vec<(PhoneNumber, Record)> {
        let accounts = self.accounts.iter().map(|(phone, request)| {
            let identity = postern_credentials::certificate::parse_request(&request.certificate_request.0).unwrap();
            (phone.clone(), Record { identity, mailbox: self.mailboxes[phone], relay: 0 })
        });
        accounts.collect()
    }
}
