//! The issuer as one value, its routes, and serving them.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post, put};
use postern_listen::{Endpoints, Listener};
use postern_operate::{Health, Metrics, health_routes};
use postern_protocol::time::{Clock, Timestamp};
use postern_protocol::{directory, internal, log, login, lookup, register, send, texts, tokens};
use postern_store::{Db, Holder, StoreError};
use rand_core::Rng;
use tokio::sync::{Mutex, MutexGuard, Semaphore, watch};
use tower_http::catch_panic::CatchPanicLayer;

use crate::config::Config;
use crate::db::{self, MIGRATIONS};
use crate::gateway::Gateways;
use crate::http;
use crate::metrics::{Counters, operated};
use crate::random::Randomness;
use crate::secrets::Secrets;
use crate::service::keys::KeyCache;
use crate::service::log::Tree;
use crate::service::pumping::Pumping;
use crate::service::texts::Told;
use crate::service::{self, housekeeping};

/// How long requests under way may take once the process was asked to stop.
const STOP_GRACE: Duration = Duration::from_secs(10);

/// What an issuer is made of. Tests hand in a clock that stands still, seeded randomness and a gateway that listens.
pub struct Parts {
    /// A checked configuration.
    pub config: Config,
    /// The keys.
    pub secrets: Secrets,
    /// The present.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Randomness,
    /// Where texts go.
    pub gateways: Gateways,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Parts(..)")
    }
}

/// The issuer: configuration, keys, database, and what little it keeps in memory.
pub struct Issuer {
    /// As loaded.
    pub config: Config,
    pub(crate) secrets: Secrets,
    pub(crate) db: Db,
    pub(crate) random: Randomness,
    /// This process, as leases name it.
    pub(crate) holder: Holder,
    pub(crate) gateways: Gateways,
    pub(crate) pumping: Pumping,
    pub(crate) told: Told,
    pub(crate) signing_keys: KeyCache,
    pub(crate) lanes: Lanes,
    pub(crate) permits: Semaphore,
    pub(crate) endpoints: Endpoints,
    pub(crate) decoy: Decoy,
    pub(crate) log: Tree,
    pub(crate) counters: Counters,
    pub(crate) metrics: Metrics,
    pub(crate) health: Health,
    clock: Arc<dyn Clock>,
}

/// Why an issuer cannot start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The database cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Look-up tokens would be counted otherwise than before.
    #[error("`lookup.window_seconds` cannot be changed once the issuer has run")]
    Windows,
}

impl Issuer {
    /// Opens the database and brings its schema up to date.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(parts: Parts) -> Result<Arc<Self>, OpenError> {
        let Parts { config, secrets, clock, random, gateways } = parts;
        let db = Db::open(&config.database, MIGRATIONS).await?;
        let window = config.lookup.window_seconds;
        let is_known = db
            .run("length of windows", |tx| Box::pin(async move { db::lookup::are_windows(tx, window).await }))
            .await
            .map_err(OpenError::Store)?;
        if !is_known {
            return Err(OpenError::Windows);
        }
        let context = [0; 32];
        let decoy = Decoy { context, sealed: secrets.verifiers.seal(&mut random.generator(), &context, &[0; 32]) };
        let permits = Semaphore::new(config.limits.concurrent_requests);
        let endpoints = Endpoints::new(config.limits.requests_per_endpoint);
        let mut holder = Holder::default();
        random.generator().fill_bytes(&mut holder);
        let (counters, metrics) = Counters::new(&config);
        let (signing_keys, lanes, log) = (KeyCache::default(), Lanes::default(), Tree::default());
        Ok(Arc::new(Self {
            config,
            secrets,
            db,
            random,
            holder,
            gateways,
            pumping: Pumping::default(),
            told: Told::default(),
            signing_keys,
            lanes,
            permits,
            endpoints,
            decoy,
            log,
            counters,
            metrics,
            health: Health::default(),
            clock,
        }))
    }

    /// The present.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Closes the database after the transactions under way.
    pub async fn close(&self) {
        self.db.close().await;
    }
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issuer").field("name", &self.config.name).finish_non_exhaustive()
    }
}

/// A sealed verifier of nobody, opened where a stranger's would be.
pub(crate) struct Decoy {
    pub(crate) context: [u8; 32],
    pub(crate) sealed: Vec<u8>,
}

/// Lets requests of the same name go one after the other. Different names may share a lane; there are enough.
pub(crate) struct Lanes(Vec<Mutex<()>>);

