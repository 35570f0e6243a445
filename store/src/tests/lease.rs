//! Leases: one holder at a time, and another one when the first is silent.

use postern_protocol::time::Timestamp;
use postern_test_database::{Cut, Proxy};

use super::*;

static LEASES: &[Migration] = &[Migration {
    version: 1,
    name: "leases",
    sqlite: include_str!("../../../migrations/relay/sqlite/0004_leases.sql"),
    postgres: include_str!("../../../migrations/relay/postgres/0004_leases.sql"),
}];

const JOB: &str = "job";
const SECONDS: u64 = 60;
const UNTIL: &str = "select until from leases";

const fn at(seconds: u64) -> Timestamp {
    Timestamp::from_seconds(1_800_000_000 + seconds)
}

async fn take(db: &Db, holder: u8, seconds: u64) -> Option<Lease> {
    Lease::take(db, JOB, [holder; 16], SECONDS, at(seconds)).await.unwrap()
}

fn until(place: &Place) -> Timestamp {
    Timestamp::from_seconds(place.database.int(UNTIL).try_into().unwrap())
}

on_each_engine! {
    of_many_who_take_it_at_once_exactly_one_has_it,
    a_silent_holder_loses_it_when_its_time_is_over_and_not_before,
    a_holder_that_says_a_word_keeps_it_and_writes_no_more_often_than_it_must,
    it_is_given_back_by_its_holder_alone,
    each_job_has_its_own,
    a_clock_that_is_ahead_takes_it_and_its_holder_notices,
}

async fn of_many_who_take_it_at_once_exactly_one_has_it(engine: Engine) {
    let place = place(engine);
    let first = Db::open(&place.url, LEASES).await.unwrap();
    let second = Db::open(&place.url, LEASES).await.unwrap();
    // The first time there is no row; the second time there is one whose time is over.
    for round in 0..2 {
        let tasks: Vec<_> = (0..32u8)
            .map(|i| {
                let db = if i % 2 == 0 { first.clone() } else { second.clone() };
                tokio::spawn(async move { take(&db, i, round * SECONDS).await.map(|_| i) })
            })
            .collect();
        let mut holders = Vec::new();
        for task in tasks {
            holders.extend(task.await.unwrap());
        }
        assert_eq!(holders.len(), 1, "round {round}");
        assert_eq!(place.database.blobs("select holder from leases"), [[holders[0]; 16]]);
    }
}

async fn a_silent_holder_loses_it_when_its_time_is_over_and_not_before(engine: Engine) {
    let place = place(engine);
    let db = Db::open(&place.url, LEASES).await.unwrap();
    let mut silent = take(&db, 1, 0).await.unwrap();
    assert!(take(&db, 2, SECONDS - 1).await.is_none());
    // It may be late itself, as long as nobody else has come.
    let mut next = take(&db, 2, SECONDS).await.unwrap();
    let late = silent.keep(at(SECONDS)).await;
    assert!(matches!(late, Err(StoreError::Taken)), "{late:?}");
    next.keep(at(SECONDS + 30)).await.unwrap();
    assert_eq!(until(&place), at(2 * SECONDS + 30));
    silent = take(&db, 1, 2 * SECONDS + 30).await.unwrap();
    silent.keep(at(5 * SECONDS)).await.unwrap();
    assert_eq!(until(&place), at(6 * SECONDS), "late, and nobody else has come");
}

async fn a_holder_that_says_a_word_keeps_it_and_writes_no_more_often_than_it_must(engine: Engine) {
    let place = place(engine);
    let db = Db::open(&place.url, LEASES).await.unwrap();
    let mut lease = take(&db, 1, 0).await.unwrap();
    let mut written = Vec::new();
    for second in 0..=100 {
        let before = until(&place);
        lease.keep(at(second)).await.unwrap();
        if until(&place) != before {
            written.push(second);
        }
        assert!(take(&db, 2, second).await.is_none());
    }
    assert_eq!(written, [20, 40, 60, 80, 100]);
    // A clock that was set back.
    lease.keep(at(10)).await.unwrap();
    assert_eq!(until(&place), at(10 + SECONDS));
}

async fn it_is_given_back_by_its_holder_alone(engine: Engine) {
    let place = place(engine);
    let db = Db::open(&place.url, LEASES).await.unwrap();
    take(&db, 1, 0).await.unwrap();
    Lease::give_back(&db, JOB, [2; 16]).await;
    assert!(take(&db, 2, 1).await.is_none());
    Lease::give_back(&db, JOB, [1; 16]).await;
    assert!(take(&db, 2, 1).await.is_some(), "at once");
    Lease::give_back(&db, JOB, [1; 16]).await;
    assert!(take(&db, 1, 2).await.is_none());
}

async fn each_job_has_its_own(engine: Engine) {
    let place = place(engine);
    let db = Db::open(&place.url, LEASES).await.unwrap();
    take(&db, 1, 0).await.unwrap();
    assert!(Lease::take(&db, "another", [2; 16], SECONDS, at(0)).await.unwrap().is_some());
    Lease::give_back(&db, "another", [1; 16]).await;
    assert_eq!(place.database.int("select count(*) from leases"), 2);
}

async fn a_clock_that_is_ahead_takes_it_and_its_holder_notices(engine: Engine) {
    let place = place(engine);
    let db = Db::open(&place.url, LEASES).await.unwrap();
    let ahead = 1000;
    let mut right = take(&db, 1, 0).await.unwrap();
    let mut wrong = take(&db, 2, ahead).await.unwrap();
    // Until it must say a word it does not know, and both believe to have it.
    right.keep(at(19)).await.unwrap();
    assert!(matches!(right.keep(at(20)).await, Err(StoreError::Taken)));
    // Whoever is right waits for the other as long as that goes on, and no longer than it is ahead if it does not.
    wrong.keep(at(ahead + 30)).await.unwrap();
    assert!(take(&db, 1, ahead + SECONDS + 29).await.is_none());
    assert!(take(&db, 1, ahead + SECONDS + 30).await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_nobody_heard_of_was_its_own() {
    let place = place(Engine::Postgres);
    let proxy = Proxy::start(&place.database);
    let db = Db::open(&proxy.url(), LEASES).await.unwrap();
    for (cut, start) in [(Cut::BeforeCommit, 0), (Cut::AfterCommit, 1000)] {
        let before = proxy.cuts();
        proxy.cut_after(0, cut);
        let mut lease = take(&db, 1, start).await.unwrap();
        assert!(take(&db, 2, start).await.is_none());
        proxy.cut_after(0, cut);
        lease.keep(at(start + 30)).await.unwrap();
        assert_eq!(until(&place), at(start + 30 + SECONDS));
        proxy.cut_after(0, cut);
        Lease::give_back(&db, JOB, [1; 16]).await;
        assert_eq!((proxy.cuts() - before, place.database.int("select count(*) from leases")), (3, 0), "{cut:?}");
    }
}
