//! Health and metrics: what is counted adds up with the tables, and names nobody.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail loudly")]

mod world;

use std::collections::{BTreeMap, BTreeSet};

use postern_issuer::metrics::operated;
use postern_issuer::service::keys;
use postern_protocol::internal::{SIGN_PATH, SignRequest};
use postern_protocol::operate::{HEALTH_PATH, READY_PATH};
use postern_protocol::problem::ProblemKind;
use postern_protocol::register::{CODE_PATH, REGISTRATION_PATH};
use world::people::{batch_request, single_request, token_request};
use world::{Person, Reply, World};

/// Who registers, logs in, and looks up.
const PEOPLE: u32 = 16;

/// All samples: name with labels, and value.
async fn scrape(world: &World) -> BTreeMap<String, i64> {
    world.clock.advance_seconds(60);
    let text = operated(&world.issuer).metrics().await;
    let samples = text.lines().filter(|line| !line.starts_with('#')).map(|line| line.rsplit_once(' ').unwrap());
    samples.map(|(name, n)| (name.to_owned(), n.parse::<f64>().unwrap() as i64)).collect()
}

#[tokio::test]
async fn what_is_counted_adds_up_with_the_tables_however_often_things_are_asked_for() {
    let world = World::new().await;
    let key = world.active_key().await;
    let mut refused = 0;
    let mut refuse = |reply: &Reply, kind: ProblemKind| {
        assert_eq!(reply.problem(), kind);
        refused += 1;
    };
    for n in 0..PEOPLE {
        let person = Person::new(&world, n);
        let code = person.ask_code(&world).await;
        let request = person.registration(&world, &code, &key, &person.blind(&world, &key, 3));
        let first = world.post(REGISTRATION_PATH, &request).await;
        assert_eq!(first.status, 201);
        assert_eq!(world.post(REGISTRATION_PATH, &request).await.body, first.body, "the same again");
        let other = person.registration(&world, &code, &key, &person.blind(&world, &key, 3));
        refuse(&world.post(REGISTRATION_PATH, &other).await, ProblemKind::RegistrationConflict);
        if n % 4 == 0 {
            // Once more, with another code: a new identity and no tokens.
            person.register(&world, 5).await;
        }
        let jwt = person.issuance_jwt(&world).await;
        let rest: Vec<_> =
            person.blind(&world, &key, 2).iter().map(|token| token_request(&key, token.message)).collect();
        for _ in 0..2 {
            assert_eq!(world.send(batch_request(&jwt, rest.clone())).await.status, 200);
        }
        let more = token_request(&key, person.blind(&world, &key, 1)[0].message);
        refuse(&world.send(single_request(&jwt, &more)).await, ProblemKind::AllowanceExhausted);
        let tokens = world.lookup_tokens(&jwt, 8).await;
        let asked = world.ask(&tokens, &vec![person.phone.clone(); 8]);
        for _ in 0..2 {
            assert_eq!(world.look_up(&asked.request).await.status, 200);
        }
        let blinded = person.blind(&world, &key, 1)[0].message;
        for _ in 0..2 {
            let (reply, _) = world.relay_call(SIGN_PATH, &SignRequest { token_key_id: key.key_id(), blinded }).await;
            assert_eq!(reply.status, 200);
        }
    }
    world.texts.break_down(true);
    refuse(&world.post(CODE_PATH, &Person::new(&world, 900).code_request()).await, ProblemKind::TextFailed);

    let seen = scrape(&world).await;
    let sample = |name: &str| seen.get(&format!("postern_issuer_{name}")).copied().unwrap_or(0);
    let rows = |sql: &str| world.query(sql);
    assert_eq!(sample("tokens_issued_total"), rows("select count(*) from issuances"));
    assert_eq!(sample("tokens_issued_total"), i64::from(PEOPLE) * 5);
    assert_eq!(sample("signed_tokens{for=\"accounts\"}"), sample("tokens_issued_total"));
    assert_eq!(sample("tokens_exchanged_total"), rows("select count(*) from relay_exchanges"));
    assert_eq!(sample("signed_tokens{for=\"exchanges\"}"), i64::from(PEOPLE));
    assert_eq!(sample("registrations_total{number=\"new\"}"), rows("select count(*) from accounts"));
    assert_eq!(sample("registrations_total{number=\"known\"}"), i64::from(PEOPLE) / 4);
    assert_eq!(sample("accounts"), i64::from(PEOPLE));
    assert_eq!(sample("logins_total"), rows("select count(*) from sessions"));
    assert_eq!(sample("lookup_tokens_issued_total"), rows("select cast(sum(issued) as bigint) from lookup_allowance"));
    assert_eq!(sample("lookups_total"), rows("select count(*) from lookup_spent"));
    assert_eq!(sample("texts_total{outcome=\"sent\"}"), world.texts.all().len() as i64);
    assert_eq!(sample("texts_total{outcome=\"failed\"}"), 1);
    let total = |name: &str| seen.iter().filter(|(key, _)| key.starts_with(name)).map(|(_, n)| n).sum::<i64>();
    assert_eq!(total("postern_issuer_refused_total"), refused);
    assert!(total("postern_issuer_requests_total") > i64::from(PEOPLE) * 15);
    every_label_is_a_word_that_was_there_before(&seen);
}

/// Labels and their values, from a closed list.
fn every_label_is_a_word_that_was_there_before(seen: &BTreeMap<String, i64>) {
    let document: serde_json::Value = serde_json::from_str(include_str!("../../docs/openapi/issuer.json")).unwrap();
    let mut words: BTreeSet<String> = document["paths"].as_object().unwrap().keys().cloned().collect();
    words.extend(ProblemKind::ALL.iter().map(|kind| kind.slug().to_owned()));
    words.extend(ProblemKind::ALL.iter().map(|kind| kind.status().to_string()));
    let others = ["200", "201", "204", "304", "other", "GET", "POST", "PUT", "DELETE", "HEAD"];
    let own = ["sent", "failed", "new", "known", "accounts", "exchanges"];
    words.extend(others.into_iter().chain(own).map(str::to_owned));
    for sample in seen.keys().filter(|sample| sample.contains('{')) {
        let inside = sample.split_once('{').unwrap().1.strip_suffix('}').unwrap();
        for label in inside.split("\",") {
            let (name, value) = label.split_once("=\"").unwrap();
            let value = value.trim_end_matches('"');
            match name {
                "le" => assert!(value == "+Inf" || value.parse::<f64>().is_ok(), "{sample}"),
                "route" | "method" | "status" | "type" | "outcome" | "number" | "for" => {
                    assert!(words.contains(value), "{sample}");
                }
                _ => panic!("{sample} has a label that nobody has looked at"),
            }
        }
    }
}

#[tokio::test]
async fn it_is_ready_while_it_can_sign_and_up_always() {
    let world = World::new().await;
    for path in [HEALTH_PATH, READY_PATH] {
        assert_eq!(world.get(path).await.status, 200);
    }
    assert!(keys::can_sign(&world.issuer).await.unwrap());
    world.database.execute("delete from token_keys", &[]);
    let world = world.restart(|_| {}).await;
    let reply = world.get(READY_PATH).await;
    assert_eq!((reply.status, reply.problem()), (503, ProblemKind::Unavailable));
    assert_eq!(world.get(HEALTH_PATH).await.status, 200);
}
