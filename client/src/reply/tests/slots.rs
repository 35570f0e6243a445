use postern_protocol::ids::{Base64, MessageId};
use postern_protocol::problem::ProblemKind;
use postern_protocol::send::{Admission, QueuedMessage};

use super::*;
use crate::read::Fetched;
use crate::send::SendOptions;

#[tokio::test]
async fn a_slot_is_marked_before_anything_is_sent_and_after_a_crash_the_same_bytes_go_again() {
    for fault in [Fault::Before, Fault::After] {
        let mut pair = Pair::acquainted().await;
        let used = pair.bobs().used_slots();
        pair.town.server.fail_next("/messages", fault);
        let sent = pair.bob_writes("hello").await.unwrap();
        assert!(matches!(sent.delivery, Delivery::Queued(Error::Network { .. })));
        // As if the process had ended there.
        pair.bob = pair.town.reopen("bob", pair.bob);
        assert_eq!(pair.bobs().used_slots(), used + 1, "{fault:?}");
        assert_eq!(pair.bob.queued_messages().unwrap(), 1);
        assert_eq!(pair.bob.sync().await.unwrap().delivered, 1);
        let posts = pair.posts();
        let [.., one, two] = posts.as_slice() else { panic!("two posts") };
        assert_eq!(one, two, "byte for byte");
        assert_eq!(pair.bobs().used_slots(), used + 1);
        assert_eq!(pair.alice_reads().await, ["yes?", "hello"]);
        assert!(pair.bob.sync().await.unwrap().failures.is_empty());
    }
}

#[tokio::test]
async fn the_seventeenth_in_an_epoch_is_refused_with_the_time_and_goes_in_the_next_one() {
    let mut pair = Pair::acquainted().await;
    pair.pass(HOUR);
    for left in (0..16).rev() {
        let sent = pair.bob_writes("flood").await.unwrap();
        assert_eq!(sent.paid, Paid::Reply { left_in_epoch: left });
    }
    pair.pass(HOUR / 2);
    let before = pair.town.server.asked("").len();
    let error = pair.bob_writes("seventeen").await.unwrap_err();
    assert!(matches!(error, Error::ReplyLimit { until } if until == NOW + 2 * HOUR), "{error:?}");
    assert_eq!(error.code(), "reply-limit");
    assert_eq!(pair.town.server.asked("").len(), before, "nothing was asked");
    pair.pass(HOUR / 2);
    assert_eq!(pair.bob_writes("seventeen").await.unwrap().paid, Paid::Reply { left_in_epoch: 15 });
}

#[tokio::test]
async fn a_token_pays_for_the_seventeenth_if_it_is_asked_for_and_for_no_other() {
    let mut pair = Pair::acquainted().await;
    let (target, options) = (Target::Contact(ALICE.into()), SendOptions { spend_token: true });
    for _ in 0..15 {
        assert!(is_free(&pair.bob.send_with(&target, "flood", options).await.unwrap()));
    }
    let sent = pair.bob.send_with(&target, "urgent", options).await.unwrap();
    assert_eq!((sent.paid, sent.tokens_left), (Paid::Token { reason: Some(NoReply::AskedFor) }, 4));
    assert_eq!(pair.alice_reads().await.len(), 17);
    assert_eq!(pair.alice.run_outbox().await.unwrap(), 1, "the token of a contact is released");
}

#[tokio::test]
async fn a_reply_that_waited_too_long_is_presented_again_over_the_same_envelope() {
    let mut pair = Pair::acquainted().await;
    pair.town.server.fail_next("/messages", Fault::Before);
    let first = pair.bob_writes("slow").await.unwrap();
    pair.pass(2 * HOUR);
    pair.bob = pair.town.reopen("bob", pair.bob);
    let report = pair.bob.sync().await.unwrap();
    assert_eq!((report.delivered, report.failures.len()), (1, 0));
    let posts = pair.posts();
    let [.., lost, stale, fresh] = posts.as_slice() else { panic!("three posts") };
    assert_eq!(lost, stale, "the identical bytes come first");
    assert_eq!(stale.body, fresh.body);
    assert_ne!(stale.authorization, fresh.authorization);
    assert_eq!(pair.alice_reads().await, ["yes?", "slow"]);
    let read = pair.alice.messages(&[Folder::Inbox]).unwrap().remove(1);
    assert_ne!(read.id, first.id, "it has the name of its second presentation");
    assert_eq!(read.warning, None, "though the slot in it is that of the first");
    assert_eq!(pair.alice.who(&read.id).unwrap().contact.unwrap().phone, BOB);
}

#[tokio::test]
async fn an_envelope_that_came_in_by_two_presentations_is_shown_once() {
    let mut pair = Pair::acquainted().await;
    pair.town.server.fail_next("/messages", Fault::After);
    pair.bob_writes("twice").await.unwrap();
    pair.pass(2 * HOUR);
    assert_eq!(pair.bob.sync().await.unwrap().delivered, 1);
    let mailbox = pair.alice.account().unwrap().mailbox;
    assert_eq!(pair.town.relay.lock().unwrap().queue[&mailbox].len(), 2);
    let fetched = pair.alice.fetch().await.unwrap();
    assert_eq!((fetched.inbox, fetched.junk), (1, 0));
    assert!(pair.town.relay.lock().unwrap().queue[&mailbox].is_empty(), "both are acknowledged");
    // Also after a restart, and for a token: the relay, which has the envelope, can do no more than repeat it.
    let envelope = Base64(pair.posts().pop().unwrap().body);
    let again = QueuedMessage { message: MessageId([7; 32]), arrived: NOW, admission: Admission::Token, envelope };
    pair.alice = pair.town.reopen("alice", pair.alice);
    pair.town.relay.lock().unwrap().queue.get_mut(&mailbox).unwrap().push(again);
    assert_eq!(pair.alice.fetch().await.unwrap(), Fetched::default());
}

