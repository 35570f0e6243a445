//! A relay that can be stopped and started again on its files, and those who use it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use postern_credentials::blind_token::{PendingToken, challenge_digest};
use postern_credentials::jwt;
use postern_credentials::secrets::RootSecret;
use postern_protocol::exchange::{EXCHANGE_PATH, ExchangeRequest};
use postern_protocol::ids::{Base64, CallNonce, MailboxId, MessageId, RefundSecret, RsaElement};
use postern_protocol::login::{Claims, Purpose};
use postern_protocol::problem::{MEDIA_TYPE, Problem, ProblemKind};
use postern_protocol::release::{MessageList, Outcome};
use postern_protocol::reply::ReplyPolicy;
use postern_protocol::send::{Accepted, MAILBOXES_PATH, MESSAGES_PATH, Messages, send_path};
use postern_protocol::time::{Clock, MockClock, Timestamp};
use postern_protocol::tokens::{Token, TokenChallenge, authorization};
use postern_relay::app::{App, RngFactory, StartError, identity};
use postern_relay::config::{Config, IssuerConfig, Limits};
use postern_test_database::{Engine, Proxy, TestDatabase};
use rand::rngs::SysRng;
use rand_core::{Rng, UnwrapErr};
use serde::de::DeserializeOwned;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tower::ServiceExt as _;

use crate::issuer::{ISSUER, Issuer, key};

pub(crate) const RELAY: &str = "relay.test";
pub(crate) const START: u64 = 1_800_000_000;

pub(crate) fn rng() -> UnwrapErr<SysRng> {
    UnwrapErr(SysRng)
}

pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rng().fill_bytes(&mut bytes);
    bytes
}

/// An answer, whole.
#[derive(Debug, PartialEq, Eq, Clone)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) async fn to(request: reqwest::RequestBuilder) -> Self {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        Self { status, headers, body: response.bytes().await.unwrap().to_vec() }
    }

    pub(crate) fn json<T: DeserializeOwned>(&self) -> T {
        assert!(self.status.is_success(), "{} {}", self.status, String::from_utf8_lossy(&self.body));
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn refusal(&self) -> ProblemKind {
        assert_eq!(self.headers.get(CONTENT_TYPE).unwrap(), MEDIA_TYPE, "{}", self.status);
        let problem: Problem = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(problem.status, self.status);
        let header = self.headers.get("retry-after").map(|value| value.to_str().unwrap().parse().unwrap());
        assert_eq!(problem.retry_after, header);
        assert_eq!(self.headers.contains_key("www-authenticate"), self.status == 401);
        problem.known_kind().unwrap()
    }
}

/// Asks a relay that listens nowhere: status and body of the answer. The media type is the one that the path takes.
pub(crate) async fn call(
    router: &Router,
    method: Method,
    path: &str,
    authorization: &str,
    body: Vec<u8>,
) -> (u16, Vec<u8>) {
    let kind = if path.ends_with("/messages") { "application/octet-stream" } else { "application/json" };
    let request = Request::builder().method(method).uri(path).header(CONTENT_TYPE, kind);
    let request = request.header("authorization", authorization).body(Body::from(body)).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    (status, to_bytes(response.into_body(), usize::MAX).await.unwrap().to_vec())
}

/// A token and the secret behind it.
#[derive(Clone)]
pub(crate) struct Spendable {
    pub(crate) token: Token,
    pub(crate) refund: RefundSecret,
}

/// A token under key `n`, for another relay perhaps.
pub(crate) fn token_for(relay: &str, n: usize) -> Spendable {
    let refund = RefundSecret::new(random());
    let (blinded, pending) = begin(relay, n, &refund);
    let token = pending.finish(key(n).public(), &key(n).blind_sign(&blinded).unwrap()).unwrap();
    Spendable { token, refund }
}

/// A token that this relay takes.
pub(crate) fn token(n: usize) -> Spendable {
    token_for(RELAY, n)
}

fn begin(relay: &str, n: usize, refund: &RefundSecret) -> (RsaElement, PendingToken) {
    let challenge = challenge_digest(&TokenChallenge::for_relay(ISSUER, relay)).unwrap();
    PendingToken::begin(&mut rng(), key(n).public(), challenge, refund).unwrap()
}

/// A fresh blinded message under key `n`.
pub(crate) fn blinded(n: usize) -> (RsaElement, PendingToken) {
    begin(RELAY, n, &RefundSecret::new(random()))
}

pub(crate) fn exchange_request(old: &Spendable, n: usize, blinded: RsaElement) -> ExchangeRequest {
    ExchangeRequest {
        token: Base64(old.token.encode()),
        refund_secret: old.refund.clone(),
        token_key_id: key(n).public().key_id(),
        blinded,
    }
}

