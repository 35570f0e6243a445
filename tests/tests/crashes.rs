//! kill -9 of issuer and relay at random moments while people use them: conservation holds, nothing acknowledged is lost, everybody finishes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use postern_credentials::reply_credential::Params;
use postern_protocol::exchange::ExchangeResponse;
use postern_protocol::ids::MessageId;
use postern_protocol::release::{ACK_PATH, RELEASE_PATH};
use postern_protocol::send::Accepted;
use postern_tests::replies::LONG_EPOCHS;
use postern_tests::{Actor, Place, World, invariants, programs};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const KILLS: usize = 200;
const PAIRS: usize = 3;
const REPLIERS: usize = 2;

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

/// An owner and somebody who writes back by credential, each slot once, until told to stop. Returns all that was answered.
async fn write_back(place: Place, i: usize, stop: Arc<AtomicBool>) -> BTreeSet<MessageId> {
    let mut owner = person(&place, &format!("+4179125{:04}", 2 * i)).await;
    let mut contact = person(&place, &format!("+4179125{:04}", 2 * i + 1)).await;
    owner.open_group().await;
    let to = owner.mailbox();
    let (mut issued, mut slots) = (owner.issue().await, 0..Params::default().k());
    let mut answered = BTreeSet::new();
    while !stop.load(Ordering::SeqCst) || answered.is_empty() {
        let Some(slot) = slots.next() else {
            // The epoch outlasts the test: who has used all slots is issued to anew, as another contact.
            (issued, slots) = (owner.issue().await, 0..Params::default().k());
            continue;
        };
        let envelope = contact.envelope(&to, &format!("reply {}", answered.len()));
        let shown = contact.present(&issued, slot, &envelope);
        let accepted: Accepted = contact.reply(&to, &shown, &envelope).await.json();
        assert_eq!(accepted.message, issued.message_id(&shown));
        assert!(answered.insert(accepted.message), "two slots were answered alike");

        // All before it was acknowledged, and sent once more after that: if any of it came back, it would be here.
        let inbox = owner.inbox().await.messages;
        assert!(inbox.len() == 1 && inbox[0].message == accepted.message, "{} messages wait", inbox.len());
        assert!(inbox[0].envelope.0 == envelope);
        assert_eq!(owner.verdict(ACK_PATH, &[accepted.message]).await.done, [accepted.message]);
        assert_eq!(contact.reply(&to, &shown, &envelope).await.json::<Accepted>(), accepted);
    }
    assert!(owner.inbox().await.messages.is_empty());
    answered
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_kills_lose_nothing_and_double_nothing() {
    let issuer_settings = "texts_per_number_per_day = 1000\nexchange_multiple = 100000";
    let mut world = World::start_with(programs!(), issuer_settings, LONG_EPOCHS);
    let stop = Arc::new(AtomicBool::new(false));
    let mut tasks = Vec::new();
    for i in 0..PAIRS {
        tasks.push(tokio::spawn(pair(world.place.clone(), i, stop.clone())));
    }
    let mut repliers = Vec::new();
    for i in 0..REPLIERS {
        repliers.push(tokio::spawn(write_back(world.place.clone(), i, stop.clone())));
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
            repliers.push(tokio::spawn(write_back(world.place.clone(), REPLIERS + late, stop.clone())));
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
    let mut replied = BTreeSet::new();
    let mut replies = 0;
    for task in repliers {
        let answered = task.await.unwrap();
        replies += answered.len();
        replied.extend(answered);
    }
    println!("{KILLS} kills, {total} messages sent, read, released and exchanged, {replies} replies");
    for happened in [total, replies] {
        assert!(happened > KILLS / 2, "too little happened between the kills to prove anything: {happened}");
    }
    assert_eq!(replied.len(), replies, "no two replies have one name");
    let slots = world.relay_db.int("select count(*) from reply_nullifiers");
    assert_eq!(usize::try_from(slots).unwrap(), replies, "each slot that was used was answered, and no other");
    assert_eq!(world.relay_db.int("select count(*) from messages"), 0);
    invariants::assert_hold(&world);
    world.assert_healthy();
}
