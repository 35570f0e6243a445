use postern_credentials::certificate::CertificateAuthority;
use postern_protocol::problem::ProblemKind;
use postern_protocol::time::Timestamp;

use super::*;
use crate::outbox::Verdict;
use crate::read::Folder;
use crate::testing::{Fault, ISSUER_NAME, NOW, Person, Town};

const ALICE: &str = "+41791234567";
const BOB: &str = "+41791234568";

struct Pair {
    town: Town,
    alice: Person,
    bob: Person,
}

impl Pair {
    async fn new() -> Self {
        let town = Town::new();
        let alice = town.person("alice", ALICE).await;
        let bob = town.person("bob", BOB).await;
        Self { town, alice, bob }
    }

    async fn alice_writes(&mut self, text: &str) -> Result<Sent> {
        let target = Target::Link(self.bob.card_link().unwrap());
        self.alice.send(&target, text).await
    }

    fn left(&self) -> usize {
        self.alice.tokens().unwrap().left
    }

    /// What lies in a folder of Bob's, as texts.
    fn texts(&self, folder: Folder) -> Vec<String> {
        let messages = self.bob.messages(&[folder]).unwrap();
        messages.into_iter().map(|message| message.text.unwrap_or_default()).collect()
    }
}

#[tokio::test]
async fn a_stranger_writes_is_accepted_gets_the_token_back_and_an_answer() {
    let mut pair = Pair::new().await;
    let sent = pair.alice_writes("hello").await.unwrap();
    assert!(matches!(sent.delivery, Delivery::Delivered));
    assert_eq!((sent.phone.as_str(), sent.tokens_left), (BOB, 4));
    assert_eq!(sent.paid, Paid::Token { reason: None });
    pair.alice_writes("are you there").await.unwrap();
    pair.alice_writes("hello?").await.unwrap();

    assert_eq!(pair.bob.fetch().await.unwrap().requests, 3);
    let first = pair.bob.messages(&[Folder::Requests]).unwrap().remove(0);
    assert_eq!(first.from.as_deref(), Some(ALICE));
    assert!(pair.bob.contact_link(ALICE).is_err(), "a request is not a contact");
    pair.bob.accept(&first.id[..8]).unwrap();
    assert_eq!(pair.texts(Folder::Inbox).len(), 3, "with all that they wrote");
    assert_eq!(pair.bob.run_outbox().await.unwrap(), 3);

    assert_eq!(pair.alice.sync().await.unwrap().returned, 3);
    assert_eq!(pair.left(), 5);
    let answer = pair.bob.send(&Target::Contact(ALICE.into()), "yes").await.unwrap();
    assert_eq!(answer.paid, Paid::Reply { left_in_epoch: 15 });
    assert_eq!(pair.alice.fetch().await.unwrap().inbox, 1, "whom one wrote to is a contact");
    let back = pair.alice.messages(&[Folder::Inbox]).unwrap().remove(0);
    assert_eq!((back.text.as_deref(), back.from.as_deref()), (Some("yes"), Some(BOB)));
    let sent = pair.alice_writes("good").await.unwrap();
    assert_eq!((sent.paid, pair.left()), (Paid::Reply { left_in_epoch: 15 }, 5));
    assert_eq!(pair.bob.fetch().await.unwrap().inbox, 1);
}

#[tokio::test]
async fn an_envelope_has_nothing_in_common_with_the_next_one() {
    let mut pair = Pair::new().await;
    pair.alice_writes("hello").await.unwrap();
    pair.alice_writes("hello").await.unwrap();
    let sent: Vec<_> = pair.town.server.asked("/messages").into_iter().filter(|asked| asked.method == "POST").collect();
    let windows = |body: &[u8]| body.windows(8).map(<[u8]>::to_vec).collect::<std::collections::HashSet<_>>();
    let (first, second) = (windows(&sent[0].body), windows(&sent[1].body));
    assert_eq!(sent[0].body.len(), sent[1].body.len());
    assert!(first.is_disjoint(&second));
    for asked in pair.town.server.asked("/messages") {
        let text = String::from_utf8_lossy(&asked.body).into_owned();
        assert!(!text.contains("hello") && !text.contains(ALICE));
    }
}

