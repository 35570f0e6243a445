//! The directory: who is in it, how it is built, and that it is never seen half-built.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail loudly")]

mod world;

use axum::body::Body;
use axum::http::Request;
use postern_credentials::directory::{
    Delta, Filter, Fingerprints, Records, bucket_of, manifest_digest, verify_manifest,
};
use postern_credentials::oprf::SecretKey;
use postern_issuer::service::{account, directory, lookup};
use postern_protocol::directory::{
    LISTING_PATH, ListingRequest, MANIFEST_MEDIA_TYPE, MANIFEST_PATH, Manifest, Record, SignedManifest, delta_path,
    filter_path, fingerprints_path, records_path,
};
use postern_protocol::ids::{OprfOutput, PhoneNumber};
use postern_protocol::login::{ACCOUNT_PATH, JwtAudience};
use postern_protocol::problem::ProblemKind;
use postern_test_database::Value;
use world::lookups::number;
use world::{Person, World};

async fn build(world: &World) -> u32 {
    directory::build(&world.issuer).await.unwrap().unwrap()
}

async fn manifest(world: &World) -> Manifest {
    let served = world.get(MANIFEST_PATH).await;
    assert_eq!(served.header("content-type"), Some(MANIFEST_MEDIA_TYPE));
    verify_manifest(&served.body, &world.info().await.public_key).unwrap()
}

async fn file(world: &World, path: &str) -> Vec<u8> {
    let reply = world.get(path).await;
    assert_eq!(reply.status, 200, "{path}");
    reply.body
}

/// The VOPRF's output, as whoever has the root secret computes it.
fn output(world: &World, epoch: u32, phone: &PhoneNumber) -> OprfOutput {
    SecretKey::for_epoch(&world.root(), epoch).unwrap().output(phone.as_str().as_bytes()).unwrap()
}

/// What a client does that knows `y`.
async fn find_by(world: &World, y: &OprfOutput) -> Option<Record> {
    let manifest = manifest(world).await;
    let bucket = bucket_of(y, manifest.bits);
    let path = fingerprints_path(manifest.build, bucket);
    let fingerprints = Fingerprints::read(&manifest, bucket, &file(world, &path).await).unwrap();
    let hits = fingerprints.find(y);
    let path = records_path(manifest.build, bucket);
    let records = Records::read(&manifest, bucket, &file(world, &path).await).unwrap();
    let filter = Filter::read(&manifest, &file(world, &filter_path(manifest.build)).await).unwrap();
    let found = records.open(y, hits);
    assert!(found.is_none() || filter.contains(y));
    found
}

async fn find(world: &World, phone: &PhoneNumber) -> Option<Record> {
    let epoch = manifest(world).await.oprf_epoch;
    find_by(world, &output(world, epoch, phone)).await
}

/// Accounts as so many registrations leave them.
fn insert_accounts(world: &World, numbers: std::ops::Range<u32>) {
    let (key, empty) = (Value::Blob(vec![0; 32]), Value::Blob(Vec::new()));
    let row = |n: u32| {
        let name = [&n.to_be_bytes()[..], &[7; 28]].concat();
        let phone = Value::Text(number(n).as_str().to_owned());
        vec![Value::Blob(name), phone, key.clone(), empty.clone(), Value::Integer(i64::MAX)]
    };
    world.database.execute_each(
        "insert into accounts (account, phone, identity_key, certificate, certificate_expires, login_salt,
        login_verifier, mailbox, relay, tokens_issued, setup_until, created, registered)
        values ($1, $2, $3, $4, $5, $4, $4, $3, 'relay.test', 0, 0, 0, 0)",
        &numbers.map(row).collect::<Vec<_>>(),
    );
}

