use postern_credentials::envelope;
use postern_credentials::reply_credential::envelope_digest;
use postern_protocol::ids::{Base64, MessageId};
use postern_protocol::send::{Admission, QueuedMessage};
use postern_protocol::time::Clock;

use super::*;

const CAROL: &str = "+41791234569";

impl Pair {
    /// Puts an envelope into Alice's mailbox by Bob's credential, as the relay would.
    fn deliver_by_bobs_credential(&mut self, envelope: Vec<u8>) {
        let mut held = self.bobs();
        let Right::Slot(slot) = held.take_slot(self.town.clock.now()).unwrap() else { panic!("no slot") };
        let mailbox = self.alice.account().unwrap().mailbox;
        let digest = envelope_digest(&envelope);
        let (ctx, shown) = slot.present(&mut self.bob.rng, mailbox, &digest).unwrap();
        let presentation = Base64(shown.encode().to_vec());
        let queued = QueuedMessage {
            message: ctx.message_id(shown.nullifier()),
            arrived: NOW,
            admission: Admission::Reply { key_version: slot.key_version, epoch: slot.epoch, presentation },
            envelope: Base64(envelope),
        };
        self.town.relay.lock().unwrap().queue.entry(mailbox).or_default().push(queued);
    }
}

#[tokio::test]
async fn who_names_the_contact_behind_a_reply_and_the_sender_of_a_message_for_a_token() {
    let pair = Pair::acquainted().await;
    let reply = only(&pair.alice, Folder::Inbox);
    let who = pair.alice.who(&reply.id[..8]).unwrap();
    assert_eq!((who.by, who.slot), (By::Reply, Some(0)));
    assert_eq!(who.contact.unwrap().phone, BOB);
    let cold = only(&pair.bob, Folder::Inbox);
    let who = pair.bob.who(&cold.id).unwrap();
    assert_eq!((who.by, who.slot, who.contact.unwrap().phone.as_str()), (By::Token, None, ALICE));
    assert!(matches!(pair.alice.who("ffffffff"), Err(Error::NotFound("message"))));
    assert!(!format!("{:?}", pair.alice.who(&reply.id).unwrap()).contains(BOB));
}

#[tokio::test]
async fn what_cannot_be_opened_is_junk_that_says_whose_credential_it_came_by() {
    let mut pair = Pair::acquainted().await;
    let card = pair.alice.own_card().unwrap();
    let envelope = envelope::seal(&mut pair.bob.rng, &card.sealing_key, &card.mailbox, b"no message").unwrap();
    pair.deliver_by_bobs_credential(envelope);
    assert_eq!(pair.alice.fetch().await.unwrap().junk, 1);
    let junk = only(&pair.alice, Folder::Junk);
    assert!(junk.reason.unwrap().ends_with(&format!("it came by the reply credential of {BOB}")));
    assert_eq!(junk.from, None, "which is not to say that he wrote it");
    let who = pair.alice.who(&junk.id).unwrap();
    assert_eq!((who.by, who.contact.unwrap().phone.as_str()), (By::Reply, BOB));
}

#[tokio::test]
async fn what_the_relay_lets_in_without_a_right_is_junk_and_the_envelope_may_still_come_rightly() {
    let mut pair = Pair::acquainted().await;
    pair.bob_writes("real").await.unwrap();
    let mailbox = pair.alice.account().unwrap().mailbox;
    let right = pair.town.relay.lock().unwrap().queue[&mailbox][0].clone();
    let Admission::Reply { key_version, epoch, presentation } = right.admission.clone() else { panic!("a reply") };
    let changed = |at: usize| {
        let mut changed = presentation.clone();
        changed.0[at] ^= 1;
        changed
    };
    let bad = [
        Admission::Reply { key_version, epoch, presentation: changed(140) },
        Admission::Reply { key_version: key_version + 1, epoch, presentation: presentation.clone() },
        Admission::Reply { key_version, epoch: epoch + 168, presentation: presentation.clone() },
        Admission::Reply { key_version, epoch: u32::MAX, presentation: presentation.clone() },
        Admission::Reply { key_version, epoch, presentation: Base64(vec![1; 7]) },
    ];
    let forged = bad.into_iter().zip(1..).map(|(admission, n)| QueuedMessage {
        message: MessageId([n; 32]),
        admission,
        ..right.clone()
    });
    let queue: Vec<_> = forged.chain([right.clone()]).collect();
    pair.town.relay.lock().unwrap().queue.insert(mailbox, queue);
    let fetched = pair.alice.fetch().await.unwrap();
    assert_eq!((fetched.junk, fetched.inbox), (5, 1));
    let junk = pair.alice.messages(&[Folder::Junk]).unwrap();
    assert!(junk.iter().all(|m| m.reason.as_deref() == Some("the relay let it in without a right")));
    let who = pair.alice.who(&junk[0].id).unwrap();
    assert_eq!((who.by, who.contact), (By::Reply, None));
    assert_eq!(texts(&pair.alice, Folder::Inbox), ["yes?", "real"]);
}

