//! Reveals: an owner who is seldom there has the relay strike for it, until the contact's last credential has ended.

use postern_protocol::ids::MemberSecretBytes;
use postern_protocol::problem::ProblemKind;
use postern_protocol::reply::Reveal;

use crate::contacts::{Contact, EPOCH, Owner, policy, revealed};
use crate::world::{World, envelope, random};

/// Whether a reply of the contact in the present epoch arrives; answered as sent it is in any case.
async fn arrives(world: &World, owner: &Owner, contact: &Contact, slot: u16) -> bool {
    arrives_in(world, owner, contact, policy().epoch_at(postern_protocol::time::Clock::now(&*world.clock)), slot).await
}

async fn arrives_in(world: &World, owner: &Owner, contact: &Contact, epoch: u32, slot: u16) -> bool {
    let before = owner.inbox(world).await.len();
    let envelope = envelope();
    let shown = owner.shown(contact, epoch, slot, &envelope);
    let reply = owner.send(world, &shown, &envelope).await;
    assert_eq!(reply.status, 201, "{}", String::from_utf8_lossy(&reply.body));
    owner.inbox(world).await.len() == before + 1
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revealed_contact_is_struck_in_this_period_and_the_next_and_not_after_across_restarts() {
    let mut world = World::start().await;
    let (bob, alice, mallory) = (Owner::new(&world).await, Contact::new(), Contact::new());
    assert!(arrives(&world, &bob, &mallory, 0).await);
    let reveal = revealed(&mallory, EPOCH);
    bob.reveal(&world, &reveal).await.done();
    assert!(!arrives(&world, &bob, &mallory, 1).await, "at once");
    assert!(arrives(&world, &bob, &alice, 0).await);

    // An hour later, and in each period.
    for epoch in [EPOCH + 1, policy().first_epoch(reveal.last_period) - 1, policy().first_epoch(reveal.last_period)] {
        let epoch_begins = policy().epoch_start(epoch).seconds();
        world.restart_at(epoch_begins + 700).await;
        world.app.sweep().await.unwrap();
        assert!(!arrives(&world, &bob, &mallory, 0).await, "{epoch}");
        assert!(!arrives(&world, &bob, &mallory, 15).await, "{epoch}");
        assert!(arrives(&world, &bob, &alice, 1).await, "{epoch}");
    }
    let last = policy().first_epoch(reveal.last_period + 1) - 1;
    world.restart_at(policy().epoch_start(last).seconds() + 700).await;
    assert!(!arrives(&world, &bob, &mallory, 0).await, "to the last epoch");

    // In the grace of that epoch it is still struck; in the first of the next period it is not.
    world.clock.advance_seconds(3600 - 700);
    world.app.sweep().await.unwrap();
    assert!(!arrives_in(&world, &bob, &mallory, last, 1).await);
    assert_eq!(world.count("select count(*) from reply_reveals"), 1);
    assert!(arrives(&world, &bob, &mallory, 0).await);
    world.clock.advance_seconds(600);
    world.app.sweep().await.unwrap();
    assert_eq!(world.count("select count(*) from reply_reveals"), 0, "forgotten");
    assert!(arrives(&world, &bob, &mallory, 1).await);
    world.assert_consistent();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_epoch_in_its_grace_is_struck_as_well() {
    let world = World::start().await;
    let (bob, mallory) = (Owner::new(&world).await, Contact::new());
    bob.reveal(&world, &revealed(&mallory, EPOCH)).await.done();
    assert!(!arrives_in(&world, &bob, &mallory, EPOCH - 1, 0).await, "with the reveal itself");
    // Nothing came in a whole epoch; then something of that epoch comes in its grace.
    world.clock.advance_seconds(2 * 3600);
    assert!(!arrives_in(&world, &bob, &mallory, EPOCH + 1, 0).await);
    assert!(!arrives(&world, &bob, &mallory, 0).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_was_set_back_lets_no_revealed_contact_through() {
    let mut world = World::start().await;
    let (bob, mallory) = (Owner::new(&world).await, Contact::new());
    bob.reveal(&world, &revealed(&mallory, EPOCH)).await.done();
    world.clock.advance_seconds(10 * 3600);
    assert!(!arrives(&world, &bob, &mallory, 0).await);
    world.restart_at(policy().epoch_start(EPOCH + 3).seconds()).await;
    assert!(!arrives_in(&world, &bob, &mallory, EPOCH + 2, 0).await);
    for hours in 0..3 {
        assert!(!arrives(&world, &bob, &mallory, 1).await, "{hours}");
        world.clock.advance_seconds(3600);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn strikes_are_derived_once_an_epoch_and_only_when_somebody_writes() {
    let world = World::start().await;
    let (bob, alice, mallory) = (Owner::new(&world).await, Contact::new(), Contact::new());
    world.clock.advance_seconds(700);
    bob.reveal(&world, &revealed(&mallory, EPOCH)).await.done();
    bob.reveal(&world, &revealed(&mallory, EPOCH)).await.done();
    let strikes = || world.count("select count(*) from reply_strikes");
    assert_eq!((strikes(), world.count("select count(*) from reply_reveals")), (16, 1));
    world.clock.advance_seconds(3600);
    let envelope = envelope();
    let good = bob.shown(&alice, EPOCH + 1, 0, &envelope);
    let mut forged = good.clone();
    forged.presentation[150] ^= 1;
    assert_eq!(bob.send(&world, &forged, &envelope).await.refusal(), ProblemKind::ReplyInvalid);
    assert_eq!(strikes(), 16, "not for who has no credential");
    assert_eq!(bob.send(&world, &good, &envelope).await.status, 201);
    assert_eq!(strikes(), 32);
    // What the owner lifts afterwards is not struck again behind its back.
    bob.lift(&world, &mallory, EPOCH + 1).await;
    assert!(arrives(&world, &bob, &mallory, 0).await);
    assert_eq!(strikes(), 16);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seed_of_a_later_period_strikes_when_that_begins() {
    let world = World::start().await;
    let (bob, mallory) = (Owner::new(&world).await, Contact::new());
    let next = policy().first_epoch(policy().period_of(EPOCH) + 1);
    bob.reveal(&world, &revealed(&mallory, next)).await.done();
    assert!(arrives(&world, &bob, &mallory, 0).await);
    world.clock.advance_seconds(u64::from(next - EPOCH) * 3600);
    assert!(!arrives(&world, &bob, &mallory, 0).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reveal_holds_for_its_mailbox_and_key_version_alone() {
    let world = World::start().await;
    let (bob, carol, mallory) = (Owner::new(&world).await, Owner::new(&world).await, Contact::new());
    carol.reveal(&world, &revealed(&mallory, EPOCH)).await.done();
    bob.reveal(&world, &Reveal { key_version: 2, ..revealed(&mallory, EPOCH) }).await.done();
    assert!(arrives(&world, &bob, &mallory, 0).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn slots_beyond_those_revealed_are_not_struck_until_the_owner_says_so() {
    let world = World::start().await;
    let (bob, mallory) = (Owner::new(&world).await, Contact::new());
    bob.reveal(&world, &Reveal { slots: 4, ..revealed(&mallory, EPOCH) }).await.done();
    assert!(!arrives(&world, &bob, &mallory, 3).await);
    assert!(arrives(&world, &bob, &mallory, 4).await);
    bob.reveal(&world, &revealed(&mallory, EPOCH)).await.done();
    assert!(!arrives(&world, &bob, &mallory, 5).await);
    assert_eq!(world.count("select count(*) from reply_reveals"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn reveals_that_make_no_sense_are_refused_and_not_kept() {
    let world = World::start_with(|limits| limits.reveals_per_mailbox = 2).await;
    let (bob, mallory) = (Owner::new(&world).await, Contact::new());
    world.clock.advance_seconds(600);
    let good = revealed(&mallory, EPOCH);
    let period = good.period;
    let other_version = MemberSecretBytes::new([2; 33]);
    for (what, bad) in [
        ("no slots", Reveal { slots: 0, ..good.clone() }),
        ("too many slots", Reveal { slots: 257, ..good.clone() }),
        ("over", Reveal { period: period - 1, ..good.clone() }),
        ("ends before it begins", Reveal { period: period + 2, ..good.clone() }),
        ("too far ahead", Reveal { last_period: period + 9, ..good.clone() }),
        ("never", Reveal { last_period: u32::MAX, ..good.clone() }),
        ("another version", Reveal { secret: other_version, ..good.clone() }),
    ] {
        assert_eq!(bob.reveal(&world, &bad).await.refusal(), ProblemKind::BadRequest, "{what}");
    }
    assert_eq!(world.count("select count(*) from reply_reveals"), 0);
    let mut bytes = [1; 33];
    bytes[1..].copy_from_slice(&random::<32>());
    let widest = Reveal { slots: 256, last_period: period + 8, secret: MemberSecretBytes::new(bytes), ..good.clone() };
    bob.reveal(&world, &widest).await.done();
    bob.reveal(&world, &good).await.done();
    let third = bob.reveal(&world, &revealed(&Contact::new(), EPOCH)).await;
    assert_eq!(third.refusal(), ProblemKind::StrikeLimit);
    bob.reveal(&world, &good).await.done();
    assert_eq!(world.count("select count(*) from reply_reveals"), 2);
    assert_eq!(world.count("select count(*) from reply_strikes"), 256 + 16);
}
