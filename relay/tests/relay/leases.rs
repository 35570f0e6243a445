//! Several relays on one database: one of them sees to what is old, another one when that is silent, and none harms anything when both do.

use std::sync::Arc;

use futures::future::join_all;
use postern_credentials::secrets::RootSecret;
use postern_protocol::time::{Clock, MockClock, Timestamp};
use postern_relay::app::App;
use postern_store::StoreError;
use postern_test_database::{Pause, Sleeper, Value};
use tokio::task::JoinHandle;

use crate::world::{START, World, random, rng};

/// A round comes every hour in these tests, and a minute later a holder is taken for dead.
const LEASE: u64 = 3600 + 60;
const CLAIMS: &str = "select count(*) from prekey_claims";

/// A world whose own relay holds the lease, from now on.
async fn world() -> World {
    let world = World::start().await;
    world.app.sweep().await.unwrap();
    world
}

async fn another(world: &World) -> App {
    World::open_app(&world.config, &world.clock).await.unwrap()
}

/// Claims of prekeys that a round forgets: what shows that there was one.
fn old_claims(world: &World, n: usize) {
    let row = |_| {
        let [mailbox, claim] = [(); 2].map(|()| Value::Blob(random::<32>().to_vec()));
        vec![mailbox, claim, Value::Blob(vec![0; 138])]
    };
    let insert = "insert into prekey_claims (mailbox, claim, sealed, kept_until) values ($1, $2, $3, 0)";
    world.database.execute_each(insert, &(0..n).map(row).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_relays_one_does_a_round() {
    let world = world().await;
    let others = [another(&world).await, another(&world).await, another(&world).await];
    old_claims(&world, 1);
    for other in &others {
        other.sweep().await.unwrap();
    }
    assert_eq!(world.count(CLAIMS), 1, "it is not theirs");
    world.app.sweep().await.unwrap();
    assert_eq!(world.count(CLAIMS), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_holder_is_dead_another_takes_over_after_its_time_and_not_before() {
    let world = world().await;
    let others = [another(&world).await, another(&world).await, another(&world).await];
    old_claims(&world, 1);
    world.clock.advance_seconds(LEASE - 1);
    join_all(others.iter().map(App::sweep)).await.into_iter().for_each(Result::unwrap);
    assert_eq!(world.count(CLAIMS), 1);
    world.clock.advance_seconds(1);
    join_all(others.iter().map(App::sweep)).await.into_iter().for_each(Result::unwrap);
    assert_eq!(world.count(CLAIMS), 0);
    assert_eq!(world.count("select count(*) from leases"), 1);
    // Back from the dead it is one of the others.
    old_claims(&world, 1);
    world.app.sweep().await.unwrap();
    assert_eq!(world.count(CLAIMS), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_stops_in_order_leaves_the_next_round_to_another_at_once() {
    let mut world = world().await;
    // On `restart` the first one stops, and there is another.
    world.restart().await;
    old_claims(&world, 1);
    world.app.sweep().await.unwrap();
    assert_eq!(world.count(CLAIMS), 0);
}

/// Stops its reader when it is time.
struct Sleepy {
    clock: Arc<MockClock>,
    pause: Pause,
    is_time: Box<dyn Fn() -> bool + Send + Sync>,
}

impl Clock for Sleepy {
    fn now(&self) -> Timestamp {
        if (self.is_time)() {
            self.pause.here();
        }
        self.clock.now()
    }
}

/// A relay with this clock that stops in the middle of its round, when so many rows are left.
async fn sleepy(world: &Arc<World>, clock: Arc<MockClock>, rows: &'static str, left: i64) -> (App, Sleeper) {
    let (pause, sleeper) = Pause::new();
    let looking = Arc::clone(world);
    let is_time = Box::new(move || looking.count(rows) == left);
    let (clock, root) = (Arc::new(Sleepy { clock, pause, is_time }), RootSecret::from_bytes([2; 32]));
    let app = App::open(world.config.clone(), &root, clock, Arc::new(|| Box::new(rng()))).await.unwrap();
    (app, sleeper)
}

fn sweep(app: &App) -> JoinHandle<Result<(), StoreError>> {
    let app = app.clone();
    tokio::spawn(async move { app.sweep().await })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_relay_that_slept_past_its_time_in_the_middle_of_a_round_stops_and_leaves_the_rest_to_the_next() {
    let world = Arc::new(world().await);
    old_claims(&world, 600);
    world.clock.advance_seconds(LEASE);
    // After the first of two batches.
    let (late, sleeper) = sleepy(&world, Arc::clone(&world.clock), CLAIMS, 100).await;
    let sweeping = sweep(&late);
    sleeper.wait();
    world.clock.advance_seconds(LEASE);
    world.app.sweep().await.unwrap();
    assert_eq!(world.count(CLAIMS), 0, "another has done the rest");
    old_claims(&world, 1);
    sleeper.go_on();
    let stopped = sweeping.await.unwrap();
    assert!(matches!(stopped, Err(StoreError::Taken)), "{stopped:?}");
    assert_eq!(world.count(CLAIMS), 1, "it did nothing more");
    late.sweep().await.unwrap();
    assert_eq!(world.count(CLAIMS), 1);
    world.app.sweep().await.unwrap();
    assert_eq!(world.count(CLAIMS), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_at_once_that_each_believe_to_hold_it_count_every_row_of_an_ended_key_once() {
    const LEDGER: &str = "select count(*) from ledger";
    let world = Arc::new(world().await);
    let (key, other) = (Value::Blob(random::<32>().to_vec()), Value::Blob(random::<32>().to_vec()));
    world.database.execute(
        "insert into token_keys (key_id, spki, state, not_after) values ($1, $1, 'retiring', 0)",
        std::slice::from_ref(&key),
    );
    let row = |_| vec![Value::Blob(random::<32>().to_vec()), key.clone(), other.clone()];
    world.database.execute_each(
        "insert into ledger (nullifier, key_id, token_digest, state, mailbox, envelope_digest)
         values ($1, $2, $3, 'burnt', $3, $3)",
        &(0..2700).map(row).collect::<Vec<_>>(),
    );
    // The second clock is ahead by more than a lease, so that it takes it; the first stands still, so that it does not notice.
    let ahead = |leases: u64| Arc::new(MockClock::new(Timestamp::from_seconds(START + leases * LEASE)));
    let (first, first_stops) = sleepy(&world, ahead(1), LEDGER, 2200).await;
    let (second, second_stops) = sleepy(&world, ahead(2), LEDGER, 1700).await;
    let first = sweep(&first);
    first_stops.wait();
    let second = sweep(&second);
    second_stops.wait();
    first_stops.go_on();
    second_stops.go_on();
    for round in [first, second] {
        round.await.unwrap().unwrap();
    }
    assert_eq!(world.count(LEDGER), 0);
    assert_eq!(world.count("select burnt from retired_keys"), 2700);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_relay_has_dropped_another_forgets_as_well_and_does_not_write_down_again() {
    let world = World::start_with(|limits| limits.ledger_grace_seconds = 1000).await;
    world.app.sweep().await.unwrap();
    world.issuer.rotate(0, 1, world.now() + 100);
    world.app.refresh_keys().await;
    let other = another(&world).await;
    other.refresh_keys().await;
    world.clock.advance_seconds(1101);
    world.app.sweep().await.unwrap();
    assert_eq!(world.count("select count(*) from token_keys"), 1);
    other.sweep().await.unwrap();
    // Something is new, so all that is known is written down.
    world.issuer.set_not_after(1, u64::MAX / 2);
    other.refresh_keys().await;
    assert_eq!(world.count("select count(*) from token_keys where not_after is not null"), 1);
    assert_eq!(world.count("select count(*) from token_keys"), 1);
}
