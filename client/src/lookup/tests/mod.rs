mod attack;
mod budget;
mod change;

use std::collections::BTreeSet;

use postern_protocol::directory::MANIFEST_PATH;
use postern_protocol::ids::PhoneNumber;
use postern_protocol::log::LOG_PATH;
use postern_protocol::lookup::{ALLOWANCE_PATH, LOOKUP_PATH, LookupRequest};
use postern_protocol::tokens::{DIRECTORY_PATH, TOKEN_REQUEST_PATH};

use super::*;
use crate::send::Target;
use crate::testing::{Asked, Person, Town, number};

const ALICE: &str = "+41791234567";
const BOB: &str = "+41791234568";
const NOBODY: &str = "+41791234599";

/// Alice and Bob, both listed.
async fn listed() -> (Town, Person, Person) {
    let town = Town::new();
    let (alice, bob) = (town.person("alice", ALICE).await, town.person("bob", BOB).await);
    town.publish();
    (town, alice, bob)
}

async fn find(person: &mut Person, numbers: &[&str]) -> Result<Vec<Outcome>> {
    let numbers: Vec<PhoneNumber> = numbers.iter().map(|text| number(text)).collect();
    Ok(person.find(&numbers, &mut |_| {}).await?.into_iter().map(|found| found.outcome).collect())
}

/// The outcome for somebody who is listed.
fn hit(person: &Person) -> Outcome {
    let link = person.card_link().unwrap();
    Outcome::Listed { contact: crate::names::short(&link.identity.0), link }
}

/// Requests to evaluate numbers.
fn evaluations(town: &Town) -> Vec<Asked> {
    town.server.asked(LOOKUP_PATH).into_iter().filter(|asked| asked.method == "POST").collect()
}

fn sizes(town: &Town) -> Vec<usize> {
    evaluations(town).iter().map(|asked| asked.json::<LookupRequest>().blinded.len()).collect()
}

#[tokio::test]
async fn whoever_is_listed_is_found_and_nobody_else() {
    let (_town, mut alice, bob) = listed().await;
    let found = find(&mut alice, &[NOBODY, BOB, NOBODY]).await.unwrap();
    assert_eq!(found, [Outcome::NotListed, hit(&bob)]);
}

#[tokio::test]
async fn whoever_does_not_want_to_be_listed_is_not_found() {
    let (town, mut alice, _bob) = listed().await;
    town.lookups(|lookups| {
        lookups.listed.remove(&number(BOB));
        lookups.publish();
    });
    assert_eq!(find(&mut alice, &[BOB]).await.unwrap(), [Outcome::NotListed]);
}

#[tokio::test]
async fn the_second_run_asks_nobody_and_spends_nothing() {
    let (town, mut alice, bob) = listed().await;
    find(&mut alice, &[BOB, NOBODY]).await.unwrap();
    let (requests, spent) = (town.server.asked("").len(), town.lookups(|lookups| lookups.spent()));
    let mut alice = town.reopen("alice", alice);
    assert_eq!(find(&mut alice, &[BOB, NOBODY]).await.unwrap(), [hit(&bob), Outcome::NotListed]);
    assert_eq!(town.server.asked("").len(), requests);
    assert_eq!(town.lookups(|lookups| lookups.spent()), spent);
}

#[tokio::test]
async fn a_number_that_is_new_costs_a_batch_and_no_file_that_is_known() {
    let (town, mut alice, bob) = listed().await;
    find(&mut alice, &[NOBODY]).await.unwrap();
    let files = town.server.asked(MANIFEST_PATH).len();
    assert_eq!(find(&mut alice, &[BOB]).await.unwrap(), [hit(&bob)]);
    assert_eq!(find(&mut alice, &[ALICE]).await.unwrap(), [hit(&alice)]);
    assert_eq!(town.server.asked(MANIFEST_PATH).len(), files, "the bucket is at hand");
}

#[tokio::test]
async fn a_miss_and_a_hit_send_the_same_requests() {
    let paths = async |number: &str| {
        let (town, mut alice, _bob) = listed().await;
        let before = town.server.asked("").len();
        find(&mut alice, &[number]).await.unwrap();
        let asked = town.server.asked("").into_iter().skip(before);
        let path = |asked: Asked| asked.path.split('?').next().unwrap().to_owned();
        asked.map(|asked| (asked.method.clone(), asked.body.len(), path(asked))).collect::<Vec<_>>()
    };
    let (hit, miss) = (paths(BOB).await, paths(NOBODY).await);
    assert_eq!(hit, miss);
    let asked = |end: &str| hit.iter().filter(|(_, _, path)| path.ends_with(end)).count();
    assert_eq!((asked("/filter"), asked("/fingerprints/0"), asked("/records/0")), (1, 1, 1));
    assert_eq!(hit.iter().filter(|(_, _, path)| path.contains("mailboxes")).count(), 0, "no relay is asked for a card");
}

