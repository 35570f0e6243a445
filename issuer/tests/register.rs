//! Registration: what an honest client does, and what nobody gets away with.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail loudly")]

mod world;

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, header};
use postern_credentials::blind_token::challenge_digest;
use postern_credentials::certificate;
use postern_credentials::identity::IdentityKey;
use postern_credentials::jwt;
use postern_protocol::ids::{Base64, RsaElement, SigningPublicKey};
use postern_protocol::login::Purpose;
use postern_protocol::problem::ProblemKind;
use postern_protocol::register::{CODE_PATH, REGISTRATION_PATH, RegistrationRequest, RegistrationResponse};
use postern_protocol::tokens::TokenChallenge;
use postern_test_database::Value;
use world::people::finish;
use world::{ISSUER, OTHER_RELAY, Person, RELAY, World, send};

/// A request that would succeed.
async fn prepared(world: &World, person: &Person, n: usize) -> RegistrationRequest {
    let key = world.active_key().await;
    let blinded = person.blind(world, &key, n);
    let code = person.ask_code(world).await;
    person.registration(world, &code, &key, &blinded)
}

async fn refusal(world: &World, request: &RegistrationRequest) -> ProblemKind {
    world.post(REGISTRATION_PATH, request).await.problem()
}

#[tokio::test]
async fn one_request_makes_account_certificate_grant_and_five_tokens() {
    let world = World::new().await;
    let alice = Person::new(&world, 1);
    let (response, tokens) = alice.register(&world, 5).await;

    let info = world.info().await;
    let subject = certificate::verify(&response.certificate.0, &info.ca_certificate.0, world.now()).unwrap();
    assert_eq!((subject.phone, subject.key), (alice.phone.clone(), alice.identity.public()));

    let challenge = challenge_digest(&TokenChallenge::for_relay(ISSUER, RELAY)).unwrap();
    let key = world.active_key().await;
    assert!(tokens.iter().all(|token| key.verify(token, &challenge).is_ok()));
    assert_eq!((tokens.len(), response.tokens_issued), (5, 5));
    assert_eq!(world.issued(key.key_id()).await, 5);
    assert_eq!(response.setup_until, world.now().seconds() + 3600);

    let grant = &response.mailbox_grant;
    let claims = jwt::verify(&info.public_key, grant, ISSUER, RELAY, Purpose::Grant, world.now()).unwrap();
    assert_eq!((claims.sub, claims.replaces), (response.mailbox.to_string(), None));
    assert_eq!((response.relay.name.as_str(), response.relay.url.as_str()), (RELAY, "https://relay.test"));
}

#[tokio::test]
async fn nothing_but_counts_is_stored_before_the_code_is_right() {
    let world = World::new().await;
    let alice = Person::new(&world, 1);
    let mut request = prepared(&world, &alice, 5).await;
    request.code = if request.code == "000000" { "000001" } else { "000000" }.to_owned();
    assert_eq!(refusal(&world, &request).await, ProblemKind::CodeWrong);
    for table in ["accounts", "registrations", "issuances", "sessions", "relay_exchanges"] {
        assert_eq!(world.query(&format!("select count(*) from {table}")), 0, "{table}");
    }
    assert!(world.query("select count(*) from attempts") > 0);
}

#[tokio::test]
async fn the_number_is_in_the_clear_in_the_accounts_table_alone() {
    let world = World::new().await;
    let alice = Person::new(&world, 1);
    alice.register(&world, 5).await;
    alice.login(&world).await;
    let tables: Vec<_> = world.database.tables().into_iter().filter(|table| table.name != "accounts").collect();
    assert!(tables.len() >= 8);
    let needle = hex::encode_upper(alice.phone.as_str());
    for table in tables {
        for value in table.rows.iter().flatten() {
            let bytes = match value {
                Value::Text(text) => text.as_bytes(),
                Value::Blob(bytes) => bytes,
                _ => continue,
            };
            assert!(!hex::encode_upper(bytes).contains(&needle), "{}", table.name);
        }
    }
}

