//! Several issuers on one database: one of them does what is done beside the requests, another one when that is silent, and none harms
//! anything when both do.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail loudly")]

mod world;

use std::sync::Arc;

use postern_issuer::Issuer;
use postern_issuer::app::serve;
use postern_issuer::service::{directory, housekeeping};
use postern_protocol::ids::PhoneNumber;
use postern_protocol::log::{ENTRIES_PATH, LOG_PATH, LogEntries, LogHead};
use postern_protocol::time::{Clock, MockClock, Timestamp};
use postern_test_database::{Pause, Sleeper, Value};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use world::World;
use world::lookups::number;

/// A round comes every minute, and a minute later a holder is taken for dead.
const LEASE: u64 = 60 + 60;
/// A builder that is silent for so long is given up.
const BUILDER: u64 = 600;
const NONCES: &str = "select count(*) from login_nonces";
const PUBLISHED: &str = "select count(*) from directory_builds where state = 'published'";

/// Something that a round deletes: what shows that there was one.
fn old_nonce(world: &World) {
    let mut digest = [0; 32];
    rand_core::Rng::fill_bytes(&mut world.rng(), &mut digest);
    world
        .database
        .execute("insert into login_nonces (nonce_digest, expires) values ($1, 0)", &[Value::Blob(digest.to_vec())]);
}

async fn round(issuer: &Issuer) {
    housekeeping::once(issuer).await.unwrap();
}

#[tokio::test]
async fn of_two_issuers_one_does_a_round() {
    let world = World::new().await;
    let other = world.second_process().await;
    round(&world.issuer).await;
    old_nonce(&world);
    round(&other).await;
    assert_eq!(world.query(NONCES), 1, "it is not its");
    round(&world.issuer).await;
    assert_eq!(world.query(NONCES), 0);
}