#[tokio::test]
async fn what_is_anonymous_carries_neither_jwt_nor_session() {
    let (town, mut alice, _bob) = listed().await;
    find(&mut alice, &[BOB, NOBODY]).await.unwrap();
    alice.lookup_budget().await.unwrap();
    let anonymous: Vec<_> = [LOOKUP_PATH, MANIFEST_PATH, LOG_PATH, DIRECTORY_PATH, "/card"]
        .iter()
        .flat_map(|path| town.server.asked(path))
        .filter(|asked| asked.method != "PUT" && !asked.path.starts_with("/v1/login"))
        .collect();
    assert!(anonymous.len() > 8);
    for asked in &anonymous {
        assert!(asked.authorization.is_empty(), "{}", asked.path);
        let body = String::from_utf8_lossy(&asked.body);
        assert!(!body.contains("4179") && !asked.path.contains("4179"), "{}", asked.path);
    }
    for path in [TOKEN_REQUEST_PATH, ALLOWANCE_PATH] {
        assert!(town.server.asked(path).iter().all(|asked| !asked.authorization.is_empty()), "{path}");
    }
}

#[tokio::test]
async fn dummies_fill_a_batch_up_and_the_order_says_nothing() {
    let (town, mut alice, _bob) = listed().await;
    find(&mut alice, &[BOB]).await.unwrap();
    find(&mut alice, &[ALICE, NOBODY, "+41791234501"]).await.unwrap();
    assert_eq!(sizes(&town), [1, 4]);
    assert_eq!(town.lookups(|lookups| lookups.spent()), 5, "dummies use tokens");
    // Where the dummies are among nine numbers, in several batches: not always at one end.
    let mut orders = BTreeSet::new();
    for n in 0..2 {
        let numbers: Vec<String> = (0..9).map(|m| format!("+4179123{n}{m}00")).collect();
        let numbers: Vec<&str> = numbers.iter().map(String::as_str).collect();
        town.server.fail_next(LOOKUP_PATH, crate::testing::Fault::Before);
        assert!(find(&mut alice, &numbers).await.is_err());
        let order = alice.batch_order();
        assert_eq!((order.len(), order.iter().filter(|number| number.is_none()).count()), (16, 7));
        let real: Vec<_> = order.iter().flatten().cloned().collect();
        assert!(real != numbers && !real.is_sorted());
        orders.insert(order.iter().map(Option::is_none).collect::<Vec<_>>());
        find(&mut alice, &numbers).await.unwrap();
    }
    assert_eq!(orders.len(), 2);
}

#[tokio::test]
async fn a_text_goes_to_a_number_that_is_no_contact_yet() {
    let (town, mut alice, mut bob) = listed().await;
    let target: Target = BOB.parse().unwrap();
    let sent = alice.send(&target, "hello").await.unwrap();
    assert_eq!((sent.phone.as_str(), sent.tokens_left), (BOB, 4));
    let spent = town.lookups(|lookups| lookups.spent());
    alice.send(&target, "again").await.unwrap();
    assert_eq!(town.lookups(|lookups| lookups.spent()), spent, "a contact is not looked up");
    assert_eq!(bob.fetch().await.unwrap().requests, 2);
    let nobody = alice.send(&NOBODY.parse().unwrap(), "hello").await;
    assert!(matches!(nobody, Err(Error::NotListed)));
    let own = alice.send(&ALICE.parse().unwrap(), "hello").await;
    assert!(matches!(own, Err(Error::OwnCard)));
    // Whoever has written is somebody to decide on, not a stranger to look up.
    let requester = bob.send(&ALICE.parse().unwrap(), "hello").await;
    assert!(matches!(requester, Err(Error::NotFound("contact"))));
}

#[tokio::test]
async fn a_thousand_numbers_are_looked_up_among_two_thousand_accounts_in_one_go() {
    let town = Town::new();
    let mut alice = town.person("alice", ALICE).await;
    let phone = |n: u32| number(&format!("+4178{n:07}"));
    for n in 0..40 {
        town.stranger(&phone(n), &phone(n), n);
    }
    town.lookups(|lookups| {
        let record = lookups.listed.values().next().unwrap().clone();
        for n in 10_000..11_960 {
            lookups.listed.insert(phone(n), record.clone());
        }
        lookups.publish();
        assert_eq!((lookups.build().manifest.accounts, lookups.build().manifest.bits), (2000, 1));
    });
    let numbers: Vec<_> = (0..1000).map(phone).collect();
    let mut seen = Vec::new();
    let found = alice.find(&numbers, &mut |progress| seen.push(progress)).await.unwrap();
    assert_eq!(found.len(), 1000);
    for (n, found) in found.iter().enumerate() {
        let listed = matches!(found.outcome, Outcome::Listed { .. });
        assert_eq!((listed, &found.phone), (n < 40, &numbers[n]));
    }
    assert_eq!(sizes(&town), [128; 8]);
    let evaluated: Vec<_> = seen.iter().filter(|p| p.step == Step::Numbers).map(|p| p.done).collect();
    assert_eq!(evaluated, [0, 128, 256, 384, 512, 640, 768, 896, 1000]);
    let fetched: Vec<_> = seen.iter().filter(|p| p.step == Step::Buckets).map(|p| (p.done, p.of)).collect();
    assert!(fetched.iter().enumerate().all(|(n, p)| *p == (n, fetched.len())), "{fetched:?}");
    // Two buckets, of which a round knows both by the second file.
    assert_eq!(town.server.asked("/v1/directory/1/records/").len(), 2);
}
