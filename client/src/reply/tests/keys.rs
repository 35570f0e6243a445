use postern_protocol::reply::ReplyPolicy;

use super::*;
use crate::register::AccountRecord;

fn versions(pair: &Pair) -> Vec<u32> {
    let mailbox = pair.alice.account().unwrap().mailbox;
    pair.town.relay.lock().unwrap().reply_keys[&mailbox].iter().map(|(version, _)| *version).collect()
}

#[tokio::test]
async fn after_a_rotation_old_credentials_work_until_new_ones_are_there() {
    let mut pair = Pair::acquainted().await;
    let rotated = pair.alice.rotate_reply_key(false).await.unwrap();
    assert_eq!((rotated.key_version, rotated.failure.is_none()), (2, true));
    assert_eq!(versions(&pair), [1, 2]);
    assert!(is_free(&pair.bob_writes("by the old one").await.unwrap()));
    assert_eq!(pair.alice_reads().await, ["yes?", "by the old one"]);
    pair.alice_writes("new ones").await.unwrap();
    pair.bob.fetch().await.unwrap();
    assert_eq!(pair.bobs().key_version(), 2);
    assert!(is_free(&pair.bob_writes("by the new one").await.unwrap()));
    assert_eq!(pair.alice_reads().await.len(), 3);
    assert!(pair.alice.messages(&[Folder::Inbox]).unwrap().iter().all(|message| message.warning.is_none()));
    // The old one's last credential ends with the fourth period.
    pair.pass(4 * WEEK);
    assert!(pair.alice.sync().await.unwrap().reply_keys_published);
    assert_eq!(versions(&pair), [2]);
    assert!(!pair.alice.sync().await.unwrap().reply_keys_published);
}

#[tokio::test]
async fn a_rotation_at_once_voids_old_credentials_and_what_came_by_them_before_still_counts() {
    let mut pair = Pair::acquainted().await;
    pair.bob_writes("before").await.unwrap();
    pair.alice.rotate_reply_key(true).await.unwrap();
    assert_eq!(versions(&pair), [2]);
    assert!(pair.bob_writes("void").await.is_err());
    let sent = pair.bob_writes("after").await.unwrap();
    assert_eq!(sent.paid, Paid::Token { reason: Some(NoReply::NeverHad) });
    assert_eq!(pair.alice_reads().await, ["yes?", "before", "after"]);
    pair.alice_writes("new ones").await.unwrap();
    pair.bob.fetch().await.unwrap();
    assert!(is_free(&pair.bob_writes("free again").await.unwrap()));
}

#[tokio::test]
async fn a_reply_that_waited_through_a_rotation_is_presented_by_the_new_credentials() {
    let mut pair = Pair::acquainted().await;
    pair.town.server.fail_next("/messages", Fault::Before);
    pair.bob_writes("slow").await.unwrap();
    pair.alice.rotate_reply_key(true).await.unwrap();
    pair.alice_writes("new ones").await.unwrap();
    pair.bob.fetch().await.unwrap();
    assert_eq!(pair.bob.sync().await.unwrap().delivered, 1);
    assert_eq!(pair.alice_reads().await, ["yes?", "slow"]);
}

#[tokio::test]
async fn nothing_is_handed_over_that_the_relay_would_not_take() {
    let mut pair = Pair::acquainted().await;
    pair.town.server.fail_next("/v1/mailbox/reply-keys", Fault::Before);
    assert!(pair.alice.rotate_reply_key(false).await.unwrap().failure.is_some());
    let (account, bob) = (pair.alice.account().unwrap(), identity(&pair.bob));
    assert!(pair.alice.offer(&account, &bob).unwrap().is_none());
    pair.alice = pair.town.reopen("alice", pair.alice);
    assert!(pair.alice.sync().await.unwrap().reply_keys_published);
    assert!(pair.alice.offer(&account, &bob).unwrap().is_some());
    assert_eq!(versions(&pair), [1, 2]);
}

#[tokio::test]
async fn a_profile_from_before_replies_gets_its_key_with_the_next_sync() {
    let mut pair = Pair::strangers().await;
    let mailbox = pair.alice.account().unwrap().mailbox;
    pair.town.relay.lock().unwrap().reply_keys.clear();
    pair.alice
        .profile
        .tx(&mut pair.alice.rng, |t| {
            let account = t.get::<AccountRecord>("")?.unwrap();
            t.put("", &AccountRecord { replies: None, ..account })?;
            t.delete::<GroupRecord>("")
        })
        .unwrap();
    pair.alice_writes("hello").await.unwrap();
    pair.bob.fetch().await.unwrap();
    assert!(pair.bob.profile.list::<HeldRecord>().unwrap().is_empty());
    assert!(pair.alice.sync().await.unwrap().reply_keys_published);
    assert!(pair.town.relay.lock().unwrap().reply_keys.contains_key(&mailbox));
    pair.alice_writes("hello again").await.unwrap();
    pair.bob.fetch().await.unwrap();
    assert_eq!(pair.bob.profile.list::<HeldRecord>().unwrap().len(), 1);
}

#[tokio::test]
async fn secrets_of_periods_that_nothing_can_come_from_any_more_are_erased() {
    let mut pair = Pair::acquainted().await;
    let bob = key(&pair.bob);
    let issued = |pair: &Pair| pair.alice.profile.get::<IssuedRecord>(&bob).unwrap().unwrap();
    let now = u32::try_from(NOW / WEEK).unwrap();
    pair.pass(5 * WEEK);
    pair.alice.sync().await.unwrap();
    assert!(issued(&pair).secret_at(now).unwrap().is_some(), "a message may wait for thirty days");
    pair.pass(2 * WEEK);
    pair.alice.sync().await.unwrap();
    assert!(issued(&pair).secret_at(now).unwrap().is_none());
    assert!(issued(&pair).secret_at(now + 7).unwrap().is_some());
    pair.bob.sync().await.unwrap();
    assert_eq!(pair.bob_writes("back").await.unwrap().paid, Paid::Token { reason: Some(NoReply::RanOut) });
}

#[tokio::test]
async fn a_relay_that_counts_otherwise_than_before_is_not_believed_and_the_owner_is_told() {
    let mut pair = Pair::acquainted().await;
    let before = pair.alice.account().unwrap().replies;
    let otherwise = ReplyPolicy { epoch_seconds: 1800, ..ReplyPolicy::default() };
    pair.town.relay.lock().unwrap().policy = otherwise;
    pair.pass(WEEK);
    let report = pair.alice.sync().await.unwrap();
    assert!(report.failures.iter().any(|error| matches!(error, Error::Misbehaved(_))), "{:?}", report.failures);
    assert_eq!(pair.alice.account().unwrap().replies, before, "all contacts name their epochs alike");
}
