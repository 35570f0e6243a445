//! An issuer, and relays, that show somebody in particular something else.

use postern_credentials::oprf;
use postern_protocol::directory::{Manifest, SignedManifest};
use postern_protocol::ids::{OprfProof, PhoneNumber};
use postern_protocol::log::{ENTRIES_PATH, LogEntries, LogHead};
use postern_protocol::lookup::{LookupInfo, LookupResponse};
use postern_protocol::problem::ProblemKind;

use super::*;
use crate::testing::Told;

/// Changes the answers to requests of this kind and path.
fn tamper(
    town: &Town,
    method: &'static str,
    path: &'static str,
    change: impl Fn(&Asked, Told) -> Told + Send + 'static,
) {
    let change = move |asked: &Asked, told: Told| {
        if asked.method == method && asked.path.starts_with(path) { change(asked, told) } else { told }
    };
    town.lookups(|lookups| lookups.tamper = Some(Box::new(change)));
}

fn json<T: serde::de::DeserializeOwned>(told: &Told) -> T {
    serde_json::from_slice(&told.body).unwrap()
}

/// Nothing of Bob is believed; and once the issuer is honest, he is found.
async fn recovers(town: &Town, alice: &mut Person, bob: &Person) {
    assert!(alice.found_before(&[number(BOB)]).unwrap().is_empty());
    assert!(alice.contacts().unwrap().is_empty());
    town.lookups(|lookups| lookups.tamper = None);
    assert_eq!(find(alice, &[BOB]).await.unwrap(), [hit(bob)]);
}

#[tokio::test]
async fn an_answer_with_a_forged_proof_is_refused_and_the_tokens_are_not_lost() {
    let (town, mut alice, bob) = listed().await;
    tamper(&town, "POST", LOOKUP_PATH, |_, told| {
        let response = LookupResponse { proof: OprfProof([1; 64]), ..json(&told) };
        Told::json(200, &response)
    });
    assert!(matches!(find(&mut alice, &[BOB]).await, Err(Error::Misbehaved(_))));
    recovers(&town, &mut alice, &bob).await;
    assert_eq!(town.lookups(|lookups| lookups.spent()), 1);
}

#[tokio::test]
async fn an_answer_under_another_key_is_refused() {
    let (town, mut alice, bob) = listed().await;
    let key = oprf::SecretKey::derive(&[9; 32], b"for alice alone").unwrap();
    tamper(&town, "POST", LOOKUP_PATH, move |asked, told| {
        let oprf::Evaluation { evaluated, proof } = key.evaluate(&asked.json::<LookupRequest>().blinded).unwrap();
        Told::json(200, &LookupResponse { evaluated, proof, ..json(&told) })
    });
    assert!(matches!(find(&mut alice, &[BOB]).await, Err(Error::Misbehaved(_))));
    recovers(&town, &mut alice, &bob).await;
}

#[tokio::test]
async fn answers_that_were_swapped_are_refused() {
    let (town, mut alice, bob) = listed().await;
    tamper(&town, "POST", LOOKUP_PATH, |_, told| {
        let mut response: LookupResponse = json(&told);
        response.evaluated.reverse();
        Told::json(200, &response)
    });
    assert!(matches!(find(&mut alice, &[BOB, NOBODY]).await, Err(Error::Misbehaved(_))));
    recovers(&town, &mut alice, &bob).await;
}

/// The manifest as it is served, changed and signed again by the issuer itself.
fn resigned(told: &Told, key: &postern_credentials::identity::IdentityKey, change: impl Fn(&mut Manifest)) -> Told {
    let mut manifest = SignedManifest::decode(&told.body).unwrap().manifest;
    change(&mut manifest);
    let signed = postern_credentials::directory::sign_manifest(key, manifest).unwrap();
    Told::bytes(200, signed.encode().unwrap())
}

#[tokio::test]
async fn a_manifest_that_is_not_in_the_log_is_refused_loudly() {
    let (town, mut alice, bob) = listed().await;
    let key = town.lookups(|lookups| postern_credentials::identity::IdentityKey::from_seed(*lookups.identity.seed()));
    tamper(&town, "GET", MANIFEST_PATH, move |asked, told| match asked.path.as_str() {
        MANIFEST_PATH => resigned(&told, &key, |manifest| manifest.created += 1),
        _ => told,
    });
    assert!(matches!(find(&mut alice, &[BOB]).await, Err(Error::PinChanged(_))));
    assert!(evaluations(&town).is_empty());
    recovers(&town, &mut alice, &bob).await;
}