#[tokio::test]
async fn a_message_lost_on_the_way_goes_again_byte_for_byte_after_a_restart() {
    for fault in [Fault::Before, Fault::After] {
        let mut pair = Pair::new().await;
        pair.town.server.fail_next("/messages", fault);
        let sent = pair.alice_writes("hello").await.unwrap();
        assert!(matches!(sent.delivery, Delivery::Queued(Error::Network { .. })));
        assert_eq!(pair.alice.tokens().unwrap().sending, 1);
        let mut alice = pair.town.reopen("alice", pair.alice);
        assert_eq!(alice.sync().await.unwrap().delivered, 1);
        assert_eq!(alice.queued_messages().unwrap(), 0);
        let posts = pair.town.server.asked("/messages");
        let posts: Vec<_> = posts.iter().filter(|asked| asked.method == "POST").collect();
        assert_eq!(posts.len(), 2);
        assert_eq!(posts[0], posts[1]);
        assert_eq!(pair.bob.fetch().await.unwrap().requests, 1);
        assert_eq!(alice.tokens().unwrap().out.len(), 1);
    }
}

#[tokio::test]
async fn a_refused_message_gives_the_token_back_and_says_why() {
    for kind in [ProblemKind::MailboxUnknown, ProblemKind::MailboxFull, ProblemKind::TokenInvalid] {
        let mut pair = Pair::new().await;
        pair.town.relay.lock().unwrap().refuse_send = Some(kind);
        let error = pair.alice_writes("hello").await.unwrap_err();
        assert_eq!(error.refusal(), Some(kind));
        assert!(error.hint().is_some());
        assert_eq!(pair.left(), 5, "{kind:?}");
        assert_eq!(pair.alice.queued_messages().unwrap(), 0);
    }
}

#[tokio::test]
async fn a_token_that_a_relay_has_seen_refused_goes_to_the_same_mailbox_or_last() {
    let mut pair = Pair::new().await;
    let mut carol = pair.town.person("carol", "+41791234569").await;
    pair.town.relay.lock().unwrap().refuse_send = Some(ProblemKind::MailboxFull);
    pair.alice_writes("hello").await.unwrap_err();
    let seen = pair.town.server.asked("/messages").pop().unwrap().authorization;
    let target = Target::Link(carol.card_link().unwrap());
    for _ in 0..4 {
        pair.alice.send(&target, "hello").await.unwrap();
        assert_ne!(pair.town.server.asked("/messages").pop().unwrap().authorization, seen);
    }
    pair.alice_writes("again").await.unwrap();
    assert_eq!(pair.town.server.asked("/messages").pop().unwrap().authorization, seen);
    assert_eq!(carol.fetch().await.unwrap().requests, 4);
}

#[tokio::test]
async fn the_sixth_message_is_refused_before_anything_is_asked() {
    let mut pair = Pair::new().await;
    for n in 0..5 {
        pair.alice_writes(&n.to_string()).await.unwrap();
    }
    let before = pair.town.server.asked("").len();
    let error = pair.alice_writes("six").await.unwrap_err();
    assert!(matches!(error, Error::NoToken { next_check: Some(_) }));
    assert_eq!(error.exit_code(), 7);
    assert_eq!(pair.town.server.asked("").len(), before);
}

#[tokio::test]
async fn what_cannot_be_sent_costs_nothing() {
    let mut pair = Pair::new().await;
    let long = "x".repeat(MAX_TEXT + 1);
    assert!(matches!(pair.alice_writes(&long).await, Err(Error::TextTooLong { .. })));
    let own = Target::Link(pair.alice.card_link().unwrap());
    assert!(matches!(pair.alice.send(&own, "me").await, Err(Error::OwnCard)));
    let nobody = Target::Contact("+41790000000".into());
    assert!(matches!(pair.alice.send(&nobody, "x").await, Err(Error::NotFound("contact"))));
    let mut link = pair.bob.card_link().unwrap();
    link.identity = SigningPublicKey([8; 32]);
    assert!(matches!(pair.alice.send(&Target::Link(link), "x").await, Err(Error::CardInvalid(_))));
    let far = CardLink { relay_url: "https://relay.example".into(), ..pair.bob.card_link().unwrap() };
    assert!(matches!(pair.alice.send(&Target::Link(far), "x").await, Err(Error::NotAnonymous { .. })));
    assert_eq!(pair.left(), 5);
    pair.alice_writes(&"x".repeat(MAX_TEXT)).await.unwrap();
    pair.bob.fetch().await.unwrap();
    assert_eq!(pair.texts(Folder::Requests)[0].len(), MAX_TEXT);
}

