//! Rollout (A7): without `enforce`, what would be refused for want of a token is taken and counted; with it, refused from then on.

use postern_protocol::ids::MailboxId;
use postern_protocol::problem::ProblemKind;
use postern_protocol::release::{ACK_PATH, RELEASE_PATH, SPAM_PATH};
use postern_protocol::send::{Accepted, RELAY_INFO_PATH, RelayInfo, Unenforced, send_path};

use crate::contacts::{Contact, EPOCH, Owner};
use crate::world::{Reply, World, envelope, random, token, token_for};

async fn rollout() -> World {
    let mut world = World::start().await;
    world.config.enforce = false;
    world.restart().await;
    world
}

async fn without(world: &World, to: &MailboxId, envelope: &[u8]) -> Reply {
    let request = world.http.post(world.at(&send_path(to))).header("content-type", "application/octet-stream");
    Reply::to(request.body(envelope.to_vec())).await
}

async fn info(world: &World) -> RelayInfo {
    Reply::to(world.http.get(world.at(RELAY_INFO_PATH))).await.json()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_be_refused_for_want_of_a_token_is_taken_and_counted_by_why() {
    let world = rollout().await;
    let bob = world.mailbox().await;
    let (good, _) = world.sent(&bob.id).await;
    assert_eq!(without(&world, &bob.id, &envelope()).await.status, 201);
    assert_eq!(world.send(&bob.id, &good.token, &envelope()).await.status, 201, "spent before");
    for _ in 0..2 {
        assert_eq!(world.send(&bob.id, &token_for("elsewhere.test", 0).token, &envelope()).await.status, 201);
    }
    let told = info(&world).await;
    assert!(!told.enforce);
    assert_eq!(told.unenforced, Unenforced { token_required: 1, token_invalid: 2, token_attached: 1 });
    assert_eq!(world.count("select count(*) from ledger"), 1, "the good one's alone");
    assert_eq!(world.inbox(&bob).await.messages.len(), 5);
    world.assert_consistent();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_identical_request_is_answered_alike_and_counted_once_also_when_it_was_read_and_by_many_at_once() {
    let world = rollout().await;
    let (bob, carol, text) = (world.mailbox().await, world.mailbox().await, envelope());
    let at_once = (0..16).map(|_| without(&world, &bob.id, &text));
    let answers = futures::future::join_all(at_once).await;
    let first = answers[0].json::<Accepted>().message;
    assert!(answers.iter().all(|answer| answer.json::<Accepted>().message == first));
    assert_eq!(world.inbox(&bob).await.messages.len(), 1);
    assert_eq!(world.verdict(&bob, ACK_PATH, &[first]).await.done, [first]);
    assert_eq!(without(&world, &bob.id, &text).await.json::<Accepted>().message, first);
    assert!(world.inbox(&bob).await.messages.is_empty(), "it was read");
    assert_ne!(without(&world, &carol.id, &text).await.json::<Accepted>().message, first, "elsewhere it is another");
    assert_eq!(info(&world).await.unenforced.token_required, 2);
    world.assert_consistent();
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_its_recipient_says_of_it_no_token_moves_and_others_learn_nothing() {
    let world = rollout().await;
    let (bob, carol) = (world.mailbox().await, world.mailbox().await);
    let message = without(&world, &bob.id, &envelope()).await.json::<Accepted>().message;
    for path in [RELEASE_PATH, SPAM_PATH, ACK_PATH, ACK_PATH] {
        assert_eq!(world.verdict(&carol, path, &[message]).await.refused, [message], "{path}");
        assert_eq!(world.verdict(&bob, path, &[message]).await.done, [message], "{path}");
    }
    assert_eq!(world.count("select count(*) from ledger"), 0);
    world.assert_consistent();
}

#[tokio::test(flavor = "multi_thread")]
async fn size_quota_mailbox_and_reply_credentials_are_held_as_always() {
    let mut world = World::start_with(|limits| limits.quota_messages = 1).await;
    world.config.enforce = false;
    world.restart().await;
    let (bob, alice) = (Owner::new(&world).await, Contact::new());
    let to = bob.mailbox.id;
    assert_eq!(without(&world, &to, &[7; 100]).await.refusal(), ProblemKind::EnvelopeSize);
    assert_eq!(without(&world, &MailboxId(random()), &envelope()).await.refusal(), ProblemKind::MailboxUnknown);
    let (shown, other) = (bob.shown(&alice, EPOCH, 0, &envelope()), envelope());
    assert_eq!(bob.send(&world, &shown, &other).await.refusal(), ProblemKind::ReplyInvalid);
    assert_eq!(without(&world, &to, &envelope()).await.status, 201);
    assert_eq!(without(&world, &to, &envelope()).await.refusal(), ProblemKind::MailboxFull);
    assert_eq!(world.count("select count(*) from unenforced"), 1, "what was refused leaves nothing");
    assert_eq!(info(&world).await.unenforced.token_required, 1);
    world.assert_consistent();
}

#[tokio::test(flavor = "multi_thread")]
async fn from_the_switch_on_everything_is_refused_as_it_should_be_and_what_is_queued_stays() {
    let mut world = rollout().await;
    let (bob, text) = (world.mailbox().await, envelope());
    assert_eq!(without(&world, &bob.id, &text).await.status, 201);
    world.config.enforce = true;
    world.restart().await;
    assert_eq!(
        without(&world, &bob.id, &text).await.refusal(),
        ProblemKind::TokenRequired,
        "the identical one as well"
    );
    assert_eq!(without(&world, &bob.id, &envelope()).await.refusal(), ProblemKind::TokenRequired);
    let spent = world.sent(&bob.id).await.0;
    assert_eq!(world.send(&bob.id, &spent.token, &envelope()).await.refusal(), ProblemKind::TokenAttached);
    let told = info(&world).await;
    assert!(told.enforce);
    assert_eq!(told.unenforced.token_required, 1, "still said");
    assert_eq!(world.inbox(&world.fresh(&bob)).await.messages.len(), 2);
    assert_eq!(world.send(&bob.id, &token(0).token, &envelope()).await.status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_forgotten_once_its_message_is_too_old_and_with_its_mailbox() {
    let world = rollout().await;
    let bob = world.mailbox().await;
    assert_eq!(without(&world, &bob.id, &envelope()).await.status, 201);
    world.clock.advance_seconds(world.config.limits.retention_seconds);
    world.app.sweep().await.unwrap();
    assert_eq!(world.count("select count(*) from unenforced"), 1);
    world.clock.advance_seconds(2 * 86_400);
    world.app.sweep().await.unwrap();
    assert_eq!(world.count("select count(*) from unenforced"), 0);
    assert_eq!(world.count("select count(*) from messages"), 0);
    assert_eq!(info(&world).await.unenforced.token_required, 1, "the sum stays");
    world.assert_consistent();
}
