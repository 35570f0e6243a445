//! The running relay: what all requests share, the routes, and the tasks beside them.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post, put};
use postern_credentials::blind_token::challenge_digest;
use postern_credentials::identity::IdentityKey;
use postern_credentials::reply_credential::relay_id;
use postern_credentials::seal::SealKey;
use postern_credentials::secrets::RootSecret;
use postern_listen::{Endpoints, Listener};
use postern_operate::{Health, LogError, Metrics, Operated, SecretFileError, health_routes};
use postern_protocol::codec::TooLong;
use postern_protocol::exchange::EXCHANGE_PATH;
use postern_protocol::ids::ChallengeDigest;
use postern_protocol::prekeys::OWN_PREKEYS_PATH;
use postern_protocol::release::{ACK_PATH, DECLINE_PATH, RELEASE_PATH, SPAM_PATH};
use postern_protocol::reply::{REPLY_KEYS_PATH, REVEALS_PATH, STRIKES_PATH};
use postern_protocol::send::{
    EVENTS_PATH, MAILBOXES_PATH, MESSAGES_PATH, OPENAPI_PATH, OWN_CARD_PATH, RELAY_INFO_PATH,
};
use postern_protocol::time::Clock;
use postern_protocol::tokens::TokenChallenge;
use postern_store::{Db, Holder, StoreError};
use rand_core::{CryptoRng, Rng};
use tokio::sync::{Mutex, Semaphore, watch};
use tokio::time::sleep;

use crate::config::{Config, ConfigError};
use crate::metrics::Counters;
use crate::service::epoch_bases::EpochBases;
use crate::service::issuer::IssuerCalls;
use crate::service::keys::KeyRing;
use crate::service::queue::Queue;
use crate::service::retention;
use crate::service::seen::Looks;
use crate::service::waiters::Waiters;
use crate::{db, http};

/// The present, shared by everything.
pub type SharedClock = Arc<dyn Clock>;
/// Makes a generator wherever randomness is needed.
pub type RngFactory = Arc<dyn Fn() -> Box<dyn CryptoRng + Send> + Send + Sync>;

/// How long requests under way are waited for when the relay stops.
const LAST_REQUESTS: Duration = Duration::from_secs(10);
/// Names the derivation of the relay's key from its root secret.
const IDENTITY_LABEL: &str = "relay-identity";
/// The same for the key that seals rows at rest.
const SEAL_LABEL: &str = "relay-seal";

