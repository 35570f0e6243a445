//! Exchange: one signature per token, through every failure in between.

use futures::future::join_all;
use postern_credentials::blind_token::refund_nonce;
use postern_protocol::exchange::ExchangeResponse;
use postern_protocol::ids::{Base64, RefundSecret, RsaElement};
use postern_protocol::problem::ProblemKind;
use postern_protocol::release::SPAM_PATH;

use crate::issuer::{Mode, key};
use crate::world::{Reply, World, blinded, envelope, exchange_request, token, token_for};

#[tokio::test(flavor = "multi_thread")]
async fn a_released_token_becomes_a_fresh_one_that_can_be_spent() {
    let world = World::start().await;
    let bob = world.mailbox().await;
    let old = world.released(&bob).await;
    let (message, pending) = blinded(0);
    let request = exchange_request(&old, 0, message);
    let first = world.exchange(&request).await;
    let fresh = pending.finish(key(0).public(), &first.json::<ExchangeResponse>().blind_signature).unwrap();
    assert_eq!(world.send(&bob.id, &fresh, &envelope()).await.status, 201);
    let again = world.exchange(&request).await;
    assert_eq!((again.status, &again.body), (first.status, &first.body), "the identical request, the identical answer");
    assert_eq!(world.issuer.state().sign_calls, 1, "answered from the ledger");
    assert_eq!(world.send(&bob.id, &old.token, &envelope()).await.refusal(), ProblemKind::TokenAttached);
    world.assert_consistent();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_exchange_with_another_blinded_message_is_refused() {
    let world = World::start().await;
    let bob = world.mailbox().await;
    let old = world.released(&bob).await;
    assert_eq!(world.exchange(&exchange_request(&old, 0, blinded(0).0)).await.status, 200);
    let other = world.exchange(&exchange_request(&old, 0, blinded(0).0)).await;
    assert_eq!(other.refusal(), ProblemKind::AlreadyExchanged);
    assert_eq!(world.issuer.state().signed.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_32_parallel_exchanges_one_blinded_message_is_signed() {
    let world = World::start().await;
    let bob = world.mailbox().await;
    let old = world.released(&bob).await;
    let requests: Vec<_> = (0..32).map(|_| exchange_request(&old, 0, blinded(0).0)).collect();
    let replies = join_all(requests.iter().map(|request| world.exchange(request))).await;
    assert_eq!(replies.iter().filter(|reply| reply.status == 200).count(), 1);
    for refused in replies.iter().filter(|reply| reply.status != 200) {
        assert_eq!(refused.refusal(), ProblemKind::AlreadyExchanged);
    }
    assert_eq!(world.issuer.state().signed.len(), 1);

    // And 32 identical ones all get it.
    let (old, message) = (world.released(&bob).await, blinded(0).0);
    let request = exchange_request(&old, 0, message);
    let replies = join_all((0..32).map(|_| world.exchange(&request))).await;
    assert!(replies.iter().all(|reply| reply.status == 200 && reply.body == replies[0].body));
    assert_eq!(world.issuer.state().signed.len(), 2);
    world.assert_consistent();
}

#[tokio::test(flavor = "multi_thread")]
async fn not_yet_released_burnt_and_unspent_look_the_same() {
    let world = World::start().await;
    let bob = world.mailbox().await;
    let (waiting, _) = world.sent(&bob.id).await;
    let (burnt, spam) = world.sent(&bob.id).await;
    world.verdict(&bob, SPAM_PATH, &[spam]).await;
    let mut replies = Vec::new();
    for old in [waiting, burnt, token(0)] {
        replies.push(world.exchange(&exchange_request(&old, 0, blinded(0).0)).await);
    }
    assert_eq!(replies[0].refusal(), ProblemKind::NotReleased);
    let bare = |reply: &Reply| {
        let mut headers = reply.headers.clone();
        headers.remove("date");
        (reply.status, headers, reply.body.clone())
    };
    assert!(replies.iter().all(|reply| bare(reply) == bare(&replies[0])));
    assert!(world.issuer.state().signed.is_empty());
    assert_eq!(world.count("select count(*) from ledger"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unspent_token_is_exchanged_only_while_its_key_is_retiring() {
    let world = World::start().await;
    let bob = world.mailbox().await;
    let (early, late, other) = (token(0), token(0), token(0));
    assert_eq!(world.exchange(&exchange_request(&early, 0, blinded(0).0)).await.refusal(), ProblemKind::NotReleased);

    world.issuer.rotate(0, 1, world.now() + 100);
    world.app.refresh_keys().await;
    let to_the_old_key = world.exchange(&exchange_request(&early, 0, blinded(0).0)).await;
    assert_eq!(to_the_old_key.refusal(), ProblemKind::KeyNotActive);
    let (message, pending) = blinded(1);
    let request = exchange_request(&early, 1, message);
    let reply = world.exchange(&request).await;
    let fresh = pending.finish(key(1).public(), &reply.json::<ExchangeResponse>().blind_signature).unwrap();
    assert_eq!(world.send(&bob.id, &fresh, &envelope()).await.status, 201);
    assert_eq!(world.send(&bob.id, &early.token, &envelope()).await.refusal(), ProblemKind::TokenAttached);

    // Spending and exchanging one token at once: one of the two.
    let (message, elsewhere) = (envelope(), exchange_request(&other, 1, blinded(1).0));
    let (sent, exchanged) = tokio::join!(world.send(&bob.id, &other.token, &message), world.exchange(&elsewhere));
    assert!((sent.status == 201) != (exchanged.status == 200));

    world.clock.advance_seconds(100);
    let too_late = world.exchange(&exchange_request(&late, 1, blinded(1).0)).await;
    assert_eq!(too_late.refusal(), ProblemKind::TokenInvalid);
    assert_eq!(world.exchange(&request).await.body, reply.body, "what was done is answered after the end");
    world.assert_consistent();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_does_not_hold_is_refused_before_anything_else_happens() {
    let world = World::start().await;
    let bob = world.mailbox().await;
    let old = world.released(&bob).await;
    let good = exchange_request(&old, 0, blinded(0).0);

    let mut stolen = good.clone();
    stolen.refund_secret = RefundSecret::new([7; 32]);
    assert_eq!(world.exchange(&stolen).await.refusal(), ProblemKind::RefundSecretWrong);
    let mut own_nonce = old.token;
    own_nonce.input.nonce = refund_nonce(&stolen.refund_secret);
    stolen.token = Base64(own_nonce.encode());
    assert_eq!(world.exchange(&stolen).await.refusal(), ProblemKind::TokenInvalid);

    let mut forged = good.clone();
    forged.token.0[300] ^= 1;
    assert_eq!(world.exchange(&forged).await.refusal(), ProblemKind::TokenInvalid);
    let elsewhere = exchange_request(&token_for("other.test", 0), 0, blinded(0).0);
    assert_eq!(world.exchange(&elsewhere).await.refusal(), ProblemKind::TokenInvalid);
    let other_key = exchange_request(&token(2), 0, blinded(0).0);
    assert_eq!(world.exchange(&other_key).await.refusal(), ProblemKind::TokenInvalid);
    let mut short = good.clone();
    short.token.0.pop();
    assert_eq!(world.exchange(&short).await.refusal(), ProblemKind::TokenInvalid);
    for element in [RsaElement([0; 256]), RsaElement([0xff; 256])] {
        let mut senseless = good.clone();
        senseless.blinded = element;
        assert_eq!(world.exchange(&senseless).await.refusal(), ProblemKind::BadRequest);
    }
    assert_eq!(world.exchange(&exchange_request(&old, 1, blinded(1).0)).await.refusal(), ProblemKind::KeyNotActive);

    assert_eq!(world.ledger("released"), 1, "none of this touched the row");
    assert!(world.issuer.state().signed.is_empty());
    assert_eq!(world.exchange(&good).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_issuer_is_silent_the_identical_request_completes_later_and_no_other() {
    let mut world = World::start().await;
    let bob = world.mailbox().await;
    for mode in [Mode::Down, Mode::LosesAnswers] {
        let old = world.released(&bob).await;
        let request = exchange_request(&old, 0, blinded(0).0);
        world.issuer.set(mode);
        let reply = world.exchange(&request).await;
        assert_eq!(reply.refusal(), ProblemKind::Unavailable, "{mode:?}");
        assert!(reply.headers.contains_key("retry-after"));
        assert_eq!(world.ledger("exchanging"), 1);
        world.restart().await;
        world.issuer.set(Mode::Honest);
        let other = world.exchange(&exchange_request(&old, 0, blinded(0).0)).await;
        assert_eq!(other.refusal(), ProblemKind::AlreadyExchanged);
        assert_eq!(world.exchange(&request).await.status, 200);
        assert_eq!(world.ledger("exchanging"), 0);
    }
    assert_eq!(world.issuer.state().signed.len(), 2);
    world.assert_consistent();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_the_issuer_has_not_signed_for_this_call_is_no_answer() {
    let world = World::start().await;
    let bob = world.mailbox().await;
    for mode in [Mode::TamperedBody, Mode::OtherNonce, Mode::OtherKey, Mode::ForgedRefusal] {
        let old = world.released(&bob).await;
        let (message, pending) = blinded(0);
        let request = exchange_request(&old, 0, message);
        world.issuer.set(mode);
        assert_eq!(world.exchange(&request).await.refusal(), ProblemKind::Unavailable, "{mode:?}");
        assert_eq!(world.ledger("exchanging"), 1, "a forged refusal must not undo what may have been signed");
        world.issuer.set(Mode::Honest);
        let signature = world.exchange(&request).await.json::<ExchangeResponse>().blind_signature;
        assert!(pending.finish(key(0).public(), &signature).is_ok());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_issuer_refuses_for_good_the_token_goes_back_to_where_it_was() {
    let world = World::start().await;
    let bob = world.mailbox().await;
    world.issuer.rotate(0, 1, world.now() + 1000);
    world.app.refresh_keys().await;
    let (released, unspent) = (world.released(&bob).await, token(0));
    // The issuer has moved on to key 2, and the relay has not heard of it.
    {
        let mut state = world.issuer.state();
        let [one, zero] = [state.keys[0].clone(), state.keys[1].clone()];
        let retiring = postern_protocol::tokens::KeyState::Retiring;
        state.keys = vec![
            (key(2), postern_protocol::tokens::KeyState::Active, None),
            (one.0, retiring, Some(u64::MAX / 2)),
            zero,
        ];
    }
    for old in [&released, &unspent] {
        let late = exchange_request(old, 1, blinded(1).0);
        assert_eq!(world.exchange(&late).await.refusal(), ProblemKind::KeyNotActive);
        assert_eq!(world.ledger("exchanging"), 0);
    }
    assert_eq!(world.ledger("released"), 1);
    assert_eq!(world.count("select count(*) from ledger"), 1, "the unspent one is unseen again");
    for old in [&released, &unspent] {
        let (message, pending) = blinded(2);
        let reply = world.exchange(&exchange_request(old, 2, message)).await;
        assert!(pending.finish(key(2).public(), &reply.json::<ExchangeResponse>().blind_signature).is_ok());
    }
    assert_eq!(world.issuer.state().signed.len(), 2);
    world.assert_consistent();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_used_up_budget_is_passed_on_with_its_time_and_the_exchange_goes_on_later() {
    let world = World::start().await;
    let bob = world.mailbox().await;
    let old = world.released(&bob).await;
    let request = exchange_request(&old, 0, blinded(0).0);
    world.issuer.set(Mode::Budget);
    let reply = world.exchange(&request).await;
    assert_eq!(reply.refusal(), ProblemKind::ExchangeBudget);
    assert_eq!(reply.headers["retry-after"], "7");
    world.issuer.set(Mode::Honest);
    assert_eq!(world.exchange(&request).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exchange_under_way_is_finished_although_the_new_key_has_been_rotated_since() {
    let world = World::start().await;
    let bob = world.mailbox().await;
    let old = world.released(&bob).await;
    let request = exchange_request(&old, 0, blinded(0).0);
    world.issuer.set(Mode::LosesAnswers);
    assert_eq!(world.exchange(&request).await.refusal(), ProblemKind::Unavailable);
    world.issuer.set(Mode::Honest);
    world.issuer.rotate(0, 1, world.now() + 1000);
    world.app.refresh_keys().await;
    assert_eq!(world.exchange(&request).await.status, 200, "signed before the rotation");
    world.assert_consistent();
}
