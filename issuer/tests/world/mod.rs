//! The world of the issuer's tests: one issuer on a real database with a clock that stands still, seeded randomness and a
//! gateway that remembers; and people who do what the client does, with the client's own functions.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail loudly")]
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "every test file is a crate and uses its own part of the world"
)]

pub mod lookups;
pub mod people;
pub mod providers;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::http::{HeaderMap, Request, header};
use futures::future::BoxFuture;
use postern_credentials::blind_token::VerifyingKey;
use postern_credentials::identity::IdentityKey;
use postern_credentials::relay_call;
use postern_credentials::secrets::RootSecret;
use postern_issuer::config::{GatewayConfig, Limits, Lookup, RelayConfig};
use postern_issuer::gateway::{GatewayError, Gateways, Message, TextGateway};
use postern_issuer::random::Randomness;
use postern_issuer::secrets::{self, Secrets};
use postern_issuer::service::keys;
use postern_issuer::{Config, Issuer, Parts, router};
use postern_protocol::ids::{CallNonce, PhoneNumber, Signature, TokenKeyId};
use postern_protocol::internal::REPLY_HEADER;
use postern_protocol::problem::{MEDIA_TYPE, Problem, ProblemKind};
use postern_protocol::register::{COUNTERS_PATH, Counters, ISSUER_INFO_PATH, IssuerInfo};
use postern_protocol::time::{Clock, MockClock, Timestamp};
use postern_protocol::tokens::{DIRECTORY_PATH, Directory};
use postern_test_database::{Engine, Proxy, TestDatabase};
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tower::ServiceExt;

pub use people::Person;

pub const ISSUER: &str = "issuer.test";
pub const RELAY: &str = "relay.test";
pub const OTHER_RELAY: &str = "other-relay.test";
pub const START: Timestamp = Timestamp::from_seconds(1_800_000_000);

pub struct World {
    pub dir: tempfile::TempDir,
    pub issuer: Arc<Issuer>,
    /// What the issuer writes, past the issuer.
    pub database: TestDatabase,
    pub clock: Arc<MockClock>,
    pub texts: Arc<Texts>,
    pub relay_key: IdentityKey,
    pub other_relay_key: IdentityKey,
    rng: Mutex<StdRng>,
    seed: [u8; 32],
    ca: Vec<u8>,
}

/// Remembers every text.
#[derive(Default)]
pub struct Texts {
    sent: Mutex<Vec<(PhoneNumber, String)>>,
    broken: Mutex<bool>,
}

impl Texts {
    pub fn all(&self) -> Vec<(PhoneNumber, String)> {
        self.sent.lock().unwrap().clone()
    }

    pub fn break_down(&self, broken: bool) {
        *self.broken.lock().unwrap() = broken;
    }
}

struct Gateway(Arc<Texts>);

impl TextGateway for Gateway {
    fn send<'a>(&'a self, message: &'a Message<'a>) -> BoxFuture<'a, Result<(), GatewayError>> {
        let result = if *self.0.broken.lock().unwrap() {
            Err(GatewayError::Down("out of order".to_owned()))
        } else {
            self.0.sent.lock().unwrap().push((message.to.clone(), message.words.to_owned()));
            Ok(())
        };
        Box::pin(async move { result })
    }
}

