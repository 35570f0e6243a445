//! A real relay in a process of its own, with mailboxes and a key that it knows; no issuer runs.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderName, HeaderValue};
use postern_credentials::identity::IdentityKey;
use postern_credentials::jwt;
use postern_credentials::secrets::RootSecret;
use postern_load::http::Request;
use postern_protocol::ids::{CallNonce, MailboxId, encode_base64};
use postern_protocol::login::{Claims, Purpose};
use postern_protocol::reply::ReplyPolicy;
use postern_protocol::send::send_path;
use postern_protocol::time::Clock;
use postern_protocol::tokens::{Token, authorization};
use postern_relay::app::{App, RngFactory};
use postern_relay::config::{Config, IssuerConfig, Limits};
use postern_store::SystemClock;
use postern_test_database::{Engine, Server, TestDatabase};
use rand::rngs::SysRng;
use rand_core::UnwrapErr;
use tempfile::TempDir;

use crate::mint::{Mint, random};
use crate::role::{Process, Role};

const NAME: &str = "relay.bench";
const ISSUER: &str = "issuer.bench";
const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");
/// How long a reader's permission is good, seconds.
const DAY: u64 = 86_400;

/// The relay, and what lies around it.
#[derive(Debug)]
pub struct Relay {
    /// The program.
    pub process: Process,
    /// Its database, past the relay.
    pub database: TestDatabase,
    /// Open mailboxes.
    pub mailboxes: Vec<MailboxId>,
    /// Makes tokens that it takes.
    pub mint: Mint,
    _files: TempDir,
}

impl Relay {
    /// On a fresh database of the engine of this run, with so many mailboxes of boundless quota; `fill` may put more into it.
    pub async fn start(
        mailboxes: usize,
        change: impl FnOnce(&mut Limits),
        fill: impl FnOnce(&TestDatabase, &Mint),
    ) -> Self {
        let files = tempfile::tempdir().unwrap();
        let database = TestDatabase::of_this_run(files.path().join("relay.db"));
        let (root, key_file) = (RootSecret::from_bytes(random()), files.path().join("secret.key"));
        std::fs::write(&key_file, encode_base64(root.expose())).unwrap();
        std::fs::set_permissions(&key_file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let mut limits = Limits {
            quota_messages: u64::MAX / 4,
            quota_bytes: u64::MAX / 4,
            key_refresh_seconds: 3600,
            ..Limits::default()
        };
        change(&mut limits);
        let config = Config {
            name: NAME.into(),
            listen: "127.0.0.1:0".parse().unwrap(),
            url: "http://127.0.0.1:1".into(),
            database: database.url(),
            secret_key_file: key_file,
            tls: None,
            enforce: true,
            issuer: IssuerConfig {
                name: ISSUER.into(),
                url: "http://127.0.0.1:1".into(),
                public_key: identity().public(),
            },
            limits,
            replies: ReplyPolicy::default(),
            operation: Default::default(),
        };
        // Once here, so that the schema is there.
        let rng: RngFactory = Arc::new(|| Box::new(UnwrapErr(SysRng)));
        drop(App::open(config.clone(), &root, Arc::new(SystemClock), rng).await.unwrap());
        let mint = Mint::new(ISSUER, NAME);
        let spki = mint.key.public().spki().to_vec();
        let put = "insert into token_keys (key_id, spki, state) values ($1, $2, 'active')";
        database.execute(put, &[mint.key.public().key_id().0.to_vec().into(), spki.into()]);
        let mailboxes: Vec<_> = (0..mailboxes).map(|_| MailboxId(random())).collect();
        let rows: Vec<_> = mailboxes.iter().map(|mailbox| vec![mailbox.0.to_vec().into()]).collect();
        database.execute_each("insert into mailboxes (mailbox) values ($1)", &rows);
        fill(&database, &mint);
        let file = files.path().join("relay.toml");
        std::fs::write(&file, toml::to_string(&config).unwrap()).unwrap();
        let process = Process::start(Role::Relay, &["serve", "--config", file.to_str().unwrap()]);
        Self { process, database, mailboxes, mint, _files: files }
    }

    /// The processes that do its work: its own, and the database's.
    pub fn servers(&self) -> Vec<u32> {
        let mut all = vec![self.process.id()];
        all.extend(engine_process());
        all
    }

    /// Cold sends of fresh tokens, to all mailboxes in turn.
    pub fn sends(&self, count: usize) -> Vec<Request> {
        let tokens = self.mint.tokens(count);
        tokens.iter().zip(self.mailboxes.iter().cycle()).map(|(token, to)| send(to, token)).collect()
    }

    /// What permits the owner of a mailbox to read it.
    pub fn permission(&self, mailbox: &MailboxId) -> (HeaderName, HeaderValue) {
        let now = SystemClock.now().seconds();
        let claims = Claims {
            iss: ISSUER.into(),
            aud: NAME.into(),
            sub: mailbox.to_string(),
            purpose: Purpose::Mailbox,
            iat: now,
            exp: now + DAY,
            jti: CallNonce(random()),
            replaces: None,
        };
        let jwt = jwt::sign(&identity(), &claims).unwrap();
        (AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {jwt}")).unwrap())
    }
}

fn identity() -> IdentityKey {
    IdentityKey::from_seed([1; 32])
}

/// PostgreSQL's first process, if it is the engine of this run.
pub fn engine_process() -> Option<u32> {
    (Engine::of_this_run() == Engine::Postgres).then(|| Server::shared().process())
}

/// The name of the engine of this run.
pub fn engine() -> &'static str {
    match Engine::of_this_run() {
        Engine::Sqlite => "sqlite",
        Engine::Postgres => "postgres",
    }
}

/// A cold send of a random envelope.
pub fn send(to: &MailboxId, token: &Token) -> Request {
    let authorization = HeaderValue::from_str(&authorization(token)).unwrap();
    let request = Request::post(&send_path(to), envelope()).unwrap();
    request.header(AUTHORIZATION, authorization).header(CONTENT_TYPE, OCTETS)
}

/// An envelope of the smallest size.
pub fn envelope() -> Vec<u8> {
    random::<4096>().to_vec()
}
