//! Three relays and two issuers on one PostgreSQL behind a plain balancer, one of them killed all the time: they know nothing that the
//! others do not, so nobody notices: neither those who speak the wire by hand nor those who use the command.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use postern_protocol::login::JwtAudience;
use postern_protocol::send::{MESSAGES_PATH, Messages};
use postern_test_database::{Engine, TestDatabase};
use postern_tests::app::{Circle, Deeds};
use postern_tests::balancer::Balancer;
use postern_tests::replies::LONG_EPOCHS;
use postern_tests::traffic::{pair, write_back};
use postern_tests::world::Server;
use postern_tests::{Actor, Reply, World, invariants, programs};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const KILLS: usize = 25;

/// Of the command's main flow: circles of people, rounds that each lives at least, and how the relays fall.
const CIRCLES: usize = 3;
const ROUNDS: usize = 3;
const KILL_EVERY: Duration = Duration::from_secs(2);
const RELAY_KILLS: usize = 10;

/// The world, and the processes beside its first two.
fn start(issuer_settings: &str) -> (World, Vec<Server>, [Balancer; 2]) {
    let balancers = [Balancer::start(), Balancer::start()];
    let world = World::start_behind(Engine::Postgres, programs!(), [issuer_settings, LONG_EPOCHS], &balancers);
    let twins = [
        (&world.issuer, &balancers[0], "issuer-2"),
        (&world.relay, &balancers[1], "relay-2"),
        (&world.relay, &balancers[1], "relay-3"),
    ];
    let twins = twins.map(|(first, balancer, name)| {
        let mut twin = first.twin(name);
        twin.start();
        balancer.add(twin.address());
        twin
    });
    (world, twins.into(), balancers)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_relays_and_two_issuers_of_which_one_is_always_falling_lose_nothing_and_do_nothing_twice() {
    let (mut world, mut twins, balancers) = start("texts_per_number_per_day = 1000\nexchange_multiple = 100000");
    let stop = Arc::new(AtomicBool::new(false));
    let pairs: Vec<_> = (0..3).map(|i| tokio::spawn(pair(world.place.clone(), i, Arc::clone(&stop)))).collect();
    let repliers: Vec<_> =
        (0..2).map(|i| tokio::spawn(write_back(world.place.clone(), i, Arc::clone(&stop)))).collect();
    let mut rng = StdRng::seed_from_u64(7);
    for _ in 0..KILLS {
        tokio::time::sleep(Duration::from_millis(rng.random_range(200..1200))).await;
        let server = match rng.random_range(0..5) {
            0 => &mut world.issuer,
            1 => &mut world.relay,
            n => &mut twins[n - 2],
        };
        server.kill();
        server.start();
    }
    stop.store(true, Ordering::SeqCst);
    let (mut messages, mut replies) = (0, 0);
    for pair in pairs {
        let history = pair.await.unwrap();
        assert!(history.read.is_superset(&history.acknowledged_sends));
        assert_eq!(history.exchanges, history.acknowledged_sends.len());
        messages += history.exchanges;
    }
    for replier in repliers {
        replies += replier.await.unwrap().len();
    }
    let served = balancers.map(|balancer| balancer.served());
    println!(
        "{KILLS} kills, {messages} messages sent, read, released and exchanged, {replies} replies, {served:?} connections"
    );
    assert!(messages > KILLS && replies > KILLS, "too little happened between the kills");
    let slots = world.relay_db.int("select count(*) from reply_nullifiers");
    assert_eq!(usize::try_from(slots).unwrap(), replies, "each slot that was used was answered, and no other");
    assert_eq!(world.relay_db.int("select count(*) from messages"), 0);
    invariants::assert_hold(&world);
    world.assert_healthy();
    assert!(twins.iter_mut().all(|twin| twin.is_alive() && !twin.read_log().contains("panicked")));
}

#[test]
#[expect(clippy::disallowed_methods, reason = "real processes fall by the real clock")]
fn people_with_the_command_live_the_main_flow_though_a_relay_falls_every_two_seconds() {
    let (mut world, mut twins, _balancers) = start("");
    let (programs, place, dir) = (world.programs.clone(), world.place.clone(), world.dir.path().to_owned());
    let enough = AtomicBool::new(false);
    let (mut kills, began) = (0, Instant::now());
    let deeds: Deeds = std::thread::scope(|scope| {
        let circle = |n| Circle::new(&programs, &dir, &place, n);
        let live = |n| {
            scope.spawn({
                let enough = &enough;
                let circle = circle(n);
                move || circle.live(enough, ROUNDS)
            })
        };
        let circles: Vec<_> = (0..CIRCLES).map(live).collect();
        // Until everybody has looked whether all is there.
        while !circles.iter().all(|circle| circle.is_finished()) {
            std::thread::sleep((KILL_EVERY * (kills as u32 + 1)).saturating_sub(began.elapsed()));
            let relay = match kills % 3 {
                0 => &mut world.relay,
                n => &mut twins[n],
            };
            relay.kill();
            relay.start();
            kills += 1;
            enough.store(kills >= RELAY_KILLS, Ordering::SeqCst);
        }
        circles.into_iter().map(|circle| circle.join().unwrap()).sum()
    });
    println!("{kills} kills in {:?}: {deeds:?}", began.elapsed());
    assert!(kills >= RELAY_KILLS && deeds.rounds >= CIRCLES * ROUNDS, "too little happened to prove anything");

    let count = |db: &TestDatabase, what: &str| usize::try_from(db.int(what)).unwrap();
    let in_state = |state| count(&world.relay_db, &format!("select count(*) from ledger where state = '{state}'"));
    assert_eq!((in_state("exchanged"), in_state("burnt")), (deeds.returned, deeds.burnt));
    assert_eq!(
        count(&world.relay_db, "select count(*) from ledger"),
        deeds.returned + deeds.burnt,
        "and no other token"
    );
    let signed = |whom| format!("select coalesce(sum(count), 0) from key_counts where relay {whom} ''");
    assert_eq!(count(&world.issuer_db, &signed("=")), 5 * deeds.people);
    assert_eq!(count(&world.issuer_db, &signed("<>")), deeds.returned);
    assert_eq!(count(&world.relay_db, "select count(*) from messages"), 0);
    let claims = count(&world.relay_db, "select count(*) from prekey_claims");
    assert!(claims >= deeds.prekeys && deeds.prekeys > 0, "{claims} claims");
    let left = count(&world.relay_db, "select count(*) from prekeys");
    assert_eq!(left + claims, 100 * deeds.people, "no prekey is lost or there twice");
    invariants::assert_hold(&world);
    world.assert_healthy();
    assert!(twins.iter_mut().all(|twin| twin.is_alive() && !twin.read_log().contains("panicked")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_relay_takes_a_reader_who_waits_at_another_gets() {
    let (world, twins, _balancers) = start("");
    let mut alice = Actor::ready(&world, "+41791245001").await;
    let mut bob = Actor::ready(&world, "+41791245002").await;
    let here = format!("http://{}{MESSAGES_PATH}?wait=20", twins[1].address());
    let jwt = bob.jwt(JwtAudience::Relay).await;
    let waiting = tokio::spawn(Reply::to(bob.http.get(here).bearer_auth(jwt)));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!waiting.is_finished());
    alice.relay_url = format!("http://{}", twins[2].address());
    let (to, token) = (bob.mailbox(), alice.tokens.remove(0));
    let envelope = alice.envelope(&to, "hello");
    assert_eq!(alice.send(&to, &token.token, &envelope).await.status, 201);
    let got: Messages = waiting.await.unwrap().unwrap().json();
    assert_eq!(got.messages.len(), 1);
    assert!(got.messages[0].envelope.0 == envelope);
}
