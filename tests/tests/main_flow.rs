//! The main flow by hand: register, write to a stranger, be released, exchange, write again.

use postern_protocol::exchange::ExchangeResponse;
use postern_protocol::problem::ProblemKind;
use postern_protocol::release::{ACK_PATH, DECLINE_PATH, RELEASE_PATH, SPAM_PATH};
use postern_protocol::send::Accepted;
use postern_tests::{Actor, World, invariants, programs};

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_writes_is_released_exchanges_and_writes_again() {
    let mut world = World::start(programs!());
    let mut alice = Actor::ready(&world, "+41791230001").await;
    let mut bob = Actor::ready(&world, "+41791230002").await;
    assert_eq!(alice.tokens.len(), 5);

    let envelope = alice.envelope(&bob.mailbox(), "hello");
    let spent = alice.tokens.remove(0);
    let accepted: Accepted = alice.send(&bob.mailbox(), &spent.token, &envelope).await.json();

    let inbox = bob.inbox().await;
    assert_eq!(inbox.messages.len(), 1);
    assert_eq!(inbox.messages[0].message, accepted.message);
    assert_eq!(inbox.messages[0].envelope.0, envelope);

    // Before the release there is nothing to exchange.
    let blinded = alice.blind(1).remove(0);
    let request = alice.exchange_request(&spent, &blinded);
    assert_eq!(alice.send_exchange(&request).await.refusal(), ProblemKind::NotReleased);

    // Acknowledged first, released later: the release must not need the message.
    assert_eq!(bob.verdict(ACK_PATH, &[accepted.message]).await.done, [accepted.message]);
    assert!(bob.inbox().await.messages.is_empty());
    assert_eq!(bob.verdict(RELEASE_PATH, &[accepted.message]).await.done, [accepted.message]);

    let response: ExchangeResponse = alice.send_exchange(&request).await.json();
    let fresh = alice.unblind(&blinded, &response.blind_signature);
    let again = alice.envelope(&bob.mailbox(), "hello again");
    let accepted: Accepted = alice.send(&bob.mailbox(), &fresh.token, &again).await.json();
    assert_eq!(bob.inbox().await.messages[0].message, accepted.message);

    invariants::assert_hold(&world);
    world.assert_healthy();
}

#[tokio::test(flavor = "multi_thread")]
async fn declining_gives_the_token_back_and_spam_burns_it() {
    let world = World::start(programs!());
    let mut alice = Actor::ready(&world, "+41791230003").await;
    let mut bob = Actor::ready(&world, "+41791230004").await;
    let mut sent = Vec::new();
    for token in alice.tokens.split_off(3) {
        let envelope = alice.envelope(&bob.mailbox(), "hello");
        let accepted: Accepted = alice.send(&bob.mailbox(), &token.token, &envelope).await.json();
        sent.push((token, accepted.message));
    }
    let [(declined, declined_id), (burnt, burnt_id)] = sent.try_into().unwrap();
    assert_eq!(bob.verdict(DECLINE_PATH, &[declined_id]).await.done, [declined_id]);
    assert_eq!(bob.verdict(SPAM_PATH, &[burnt_id]).await.done, [burnt_id]);
    // A verdict stands: spam cannot be taken back, and a released token cannot be burnt under its owner.
    assert_eq!(bob.verdict(RELEASE_PATH, &[burnt_id]).await.refused, [burnt_id]);
    assert_eq!(bob.verdict(SPAM_PATH, &[declined_id]).await.refused, [declined_id]);

    alice.exchange(&declined).await;
    let blinded = alice.blind(1).remove(0);
    let request = alice.exchange_request(&burnt, &blinded);
    // The spammer is not told that he was burnt: silence answers the same.
    assert_eq!(alice.send_exchange(&request).await.refusal(), ProblemKind::NotReleased);
    invariants::assert_hold(&world);
}

#[tokio::test(flavor = "multi_thread")]
async fn key_rotation_keeps_old_tokens_good_and_lets_unspent_ones_be_exchanged() {
    let world = World::start(programs!());
    let mut alice = Actor::ready(&world, "+41791230005").await;
    let mut bob = Actor::ready(&world, "+41791230006").await;
    let old = alice.tokens.pop().unwrap();
    let blinded = alice.blind(1).remove(0);

    // While the key is active an unspent token has nothing to be exchanged for.
    let request = alice.exchange_request(&old, &blinded);
    assert_eq!(alice.send_exchange(&request).await.refusal(), ProblemKind::NotReleased);

    world.issuer.command(&["rotate-keys"]);
    // The relay hears of it by asking. Until then the token is one of the active key.
    let heard = async { while alice.send_exchange(&request).await.refusal() == ProblemKind::NotReleased {} };
    tokio::time::timeout(std::time::Duration::from_secs(30), heard).await.expect("the relay hears of a rotation");
    assert_eq!(alice.send_exchange(&request).await.refusal(), ProblemKind::KeyNotActive);
    alice.refresh_key().await;
    let fresh = alice.exchange(&old).await;
    assert_ne!(fresh.token.input.token_key_id, old.token.input.token_key_id);

    // Gone is gone: the exchanged token cannot be spent any more.
    let to = bob.mailbox();
    let envelope = alice.envelope(&to, "hello");
    assert_eq!(alice.send(&to, &old.token, &envelope).await.refusal(), ProblemKind::TokenAttached);

    // Tokens of the retiring key are still good, and so is the new one.
    let retiring = alice.tokens.pop().unwrap();
    for token in [retiring, fresh] {
        let envelope = alice.envelope(&to, "hello");
        assert_eq!(alice.send(&to, &token.token, &envelope).await.status, 201);
    }
    assert_eq!(bob.inbox().await.messages.len(), 2);
    invariants::assert_hold(&world);
}