#[tokio::test]
async fn a_manifest_that_another_key_signed_is_refused_loudly() {
    let (town, mut alice, bob) = listed().await;
    let key = postern_credentials::identity::IdentityKey::from_seed([0x66; 32]);
    tamper(&town, "GET", MANIFEST_PATH, move |_, told| resigned(&told, &key, |_| {}));
    assert!(matches!(find(&mut alice, &[BOB]).await, Err(Error::PinChanged(_))));
    recovers(&town, &mut alice, &bob).await;
}

#[tokio::test]
async fn a_second_manifest_of_one_build_is_refused_loudly_even_if_it_is_in_the_log() {
    let (town, mut alice, _bob) = listed().await;
    find(&mut alice, &[NOBODY]).await.unwrap();
    town.lookups(|lookups| lookups.republish(|build| build.manifest.created += 1));
    town.clock.advance_seconds(7200);
    assert!(matches!(find(&mut alice, &[BOB]).await, Err(Error::PinChanged(_))));
    // The next build must name the one that we saw.
    town.publish();
    assert!(matches!(find(&mut alice, &[BOB]).await, Err(Error::PinChanged(_))));
    assert!(alice.found_before(&[number(BOB)]).unwrap().is_empty());
}

#[tokio::test]
async fn an_older_manifest_does_not_take_the_place_of_a_newer_one() {
    let (town, mut alice, bob) = listed().await;
    let old = std::sync::Mutex::new(None);
    let served = town.lookups(|lookups| lookups.answer(&get(MANIFEST_PATH)).unwrap().body);
    *old.lock().unwrap() = Some(served);
    town.publish();
    find(&mut alice, &[NOBODY]).await.unwrap();
    tamper(&town, "GET", MANIFEST_PATH, move |asked, told| match asked.path.as_str() {
        MANIFEST_PATH => Told::bytes(200, old.lock().unwrap().clone().unwrap()),
        _ => told,
    });
    town.clock.advance_seconds(7200);
    assert_eq!(find(&mut alice, &[BOB]).await.unwrap(), [hit(&bob)]);
    assert!(town.server.asked("/v1/directory/1/").is_empty());
}

fn get(path: &str) -> Asked {
    Asked { method: "GET".into(), path: path.into(), authorization: String::new(), body: Vec::new() }
}

#[tokio::test]
async fn a_window_key_that_is_not_in_the_log_gets_no_token_request() {
    let (town, mut alice, bob) = listed().await;
    let key = oprf::SecretKey::derive(&[9; 32], b"for alice alone").unwrap().public();
    tamper(&town, "GET", LOOKUP_PATH, move |_, told| {
        let mut info: LookupInfo = json(&told);
        info.keys[0].key = key;
        Told::json(200, &info)
    });
    assert!(matches!(find(&mut alice, &[BOB]).await, Err(Error::PinChanged(_))));
    assert!(town.server.asked(TOKEN_REQUEST_PATH).is_empty());
    recovers(&town, &mut alice, &bob).await;
}

#[tokio::test]
async fn a_token_key_directory_that_is_not_in_the_log_is_refused_loudly() {
    let (town, mut alice, bob) = listed().await;
    tamper(&town, "GET", DIRECTORY_PATH, |_, told| {
        // The same keys in other bytes.
        Told { body: [b" ".as_slice(), &told.body].concat(), ..told }
    });
    assert!(matches!(find(&mut alice, &[BOB]).await, Err(Error::PinChanged(_))));
    recovers(&town, &mut alice, &bob).await;
}

#[tokio::test]
async fn leaves_that_are_not_those_of_the_signed_head_are_refused_loudly_and_are_no_evidence() {
    let (town, mut alice, bob) = listed().await;
    let changes: [fn(&mut LogEntries); 4] = [
        |entries| entries.entries[0].0[3] ^= 1,
        |entries| drop(entries.entries.pop()),
        |entries| entries.entries.swap(0, 1),
        |entries| entries.from = 1,
    ];
    for change in changes {
        tamper(&town, "GET", ENTRIES_PATH, move |_, told| {
            let mut entries = json(&told);
            change(&mut entries);
            Told::json(200, &entries)
        });
        assert!(matches!(find(&mut alice, &[BOB]).await, Err(Error::PinChanged(_))));
        assert_eq!((alice.log_fork().unwrap(), alice.log_head().unwrap()), (None, None));
    }
    recovers(&town, &mut alice, &bob).await;
}