#[tokio::test]
async fn a_message_that_came_twice_is_kept_once_and_nothing_is_acknowledged_before_it_is_stored() {
    let mut pair = Pair::new().await;
    pair.alice_writes("hello").await.unwrap();
    pair.town.server.fail_next("/v1/mailbox/ack", Fault::Before);
    assert!(pair.bob.fetch().await.is_err());
    assert_eq!(pair.texts(Folder::Requests), ["hello"]);
    let again = pair.bob.fetch().await.unwrap();
    assert_eq!((again.requests, again.junk), (0, 0));
    assert_eq!(pair.texts(Folder::Requests), ["hello"]);
    assert!(pair.town.relay.lock().unwrap().queue.values().all(Vec::is_empty));
}

#[tokio::test]
async fn what_cannot_be_believed_is_shown_as_junk_with_the_reason() {
    let mut pair = Pair::new().await;
    for _ in 0..4 {
        pair.alice_writes("hello").await.unwrap();
    }
    {
        let mailbox = pair.bob.account().unwrap().mailbox;
        let mut relay = pair.town.relay.lock().unwrap();
        let queue = relay.queue.get_mut(&mailbox).unwrap();
        queue[0].envelope.0[2000] ^= 1;
        queue[2].envelope.0[10] ^= 1;
        // The same envelope under another name has come before, and is nothing new.
        queue[3].envelope = queue[1].envelope.clone();
    }
    let fetched = pair.bob.fetch().await.unwrap();
    assert_eq!((fetched.requests, fetched.junk), (1, 2));
    let junk = pair.bob.messages(&[Folder::Junk]).unwrap();
    assert!(junk.iter().all(|message| message.from.is_none() && message.reason.is_some()));
    assert!(pair.town.relay.lock().unwrap().queue.values().all(Vec::is_empty), "junk is acknowledged as well");
    // Junk can still be judged: a damaged message may have been an honest one.
    pair.bob.decline(&junk[0].id).unwrap();
    assert!(matches!(pair.bob.accept(&junk[1].id), Err(Error::Invalid(_))));
    assert_eq!(pair.bob.run_outbox().await.unwrap(), 1);
}

#[tokio::test]
async fn a_sender_with_a_certificate_of_somebody_else_s_issuer_is_junk_and_the_text_is_there() {
    let mut pair = Pair::new().await;
    // Alice's certificate comes from a false authority of the same name.
    let (from, until) = (Timestamp::from_seconds(NOW - 9), Timestamp::from_seconds(NOW + 99_999));
    let false_ca = CertificateAuthority::create([66; 32], ISSUER_NAME, from, until).unwrap();
    let account = pair.alice.account().unwrap();
    let subject = postern_credentials::certificate::CertifiedSubject {
        phone: account.phone.clone(),
        key: account.identity.public(),
    };
    let certificate = false_ca.issue(&subject, [1; 16], from, until).unwrap();
    pair.alice.replace_certificate(certificate).unwrap();
    pair.alice_writes("trust me").await.unwrap();
    let fetched = pair.bob.fetch().await.unwrap();
    assert_eq!((fetched.requests, fetched.junk), (0, 1));
    let junk = pair.bob.messages(&[Folder::Junk]).unwrap().remove(0);
    assert!(junk.reason.unwrap().contains("not certified"));
    assert_eq!(junk.text.as_deref(), Some("trust me"));
    assert_eq!(pair.bob.contacts().unwrap(), []);
}

