//! Keys that come and go, what is forgotten with them, and what a restart keeps.

use std::sync::Arc;

use postern_protocol::problem::ProblemKind;
use postern_protocol::release::{RELEASE_PATH, SPAM_PATH};
use postern_protocol::time::{MockClock, Timestamp};
use postern_test_database::Value;

use crate::issuer::{Mode, key};
use crate::world::{START, World, blinded, envelope, exchange_request, token};

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_mailboxes_queues_ledger_and_keys_even_without_the_issuer() {
    let mut world = World::start().await;
    let bob = world.mailbox().await;
    let (spendable, message) = (token(0), envelope());
    let first = world.send(&bob.id, &spendable.token, &message).await;
    let old = world.released(&bob).await;
    let request = exchange_request(&old, 0, blinded(0).0);
    let exchanged = world.exchange(&request).await;
    assert_eq!(exchanged.status, 200);

    world.issuer.set(Mode::Down);
    world.restart().await;
    assert_eq!(world.inbox(&bob).await.messages.len(), 2);
    assert_eq!(world.send(&bob.id, &spendable.token, &message).await.body, first.body);
    assert_eq!(world.send(&bob.id, &spendable.token, &envelope()).await.refusal(), ProblemKind::TokenAttached);
    assert_eq!(world.send(&bob.id, &token(0).token, &envelope()).await.status, 201);
    assert_eq!(world.exchange(&request).await.body, exchanged.body);
    world.assert_consistent();
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_go_after_their_retention_and_can_still_be_released() {
    let world = World::start_with(|limits| limits.retention_seconds = 1000).await;
    let bob = world.mailbox().await;
    let (_, old) = world.sent(&bob.id).await;
    world.clock.advance_seconds(500);
    let (_, young) = world.sent(&bob.id).await;
    world.clock.advance_seconds(501);
    world.app.sweep().await.unwrap();
    let bob = crate::world::Mailbox {
        jwt: World::jwt(&world.claims(&bob.id, postern_protocol::login::Purpose::Mailbox)),
        ..bob
    };
    let left: Vec<_> = world.inbox(&bob).await.messages.iter().map(|m| m.message).collect();
    assert_eq!(left, [young]);
    assert_eq!(world.verdict(&bob, RELEASE_PATH, &[old]).await.done, [old]);
    world.assert_consistent();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rows_of_an_ended_key_go_with_it_and_their_counts_stay() {
    let mut world = World::start_with(|limits| limits.ledger_grace_seconds = 1000).await;
    let bob = world.mailbox().await;
    let (attached, message) = (token(0), envelope());
    assert_eq!(world.send(&bob.id, &attached.token, &message).await.status, 201);
    world.released(&bob).await;
    let (_, spam) = world.sent(&bob.id).await;
    world.verdict(&bob, SPAM_PATH, &[spam]).await;
    let gone = world.released(&bob).await;
    assert_eq!(world.exchange(&exchange_request(&gone, 0, blinded(0).0)).await.status, 200);
    world.issuer.rotate(0, 1, world.now() + 100);
    world.app.refresh_keys().await;
    assert_eq!(world.send(&bob.id, &token(1).token, &envelope()).await.status, 201);

    world.clock.advance_seconds(100 + 1000);
    world.app.sweep().await.unwrap();
    assert_eq!(world.count("select count(*) from ledger"), 5, "within the grace nothing goes");
    world.clock.advance_seconds(1);
    world.app.sweep().await.unwrap();
    assert_eq!(world.count("select count(*) from ledger"), 1, "the other key's");
    assert_eq!(world.count("select count(*) from token_keys"), 1);
    let counts = "select attached * 1000 + released * 100 + burnt * 10 + exchanged from retired_keys";
    assert_eq!(world.count(counts), 1111);

    // Whatever the issuer or a clock says from now on: nothing knows any more which tokens of it were spent.
    world.issuer.set_not_after(0, u64::MAX / 2);
    world.clock = Arc::new(MockClock::new(Timestamp::from_seconds(START)));
    for _ in 0..2 {
        world.app.refresh_keys().await;
        let reply = world.send(&bob.id, &attached.token, &envelope()).await;
        assert_eq!(reply.refusal(), ProblemKind::TokenInvalid);
        let reply = world.exchange(&exchange_request(&attached, 1, blinded(1).0)).await;
        assert_eq!(reply.refusal(), ProblemKind::TokenInvalid);
        world.restart().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_was_killed_while_dropping_a_key_goes_on_with_it() {
    let mut world = World::start_with(|limits| limits.ledger_grace_seconds = 1000).await;
    let bob = world.mailbox().await;
    let spent = world.released(&bob).await;
    world.issuer.rotate(0, 1, world.now() + 100);
    world.app.refresh_keys().await;
    // The first of the three steps, as the other process did it before it died.
    let fenced = Value::Blob(key(0).public().key_id().0.to_vec());
    world.database.execute("insert into retired_keys (key_id) values ($1)", &[fenced]);
    let fenced = world.send(&bob.id, &token(0).token, &envelope()).await;
    assert_eq!(fenced.refusal(), ProblemKind::TokenInvalid);
    assert_eq!(world.exchange(&exchange_request(&spent, 1, blinded(1).0)).await.refusal(), ProblemKind::TokenInvalid);
    world.restart().await;
    world.clock.advance_seconds(1101);
    world.app.sweep().await.unwrap();
    assert_eq!(world.count("select count(*) from ledger"), 0);
    assert_eq!(world.count("select released from retired_keys"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_the_issuer_drops_at_once_counts_no_more() {
    let world = World::start().await;
    let bob = world.mailbox().await;
    let (spent, message) = (token(0), envelope());
    assert_eq!(world.send(&bob.id, &spent.token, &message).await.status, 201);
    world.issuer.state().keys = vec![(key(1), postern_protocol::tokens::KeyState::Active, None)];
    world.app.refresh_keys().await;
    assert_eq!(world.send(&bob.id, &token(0).token, &envelope()).await.refusal(), ProblemKind::TokenInvalid);
    assert_eq!(world.send(&bob.id, &spent.token, &message).await.status, 201, "its rows still answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_somebody_else_has_signed_are_not_taken() {
    let world = World::start().await;
    let bob = world.mailbox().await;
    world.issuer.state().keys = vec![(key(1), postern_protocol::tokens::KeyState::Active, None)];
    for mode in [Mode::TamperedBody, Mode::OtherNonce, Mode::OtherKey] {
        world.issuer.set(mode);
        world.app.refresh_keys().await;
        assert_eq!(world.send(&bob.id, &token(0).token, &envelope()).await.status, 201, "{mode:?}");
    }
}
