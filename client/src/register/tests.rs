use super::*;
use crate::testing::{CODE, Fault, PASSWORD, Person, Town, number};

const PHONE: &str = "+41791234567";

async fn start(town: &Town, person: &mut Person) -> Result<Started> {
    person.start_registration(&town.server.url, number(PHONE), None, None).await
}

#[tokio::test]
async fn a_registration_ends_with_certificate_mailbox_card_reply_key_and_five_tokens() {
    let town = Town::new();
    let alice = town.person("alice", PHONE).await;
    assert_eq!(alice.tokens().unwrap().left, 5);
    let account = alice.account().unwrap();
    assert_eq!(account.phone, number(PHONE));
    assert!(town.relay.lock().unwrap().cards.contains_key(&account.mailbox));
    assert_eq!(town.relay.lock().unwrap().reply_keys[&account.mailbox][0].0, 1, "and the relay can check replies");
    let link = alice.card_link().unwrap();
    assert_eq!(link.identity, account.identity.public());
    assert_eq!(link.to_string().parse(), Ok(link));
    assert!(alice.profile.get::<Registration>("").unwrap().is_none(), "the code, the request and the grant are gone");
}

/// Whatever request fails, and whether or not the server did it: the next attempt completes the same account.
#[tokio::test]
async fn a_registration_survives_every_lost_request_and_every_lost_answer() {
    let paths = [
        "/v1/registration",
        "private-token-issuer-directory",
        "/v1/mailboxes",
        "/v1/relay",
        "/v1/login/challenge",
        "/v1/login",
        "/v1/sessions/token",
        "/v1/mailbox/card",
        "/v1/mailbox/reply-keys",
    ];
    for path in paths {
        for fault in [Fault::Before, Fault::After] {
            let town = Town::new();
            let mut alice = town.newcomer("alice");
            start(&town, &mut alice).await.unwrap();
            town.server.fail_next(path, fault);
            let error = alice.verify_code(Some(CODE), PASSWORD).await;
            assert!(matches!(error, Err(Error::Network { .. })), "{path} {fault:?}: {error:?}");
            assert!(matches!(alice.account(), Err(Error::NotRegistered)));
            let mut alice = town.reopen("alice", alice);
            alice.verify_code(Some(CODE), PASSWORD).await.unwrap_or_else(|e| panic!("{path} {fault:?}: {e:?}"));
            assert_eq!(alice.tokens().unwrap().left, 5, "{path} {fault:?}");
            let requests = town.server.asked("/v1/registration");
            let sent: Vec<_> = requests.iter().filter(|asked| asked.path == REGISTRATION_PATH).collect();
            assert!(sent.iter().all(|asked| asked.body == sent[0].body), "byte for byte the same");
        }
    }
}

#[tokio::test]
async fn a_wrong_code_is_followed_by_the_same_request_with_the_right_one() {
    let town = Town::new();
    let mut alice = town.newcomer("alice");
    start(&town, &mut alice).await.unwrap();
    let error = alice.verify_code(Some("000000"), PASSWORD).await.unwrap_err();
    assert_eq!(error.refusal(), Some(ProblemKind::CodeWrong));
    assert!(matches!(alice.verify_code(None, PASSWORD).await, Err(Error::CodeNeeded)));
    alice.verify_code(Some(CODE), PASSWORD).await.unwrap();
    assert_eq!(alice.tokens().unwrap().left, 5);
    let asked = town.server.asked(REGISTRATION_PATH);
    let sent: Vec<RegistrationRequest> =
        asked.iter().filter(|asked| asked.path == REGISTRATION_PATH).map(|asked| asked.json()).collect();
    assert_eq!(sent.len(), 2);
    let renamed = RegistrationRequest { code: CODE.to_owned(), ..sent[0].clone() };
    assert_eq!(renamed, sent[1], "tokens, salt and key stay");
}