impl Default for Lanes {
    fn default() -> Self {
        Self((0..=u8::MAX).map(|_| Mutex::new(())).collect())
    }
}

impl Lanes {
    /// Waits for the lane of `name`; held until the guard is dropped.
    pub(crate) async fn enter(&self, name: &[u8; 32]) -> Option<MutexGuard<'_, ()>> {
        let [first, ..] = name;
        match self.0.get(usize::from(*first)) {
            Some(lane) => Some(lane.lock().await),
            None => None,
        }
    }
}

/// Every endpoint of the issuer.
pub fn router(issuer: Arc<Issuer>) -> Router {
    Router::new()
        .route(register::ISSUER_INFO_PATH, get(http::keys::info))
        .route(send::OPENAPI_PATH, get(http::keys::openapi))
        .route(register::COUNTERS_PATH, get(http::keys::counters))
        .route(tokens::DIRECTORY_PATH, get(http::keys::directory))
        .route(register::CODE_PATH, post(http::register::code))
        .route(texts::REPORT_PATH, get(http::texts::query).post(http::texts::form))
        .route(register::REGISTRATION_PATH, post(http::register::register))
        .route(tokens::TOKEN_REQUEST_PATH, post(http::tokens::request))
        .route(login::CHALLENGE_PATH, post(http::login::challenge))
        .route(login::LOGIN_PATH, post(http::login::login))
        .route(login::JWT_PATH, post(http::sessions::jwt))
        .route(login::SESSIONS_PATH, get(http::sessions::list))
        .route(login::REVOKE_PATH, post(http::sessions::revoke))
        .route(login::ACCOUNT_PATH, get(http::sessions::account).delete(http::sessions::delete_account))
        .route(directory::LISTING_PATH, put(http::sessions::listing))
        .route(lookup::ALLOWANCE_PATH, get(http::sessions::lookups))
        .route(lookup::LOOKUP_PATH, get(http::lookup::info).post(http::lookup::evaluate))
        .route(directory::MANIFEST_PATH, get(http::directory::manifest))
        .route("/v1/directory/{build}/fingerprints/{bucket}", get(http::directory::fingerprints))
        .route("/v1/directory/{build}/records/{bucket}", get(http::directory::records))
        .route("/v1/directory/{build}/filter", get(http::directory::filter))
        .route("/v1/directory/{build}/delta", get(http::directory::delta))
        .route(log::LOG_PATH, get(http::log::head))
        .route(log::CONSISTENCY_PATH, get(http::log::consistency))
        .route(log::INCLUSION_PATH, get(http::log::inclusion))
        .route(log::ENTRIES_PATH, get(http::log::entries))
        .route(internal::KEYS_PATH, post(http::exchange::keys))
        .route(internal::SIGN_PATH, post(http::exchange::sign))
        .merge(health_routes(operated(&issuer)))
        .fallback(http::not_found)
        .method_not_allowed_fallback(http::method_not_allowed)
        .layer(from_fn_with_state(Arc::clone(&issuer), http::guard))
        .layer(CatchPanicLayer::custom(http::panicked))
        .with_state(issuer)
}

/// Serves until `stop` completes, then finishes the requests under way, for a while.
pub async fn serve(
    issuer: Arc<Issuer>,
    listener: impl Into<Listener>,
    stop: impl Future<Output = ()> + Send + 'static,
) {
    let (stopping, mut stopped) = watch::channel(false);
    let stopping = Arc::new(stopping);
    let (told, stops) = (Arc::clone(&stopping), Arc::clone(&issuer));
    let stop = async move {
        stop.await;
        stops.health.stop();
        told.send_replace(true);
    };
    let cleaner = tokio::spawn(housekeeping::run(Arc::clone(&issuer), stopped.clone()));
    let builder = tokio::spawn(service::directory::run(Arc::clone(&issuer), stopped.clone()));
    let bounds = issuer.config.limits.bounds();
    let serving = postern_listen::serve(listener, router(Arc::clone(&issuer)), bounds, stop);
    let too_long = async {
        until_told(&mut stopped).await;
        tokio::time::sleep(STOP_GRACE).await;
    };
    tokio::select! {
        () = serving => {}
        () = too_long => {}
    }
    stopping.send_replace(true);
    let _ = tokio::join!(cleaner, builder);
    issuer.close().await;
}

/// Waits until the process is told to stop.
pub(crate) async fn until_told(stopped: &mut watch::Receiver<bool>) {
    // An error is that nobody is left who could tell.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}
