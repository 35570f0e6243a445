//! Codes on their way to phones: gateways that fail, providers that report, and people who want to be paid for texts.

mod world;

use postern_issuer::config::GatewayConfig;
use postern_protocol::problem::ProblemKind;
use postern_protocol::register::{CodeResponse, REGISTRATION_PATH};
use postern_protocol::texts::Channel;
use world::Person;
use world::providers::{Two, UNROUTABLE, in_countries, password_file, problem, with_voice};

#[tokio::test]
async fn a_text_goes_out_as_twilio_s_form_with_the_account_s_password_and_registers_whoever_reads_it() {
    let two = Two::start().await;
    let alice = Person::new(&two.world, 1);
    let answer: CodeResponse = two.ask(&alice, None).await.json();
    assert_eq!(answer.channel, Channel::Text);
    let asked = two.first.last();
    assert_eq!(asked.path, "/2010-04-01/Accounts/AC1/Messages.json");
    // printf 'AC1:auth-token-1' | base64
    assert_eq!(asked.authorization, "Basic QUMxOmF1dGgtdG9rZW4tMQ==");
    assert_eq!(asked.form["To"], alice.phone.as_str());
    assert_eq!(asked.form["From"], "+12025550100");
    assert_eq!(asked.form["ValidityPeriod"], "600");
    let key = two.world.active_key().await;
    let request = alice.registration(&two.world, &(answer, asked.code()), &key, &[]);
    assert_eq!(two.world.post(REGISTRATION_PATH, &request).await.status, 201);
    assert_eq!(two.counts(), [1, 0]);
}

#[tokio::test]
async fn a_gateway_that_fails_is_passed_over_then_left_alone_and_tried_again_later() {
    let two = Two::start().await;
    let ask = async |n| two.ask(&Person::new(&two.world, n), None).await.status;
    two.first.then(&[Some((500, "")), Some((503, "<html>")), Some((429, "{}"))]);
    for n in 0..3 {
        assert_eq!(ask(n).await, 200);
    }
    assert_eq!(two.counts(), [3, 3]);
    assert_eq!(ask(3).await, 200);
    assert_eq!(two.counts(), [3, 4], "three failures in a row");
    two.world.clock.advance_seconds(15);
    assert_eq!(ask(4).await, 200);
    assert_eq!(two.counts(), [4, 4], "it works again");
}

#[tokio::test]
async fn a_gateway_that_is_not_there_or_never_answers_or_does_not_know_us_is_passed_over() {
    let two = Two::start().await;
    two.first.then(&[None, Some((401, "{\"code\":20003}"))]);
    for n in 0..2 {
        assert_eq!(two.ask(&Person::new(&two.world, n), None).await.status, 200);
    }
    assert_eq!(two.counts(), [2, 2]);
    // What was not answered may have been sent: the day's budget counts it too.
    assert_eq!(two.world.query("select sum(count) from attempts where scope = 'text-all'"), 3);
    let closed = Two::with(|config, _| {
        let GatewayConfig::Twilio(first) = &mut config.gateways[0] else { panic!() };
        "http://127.0.0.1:9".clone_into(&mut first.url);
    })
    .await;
    assert_eq!(closed.ask(&Person::new(&closed.world, 1), None).await.status, 200);
    assert_eq!(closed.counts(), [0, 1]);
}

#[tokio::test]
async fn when_no_gateway_works_the_refusal_says_so_and_when_to_try_again_and_the_number_keeps_its_texts() {
    let two = Two::with(|config, _| config.limits.texts_per_number_per_day = 1).await;
    let alice = Person::new(&two.world, 1);
    two.first.then(&[Some((500, "")); 3]);
    two.second.then(&[Some((500, "")); 3]);
    for _ in 0..3 {
        let reply = two.ask(&alice, None).await;
        let expected = (ProblemKind::TextFailed, Some("no gateway accepted it".to_owned()), Some(30));
        assert_eq!((reply.status, problem(&reply)), (503, expected));
    }
    let (kind, detail, _) = problem(&two.ask(&alice, None).await);
    assert_eq!((kind, detail.as_deref()), (ProblemKind::TextFailed, Some("all gateways are out of order")));
    assert_eq!(two.counts(), [3, 3], "nobody is asked in vain");
    two.world.clock.advance_seconds(30);
    assert_eq!(two.ask(&alice, None).await.status, 200);
}

