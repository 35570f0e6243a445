//! What is counted for whoever operates the relay: the economy of the tokens as a whole, and nobody's part in it.
//!
//! What must add up with the ledger is counted after the commit that made it so; a request that changed nothing is not. Declining is counted
//! as a release, and under its route: nothing in here tells the two apart (M37).

use futures::future::BoxFuture;
use postern_operate::{
    Counter, Family, Gauge, Health, Histogram, Labels, Metrics, NotReady, Operated, Registry, Requests,
};
use postern_protocol::exchange::EXCHANGE_PATH;
use postern_protocol::operate::{HEALTH_PATH, READY_PATH};
use postern_protocol::prekeys::OWN_PREKEYS_PATH;
use postern_protocol::problem::ProblemKind;
use postern_protocol::release::{ACK_PATH, DECLINE_PATH, RELEASE_PATH, SPAM_PATH};
use postern_protocol::reply::{REPLY_KEYS_PATH, REVEALS_PATH, STRIKES_PATH};
use postern_protocol::send::{
    EVENTS_PATH, MAILBOXES_PATH, MESSAGES_PATH, OPENAPI_PATH, OWN_CARD_PATH, RELAY_INFO_PATH,
};
use postern_store::StoreError;

use crate::app::App;
use crate::config::Config;
use crate::db::measure::{self, Measured};
use crate::db::send::TokenState;

/// Every route, and the word it is counted under.
const ROUTES: &[(&str, &str)] = &[
    (HEALTH_PATH, HEALTH_PATH),
    (READY_PATH, READY_PATH),
    (RELAY_INFO_PATH, RELAY_INFO_PATH),
    (OPENAPI_PATH, OPENAPI_PATH),
    (MAILBOXES_PATH, MAILBOXES_PATH),
    ("/v1/mailboxes/{mailbox}/messages", "/v1/mailboxes/{mailbox}/messages"),
    ("/v1/mailboxes/{mailbox}/card", "/v1/mailboxes/{mailbox}/card"),
    ("/v1/mailboxes/{mailbox}/prekey", "/v1/mailboxes/{mailbox}/prekey"),
    (OWN_CARD_PATH, OWN_CARD_PATH),
    (OWN_PREKEYS_PATH, OWN_PREKEYS_PATH),
    (REPLY_KEYS_PATH, REPLY_KEYS_PATH),
    (STRIKES_PATH, STRIKES_PATH),
    (REVEALS_PATH, REVEALS_PATH),
    (ACK_PATH, ACK_PATH),
    (RELEASE_PATH, RELEASE_PATH),
    (DECLINE_PATH, RELEASE_PATH),
    (SPAM_PATH, SPAM_PATH),
    (EXCHANGE_PATH, EXCHANGE_PATH),
    (MESSAGES_PATH, MESSAGES_PATH),
    (EVENTS_PATH, EVENTS_PATH),
];

/// Upper bounds of what groups of messages are counted in.
const GROUPS: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// All that is counted. Cloning shares it.
#[derive(Clone)]
pub(crate) struct Counters {
    pub(crate) requests: Requests,
    /// Tokens that paid for a message.
    pub(crate) spent: Counter,
    /// Tokens given back by their recipients, declining included.
    pub(crate) released: Counter,
    /// Tokens burnt as spam.
    pub(crate) burnt: Counter,
    /// Exchanges that were begun, given up, and done.
    pub(crate) exchanges_begun: Counter,
    pub(crate) exchanges_given_up: Counter,
    pub(crate) exchanged: Counter,
    /// Replies that were taken, struck ones included.
    pub(crate) replies: Counter,
    pub(crate) acknowledged: Counter,
    pub(crate) expired: Counter,
    pub(crate) mailboxes_opened: Counter,
    unenforced: Family<Labels<1>, Counter>,
    /// Sends and lists of verdicts in one transaction.
    pub(crate) groups: Histogram,
    measured: Gauges,
}

/// What is counted from the tables when a picture is taken.
#[derive(Clone, Default)]
struct Gauges {
    ledger: Family<Labels<1>, Gauge>,
    stuck: Gauge,
    mailboxes: Gauge,
    queued_messages: Gauge,
    queued_bytes: Gauge,
    connections: Gauge,
    waiting_readers: Gauge,
}

