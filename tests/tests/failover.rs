//! Issuer and relays on a PostgreSQL that fails over: its leader is killed, -9, under load, and so are its replicas. What was acknowledged
//! is there, and nothing is acknowledged that would not be.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use postern_protocol::ids::MailboxId;
use postern_protocol::problem::ProblemKind;
use postern_protocol::send::Accepted;
use postern_test_database::{Cluster, Loss, NODES};
use postern_tests::actor::Minted;
use postern_tests::balancer::Balancer;
use postern_tests::replies::LONG_EPOCHS;
use postern_tests::traffic::{pair, write_back};
use postern_tests::world::Server;
use postern_tests::{Actor, World, invariants, programs};
use tokio::time::Instant;

/// The leader each time, and how much of it. The last time its PostgreSQL goes on as if it still led.
const LOSSES: [Loss; 4] = [Loss::Machine, Loss::Machine, Loss::Machine, Loss::Patroni];
/// Sends before, between and after the losses, at least.
const SENDS: i64 = 20;
const PAIRS: usize = 4;
const REPLIERS: usize = 2;

/// The servers on two databases of the cluster, with a second relay.
fn start(cluster: &Cluster, settings: [&str; 2]) -> (World, Server, [Balancer; 2]) {
    let balancers = [Balancer::start(), Balancer::start()];
    let databases = ["issuer", "relay"].map(|name| cluster.database(name));
    let world = World::start_on(databases, programs!(), settings, &balancers);
    let mut twin = world.relay.twin("relay-2");
    twin.start();
    balancers[1].add(twin.address());
    (world, twin, balancers)
}

fn sends(world: &World) -> i64 {
    world.relay_db.int("select count(*) from ledger")
}