#[tokio::test]
async fn a_card_with_another_s_keys_in_it_does_not_get_them_the_message() {
    let mut pair = Pair::new().await;
    let mut mallory = pair.town.person("mallory", "+41791234569").await;
    // Mallory certifies Bob's keys and mailbox as her own.
    let bobs = pair.bob.own_card().unwrap();
    mallory.replace_card(|card| Card { certificate: card.certificate, signed_at: card.signed_at, ..bobs }).unwrap();
    let link = CardLink { identity: mallory.account().unwrap().identity.public(), ..pair.bob.card_link().unwrap() };
    let sealed = mallory.sealed_card().unwrap();
    pair.town.relay.lock().unwrap().cards.insert(link.mailbox, sealed);
    pair.alice.send(&Target::Link(link), "for mallory's eyes").await.unwrap();
    let fetched = pair.bob.fetch().await.unwrap();
    assert_eq!((fetched.requests, fetched.junk), (0, 1));
    let reason = pair.bob.messages(&[Folder::Junk]).unwrap().remove(0).reason.unwrap();
    assert_eq!(reason, "it was meant for somebody else");
}

#[tokio::test]
async fn spam_burns_and_what_the_sender_writes_later_is_junk() {
    let mut pair = Pair::new().await;
    pair.alice_writes("buy").await.unwrap();
    pair.bob.sync().await.unwrap();
    let id = pair.bob.messages(&[Folder::Requests]).unwrap().remove(0).id;
    pair.bob.spam(&id).unwrap();
    pair.bob.run_outbox().await.unwrap();
    assert!(matches!(pair.bob.accept(&id), Err(Error::VerdictDone)));
    pair.alice_writes("buy more").await.unwrap();
    assert_eq!(pair.bob.fetch().await.unwrap().junk, 1);
    let report = pair.alice.sync().await.unwrap();
    assert_eq!((report.returned, pair.left()), (0, 3));
}

#[tokio::test]
async fn a_verdict_waits_for_its_time_survives_a_restart_and_can_be_turned_round_until_then() {
    let mut pair = Pair::new().await;
    pair.bob.change_settings(|settings| settings.release_delay_seconds = 3600).unwrap();
    pair.alice_writes("hello").await.unwrap();
    pair.bob.sync().await.unwrap();
    let id = pair.bob.messages(&[Folder::Requests]).unwrap().remove(0).id;
    pair.bob.spam(&id).unwrap();
    pair.bob.accept(&id).unwrap();
    let at = pair.bob.next_due().unwrap().unwrap();
    assert!((Timestamp::from_seconds(NOW)..=Timestamp::from_seconds(NOW + 3600)).contains(&at));
    pair.bob.accept(&id).unwrap();
    let mut bob = pair.town.reopen("bob", pair.bob);
    assert_eq!(bob.next_due().unwrap(), Some(at), "neither a restart nor a second thought draws again");
    assert_eq!(bob.run_outbox().await.unwrap(), 0);
    assert!(!bob.read_message(&id).unwrap().verdict_sent);
    pair.town.clock.advance_seconds(3600);
    assert_eq!(bob.run_outbox().await.unwrap(), 1);
    let message = bob.read_message(&id).unwrap();
    assert!(message.verdict == Some(Verdict::Accepted) && message.verdict_sent);
    assert_eq!(pair.town.relay.lock().unwrap().released.len(), 1);
}

#[tokio::test]
async fn declining_looks_like_accepting_to_the_relay() {
    let mut pair = Pair::new().await;
    pair.alice_writes("hello").await.unwrap();
    pair.bob.sync().await.unwrap();
    let id = pair.bob.messages(&[Folder::Requests]).unwrap().remove(0).id;
    pair.bob.decline(&id).unwrap();
    pair.bob.run_outbox().await.unwrap();
    assert!(pair.town.server.asked("/decline").is_empty());
    assert_eq!(pair.town.server.asked("/v1/mailbox/release").len(), 1);
    assert!(pair.bob.contact_link(ALICE).is_err());
    pair.alice_writes("please").await.unwrap();
    assert_eq!(pair.bob.fetch().await.unwrap().requests, 1, "who was declined asks again");
}