#[tokio::test]
async fn an_account_is_found_by_its_number_for_a_token() {
    let world = World::new().await;
    let (alice, bob) = (Person::new(&world, 1), Person::new(&world, 2));
    alice.register(&world, 0).await;
    let (registered, _) = bob.register(&world, 0).await;
    build(&world).await;

    let jwt = alice.issuance_jwt(&world).await;
    let asked = world.ask(&world.lookup_tokens(&jwt, 2).await, &[bob.phone.clone(), number(99)]);
    let reply = world.look_up(&asked.request).await;
    let manifest = manifest(&world).await;
    let [bobs, nobodys] = asked.finish(&manifest.oprf_key, &reply).try_into().unwrap();
    let found = find_by(&world, &bobs).await.unwrap();
    assert_eq!((found.identity, found.mailbox), (bob.identity.public(), registered.mailbox));
    assert_eq!(manifest.relays[usize::from(found.relay)], registered.relay);
    assert!(find_by(&world, &nobodys).await.is_none());
    assert_eq!(manifest.accounts, 2);
}

#[tokio::test]
async fn unlisted_deleted_and_revoked_accounts_and_old_identities_are_gone_with_the_next_build() {
    let world = World::new().await;
    let people: Vec<_> = (1..=5).map(|n| Person::new(&world, n)).collect();
    for person in &people {
        person.register(&world, 0).await;
    }
    let [stays, unlisted, deleted, revoked, again] = people.try_into().ok().unwrap();
    build(&world).await;
    for person in [&stays, &unlisted, &deleted, &revoked, &again] {
        assert_eq!(find(&world, &person.phone).await.unwrap().identity, person.identity.public());
    }

    let mut session = unlisted.login(&world).await;
    let body = serde_json::to_vec(&ListingRequest { listed: false }).unwrap();
    session.call(&world, "PUT", LISTING_PATH, body).await;
    deleted.login(&world).await.call(&world, "DELETE", ACCOUNT_PATH, Vec::new()).await;
    account::revoke(&world.issuer, &revoked.phone).await.unwrap();
    let new = Person::new(&world, 5);
    let (registered, _) = new.register(&world, 0).await;
    assert!(find(&world, &unlisted.phone).await.is_some(), "a build does not change");
    build(&world).await;
    assert_eq!(manifest(&world).await.accounts, 2);
    for person in [&unlisted, &deleted, &revoked] {
        assert!(find(&world, &person.phone).await.is_none());
    }
    assert_eq!(find(&world, &stays.phone).await.unwrap().identity, stays.identity.public());
    let found = find(&world, &new.phone).await.unwrap();
    assert_eq!((found.identity, found.mailbox), (new.identity.public(), registered.mailbox));

    // They come back when they want to; an expired certificate leaves by itself.
    let body = serde_json::to_vec(&ListingRequest { listed: true }).unwrap();
    session.call(&world, "PUT", LISTING_PATH, body).await;
    revoked.register(&world, 0).await;
    build(&world).await;
    assert!(find(&world, &unlisted.phone).await.is_some() && find(&world, &revoked.phone).await.is_some());
    world.clock.advance_seconds(world.issuer.config.limits.certificate_seconds);
    build(&world).await;
    assert_eq!(manifest(&world).await.accounts, 0);
}

#[tokio::test]
async fn everybody_of_many_is_found_and_the_delta_has_exactly_the_new_ones() {
    let world = World::new().await;
    insert_accounts(&world, 0..2100);
    build(&world).await;
    let first = manifest(&world).await;
    assert_eq!((first.bits, first.accounts, first.delta), (2, 2100, None));
    for n in (0..2100).step_by(97) {
        assert!(find(&world, &number(n)).await.is_some(), "{n}");
        assert!(find(&world, &number(2100 + n)).await.is_none(), "{n}");
    }
    insert_accounts(&world, 2100..2110);
    let second = build(&world).await;
    let manifest = manifest(&world).await;
    let delta = Delta::read(&manifest, &file(&world, &delta_path(second)).await).unwrap();
    assert_eq!(delta.len(), 10);
    assert!((2100..2110).all(|n| delta.contains(&output(&world, 1, &number(n)))));
    assert!((0..100).all(|n| !delta.contains(&output(&world, 1, &number(n)))));
}