/// What came back.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Reply {
    /// The body of a success.
    #[track_caller]
    pub fn json<T: DeserializeOwned>(&self) -> T {
        assert!(self.status < 300, "{} {}", self.status, String::from_utf8_lossy(&self.body));
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The problem of a refusal, which must be a proper problem document.
    #[track_caller]
    pub fn problem(&self) -> ProblemKind {
        let text = String::from_utf8_lossy(&self.body);
        assert!(self.status >= 400, "{} {text}", self.status);
        assert_eq!(self.header(header::CONTENT_TYPE.as_str()), Some(MEDIA_TYPE), "{text}");
        let problem: Problem = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(problem.status, self.status);
        let wait = problem.retry_after.map(|seconds| seconds.to_string());
        assert_eq!(self.header("retry-after"), wait.as_deref());
        problem.known_kind().unwrap()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

impl World {
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// A world with other limits.
    pub async fn with(limit: impl FnOnce(&mut Limits)) -> Self {
        Self::configured(|config| limit(&mut config.limits)).await
    }

    /// A world with another configuration.
    pub async fn configured(change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let database = TestDatabase::of_this_run(dir.path().join("issuer.db"));
        Self::on(dir, database, change).await
    }

    /// A world on PostgreSQL, behind a proxy that can cut its connections.
    pub async fn behind_proxy(change: impl FnOnce(&mut Config)) -> (Self, Proxy) {
        let database = TestDatabase::new(Engine::Postgres, "");
        let proxy = Proxy::start(&database);
        let url = proxy.url();
        let behind = |config: &mut Config| {
            config.database = url;
            change(config);
        };
        (Self::on(tempfile::tempdir().unwrap(), database, behind).await, proxy)
    }

    async fn on(dir: tempfile::TempDir, database: TestDatabase, change: impl FnOnce(&mut Config)) -> Self {
        let mut rng = StdRng::seed_from_u64(1);
        let (root, ca) = secrets::create(&mut rng, ISSUER, START).unwrap();
        let seed = *root.expose();
        let (relay_key, other_relay_key) = (IdentityKey::generate(&mut rng), IdentityKey::generate(&mut rng));
        let clock = Arc::new(MockClock::new(START));
        let texts = Arc::new(Texts::default());
        let mut config = config(database.url(), &relay_key, &other_relay_key);
        change(&mut config);
        let issuer = start(config, seed, &ca, &clock, &texts, 2).await;
        keys::rotate(&issuer, 86_400).await.unwrap();
        Self { dir, issuer, database, clock, texts, relay_key, other_relay_key, rng: Mutex::new(rng), seed, ca }
    }

    /// The same database in another process: nothing in memory is kept. `change` edits the configuration.
    pub async fn restart(mut self, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = self.issuer.config.clone();
        change(&mut config);
        self.issuer.close().await;
        self.issuer = start(config, self.seed, &self.ca, &self.clock, &self.texts, 3).await;
        self
    }

    /// A second process beside the first, on the same database.
    pub async fn second_process(&self) -> Arc<Issuer> {
        start(self.issuer.config.clone(), self.seed, &self.ca, &self.clock, &self.texts, 4).await
    }

    /// Another process with a clock of its own.
    pub async fn process_with(&self, clock: Arc<dyn Clock>, random: u64) -> Arc<Issuer> {
        start_by(self.issuer.config.clone(), self.seed, &self.ca, clock, &self.texts, random).await
    }

    /// The root secret.
    pub fn root(&self) -> RootSecret {
        RootSecret::from_bytes(self.seed)
    }

    pub fn rng(&self) -> StdRng {
        self.rng.lock().unwrap().fork()
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub async fn send(&self, request: Request<Body>) -> Reply {
        send(&self.issuer, request).await
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.send(Request::get(path).body(Body::empty()).unwrap()).await
    }

    pub async fn post_bytes(&self, path: &str, media_type: &str, body: impl Into<Vec<u8>>) -> Reply {
        let request = Request::post(path).header(header::CONTENT_TYPE, media_type);
        self.send(request.body(Body::from(body.into())).unwrap()).await
    }

    pub async fn post(&self, path: &str, body: &impl Serialize) -> Reply {
        self.post_bytes(path, "application/json", serde_json::to_vec(body).unwrap()).await
    }

    pub async fn info(&self) -> IssuerInfo {
        self.get(ISSUER_INFO_PATH).await.json()
    }

    pub async fn directory(&self) -> Directory {
        self.get(DIRECTORY_PATH).await.json()
    }

    /// The active key, as a client finds it.
    pub async fn active_key(&self) -> VerifyingKey {
        VerifyingKey::from_spki(&self.directory().await.token_keys[0].token_key.0).unwrap()
    }

    /// Tokens for accounts signed under a key, from the open counters.
    pub async fn issued(&self, key: TokenKeyId) -> u64 {
        let counters: Counters = self.get(COUNTERS_PATH).await.json();
        counters.keys.iter().find(|entry| entry.token_key_id == key).map_or(0, |entry| entry.issued)
    }

    /// A call of the relay, and whether the answer is signed for it.
    pub async fn relay_call(&self, path: &str, body: &impl Serialize) -> (Reply, bool) {
        self.relay_call_as(RELAY, &self.relay_key, path, body).await
    }

    pub async fn relay_call_as(
        &self,
        relay: &str,
        key: &IdentityKey,
        path: &str,
        body: &impl Serialize,
    ) -> (Reply, bool) {
        let (request, nonce) = self.relay_request(relay, key, path, body);
        let reply = self.send(request).await;
        let signature = reply.header(REPLY_HEADER).and_then(|text| text.parse::<Signature>().ok());
        let public = self.info().await.public_key;
        let signed = signature.is_some_and(|signature| {
            relay_call::verify_reply(&public, &nonce, reply.status, &reply.body, &signature).is_ok()
        });
        (reply, signed)
    }

    /// What a relay sends.
    pub fn relay_request(
        &self,
        relay: &str,
        key: &IdentityKey,
        path: &str,
        body: &impl Serialize,
    ) -> (Request<Body>, CallNonce) {
        let body = serde_json::to_vec(body).unwrap();
        let mut nonce = CallNonce([0; 16]);
        rand_core::Rng::fill_bytes(&mut self.rng(), &mut nonce.0);
        let call = relay_call::sign_call(key, ISSUER, relay, "POST", path, &body, self.now(), nonce);
        let request = Request::post(path)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::AUTHORIZATION, call.to_string())
            .body(Body::from(body))
            .unwrap();
        (request, nonce)
    }

    /// One number out of the database, past the issuer.
    pub fn query(&self, sql: &str) -> i64 {
        self.database.int(sql)
    }
}

pub async fn send(issuer: &Arc<Issuer>, request: Request<Body>) -> Reply {
    let response = router(Arc::clone(issuer)).oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap().to_vec();
    Reply { status: parts.status.as_u16(), headers: parts.headers, body }
}

fn config(database: String, relay: &IdentityKey, other_relay: &IdentityKey) -> Config {
    let entry = |name: &str, key: &IdentityKey| RelayConfig {
        name: name.to_owned(),
        url: format!("https://{name}"),
        public_key: key.public(),
        enabled: true,
    };
    Config {
        name: ISSUER.to_owned(),
        listen: "127.0.0.1:0".parse().unwrap(),
        url: format!("https://{ISSUER}"),
        database,
        secret_key_file: PathBuf::new(),
        tls: None,
        ca_certificate_file: PathBuf::new(),
        gateways: vec![GatewayConfig::Console { file: None }],
        limits: Limits::default(),
        lookup: Lookup::default(),
        operation: Default::default(),
        relays: vec![entry(RELAY, relay), entry(OTHER_RELAY, other_relay)],
    }
}

async fn start(
    config: Config,
    seed: [u8; 32],
    ca: &[u8],
    clock: &Arc<MockClock>,
    texts: &Arc<Texts>,
    random: u64,
) -> Arc<Issuer> {
    start_by(config, seed, ca, Arc::clone(clock) as _, texts, random).await
}

async fn start_by(
    config: Config,
    seed: [u8; 32],
    ca: &[u8],
    clock: Arc<dyn Clock>,
    texts: &Arc<Texts>,
    random: u64,
) -> Arc<Issuer> {
    config.check().unwrap();
    let root = RootSecret::from_bytes(seed);
    let secrets = Secrets::derive(&root, ca).unwrap();
    let are_real = config.gateways.iter().any(|g| matches!(g, GatewayConfig::Kannel(_) | GatewayConfig::Twilio(_)));
    let gateways =
        if are_real { Gateways::open(&config).unwrap() } else { Gateways::one(Box::new(Gateway(Arc::clone(texts)))) };
    Issuer::open(Parts { config, secrets, clock, random: Randomness::seeded(random), gateways }).await.unwrap()
}