#[tokio::test]
async fn a_number_that_every_provider_refuses_is_told_so_and_breaks_no_gateway() {
    let two = Two::start().await;
    two.first.then(&[UNROUTABLE; 10]);
    two.second.then(&[UNROUTABLE; 10]);
    for _ in 0..10 {
        let reply = two.ask(&Person::new(&two.world, 1), None).await;
        let expected = (ProblemKind::TextUndeliverable, Some("no provider has a route to it".to_owned()), None);
        assert_eq!((reply.status, problem(&reply)), (403, expected));
    }
    assert_eq!(two.ask(&Person::new(&two.world, 2), None).await.status, 200);
    assert_eq!(two.counts(), [11, 10], "who asks for wrong numbers takes nobody's gateway away");
}

#[tokio::test]
async fn a_gateway_serves_the_countries_that_it_is_for() {
    let two = Two::with(|config, _| {
        config.gateways[0] = in_countries(config.gateways[0].clone(), &[49]);
        config.gateways[1] = in_countries(config.gateways[1].clone(), &[49, 41]);
    })
    .await;
    assert_eq!(two.ask(&Person::new(&two.world, 1), None).await.status, 200);
    assert_eq!(two.counts(), [0, 1]);
    let american = Person { phone: "+12025550123".parse().unwrap(), ..Person::new(&two.world, 2) };
    let (kind, detail, wait) = problem(&two.ask(&american, None).await);
    assert_eq!((kind, wait), (ProblemKind::TextUndeliverable, None));
    assert_eq!(detail.as_deref(), Some("no gateway serves its country"));
}

#[tokio::test]
async fn who_asks_for_a_call_is_told_the_digits_three_times_or_that_there_are_no_calls() {
    let two = Two::with(|config, _| config.gateways[1] = with_voice(config.gateways[1].clone())).await;
    let alice = Person::new(&two.world, 1);
    let answer: CodeResponse = two.ask(&alice, Some(Channel::Voice)).await.json();
    assert_eq!((answer.channel, two.counts()), (Channel::Voice, [0, 1]));
    let call = two.second.last();
    assert_eq!(call.path, "/2010-04-01/Accounts/AC1/Calls.json");
    let said = call.form["Twiml"].split("code is, ").nth(1).unwrap().split('.').next().unwrap();
    let code: String = said.chars().filter(char::is_ascii_digit).collect();
    assert_eq!((code.len(), call.form["Twiml"].matches(said).count()), (6, 3));
    let key = two.world.active_key().await;
    let request = alice.registration(&two.world, &(answer, code), &key, &[]);
    assert_eq!(two.world.post(REGISTRATION_PATH, &request).await.status, 201);

    let without = Two::start().await;
    assert_eq!(without.ask(&alice, Some(Channel::Voice)).await.problem(), ProblemKind::VoiceUnavailable);
    assert_eq!(without.counts(), [0, 0]);
}

#[tokio::test]
async fn a_text_that_was_not_delivered_sends_the_next_by_another_gateway_and_then_by_a_call() {
    let two = Two::with(|config, _| config.gateways[1] = with_voice(config.gateways[1].clone())).await;
    let alice = Person::new(&two.world, 1);
    let channel = async || two.ask(&alice, None).await.json::<CodeResponse>().channel;
    assert_eq!((channel().await, two.counts()), (Channel::Text, [1, 0]));
    let first = two.first.last().report();
    assert_eq!(two.report(&first, "MessageStatus=sent").await.status, 204);
    assert_eq!((channel().await, two.counts()), (Channel::Text, [2, 0]));

    assert_eq!(two.report(&first, "MessageSid=SM1&MessageStatus=undelivered&ErrorCode=30003").await.status, 204);
    assert_eq!((channel().await, two.counts()), (Channel::Text, [2, 1]));
    // Kannel says it in the query, by GET.
    let second = two.second.last().report();
    assert_eq!(two.world.get(&format!("{second}?status=16")).await.status, 204);
    assert_eq!((channel().await, two.counts()), (Channel::Voice, [2, 2]));
    // Nobody else's texts go elsewhere for that.
    assert_eq!(two.ask(&Person::new(&two.world, 2), None).await.json::<CodeResponse>().channel, Channel::Text);
    assert_eq!(two.counts(), [3, 2]);
    // Nor his own, a day later.
    two.world.clock.advance_seconds(86_400);
    assert_eq!((channel().await, two.counts()), (Channel::Text, [4, 2]));
}

