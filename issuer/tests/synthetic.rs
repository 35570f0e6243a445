//! The gateway `synthetic`: accounts for load tests, and what nobody gets by it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail loudly")]

mod world;

use postern_issuer::config::{Config, GatewayConfig};
use postern_protocol::ids::PhoneNumber;
use postern_protocol::problem::ProblemKind;
use postern_protocol::register::{CODE_PATH, CodeResponse, REGISTRATION_PATH, RegistrationResponse};
use postern_protocol::synthetic;
use world::people::finish;
use world::{Person, World};

fn switch_on(config: &mut Config) {
    config.gateways = vec![GatewayConfig::Synthetic {}];
    config.url = "http://127.0.0.1:8080".to_owned();
}

/// Somebody with this number.
fn person(world: &World, n: u32, phone: PhoneNumber) -> Person {
    Person { phone, ..Person::new(world, n) }
}

/// Registers with this code; the refusal if there is one.
async fn register(world: &World, person: &Person, code: &str) -> Result<RegistrationResponse, ProblemKind> {
    let reply = world.post(CODE_PATH, &person.code_request()).await;
    if reply.status != 200 {
        return Err(reply.problem());
    }
    with_cookie(world, person, &reply.json(), code).await
}

async fn with_cookie(
    world: &World,
    person: &Person,
    cookie: &CodeResponse,
    code: &str,
) -> Result<RegistrationResponse, ProblemKind> {
    let key = world.active_key().await;
    let blinded = person.blind(world, &key, 2);
    let request = person.registration(world, &(cookie.clone(), code.to_owned()), &key, &blinded);
    let reply = world.post(REGISTRATION_PATH, &request).await;
    if reply.status != 201 {
        return Err(reply.problem());
    }
    let response: RegistrationResponse = reply.json();
    finish(&key, &blinded, &response.blind_signatures);
    Ok(response)
}

#[tokio::test]
async fn a_number_that_nobody_has_registers_by_the_known_code_and_no_text_is_sent() {
    let world = World::configured(switch_on).await;
    for index in [0, 9_999, 10_000, synthetic::NUMBERS - 1] {
        let nobody = person(&world, index, synthetic::number(index).unwrap());
        assert_eq!(register(&world, &nobody, "000001").await, Err(ProblemKind::CodeWrong));
        assert_eq!(register(&world, &nobody, synthetic::CODE).await.unwrap().tokens_issued, 2);
    }
    assert_eq!(world.texts.all(), []);
}

#[tokio::test]
async fn a_number_that_somebody_may_have_cannot_be_registered_by_it() {
    let world = World::configured(switch_on).await;
    // A mobile number; a French line beside the block; numbers that are reserved for fiction elsewhere, where we do not know by whom.
    for phone in ["+41791000001", "+33199010000", "+33199999999", "+33639980000", "+12025550123", "+442079460000"] {
        let somebody = person(&world, 1, phone.parse().unwrap());
        let refused = register(&world, &somebody, synthetic::CODE).await.unwrap_err();
        assert!(matches!(refused, ProblemKind::PhoneRefused | ProblemKind::PhoneInvalid), "{phone} {refused:?}");
    }
    assert_eq!(world.query("select count(*) from accounts"), 0);
    assert_eq!(world.query("select count(*) from attempts"), 0);
}

#[tokio::test]
async fn a_cookie_from_before_the_switch_registers_no_real_number_by_either_code() {
    let world = World::new().await;
    let somebody = Person::new(&world, 1);
    let (cookie, texted) = somebody.ask_code(&world).await;
    let world = world.restart(switch_on).await;
    for code in [synthetic::CODE, &texted] {
        let refused = with_cookie(&world, &somebody, &cookie, code).await;
        assert_eq!(refused, Err(ProblemKind::PhoneRefused));
    }
    assert_eq!(world.query("select count(*) from accounts"), 0);
}

#[tokio::test]
async fn an_account_of_somebody_is_not_taken_over_while_the_switch_is_on() {
    let world = World::new().await;
    let victim = Person::new(&world, 1);
    let (before, _) = victim.register(&world, 5).await;
    let world = world.restart(switch_on).await;
    let attacker = Person { phone: victim.phone.clone(), ..Person::new(&world, 2) };
    assert_eq!(register(&world, &attacker, synthetic::CODE).await, Err(ProblemKind::PhoneRefused));
    // Nor with a cookie for a number of nobody's.
    let nobody = person(&world, 2, synthetic::number(0).unwrap());
    let cookie: CodeResponse = world.post(CODE_PATH, &nobody.code_request()).await.json();
    let stolen = with_cookie(&world, &attacker, &cookie, synthetic::CODE).await;
    assert_eq!(stolen, Err(ProblemKind::CookieInvalid));
    assert!(before.certificate.0.len() > 100);
    victim.login(&world).await;
}

#[tokio::test]
async fn with_the_switch_off_the_known_code_is_a_wrong_one_for_every_number() {
    let world = World::configured(switch_on).await;
    let nobody = person(&world, 1, synthetic::number(7).unwrap());
    let cookie: CodeResponse = world.post(CODE_PATH, &nobody.code_request()).await.json();
    let world = world.restart(|config| config.gateways = vec![GatewayConfig::Console { file: None }]).await;
    // The cookie from when it was on opens no account, and neither does a fresh one; the text does.
    assert_eq!(with_cookie(&world, &nobody, &cookie, synthetic::CODE).await, Err(ProblemKind::CodeWrong));
    assert_eq!(register(&world, &nobody, synthetic::CODE).await, Err(ProblemKind::CodeWrong));
    let somebody = Person::new(&world, 2);
    assert_eq!(register(&world, &somebody, synthetic::CODE).await, Err(ProblemKind::CodeWrong));
    let (cookie, texted) = nobody.ask_code(&world).await;
    assert!(with_cookie(&world, &nobody, &cookie, &texted).await.is_ok());
}

#[tokio::test]
async fn limits_of_texts_stop_nobody_where_no_texts_are_sent() {
    let few = |config: &mut Config| {
        let limits = &mut config.limits;
        (limits.texts_per_number_per_day, limits.texts_per_prefix_per_day, limits.texts_per_day) = (0, 1, 2);
    };
    let world = World::configured(|config| {
        few(config);
        switch_on(config);
    })
    .await;
    for index in 0..20 {
        let nobody = person(&world, index % 4, synthetic::number(index % 4).unwrap());
        let reply = world.post(CODE_PATH, &nobody.code_request()).await;
        assert_eq!(reply.status, 200, "{index}");
    }
    // They were counted all the same: with texts to be sent, there would be none left.
    let world = world.restart(|config| config.gateways = vec![GatewayConfig::Console { file: None }]).await;
    let somebody = Person::new(&world, 2);
    assert!(world.post(CODE_PATH, &somebody.code_request()).await.status >= 400);
}

#[tokio::test]
async fn tries_of_a_code_are_bounded_with_the_switch_on_as_well() {
    let world = World::configured(switch_on).await;
    let nobody = person(&world, 1, synthetic::number(1).unwrap());
    let cookie: CodeResponse = world.post(CODE_PATH, &nobody.code_request()).await.json();
    for _ in 0..5 {
        assert_eq!(with_cookie(&world, &nobody, &cookie, "123456").await, Err(ProblemKind::CodeWrong));
    }
    assert_eq!(with_cookie(&world, &nobody, &cookie, synthetic::CODE).await, Err(ProblemKind::RateLimited));
}
