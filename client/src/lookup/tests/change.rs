//! New builds and new epochs.

use super::*;

const NEWCOMER: &str = "+41791234560";

/// Time enough that the manifest is looked at again.
fn later(town: &Town) {
    town.clock.advance_seconds(2 * 3600);
}

/// Carol registers, and is in the next build.
async fn newcomer(town: &Town) -> Person {
    let carol = town.person("carol", NEWCOMER).await;
    town.publish();
    later(town);
    carol
}

#[tokio::test]
async fn the_delta_brings_a_newcomer_and_costs_no_token() {
    let (town, mut alice, bob) = listed().await;
    let all = [BOB, NEWCOMER, NOBODY];
    assert_eq!(find(&mut alice, &all).await.unwrap(), [hit(&bob), Outcome::NotListed, Outcome::NotListed]);
    let spent = town.lookups(|lookups| lookups.spent());
    let carol = newcomer(&town).await;
    assert_eq!(find(&mut alice, &all).await.unwrap(), [hit(&bob), hit(&carol), Outcome::NotListed]);
    let of_build = town.server.asked("/v1/directory/2/");
    assert_eq!(of_build[0].path, "/v1/directory/2/delta");
    assert_eq!(town.lookups(|lookups| lookups.spent()), spent);
    // A build in which nobody is new costs the delta, a bucket that stands in for somebody, and no filter.
    town.publish();
    later(&town);
    assert_eq!(find(&mut alice, &all).await.unwrap(), [hit(&bob), hit(&carol), Outcome::NotListed]);
    let paths: Vec<_> = town.server.asked("/v1/directory/3/").into_iter().map(|asked| asked.path).collect();
    assert_eq!(paths, ["delta", "fingerprints/0", "records/0"].map(|file| format!("/v1/directory/3/{file}")));
}

#[tokio::test]
async fn a_build_that_was_skipped_is_made_up_for_by_the_filter() {
    let (town, mut alice, _bob) = listed().await;
    find(&mut alice, &[NEWCOMER]).await.unwrap();
    let carol = newcomer(&town).await;
    town.publish();
    assert_eq!(find(&mut alice, &[NEWCOMER]).await.unwrap(), [hit(&carol)]);
    assert!(town.server.asked("/delta").is_empty());
}

#[tokio::test]
async fn files_of_a_build_that_is_gone_lead_to_the_one_of_now() {
    let (town, mut alice, bob) = listed().await;
    find(&mut alice, &[NOBODY]).await.unwrap();
    // The manifest at hand is fresh, but its buckets are not served any more.
    town.publish();
    assert_eq!(find(&mut alice, &[BOB]).await.unwrap(), [hit(&bob)]);
    assert_eq!(town.server.asked("/v1/directory/1/fingerprints/0").len(), 1);
}

#[tokio::test]
async fn a_new_epoch_makes_every_number_new() {
    let (town, mut alice, bob) = listed().await;
    find(&mut alice, &[BOB, NOBODY]).await.unwrap();
    town.lookups(|lookups| lookups.epoch = 2);
    town.publish();
    later(&town);
    assert_eq!(find(&mut alice, &[BOB, NOBODY]).await.unwrap(), [hit(&bob), Outcome::NotListed]);
    assert_eq!(sizes(&town), [2, 2]);
}

#[tokio::test]
async fn an_epoch_that_changes_between_manifest_and_look_up_is_noticed() {
    let (town, mut alice, bob) = listed().await;
    find(&mut alice, &[NOBODY]).await.unwrap();
    town.lookups(|lookups| lookups.epoch = 2);
    town.publish();
    assert_eq!(find(&mut alice, &[BOB]).await.unwrap(), [hit(&bob)]);
    assert_eq!(sizes(&town), [1, 1]);
}

#[tokio::test]
async fn an_answer_of_the_epoch_before_is_thrown_away_and_asked_for_anew() {
    let (town, mut alice, bob) = listed().await;
    town.server.fail_next(LOOKUP_PATH, crate::testing::Fault::Before);
    assert!(find(&mut alice, &[BOB]).await.is_err(), "the view could not be had");
    find(&mut alice, &[NOBODY]).await.unwrap();
    town.server.fail_next(LOOKUP_PATH, crate::testing::Fault::After);
    assert!(find(&mut alice, &[BOB]).await.is_err());
    town.lookups(|lookups| lookups.epoch = 2);
    town.publish();
    later(&town);
    assert_eq!(find(&mut alice, &[BOB]).await.unwrap(), [hit(&bob)]);
    let asked = evaluations(&town);
    assert_eq!(asked.len(), 4);
    assert_eq!(asked[1], asked[2]);
}

#[tokio::test]
async fn whoever_has_gone_since_the_build_cannot_be_written_to_and_no_token_is_spent() {
    let (town, mut alice, bob) = listed().await;
    let mailbox = bob.account().unwrap().mailbox;
    town.relay.lock().unwrap().cards.remove(&mailbox);
    assert!(matches!(alice.send(&BOB.parse().unwrap(), "hello").await, Err(Error::NotListed)));
    assert_eq!(alice.tokens().unwrap().left, 5);
}

#[tokio::test]
async fn whoever_has_registered_anew_since_they_were_found_is_written_to_where_they_are_now() {
    let (town, mut alice, bob) = listed().await;
    assert_eq!(find(&mut alice, &[BOB]).await.unwrap(), [hit(&bob)]);
    let mailbox = bob.account().unwrap().mailbox;
    town.relay.lock().unwrap().cards.remove(&mailbox);
    town.stranger(&number(BOB), &number(BOB), 5);
    town.lookups(|lookups| lookups.publish());
    let (requests, spent) = (town.server.asked("/messages").len(), town.lookups(|lookups| lookups.spent()));
    assert_eq!(alice.send(&BOB.parse().unwrap(), "hello").await.unwrap().phone, BOB);
    assert_eq!(town.server.asked("/messages").len(), requests + 1);
    assert_eq!(town.lookups(|lookups| lookups.spent()), spent, "the number costs no second token");
}