impl Counters {
    /// All at zero, and the port's side of them.
    pub(crate) fn new(config: &Config) -> (Self, Metrics) {
        let mut registry = Registry::with_prefix("postern_relay");
        let requests = Requests::new(&mut registry, ROUTES);
        let mut counter = |name: &str, help: &str| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let counters = Self {
            requests,
            spent: counter("tokens_spent", "Tokens that paid for a message"),
            released: counter("tokens_released", "Tokens given back by their recipients, declining included"),
            burnt: counter("tokens_burnt", "Tokens burnt as spam"),
            exchanges_begun: counter("exchanges_begun", "Exchanges that were begun"),
            exchanges_given_up: counter("exchanges_given_up", "Exchanges that the issuer will never sign"),
            exchanged: counter("tokens_exchanged", "Tokens exchanged for fresh ones"),
            replies: counter("replies", "Messages that a reply credential paid for"),
            acknowledged: counter("messages_acknowledged", "Messages that their recipients have read"),
            expired: counter("messages_expired", "Messages that nobody has read in time"),
            mailboxes_opened: counter("mailboxes_opened", "Mailboxes that were opened"),
            unenforced: Family::default(),
            groups: Histogram::new(GROUPS),
            measured: Gauges::default(),
        };
        registry.register("group_size", "Sends and lists of verdicts in one transaction", counters.groups.clone());
        let help = "Messages that were taken without a token (`enforce = false`), by why they would have been refused";
        registry.register("messages_unenforced", help, counters.unenforced.clone());
        counters.measured.register(&mut registry);
        (counters, Metrics::new(registry, config.operation.metrics_seconds))
    }
}

impl Counters {
    /// A message was taken that would have been refused.
    pub(crate) fn unenforced(&self, reason: ProblemKind) -> u64 {
        self.unenforced.get_or_create(&[("type", reason.slug())]).inc()
    }
}

impl Gauges {
    fn register(&self, registry: &mut Registry) {
        let help = "Tokens in the ledger, by state; of the database, and so the same of all processes";
        registry.register("ledger_tokens", help, self.ledger.clone());
        registry.register("stuck_tokens", "Attached tokens whose message is not queued any more", self.stuck.clone());
        registry.register("mailboxes", "Open mailboxes", self.mailboxes.clone());
        registry.register("queued_messages", "Messages that wait to be read", self.queued_messages.clone());
        registry.register("queued_bytes", "Bytes of their envelopes", self.queued_bytes.clone());
        registry.register("connections", "Connections of this process", self.connections.clone());
        registry.register(
            "waiting_readers",
            "Long polls and event streams of this process",
            self.waiting_readers.clone(),
        );
    }

    fn set(&self, measured: &Measured) {
        for state in TokenState::ALL {
            let counted = measured.ledger.get(state.as_str()).copied().unwrap_or(0);
            self.ledger.get_or_create(&[("state", state.as_str())]).set(counted);
        }
        self.stuck.set(measured.stuck);
        self.mailboxes.set(measured.mailboxes);
        self.queued_messages.set(measured.queued_messages);
        self.queued_bytes.set(measured.queued_bytes);
    }
}

impl Operated for App {
    fn look(&self) -> BoxFuture<'_, Result<(), NotReady>> {
        Box::pin(async {
            let looked: Result<(), StoreError> =
                self.db.glance("ready", |tx| Box::pin(async move { measure::answers(tx).await })).await;
            looked.map_err(|_| NotReady::Database)?;
            self.keys.active(self.clock.now()).map(drop).ok_or(NotReady::NoKey)
        })
    }

    fn health(&self) -> &Health {
        &self.health
    }

    fn metrics(&self) -> BoxFuture<'_, String> {
        let gauges = &self.counters.measured;
        let count = async {
            let measured: Result<Measured, StoreError> =
                self.db.read("measure", |tx| Box::pin(async move { measure::measure(tx).await })).await;
            match measured {
                Ok(measured) => gauges.set(&measured),
                Err(error) => tracing::warn!(%error, "what the tables hold could not be counted"),
            }
            let number = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
            gauges.connections.set(number(postern_listen::open_connections()));
            gauges.waiting_readers.set(number(self.waiters.count()));
        };
        Box::pin(self.metrics.text(self.clock.now(), Box::pin(count)))
    }
}
