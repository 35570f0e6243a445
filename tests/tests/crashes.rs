//! kill -9 of issuer and relay at random moments while people use them: conservation holds, nothing acknowledged is lost, everybody finishes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use postern_protocol::exchange::ExchangeResponse;
use postern_protocol::ids::MessageId;
use postern_protocol::release::{ACK_PATH, RELEASE_PATH};
use postern_protocol::send::Accepted;
use postern_tests::{Actor, Place, World, invariants, programs};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const KILLS: usize = 200;
const PAIRS: usize = 3;

/// What one pair of people did, as they saw it.
#[derive(Default)]
struct History {
    acknowledged_sends: BTreeSet<MessageId>,
    read: BTreeSet<MessageId>,
    exchanges: usize,
}

/// Sends, reads, releases and exchanges until told to stop, then finishes what is under way.
async fn correspond(mut alice: Actor, mut bob: Actor, stop: Arc<AtomicBool>) -> History {
    let mut history = History::default();
    let mut round = 0;
    while !stop.load(Ordering::SeqCst) || round == 0 {
        round += 1;
        let to = bob.mailbox();
        let spent = alice.tokens.remove(0);
        let envelope = alice.envelope(&to, &format!("round {round}"));
        let reply = alice.send(&to, &spent.token, &envelope).await;
        let accepted: Accepted = reply.json();
        history.acknowledged_sends.insert(accepted.message);

        let inbox = bob.inbox().await;
        let ids: Vec<MessageId> = inbox.messages.iter().map(|m| m.message).collect();
        assert!(ids.contains(&accepted.message), "acknowledged, but not in the mailbox");
        history.read.extend(&ids);
        assert_eq!(bob.verdict(RELEASE_PATH, &ids).await.refused, []);
        bob.verdict(ACK_PATH, &ids).await;

        let blinded = alice.blind(1).remove(0);
        let request = alice.exchange_request(&spent, &blinded);
        let response: ExchangeResponse = alice.send_exchange(&request).await.json();
        alice.tokens.push(alice.unblind(&blinded, &response.blind_signature));
        history.exchanges += 1;
    }
    assert_eq!(alice.tokens.len(), 5, "everybody ends with as many tokens as they began with");
    history
}

async fn person(place: &Place, phone: &str) -> Actor {
    let mut actor = Actor::new(place, phone).await;
    actor.patient = true;
    actor.register(place, 5).await;
    actor.open_mailbox().await;
    actor.login().await;
    actor
}

/// Two people register, while servers may be falling already, and correspond.
async fn pair(place: Place, i: usize, stop: Arc<AtomicBool>) -> History {
    let alice = person(&place, &format!("+4179124{:04}", 2 * i)).await;
    let bob = person(&place, &format!("+4179124{:04}", 2 * i + 1)).await;
    correspond(alice, bob, stop).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_kills_lose_nothing_and_double_nothing() {
    let mut world = World::start_with(programs!(), "texts_per_number_per_day = 1000\nexchange_multiple = 100000", "");
    let stop = Arc::new(AtomicBool::new(false));
    let mut tasks = Vec::new();
    for i in 0..PAIRS {
        tasks.push(tokio::spawn(pair(world.place.clone(), i, stop.clone())));
    }
    let mut rng = StdRng::seed_from_u64(42);
    let mut late = 0;
    for kill in 0..KILLS {
        tokio::time::sleep(Duration::from_millis(rng.random_range(5..250))).await;
        let server = if rng.random_bool(0.5) { &mut world.issuer } else { &mut world.relay };
        server.kill();
        server.start();
        // People who come while servers fall: registration has to survive as well.
        if kill % 40 == 20 {
            tasks.push(tokio::spawn(pair(world.place.clone(), PAIRS + late, stop.clone())));
            late += 1;
        }
    }
    stop.store(true, Ordering::SeqCst);
    let mut total = 0;
    for task in tasks {
        let history = task.await.unwrap();
        assert!(history.read.is_superset(&history.acknowledged_sends));
        assert_eq!(history.exchanges, history.acknowledged_sends.len());
        total += history.exchanges;
    }
    println!("{KILLS} kills, {total} messages sent, read, released and exchanged");
    assert!(total > KILLS / 2, "too little happened between the kills to prove anything: {total}");
    assert_eq!(world.count(&world.relay_db_file(), "select count(*) from messages"), 0);
    invariants::assert_hold(&world);
    world.assert_healthy();
}
