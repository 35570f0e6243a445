//! kill -9 of issuer and relay at random moments while people use them: conservation holds, nothing acknowledged is lost, everybody finishes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use postern_tests::replies::LONG_EPOCHS;
use postern_tests::traffic::{pair, write_back};
use postern_tests::{World, invariants, programs};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const KILLS: usize = 200;
const PAIRS: usize = 3;
const REPLIERS: usize = 2;

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
