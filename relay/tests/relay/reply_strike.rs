//! Strikes: a struck contact is answered like anybody, and nothing of it arrives.

use std::time::Duration;

use futures::future::join;
use postern_credentials::reply_credential::ReplyNullifier;
use postern_protocol::ids::Base64;
use postern_protocol::problem::ProblemKind;
use postern_protocol::release::ACK_PATH;
use postern_protocol::reply::EpochNullifiers;
use postern_protocol::send::{Accepted, Messages};

use crate::contacts::{Contact, EPOCH, Owner, listed};
use crate::world::{Reply, World, envelope, random};

/// An answer but for what is new in each: the message's name, and the second it was given.
fn form(reply: &Reply) -> (u16, Vec<(String, usize)>, usize) {
    let headers = reply.headers.iter().map(|(name, value)| (name.to_string(), value.len())).collect();
    assert!(reply.json::<Accepted>().message.0 != [0; 32]);
    (reply.status.as_u16(), headers, reply.body.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_struck_reply_is_answered_like_any_other_and_does_not_arrive() {
    let world = World::start().await;
    let (bob, alice, mallory) = (Owner::new(&world).await, Contact::new(), Contact::new());
    bob.strike(&world, &mallory, EPOCH).await;
    let envelope = envelope();
    let good = bob.send(&world, &bob.shown(&alice, EPOCH, 0, &envelope), &envelope).await;
    let shown = bob.shown(&mallory, EPOCH, 0, &envelope);
    let struck = bob.send(&world, &shown, &envelope).await;
    assert_eq!(form(&struck), form(&good));
    assert_eq!(bob.inbox(&world).await, [good.json::<Accepted>().message]);
    assert_eq!(world.count("select count(*) from messages"), 1);
    assert_eq!(world.count("select arrivals * 10 + queued_messages from mailboxes"), 11, "nobody is told");

    // And so are its retry, its slot with another envelope, and what it gets wrong.
    assert_eq!(bob.send(&world, &shown, &envelope).await.body, struck.body);
    let other = bob.shown(&mallory, EPOCH, 0, &[7; 4096]);
    assert_eq!(bob.send(&world, &other, &[7; 4096]).await.refusal(), ProblemKind::ReplyUsed);
    let wrong = bob.shown(&mallory, EPOCH, 1, &[7; 4096]);
    assert_eq!(bob.send(&world, &wrong, &envelope).await.refusal(), ProblemKind::ReplyInvalid);
    world.assert_consistent();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_mailbox_answers_a_struck_reply_as_any_other() {
    let world = World::start_with(|limits| limits.quota_messages = 1).await;
    let (bob, alice, mallory) = (Owner::new(&world).await, Contact::new(), Contact::new());
    bob.strike(&world, &mallory, EPOCH).await;
    let envelope = envelope();
    let shown = bob.shown(&mallory, EPOCH, 0, &envelope);
    let (_, waiting) = world.sent(&bob.mailbox.id).await;
    let struck = bob.send(&world, &shown, &envelope).await;
    let good = bob.send(&world, &bob.shown(&alice, EPOCH, 0, &envelope), &envelope).await;
    assert_eq!(struck.refusal(), ProblemKind::MailboxFull);
    assert_eq!((struck.body, &struck.headers["retry-after"]), (good.body, &good.headers["retry-after"]));
    world.verdict(&bob.mailbox, ACK_PATH, &[waiting]).await;
    assert_eq!(bob.send(&world, &shown, &envelope).await.status, 201, "the slot was not used");
    assert_eq!(world.count("select queued_messages + queued_bytes from mailboxes"), 0, "the quota is as before");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_mail_gets_the_next_message_and_not_the_struck_one() {
    let world = World::start().await;
    let (bob, alice, mallory) = (Owner::new(&world).await, Contact::new(), Contact::new());
    bob.strike(&world, &mallory, EPOCH).await;
    let envelope = envelope();
    let writing = async {
        // Only makes it likely that somebody waits; the test holds without.
        tokio::time::sleep(Duration::from_millis(200)).await;
        for (contact, slot) in [(&mallory, 0), (&mallory, 1), (&alice, 0)] {
            let shown = bob.shown(contact, EPOCH, slot, &envelope);
            assert_eq!(bob.send(&world, &shown, &envelope).await.status, 201);
        }
        bob.inbox(&world).await
    };
    let (waited, written) = join(world.read(&bob.mailbox, "?wait=30"), writing).await;
    let arrived: Vec<_> = waited.json::<Messages>().messages.iter().map(|queued| queued.message).collect();
    assert_eq!((arrived.len(), arrived), (1, written));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lifted_contact_writes_again_but_what_vanished_stays_vanished() {
    let world = World::start().await;
    let (bob, alice) = (Owner::new(&world).await, Contact::new());
    bob.strike(&world, &alice, EPOCH).await;
    let envelope = envelope();
    let lost = bob.shown(&alice, EPOCH, 0, &envelope);
    let first = bob.send(&world, &lost, &envelope).await;
    bob.lift(&world, &alice, EPOCH).await;
    assert_eq!(bob.send(&world, &lost, &envelope).await.body, first.body);
    assert!(bob.inbox(&world).await.is_empty());
    assert_eq!(bob.send(&world, &bob.shown(&alice, EPOCH, 1, &envelope), &envelope).await.status, 201);
    assert_eq!(bob.inbox(&world).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn striking_takes_nothing_back_that_has_arrived() {
    let world = World::start().await;
    let (bob, alice) = (Owner::new(&world).await, Contact::new());
    let envelope = envelope();
    let shown = bob.shown(&alice, EPOCH, 0, &envelope);
    let first = bob.send(&world, &shown, &envelope).await;
    bob.strikes(&world, &[alice.nullifiers(bob.at(EPOCH), &[0])], &[]).await.done();
    assert_eq!(bob.send(&world, &shown, &envelope).await.body, first.body);
    assert_eq!(bob.inbox(&world).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strike_holds_in_its_epoch_and_mailbox_alone() {
    let world = World::start().await;
    let (bob, carol, alice) = (Owner::new(&world).await, Owner::new(&world).await, Contact::new());
    // Carol strikes the very nullifiers of Bob's contact, at her own mailbox: there is no other that she could name.
    carol.strikes(&world, &[alice.nullifiers(bob.at(EPOCH), &[])], &[]).await.done();
    bob.strike(&world, &alice, EPOCH + 1).await;
    let envelope = envelope();
    assert_eq!(bob.send(&world, &bob.shown(&alice, EPOCH, 0, &envelope), &envelope).await.status, 201);
    assert_eq!(bob.inbox(&world).await.len(), 1);
    carol.strikes(&world, &[], &[alice.nullifiers(bob.at(EPOCH + 1), &[])]).await.done();
    world.clock.advance_seconds(3600);
    assert_eq!(bob.send(&world, &bob.shown(&alice, EPOCH + 1, 0, &envelope), &envelope).await.status, 201);
    assert_eq!(bob.inbox(&world).await.len(), 1, "Bob's strike stands");
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_may_be_repeated_and_what_is_in_both_is_struck() {
    let world = World::start().await;
    let (bob, alice) = (Owner::new(&world).await, Contact::new());
    let all = [alice.nullifiers(bob.at(EPOCH), &[])];
    for _ in 0..2 {
        bob.strikes(&world, &all, &all).await.done();
        assert_eq!(world.count("select count(*) from reply_strikes"), 16);
    }
    for _ in 0..2 {
        bob.strikes(&world, &[], &all).await.done();
        assert_eq!(world.count("select count(*) from reply_strikes"), 0);
    }
    bob.strikes(&world, &[], &[]).await.done();
    // Any number of nullifiers, not only as many as go into one statement.
    let many: Vec<_> = (0..37).map(|_| ReplyNullifier(random())).collect();
    bob.strikes(&world, &[listed(EPOCH, &many)], &[]).await.done();
    assert_eq!(world.count("select count(*) from reply_strikes"), 37);
    bob.strikes(&world, &[], &[listed(EPOCH, &many[3..])]).await.done();
    assert_eq!(world.count("select count(*) from reply_strikes"), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_lists_strike_nothing() {
    let world = World::start().await;
    let bob = Owner::new(&world).await;
    world.clock.advance_seconds(1800);
    let list = |epoch, bytes: usize| EpochNullifiers { epoch, nullifiers: Base64(vec![1; bytes]) };
    // 500,000 lies in period 2,976 of 168 epochs each; the sixth after that ends before 501,144.
    for (what, bad) in [
        ("a cut nullifier", vec![list(EPOCH, 8), list(EPOCH, 15)]),
        ("one too many", vec![list(EPOCH, 8 * 1000), list(EPOCH + 1, 8 * 25)]),
        ("before the previous epoch", vec![list(EPOCH, 8), list(EPOCH - 2, 8)]),
        ("no longer", vec![list(0, 8)]),
        ("too far ahead", vec![list(EPOCH, 8), list(501_144, 8)]),
        ("never", vec![list(u32::MAX, 8)]),
    ] {
        assert_eq!(bob.strikes(&world, &bad, &[]).await.refusal(), ProblemKind::BadRequest, "{what}");
        assert_eq!(bob.strikes(&world, &[], &bad).await.refusal(), ProblemKind::BadRequest, "{what}, lifted");
    }
    assert_eq!(world.count("select count(*) from reply_strikes"), 0);
    bob.strikes(&world, &[list(EPOCH - 1, 8), list(501_143, 8)], &[list(EPOCH, 0)]).await.done();
    assert_eq!(world.count("select count(*) from reply_strikes"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_list_of_one_nullifier_an_epoch_goes_into_a_request() {
    let world = World::start().await;
    let bob = Owner::new(&world).await;
    let lists: Vec<_> = (0..1024).map(|n| listed(EPOCH + n, &[ReplyNullifier([7; 8])])).collect();
    bob.strikes(&world, &lists, &[]).await.done();
    assert_eq!(world.count("select count(*) from reply_strikes"), 1024);
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_the_limit_nothing_more_is_struck_and_lifting_makes_room() {
    let world = World::start_with(|limits| limits.strikes_per_mailbox = 32).await;
    let (bob, carol) = (Owner::new(&world).await, Owner::new(&world).await);
    let contacts = [Contact::new(), Contact::new(), Contact::new()];
    bob.strike(&world, &contacts[0], EPOCH).await;
    bob.strike(&world, &contacts[1], EPOCH).await;
    let third = [contacts[2].nullifiers(bob.at(EPOCH), &[])];
    let one_more = [listed(EPOCH, &[ReplyNullifier([7; 8])])];
    assert_eq!(bob.strikes(&world, &third, &[]).await.refusal(), ProblemKind::StrikeLimit);
    assert_eq!(bob.strikes(&world, &one_more, &[]).await.refusal(), ProblemKind::StrikeLimit);
    assert_eq!(world.count("select count(*) from reply_strikes"), 32);
    bob.strike(&world, &contacts[0], EPOCH).await;
    carol.strike(&world, &contacts[2], EPOCH).await;
    bob.strikes(&world, &third, &[contacts[0].nullifiers(bob.at(EPOCH), &[])]).await.done();
    assert_eq!(world.count("select count(*) from reply_strikes"), 48, "Carol's are counted apart");
}