#[tokio::test]
async fn what_is_asked_of_the_log_does_not_say_what_was_seen_before() {
    let town = Town::new();
    let (mut alice, mut carol) = (town.person("alice", ALICE).await, town.person("carol", "+41791234500").await);
    town.publish();
    find(&mut alice, &[NOBODY]).await.unwrap();
    let about_log = |town: &Town, from: usize| {
        let asked = town.server.asked(LOG_PATH).split_off(from).into_iter();
        asked.map(|asked| asked.path).collect::<Vec<_>>()
    };
    // Days later, on a log of one page and on one of several: she and somebody who never looked ask for the same last page.
    for leaves in [3, 300] {
        (0..leaves).for_each(|n| {
            town.lookups(|lookups| lookups.log(&postern_protocol::log::LogLeaf::Manifest(vec![n as u8, leaves as u8])));
        });
        town.clock.advance_seconds(7200);
        let before = town.server.asked(LOG_PATH).len();
        find(&mut alice, &[NOBODY]).await.unwrap();
        let hers = about_log(&town, before);
        let before = town.server.asked(LOG_PATH).len();
        find(&mut carol, &[NOBODY]).await.unwrap();
        assert_eq!(about_log(&town, before), hers);
        assert!(hers.iter().all(|path| path == LOG_PATH || path.contains("?from=0&") || path.contains("?from=256&")));
    }
}

#[tokio::test]
async fn a_log_that_was_rewritten_is_refused_loudly_and_both_heads_are_kept() {
    let (town, mut alice, _bob) = listed().await;
    find(&mut alice, &[NOBODY]).await.unwrap();
    let seen = alice.log_head().unwrap().unwrap();
    let size = town.lookups(|lookups| lookups.log_size());
    assert!(size == seen.size && alice.log_fork().unwrap().is_none());
    // Longer, of the same size, and shorter.
    for leaves in [size + 3, size - 3, 1] {
        town.lookups(|lookups| lookups.fork_log(leaves));
        town.clock.advance_seconds(7200);
        match find(&mut alice, &[BOB]).await {
            Err(Error::PinChanged(words)) => assert!(words.contains("something else than it shows others")),
            other => panic!("{other:?}"),
        }
    }
    let mut alice = town.reopen("alice", alice);
    let fork = alice.log_fork().unwrap().unwrap();
    assert_eq!((&fork.seen, alice.log_head().unwrap().as_ref()), (&seen, Some(&seen)));
    let issuer = alice.account().unwrap().pins.issuer_key;
    for head in [&fork.seen, &fork.shown] {
        assert!(postern_credentials::key_log::verify_head(head, &issuer).is_ok(), "anybody can check it");
    }
    assert_ne!(fork.seen.root, fork.shown.root);
    let checks = alice.doctor().await;
    assert!(checks.iter().any(|check| check.name == "look-ups" && check.health == crate::doctor::Health::Fail));
}

#[tokio::test]
async fn a_head_that_the_issuer_did_not_sign_is_refused_and_is_no_evidence() {
    let (town, mut alice, bob) = listed().await;
    tamper(&town, "GET", LOG_PATH, |asked, told| match asked.path.as_str() {
        LOG_PATH => Told::json(200, &LogHead { time: 1, ..json(&told) }),
        _ => told,
    });
    assert!(matches!(find(&mut alice, &[BOB]).await, Err(Error::PinChanged(_))));
    assert_eq!(alice.log_fork().unwrap(), None);
    recovers(&town, &mut alice, &bob).await;
}

#[tokio::test]
async fn files_of_another_build_or_kind_are_refused() {
    for path in ["/filter", "/fingerprints/0", "/records/0"] {
        let (town, mut alice, bob) = listed().await;
        let other = Town::new();
        let _dave = other.person("dave", "+41791230000").await;
        other.publish();
        let theirs = other.lookups(|lookups| lookups.answer(&get(&format!("/v1/directory/1{path}"))).unwrap().body);
        tamper(&town, "GET", MANIFEST_PATH, move |asked, told| {
            if asked.path.ends_with(path) { Told::bytes(200, theirs.clone()) } else { told }
        });
        assert!(matches!(find(&mut alice, &[BOB]).await, Err(Error::Misbehaved(_))), "{path}");
        recovers(&town, &mut alice, &bob).await;
    }
}