#[tokio::test]
async fn the_identical_request_gets_the_identical_answer_even_after_the_cookie_expired() {
    let world = World::new().await;
    let request = prepared(&world, &Person::new(&world, 1), 5).await;
    let first = world.post(REGISTRATION_PATH, &request).await;
    world.clock.advance_seconds(7200);
    let world = world.restart(|_| {}).await;
    let second = world.post(REGISTRATION_PATH, &request).await;
    assert_eq!((first.status, second.status), (201, 201));
    assert_eq!(first.body, second.body);
    assert_eq!(world.query("select tokens_issued from accounts"), 5);
}

#[tokio::test]
async fn a_second_set_of_blinded_messages_for_the_same_cookie_is_refused() {
    let world = World::new().await;
    let alice = Person::new(&world, 1);
    let request = prepared(&world, &alice, 5).await;
    assert_eq!(world.post(REGISTRATION_PATH, &request).await.status, 201);
    let mut other = request.clone();
    let key = world.active_key().await;
    other.tokens.blinded = alice.blind(&world, &key, 5).iter().map(|token| token.message).collect();
    assert_eq!(refusal(&world, &other).await, ProblemKind::RegistrationConflict);
    assert_eq!(world.query("select count(*) from issuances"), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn identical_requests_in_parallel_and_in_two_processes_make_one_account_and_one_answer() {
    let world = World::new().await;
    let request = prepared(&world, &Person::new(&world, 1), 5).await;
    let body = serde_json::to_vec(&request).unwrap();
    let second = world.second_process().await;
    let tasks: Vec<_> = (0..64)
        .map(|i| {
            let issuer = Arc::clone(if i % 2 == 0 { &second } else { &world.issuer });
            let request = Request::post(REGISTRATION_PATH).header(header::CONTENT_TYPE, "application/json");
            let request = request.body(Body::from(body.clone())).unwrap();
            tokio::spawn(async move { send(&issuer, request).await })
        })
        .collect();
    let mut answers = Vec::new();
    for task in tasks {
        let reply = task.await.unwrap();
        assert_eq!(reply.status, 201, "{}", String::from_utf8_lossy(&reply.body));
        answers.push(reply.body);
    }
    answers.dedup();
    assert_eq!(answers.len(), 1);
    assert_eq!(world.query("select count(*) from accounts"), 1);
    assert_eq!(world.query("select tokens_issued from accounts"), 5);
    assert_eq!(world.query("select count from key_counts"), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_different_registrations_of_one_number_at_once_one_gets_tokens() {
    let world = World::with(|limits| limits.texts_per_number_per_day = 100).await;
    let alice = Person::new(&world, 1);
    let second = world.second_process().await;
    let mut tasks = Vec::new();
    for i in 0..16 {
        let request = prepared(&world, &alice, 5).await;
        let body = serde_json::to_vec(&request).unwrap();
        let issuer = Arc::clone(if i % 2 == 0 { &second } else { &world.issuer });
        let request = Request::post(REGISTRATION_PATH).header(header::CONTENT_TYPE, "application/json");
        tasks.push((issuer, request.body(Body::from(body)).unwrap()));
    }
    let tasks: Vec<_> =
        tasks.into_iter().map(|(issuer, request)| tokio::spawn(async move { send(&issuer, request).await })).collect();
    let mut sizes = Vec::new();
    for task in tasks {
        sizes.push(task.await.unwrap().json::<RegistrationResponse>().blind_signatures.len());
    }
    sizes.sort_unstable();
    assert_eq!(sizes, [vec![0; 15], vec![5]].concat());
    assert_eq!(world.query("select tokens_issued from accounts"), 5);
    assert_eq!(world.query("select count(*) from issuances"), 5);
}

#[tokio::test]
async fn a_code_that_was_guessed_five_times_is_dead_even_when_it_is_right() {
    let world = World::new().await;
    let alice = Person::new(&world, 1);
    let right = prepared(&world, &alice, 1).await;
    for guess in 0..5 {
        let mut wrong = right.clone();
        wrong.code = format!("{:06}", (right.code.parse::<u32>().unwrap() + 1 + guess) % 1_000_000);
        assert_eq!(refusal(&world, &wrong).await, ProblemKind::CodeWrong);
    }
    let reply = world.post(REGISTRATION_PATH, &right).await;
    assert_eq!(reply.problem(), ProblemKind::RateLimited);
    assert!(reply.header("retry-after").is_some());
    // Waiting does not help either: the cookie dies first.
    world.clock.advance_seconds(599);
    assert_eq!(refusal(&world, &right).await, ProblemKind::RateLimited);
    world.clock.advance_seconds(1);
    assert_eq!(refusal(&world, &right).await, ProblemKind::CookieExpired);
    // A new code is a new chance.
    let fresh = prepared(&world, &alice, 1).await;
    assert_eq!(world.post(REGISTRATION_PATH, &fresh).await.status, 201);
}

#[tokio::test]
async fn a_code_is_worth_nothing_without_its_own_cookie() {
    let world = World::new().await;
    let (alice, bob) = (Person::new(&world, 1), Person::new(&world, 2));
    let request = prepared(&world, &alice, 1).await;
    let bobs = prepared(&world, &bob, 1).await;
    // Another number with this cookie, another cookie with this number, a made-up cookie.
    let spoilt = [
        RegistrationRequest { phone: bob.phone.clone(), ..request.clone() },
        RegistrationRequest { cookie: bobs.cookie.clone(), ..request.clone() },
        RegistrationRequest { cookie: Base64(vec![1; 90]), ..request.clone() },
        RegistrationRequest { cookie: Base64(Vec::new()), ..request.clone() },
    ];
    for spoilt in &spoilt {
        assert_eq!(refusal(&world, spoilt).await, ProblemKind::CookieInvalid);
    }
    for other in ["", "12345", "1234567", " 23456", "１２３４５６"] {
        let mut request = prepared(&world, &Person::new(&world, 3), 1).await;
        request.code = other.to_owned();
        let kind = refusal(&world, &request).await;
        assert_eq!(kind, ProblemKind::CodeWrong, "{other}");
    }
    world.clock.advance_seconds(600);
    assert_eq!(refusal(&world, &request).await, ProblemKind::CookieExpired);
}

#[tokio::test]
async fn a_certificate_request_of_another_key_is_refused() {
    let world = World::new().await;
    let alice = Person::new(&world, 1);
    let mut request = prepared(&world, &alice, 1).await;
    let mallory = IdentityKey::generate(&mut world.rng());
    let own = request.certificate_request.clone();
    request.certificate_request = Base64(certificate::request(&mallory).unwrap());
    assert_eq!(refusal(&world, &request).await, ProblemKind::CertificateRequestInvalid);
    request.certificate_request = Base64(own.0[..own.0.len() - 1].to_vec());
    assert_eq!(refusal(&world, &request).await, ProblemKind::CertificateRequestInvalid);
    request.certificate_request = own;
    assert_eq!(world.post(REGISTRATION_PATH, &request).await.status, 201);
}

#[tokio::test]
async fn a_certificate_request_that_asks_to_be_an_authority_of_another_name_gets_neither() {
    let world = World::new().await;
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["bank.example".to_owned()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    params.distinguished_name.push(rcgen::DnType::CommonName, "+41790000000");
    let csr = params.serialize_request(&key).unwrap();

    let mallory = Person::new(&world, 1);
    let public = SigningPublicKey::from_slice(key.public_key_raw()).unwrap();
    let mut asked = mallory.code_request();
    asked.client_key = public;
    let cookie = world.post(CODE_PATH, &asked).await.json();
    let code = world.texts.all()[0].1.split_once("is ").unwrap().1.to_owned();
    let token_key = world.active_key().await;
    let mut request = mallory.registration(&world, &(cookie, code), &token_key, &[]);
    request.certificate_request = Base64(csr.der().to_vec());

    let response: RegistrationResponse = world.post(REGISTRATION_PATH, &request).await.json();
    let ca = world.info().await.ca_certificate.0;
    let subject =
        certificate::verify(&response.certificate.0, &ca, world.now()).expect("CA:FALSE, and all else in order");
    assert_eq!((subject.phone, subject.key), (mallory.phone, public));
    let der = &response.certificate.0;
    assert!(!der.windows(12).any(|window| window == b"bank.example" || window == b"+41790000000"));
}

#[tokio::test]
async fn blinded_messages_must_be_at_most_five_all_different_in_range_and_for_the_active_key() {
    let world = World::new().await;
    let alice = Person::new(&world, 1);
    let key = world.active_key().await;
    let blinded = alice.blind(&world, &key, 6);
    let code = alice.ask_code(&world).await;
    let request = |blinded: &[world::people::Blinded]| alice.registration(&world, &code, &key, blinded);

    assert_eq!(refusal(&world, &request(&blinded)).await, ProblemKind::BadRequest);
    let mut twice = request(&blinded[..2]);
    twice.tokens.blinded[1] = twice.tokens.blinded[0];
    assert_eq!(refusal(&world, &twice).await, ProblemKind::BadRequest);
    let mut outside = request(&blinded[..2]);
    outside.tokens.blinded[1] = RsaElement([0xff; 256]);
    assert_eq!(refusal(&world, &outside).await, ProblemKind::BadRequest);
    let mut other_key = request(&blinded[..2]);
    other_key.tokens.token_key_id.0[31] ^= 1;
    assert_eq!(refusal(&world, &other_key).await, ProblemKind::KeyNotActive);
    assert_eq!(world.query("select count(*) from accounts"), 0, "no half an account");

    let response: RegistrationResponse = world.post(REGISTRATION_PATH, &request(&blinded[..5])).await.json();
    assert_eq!(finish(&key, &blinded[..5], &response.blind_signatures).len(), 5);
}

#[tokio::test]
async fn a_key_that_stops_signing_while_an_account_is_made_signs_nothing_for_it() {
    let world = World::new().await;
    let request = prepared(&world, &Person::new(&world, 1), 5).await;
    // Plays another process that rotates between the signing and the transaction.
    world.database.plant_before_insert("accounts", "update token_keys set state = 'retiring'");
    assert_eq!(refusal(&world, &request).await, ProblemKind::KeyNotActive);
    for table in ["accounts", "issuances", "registrations", "key_counts"] {
        assert_eq!(world.query(&format!("select count(*) from {table}")), 0, "{table}");
    }
    // The same request goes through once its key signs; nothing of the first try is in its way.
    world.database.remove_planted("accounts");
    assert_eq!(world.post(REGISTRATION_PATH, &request).await.status, 201);
}

#[tokio::test]
async fn a_number_that_registers_again_gets_a_new_identity_and_no_new_tokens() {
    let world = World::new().await;
    let alice = Person::new(&world, 1);
    let (first, _) = alice.register(&world, 5).await;
    let mut session = alice.login(&world).await;

    world.clock.advance_seconds(60);
    let again =
        Person { identity: IdentityKey::generate(&mut world.rng()), password: "new".into(), ..Person::new(&world, 1) };
    let (second, tokens) = again.register(&world, 5).await;
    assert!(tokens.is_empty() && second.blind_signatures.is_empty());
    assert_eq!((second.tokens_issued, second.setup_until), (5, first.setup_until));
    assert_ne!(second.mailbox, first.mailbox);
    let key = world.info().await.public_key;
    let grant = jwt::verify(&key, &second.mailbox_grant, ISSUER, RELAY, Purpose::Grant, world.now()).unwrap();
    assert_eq!(grant.replaces, Some(first.mailbox));

    let (request, _) = session.sign("GET", postern_protocol::login::SESSIONS_PATH, Vec::new());
    assert_eq!(world.send(request).await.problem(), ProblemKind::Unauthorized, "the old sessions have ended");
    again.login(&world).await;
    assert_eq!(world.query("select count(*) from accounts"), 1);
    assert_eq!(world.query("select count(*) from issuances"), 5);
}

#[tokio::test]
async fn an_old_mailbox_is_told_to_its_own_relay_only() {
    let world = World::new().await;
    let alice = Person::new(&world, 1);
    alice.register(&world, 0).await;
    let mut request = prepared(&world, &alice, 0).await;
    request.relay = OTHER_RELAY.to_owned();
    let response: RegistrationResponse = world.post(REGISTRATION_PATH, &request).await.json();
    let key = world.info().await.public_key;
    let grant = jwt::verify(&key, &response.mailbox_grant, ISSUER, OTHER_RELAY, Purpose::Grant, world.now()).unwrap();
    assert_eq!(grant.replaces, None);

    let mut unknown = prepared(&world, &alice, 0).await;
    unknown.relay = "nowhere.test".to_owned();
    assert_eq!(refusal(&world, &unknown).await, ProblemKind::BadRequest);
}

#[tokio::test]
async fn texts_are_capped_per_number_per_block_and_altogether() {
    let world = World::with(|limits| {
        limits.texts_per_number_per_day = 2;
        limits.texts_per_prefix_per_day = 4;
        limits.texts_per_day = 6;
    })
    .await;
    let ask = async |n| world.post(CODE_PATH, &Person::new(&world, n).code_request()).await;
    for n in [1, 1, 2, 2] {
        assert_eq!(ask(n).await.status, 200);
    }
    let reply = ask(1).await;
    assert_eq!(reply.problem(), ProblemKind::TextLimit);
    // The day of the test's clock ends at a known time.
    assert_eq!(reply.header("retry-after").unwrap(), (86_400 - world.now().seconds() % 86_400).to_string());
    assert_eq!(ask(3).await.problem(), ProblemKind::TextLimit, "the block of 10,000 has had its texts");
    for n in [20_000, 30_000] {
        assert_eq!(ask(n).await.status, 200);
    }
    assert_eq!(ask(40_000).await.problem(), ProblemKind::TextBudget, "the day's budget is spent");
    assert_eq!(world.texts.all().len(), 6);
    world.clock.advance_seconds(86_400);
    assert_eq!(ask(1).await.status, 200);
}

#[tokio::test]
async fn a_gateway_that_is_down_does_not_use_up_the_numbers_texts() {
    let world = World::with(|limits| limits.texts_per_number_per_day = 1).await;
    let alice = Person::new(&world, 1);
    world.texts.break_down(true);
    for _ in 0..3 {
        let reply = world.post(CODE_PATH, &alice.code_request()).await;
        assert_eq!(reply.problem(), ProblemKind::TextFailed);
        assert_eq!(reply.header("retry-after"), Some("30"));
    }
    world.texts.break_down(false);
    world.clock.advance_seconds(30);
    alice.register(&world, 1).await;
}

#[tokio::test]
async fn numbers_that_do_not_exist_or_cost_extra_get_no_text() {
    let world = World::with(|limits| limits.countries = vec![41]).await;
    for (number, expected) in [
        ("+41001234567", ProblemKind::PhoneInvalid),
        ("+410791234567", ProblemKind::PhoneInvalid),
        ("+41900123456", ProblemKind::PhoneRefused),
        ("+491701234567", ProblemKind::PhoneRefused),
    ] {
        let request = Person { phone: number.parse().unwrap(), ..Person::new(&world, 1) }.code_request();
        assert_eq!(world.post(CODE_PATH, &request).await.problem(), expected, "{number}");
    }
    assert!(world.texts.all().is_empty());
}
