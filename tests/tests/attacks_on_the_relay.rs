//! Somebody tries to get round the relay: twice at once, with another message, from another mailbox, without the secret.

use futures::future::join_all;
use postern_protocol::ids::{Base64, RefundSecret};
use postern_protocol::login::JwtAudience;
use postern_protocol::problem::ProblemKind;
use postern_protocol::release::{RELEASE_PATH, SPAM_PATH};
use postern_protocol::send::{Accepted, MAILBOXES_PATH, MESSAGES_PATH, send_path};
use postern_protocol::tokens::{Token, parse_www_authenticate};
use postern_tests::{Actor, Reply, World, invariants, programs};

#[tokio::test(flavor = "multi_thread")]
async fn of_64_parallel_spends_of_one_token_exactly_one_is_accepted() {
    let mut world = World::start(programs!());
    let mut mallory = Actor::ready(&world, "+41791231001").await;
    let bob = Actor::ready(&world, "+41791231002").await;
    let token = mallory.tokens[0].token;
    let to = bob.mailbox();
    let envelopes: Vec<_> = (0..64).map(|i| mallory.envelope(&to, &format!("offer {i}"))).collect();
    let replies = join_all(envelopes.iter().map(|envelope| mallory.send(&to, &token, envelope))).await;
    assert_eq!(replies.iter().filter(|r| r.status == 201).count(), 1);
    for refused in replies.iter().filter(|r| r.status != 201) {
        assert_eq!(refused.refusal(), ProblemKind::TokenAttached);
    }
    assert_eq!(world.relay_db.int("select count(*) from messages"), 1);
    invariants::assert_hold(&world);
    world.assert_healthy();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_send_again_gets_the_same_answer_and_no_second_message() {
    let world = World::start(programs!());
    let mut alice = Actor::ready(&world, "+41791231003").await;
    let bob = Actor::ready(&world, "+41791231004").await;
    let token = alice.tokens[0].token;
    let to = bob.mailbox();
    let envelope = alice.envelope(&to, "hello");
    let first = alice.send(&to, &token, &envelope).await;
    let repeats = join_all((0..8).map(|_| alice.send(&to, &token, &envelope))).await;
    for repeat in repeats {
        assert_eq!((repeat.status, &repeat.body), (201, &first.body));
    }
    assert_eq!(world.relay_db.int("select count(*) from messages"), 1);

    // Not for another mailbox, nor for somebody who knows the token's input but not its signature.
    let other = Actor::ready(&world, "+41791231005").await;
    assert_eq!(alice.send(&other.mailbox(), &token, &envelope).await.refusal(), ProblemKind::TokenAttached);
    let mut forged = token;
    forged.authenticator.0[17] ^= 1;
    assert_eq!(alice.send(&bob.mailbox(), &forged, &envelope).await.refusal(), ProblemKind::TokenInvalid);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_the_relay_says_which_one_it_wants() {
    let world = World::start(programs!());
    let mut alice = Actor::ready(&world, "+41791231006").await;
    let to = alice.mailbox();
    let envelope = alice.envelope(&to, "hello");
    let request = alice.http.post(alice.relay(&send_path(&to))).header("content-type", "application/octet-stream");
    let reply = Reply::to(request.body(envelope)).await.unwrap();
    assert_eq!(reply.refusal(), ProblemKind::TokenRequired);
    let header = reply.headers.get("www-authenticate").unwrap().to_str().unwrap();
    let (challenge, spki) = parse_www_authenticate(header).unwrap();
    assert_eq!(challenge.issuer_name, alice.info.name);
    assert_eq!(challenge.redemption_context, None);
    assert_eq!(spki, alice.key.spki());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_with_any_part_changed_is_not_accepted() {
    let mut world = World::start(programs!());
    let mut mallory = Actor::ready(&world, "+41791231007").await;
    let to = mallory.mailbox();
    let envelope = mallory.envelope(&to, "hello");
    let good = mallory.tokens[0].token.encode();
    // One bit in each field: nonce, challenge digest, key id, authenticator's ends.
    for position in [2, 33, 34, 65, 66, 97, 98, 200, 353] {
        let mut bytes = good.clone();
        bytes[position] ^= 0x40;
        let token = Token::decode(&bytes).unwrap();
        assert_eq!(mallory.send(&to, &token, &envelope).await.refusal(), ProblemKind::TokenInvalid, "{position}");
    }
    assert_eq!(world.relay_db.int("select count(*) from ledger"), 0);
    assert_eq!(mallory.send(&to, &mallory.tokens[0].token, &envelope).await.status, 201);
    world.assert_healthy();
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_but_the_recipient_releases_or_burns() {
    let world = World::start(programs!());
    let mut mallory = Actor::ready(&world, "+41791231008").await;
    let mut bob = Actor::ready(&world, "+41791231009").await;
    let spent = mallory.tokens.remove(0);
    let envelope = mallory.envelope(&bob.mailbox(), "offer");
    let accepted: Accepted = mallory.send(&bob.mailbox(), &spent.token, &envelope).await.json();
    // The sender knows the message's id and has a mailbox of his own: that must not be enough.
    assert_eq!(mallory.verdict(RELEASE_PATH, &[accepted.message]).await.refused, [accepted.message]);
    assert_eq!(mallory.verdict(SPAM_PATH, &[accepted.message]).await.refused, [accepted.message]);
    let blinded = mallory.blind(1).remove(0);
    let request = mallory.exchange_request(&spent, &blinded);
    assert_eq!(mallory.send_exchange(&request).await.refusal(), ProblemKind::NotReleased);
    assert_eq!(bob.verdict(RELEASE_PATH, &[accepted.message]).await.done, [accepted.message]);
    assert_eq!(mallory.send_exchange(&request).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_exchange_with_another_blinded_message_is_refused_and_the_same_is_answered_again() {
    let world = World::start(programs!());
    let mut mallory = Actor::ready(&world, "+41791231010").await;
    let mut bob = Actor::ready(&world, "+41791231011").await;
    let spent = mallory.tokens.remove(0);
    let envelope = mallory.envelope(&bob.mailbox(), "hello");
    let accepted: Accepted = mallory.send(&bob.mailbox(), &spent.token, &envelope).await.json();
    bob.verdict(RELEASE_PATH, &[accepted.message]).await;

    // Sixteen different blinded messages at once, then each again.
    let blinded = mallory.blind(16);
    let requests: Vec<_> = blinded.iter().map(|b| mallory.exchange_request(&spent, b)).collect();
    let first = join_all(requests.iter().map(|r| mallory.send_exchange(r))).await;
    let second = join_all(requests.iter().map(|r| mallory.send_exchange(r))).await;
    assert_eq!(first.iter().filter(|r| r.status == 200).count(), 1);
    for (a, b) in first.iter().zip(&second) {
        assert_eq!((a.status, &a.body), (b.status, &b.body));
        if a.status != 200 {
            assert_eq!(a.refusal(), ProblemKind::AlreadyExchanged);
        }
    }
    let exchanged = world.issuer_db.int("select count(*) from relay_exchanges");
    assert_eq!(exchanged, 1, "the issuer signed once");
    invariants::assert_hold(&world);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_seen_a_spent_token_cannot_exchange_it() {
    let world = World::start(programs!());
    let mut alice = Actor::ready(&world, "+41791231012").await;
    let mut bob = Actor::ready(&world, "+41791231013").await;
    let spent = alice.tokens.remove(0);
    let envelope = alice.envelope(&bob.mailbox(), "hello");
    let accepted: Accepted = alice.send(&bob.mailbox(), &spent.token, &envelope).await.json();
    bob.verdict(RELEASE_PATH, &[accepted.message]).await;
    let blinded = bob.blind(1).remove(0);
    let mut request = bob.exchange_request(&spent, &blinded);
    request.refund_secret = RefundSecret::new([7; 32]);
    assert_eq!(bob.send_exchange(&request).await.refusal(), ProblemKind::RefundSecretWrong);
    // A token with a nonce of the thief's own choice is signed by nobody.
    request.token = Base64({
        let mut token = spent.token;
        token.input.nonce = postern_credentials::blind_token::refund_nonce(&request.refund_secret);
        token.encode()
    });
    assert_eq!(bob.send_exchange(&request).await.refusal(), ProblemKind::TokenInvalid);
    alice.exchange(&spent).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jwt_opens_only_what_it_was_made_for() {
    let world = World::start(programs!());
    let mut alice = Actor::ready(&world, "+41791231014").await;
    let grant = alice.account.as_ref().unwrap().mailbox_grant.clone();
    let issuance = alice.jwt(JwtAudience::Issuer).await;
    let mailbox = alice.jwt(JwtAudience::Relay).await;
    let read = |jwt: String| Reply::to(alice.http.get(alice.relay(MESSAGES_PATH)).bearer_auth(jwt));
    let open = |jwt: String| Reply::to(alice.http.post(alice.relay(MAILBOXES_PATH)).bearer_auth(jwt));
    assert_eq!(read(grant.clone()).await.unwrap().refusal(), ProblemKind::Unauthorized);
    assert_eq!(read(issuance.clone()).await.unwrap().refusal(), ProblemKind::Unauthorized);
    assert_eq!(open(mailbox.clone()).await.unwrap().refusal(), ProblemKind::Unauthorized);
    assert_eq!(open(issuance).await.unwrap().refusal(), ProblemKind::Unauthorized);
    // Any bit of it changed, and it is worth nothing.
    for position in (0..mailbox.len()).step_by(7) {
        let mut bytes = mailbox.clone().into_bytes();
        bytes[position] = if bytes[position] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(bytes).unwrap();
        if changed != mailbox {
            assert_eq!(read(changed).await.unwrap().refusal(), ProblemKind::Unauthorized, "{position}");
        }
    }
    assert_eq!(read(mailbox).await.unwrap().status, 200);
}
