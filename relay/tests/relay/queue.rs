//! Messages that share a transaction: each gets the answer that it would get alone.

use std::collections::BTreeSet;

use futures::future::join_all;
use postern_protocol::ids::MailboxId;
use postern_protocol::problem::ProblemKind;
use postern_protocol::release::ACK_PATH;

use crate::contacts::{Contact, EPOCH, Owner};
use crate::world::{World, envelope, token};

#[tokio::test(flavor = "multi_thread")]
async fn of_64_messages_at_once_as_many_are_queued_as_there_is_room_for_and_the_other_tokens_are_unspent() {
    let world = World::start_with(|limits| limits.quota_messages = 10).await;
    let bob = world.mailbox().await;
    let tokens: Vec<_> = (0..64).map(|_| token(0)).collect();
    let envelopes: Vec<_> = tokens.iter().map(|_| envelope()).collect();
    let sends = tokens.iter().zip(&envelopes).map(|(token, envelope)| world.send(&bob.id, &token.token, envelope));
    let replies = join_all(sends).await;
    let full: Vec<usize> = (0..64).filter(|n| replies[*n].status != 201).collect();
    assert_eq!(full.len(), 54);
    for n in &full {
        assert_eq!(replies[*n].refusal(), ProblemKind::MailboxFull);
        assert!(replies[*n].headers.contains_key("retry-after"));
    }
    assert_eq!(world.count("select count(*) from ledger"), 10);
    assert_eq!(world.count("select count(distinct position) from messages"), 10);
    assert_eq!(world.count("select max(position) from messages"), 10);
    world.assert_consistent();

    // What was refused can be sent when there is room.
    let inbox = world.inbox(&bob).await;
    let read: Vec<_> = inbox.messages.iter().map(|message| message.message).collect();
    assert_eq!(world.verdict(&bob, ACK_PATH, &read).await.done.len(), 10);
    let again = world.send(&bob.id, &tokens[full[0]].token, &envelopes[full[0]]).await;
    assert_eq!(again.status, 201);
    assert_eq!(world.count("select max(position) from messages"), 11);
    world.assert_consistent();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_refused_is_none_of_the_others_affair() {
    let world = World::start_with(|limits| limits.quota_messages = 3).await;
    let (bob, carol) = (world.mailbox().await, world.mailbox().await);
    for _ in 0..3 {
        assert_eq!(world.send(&carol.id, &token(0).token, &envelope()).await.status, 201);
    }
    let nobody = MailboxId([9; 32]);
    let mut sends = Vec::new();
    for n in 0..48 {
        let to = [bob.id, carol.id, nobody, world.mailbox().await.id][n % 4];
        sends.push((to, token(0), envelope()));
    }
    let replies = join_all(sends.iter().map(|(to, token, envelope)| world.send(to, &token.token, envelope))).await;
    for ((to, ..), reply) in sends.iter().zip(&replies) {
        match *to {
            to if to == nobody => assert_eq!(reply.refusal(), ProblemKind::MailboxUnknown),
            to if to == carol.id => assert_eq!(reply.refusal(), ProblemKind::MailboxFull),
            to if to == bob.id && reply.status != 201 => assert_eq!(reply.refusal(), ProblemKind::MailboxFull),
            _ => assert_eq!(reply.status, 201),
        }
    }
    assert_eq!(world.inbox(&bob).await.messages.len(), 3);
    assert_eq!(world.count("select count(*) from ledger"), 3 + 3 + 12);
    world.assert_consistent();
}

#[tokio::test(flavor = "multi_thread")]
async fn spent_tokens_among_fresh_ones_get_the_answers_of_the_first_time_and_spend_nothing() {
    let world = World::start_with(|limits| limits.quota_messages = 64).await;
    let (bob, carol) = (world.mailbox().await, world.mailbox().await);
    let spent: Vec<_> = (0..12).map(|_| (token(0), envelope())).collect();
    let first = join_all(spent.iter().map(|(token, envelope)| world.send(&bob.id, &token.token, envelope))).await;
    assert!(first.iter().all(|reply| reply.status == 201));

    // The same again, the same to somebody else, with another envelope, and fresh ones twice: all at once.
    let fresh: Vec<_> = (0..12).map(|_| (token(0), envelope())).collect();
    let other = envelope();
    let again = join_all(spent.iter().map(|(token, envelope)| world.send(&bob.id, &token.token, envelope)));
    let elsewhere = join_all(spent.iter().map(|(token, envelope)| world.send(&carol.id, &token.token, envelope)));
    let otherwise = join_all(spent.iter().map(|(token, _)| world.send(&bob.id, &token.token, &other)));
    let once = join_all(fresh.iter().map(|(token, envelope)| world.send(&bob.id, &token.token, envelope)));
    let twice = join_all(fresh.iter().map(|(token, envelope)| world.send(&bob.id, &token.token, envelope)));
    let (again, elsewhere, otherwise, once, twice) = tokio::join!(again, elsewhere, otherwise, once, twice);
    for (first, again) in first.iter().zip(&again).chain(once.iter().zip(&twice)) {
        assert_eq!((first.status.as_u16(), &first.body), (201, &again.body));
        assert_eq!(again.status, 201);
    }
    for reply in elsewhere.iter().chain(&otherwise) {
        assert_eq!(reply.refusal(), ProblemKind::TokenAttached);
    }
    assert_eq!(world.count("select count(*) from ledger"), 24);
    assert_eq!(world.count("select count(*) from messages"), 24);
    world.assert_consistent();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_mailbox_refuses_every_copy_of_a_message_that_comes_at_once() {
    let world = World::start_with(|limits| limits.quota_messages = 1).await;
    let bob = world.mailbox().await;
    assert_eq!(world.send(&bob.id, &token(0).token, &envelope()).await.status, 201);
    let (late, envelope) = (token(0), envelope());
    let copies = join_all((0..24).map(|_| world.send(&bob.id, &late.token, &envelope))).await;
    assert!(copies.iter().all(|reply| reply.refusal() == ProblemKind::MailboxFull));
    assert_eq!(world.count("select count(*) from ledger"), 1, "and its token is unspent");
    world.assert_consistent();
}

#[tokio::test(flavor = "multi_thread")]
async fn cold_messages_and_replies_that_come_at_once_are_queued_each_once_in_places_of_their_own() {
    let world = World::start().await;
    let (bob, contact) = (Owner::new(&world).await, Contact::new());
    let cold: Vec<_> = (0..16).map(|_| (token(0), envelope())).collect();
    let replies: Vec<_> = (0..16).map(|slot| (slot, envelope())).collect();
    let shown: Vec<_> = replies.iter().map(|(slot, envelope)| bob.shown(&contact, EPOCH, *slot, envelope)).collect();
    let to = &bob.mailbox.id;
    let cold = join_all(cold.iter().map(|(token, envelope)| world.send(to, &token.token, envelope)));
    let replies = join_all(replies.iter().zip(&shown).map(|((_, envelope), shown)| bob.send(&world, shown, envelope)));
    let (cold, replies) = tokio::join!(cold, replies);
    assert!(cold.iter().chain(&replies).all(|reply| reply.status == 201));
    assert_eq!(world.count("select count(*) from messages"), 32);
    assert_eq!(world.count("select count(distinct position) from messages"), 32);
    world.assert_consistent();
}

#[tokio::test(flavor = "multi_thread")]
async fn when_too_much_is_queued_a_sender_is_told_to_come_again_and_nothing_is_lost() {
    let world = World::start_with(|limits| limits.queued_sends = 1).await;
    let bob = world.mailbox().await;
    let sends: Vec<_> = (0..128).map(|_| (token(0), envelope())).collect();
    let mut left: BTreeSet<usize> = (0..sends.len()).collect();
    let mut turned_away = 0;
    for _ in 0..200 {
        let tried: Vec<usize> = left.iter().copied().collect();
        let replies = join_all(tried.iter().map(|n| world.send(&bob.id, &sends[*n].0.token, &sends[*n].1))).await;
        for (n, reply) in tried.iter().zip(&replies) {
            if reply.status == 201 {
                left.remove(n);
            } else {
                assert_eq!(reply.refusal(), ProblemKind::Unavailable);
                assert_eq!(reply.headers["retry-after"], "1");
                turned_away += 1;
            }
        }
        if left.is_empty() {
            break;
        }
    }
    assert!(left.is_empty() && turned_away > 0, "{} left, {turned_away} turned away", left.len());
    assert_eq!(world.count("select count(*) from messages"), 128);
    world.assert_consistent();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_messages_that_one_token_pays_for_at_once_one_is_confirmed_and_that_one_is_there() {
    let world = World::start().await;
    let (bob, carol) = (world.mailbox().await, world.mailbox().await);
    // More than a handful: sorting a few keeps those of one token in their order, whatever kind of sorting it is.
    let tokens: Vec<_> = (0..64).map(|_| (token(0), envelope(), envelope())).collect();
    let one = join_all(tokens.iter().map(|(token, one, _)| world.send(&bob.id, &token.token, one)));
    let other = join_all(tokens.iter().map(|(token, _, other)| world.send(&carol.id, &token.token, other)));
    let (one, other) = tokio::join!(one, other);
    for (one, other) in one.iter().zip(&other) {
        let (confirmed, refused) = if one.status == 201 { (one, other) } else { (other, one) };
        assert_eq!(confirmed.status, 201);
        assert_eq!(refused.refusal(), ProblemKind::TokenAttached);
    }
    let confirmed = |replies: &[crate::world::Reply]| replies.iter().filter(|reply| reply.status == 201).count();
    for (mailbox, confirmed) in [(&bob, confirmed(&one)), (&carol, confirmed(&other))] {
        assert_eq!(world.inbox(mailbox).await.messages.len(), confirmed);
    }
    assert_eq!(
        world.count(
            "select count(*) from messages m join ledger l on l.nullifier = m.message and l.mailbox = m.mailbox"
        ),
        64
    );
    world.assert_consistent();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_replies_that_one_slot_pays_for_at_once_one_is_confirmed() {
    let world = World::start().await;
    let bob = Owner::new(&world).await;
    let contacts: Vec<_> = (0..4).map(|_| Contact::new()).collect();
    let mut pairs = Vec::new();
    for (contact, slot) in contacts.iter().flat_map(|contact| (0..16).map(move |slot| (contact, slot))) {
        let [one, other] = [envelope(), envelope()];
        let shown = [&one, &other].map(|envelope| bob.shown(contact, EPOCH, slot, envelope));
        pairs.push((one, other, shown));
    }
    let one = join_all(pairs.iter().map(|(one, _, shown)| bob.send(&world, &shown[0], one)));
    let other = join_all(pairs.iter().map(|(_, other, shown)| bob.send(&world, &shown[1], other)));
    let (one, other) = tokio::join!(one, other);
    for (one, other) in one.iter().zip(&other) {
        let (confirmed, refused) = if one.status == 201 { (one, other) } else { (other, one) };
        assert_eq!(confirmed.status, 201);
        assert_eq!(refused.refusal(), ProblemKind::ReplyUsed);
    }
    assert_eq!(world.count("select count(*) from messages"), 64);
    world.assert_consistent();
}