#[tokio::test]
async fn a_stale_reply_without_a_free_slot_waits_for_the_next_epoch() {
    let mut pair = Pair::acquainted().await;
    pair.town.server.fail_next("/messages", Fault::Before);
    pair.bob_writes("slow").await.unwrap();
    pair.pass(2 * HOUR);
    for _ in 0..16 {
        pair.bob_writes("flood").await.unwrap();
    }
    let report = pair.bob.sync().await.unwrap();
    assert_eq!((report.delivered, report.failures.len(), pair.bob.queued_messages().unwrap()), (0, 1, 1));
    pair.pass(HOUR);
    assert_eq!(pair.bob.sync().await.unwrap().delivered, 1);
    assert_eq!(pair.alice_reads().await.len(), 18);
}

#[tokio::test]
async fn a_reply_of_a_clock_that_is_ahead_waits_until_its_epoch_begins() {
    let mut pair = Pair::acquainted().await;
    pair.bob.clock = clock_at(NOW + 2 * HOUR);
    let sent = pair.bob_writes("too early").await.unwrap();
    assert!(matches!(&sent.delivery, Delivery::Queued(error) if error.refusal() == Some(ProblemKind::ReplyEpoch)));
    pair.pass(2 * HOUR);
    assert_eq!(pair.bob.sync().await.unwrap().delivered, 1);
    let posts = pair.posts();
    let [.., early, later] = posts.as_slice() else { panic!("two posts") };
    assert_eq!(early, later);
}

#[tokio::test]
async fn a_reply_of_a_clock_that_is_behind_waits_until_it_is_set() {
    let mut pair = Pair::acquainted().await;
    pair.pass(3 * HOUR);
    pair.bob.clock = clock_at(NOW + HOUR);
    let sent = pair.bob_writes("too late").await.unwrap();
    assert!(matches!(&sent.delivery, Delivery::Queued(error) if error.hint().unwrap().contains("clock")));
    pair.bob.clock = std::sync::Arc::clone(&pair.town.clock);
    assert_eq!(pair.bob.sync().await.unwrap().delivered, 1);
}

#[tokio::test]
async fn a_clock_put_back_uses_no_slot_twice() {
    let mut pair = Pair::acquainted().await;
    for text in ["now", "now as well"] {
        pair.bob_writes(text).await.unwrap();
    }
    let (later, sooner) = (clock_at(NOW + HOUR), clock_at(NOW));
    pair.bob.clock = later;
    pair.bob_writes("in an hour").await.unwrap();
    pair.bob.clock = sooner;
    assert_eq!(pair.bob_writes("now again").await.unwrap().paid, Paid::Reply { left_in_epoch: 12 });
}

#[tokio::test]
async fn credentials_that_the_relay_does_not_take_are_forgotten_and_the_next_message_costs_a_token() {
    let mut pair = Pair::acquainted().await;
    let mailbox = pair.alice.account().unwrap().mailbox;
    let keys = pair.town.relay.lock().unwrap().reply_keys.remove(&mailbox).unwrap();
    let error = pair.bob_writes("lost").await.unwrap_err();
    assert_eq!(error.refusal(), Some(ProblemKind::ReplyInvalid));
    assert!(error.hint().unwrap().contains("costs a token"));
    assert_eq!(pair.bob.queued_messages().unwrap(), 0);
    pair.town.relay.lock().unwrap().reply_keys.insert(mailbox, keys);
    let sent = pair.bob_writes("found").await.unwrap();
    assert_eq!(sent.paid, Paid::Token { reason: Some(NoReply::NeverHad) });
    // She reads in it that he holds nothing any more, and hands everything over again.
    assert_eq!(pair.alice_reads().await, ["yes?", "found"]);
    assert!(is_free(&pair.alice_writes("here").await.unwrap()));
    pair.bob.fetch().await.unwrap();
    assert!(is_free(&pair.bob_writes("thanks").await.unwrap()));
}

#[tokio::test]
async fn a_slot_that_turns_out_to_be_used_is_replaced_once() {
    let mut pair = Pair::acquainted().await;
    let old = pair.bobs().with_all_slots_free();
    pair.bob_keeps(&old);
    assert!(is_free(&pair.bob_writes("from an older copy").await.unwrap()));
    assert_eq!(pair.alice_reads().await, ["yes?", "from an older copy"]);
    // Two lost slots are one too many for one message; it says so, and the next one finds a free one.
    pair.bob_keeps(&old);
    let error = pair.bob_writes("from the same copy").await.unwrap_err();
    assert_eq!(error.refusal(), Some(ProblemKind::ReplyUsed));
    assert!(is_free(&pair.bob_writes("once more").await.unwrap()));
}

#[tokio::test]
async fn a_refused_reply_has_failed_and_its_slot_stays_used() {
    let mut pair = Pair::acquainted().await;
    let used = pair.bobs().used_slots();
    pair.town.relay.lock().unwrap().refuse_send = Some(ProblemKind::MailboxFull);
    let error = pair.bob_writes("full").await.unwrap_err();
    assert_eq!(error.refusal(), Some(ProblemKind::MailboxFull));
    assert_eq!((pair.bobs().used_slots(), pair.bob.queued_messages().unwrap()), (used + 1, 0));
    assert!(is_free(&pair.bob_writes("again").await.unwrap()));
    assert_eq!(pair.alice_reads().await, ["yes?", "again"]);
}
