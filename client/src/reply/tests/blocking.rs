use super::*;
use crate::contact::Standing;
use crate::read::Fetched;
use crate::send::SendOptions;

/// Bob writes by a free slot, and sees nothing but success.
async fn bob_is_none_the_wiser(pair: &mut Pair, text: &str) {
    let sent = pair.bob_writes(text).await.unwrap();
    assert!(is_free(&sent), "{sent:?}");
}

fn queued(pair: &Pair) -> usize {
    let mailbox = pair.alice.account().unwrap().mailbox;
    pair.town.relay.lock().unwrap().queue.get(&mailbox).map_or(0, Vec::len)
}

#[tokio::test]
async fn a_blocked_contact_sees_success_and_nothing_comes() {
    let mut pair = Pair::acquainted().await;
    bob_is_none_the_wiser(&mut pair, "on its way").await;
    let change = pair.alice.block(BOB, false).await.unwrap();
    assert!(change.failure.is_none());
    assert_eq!(change.contact.standing, Standing::Blocked);
    assert_eq!(pair.alice.fetch().await.unwrap(), Fetched::default(), "what was on its way is dropped");
    assert_eq!(queued(&pair), 0, "and acknowledged");
    bob_is_none_the_wiser(&mut pair, "hello?").await;
    assert_eq!(queued(&pair), 0, "the relay kept nothing");
    pair.pass(HOUR);
    bob_is_none_the_wiser(&mut pair, "hello??").await;
    assert_eq!(queued(&pair), 0);
    assert_eq!(pair.alice_reads().await, ["yes?"]);
    assert!(pair.alice.messages(&[Folder::Requests, Folder::Junk]).unwrap().is_empty());
}

#[tokio::test]
async fn lists_are_continued_for_who_syncs_and_the_relay_learns_nothing_from_them_of_what_was_written() {
    let mut pair = Pair::acquainted().await;
    bob_is_none_the_wiser(&mut pair, "read").await;
    pair.alice.sync().await.unwrap();
    pair.alice.block(BOB, false).await.unwrap();
    {
        let relay = pair.town.relay.lock().unwrap();
        assert_eq!(relay.struck.len(), 50 * 16, "two days of hours, the current one, and the one before in its grace");
        assert!(relay.replied.keys().all(|place| !relay.struck.contains(place)));
    }
    assert_eq!(pair.alice.sync().await.unwrap().strikes, 0, "there is enough for now");
    for day in 0..10 {
        pair.pass(25 * HOUR);
        assert_eq!(pair.alice.sync().await.unwrap().strikes, 1, "day {day}");
        bob_is_none_the_wiser(&mut pair, "still there").await;
        assert_eq!(queued(&pair), 0, "day {day}");
    }
    // Credentials were handed over for four weeks; after that there is nothing to strike, and nothing is renewed.
    pair.pass(4 * WEEK);
    pair.alice.sync().await.unwrap();
    assert_eq!(pair.alice.sync().await.unwrap().strikes, 0);
    let sent = pair.bob_writes("for a token then").await.unwrap();
    assert_eq!(sent.paid, Paid::Token { reason: Some(NoReply::RanOut) });
    assert_eq!(pair.alice.sync().await.unwrap().fetched, Fetched::default());
    assert_eq!(pair.alice.outbox_len().unwrap(), 0, "and his token is not released");
}

#[tokio::test]
async fn what_the_relay_could_not_be_told_counts_here_and_is_told_by_sync() {
    let mut pair = Pair::acquainted().await;
    pair.town.server.fail_next("/v1/mailbox/reply-strikes", Fault::Before);
    let change = pair.alice.block(&crate::names::short(&identity(&pair.bob).0), false).await.unwrap();
    assert!(matches!(change.failure, Some(Error::Network { .. })));
    bob_is_none_the_wiser(&mut pair, "between").await;
    assert_eq!(queued(&pair), 1);
    pair.alice = pair.town.reopen("alice", pair.alice);
    assert_eq!(pair.alice.sync().await.unwrap().strikes, 1);
    assert_eq!(texts(&pair.alice, Folder::Inbox), ["yes?"]);
    {
        let relay = pair.town.relay.lock().unwrap();
        assert!(relay.replied.keys().all(|place| !relay.struck.contains(place)), "what came between was known by then");
    }
    bob_is_none_the_wiser(&mut pair, "after").await;
    assert_eq!(queued(&pair), 0);
}