/// Waits until so much more was sent.
async fn wait_for_sends(world: &World) {
    let (before, began) = (sends(world), Instant::now());
    while sends(world) < before + SENDS {
        assert!(began.elapsed() < Duration::from_secs(60), "nothing is sent any more: {}", world.relay.read_log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// For each loss the longest time around it in which no send was acknowledged.
fn gaps(losses: &[Instant], mut acknowledged: Vec<Instant>) -> Vec<Duration> {
    acknowledged.sort();
    let longest = |(i, lost): (usize, &Instant)| {
        let until = losses.get(i + 1);
        let around = acknowledged.windows(2).filter(|two| two[1] > *lost && until.is_none_or(|until| two[1] < *until));
        around.map(|two| two[1] - two[0]).max().unwrap()
    };
    losses.iter().enumerate().map(longest).collect()
}

fn assert_healthy(world: &mut World, twin: &mut Server) {
    world.assert_healthy();
    assert!(twin.is_alive() && !twin.read_log().contains("panicked"), "{}", twin.read_log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_is_lost_again_and_again_under_load_and_nothing_that_was_acknowledged_is() {
    let mut cluster = Cluster::start();
    let issuer_settings = "texts_per_number_per_day = 1000\nexchange_multiple = 100000";
    let (mut world, mut twin, _balancers) = start(&cluster, [issuer_settings, LONG_EPOCHS]);
    let stop = Arc::new(AtomicBool::new(false));
    let pairs: Vec<_> = (0..PAIRS).map(|i| tokio::spawn(pair(world.place.clone(), i, Arc::clone(&stop)))).collect();
    let repliers: Vec<_> =
        (0..REPLIERS).map(|i| tokio::spawn(write_back(world.place.clone(), i, Arc::clone(&stop)))).collect();
    let mut lost_at = Vec::new();
    for loss in LOSSES {
        wait_for_sends(&world).await;
        let leader = cluster.wait_until_whole();
        lost_at.push(Instant::now());
        cluster.kill(leader, loss);
        cluster.wait_for_another_leader(leader);
        cluster.bring_back(leader);
    }
    cluster.wait_until_whole();
    wait_for_sends(&world).await;
    stop.store(true, Ordering::SeqCst);

    let (mut messages, mut repeated, mut acknowledged_at, mut replies) = (0, 0, Vec::new(), 0);
    for pair in pairs {
        let history = pair.await.unwrap();
        assert!(history.read.is_superset(&history.acknowledged_sends));
        assert_eq!(history.exchanges, history.acknowledged_sends.len());
        messages += history.exchanges;
        repeated += history.repeated_sends;
        acknowledged_at.extend(history.acknowledged_at);
    }
    for replier in repliers {
        replies += replier.await.unwrap().len();
    }
    let gaps = gaps(&lost_at, acknowledged_at);
    let logs = [&world.issuer, &world.relay, &twin].map(Server::read_log).concat();
    let ambiguous = logs.matches("nobody knows whether it committed").count();
    println!(
        "the leader was lost {} times, {LOSSES:?}, each time with so long without an acknowledged send: {gaps:.1?}; {messages} messages \
         sent ({repeated} more than once), read, released and exchanged, {replies} replies; {ambiguous} commits ambiguous",
        LOSSES.len()
    );
    assert_eq!(
        sends(&world),
        i64::try_from(messages).unwrap(),
        "each token that was spent was acknowledged, and no other"
    );
    assert_eq!(world.relay_db.int("select count(*) from ledger where state <> 'exchanged'"), 0);
    assert_eq!(world.relay_db.int("select count(*) from reply_nullifiers"), i64::try_from(replies).unwrap());
    assert_eq!(world.relay_db.int("select count(*) from messages"), 0);
    invariants::assert_hold(&world);
    assert_healthy(&mut world, &mut twin);
}

/// Sends all of these at once, once each. Nothing may be acknowledged: each is told to come again.
async fn all_are_put_off(alice: &Actor, to: &MailboxId, requests: &[(Minted, Vec<u8>)]) {
    let sent = requests.iter().map(|(token, envelope)| alice.send(to, &token.token, envelope));
    for reply in futures::future::join_all(sent).await {
        let problem = reply.problem();
        assert!(matches!(reply.refusal(), ProblemKind::Unavailable | ProblemKind::Timeout), "{problem:?}");
        assert!(problem.retry_after.is_some() && reply.headers.contains_key("retry-after"), "{problem:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_replica_no_send_is_acknowledged_and_with_one_the_same_requests_go_through_once() {
    let mut cluster = Cluster::start();
    let (mut world, mut twin, _balancers) = start(&cluster, ["", "request_timeout_seconds = 5"]);
    let mut alice = Actor::ready(&world, "+41791246001").await;
    let mut bob = Actor::ready(&world, "+41791246002").await;
    let to = bob.mailbox();
    let requests: Vec<_> =
        (0..4).map(|i| (alice.tokens.remove(0), alice.envelope(&to, &format!("message {i}")))).collect();
    let first: Accepted = alice.send(&to, &requests[0].0.token, &requests[0].1).await.json();

    let leader = cluster.wait_until_whole();
    let replicas: Vec<_> = (0..NODES).filter(|node| *node != leader).collect();
    replicas.iter().for_each(|node| cluster.kill(*node, Loss::Machine));
    for _ in 0..2 {
        all_are_put_off(&alice, &to, &requests[1..]).await;
    }
    assert_eq!(sends(&world), 1);

    // Now the leader as well, and it comes back alone. What waited for a replica is on its disk, can be seen, and is as little
    // acknowledged as before: if this disk is lost, so is that.
    cluster.kill(leader, Loss::Machine);
    cluster.bring_back(leader);
    cluster.wait_until_leads(leader);
    for _ in 0..2 {
        all_are_put_off(&alice, &to, &requests[1..]).await;
    }
    assert!(sends(&world) > 1, "nothing had reached the disk, so nothing was tried");

    cluster.bring_back(replicas[0]);
    cluster.wait_for_standby();
    alice.patient = true;
    let mut accepted = BTreeSet::new();
    for (token, envelope) in &requests {
        let reply: Accepted = alice.send(&to, &token.token, envelope).await.json();
        assert!(accepted.insert(reply.message));
    }
    assert!(accepted.contains(&first.message));
    assert_eq!(sends(&world), 4);
    bob.patient = true;
    let came: Vec<_> = bob.inbox().await.messages.iter().map(|message| message.message).collect();
    assert!(came.len() == 4 && accepted == came.into_iter().collect(), "each once");
    invariants::assert_hold(&world);
    assert_healthy(&mut world, &mut twin);
}
