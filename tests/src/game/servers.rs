//! Issuer and relay in this process, on real sockets and SQLite files, with everything recorded.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use postern_client::Client;
use postern_client::channel::{Anonymous, Authenticated, Network, Route};
use postern_client::profile::{KdfParams, Patience, Profile};
use postern_credentials::identity::IdentityKey;
use postern_credentials::secrets::RootSecret;
use postern_issuer::config::{GatewayConfig, Limits, Lookup, RelayConfig};
use postern_issuer::gateway::{GatewayError, Gateways, Message, TextGateway};
use postern_issuer::random::Randomness;
use postern_issuer::secrets::{self, Secrets};
use postern_issuer::service::{directory, keys};
use postern_issuer::{Issuer, Parts, router};
use postern_protocol::time::{Clock, MockClock, Timestamp};
use postern_relay::app::App;
use postern_relay::config::IssuerConfig;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rusqlite::Connection;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use super::capture::{Counting, Recorder, Rows, SERVER_THREAD, Server, rows};
use crate::world::{ISSUER, RELAY};

/// When the games begin: at the start of a window.
pub const START: Timestamp = Timestamp::from_seconds(20_834 * 86_400);

/// One attempt for each request: what is lost is lost, unless a game repeats it.
pub const NETWORK: Network =
    Network { timeout: Duration::from_secs(30), attempts: 1, backoff: Duration::from_millis(1) };

/// Both servers, running.
pub struct Servers {
    dir: TempDir,
    /// The time of both.
    pub clock: Arc<MockClock>,
    /// What they saw.
    pub recorder: Recorder,
    /// The issuer itself.
    pub issuer: Arc<Issuer>,
    /// Its base URL.
    pub issuer_url: String,
    /// The relay's.
    pub relay_url: String,
    /// Texts that were sent.
    texts: Arc<Mutex<Vec<String>>>,
    runtime: Option<Runtime>,
}

struct Gateway(Arc<Mutex<Vec<String>>>);

impl TextGateway for Gateway {
    fn send<'a>(&'a self, message: &'a Message<'a>) -> BoxFuture<'a, Result<(), GatewayError>> {
        self.0.lock().unwrap().push(message.words.to_owned());
        Box::pin(async { Ok(()) })
    }
}

/// The issuer's root secret, which its adversary has, with its certificate.
pub fn root() -> (RootSecret, Vec<u8>) {
    secrets::create(&mut StdRng::seed_from_u64(1), ISSUER, START).unwrap()
}

/// Everything that the issuer derives from it.
pub fn issuer_secrets() -> Secrets {
    let (root, ca) = root();
    Secrets::derive(&root, &ca).unwrap()
}

fn relay_root() -> RootSecret {
    RootSecret::from_bytes([2; 32])
}

fn issuer_config(database: &Path, relay_url: String) -> postern_issuer::Config {
    let relay_key = postern_relay::app::identity(&relay_root()).public();
    postern_issuer::Config {
        name: ISSUER.to_owned(),
        listen: "127.0.0.1:0".parse().unwrap(),
        url: format!("https://{ISSUER}"),
        database: format!("sqlite://{}", database.display()),
        secret_key_file: PathBuf::new(),
        tls: None,
        ca_certificate_file: PathBuf::new(),
        gateways: vec![GatewayConfig::Console { file: None }],
        limits: Limits::default(),
        lookup: Lookup { keep_builds: 1000, ..Lookup::default() },
        operation: Default::default(),
        relays: vec![RelayConfig { name: RELAY.to_owned(), url: relay_url, public_key: relay_key, enabled: true }],
    }
}

fn relay_config(database: &Path, issuer: &IdentityKey, issuer_url: String) -> postern_relay::config::Config {
    postern_relay::config::Config {
        name: RELAY.to_owned(),
        listen: "127.0.0.1:0".parse().unwrap(),
        url: format!("https://{RELAY}"),
        database: format!("sqlite://{}", database.display()),
        secret_key_file: PathBuf::new(),
        tls: None,
        enforce: true,
        issuer: IssuerConfig { name: ISSUER.to_owned(), url: issuer_url, public_key: issuer.public() },
        limits: postern_relay::config::Limits::default(),
        replies: postern_protocol::reply::ReplyPolicy::default(),
        operation: Default::default(),
    }
}

impl Servers {
    /// Fresh ones.
    pub fn fresh() -> Self {
        Self::with_key(Self::start(tempfile::tempdir().unwrap(), START, 2, Some(format!("https://{RELAY}"))))
    }

    /// Fresh ones whose relay can be found under the URL that the issuer says.
    pub fn reachable() -> Self {
        Self::with_key(Self::start(tempfile::tempdir().unwrap(), START, 2, None))
    }

    /// As [`Self::reachable`], with this seed, and in memory where there is a place for that.
    pub fn seeded(seed: u64) -> Self {
        Self::with_key(Self::start(in_memory(), START, seed, None))
    }

    fn with_key(self) -> Self {
        self.rotate_key_now();
        self
    }

    /// Makes a new key for tokens. Not from within a runtime.
    pub fn rotate_key_now(&self) {
        let issuer = Arc::clone(&self.issuer);
        self.on_server(async move { keys::rotate(&issuer, 86_400).await.unwrap() });
    }

