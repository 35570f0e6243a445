//! Replies between processes: one slot is one message however it is sent, a presentation is good where it was made for, and a struck
//! contact cannot tell.

use std::collections::BTreeMap;

use futures::future::join_all;
use postern_credentials::reply_credential::{Context, relay_id};
use postern_protocol::ids::{Base64, MailboxId, MessageId};
use postern_protocol::problem::ProblemKind;
use postern_protocol::release::ACK_PATH;
use postern_protocol::reply::{ReplyAuthorization, Strikes};
use postern_protocol::send::{Accepted, Admission};
use postern_tests::replies::{Issued, LONG_EPOCHS};
use postern_tests::{Actor, Reply, World, invariants, programs};

fn start() -> World {
    World::start_with(programs!(), "", LONG_EPOCHS)
}

/// Somebody with a mailbox and a group.
async fn owner(world: &World, phone: &str) -> Actor {
    let mut owner = Actor::ready(world, phone).await;
    owner.open_group().await;
    owner
}

/// Somebody who replies: for that it takes no account.
async fn contact(world: &World, phone: &str) -> Actor {
    Actor::new(world, phone).await
}

fn relay_count(world: &World, table: &str) -> i64 {
    world.relay_db.int(&format!("select count(*) from {table}"))
}

async fn waiting(owner: &mut Actor) -> Vec<MessageId> {
    owner.inbox().await.messages.iter().map(|m| m.message).collect()
}