#[tokio::test]
async fn files_are_for_caches_to_keep_and_others_are_not_found() {
    let world = World::new().await;
    let early = world.get(MANIFEST_PATH).await;
    assert_eq!(early.problem(), ProblemKind::Unavailable, "before the first build");
    let build = build(&world).await;
    let get = async |path: &str, kept: &str| {
        world.send(Request::get(path).header("if-none-match", kept).body(Body::empty()).unwrap()).await
    };
    let immutable = "public, max-age=31536000, immutable";
    let files = [fingerprints_path(build, 0), records_path(build, 0), filter_path(build)];
    let all = files.iter().map(|path| (path.as_str(), immutable)).chain([(MANIFEST_PATH, "public, max-age=60")]);
    for (path, cache_control) in all {
        let reply = world.get(path).await;
        assert_eq!((reply.status, reply.header("cache-control")), (200, Some(cache_control)));
        let tag = reply.header("etag").unwrap().to_owned();
        for kept in [tag.clone(), format!("W/{tag}"), format!("\"x\", {tag}"), "*".to_owned()] {
            let again = get(path, &kept).await;
            assert_eq!((again.status, again.body.len(), again.header("etag")), (304, 0, Some(tag.as_str())));
            assert_eq!(again.header("cache-control"), Some(cache_control));
        }
        assert_eq!(get(path, "\"x\"").await.body, reply.body);
    }
    for path in [
        fingerprints_path(build, 1),
        records_path(build + 1, 0),
        delta_path(build),
        format!("/v1/directory/0{build}/filter"),
        format!("/v1/directory/+{build}/filter"),
        format!("/v1/directory/{build}/fingerprints/-1"),
        format!("/v1/directory/{build}/fingerprints/4294967296"),
        format!("/v1/directory/{build}/entries/0"),
        format!("/v1/directory/{build}/entries"),
        format!("/v1/directory/{build}/%00/0"),
    ] {
        assert_eq!(world.get(&path).await.problem(), ProblemKind::NotFound, "{path}");
    }
}

