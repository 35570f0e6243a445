//! Cold sends: once per token, whatever happens at the same time.

use futures::future::join_all;
use postern_credentials::blind_token::{PendingToken, nullifier, refund_nonce};
use postern_protocol::ids::{MailboxId, MessageId, RefundSecret};
use postern_protocol::problem::{Problem, ProblemKind};
use postern_protocol::release::ACK_PATH;
use postern_protocol::send::{Accepted, ENVELOPE_SIZES, send_path};
use postern_protocol::tokens::{TokenChallenge, parse_www_authenticate};

use crate::issuer::{ISSUER, Mode, key};
use crate::world::{RELAY, Reply, World, envelope, random, token, token_for};

#[tokio::test(flavor = "multi_thread")]
async fn a_message_bought_with_a_token_arrives_under_the_name_of_the_token() {
    let world = World::start().await;
    let bob = world.mailbox().await;
    let spendable = token(0);
    for size in ENVELOPE_SIZES {
        let (spendable, envelope) = (token(0), vec![7; size]);
        let reply = world.send(&bob.id, &spendable.token, &envelope).await;
        assert_eq!(reply.status, 201);
        assert_eq!(reply.headers["cache-control"], "no-store");
        let message = reply.json::<Accepted>().message;
        assert_eq!(message, MessageId(nullifier(&spendable.token.input).0));
        let inbox = world.inbox(&bob).await;
        let queued = inbox.messages.iter().find(|queued| queued.message == message).unwrap();
        assert!(queued.envelope.0 == envelope);
    }
    assert_eq!(spendable.token.input.nonce, refund_nonce(&spendable.refund));
    world.assert_consistent();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_identical_send_gets_the_identical_answer_even_after_the_message_was_read() {
    let world = World::start().await;
    let bob = world.mailbox().await;
    let (spendable, envelope) = (token(0), envelope());
    let first = world.send(&bob.id, &spendable.token, &envelope).await;
    assert_eq!(first.status, 201);
    let message = first.json::<Accepted>().message;
    let again = world.send(&bob.id, &spendable.token, &envelope).await;
    assert_eq!((again.status, &again.body), (first.status, &first.body));
    assert_eq!(world.inbox(&bob).await.messages.len(), 1);

    assert_eq!(world.verdict(&bob, ACK_PATH, &[message]).await.done, [message]);
    let after = world.send(&bob.id, &spendable.token, &envelope).await;
    assert_eq!((after.status, &after.body), (first.status, &first.body));
    assert!(world.inbox(&bob).await.messages.is_empty(), "a retry delivers nothing twice");
    world.assert_consistent();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_not_good_for_another_message_or_another_mailbox() {
    let world = World::start().await;
    let (bob, carol) = (world.mailbox().await, world.mailbox().await);
    let (spendable, message) = (token(0), envelope());
    assert_eq!(world.send(&bob.id, &spendable.token, &message).await.status, 201);
    assert_eq!(world.send(&bob.id, &spendable.token, &envelope()).await.refusal(), ProblemKind::TokenAttached);
    assert_eq!(world.send(&carol.id, &spendable.token, &message).await.refusal(), ProblemKind::TokenAttached);
    assert_eq!(world.count("select count(*) from messages"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_64_parallel_spends_of_one_token_exactly_one_is_accepted() {
    let world = World::start().await;
    let (bob, carol) = (world.mailbox().await, world.mailbox().await);
    let spendable = token(0);
    let envelopes: Vec<_> = (0..64).map(|_| envelope()).collect();
    let sends = envelopes.iter().enumerate().map(|(i, envelope)| {
        let to = if i % 2 == 0 { &bob.id } else { &carol.id };
        world.send(to, &spendable.token, envelope)
    });
    let replies = join_all(sends).await;
    assert_eq!(replies.iter().filter(|reply| reply.status == 201).count(), 1);
    for refused in replies.iter().filter(|reply| reply.status != 201) {
        assert_eq!(refused.refusal(), ProblemKind::TokenAttached);
    }
    assert_eq!(world.count("select count(*) from messages"), 1);
    assert_eq!(world.count("select count(*) from ledger"), 1);
    world.assert_consistent();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_64_parallel_identical_sends_all_get_one_answer_and_one_is_delivered() {
    let world = World::start().await;
    let bob = world.mailbox().await;
    let (spendable, envelope) = (token(0), envelope());
    let replies = join_all((0..64).map(|_| world.send(&bob.id, &spendable.token, &envelope))).await;
    assert!(replies.iter().all(|reply| reply.status == 201 && reply.body == replies[0].body));
    assert_eq!(world.count("select count(*) from messages"), 1);
    world.assert_consistent();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_knows_a_spent_token_but_not_its_signature_learns_nothing() {
    let world = World::start().await;
    let bob = world.mailbox().await;
    let (spent, unspent, envelope) = (token(0), token(0), envelope());
    assert_eq!(world.send(&bob.id, &spent.token, &envelope).await.status, 201);
    let mut answers = Vec::new();
    for known in [spent.token, unspent.token] {
        let mut forged = known;
        forged.authenticator.0[200] ^= 1;
        let reply = world.send(&bob.id, &forged, &envelope).await;
        assert_eq!(reply.refusal(), ProblemKind::TokenInvalid);
        answers.push((reply.headers["www-authenticate"].clone(), reply.body));
    }
    assert_eq!(answers[0], answers[1], "spent or not: the same bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_valid_signatures_of_one_input_are_one_token() {
    let world = World::start().await;
    let bob = world.mailbox().await;
    let refund = RefundSecret::new([7; 32]);
    let digest = postern_credentials::blind_token::challenge_digest(&TokenChallenge::for_relay(ISSUER, RELAY)).unwrap();
    let mut twice = (0..2).map(|_| {
        let (blinded, pending) =
            PendingToken::begin(&mut crate::world::rng(), key(0).public(), digest, &refund).unwrap();
        pending.finish(key(0).public(), &key(0).blind_sign(&blinded).unwrap()).unwrap()
    });
    let (first, second) = (twice.next().unwrap(), twice.next().unwrap());
    assert!(first != second);
    let envelope = envelope();
    assert_eq!(world.send(&bob.id, &first, &envelope).await.status, 201);
    assert_eq!(world.send(&bob.id, &second, &envelope).await.refusal(), ProblemKind::TokenAttached);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_the_relay_says_which_one_it_wants() {
    let world = World::start().await;
    let bob = world.mailbox().await;
    for scheme in [None, Some("Bearer abc"), Some("Basic YTpi"), Some("")] {
        let request = world.http.post(world.at(&send_path(&bob.id))).header("content-type", "application/octet-stream");
        let request = scheme.into_iter().fold(request, |request, value| request.header("authorization", value));
        let reply = Reply::to(request.body(envelope())).await;
        assert_eq!(reply.refusal(), ProblemKind::TokenRequired, "{scheme:?}");
        let header = reply.headers["www-authenticate"].to_str().unwrap();
        let (challenge, spki) = parse_www_authenticate(header).unwrap();
        assert_eq!(challenge, TokenChallenge::for_relay(ISSUER, RELAY));
        assert_eq!(spki, key(0).public().spki());
    }
    for malformed in ["PrivateToken", "PrivateToken token=", "PrivateToken token=AAAA", "PrivateToken challenge=\"x\""]
    {
        let request = world.send_request(&bob.id, &token(0).token, &envelope());
        let mut request = request.build().unwrap();
        request.headers_mut().insert("authorization", malformed.parse().unwrap());
        let response = world.http.execute(request).await.unwrap();
        assert_eq!(response.status(), 401);
        let problem: Problem = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
        assert_eq!(problem.known_kind(), Some(ProblemKind::TokenInvalid), "{malformed}");
    }
    assert_eq!(world.count("select count(*) from ledger"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_for_another_relay_of_another_key_or_of_an_ended_key_is_refused() {
    let world = World::start().await;
    let bob = world.mailbox().await;
    let elsewhere = token_for("other.test", 0);
    assert_eq!(world.send(&bob.id, &elsewhere.token, &envelope()).await.refusal(), ProblemKind::TokenInvalid);
    assert_eq!(world.send(&bob.id, &token(1).token, &envelope()).await.refusal(), ProblemKind::TokenInvalid);
    // Somebody else's key id over a signature of the active key.
    let mut mixed = token(0).token;
    mixed.input.token_key_id = key(1).public().key_id();
    assert_eq!(world.send(&bob.id, &mixed, &envelope()).await.refusal(), ProblemKind::TokenInvalid);

    let end = world.now() + 100;
    world.issuer.rotate(0, 1, end);
    world.app.refresh_keys().await;
    let (old, message) = (token(0), envelope());
    assert_eq!(world.send(&bob.id, &old.token, &message).await.status, 201, "retiring keys count");
    world.clock.advance_seconds(100);
    assert_eq!(world.send(&bob.id, &token(0).token, &envelope()).await.refusal(), ProblemKind::TokenInvalid);
    assert_eq!(world.send(&bob.id, &old.token, &message).await.status, 201, "a retry is answered after the end");
    assert_eq!(world.send(&bob.id, &token(1).token, &envelope()).await.status, 201);
    assert_eq!(world.count("select count(*) from ledger"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_mailbox_refuses_and_the_token_stays_good() {
    let world = World::start_with(|limits| {
        limits.quota_messages = 2;
        limits.quota_bytes = 20_000;
        limits.quota_retry_seconds = 77;
    })
    .await;
    let (bob, carol) = (world.mailbox().await, world.mailbox().await);
    let (_, first) = world.sent(&bob.id).await;
    world.sent(&bob.id).await;
    let (spendable, envelope) = (token(0), envelope());
    let reply = world.send(&bob.id, &spendable.token, &envelope).await;
    assert_eq!(reply.refusal(), ProblemKind::MailboxFull);
    assert_eq!(reply.headers["retry-after"], "77");
    assert_eq!(world.count("select count(*) from ledger"), 2, "the token is not spent");
    world.verdict(&bob, ACK_PATH, &[first]).await;
    assert_eq!(world.send(&bob.id, &spendable.token, &envelope).await.status, 201);

    // Bytes count as well.
    assert_eq!(world.send(&carol.id, &token(0).token, &[1; 16_384]).await.status, 201);
    assert_eq!(world.send(&carol.id, &token(0).token, &[1; 4096]).await.refusal(), ProblemKind::MailboxFull);
    world.assert_consistent();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_holds_under_parallel_sends() {
    let world = World::start_with(|limits| limits.quota_messages = 5).await;
    let bob = world.mailbox().await;
    let tokens: Vec<_> = (0..20).map(|_| token(0)).collect();
    let envelope = envelope();
    let replies = join_all(tokens.iter().map(|t| world.send(&bob.id, &t.token, &envelope))).await;
    assert_eq!(replies.iter().filter(|reply| reply.status == 201).count(), 5);
    assert_eq!(world.count("select count(*) from ledger"), 5);
    world.assert_consistent();
}

#[tokio::test(flavor = "multi_thread")]
async fn checks_come_in_their_order_and_junk_is_stored_nowhere() {
    let world = World::start().await;
    let bob = world.mailbox().await;
    let (good, nobody) = (token(0), MailboxId(random()));
    for size in [0, 1, 4095, 4097, 20_000, 65_535] {
        let reply = world.send(&nobody, &token_for("other.test", 1).token, &vec![0; size]).await;
        assert_eq!(reply.refusal(), ProblemKind::EnvelopeSize, "{size}");
    }
    assert_eq!(world.send(&bob.id, &good.token, &vec![0; 65_537]).await.refusal(), ProblemKind::TooLarge);
    let unknown = world.send(&nobody, &token_for("other.test", 1).token, &envelope()).await;
    assert_eq!(unknown.refusal(), ProblemKind::MailboxUnknown);
    let mistyped = world.http.post(world.at("/v1/mailboxes/short/messages"));
    let mistyped = mistyped.header("content-type", "application/octet-stream").body(envelope());
    assert_eq!(Reply::to(mistyped).await.refusal(), ProblemKind::MailboxUnknown);
    let text = world.http.post(world.at(&send_path(&bob.id))).header("content-type", "text/plain").body(envelope());
    assert_eq!(Reply::to(text).await.refusal(), ProblemKind::UnsupportedMediaType);
    assert_eq!(world.count("select count(*) from ledger"), 0);
    assert_eq!(world.count("select count(*) from messages"), 0);
    assert_eq!(world.send(&bob.id, &good.token, &envelope()).await.status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_younger_than_the_last_refresh_is_asked_for_and_not_called_invalid() {
    let world = World::start().await;
    let bob = world.mailbox().await;
    world.issuer.rotate(0, 1, world.now() + 1000);
    assert_eq!(world.send(&bob.id, &token(1).token, &envelope()).await.status, 201);

    // Of a key that nobody has heard of, while the issuer is silent, nothing is said.
    world.issuer.set(Mode::Down);
    let reply = world.send(&bob.id, &token(2).token, &envelope()).await;
    assert_eq!(reply.refusal(), ProblemKind::Unavailable);
    assert_eq!(world.send(&bob.id, &token(1).token, &envelope()).await.status, 201);
}