/// Why the relay cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The database.
    #[error("database: {0}")]
    Store(#[from] StoreError),
    /// The HTTP client for the issuer.
    #[error("HTTP client: {0}")]
    Client(#[from] reqwest::Error),
    /// Certificate or key, or the address of the issuer.
    #[error("TLS: {0}")]
    Tls(#[from] postern_tls::TlsError),
    /// Nothing to listen at.
    #[error(transparent)]
    Listen(#[from] postern_listen::ListenError),
    /// A name that does not fit into a token challenge.
    #[error("token challenge: {0}")]
    Challenge(#[from] TooLong),
    /// Listening, or the key file.
    #[error("{0}: {1}")]
    Io(String, std::io::Error),
    /// A file with a secret.
    #[error(transparent)]
    Secret(#[from] SecretFileError),
    /// The filter of logs.
    #[error(transparent)]
    Log(#[from] LogError),
    /// `doctor` has found something.
    #[error("something is broken; see above")]
    Ill,
    /// The key file does not hold 32 bytes in base64url.
    #[error("{0} does not hold a key: 32 bytes, base64url")]
    Key(String),
}

/// The relay. Cloning shares it.
#[derive(Clone)]
pub struct App(Arc<State>);

/// What all requests share.
pub struct State {
    pub(crate) config: Config,
    pub(crate) db: Db,
    pub(crate) clock: SharedClock,
    pub(crate) rng: RngFactory,
    /// This process, as leases and bells name it.
    pub(crate) holder: Holder,
    /// Seals group secrets and revealed seeds at rest.
    pub(crate) seal: SealKey,
    pub(crate) keys: KeyRing,
    pub(crate) issuer: IssuerCalls,
    pub(crate) challenge: TokenChallenge,
    pub(crate) challenge_digest: ChallengeDigest,
    /// This relay, as presentations name it.
    pub(crate) relay_id: [u8; 32],
    /// Held while strikes are derived from revealed seeds, so that it is done once.
    pub(crate) expanding: Mutex<()>,
    pub(crate) epoch_bases: EpochBases,
    pub(crate) looks: Looks,
    pub(crate) queue: Queue,
    pub(crate) waiters: Waiters,
    pub(crate) permits: Semaphore,
    pub(crate) endpoints: Endpoints,
    pub(crate) counters: Counters,
    pub(crate) metrics: Metrics,
    pub(crate) health: Health,
    /// Turns true when the relay stops: readers that wait are sent home.
    pub(crate) stopping: watch::Receiver<bool>,
    stop: watch::Sender<bool>,
}

impl Deref for App {
    type Target = State;
    fn deref(&self) -> &State {
        &self.0
    }
}

/// The relay's own key, which the issuer has pinned.
pub fn identity(root: &RootSecret) -> IdentityKey {
    IdentityKey::from_seed(*root.derive(IDENTITY_LABEL))
}

impl App {
    /// Opens the database and makes everything ready; listens nowhere yet. Identity and seal key are derived from the root secret.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn open(
        config: Config,
        root: &RootSecret,
        clock: SharedClock,
        rng: RngFactory,
    ) -> Result<Self, StartError> {
        config.check()?;
        let db = Db::open(&config.database, db::MIGRATIONS).await?;
        let replies = config.replies;
        if !db.run("reply_policy", |tx| Box::pin(async move { db::reply::is_policy(tx, &replies).await })).await? {
            let rule = "`replies.epoch_seconds` and `replies.period_seconds` cannot be changed once the relay has run";
            return Err(ConfigError::Invalid(rule).into());
        }
        let keys = KeyRing::load(db.clone(), Arc::clone(&clock)).await?;
        let issuer = IssuerCalls::new(&config, identity(root), Arc::clone(&clock), Arc::clone(&rng))?;
        let challenge = TokenChallenge::for_relay(&config.issuer.name, &config.name);
        let (stop, stopping) = watch::channel(false);
        let mut holder = Holder::default();
        rng().fill_bytes(&mut holder);
        let limits = &config.limits;
        let (counters, metrics) = Counters::new(&config);
        Ok(Self(Arc::new(State {
            challenge_digest: challenge_digest(&challenge)?,
            relay_id: relay_id(&config.name),
            seal: SealKey::new(*root.derive(SEAL_LABEL)),
            expanding: Mutex::new(()),
            epoch_bases: EpochBases::default(),
            looks: Looks::start(&db, limits),
            queue: Queue::start(&db, limits, holder, &counters),
            waiters: Waiters::new(limits.waiting_readers, limits.waiting_readers_per_mailbox),
            permits: Semaphore::new(limits.concurrent_requests.min(Semaphore::MAX_PERMITS)),
            endpoints: Endpoints::new(limits.requests_per_endpoint),
            counters,
            metrics,
            health: Health::default(),
            config,
            db,
            clock,
            rng,
            holder,
            keys,
            issuer,
            challenge,
            stopping,
            stop,
        })))
    }

    /// All endpoints. Whatever they refuse, they refuse with a problem document.
    pub fn router(&self) -> Router {
        let waiting =
            Router::new().route(MESSAGES_PATH, get(http::read::messages)).route(EVENTS_PATH, get(http::read::events));
        let prompt = Router::new()
            .route(RELAY_INFO_PATH, get(http::mailbox::info))
            .route(OPENAPI_PATH, get(http::mailbox::openapi))
            .route(MAILBOXES_PATH, post(http::mailbox::open))
            .route(&format!("{MAILBOXES_PATH}/{{mailbox}}/messages"), post(http::send::send))
            .route(&format!("{MAILBOXES_PATH}/{{mailbox}}/card"), get(http::card::fetch))
            .route(OWN_CARD_PATH, put(http::card::publish))
            .route(&format!("{MAILBOXES_PATH}/{{mailbox}}/prekey"), post(http::prekeys::claim))
            .route(OWN_PREKEYS_PATH, get(http::prekeys::look).put(http::prekeys::add))
            .route(REPLY_KEYS_PATH, put(http::reply::keys))
            .route(STRIKES_PATH, post(http::reply::strikes))
            .route(REVEALS_PATH, post(http::reply::reveal))
            .route(ACK_PATH, post(http::release::acknowledge))
            .route(RELEASE_PATH, post(http::release::release))
            // The relay does the same for both, and keeps nothing that tells them apart (M37).
            .route(DECLINE_PATH, post(http::release::release))
            .route(SPAM_PATH, post(http::release::spam))
            .route(EXCHANGE_PATH, post(http::exchange::exchange))
            .route_layer(from_fn_with_state(self.clone(), http::guard::bounded));
        prompt
            .merge(waiting)
            .merge(health_routes(self.operated()))
            .fallback(http::problem::not_found)
            .method_not_allowed_fallback(http::problem::method_not_allowed)
            .layer(tower_http::catch_panic::CatchPanicLayer::custom(http::problem::panicked))
            .layer(from_fn_with_state(self.clone(), http::guard::outermost))
            .with_state(self.clone())
    }

    /// The relay as the port for metrics sees it.
    pub fn operated(&self) -> Arc<dyn Operated> {
        Arc::new(self.clone())
    }

    /// One round of housekeeping: what is too old is forgotten, unless another process sees to that. [`Self::serve`] does it regularly.
    ///
    /// # Errors
    /// [`StoreError`]; the next round goes on.
    pub async fn sweep(&self) -> Result<(), StoreError> {
        retention::sweep(self).await
    }

    /// Asks the issuer for its keys now. [`Self::serve`] does it regularly.
    pub async fn refresh_keys(&self) {
        self.keys.refresh(&self.issuer).await;
    }

    /// Serves until `shutdown`; then ends long polls and event streams, waits for requests under way, and closes the database.
    pub async fn serve(self, listener: impl Into<Listener>, shutdown: impl Future<Output = ()> + Send + 'static) {
        let beside = tokio::spawn(self.clone().beside());
        let app = self.clone();
        let told = async move {
            shutdown.await;
            app.health.stop();
            app.stop.send_replace(true);
        };
        tokio::select! {
            () = postern_listen::serve(listener, self.router(), self.config.limits.bounds(), told) => {}
            () = self.overdue() => {}
        }
        self.stop.send_replace(true);
        drop(beside.await);
        self.db.close().await;
    }

    async fn stopped(&self) {
        // The sender lives as long as the relay.
        drop(self.stopping.clone().wait_for(|stop| *stop).await);
    }

    /// Some time after the relay was told to stop.
    async fn overdue(&self) {
        self.stopped().await;
        sleep(LAST_REQUESTS).await;
    }

    /// What runs beside the requests, until the relay stops.
    async fn beside(self) {
        let (refresh, housekeeping) = (self.config.limits.key_refresh_seconds, self.config.limits.housekeeping_seconds);
        let keys = async {
            loop {
                self.refresh_keys().await;
                sleep(Duration::from_secs(refresh)).await;
            }
        };
        let sweeps = async {
            loop {
                if let Err(error) = self.sweep().await {
                    tracing::warn!(%error, "housekeeping failed");
                }
                sleep(Duration::from_secs(housekeeping)).await;
            }
        };
        tokio::select! {
            () = keys => {}
            () = sweeps => {}
            () = crate::service::watch::run(&self) => {}
            () = self.stopped() => {}
        }
        retention::leave(&self).await;
    }
}
