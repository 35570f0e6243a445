//! One-time prekeys with the command against real servers: taken for a first message, used up, gone with a mailbox, and claimed while the
//! relay falls over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use postern_protocol::card::CardLink;
use postern_protocol::ids::{MailboxId, PrekeyClaim, SealedPrekey};
use postern_tests::{Actor, Person, World, invariants, programs};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const KILLS: usize = 25;
const CLAIMANTS: usize = 6;

fn person(world: &World, name: &str, phone: &str) -> Person {
    let person = Person::new(&world.programs, world.dir.path(), name, phone);
    person.register(&world.place);
    person
}

fn mailbox(person: &Person) -> MailboxId {
    person.card().parse::<CardLink>().unwrap().mailbox
}

fn unclaimed(world: &World) -> i64 {
    world.relay_db.int("select count(*) from prekeys")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_supply_keeps_nobody_from_writing() {
    let mut world = World::start(programs!());
    let (alice, bob) = (person(&world, "alice", "+41791237001"), person(&world, "bob", "+41791237002"));
    let carol = person(&world, "carol", "+41791237003");
    assert_eq!(unclaimed(&world), 300, "everybody has a hundred from the beginning");
    assert_eq!(alice.ok(&["send", &bob.card(), "hello"])["first_key"], "one-time");
    assert_eq!(unclaimed(&world), 299);
    assert_eq!(alice.ok(&["send", &bob.card(), "again"])["first_key"], serde_json::Value::Null);

    // Mallory has Bob's link, and no account.
    let mut mallory = Actor::new(&world, "+41791237004").await;
    let mut drained = 0;
    loop {
        let claim = mallory.draw_claim();
        match mallory.claim_prekey(&mailbox(&bob), &claim).await {
            Some(_) => drained += 1,
            None => break,
        }
    }
    assert_eq!((drained, unclaimed(&world)), (99, 200));
    assert_eq!(carol.ok(&["send", &bob.card(), "me too"])["first_key"], "used-up");
    let mut texts: Vec<_> = bob.messages().into_iter().map(|message| message["text"].clone()).collect();
    texts.sort_by_key(ToString::to_string);
    assert_eq!(texts, ["again", "hello", "me too"]);
    invariants::assert_hold(&world);
    world.assert_healthy();
}

#[test]
fn who_registers_again_has_a_supply_of_the_new_mailbox_and_the_old_one_is_gone() {
    let mut world = World::start(programs!());
    let (alice, bob) = (person(&world, "alice", "+41791237011"), person(&world, "bob", "+41791237012"));
    let old = bob.card();
    let again = person(&world, "bob-again", &bob.phone);
    assert_ne!(mailbox(&again), mailbox(&bob));
    assert_eq!(unclaimed(&world), 200, "Alice's and the new one's");
    let refused = alice.run(&["send", &old, "are you there?"]);
    assert_eq!((refused.exit, &refused.json["error"]["code"]), (Some(6), &"refused".into()));
    assert_eq!(alice.ok(&["send", &again.card(), "there you are"])["first_key"], "one-time");
    assert_eq!(again.messages()[0]["text"], "there you are");
    invariants::assert_hold(&world);
    world.assert_healthy();
}

/// Claims until told to stop, and asks again for each; what every claim got.
async fn claim_on(mut actor: Actor, of: MailboxId, stop: Arc<AtomicBool>) -> BTreeMap<PrekeyClaim, SealedPrekey> {
    let mut got = BTreeMap::new();
    while !stop.load(Ordering::SeqCst) {
        let claim = actor.draw_claim();
        if let Some(prekey) = actor.claim_prekey(&of, &claim).await {
            assert_eq!(
                actor.claim_prekey(&of, &claim).await,
                Some(prekey),
                "the identical claim, the identical prekey"
            );
            got.insert(claim, prekey);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    got
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_relay_falls_no_claim_gets_two_prekeys_and_no_prekey_goes_to_two_claims() {
    let mut world = World::start_with(programs!(), "", "prekeys_per_mailbox = 100");
    let mut bob = Actor::ready(&world, "+41791237021").await;
    bob.patient = true;
    let (stop, mut claimants) = (Arc::new(AtomicBool::new(false)), Vec::new());
    for n in 0..CLAIMANTS {
        let mut actor = Actor::new(&world, &format!("+4179123703{n}")).await;
        actor.patient = true;
        claimants.push(tokio::spawn(claim_on(actor, bob.mailbox(), Arc::clone(&stop))));
    }
    let filling = tokio::spawn({
        let stop = Arc::clone(&stop);
        async move {
            let mut uploaded = Vec::new();
            while !stop.load(Ordering::SeqCst) {
                let upload = bob.draw_prekeys(uploaded.len() as u64 + 1, 10);
                for _ in 0..2 {
                    assert_eq!(bob.upload_prekeys(&upload).await.status, 200);
                }
                uploaded.push(upload);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            (bob, uploaded)
        }
    });
    let mut rng = StdRng::seed_from_u64(43);
    for _ in 0..KILLS {
        tokio::time::sleep(Duration::from_millis(rng.random_range(20..200))).await;
        world.relay.kill();
        world.relay.start();
    }
    stop.store(true, Ordering::SeqCst);
    let (bob, uploaded) = filling.await.unwrap();
    let mut by_prekey = BTreeMap::new();
    let mut claims = 0;
    for claimant in claimants {
        let got = claimant.await.unwrap();
        claims += got.len();
        for (claim, prekey) in got {
            assert_eq!(bob.claim_prekey(&bob.mailbox(), &claim).await, Some(prekey), "also long after");
            by_prekey.insert(prekey, claim);
        }
    }
    println!("{KILLS} kills, {claims} claims, {} uploads", uploaded.len());
    assert!(claims > KILLS, "too little happened between the kills to prove anything: {claims}");
    assert_eq!(by_prekey.len(), claims, "no prekey went to two claims");
    let known: BTreeSet<_> = uploaded.iter().flat_map(|upload| &upload.prekeys).collect();
    assert!(by_prekey.keys().all(|prekey| known.contains(prekey)));
    invariants::assert_hold(&world);
    world.assert_healthy();
}
