//! Verdicts: only the recipient's, once, and also after the message is gone.

use futures::future::join_all;
use postern_protocol::ids::MessageId;
use postern_protocol::problem::ProblemKind;
use postern_protocol::release::{ACK_PATH, DECLINE_PATH, MAX_MESSAGES, MessageList, RELEASE_PATH, SPAM_PATH};

use crate::world::{Reply, World, blinded, exchange_request};

#[tokio::test(flavor = "multi_thread")]
async fn nobody_but_the_recipient_acknowledges_releases_or_burns() {
    let world = World::start().await;
    let (bob, mallory) = (world.mailbox().await, world.mailbox().await);
    let (_, message) = world.sent(&bob.id).await;
    let invented = MessageId([9; 32]);
    for path in [ACK_PATH, RELEASE_PATH, DECLINE_PATH, SPAM_PATH] {
        let outcome = world.verdict(&mallory, path, &[message]).await;
        assert_eq!((outcome.done, outcome.refused), (vec![], vec![message]), "{path}");
        assert_eq!(world.verdict(&bob, path, &[invented]).await.refused, [invented], "{path}");
    }
    assert_eq!(world.ledger("attached"), 1);
    assert_eq!(world.inbox(&bob).await.messages.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verdict_can_be_repeated_but_not_reversed() {
    let world = World::start().await;
    let bob = world.mailbox().await;
    let (_, good) = world.sent(&bob.id).await;
    let (_, bad) = world.sent(&bob.id).await;
    for _ in 0..2 {
        assert_eq!(world.verdict(&bob, RELEASE_PATH, &[good]).await.done, [good]);
        assert_eq!(world.verdict(&bob, DECLINE_PATH, &[good]).await.done, [good], "the same at the relay");
        assert_eq!(world.verdict(&bob, SPAM_PATH, &[bad]).await.done, [bad]);
    }
    assert_eq!(world.verdict(&bob, SPAM_PATH, &[good]).await.refused, [good]);
    assert_eq!(world.verdict(&bob, RELEASE_PATH, &[bad]).await.refused, [bad]);
    assert_eq!((world.ledger("released"), world.ledger("burnt")), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn release_works_after_the_message_was_acknowledged_and_after_the_exchange() {
    let world = World::start().await;
    let bob = world.mailbox().await;
    let (spendable, message) = world.sent(&bob.id).await;
    for _ in 0..2 {
        assert_eq!(world.verdict(&bob, ACK_PATH, &[message]).await.done, [message]);
    }
    assert_eq!(world.verdict(&bob, RELEASE_PATH, &[message]).await.done, [message]);
    let request = exchange_request(&spendable, 0, blinded(0).0);
    assert_eq!(world.exchange(&request).await.status, 200);
    assert_eq!(world.verdict(&bob, RELEASE_PATH, &[message]).await.done, [message]);
    assert_eq!(world.verdict(&bob, SPAM_PATH, &[message]).await.refused, [message]);
    assert_eq!(world.ledger("exchanged"), 1);
    world.assert_consistent();
}

#[tokio::test(flavor = "multi_thread")]
async fn declining_leaves_the_same_traces_as_releasing() {
    let world = World::start().await;
    let bob = world.mailbox().await;
    let (_, accepted) = world.sent(&bob.id).await;
    let (_, declined) = world.sent(&bob.id).await;
    world.verdict(&bob, RELEASE_PATH, &[accepted]).await;
    world.verdict(&bob, DECLINE_PATH, &[declined]).await;
    // All that is stored besides what the tokens and envelopes themselves are.
    let traces = "select count(*) from (select distinct state, blinded_digest, mailbox from ledger) as traces";
    assert_eq!(world.count(traces), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_release_and_spam_at_once_one_wins_for_good() {
    let world = World::start().await;
    let bob = world.mailbox().await;
    for _ in 0..4 {
        let (_, message) = world.sent(&bob.id).await;
        let verdicts = (0..16).map(|i| {
            let path = if i % 2 == 0 { RELEASE_PATH } else { SPAM_PATH };
            let (world, bob) = (&world, &bob);
            async move { (path, world.verdict(bob, path, &[message]).await) }
        });
        let outcomes = join_all(verdicts).await;
        let winners: std::collections::HashSet<_> =
            outcomes.iter().filter(|(_, outcome)| !outcome.done.is_empty()).map(|(path, _)| *path).collect();
        assert_eq!(winners.len(), 1);
    }
    assert_eq!(world.ledger("released") + world.ledger("burnt"), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_taken_whole_sorted_out_one_by_one_and_bounded() {
    let world = World::start().await;
    let bob = world.mailbox().await;
    let (_, mine) = world.sent(&bob.id).await;
    let foreign = MessageId([1; 32]);
    let outcome = world.verdict(&bob, ACK_PATH, &[mine, foreign, mine]).await;
    assert_eq!((outcome.done, outcome.refused), (vec![mine], vec![foreign]));
    assert_eq!(world.verdict(&bob, ACK_PATH, &[]).await, Default::default());

    let most =
        |n: usize| MessageList { messages: (0..n).map(|i| MessageId([u8::try_from(i % 251).unwrap(); 32])).collect() };
    let list = most(MAX_MESSAGES);
    assert_eq!(Reply::to(world.post_json(ACK_PATH, &list).bearer_auth(&bob.jwt)).await.status, 200);
    let list = most(MAX_MESSAGES + 1);
    let reply = Reply::to(world.post_json(ACK_PATH, &list).bearer_auth(&bob.jwt)).await;
    assert_eq!(reply.refusal(), ProblemKind::BadRequest);
}
