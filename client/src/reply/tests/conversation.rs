use super::*;
use crate::payload::MAX_TEXT;

#[tokio::test]
async fn after_a_first_message_for_a_token_both_write_for_free() {
    let mut pair = Pair::strangers().await;
    let first = pair.alice_writes("hello").await.unwrap();
    assert_eq!((first.paid, first.tokens_left), (Paid::Token { reason: None }, 4));
    pair.bob.sync().await.unwrap();
    assert!(pair.bob.messages(&[Folder::Inbox]).unwrap().is_empty(), "requests lie apart");
    let request = only(&pair.bob, Folder::Requests);
    assert_eq!((request.by, request.from.as_deref()), (By::Token, Some(ALICE)));
    pair.bob.accept(&request.id).unwrap();
    let answer = pair.bob_writes("yes").await.unwrap();
    assert_eq!((answer.paid, answer.tokens_left), (Paid::Reply { left_in_epoch: 15 }, 5));
    assert_eq!(pair.alice_reads().await, ["yes"]);
    assert_eq!(only(&pair.alice, Folder::Inbox).by, By::Reply);
    // Both restart in the middle.
    pair.alice = pair.town.reopen("alice", pair.alice);
    pair.bob = pair.town.reopen("bob", pair.bob);
    let second = pair.alice_writes("good").await.unwrap();
    assert_eq!((second.paid, second.tokens_left), (Paid::Reply { left_in_epoch: 15 }, 4));
    assert_eq!(pair.bob_writes("then").await.unwrap().paid, Paid::Reply { left_in_epoch: 14 });
    assert_eq!(pair.alice_reads().await, ["yes", "then"]);
    assert_eq!(pair.bob.fetch().await.unwrap().inbox, 1);
    assert_eq!(pair.alice.tokens().unwrap().out.len(), 1, "nobody asks after a token for a reply");
    assert_eq!(pair.alice.outbox_len().unwrap(), 0, "and there is none to release");
}

#[tokio::test]
async fn a_reply_asks_nothing_that_names_its_sender_and_two_have_nothing_in_common() {
    let mut pair = Pair::acquainted().await;
    let before = pair.town.server.asked("").len();
    assert!(is_free(&pair.bob_writes("one").await.unwrap()));
    assert!(is_free(&pair.bob_writes("one").await.unwrap()));
    let during = pair.town.server.asked("").split_off(before);
    assert!(during.iter().all(|asked| asked.path.ends_with("/card") || asked.path.ends_with("/messages")));
    let account = pair.bob.account().unwrap();
    for asked in &during {
        let text = format!("{} {} {}", asked.path, asked.authorization, String::from_utf8_lossy(&asked.body));
        assert!(!text.contains(&account.mailbox.to_string()) && !text.contains(BOB) && !text.contains("Bearer"));
    }
    let posts = pair.posts();
    let [.., one, two] = posts.as_slice() else { panic!("two posts") };
    let windows = |asked: &Asked| {
        let presentation = asked.authorization.rsplit('=').next().unwrap().to_owned();
        let shown = postern_protocol::ids::decode_base64(&presentation).unwrap();
        assert_eq!(shown.len(), 160);
        [shown, asked.body.clone()].concat().windows(8).map(<[u8]>::to_vec).collect::<std::collections::HashSet<_>>()
    };
    assert!(windows(one).is_disjoint(&windows(two)));
}

#[tokio::test]
async fn who_was_away_for_three_weeks_writes_for_free_and_who_was_for_five_pays_a_token_and_is_told() {
    let mut pair = Pair::acquainted().await;
    pair.pass(3 * WEEK);
    assert!(is_free(&pair.bob_writes("back").await.unwrap()));
    pair.pass(2 * WEEK);
    let sent = pair.bob_writes("back again").await.unwrap();
    assert_eq!((sent.paid, sent.tokens_left), (Paid::Token { reason: Some(NoReply::RanOut) }, 4));
    assert_eq!(pair.alice_reads().await, ["yes?", "back", "back again"]);
    // It says that he has nothing left, and brings what she needs to answer for free.
    assert!(is_free(&pair.alice_writes("there you are").await.unwrap()));
    pair.bob.fetch().await.unwrap();
    assert!(is_free(&pair.bob_writes("here I am").await.unwrap()));
}

#[tokio::test]
async fn credentials_are_renewed_inside_ordinary_messages_and_not_sent_twice_when_they_are_there() {
    let mut pair = Pair::acquainted().await;
    for week in 0..10 {
        assert!(is_free(&pair.bob_writes("tick").await.unwrap()), "week {week}");
        pair.alice.sync().await.unwrap();
        assert!(is_free(&pair.alice_writes("tock").await.unwrap()), "week {week}");
        pair.bob.sync().await.unwrap();
        // Each says what they hold; the other has nothing to add.
        assert!(is_free(&pair.bob_writes("tick").await.unwrap()), "week {week}");
        pair.alice.sync().await.unwrap();
        let (account, bob) = (pair.alice.account().unwrap(), identity(&pair.bob));
        assert!(pair.alice.offer(&account, &bob).unwrap().is_none(), "week {week}");
        pair.pass(WEEK);
        assert!(pair.alice.offer(&account, &bob).unwrap().is_some(), "week {week}");
    }
    assert_eq!(texts(&pair.alice, Folder::Inbox).len(), 21);
}

