//! Three relays and two issuers on one PostgreSQL behind a plain balancer, one of them killed all the time: they know nothing that the
//! others do not, so nobody notices.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use postern_protocol::login::JwtAudience;
use postern_protocol::send::{MESSAGES_PATH, Messages};
use postern_test_database::Engine;
use postern_tests::balancer::Balancer;
use postern_tests::replies::LONG_EPOCHS;
use postern_tests::traffic::{pair, write_back};
use postern_tests::world::Server;
use postern_tests::{Actor, Reply, World, invariants, programs};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const KILLS: usize = 25;

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