#[tokio::test]
async fn asking_for_a_new_code_after_a_lost_answer_finds_the_account_that_was_made() {
    let town = Town::new();
    let mut alice = town.newcomer("alice");
    start(&town, &mut alice).await.unwrap();
    town.server.fail_next(REGISTRATION_PATH, Fault::After);
    assert!(alice.verify_code(Some(CODE), PASSWORD).await.is_err());
    assert_eq!(start(&town, &mut alice).await.unwrap(), Started::AlreadyThrough);
    alice.verify_code(None, PASSWORD).await.unwrap();
    assert_eq!(alice.tokens().unwrap().left, 5);
    assert!(matches!(start(&town, &mut alice).await, Err(Error::AlreadyRegistered)));
}

#[tokio::test]
async fn a_key_rotated_between_code_and_request_is_noticed_and_the_tokens_are_blinded_anew() {
    let town = Town::new();
    let mut alice = town.newcomer("alice");
    start(&town, &mut alice).await.unwrap();
    // The request is built, and lost; then the key changes.
    town.server.fail_next(REGISTRATION_PATH, Fault::Before);
    assert!(alice.verify_code(Some(CODE), PASSWORD).await.is_err());
    town.issuer.lock().unwrap().rotate();
    alice.verify_code(Some(CODE), PASSWORD).await.unwrap();
    assert_eq!(alice.tokens().unwrap().left, 5);
}

#[tokio::test]
async fn an_issuer_with_another_key_than_given_or_pinned_is_refused() {
    let town = Town::new();
    let mut alice = town.newcomer("alice");
    let other = SigningPublicKey([5; 32]);
    let error = alice.start_registration(&town.server.url, number(PHONE), Some(other), None).await.unwrap_err();
    assert!(matches!(error, Error::PinChanged(_)));
    let right = town.issuer.lock().unwrap().identity.public();
    alice.start_registration(&town.server.url, number(PHONE), Some(right), None).await.unwrap();
    town.issuer.lock().unwrap().identity = IdentityKey::from_seed([99; 32]);
    let error = start(&town, &mut alice).await.unwrap_err();
    assert!(matches!(error, Error::PinChanged(_)));
    let error = alice.verify_code(Some(CODE), PASSWORD).await.unwrap_err();
    assert!(matches!(error, Error::PinChanged(_)), "the relay, or the login challenge, is signed by another: {error}");
}

#[tokio::test]
async fn nothing_is_registered_over_a_line_that_others_read() {
    let town = Town::new();
    let mut alice = town.newcomer("alice");
    let error = alice.start_registration("http://issuer.example", number(PHONE), None, None).await.unwrap_err();
    assert!(matches!(error, Error::InsecureTransport { .. }));
}

#[tokio::test]
async fn a_session_that_was_ended_asks_for_a_login_and_a_login_mends_it() {
    let town = Town::new();
    let mut alice = town.person("alice", PHONE).await;
    town.issuer.lock().unwrap().end_sessions();
    alice.forget_jwt().unwrap();
    let error = alice.fetch().await.unwrap_err();
    assert!(matches!(error, Error::NeedsLogin));
    assert_eq!(error.hint().unwrap(), "run `postern login`");
    assert!(matches!(alice.log_in("another password").await, Err(Error::LoginRefused)));
    alice.log_in(PASSWORD).await.unwrap();
    alice.fetch().await.unwrap();
}

#[tokio::test]
async fn a_call_whose_answer_was_lost_is_signed_anew() {
    let town = Town::new();
    let mut alice = town.person("alice", PHONE).await;
    alice.forget_jwt().unwrap();
    alice.network.attempts = 2;
    town.server.fail_next("/v1/sessions/token", Fault::After);
    alice.fetch().await.unwrap();
    let calls = town.server.asked("/v1/sessions/token");
    let last: Vec<_> = calls.iter().rev().take(2).map(|call| call.authorization.clone()).collect();
    assert_ne!(last[0], last[1], "no number is used twice");
}