#[tokio::test]
async fn a_record_that_stands_for_another_number_leads_to_a_card_that_does_not_fit() {
    let (town, mut alice, _bob) = listed().await;
    let eve = town.person("eve", "+41791230001").await;
    town.publish();
    // The issuer lists Eve's record under Bob's number.
    town.lookups(|lookups| {
        let record = lookups.listed[&number("+41791230001")].clone();
        lookups.listed.insert(number(BOB), record);
        lookups.publish();
    });
    assert_eq!(find(&mut alice, &[BOB]).await.unwrap(), [hit(&eve)]);
    let sent = alice.send(&BOB.parse().unwrap(), "for Bob only").await;
    assert!(matches!(sent, Err(Error::CardInvalid(_))));
    assert!(alice.contacts().unwrap().is_empty());
    assert!(town.server.asked("/messages").is_empty());
    // Nor when Eve is a contact, under her own number.
    alice.send(&"+41791230001".parse().unwrap(), "for Eve").await.unwrap();
    let sent = alice.send(&BOB.parse().unwrap(), "for Bob only").await;
    assert!(matches!(sent, Err(Error::CardInvalid(_))));
    assert_eq!(town.server.asked("/messages").len(), 1);
}

#[tokio::test]
async fn a_card_that_is_certified_for_another_number_gets_no_message_until_it_is_mended() {
    let (town, mut alice, _bob) = listed().await;
    let (listed, certified): (PhoneNumber, PhoneNumber) = (number("+41791230002"), number("+41791230003"));
    town.stranger(&listed, &certified, 1);
    town.lookups(|lookups| lookups.publish());
    let target = "+41791230002".parse().unwrap();
    assert!(matches!(alice.send(&target, "hello").await, Err(Error::CardInvalid(_))));
    assert_eq!(alice.tokens().unwrap().left, 5);
    town.stranger(&listed, &listed, 1);
    assert_eq!(alice.send(&target, "hello").await.unwrap().phone, "+41791230002");
}

#[tokio::test]
async fn a_look_up_that_is_tried_again_fetches_the_same_buckets() {
    // What two tries have in common would else be the hits.
    let town = Town::new();
    let mut alice = town.person("alice", ALICE).await;
    let phone = |n: u32| number(&format!("+4178{n:07}"));
    town.lookups(|lookups| {
        let record = postern_protocol::directory::Record {
            identity: lookups.identity.public(),
            mailbox: postern_protocol::ids::MailboxId([7; 32]),
            relay: 0,
        };
        lookups.listed.extend((0..40_000).map(|n| (phone(n), record.clone())));
        lookups.publish();
        assert_eq!(lookups.build().manifest.buckets(), 64);
    });
    let (listed, nobody) = (phone(3), number(NOBODY));
    let pages = |town: &Town| {
        let asked = town.server.asked("/v1/directory/1/").into_iter().map(|asked| asked.path);
        asked.filter(|path| path.contains("/records/") || path.contains("/fingerprints/")).collect::<Vec<_>>()
    };
    let numbers = [listed.clone(), nobody.clone(), phone(50_000)];
    let mut tries = Vec::new();
    for fails in [1, 0] {
        let before = pages(&town).len();
        for _ in 0..fails {
            town.server.fail_next("/records/", crate::testing::Fault::Before);
        }
        assert_eq!(alice.find(&numbers, &mut |_| {}).await.is_err(), fails > 0);
        tries.push(pages(&town).split_off(before).into_iter().collect::<BTreeSet<_>>());
        alice = town.reopen("alice", alice);
    }
    let buckets = |paths: &BTreeSet<String>| {
        paths.iter().map(|path| path.rsplit('/').next().unwrap().to_owned()).collect::<BTreeSet<_>>()
    };
    assert!((1..=4).contains(&buckets(&tries[0]).len()));
    assert!(buckets(&tries[1]).is_subset(&buckets(&tries[0])), "{tries:?}");
    // Other look-ups have others.
    let before = pages(&town).len();
    alice.find(&(60_000..60_003).map(phone).collect::<Vec<_>>(), &mut |_| {}).await.unwrap();
    let other: BTreeSet<_> = pages(&town).split_off(before).into_iter().collect();
    assert!(!other.is_empty() && buckets(&other) != buckets(&tries[0]));
}

#[tokio::test]
async fn tokens_that_were_used_by_an_older_copy_are_given_up_and_nothing_is_believed() {
    let (town, mut alice, bob) = listed().await;
    tamper(&town, "POST", LOOKUP_PATH, |_, _| Told::problem(ProblemKind::LookupTokenUsed));
    let refused = find(&mut alice, &[BOB]).await.unwrap_err();
    assert_eq!(refused.refusal(), Some(ProblemKind::LookupTokenUsed));
    recovers(&town, &mut alice, &bob).await;
    let asked = evaluations(&town);
    assert_eq!(asked.len(), 2);
    assert_ne!(asked[0].body, asked[1].body);
}