    /// Others, on copies of the files of these.
    pub fn copy(&self, seed: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for file in [self.issuer_db(), self.relay_db()] {
            Connection::open(&file).unwrap().query_row("pragma wal_checkpoint(truncate)", [], |_| Ok(())).unwrap();
            std::fs::copy(&file, dir.path().join(file.file_name().unwrap())).unwrap();
        }
        Self::start(dir, self.clock.now(), seed, Some(format!("https://{RELAY}")))
    }

    /// Without a URL the relay is said to be where it is.
    fn start(dir: TempDir, now: Timestamp, seed: u64, relay_named: Option<String>) -> Self {
        let runtime =
            Builder::new_multi_thread().worker_threads(1).thread_name(SERVER_THREAD).enable_all().build().unwrap();
        let clock = Arc::new(MockClock::new(now));
        let recorder = Recorder::new(Arc::clone(&clock));
        let texts = Arc::default();
        let (relay_listener, relay_url) = runtime.block_on(Counting::bind());
        let relay_named = relay_named.unwrap_or_else(|| relay_url.clone());
        let parts = Parts {
            config: issuer_config(&dir.path().join("issuer.db"), relay_named),
            secrets: issuer_secrets(),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            random: Randomness::seeded(seed),
            gateways: Gateways::one(Box::new(Gateway(Arc::clone(&texts)))),
        };
        let (issuer_listener, issuer_url) = runtime.block_on(Counting::bind());
        let relay_config = relay_config(&dir.path().join("relay.db"), &issuer_secrets().identity, issuer_url.clone());
        let rng: postern_relay::app::RngFactory = Arc::new(move || Box::new(StdRng::seed_from_u64(seed)));
        let relay_clock = Arc::clone(&clock) as Arc<dyn Clock>;
        let issuer = runtime.block_on(async {
            let issuer = Issuer::open(parts).await.unwrap();
            let relay = App::open(relay_config, &relay_root(), relay_clock, rng).await.unwrap();
            serve(issuer_listener, recorder.around(Server::Issuer, router(Arc::clone(&issuer))));
            serve(relay_listener, recorder.around(Server::Relay, relay.router()));
            issuer
        });
        Self { dir, clock, recorder, issuer, issuer_url, relay_url, texts, runtime: Some(runtime) }
    }

    /// Runs something on the servers' threads, to its end. Not from within another runtime.
    pub fn on_server<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        self.runtime.as_ref().unwrap().block_on(work)
    }

    /// Builds the directory anew.
    pub async fn build_directory(&self) {
        let issuer = Arc::clone(&self.issuer);
        let building = async move { directory::build(&issuer).await.unwrap().unwrap() };
        self.runtime.as_ref().unwrap().spawn(building).await.unwrap();
    }

    /// The same outside of any runtime.
    pub fn build_directory_now(&self) {
        let issuer = Arc::clone(&self.issuer);
        self.on_server(async move { directory::build(&issuer).await.unwrap().unwrap() });
    }

    /// The digits of the last text.
    pub fn last_code(&self) -> String {
        let texts = self.texts.lock().unwrap();
        texts.last().unwrap().strip_prefix("Your Postern code is ").unwrap().to_owned()
    }

    /// The issuer's database.
    pub fn issuer_db(&self) -> PathBuf {
        self.dir.path().join("issuer.db")
    }

    /// The relay's.
    pub fn relay_db(&self) -> PathBuf {
        self.dir.path().join("relay.db")
    }

    /// All rows of both; the tables' names do not collide but for the migrations'.
    pub fn rows(&self) -> Rows {
        let mut all = rows(&self.issuer_db());
        let relay = rows(&self.relay_db());
        all.extend(relay.into_iter().map(|((table, rowid), row)| ((format!("relay.{table}"), rowid), row)));
        all
    }

    /// A client as people have it, with an account.
    pub async fn client(&self, dir: &Path, name: &str, phone: &str) -> Client<Arc<MockClock>, StdRng> {
        let (path, mut rng) = (Profile::path(dir, name).unwrap(), StdRng::seed_from_u64(name.len() as u64));
        let profile = Profile::create(&path, name, KdfParams::CHEAP, &mut rng, &Patience::NONE).unwrap();
        let mut client = Client::new(profile, Arc::clone(&self.clock), rng, NETWORK);
        client.start_registration(&self.issuer_url, phone.parse().unwrap(), None, None).await.unwrap();
        client.verify_code(Some(&self.last_code()), name).await.unwrap();
        client
    }

    /// The anonymous channel of somebody.
    pub fn anonymous(&self) -> Anonymous {
        Anonymous::new(Route::Direct, NETWORK)
    }

    /// The authenticated channel of one run of somebody's command.
    pub fn authenticated(&self) -> Authenticated {
        Authenticated::new(NETWORK)
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn serve(listener: Counting, app: axum::Router) {
    let app = app.into_make_service_with_connect_info::<super::capture::Number>();
    tokio::spawn(async move { axum::serve(listener, app).await });
}

/// A directory in memory, if this machine has a place for one.
fn in_memory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}
