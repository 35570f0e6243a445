//! What is counted for whoever operates the issuer: how much of everything, and never whose.
//!
//! What must add up with the tables is counted after the commit that made it so; a request that changed nothing is not.

use std::sync::Arc;

use futures::future::BoxFuture;
use postern_operate::{Counter, Family, Gauge, Health, Labels, Metrics, NotReady, Operated, Registry, Requests};
use postern_protocol::operate::{HEALTH_PATH, READY_PATH};
use postern_protocol::{directory, internal, log, login, lookup, register, send, tokens};
use postern_store::StoreError;

use crate::app::Issuer;
use crate::config::Config;
use crate::db::measure::{self, Measured};
use crate::service::keys;

/// Every route, and the word it is counted under.
const ROUTES: &[(&str, &str)] = &[
    (HEALTH_PATH, HEALTH_PATH),
    (READY_PATH, READY_PATH),
    (register::ISSUER_INFO_PATH, register::ISSUER_INFO_PATH),
    (send::OPENAPI_PATH, send::OPENAPI_PATH),
    (register::COUNTERS_PATH, register::COUNTERS_PATH),
    (tokens::DIRECTORY_PATH, tokens::DIRECTORY_PATH),
    (register::CODE_PATH, register::CODE_PATH),
    (register::REGISTRATION_PATH, register::REGISTRATION_PATH),
    (tokens::TOKEN_REQUEST_PATH, tokens::TOKEN_REQUEST_PATH),
    (login::CHALLENGE_PATH, login::CHALLENGE_PATH),
    (login::LOGIN_PATH, login::LOGIN_PATH),
    (login::JWT_PATH, login::JWT_PATH),
    (login::SESSIONS_PATH, login::SESSIONS_PATH),
    (login::REVOKE_PATH, login::REVOKE_PATH),
    (login::ACCOUNT_PATH, login::ACCOUNT_PATH),
    (directory::LISTING_PATH, directory::LISTING_PATH),
    (lookup::ALLOWANCE_PATH, lookup::ALLOWANCE_PATH),
    (lookup::LOOKUP_PATH, lookup::LOOKUP_PATH),
    (directory::MANIFEST_PATH, directory::MANIFEST_PATH),
    ("/v1/directory/{build}/fingerprints/{bucket}", "/v1/directory/{build}/fingerprints/{bucket}"),
    ("/v1/directory/{build}/records/{bucket}", "/v1/directory/{build}/records/{bucket}"),
    ("/v1/directory/{build}/filter", "/v1/directory/{build}/filter"),
    ("/v1/directory/{build}/delta", "/v1/directory/{build}/delta"),
    (log::LOG_PATH, log::LOG_PATH),
    (log::CONSISTENCY_PATH, log::CONSISTENCY_PATH),
    (log::INCLUSION_PATH, log::INCLUSION_PATH),
    (log::ENTRIES_PATH, log::ENTRIES_PATH),
    (internal::KEYS_PATH, internal::KEYS_PATH),
    (internal::SIGN_PATH, internal::SIGN_PATH),
];

/// All that is counted. Cloning shares it.
#[derive(Clone)]
pub(crate) struct Counters {
    pub(crate) requests: Requests,
    /// Tokens signed for accounts.
    pub(crate) issued: Counter,
    /// Tokens signed for exchanges at relays.
    pub(crate) exchanged: Counter,
    registrations: Family<Labels<1>, Counter>,
    texts: Family<Labels<1>, Counter>,
    /// Logins that opened a session.
    pub(crate) logins: Counter,
    /// Look-up tokens that were issued, and those that were spent.
    pub(crate) lookup_tokens: Counter,
    pub(crate) lookups: Counter,
    measured: Gauges,
}

/// What is counted from the tables when a picture is taken.
#[derive(Clone, Default)]
struct Gauges {
    signed: Family<Labels<1>, Gauge>,
    accounts: Gauge,
    sessions: Gauge,
    connections: Gauge,
}

impl Counters {
    /// All at zero, and the port's side of them.
    pub(crate) fn new(config: &Config) -> (Self, Metrics) {
        let mut registry = Registry::with_prefix("postern_issuer");
        let requests = Requests::new(&mut registry, ROUTES);
        let mut counter = |name: &str, help: &str| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let counters = Self {
            requests,
            issued: counter("tokens_issued", "Tokens signed for accounts"),
            exchanged: counter("tokens_exchanged", "Tokens signed for exchanges at relays"),
            logins: counter("logins", "Logins that opened a session"),
            lookup_tokens: counter("lookup_tokens_issued", "Look-up tokens that were issued"),
            lookups: counter("lookups", "Numbers that were looked up, one look-up token each"),
            registrations: Family::default(),
            texts: Family::default(),
            measured: Gauges::default(),
        };
        let help = "Registrations, of numbers that never had an account and of others";
        registry.register("registrations", help, counters.registrations.clone());
        registry.register("texts", "Codes handed to a gateway, and those that none took", counters.texts.clone());
        let gauges = &counters.measured;
        let help = "Tokens ever signed, by what for; of the database, and so the same of all processes";
        registry.register("signed_tokens", help, gauges.signed.clone());
        registry.register("accounts", "Numbers that have had an account", gauges.accounts.clone());
        registry.register("sessions", "Sessions that are kept", gauges.sessions.clone());
        registry.register("connections", "Connections of this process", gauges.connections.clone());
        (counters, Metrics::new(registry, config.operation.metrics_seconds))
    }

    /// A registration was committed.
    pub(crate) fn registered(&self, is_first: bool, tokens: u64) {
        let number = if is_first { "new" } else { "known" };
        self.registrations.get_or_create(&[("number", number)]).inc();
        self.issued.inc_by(tokens);
    }

    /// A gateway has taken a text, or none has.
    pub(crate) fn texted(&self, was_taken: bool) {
        let outcome = if was_taken { "sent" } else { "failed" };
        self.texts.get_or_create(&[("outcome", outcome)]).inc();
    }
}

/// The issuer as health and metrics see it.
struct Watched(Arc<Issuer>);

/// The issuer as the port for metrics sees it.
pub fn operated(issuer: &Arc<Issuer>) -> Arc<dyn Operated> {
    Arc::new(Watched(Arc::clone(issuer)))
}

impl Operated for Watched {
    fn look(&self) -> BoxFuture<'_, Result<(), NotReady>> {
        Box::pin(async {
            match keys::can_sign(&self.0).await {
                Ok(true) => Ok(()),
                Ok(false) => Err(NotReady::NoKey),
                Err(_) => Err(NotReady::Database),
            }
        })
    }

    fn health(&self) -> &Health {
        &self.0.health
    }

    fn metrics(&self) -> BoxFuture<'_, String> {
        let issuer = &self.0;
        let gauges = &issuer.counters.measured;
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let count = async move {
            let measured: Result<Measured, StoreError> =
                issuer.db.read("measure", |tx| Box::pin(async move { measure::measure(tx).await })).await;
            match measured {
                Ok(measured) => {
                    gauges.signed.get_or_create(&[("for", "accounts")]).set(number(measured.issued));
                    gauges.signed.get_or_create(&[("for", "exchanges")]).set(number(measured.exchanged));
                    gauges.accounts.set(number(measured.accounts));
                    gauges.sessions.set(number(measured.sessions));
                }
                Err(error) => tracing::warn!(%error, "what the tables hold could not be counted"),
            }
            gauges.connections.set(number(postern_listen::open_connections() as u64));
        };
        Box::pin(issuer.metrics.text(issuer.now(), Box::pin(count)))
    }
}