#[tokio::test]
async fn when_the_holder_is_dead_another_takes_over_after_its_time_and_not_before() {
    let world = World::new().await;
    let other = world.second_process().await;
    round(&world.issuer).await;
    old_nonce(&world);
    world.clock.advance_seconds(LEASE - 1);
    round(&other).await;
    assert_eq!(world.query(NONCES), 1);
    world.clock.advance_seconds(1);
    round(&other).await;
    assert_eq!(world.query(NONCES), 0);
    old_nonce(&world);
    round(&world.issuer).await;
    assert_eq!(world.query(NONCES), 1, "back from the dead it is one of the others");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_that_stops_in_order_gives_everything_back() {
    let world = World::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (stop, told) = oneshot::channel::<()>();
    let serving = tokio::spawn(serve(Arc::clone(&world.issuer), listener, async move { drop(told.await) }));
    // Both jobs are done when it starts: once the directory is there, the first build is over.
    while world.query(PUBLISHED) == 0 || world.query("select count(*) from leases where name = 'housekeeping'") == 0 {
        tokio::task::yield_now().await;
    }
    stop.send(()).unwrap();
    serving.await.unwrap();
    assert_eq!(world.query("select count(*) from leases"), 0);
    old_nonce(&world);
    let other = world.second_process().await;
    round(&other).await;
    assert_eq!(world.query(NONCES), 0, "another goes on at once");
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

/// An issuer with this clock that stops in the middle of something: when this many rows are there.
async fn sleepy(world: &Arc<World>, clock: &Arc<MockClock>, rows: &'static str, n: i64) -> (Arc<Issuer>, Sleeper) {
    let (pause, sleeper) = Pause::new();
    let looking = Arc::clone(world);
    let is_time = Box::new(move || looking.query(rows) == n);
    (world.process_with(Arc::new(Sleepy { clock: Arc::clone(clock), pause, is_time }), 9).await, sleeper)
}

/// Accounts as so many registrations leave them.
fn insert_accounts(world: &World, n: u32) {
    let (key, empty) = (Value::Blob(vec![0; 32]), Value::Blob(Vec::new()));
    let row = |n: u32| {
        let name = [&n.to_be_bytes()[..], &[7; 28]].concat();
        let phone: PhoneNumber = number(n);
        let phone = Value::Text(phone.as_str().to_owned());
        vec![Value::Blob(name), phone, key.clone(), empty.clone(), Value::Integer(i64::MAX)]
    };
    world.database.execute_each(
        "insert into accounts (account, phone, identity_key, certificate, certificate_expires, login_salt,
        login_verifier, mailbox, relay, tokens_issued, setup_until, created, registered)
        values ($1, $2, $3, $4, $5, $4, $4, $3, 'relay.test', 0, 0, 0, 0)",
        &(0..n).map(row).collect::<Vec<_>>(),
    );
}

const BUILDING: &str = "select count(*) from directory_builds where state = 'building'";
/// Files of a build that is not there yet.
const WRITTEN: &str = "select count(*) from directory_files f join directory_builds b on b.build = f.build
    where b.state = 'building' and f.kind = 'entries'";

/// What the log says of builds, and what the table says.
async fn assert_one_history(world: &World) {
    let head: LogHead = world.get(LOG_PATH).await.json();
    let entries: LogEntries = world.get(&format!("{ENTRIES_PATH}?from=0&to={}", head.size)).await.json();
    let logged = entries.entries.iter().filter(|leaf| leaf.0.first() == Some(&1)).count();
    assert_eq!(
        i64::try_from(logged).unwrap(),
        world.query(PUBLISHED),
        "each build that appeared is logged, and no other"
    );
    let orphans = "select count(*) from directory_files where build not in
        (select build from directory_builds where state = 'published')";
    assert_eq!(world.query(orphans), 0, "nothing is left of one that did not");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_builder_that_slept_past_its_time_stops_wherever_it_was_and_only_the_next_one_s_build_appears() {
    for (asleep, n) in [(BUILDING, 1), (WRITTEN, 1)] {
        let world = Arc::new(World::new().await);
        insert_accounts(&world, 20);
        let (late, sleeper) = sleepy(&world, &world.clock, asleep, n).await;
        let building = tokio::spawn(async move { directory::build(&late).await });
        sleeper.wait();
        world.clock.advance_seconds(BUILDER - 1);
        assert_eq!(directory::build(&world.issuer).await.unwrap(), None, "it may be alive");
        world.clock.advance_seconds(1);
        assert_eq!(directory::build(&world.issuer).await.unwrap(), Some(2));
        sleeper.go_on();
        let stopped = building.await.unwrap();
        assert!(stopped.is_err(), "{stopped:?}");
        assert_eq!(directory::build(&world.issuer).await.unwrap(), Some(3));
        assert_eq!(world.query("select count(*) from directory_builds where state = 'published' and build > 1"), 2);
        assert_one_history(&world).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_builder_whose_clock_is_ahead_gives_up_the_one_that_is_right_and_does_not_mix_with_it() {
    let world = Arc::new(World::new().await);
    insert_accounts(&world, 20);
    // The one that is right stands still, so that it does not ask; the build itself says that it was given up.
    let (right, sleeper) = sleepy(&world, &world.clock, WRITTEN, 1).await;
    let building = tokio::spawn(async move { directory::build(&right).await });
    sleeper.wait();
    let ahead = Arc::new(MockClock::new(world.now().plus_seconds(BUILDER)));
    let wrong = world.process_with(ahead, 5).await;
    assert_eq!(directory::build(&wrong).await.unwrap(), Some(2));
    sleeper.go_on();
    assert!(building.await.unwrap().is_err());
    assert_eq!(directory::build(&world.issuer).await.unwrap(), Some(3), "the other has given it back");
    assert_one_history(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_it_is_time_one_of_many_builds_and_the_others_see_that_it_was_done() {
    let world = Arc::new(World::new().await);
    let other = world.second_process().await;
    let tasks: Vec<_> = (0..12)
        .map(|i| {
            let issuer = Arc::clone(if i % 2 == 0 { &world.issuer } else { &other });
            tokio::spawn(async move { directory::build_if_due(&issuer).await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(world.query("select count(*) from directory_builds"), 1);
    assert_eq!(world.query("select count(*) from leases"), 0, "nobody builds");
}
