use super::*;
use crate::read::Folder;
use crate::send::Target;
use crate::testing::{Fault, NOW, Person, Town};

async fn two(town: &Town) -> (Person, Person) {
    (town.person("alice", "+41791234567").await, town.person("bob", "+41791234568").await)
}

async fn write(alice: &mut Person, bob: &Person) {
    alice.send(&Target::Link(bob.card_link().unwrap()), "hello").await.unwrap();
}

async fn release(bob: &mut Person) {
    bob.fetch().await.unwrap();
    for message in bob.messages(&[Folder::Requests]).unwrap() {
        bob.accept(&message.id).unwrap();
    }
    bob.run_outbox().await.unwrap();
}

#[tokio::test]
async fn a_lost_answer_is_fetched_again_by_the_identical_request() {
    let town = Town::new();
    let (mut alice, mut bob) = two(&town).await;
    write(&mut alice, &bob).await;
    release(&mut bob).await;
    town.server.fail_next(EXCHANGE_PATH, Fault::After);
    let run = alice.run_exchanges().await.unwrap();
    assert!(run.done.is_empty() && matches!(run.failed, Some(Error::Network { .. })));
    let mut alice = town.reopen("alice", alice);
    assert_eq!(alice.run_exchanges().await.unwrap().done, [Exchanged::Returned]);
    assert_eq!(alice.tokens().unwrap().left, 5);
    let asked = town.server.asked(EXCHANGE_PATH);
    assert_eq!(asked[0], asked[1]);
    assert!(alice.run_exchanges().await.unwrap().done.is_empty());
}

#[tokio::test]
async fn the_questions_come_at_random_times_later_and_later() {
    let town = Town::new();
    let (mut alice, bob) = two(&town).await;
    let interval = 10_000;
    alice.change_settings(|settings| settings.exchange_interval_seconds = interval).unwrap();
    write(&mut alice, &bob).await;
    let first = alice.next_due().unwrap().unwrap().seconds();
    assert!((NOW + interval / 2..=NOW + interval * 3 / 2).contains(&first));
    assert!(alice.run_exchanges().await.unwrap().done.is_empty(), "not before its time");
    let mut longest = 0;
    for n in 1..=12 {
        town.clock.advance_seconds(2 * LONGEST_GAP);
        let asked_at = alice.now().seconds();
        assert_eq!(alice.run_exchanges().await.unwrap().done, [Exchanged::NotYet]);
        longest = alice.next_due().unwrap().unwrap().seconds() - asked_at;
        assert_eq!(alice.tokens().unwrap().out[0].checks, n);
    }
    assert!((LONGEST_GAP / 2..=LONGEST_GAP * 3 / 2).contains(&longest));
}

#[tokio::test]
async fn several_that_are_due_are_not_asked_for_in_one_go() {
    let town = Town::new();
    let (mut alice, bob) = two(&town).await;
    alice.change_settings(|settings| settings.exchange_interval_seconds = 1000).unwrap();
    for _ in 0..3 {
        write(&mut alice, &bob).await;
    }
    town.clock.advance_seconds(5000);
    assert_eq!(alice.run_exchanges().await.unwrap().done.len(), 1);
    assert_eq!(town.server.asked(EXCHANGE_PATH).len(), 1);
    assert!(alice.run_exchanges().await.unwrap().done.is_empty());
}

#[tokio::test]
async fn a_key_rotated_before_the_answer_is_noticed_and_another_fresh_token_begun() {
    let town = Town::new();
    let (mut alice, mut bob) = two(&town).await;
    write(&mut alice, &bob).await;
    assert_eq!(alice.run_exchanges().await.unwrap().done, [Exchanged::NotYet]);
    release(&mut bob).await;
    town.issuer.lock().unwrap().rotate();
    assert_eq!(alice.run_exchanges().await.unwrap().done, [Exchanged::Returned]);
    let active = town.issuer.lock().unwrap().token_key.public().key_id();
    let tokens = alice.profile.list::<TokenRecord>().unwrap();
    let fresh = tokens.iter().filter(|(_, t)| t.token().unwrap().input.token_key_id == active).count();
    assert_eq!((tokens.len(), fresh), (5, 1));
}

#[tokio::test]
async fn unspent_tokens_of_a_retiring_key_are_renewed_and_those_of_a_retired_one_written_off() {
    let town = Town::new();
    let (mut alice, mut bob) = two(&town).await;
    town.issuer.lock().unwrap().rotate();
    let report = alice.sync().await.unwrap();
    assert_eq!((report.renewed, report.returned), (5, 0));
    assert_eq!(alice.tokens().unwrap().left, 5);
    town.issuer.lock().unwrap().retiring.clear();
    bob.refresh_keys().await.unwrap();
    let screen = bob.tokens().unwrap();
    assert_eq!((screen.left, screen.answered.len()), (0, 5), "bob slept through the whole overlap");
    assert!(screen.answered.iter().all(|answered| answered.outcome == TokenOutcome::Expired));
    alice.refresh_keys().await.unwrap();
    assert_eq!(alice.tokens().unwrap().left, 5);
}

#[tokio::test]
async fn a_token_whose_renewal_was_sent_is_not_spent_any_more() {
    let town = Town::new();
    let (mut alice, bob) = two(&town).await;
    town.issuer.lock().unwrap().rotate();
    alice.refresh_keys().await.unwrap();
    for _ in 0..5 {
        town.server.fail_next(EXCHANGE_PATH, Fault::After);
        drop(alice.run_exchanges().await.unwrap());
    }
    let screen = alice.tokens().unwrap();
    assert!(screen.renewing >= 1);
    assert_eq!(screen.left + screen.renewing, 5);
    for _ in 0..screen.left {
        write(&mut alice, &bob).await;
    }
    let none = alice.send(&Target::Link(bob.card_link().unwrap()), "x").await;
    assert!(matches!(none, Err(Error::NoToken { .. })));
    alice.sync().await.unwrap();
    assert_eq!(alice.tokens().unwrap().left, screen.renewing);
}