#[tokio::test]
async fn keys_rotate_weekly_and_what_was_sealed_to_the_old_ones_still_opens() {
    let mut pair = Pair::new().await;
    let old = pair.bob.own_card().unwrap();
    // Delivered after the rotation, sealed before it.
    pair.alice_writes("before").await.unwrap();
    let late = pair.town.relay.lock().unwrap().queue.drain().collect::<Vec<_>>();
    pair.town.clock.advance_seconds(7 * 24 * 3600);
    assert!(pair.bob.sync().await.unwrap().card_published);
    let new = pair.bob.own_card().unwrap();
    assert!(new.sealing_key != old.sealing_key && new.olm_fallback != old.olm_fallback);
    assert_eq!(new.olm_identity, old.olm_identity);
    assert!(!pair.bob.sync().await.unwrap().card_published, "once a week");
    pair.town.relay.lock().unwrap().queue.extend(late);
    pair.alice_writes("after").await.unwrap();
    assert_eq!(pair.bob.fetch().await.unwrap().requests, 2);
    assert_eq!(pair.bob.sealing_keys().unwrap().len(), 2);
    pair.town.clock.advance_seconds(7 * 24 * 3600);
    pair.bob.sync().await.unwrap();
    assert_eq!(pair.bob.sealing_keys().unwrap().len(), 3);
    pair.town.clock.advance_seconds((30 + 7) * 24 * 3600);
    pair.bob.sync().await.unwrap();
    assert!(pair.bob.sealing_keys().unwrap().len() <= 3, "those that nothing can be sealed to are erased");
}

#[tokio::test]
async fn when_the_relay_is_away_a_fresh_card_at_hand_is_enough_to_write() {
    let mut pair = Pair::new().await;
    pair.alice_writes("one").await.unwrap();
    pair.town.server.fail_next("/card", Fault::Before);
    pair.town.server.fail_next("/messages", Fault::Before);
    let sent = pair.alice_writes("two").await.unwrap();
    assert!(matches!(sent.delivery, Delivery::Queued(_)));
    assert_eq!(pair.alice.sync().await.unwrap().delivered, 1);
    assert_eq!(pair.bob.fetch().await.unwrap().requests, 2);
}

#[tokio::test]
async fn sending_asks_nothing_that_names_the_sender() {
    let mut pair = Pair::new().await;
    pair.alice_writes("one").await.unwrap();
    let before = pair.town.server.asked("").len();
    pair.alice_writes("two").await.unwrap();
    let during = pair.town.server.asked("").split_off(before);
    assert!(during.iter().all(|asked| asked.path.ends_with("/card") || asked.path.ends_with("/messages")));
    assert!(during.iter().all(|asked| !asked.authorization.starts_with("Bearer")));
    let account = pair.alice.account().unwrap();
    for asked in during {
        let text = format!("{} {} {}", asked.path, asked.authorization, String::from_utf8_lossy(&asked.body));
        assert!(!text.contains(&account.mailbox.to_string()) && !text.contains(ALICE));
    }
}

#[tokio::test]
async fn deeds_can_be_handed_to_another_thread() {
    fn sendable<T: Send>(deed: T) -> T {
        deed
    }
    let mut pair = Pair::new().await;
    let target = Target::Link(pair.bob.card_link().unwrap());
    sendable(pair.alice.send(&target, "x")).await.unwrap();
    sendable(pair.bob.sync()).await.unwrap();
    sendable(pair.bob.log_in(crate::testing::PASSWORD)).await.unwrap();
    drop(sendable(pair.bob.verify_code(None, "x")));
    drop(sendable(pair.bob.doctor()));
}

#[tokio::test]
async fn debug_shows_no_number_and_no_text() {
    let mut pair = Pair::new().await;
    let sent = pair.alice_writes("planted text").await.unwrap();
    pair.bob.sync().await.unwrap();
    let target = Target::Contact(ALICE.into());
    let messages = pair.bob.messages(&[Folder::Requests]).unwrap();
    let shown = format!(
        "{sent:?} {target:?} {messages:?} {:?} {:?} {:?} {:?}",
        pair.alice.tokens().unwrap(),
        pair.bob.contacts().unwrap(),
        pair.alice,
        pair.bob.account().unwrap(),
    );
    for planted in ["planted text", &ALICE[1..], &BOB[1..]] {
        assert!(!shown.contains(planted), "{shown}");
    }
}