#[tokio::test]
async fn declining_hands_over_nothing() {
    let mut pair = Pair::strangers().await;
    pair.alice_writes("hello").await.unwrap();
    pair.bob.sync().await.unwrap();
    let id = only(&pair.bob, Folder::Requests).id;
    pair.bob.decline(&id).unwrap();
    pair.bob.sync().await.unwrap();
    assert!(pair.bob.profile.list::<IssuedRecord>().unwrap().is_empty());
    assert!(pair.bob.profile.list::<HeldRecord>().unwrap().is_empty(), "hers are forgotten");
    assert_eq!(pair.posts().len(), 1);
    let again = pair.alice_writes("please").await.unwrap();
    assert_eq!(again.paid, Paid::Token { reason: None }, "she cannot tell declining from silence");
}

#[tokio::test]
async fn who_is_accepted_is_handed_credentials_by_a_hello_that_nobody_sees() {
    let mut pair = Pair::strangers().await;
    pair.alice_writes("hello").await.unwrap();
    pair.bob.sync().await.unwrap();
    let id = only(&pair.bob, Folder::Requests).id;
    pair.bob.accept(&id).unwrap();
    assert_eq!(pair.bob.sync().await.unwrap().hellos, 1);
    assert_eq!(pair.bob.tokens().unwrap().left, 5, "never for a token");
    assert_eq!(pair.bob.sync().await.unwrap().hellos, 0);
    assert!(pair.alice_reads().await.is_empty());
    assert!(pair.alice.messages(&[Folder::Requests, Folder::Junk]).unwrap().is_empty());
    assert!(is_free(&pair.alice_writes("thanks").await.unwrap()));
    assert_eq!(pair.bob.fetch().await.unwrap().inbox, 1);
}

#[tokio::test]
async fn a_hello_waits_for_a_random_time_and_an_ordinary_message_makes_it_needless() {
    let mut pair = Pair::strangers().await;
    pair.bob.change_settings(|settings| settings.release_delay_seconds = HOUR).unwrap();
    pair.alice_writes("hello").await.unwrap();
    pair.bob.sync().await.unwrap();
    let id = only(&pair.bob, Folder::Requests).id;
    pair.bob.accept(&id).unwrap();
    let at = pair.bob.profile.list::<HelloJob>().unwrap()[0].1.not_before.seconds();
    assert!((NOW + 1..NOW + HOUR).contains(&at));
    assert!(pair.bob.next_due().unwrap().unwrap().seconds() <= at);
    assert_eq!(pair.bob.sync().await.unwrap().hellos, 0, "not before its time");
    assert!(is_free(&pair.bob_writes("yes").await.unwrap()));
    pair.pass(HOUR);
    assert_eq!(pair.bob.sync().await.unwrap().hellos, 0);
    assert_eq!(pair.posts().len(), 2);
}

#[tokio::test]
async fn a_hello_that_could_only_go_for_a_token_does_not_go() {
    let mut pair = Pair::strangers().await;
    // So long a text leaves no room beside it for credentials of so many slots.
    let (account, bob) = (pair.alice.account().unwrap(), identity(&pair.bob));
    let issued = pair.alice.offer(&account, &bob).unwrap().unwrap().issued.with_slots(64);
    pair.alice.profile.tx(&mut pair.alice.rng, |t| t.put(&bob.to_string(), &issued)).unwrap();
    pair.alice_writes(&"x".repeat(MAX_TEXT)).await.unwrap();
    pair.bob.sync().await.unwrap();
    let id = only(&pair.bob, Folder::Requests).id;
    pair.bob.accept(&id).unwrap();
    assert_eq!(pair.bob.sync().await.unwrap().hellos, 0);
    assert_eq!((pair.posts().len(), pair.bob.tokens().unwrap().left), (1, 5));
    let answer = pair.bob_writes("that was long").await.unwrap();
    assert_eq!(answer.paid, Paid::Token { reason: Some(NoReply::NeverHad) });
    pair.alice.fetch().await.unwrap();
    assert!(is_free(&pair.alice_writes("I know").await.unwrap()));
    pair.bob.fetch().await.unwrap();
    let better = pair.bob_writes("better").await.unwrap();
    assert_eq!(better.paid, Paid::Reply { left_in_epoch: 63 }, "a short one brought them");
}
