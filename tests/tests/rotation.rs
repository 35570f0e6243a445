//! Token keys are rotated while people write and exchange: what was confirmed is there, and every token is worth one message.

use postern_protocol::ids::{MailboxId, MessageId};
use postern_protocol::problem::ProblemKind;
use postern_protocol::send::Accepted;
use postern_tests::actor::Minted;
use postern_tests::{Actor, World, invariants, programs};
use tokio::sync::watch;

/// So many write at the same time …
const WRITERS: usize = 4;
/// … and have so many tokens each, of the first key;
const TOKENS: usize = 40;
/// the last of which they keep until the keys were rotated for the last time.
const KEPT: usize = 10;
const ROTATIONS: usize = 2;

/// A fresh token for this one if its key is retiring already, or itself; and whether it was exchanged.
async fn of_the_newest_key(actor: &mut Actor, token: Minted) -> (Minted, bool) {
    loop {
        let blinded = actor.blind(1).remove(0);
        let reply = actor.send_exchange(&actor.exchange_request(&token, &blinded)).await;
        if reply.status == 200 {
            let response: postern_protocol::exchange::ExchangeResponse = reply.json();
            return (actor.unblind(&blinded, &response.blind_signature), true);
        }
        match reply.refusal() {
            // Its key still signs: there is nothing to exchange.
            ProblemKind::NotReleased => return (token, false),
            // The key has changed since it was looked up.
            ProblemKind::KeyNotActive => actor.refresh_key().await,
            other => panic!("{other:?}"),
        }
    }
}

/// Spends all tokens, every second one exchanged before if that can be; the messages, and how many were exchanged.
async fn spend_all(mut actor: Actor, to: MailboxId, mut rotated: watch::Receiver<usize>) -> (Vec<MessageId>, usize) {
    let (mut messages, mut exchanged) = (Vec::new(), 0);
    for (n, token) in std::mem::take(&mut actor.tokens).into_iter().enumerate() {
        if n == TOKENS - KEPT {
            rotated.wait_for(|times| *times == ROTATIONS).await.unwrap();
        }
        let (token, is_new) = if n % 2 == 0 { (token, false) } else { of_the_newest_key(&mut actor, token).await };
        exchanged += usize::from(is_new);
        let envelope = actor.envelope(&to, "hello");
        let reply = actor.send(&to, &token.token, &envelope).await;
        assert_eq!(reply.status, 201, "token {n}");
        messages.push(reply.json::<Accepted>().message);
    }
    (messages, exchanged)
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_rotated_under_load_and_every_token_is_still_worth_one_message() {
    let mut world = World::start_with(programs!(), &format!("tokens_per_account = {TOKENS}"), "");
    let mut reader = Actor::ready(&world.place, "+41791251001").await;
    let (to, (tell, rotated)) = (reader.mailbox(), watch::channel(0));
    let mut writing = Vec::new();
    for n in 0..WRITERS {
        let mut writer = Actor::new(&world.place, &format!("+417912511{n:02}")).await;
        writer.register(&world.place, TOKENS).await;
        writing.push(writer);
    }
    let writing: Vec<_> =
        writing.into_iter().map(|writer| tokio::spawn(spend_all(writer, to, rotated.clone()))).collect();
    let mut confirmed = Vec::new();
    for n in 0..ROTATIONS {
        let mut command = world.issuer.prepare(&["rotate-keys"]);
        // By a thread: everybody goes on meanwhile.
        let ended = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        assert!(ended.status.success(), "{ended:?}");
        // Who comes now gets tokens of the new key, which the relay takes.
        let mut newcomer = Actor::new(&world.place, &format!("+417912512{n:02}")).await;
        newcomer.register(&world.place, 1).await;
        tell.send_replace(n + 1);
        confirmed.extend(spend_all(newcomer, to, rotated.clone()).await.0);
    }
    let mut exchanged = 0;
    for writing in writing {
        let (messages, of_them) = writing.await.unwrap();
        confirmed.extend(messages);
        exchanged += of_them;
    }
    assert_eq!(confirmed.len(), WRITERS * TOKENS + ROTATIONS);
    assert!(
        exchanged >= WRITERS * KEPT / 2,
        "after the last rotation all of the first key can be exchanged: {exchanged}"
    );

    let mut found = reader.read_all().await;
    found.sort();
    confirmed.sort();
    assert_eq!(found, confirmed, "all that was confirmed, each once");
    invariants::assert_hold_with_more_tokens(&world);
    world.assert_healthy();
}