/// All manifests there are, in order.
fn manifests(world: &World) -> Vec<Vec<u8>> {
    world.database.blobs("select manifest from directory_builds where manifest is not null order by build")
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_builds_at_once_no_two_have_one_number_and_each_names_the_one_before() {
    // No build is dropped while somebody reads it, however slow.
    let world = World::configured(|config| config.lookup.keep_builds = 100).await;
    insert_accounts(&world, 0..300);
    let second = world.second_process().await;
    let tasks: Vec<_> = (0..12)
        .map(|i| {
            let issuer = std::sync::Arc::clone(if i % 2 == 0 { &world.issuer } else { &second });
            tokio::spawn(async move { directory::build(&issuer).await.unwrap() })
        })
        .collect();
    // Whoever reads meanwhile finds every build whole.
    while !tasks.iter().all(tokio::task::JoinHandle::is_finished) {
        if world.get(MANIFEST_PATH).await.status == 200 {
            assert!(find(&world, &number(7)).await.is_some());
        }
    }
    let mut built = Vec::new();
    for task in tasks {
        built.extend(task.await.unwrap());
    }
    assert!(!built.is_empty());
    let manifests = manifests(&world);
    built.sort_unstable();
    let numbers: Vec<_> = manifests.iter().map(|bytes| SignedManifest::decode(bytes).unwrap().manifest.build).collect();
    assert_eq!(numbers, built);
    assert!(numbers.is_sorted_by(|a, b| a < b));
    for pair in manifests.windows(2) {
        assert_eq!(SignedManifest::decode(&pair[1]).unwrap().manifest.previous, manifest_digest(&pair[0]));
    }
    assert!(find(&world, &number(7)).await.is_some());
}

#[tokio::test]
async fn a_build_that_died_between_files_and_manifest_is_never_seen_and_the_next_one_is_whole() {
    let world = World::new().await;
    insert_accounts(&world, 0..10);
    let good = build(&world).await;
    // What a builder leaves that is killed after its first files.
    let now = i64::try_from(world.now().0).unwrap();
    let dead = good + 1;
    world.database.script(&format!(
        "insert into leases (name, holder, until) values ('directory', x'{holder}', {until});
         insert into directory_builds (build, state, holder, oprf_epoch, created)
         values ({dead}, 'building', x'{holder}', 1, {now});
         insert into directory_files (build, kind, bucket, digest, bytes) values ({dead}, 'fingerprints', 0, x'00', x'00')",
        until = now / 1000 + 600,
        holder = "00".repeat(16),
    ));

    assert_eq!(world.get(&fingerprints_path(dead, 0)).await.problem(), ProblemKind::NotFound);
    assert_eq!(manifest(&world).await.build, good);
    assert_eq!(directory::build(&world.issuer).await.unwrap(), None, "it may still be alive");
    world.clock.advance_seconds(600);
    let next = build(&world).await;
    assert_eq!(next, dead + 1, "its number is not used again");
    assert_eq!(manifest(&world).await.build, next);
    assert!(find(&world, &number(3)).await.is_some());
    assert_eq!(world.query("select count(*) from directory_files where kind = 'fingerprints'"), 2);
    assert_eq!(world.get(&fingerprints_path(dead, 0)).await.problem(), ProblemKind::NotFound);
}

#[tokio::test]
async fn it_is_built_when_it_is_time_and_the_last_few_builds_are_kept() {
    let world = World::configured(|config| config.lookup.keep_builds = 2).await;
    directory::build_if_due(&world.issuer).await.unwrap();
    let first = manifest(&world).await.build;
    world.clock.advance_seconds(86_399);
    directory::build_if_due(&world.issuer).await.unwrap();
    assert_eq!(manifest(&world).await.build, first);
    world.clock.advance_seconds(1);
    directory::build_if_due(&world.issuer).await.unwrap();
    let second = manifest(&world).await.build;
    assert!(second > first);
    file(&world, &filter_path(first)).await;
    world.clock.advance_seconds(86_400);
    directory::build_if_due(&world.issuer).await.unwrap();
    assert_eq!(world.get(&filter_path(first)).await.problem(), ProblemKind::NotFound);
    file(&world, &filter_path(second)).await;
    assert_eq!(world.query("select count(*) from directory_builds"), 2);
    assert_eq!(world.query("select count(distinct build) from directory_files"), 2);
}

#[tokio::test]
async fn a_new_key_is_used_from_the_next_build_on_and_a_repeated_look_up_keeps_its_answer() {
    let world = World::new().await;
    let alice = Person::new(&world, 1);
    alice.register(&world, 0).await;
    build(&world).await;
    let old = manifest(&world).await;
    let jwt = alice.login(&world).await.jwt(&world, JwtAudience::Issuer).await;
    let mut tokens = world.lookup_tokens(&jwt, 3).await;
    let before = world.ask(&tokens.take(1), std::slice::from_ref(&alice.phone));
    let answer = world.look_up(&before.request).await;

    assert_eq!(lookup::rotate(&world.issuer).await.unwrap(), 2);
    assert_eq!(lookup::rotate(&world.issuer).await.unwrap(), 2, "not built yet");
    let between = world.ask(&tokens.take(1), std::slice::from_ref(&alice.phone));
    let [y] = between.finish(&old.oprf_key, &world.look_up(&between.request).await).try_into().unwrap();
    assert!(find_by(&world, &y).await.is_some(), "what is evaluated and what is served go together");

    build(&world).await;
    let new = manifest(&world).await;
    assert_eq!((new.oprf_epoch, new.delta), (2, None));
    assert_ne!(new.oprf_key, old.oprf_key);
    assert_eq!(world.lookup_info().await.oprf_key, new.oprf_key);
    assert!(find_by(&world, &y).await.is_none());
    let after = world.ask(&tokens.take(1), std::slice::from_ref(&alice.phone));
    let [y] = after.finish(&new.oprf_key, &world.look_up(&after.request).await).try_into().unwrap();
    assert!(find_by(&world, &y).await.is_some());

    let world = world.restart(|_| {}).await;
    assert_eq!(world.look_up(&before.request).await.body, answer.body, "with the key of the first time");
    assert_eq!(lookup::rotate(&world.issuer).await.unwrap(), 3);
}