/// An answer but for the time: what a sender could tell two apart by.
fn seen(reply: &Reply) -> (u16, BTreeMap<String, String>) {
    let headers = reply.headers.iter().filter(|(name, _)| *name != "date");
    let text = |(name, value): (&reqwest::header::HeaderName, &reqwest::header::HeaderValue)| {
        (name.to_string(), value.to_str().unwrap().to_owned())
    };
    (reply.status, headers.map(text).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_64_parallel_sends_of_one_presentation_there_is_one_message_and_one_answer() {
    let mut world = start();
    let mut alice = owner(&world, "+41791237001").await;
    let mut bob = contact(&world, "+41791237002").await;
    let (to, issued) = (alice.mailbox(), alice.issue().await);
    let envelope = bob.envelope(&to, "a reply");
    let shown = bob.present(&issued, 0, &envelope);
    let replies = join_all((0..64).map(|_| bob.reply(&to, &shown, &envelope))).await;
    for reply in &replies {
        assert_eq!(reply.json::<Accepted>().message, issued.message_id(&shown));
        assert_eq!(seen(reply), seen(&replies[0]));
    }
    let inbox = alice.inbox().await.messages;
    assert_eq!(inbox.len(), 1);
    assert!(inbox[0].envelope.0 == envelope);
    let Context { of, epoch, .. } = issued.context;
    let presentation = Base64(shown.presentation.to_vec());
    assert_eq!(inbox[0].admission, Admission::Reply { key_version: of.key_version, epoch, presentation });
    assert_eq!((relay_count(&world, "messages"), relay_count(&world, "reply_nullifiers")), (1, 1));

    // Read and gone: the same bytes still get the same answer, and bring nothing back.
    assert_eq!(alice.verdict(ACK_PATH, &[inbox[0].message]).await.done, [inbox[0].message]);
    for late in join_all((0..8).map(|_| bob.reply(&to, &shown, &envelope))).await {
        assert_eq!((late.status, &late.body), (201, &replies[0].body));
    }
    assert!(waiting(&mut alice).await.is_empty());
    invariants::assert_hold(&world);
    world.assert_healthy();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_64_parallel_envelopes_with_one_slot_exactly_one_is_accepted() {
    let mut world = start();
    let mut alice = owner(&world, "+41791237003").await;
    let mut mallory = contact(&world, "+41791237004").await;
    let (to, issued) = (alice.mailbox(), alice.issue().await);
    let offers: Vec<_> = (0..64)
        .map(|i| {
            let envelope = mallory.envelope(&to, &format!("offer {i}"));
            (mallory.present(&issued, 3, &envelope), envelope)
        })
        .collect();
    let send = || join_all(offers.iter().map(|(shown, envelope)| mallory.reply(&to, shown, envelope)));
    let (first, second) = (send().await, send().await);
    let accepted: Vec<_> = (0..64).filter(|i| first[*i].status == 201).collect();
    assert_eq!(accepted.len(), 1);
    for (i, (reply, again)) in first.iter().zip(&second).enumerate() {
        assert_eq!((reply.status, &reply.body), (again.status, &again.body));
        assert!(i == accepted[0] || reply.refusal() == ProblemKind::ReplyUsed, "{}", reply.status);
    }
    let inbox = alice.inbox().await.messages;
    assert_eq!(inbox.len(), 1);
    assert!(inbox[0].envelope.0 == offers[accepted[0]].1, "the message is the one that was answered");
    invariants::assert_hold(&world);
    world.assert_healthy();
}

/// Presentations that are good, but not there, with what they are shown as and where.
async fn elsewhere(world: &World, alice: &mut Actor, bob: &mut Actor) -> (Issued, Vec<u8>, Vec<Shown>) {
    let (to, issued) = (alice.mailbox(), alice.issue().await);
    let envelope = bob.envelope(&to, "a reply");
    let carol = owner(world, "+41791237007").await;
    let dave = Actor::ready(world, "+41791237008").await;
    // The strongest case: a mailbox that has the very same group secret.
    let mut eve = Actor::ready(world, "+41791237009").await;
    let group = alice.group.clone().unwrap();
    assert_eq!(eve.declare(&[&group]).await.status, 204);
    let second = alice.draw_group(2);
    assert_eq!(alice.declare(&[&group, &second]).await.status, 204);

    let good = bob.present(&issued, 0, &envelope);
    let mut shown = vec![
        ("a mailbox with another group", carol.mailbox(), good.clone()),
        ("a mailbox without a group", dave.mailbox(), good.clone()),
        ("a mailbox with the same secret", eve.mailbox(), good.clone()),
        ("another key version", to, ReplyAuthorization { key_version: 2, ..good.clone() }),
        ("no key version", to, ReplyAuthorization { key_version: 3, ..good.clone() }),
        ("another live epoch", to, ReplyAuthorization { epoch: good.epoch - 1, ..good.clone() }),
    ];
    let mut made_for = |change: fn(&mut Context)| {
        let mut changed = issued.clone();
        change(&mut changed.context);
        let made = bob.present(&changed, 0, &envelope);
        ReplyAuthorization { key_version: good.key_version, epoch: good.epoch, ..made }
    };
    shown.extend([
        ("made for another relay", to, made_for(|context| context.relay = relay_id("other.test"))),
        ("made for another mailbox", to, made_for(|context| context.of.mailbox = MailboxId([7; 32]))),
        ("made for another key version", to, made_for(|context| context.of.key_version += 1)),
        ("made for another period", to, made_for(|context| context.of.period += 1)),
        ("made for another epoch", to, made_for(|context| context.epoch -= 1)),
    ]);
    for part in 0..5 {
        let mut damaged = good.clone();
        damaged.presentation[32 * part + 9] ^= 4;
        shown.push(("damaged", to, damaged));
    }
    (issued, envelope, shown)
}

/// Why it must fail, the mailbox it is shown at, and what is shown.
type Shown = (&'static str, MailboxId, ReplyAuthorization);

#[tokio::test(flavor = "multi_thread")]
async fn a_presentation_is_good_at_its_relay_mailbox_key_version_and_epoch_only_and_elsewhere_costs_no_slot() {
    let mut world = start();
    let mut alice = owner(&world, "+41791237005").await;
    let mut bob = contact(&world, "+41791237006").await;
    let (issued, envelope, attempts) = elsewhere(&world, &mut alice, &mut bob).await;
    let to = alice.mailbox();
    for (why, at, shown) in &attempts {
        let reply = bob.reply(at, shown, &envelope).await;
        assert_eq!(reply.refusal(), ProblemKind::ReplyInvalid, "{why}");
        assert!(reply.headers.contains_key("www-authenticate"), "{why}: a token would do instead");
    }
    let good = bob.present(&issued, 0, &envelope);
    let early = ReplyAuthorization { epoch: good.epoch + 1, ..good.clone() };
    let refused = bob.reply(&to, &early, &envelope).await;
    assert_eq!(refused.refusal(), ProblemKind::ReplyEpoch);
    assert!(refused.problem().retry_after.is_some_and(|seconds| seconds > 0));
    let other = bob.envelope(&to, "another message");
    assert_eq!(bob.reply(&to, &good, &other).await.refusal(), ProblemKind::ReplyInvalid);
    let garbled = bob.deliver(&to, good.to_string().replace("epoch=", "epoch=0"), &envelope).await;
    assert_eq!(garbled.refusal(), ProblemKind::ReplyInvalid);
    assert_eq!((relay_count(&world, "messages"), relay_count(&world, "reply_nullifiers")), (0, 0));

    // What was refused elsewhere is as good as new where it belongs.
    assert_eq!(bob.reply(&to, &good, &envelope).await.status, 201);
    assert_eq!(bob.reply(&to, &good, &other).await.refusal(), ProblemKind::ReplyUsed, "it was for the other envelope");
    // Whoever saw it pass can neither send by it nor ask what became of it.
    let mut copied = good.clone();
    copied.presentation[159] ^= 1;
    assert_eq!(bob.reply(&to, &copied, &envelope).await.refusal(), ProblemKind::ReplyUsed);
    // With its group secret dropped, the next slot is worth nothing.
    let second = alice.draw_group(3);
    assert_eq!(alice.declare(&[&second]).await.status, 204);
    let next = bob.present(&issued, 1, &envelope);
    assert_eq!(bob.reply(&to, &next, &envelope).await.refusal(), ProblemKind::ReplyInvalid);
    invariants::assert_hold(&world);
    world.assert_healthy();
}

/// A contact, and what it has sent.
struct Writer {
    actor: Actor,
    issued: Issued,
    to: MailboxId,
}

impl Writer {
    async fn new(world: &World, alice: &mut Actor, phone: &str) -> Self {
        Self { actor: contact(world, phone).await, issued: alice.issue().await, to: alice.mailbox() }
    }

    /// Writes with this slot, twice: returns how it was named, and the answer, the same both times.
    async fn write(&mut self, slot: u16) -> (MessageId, Reply) {
        let envelope = self.actor.envelope(&self.to, &format!("slot {slot}"));
        let shown = self.actor.present(&self.issued, slot, &envelope);
        let first = self.actor.reply(&self.to, &shown, &envelope).await;
        let again = self.actor.reply(&self.to, &shown, &envelope).await;
        assert_eq!((first.status, &first.body), (again.status, &again.body));
        (self.issued.message_id(&shown), first)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_struck_contact_writes_vanishes_and_the_answer_does_not_show_it() {
    let mut world = start();
    let mut alice = owner(&world, "+41791237010").await;
    let mut friend = Writer::new(&world, &mut alice, "+41791237011").await;
    let mut mallory = Writer::new(&world, &mut alice, "+41791237012").await;
    let (before, _) = mallory.write(0).await;
    let strike = vec![mallory.issued.nullifiers(&[0])];
    assert_eq!(alice.strike(&Strikes { strike: strike.clone(), lift: vec![] }).await.status, 204);

    let (kept, honest) = friend.write(0).await;
    let (gone, answer) = mallory.write(1).await;
    assert_eq!(seen(&answer), seen(&honest));
    assert_eq!((answer.json::<Accepted>().message, honest.json::<Accepted>().message), (gone, kept));
    // A second message by the slot is refused as anybody's is.
    let (_, used) = mallory.write(1).await;
    assert_eq!(used.refusal(), ProblemKind::ReplyUsed);
    assert_eq!(waiting(&mut alice).await, [before, kept], "what came before the strike stays, and the friend's");
    assert_eq!(relay_count(&world, "reply_nullifiers"), 3, "a struck slot is used like any other");
    invariants::assert_hold(&world);

    // Lifted, the contact is heard again, but not what has vanished.
    assert_eq!(alice.strike(&Strikes { strike: vec![], lift: strike }).await.status, 204);
    let (heard, _) = mallory.write(2).await;
    assert_eq!(waiting(&mut alice).await, [before, kept, heard]);
    // A revealed seed strikes all the slots there are.
    assert_eq!(alice.reveal(&mallory.issued.reveal()).await.status, 204);
    for slot in 3..16 {
        let (message, answer) = mallory.write(slot).await;
        assert_eq!((seen(&answer), answer.json::<Accepted>().message), (seen(&honest), message));
    }
    let (last, _) = friend.write(1).await;
    assert_eq!(waiting(&mut alice).await, [before, kept, heard, last]);
    invariants::assert_hold(&world);
    world.assert_healthy();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_mailbox_answers_a_struck_contact_as_it_does_a_friend() {
    let world = World::start_with(programs!(), "", &format!("{LONG_EPOCHS}\nquota_messages = 1"));
    let mut alice = owner(&world, "+41791237013").await;
    let mut friend = Writer::new(&world, &mut alice, "+41791237014").await;
    let mut mallory = Writer::new(&world, &mut alice, "+41791237015").await;
    let strikes = Strikes { strike: vec![mallory.issued.nullifiers(&[])], lift: vec![] };
    assert_eq!(alice.strike(&strikes).await.status, 204);
    // While there is room, what vanishes takes none.
    assert_eq!(mallory.write(0).await.1.status, 201);
    let (kept, _) = friend.write(0).await;
    let (full, struck) = (friend.write(1).await.1, mallory.write(1).await.1);
    assert_eq!(full.refusal(), ProblemKind::MailboxFull);
    assert_eq!((seen(&struck), &struck.body), (seen(&full), &full.body));
    assert_eq!(waiting(&mut alice).await, [kept]);
    assert_eq!(relay_count(&world, "reply_nullifiers"), 2, "what was refused has used no slot");
    invariants::assert_hold(&world);
}