#[tokio::test]
async fn unblocking_takes_back_exactly_what_was_listed_and_the_conversation_is_in_step() {
    let mut pair = Pair::acquainted().await;
    pair.alice.block(BOB, false).await.unwrap();
    for text in ["lost", "lost as well"] {
        bob_is_none_the_wiser(&mut pair, text).await;
    }
    pair.town.server.fail_next("/v1/mailbox/reply-strikes", Fault::After);
    let change = pair.alice.unblock(BOB).await.unwrap();
    assert_eq!(change.contact.standing, Standing::Contact);
    assert!(change.failure.is_some());
    assert_eq!(pair.alice.sync().await.unwrap().strikes, 1);
    assert!(pair.town.relay.lock().unwrap().struck.is_empty());
    bob_is_none_the_wiser(&mut pair, "found").await;
    assert_eq!(pair.alice_reads().await, ["yes?", "found"]);
    assert!(is_free(&pair.alice_writes("sorry").await.unwrap()));
    assert_eq!(pair.alice.sync().await.unwrap().strikes, 0);
    assert!(matches!(pair.alice.unblock(BOB).await, Err(Error::Invalid(_))));
    // And once more from the beginning.
    assert!(pair.alice.block(BOB, false).await.unwrap().failure.is_none());
    bob_is_none_the_wiser(&mut pair, "lost again").await;
    assert_eq!(pair.alice_reads().await, ["yes?", "found"]);
}

#[tokio::test]
async fn a_revealed_secret_strikes_by_itself_and_after_unblocking_new_credentials_are_needed() {
    let mut pair = Pair::acquainted().await;
    assert!(pair.alice.block(BOB, true).await.unwrap().failure.is_none());
    assert!(pair.town.relay.lock().unwrap().struck.is_empty());
    for _ in 0..3 {
        bob_is_none_the_wiser(&mut pair, "lost").await;
        pair.pass(WEEK);
    }
    assert_eq!(queued(&pair), 0);
    assert_eq!(pair.alice.sync().await.unwrap().strikes, 0, "there is nothing to continue");
    pair.alice.unblock(BOB).await.unwrap();
    for _ in 0..16 {
        bob_is_none_the_wiser(&mut pair, "still lost").await;
    }
    assert_eq!(queued(&pair), 0);
    let options = SendOptions { spend_token: true };
    pair.bob.send_with(&Target::Contact(ALICE.into()), "urgent", options).await.unwrap();
    assert_eq!(pair.alice_reads().await, ["yes?", "urgent"]);
    pair.pass(HOUR);
    // What he says he holds is of the old secret: she hands over all the same, until he writes by the new one.
    assert!(is_free(&pair.alice_writes("try again").await.unwrap()));
    pair.bob.fetch().await.unwrap();
    bob_is_none_the_wiser(&mut pair, "found").await;
    assert_eq!(pair.alice_reads().await, ["yes?", "urgent", "found"]);
    let message = pair.alice.messages(&[Folder::Inbox]).unwrap().pop().unwrap();
    assert_eq!((message.warning, pair.alice.who(&message.id).unwrap().contact.unwrap().phone), (None, BOB.to_owned()));
    let (account, bob) = (pair.alice.account().unwrap(), identity(&pair.bob));
    assert!(pair.alice.offer(&account, &bob).unwrap().is_none(), "and has them all now");
}

#[tokio::test]
async fn nobody_writes_to_or_accepts_whom_they_have_blocked() {
    let mut pair = Pair::strangers().await;
    pair.alice_writes("one").await.unwrap();
    pair.alice_writes("two").await.unwrap();
    pair.bob.sync().await.unwrap();
    let id = pair.bob.messages(&[Folder::Requests]).unwrap().remove(0).id;
    pair.bob.block(ALICE, false).await.unwrap();
    assert!(matches!(pair.bob.accept(&id), Err(Error::Blocked)));
    let link = Target::Link(pair.alice.card_link().unwrap());
    for target in [Target::Contact(ALICE.into()), link] {
        assert!(matches!(pair.bob.send(&target, "x").await, Err(Error::Blocked)));
    }
    pair.bob.decline(&id).unwrap();
    assert_eq!(pair.bob.contacts().unwrap()[0].standing, Standing::Blocked, "a verdict does not unblock");
    pair.alice_writes("three").await.unwrap();
    assert_eq!(pair.bob.fetch().await.unwrap(), Fetched::default());
    assert!(matches!(pair.bob.block("+41790000000", false).await, Err(Error::NotFound("contact"))));
}
