//! What is logged of texts. In a process of their own: what a test sees of the log depends on who else listens.

mod world;

use std::io::Write;
use std::sync::{Arc, Mutex};

use postern_issuer::config::{GatewayConfig, KannelConfig};
use postern_protocol::problem::ProblemKind;
use world::Person;
use world::providers::{Two, UNROUTABLE, password_file};

/// Everything that is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Of this thread, at trace level, for as long as the guard is held.
    fn listen() -> (Self, tracing::subscriber::DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    fn read(&self) -> String {
        let bytes = self.0.lock().map(|bytes| bytes.clone()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().map_err(|_| std::io::Error::other("poisoned"))?.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_log_at_any_level_has_a_number_a_code_a_password_or_the_address_of_a_report() {
    let (log, _guard) = Log::listen();
    let two = Two::with(|config, dir| {
        let kannel = KannelConfig {
            name: "kannel".to_owned(),
            url: "http://127.0.0.1:9/cgi-bin/sendsms".to_owned(),
            user: "postern".to_owned(),
            password_file: password_file(dir),
            from: "Postern".to_owned(),
            countries: Vec::new(),
            timeout_seconds: 1,
            reports: None,
            plain_http: false,
        };
        config.gateways.insert(0, GatewayConfig::Kannel(kannel));
    })
    .await;
    let alice = Person::new(&two.world, 1);
    two.first.then(&[UNROUTABLE, Some((500, "+41791000001")), None]);
    for _ in 0..4 {
        assert_eq!(two.ask(&alice, None).await.status, 200);
    }
    let asked = two.second.last();
    two.report(&asked.report(), "MessageStatus=failed&To=%2B41791000001").await;
    for _ in 0..2 {
        two.ask(&alice, None).await;
    }
    let logged = log.read();
    for said in ["was not accepted", "was refused", "left alone", "was not delivered", "kannel"] {
        assert!(logged.contains(said), "{said}: {logged}");
    }
    let sealed = asked.report().rsplit('/').next().unwrap().to_owned();
    for secret in ["41791000001", "791000001", &asked.code(), "auth-token-1", &asked.authorization[6..], &sealed] {
        assert!(!logged.contains(secret), "{secret}: {logged}");
    }
}

#[tokio::test]
async fn the_operator_is_told_once_that_the_budget_is_used_up_and_where_somebody_pumps_without_a_number() {
    let (log, _guard) = Log::listen();
    let two = Two::with(|config, _| {
        config.limits.texts_per_day = 4;
        config.limits.unanswered_texts_per_prefix = 3;
    })
    .await;
    let mut refused = Vec::new();
    for n in [1, 2, 3, 4, 5, 20_000, 30_000, 40_000] {
        let reply = two.ask(&Person::new(&two.world, n), None).await;
        refused.extend((reply.status != 200).then(|| reply.problem()));
    }
    let (limit, budget) = (ProblemKind::TextLimit, ProblemKind::TextBudget);
    assert_eq!(refused, [limit, limit, budget, budget]);
    let logged = log.read();
    assert_eq!(logged.matches("texts_per_day is used up").count(), 1, "{logged}");
    assert_eq!(logged.matches("texts are refused").count(), 1, "{logged}");
    assert!(!logged.contains("4179"), "{logged}");
}