pub(crate) fn envelope() -> Vec<u8> {
    random::<4096>().to_vec()
}

/// Somebody with a mailbox.
#[derive(Clone)]
pub(crate) struct Mailbox {
    pub(crate) id: MailboxId,
    pub(crate) jwt: String,
}

struct Running {
    stop: oneshot::Sender<()>,
    done: JoinHandle<()>,
}

pub(crate) struct World {
    pub(crate) dir: TempDir,
    /// What the relay writes, past the relay.
    pub(crate) database: TestDatabase,
    pub(crate) clock: Arc<MockClock>,
    pub(crate) issuer: Issuer,
    pub(crate) config: Config,
    pub(crate) app: App,
    pub(crate) url: String,
    pub(crate) http: reqwest::Client,
    running: Option<Running>,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut Limits)) -> Self {
        Self::start_on(change, |_| {}).await
    }

    /// On a database that `prepare` may have filled.
    pub(crate) async fn start_on(change: impl FnOnce(&mut Limits), prepare: impl FnOnce(&TestDatabase)) -> Self {
        let dir = TempDir::new().unwrap();
        let database = TestDatabase::of_this_run(dir.path().join("relay.db"));
        prepare(&database);
        let url = database.url();
        Self::start_at(dir, database, url, change).await
    }

    /// On PostgreSQL, behind a proxy that can cut its connections.
    pub(crate) async fn start_behind_proxy() -> (Self, Proxy) {
        let database = TestDatabase::new(Engine::Postgres, "");
        let proxy = Proxy::start(&database);
        let url = proxy.url();
        (Self::start_at(TempDir::new().unwrap(), database, url, |_| {}).await, proxy)
    }

    async fn start_at(dir: TempDir, database: TestDatabase, url: String, change: impl FnOnce(&mut Limits)) -> Self {
        let clock = Arc::new(MockClock::new(Timestamp::from_seconds(START)));
        let issuer = Issuer::start().await;
        // No task of the relay moves by itself; the tests say when.
        let mut limits = Limits { key_refresh_seconds: 3600, housekeeping_seconds: 3600, ..Limits::default() };
        limits.issuer_timeout_seconds = 2;
        change(&mut limits);
        let config = Config {
            name: RELAY.into(),
            listen: "127.0.0.1:0".parse().unwrap(),
            url: "http://127.0.0.1:1".into(),
            database: url,
            secret_key_file: PathBuf::new(),
            tls: None,
            enforce: true,
            issuer: IssuerConfig {
                name: ISSUER.into(),
                url: issuer.url.clone(),
                public_key: Issuer::identity().public(),
            },
            limits,
            replies: ReplyPolicy::default(),
            operation: Default::default(),
        };
        issuer.know_relay(identity(&RootSecret::from_bytes([2; 32])).public());
        let (app, url, running) = Self::run(&config, &clock).await;
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(60)).build().unwrap();
        let world = Self { dir, database, clock, issuer, config, app, url, http, running: Some(running) };
        world.app.refresh_keys().await;
        world
    }

    /// Opens a relay on the same files, with this configuration; it listens nowhere.
    pub(crate) async fn open_app(config: &Config, clock: &Arc<MockClock>) -> Result<App, StartError> {
        let rng: RngFactory = Arc::new(|| Box::new(rng()));
        App::open(config.clone(), &RootSecret::from_bytes([2; 32]), Arc::clone(clock) as _, rng).await
    }

    async fn run(config: &Config, clock: &Arc<MockClock>) -> (App, String, Running) {
        let app = Self::open_app(config, clock).await.unwrap();
        let listener = TcpListener::bind(config.listen).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (stop, told) = oneshot::channel();
        let done = tokio::spawn(app.clone().serve(listener, async { drop(told.await) }));
        (app, url, Running { stop, done })
    }

    pub(crate) async fn restart(&mut self) {
        let Running { stop, done } = self.running.take().unwrap();
        stop.send(()).unwrap();
        done.await.unwrap();
        let (app, url, running) = Self::run(&self.config, &self.clock).await;
        (self.app, self.url, self.running) = (app, url, Some(running));
    }

    /// One number out of the relay's database.
    pub(crate) fn count(&self, sql: &str) -> i64 {
        self.database.int(sql)
    }

    pub(crate) fn ledger(&self, state: &str) -> i64 {
        self.count(&format!("select count(*) from ledger where state = '{state}'"))
    }

    /// Counters and rows agree, and no exchange was signed that no row pays for.
    pub(crate) fn assert_consistent(&self) {
        let off = self.count(
            "select count(*) from mailboxes m where \
             queued_messages <> (select count(*) from messages where mailbox = m.mailbox) or \
             queued_bytes <> (select coalesce(sum(size), 0) from messages where mailbox = m.mailbox)",
        );
        assert_eq!(off, 0, "counters differ from the queue");
        let signed = i64::try_from(self.issuer.state().signed.len()).unwrap();
        assert!(signed <= self.ledger("exchanging") + self.ledger("exchanged"), "more signatures than rows");
    }

    /// The present, Unix seconds.
    pub(crate) fn now(&self) -> u64 {
        self.clock.now().seconds()
    }

    pub(crate) fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    pub(crate) fn claims(&self, sub: &MailboxId, purpose: Purpose) -> Claims {
        let now = self.now();
        Claims {
            iss: ISSUER.into(),
            aud: RELAY.into(),
            sub: sub.to_string(),
            purpose,
            iat: now,
            exp: now + 600,
            jti: CallNonce(random()),
            replaces: None,
        }
    }

    pub(crate) fn jwt(claims: &Claims) -> String {
        jwt::sign(&Issuer::identity(), claims).unwrap()
    }

    pub(crate) async fn open(&self, claims: &Claims) -> Reply {
        Reply::to(self.http.post(self.at(MAILBOXES_PATH)).bearer_auth(Self::jwt(claims))).await
    }

    /// A fresh open mailbox and a JWT that reads it.
    pub(crate) async fn mailbox(&self) -> Mailbox {
        let id = MailboxId(random());
        assert_eq!(self.open(&self.claims(&id, Purpose::Grant)).await.status, 201);
        Mailbox { id, jwt: Self::jwt(&self.claims(&id, Purpose::Mailbox)) }
    }

    pub(crate) fn send_request(&self, to: &MailboxId, token: &Token, envelope: &[u8]) -> reqwest::RequestBuilder {
        self.http
            .post(self.at(&send_path(to)))
            .header("authorization", authorization(token))
            .header("content-type", "application/octet-stream")
            .body(envelope.to_vec())
    }

    pub(crate) async fn send(&self, to: &MailboxId, token: &Token, envelope: &[u8]) -> Reply {
        Reply::to(self.send_request(to, token, envelope)).await
    }

    /// The same owner with a JWT of now.
    pub(crate) fn fresh(&self, mailbox: &Mailbox) -> Mailbox {
        Mailbox { id: mailbox.id, jwt: Self::jwt(&self.claims(&mailbox.id, Purpose::Mailbox)) }
    }

    /// Sets the clock to these Unix seconds, back as well, and restarts.
    pub(crate) async fn restart_at(&mut self, seconds: u64) {
        self.clock = Arc::new(MockClock::new(Timestamp::from_seconds(seconds)));
        self.restart().await;
    }

    /// Sends something with a fresh token of key 0, which must work.
    pub(crate) async fn sent(&self, to: &MailboxId) -> (Spendable, MessageId) {
        let spendable = token(0);
        let reply = self.send(to, &spendable.token, &envelope()).await;
        assert_eq!(reply.status, 201, "{}", String::from_utf8_lossy(&reply.body));
        (spendable, reply.json::<Accepted>().message)
    }

    /// The same, released by the recipient.
    pub(crate) async fn released(&self, to: &Mailbox) -> Spendable {
        let (spendable, message) = self.sent(&to.id).await;
        assert_eq!(self.verdict(to, postern_protocol::release::RELEASE_PATH, &[message]).await.done, [message]);
        spendable
    }

    pub(crate) fn post_json(&self, path: &str, body: &impl serde::Serialize) -> reqwest::RequestBuilder {
        let body = serde_json::to_vec(body).unwrap();
        self.http.post(self.at(path)).header("content-type", "application/json").body(body)
    }

    pub(crate) async fn verdict(&self, by: &Mailbox, path: &str, messages: &[MessageId]) -> Outcome {
        let list = MessageList { messages: messages.to_vec() };
        Reply::to(self.post_json(path, &list).bearer_auth(&by.jwt)).await.json()
    }

    pub(crate) async fn read(&self, by: &Mailbox, query: &str) -> Reply {
        Reply::to(self.http.get(self.at(&format!("{MESSAGES_PATH}{query}"))).bearer_auth(&by.jwt)).await
    }

    pub(crate) async fn inbox(&self, by: &Mailbox) -> Messages {
        self.read(by, "").await.json()
    }

    pub(crate) async fn exchange(&self, request: &ExchangeRequest) -> Reply {
        Reply::to(self.post_json(EXCHANGE_PATH, request)).await
    }
}
