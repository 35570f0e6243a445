//! Verdicts that share a transaction with messages and with each other: each gets the answer that it would get alone.

use std::collections::BTreeSet;

use futures::future::join_all;
use postern_protocol::ids::MessageId;
use postern_protocol::problem::ProblemKind;
use postern_protocol::release::{ACK_PATH, MAX_MESSAGES, MessageList, Outcome, RELEASE_PATH, SPAM_PATH};

use crate::world::{Reply, World, envelope, random, token};

#[tokio::test(flavor = "multi_thread")]
async fn acknowledgements_and_messages_that_come_at_once_leave_queue_and_counters_as_one_after_the_other() {
    let world = World::start_with(|limits| limits.quota_messages = 20).await;
    let bob = world.mailbox().await;
    let mut waiting = Vec::new();
    for _ in 0..20 {
        waiting.push(world.sent(&bob.id).await.1);
    }
    let sends: Vec<_> = (0..20).map(|_| (token(0), envelope())).collect();
    let sent = join_all(sends.iter().map(|(token, envelope)| world.send(&bob.id, &token.token, envelope)));
    let acknowledged =
        join_all(waiting.iter().map(|message| world.verdict(&bob, ACK_PATH, std::slice::from_ref(message))));
    let (sent, acknowledged) = tokio::join!(sent, acknowledged);
    assert!(acknowledged.iter().zip(&waiting).all(|(outcome, message)| outcome.done == [*message]));
    let queued = sent.iter().filter(|reply| reply.status == 201).count();
    assert!(sent.iter().all(|reply| reply.status == 201 || reply.refusal() == ProblemKind::MailboxFull));
    let left: BTreeSet<_> = world.inbox(&bob).await.messages.iter().map(|message| message.message).collect();
    assert_eq!(left.len(), queued);
    assert!(waiting.iter().all(|message| !left.contains(message)));
    world.assert_consistent();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_say_of_a_message_in_the_same_moment_neither_moves_it_nor_tells_them_of_it() {
    let world = World::start().await;
    let (bob, mallory) = (world.mailbox().await, world.mailbox().await);
    for _ in 0..4 {
        let mut messages = Vec::new();
        for _ in 0..4 {
            messages.push(world.sent(&bob.id).await.1);
        }
        let says = |n: usize| {
            let by = if n.is_multiple_of(2) { &mallory } else { &bob };
            let path = if n.is_multiple_of(2) {
                [ACK_PATH, SPAM_PATH, RELEASE_PATH][n % 3]
            } else {
                [ACK_PATH, RELEASE_PATH][n / 2 % 2]
            };
            let (world, messages) = (&world, &messages);
            async move { (n, world.verdict(by, path, messages).await) }
        };
        let outcomes = join_all((0..24).map(says)).await;
        messages.sort_unstable();
        for (n, outcome) in outcomes {
            let all = Outcome { done: messages.clone(), refused: Vec::new() };
            let none = Outcome { done: Vec::new(), refused: messages.clone() };
            assert_eq!(outcome, if n.is_multiple_of(2) { none } else { all });
        }
    }
    assert_eq!((world.ledger("released"), world.ledger("burnt")), (16, 0));
    assert_eq!(world.count("select count(*) from messages"), 0);
    world.assert_consistent();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_longest_lists_at_once_are_each_answered_whole_and_senders_beside_them_as_well() {
    let world = World::start().await;
    let mut owners = Vec::new();
    for _ in 0..12 {
        let owner = world.mailbox().await;
        let (_, message) = world.sent(&owner.id).await;
        let others = (1..MAX_MESSAGES).map(|_| MessageId(random()));
        owners.push((owner, message, others.chain([message]).collect::<Vec<_>>()));
    }
    let sends: Vec<_> = owners.iter().map(|(owner, ..)| (owner.id, token(0), envelope())).collect();
    let sent = join_all(sends.iter().map(|(to, token, envelope)| world.send(to, &token.token, envelope)));
    let listed = join_all(owners.iter().map(|(owner, _, list)| world.verdict(owner, ACK_PATH, list)));
    let (sent, listed) = tokio::join!(sent, listed);
    assert!(sent.iter().all(|reply| reply.status == 201));
    for (outcome, (_, message, _)) in listed.iter().zip(&owners) {
        assert_eq!((outcome.done.as_slice(), outcome.refused.len()), ([*message].as_slice(), MAX_MESSAGES - 1));
    }
    assert_eq!(world.count("select count(*) from messages"), 12);
    world.assert_consistent();
}

#[tokio::test(flavor = "multi_thread")]
async fn when_too_much_is_queued_a_recipient_is_told_to_come_again_and_no_verdict_is_half_done() {
    let world = World::start_with(|limits| limits.queued_sends = 1).await;
    let bob = world.mailbox().await;
    let mut left = Vec::new();
    for _ in 0..64 {
        left.push(world.sent(&bob.id).await.1);
    }
    let mut turned_away = 0;
    for _ in 0..200 {
        let says = left.iter().map(|message| {
            let list = MessageList { messages: vec![*message] };
            Reply::to(world.post_json(RELEASE_PATH, &list).bearer_auth(&bob.jwt))
        });
        let replies = join_all(says).await;
        let mut still = Vec::new();
        for (message, reply) in left.iter().zip(&replies) {
            if reply.status == 200 {
                assert_eq!(reply.json::<Outcome>().done, [*message]);
            } else {
                assert_eq!(reply.refusal(), ProblemKind::Unavailable);
                assert_eq!(reply.headers["retry-after"], "1");
                still.push(*message);
                turned_away += 1;
            }
        }
        assert_eq!(world.ledger("attached"), i64::try_from(still.len()).unwrap());
        left = still;
        if left.is_empty() {
            break;
        }
    }
    assert!(left.is_empty() && turned_away > 0, "{} left, {turned_away} turned away", left.len());
    assert_eq!(world.ledger("released"), 64);
    world.assert_consistent();
}