#[tokio::test]
async fn a_report_that_was_not_asked_for_is_refused_and_one_that_comes_again_changes_nothing() {
    let two = Two::start().await;
    let alice = Person::new(&two.world, 1);
    two.ask(&alice, None).await.json::<CodeResponse>();
    let path = two.first.last().report();
    let marks = || two.world.query("select count(*) from attempts where scope = 'text-undelivered'");

    // Forged: changed in one place, or made up.
    let changed = |n: usize| {
        let mut path = path.clone().into_bytes();
        let end = path.len() - 1 - n;
        path[end] = if path[end] == b'A' { b'B' } else { b'A' };
        String::from_utf8(path).unwrap()
    };
    let forged = (1..70).map(changed).chain(["/v1/texts/x".to_owned(), format!("/v1/texts/{}", "A".repeat(78))]);
    for forged in forged {
        assert_eq!(two.report(&forged, "MessageStatus=failed").await.problem(), ProblemKind::NotFound, "{forged}");
    }
    for nothing in ["", "status=7", "MessageStatus=delivered&MessageStatus=failed", "To=%2B41791000001"] {
        assert_eq!(two.report(&path, nothing).await.problem(), ProblemKind::BadRequest, "{nothing}");
    }
    assert_eq!(two.report(&path, &"x".repeat(10_000)).await.problem(), ProblemKind::TooLarge);
    assert_eq!(marks(), 0);

    for _ in 0..5 {
        assert_eq!(two.report(&path, "MessageStatus=failed").await.status, 204);
    }
    assert_eq!(marks(), 1);
    assert_eq!(two.world.query("select max(count) from attempts where scope = 'text-undelivered'"), 1);
    // Replayed the next day it is good for nothing.
    two.world.clock.advance_seconds(86_401);
    postern_issuer::service::housekeeping::once(&two.world.issuer).await.unwrap();
    assert_eq!(marks(), 0);
    assert_eq!(two.report(&path, "MessageStatus=failed").await.status, 204);
    assert_eq!(marks(), 0);
}

#[tokio::test]
async fn who_pumps_a_prefix_is_stopped_soon_and_who_goes_on_to_its_neighbours_a_little_later() {
    let two = Two::with(|config, _| {
        config.limits.unanswered_texts_per_prefix = 20;
        config.limits.unanswered_texts_per_range = 50;
        config.limits.texts_per_number_per_day = 2;
    })
    .await;
    let pump = async |from: u32| {
        let mut sent = 0;
        for n in from..from + 60 {
            let reply = two.ask(&Person::new(&two.world, n), None).await;
            sent += u32::from(reply.status == 200);
            if reply.status != 200 {
                let (kind, detail, wait) = problem(&reply);
                assert_eq!((kind, wait.is_some()), (ProblemKind::TextLimit, true));
                assert!(detail.unwrap().contains("came back"));
            }
        }
        sent
    };
    assert_eq!([pump(0).await, pump(10_000).await, pump(20_000).await, pump(30_000).await], [20, 20, 10, 0]);
    assert_eq!(two.counts(), [50, 0]);
    // Honest people elsewhere register, as many as there are: their codes come back.
    let key = two.world.active_key().await;
    for n in 0..60 {
        let phone = format!("+4178900{n:04}").parse().unwrap();
        let person = Person { phone, ..Person::new(&two.world, n) };
        let answer: CodeResponse = two.ask(&person, None).await.json();
        let code = two.first.last().code();
        let request = person.registration(&two.world, &(answer, code), &key, &[]);
        assert_eq!(two.world.post(REGISTRATION_PATH, &request).await.status, 201);
    }
}

#[tokio::test]
async fn numbers_that_earn_somebody_money_get_no_text_by_any_gateway() {
    let two = Two::with(|config, _| config.gateways[1] = with_voice(config.gateways[1].clone())).await;
    for number in ["+41900123456", "+41840123456", "+41800123456", "+449098790000"] {
        for channel in [None, Some(Channel::Text), Some(Channel::Voice)] {
            let person = Person { phone: number.parse().unwrap(), ..Person::new(&two.world, 1) };
            assert_eq!(two.ask(&person, channel).await.problem(), ProblemKind::PhoneRefused, "{number}");
        }
    }
    assert_eq!(two.counts(), [0, 0]);
}

#[test]
fn a_password_file_that_others_may_read_or_that_is_empty_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = password_file(dir.path());
    let shown = format!("{:?}", postern_issuer::gateway::Password::read(&path).unwrap());
    assert_eq!(shown, "Password(secret)");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(postern_issuer::gateway::Password::read(&path).unwrap_err().to_string().contains("chmod 600"));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(&path, "\n").unwrap();
    assert!(postern_issuer::gateway::Password::read(&path).unwrap_err().to_string().contains("holds no password"));
}