#[tokio::test]
async fn a_contact_who_writes_by_another_s_credential_is_shown_with_a_warning_that_names_both() {
    let mut pair = Pair::acquainted().await;
    let mut carol = pair.town.person("carol", CAROL).await;
    pair.alice.send(&Target::Link(carol.card_link().unwrap()), "hello").await.unwrap();
    carol.fetch().await.unwrap();
    // Bob has given Carol what he holds.
    let (bobs, alice) = (pair.bobs(), key(&pair.alice));
    carol.profile.tx(&mut carol.rng, |t| t.put(&alice, &bobs)).unwrap();
    pair.pass(1);
    assert!(is_free(&carol.send(&Target::Link(pair.alice.card_link().unwrap()), "borrowed").await.unwrap()));
    pair.alice.fetch().await.unwrap();
    let message = pair.alice.messages(&[Folder::Inbox]).unwrap().pop().unwrap();
    assert_eq!((message.text.as_deref(), message.from.as_deref()), (Some("borrowed"), Some(CAROL)));
    assert_eq!(message.warning.unwrap(), format!("it came by the reply credential of {BOB}"));
    assert_eq!(pair.alice.who(&message.id).unwrap().contact.unwrap().phone, BOB);
}

#[tokio::test]
async fn a_reply_by_nobody_s_credential_is_shown_with_a_warning() {
    let mut pair = Pair::acquainted().await;
    pair.bob_writes("who am I").await.unwrap();
    let bob = key(&pair.bob);
    pair.alice.profile.tx(&mut pair.alice.rng, |t| t.delete::<IssuedRecord>(&bob)).unwrap();
    pair.alice.fetch().await.unwrap();
    let message = pair.alice.messages(&[Folder::Inbox]).unwrap().pop().unwrap();
    assert!(message.warning.unwrap().starts_with("it came by no contact's credential"));
    let who = pair.alice.who(&message.id).unwrap();
    assert_eq!((who.by, who.contact, who.slot), (By::Reply, None, None));
}

#[tokio::test]
async fn credentials_of_a_size_that_makes_no_sense_are_left_and_the_message_stands() {
    let mut pair = Pair::strangers().await;
    let (account, bob) = (pair.alice.account().unwrap(), identity(&pair.bob));
    let issued = pair.alice.offer(&account, &bob).unwrap().unwrap().issued.with_slots(257);
    pair.alice.profile.tx(&mut pair.alice.rng, |t| t.put(&bob.to_string(), &issued)).unwrap();
    pair.alice_writes("hello").await.unwrap();
    assert_eq!(pair.bob.fetch().await.unwrap().requests, 1);
    let request = only(&pair.bob, Folder::Requests);
    assert_eq!(request.text.as_deref(), Some("hello"));
    assert_eq!(request.warning.as_deref(), Some("the reply credentials in it cannot be used"));
    assert!(pair.bob.profile.list::<HeldRecord>().unwrap().is_empty());
}

#[tokio::test]
async fn a_verdict_on_a_reply_is_not_told_the_relay() {
    let mut pair = Pair::strangers().await;
    pair.alice_writes("hello").await.unwrap();
    pair.bob.sync().await.unwrap();
    // Bob answers without accepting her, is declined by her, and asks again by what he holds.
    let link = pair.alice.card_link().unwrap();
    pair.bob.send(&Target::Link(link.clone()), "yes").await.unwrap();
    pair.alice.fetch().await.unwrap();
    let id = only(&pair.alice, Folder::Inbox).id;
    pair.alice.decline(&id).unwrap();
    pair.bob.send(&Target::Link(link), "why not").await.unwrap();
    assert_eq!(pair.alice.fetch().await.unwrap().requests, 1);
    let id = only(&pair.alice, Folder::Requests).id;
    for again in [false, true] {
        pair.alice.spam(&id).unwrap();
        assert!(pair.alice.accept(&id).unwrap().verdict_sent, "{again}");
    }
    assert_eq!((pair.alice.outbox_len().unwrap(), pair.alice.run_outbox().await.unwrap()), (0, 0));
}

#[tokio::test]
async fn who_has_a_key_that_was_dropped_gets_nothing_in_by_it_later() {
    let mut pair = Pair::acquainted().await;
    pair.alice.rotate_reply_key(true).await.unwrap();
    pair.pass(2 * HOUR);
    let card = pair.alice.own_card().unwrap();
    let envelope = envelope::seal(&mut pair.bob.rng, &card.sealing_key, &card.mailbox, b"no message").unwrap();
    pair.deliver_by_bobs_credential(envelope);
    assert_eq!(pair.alice.fetch().await.unwrap().junk, 1);
    let reason = only(&pair.alice, Folder::Junk).reason.unwrap();
    assert_eq!(reason, "the relay let it in without a right");
}
