//! Health and metrics: what is counted adds up with the tables, changes once a minute, and names nobody.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use futures::future::join_all;
use postern_operate::{METRICS_PATH, serve_metrics};
use postern_protocol::exchange::{EXCHANGE_PATH, ExchangeRequest};
use postern_protocol::ids::MessageId;
use postern_protocol::operate::{HEALTH_PATH, READY_PATH};
use postern_protocol::problem::ProblemKind;
use postern_protocol::release::{ACK_PATH, DECLINE_PATH, MessageList, RELEASE_PATH, SPAM_PATH};
use postern_protocol::send::{Accepted, send_path};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::contacts::{Contact, EPOCH, Owner};
use crate::world::{Mailbox, Reply, World, blinded, envelope, exchange_request, token, token_for};

/// A port for metrics; closed when dropped.
struct Port {
    url: String,
    serving: JoinHandle<()>,
}

impl Port {
    async fn of(world: &World) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        Self { url, serving: tokio::spawn(serve_metrics(listener, world.app.operated())) }
    }

    async fn get(&self, world: &World, path: &str) -> Reply {
        Reply::to(world.http.get(format!("{}{path}", self.url))).await
    }

    /// All samples: name with labels, and value.
    async fn scrape(&self, world: &World) -> BTreeMap<String, f64> {
        let reply = self.get(world, METRICS_PATH).await;
        assert_eq!(reply.status, 200);
        let text = String::from_utf8(reply.body).unwrap();
        assert!(text.ends_with("# EOF\n"), "{text}");
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        samples
            .map(|line| line.rsplit_once(' ').unwrap())
            .map(|(name, n)| (name.to_owned(), n.parse().unwrap()))
            .collect()
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// What the operations of a run came to.
#[derive(Default)]
struct Done {
    requests: u64,
    refused: HashMap<ProblemKind, u64>,
    acknowledged: u64,
}

impl Done {
    fn take(&mut self, reply: &Reply) {
        self.requests += 1;
        if !reply.status.is_success() {
            *self.refused.entry(reply.refusal()).or_default() += 1;
        }
    }
}

async fn list(world: &World, by: &Mailbox, path: &str, messages: &[MessageId]) -> Reply {
    Reply::to(world.post_json(path, &MessageList { messages: messages.to_vec() }).bearer_auth(&by.jwt)).await
}

async fn ask_exchange(world: &World, request: &ExchangeRequest) -> Reply {
    Reply::to(world.post_json(EXCHANGE_PATH, request)).await
}

/// Some ten operations about one token: sent, sent again, sent elsewhere, sent badly, judged, judged again, exchanged, exchanged again, read.
async fn round(world: Arc<World>, to: Mailbox, n: usize) -> (Done, Vec<Reply>) {
    let (world, mut replies) = (&*world, Vec::new());
    let (spendable, text) = (token(0), envelope());
    let sent = world.send(&to.id, &spendable.token, &text).await;
    let message = sent.json::<Accepted>().message;
    replies.push(sent);
    replies.push(world.send(&to.id, &spendable.token, &text).await);
    replies.push(world.send(&to.id, &spendable.token, &envelope()).await);
    let junk = world.http.post(world.at(&send_path(&to.id))).header("content-type", "application/octet-stream");
    replies.push(Reply::to(junk.body(text.clone())).await);
    replies.push(world.send(&to.id, &token_for("elsewhere.test", 0).token, &text).await);
    let exchange = exchange_request(&spendable, 0, blinded(0).0);
    replies.push(ask_exchange(world, &exchange).await);
    let verdict = [Some(RELEASE_PATH), Some(DECLINE_PATH), Some(SPAM_PATH), None][n % 4];
    if let Some(path) = verdict {
        replies.push(list(world, &to, path, &[message]).await);
        replies.push(list(world, &to, path, &[message]).await);
    }
    if matches!(verdict, Some(RELEASE_PATH | DECLINE_PATH)) && n.is_multiple_of(3) {
        replies.push(ask_exchange(world, &exchange).await);
        replies.push(ask_exchange(world, &exchange).await);
    }
    let mut done = Done::default();
    if n.is_multiple_of(2) || n % 8 == 3 {
        replies.push(list(world, &to, ACK_PATH, &[message]).await);
        replies.push(list(world, &to, ACK_PATH, &[message]).await);
        done.acknowledged = 1;
    }
    (done, replies)
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_thousand_mixed_operations_what_is_counted_adds_up_with_the_ledger() {
    let world = Arc::new(World::start().await);
    let port = Port::of(&world).await;
    let mut done = Done::default();
    let boxes = [world.mailbox().await, world.mailbox().await, world.mailbox().await];
    // Rounds run side by side, so that sends and verdicts share transactions.
    for wave in 0..14 {
        let rounds = (0..8).map(|n| tokio::spawn(round(Arc::clone(&world), boxes[n % 3].clone(), wave * 8 + n)));
        for round in join_all(rounds).await {
            let (more, replies) = round.unwrap();
            replies.iter().for_each(|reply| done.take(reply));
            done.acknowledged += more.acknowledged;
        }
    }
    let (bob, alice) = (Owner::new(&world).await, Contact::new());
    for slot in 0..16 {
        let text = envelope();
        let shown = bob.shown(&alice, EPOCH, slot, &text);
        done.take(&bob.send(&world, &shown, &text).await);
        done.take(&bob.send(&world, &shown, &text).await);
        let reused = envelope();
        done.take(&bob.send(&world, &bob.shown(&alice, EPOCH, slot, &reused), &reused).await);
    }
    let full = done.requests + 4 + 1;
    assert!(full >= 1000, "{full}");

    let seen = port.scrape(&world).await;
    let sample = |name: &str| seen.get(&format!("postern_relay_{name}")).copied().unwrap_or(0.0) as i64;
    let rows = |sql: &str| world.count(sql);
    assert_eq!(sample("tokens_spent_total"), rows("select count(*) from ledger where mailbox is not null"));
    let given =
        "select count(*) from ledger where mailbox is not null and state in ('released', 'exchanging', 'exchanged')";
    assert_eq!(sample("tokens_released_total"), rows(given));
    assert_eq!(sample("tokens_burnt_total"), world.ledger("burnt"));
    assert_eq!(sample("tokens_exchanged_total"), world.ledger("exchanged"));
    let begun = sample("exchanges_begun_total") - sample("exchanges_given_up_total");
    assert_eq!(begun, world.ledger("exchanging") + world.ledger("exchanged"));
    assert_eq!(sample("replies_total"), rows("select count(*) from reply_nullifiers"));
    assert_eq!(sample("mailboxes_opened_total"), 4);
    assert_eq!(sample("messages_acknowledged_total"), done.acknowledged as i64);
    for state in ["attached", "released", "burnt", "exchanging", "exchanged"] {
        assert_eq!(sample(&format!("ledger_tokens{{state=\"{state}\"}}")), world.ledger(state), "{state}");
    }
    let unread =
        "select count(*) from ledger where state = 'attached' and nullifier not in (select message from messages)";
    assert_eq!(sample("stuck_tokens"), rows(unread));
    assert!(rows(unread) > 0 && world.ledger("burnt") > 0 && world.ledger("exchanged") > 0, "the run has all of it");
    assert_eq!(sample("queued_messages"), rows("select count(*) from messages"));
    assert_eq!(sample("queued_bytes"), rows("select cast(sum(size) as bigint) from messages"));
    assert_eq!(sample("mailboxes"), 4);
    let total =
        |name: &str| -> i64 { seen.iter().filter(|(key, _)| key.starts_with(name)).map(|(_, n)| *n as i64).sum() };
    assert_eq!(total("postern_relay_requests_total"), full as i64);
    assert_eq!(total("postern_relay_request_seconds_count"), full as i64);
    for (kind, count) in &done.refused {
        let counted: i64 = seen
            .iter()
            .filter(|(key, _)| {
                key.starts_with("postern_relay_refused_total") && key.contains(&format!("\"{}\"", kind.slug()))
            })
            .map(|(_, n)| *n as i64)
            .sum();
        assert_eq!(counted, *count as i64, "{kind:?}");
    }
    assert_eq!(total("postern_relay_refused_total"), done.refused.values().sum::<u64>() as i64);
    world.assert_consistent();
    every_label_is_a_word_that_was_there_before(&seen);
}

/// Labels and their values, from a closed list: routes as templates, methods, statuses, types of problems, states, bounds.
fn every_label_is_a_word_that_was_there_before(seen: &BTreeMap<String, f64>) {
    let document: serde_json::Value = serde_json::from_str(include_str!("../../../docs/openapi/relay.json")).unwrap();
    let mut words: BTreeSet<String> = document["paths"].as_object().unwrap().keys().cloned().collect();
    // Declining cannot be told from releasing.
    assert!(words.remove(DECLINE_PATH));
    words.extend(ProblemKind::ALL.iter().map(|kind| kind.slug().to_owned()));
    words.extend(ProblemKind::ALL.iter().map(|kind| kind.status().to_string()));
    let others = ["200", "201", "204", "304", "other", "GET", "POST", "PUT", "DELETE", "HEAD"];
    let states = ["attached", "released", "burnt", "exchanging", "exchanged"];
    words.extend(others.into_iter().chain(states).map(str::to_owned));
    let mut labels = 0;
    for sample in seen.keys().filter(|sample| sample.contains('{')) {
        let inside = sample.split_once('{').unwrap().1.strip_suffix('}').unwrap();
        for label in inside.split("\",") {
            let (name, value) = label.split_once("=\"").unwrap();
            let value = value.trim_end_matches('"');
            labels += 1;
            match name {
                "le" => assert!(value == "+Inf" || value.parse::<f64>().is_ok(), "{sample}"),
                "route" | "method" | "status" | "type" | "state" => assert!(words.contains(value), "{sample}"),
                _ => panic!("{sample} has a label that nobody has looked at"),
            }
        }
    }
    assert!(labels > 100, "{labels}");
}

#[tokio::test(flavor = "multi_thread")]
async fn between_two_pictures_nobody_sees_that_something_was_sent() {
    let world = World::start().await;
    let (port, bob) = (Port::of(&world).await, world.mailbox().await);
    let before = port.scrape(&world).await;
    world.sent(&bob.id).await;
    assert_eq!(port.scrape(&world).await, before);
    world.clock.advance_seconds(60);
    assert_eq!(port.scrape(&world).await["postern_relay_tokens_spent_total"], 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_gets_no_commit_is_not_counted() {
    let world = World::start_with(|limits| limits.quota_messages = 1).await;
    let (port, bob) = (Port::of(&world).await, world.mailbox().await);
    world.sent(&bob.id).await;
    assert_eq!(world.send(&bob.id, &token(0).token, &envelope()).await.refusal(), ProblemKind::MailboxFull);
    let nobody = Mailbox { id: postern_protocol::ids::MailboxId([7; 32]), jwt: String::new() };
    assert_eq!(world.send(&nobody.id, &token(0).token, &envelope()).await.refusal(), ProblemKind::MailboxUnknown);
    let seen = port.scrape(&world).await;
    assert_eq!(seen["postern_relay_tokens_spent_total"], 1.0);
    assert_eq!(world.count("select count(*) from ledger"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_ready_with_a_database_and_a_key_and_not_when_it_stops_and_up_always() {
    let mut world = World::start().await;
    let port = Port::of(&world).await;
    for base in [&port.url, &world.url] {
        for path in [HEALTH_PATH, READY_PATH] {
            assert_eq!(Reply::to(world.http.get(format!("{base}{path}"))).await.status, 200, "{path}");
        }
    }
    assert_eq!(Reply::to(world.http.get(world.at(METRICS_PATH))).await.status, 404, "on its own port alone");
    // A relay that knows no key takes no token.
    world.issuer.state().keys.clear();
    let other = postern_test_database::TestDatabase::of_this_run(world.dir.path().join("other.db"));
    world.config.database = other.url();
    world.restart().await;
    let reply = Reply::to(world.http.get(world.at(READY_PATH))).await;
    assert_eq!((reply.status.as_u16(), reply.refusal()), (503, ProblemKind::Unavailable));
    assert!(String::from_utf8(reply.body).unwrap().contains("no active token key"));
    assert_eq!(Reply::to(world.http.get(world.at(HEALTH_PATH))).await.status, 200);
}
