//! The supply of one-time prekeys: filled by its owner, claimed by anybody, each once.

use std::collections::HashSet;

use futures::future::join_all;
use postern_protocol::ids::{MailboxId, SealedPrekey};
use postern_protocol::login::Purpose;
use postern_protocol::prekeys::{MAX_PREKEY_UPLOAD, OWN_PREKEYS_PATH, PrekeySupply, PrekeyUpload, claim_path};
use postern_protocol::problem::ProblemKind;
use postern_protocol::send::{RELAY_INFO_PATH, RelayInfo};

use crate::attacks::stored;
use crate::world::{Mailbox, Reply, World, random};

fn upload(batch: u64, n: usize) -> PrekeyUpload {
    PrekeyUpload { batch, prekeys: (0..n).map(|_| SealedPrekey(random())).collect() }
}

async fn put(world: &World, by: &Mailbox, body: Vec<u8>) -> Reply {
    let request = world.http.put(world.at(OWN_PREKEYS_PATH)).header("content-type", "application/octet-stream");
    Reply::to(request.bearer_auth(&by.jwt).body(body)).await
}

async fn add(world: &World, by: &Mailbox, upload: &PrekeyUpload) -> PrekeySupply {
    put(world, by, upload.encode()).await.json()
}

async fn left(world: &World, by: &Mailbox) -> PrekeySupply {
    Reply::to(world.http.get(world.at(OWN_PREKEYS_PATH)).bearer_auth(&by.jwt)).await.json()
}

async fn claim(world: &World, of: &MailboxId, claim: &[u8]) -> Reply {
    let request = world.http.post(world.at(&claim_path(of))).header("content-type", "application/octet-stream");
    Reply::to(request.body(claim.to_vec())).await
}

/// What a fresh claim gets.
async fn claimed(world: &World, of: &MailboxId) -> Option<SealedPrekey> {
    let reply = claim(world, of, &random::<32>()).await;
    match reply.status.as_u16() {
        200 => Some(SealedPrekey::from_slice(&reply.body).unwrap()),
        204 => None,
        other => panic!("{other}: {}", String::from_utf8_lossy(&reply.body)),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_supply_is_handed_out_oldest_first_each_once_until_it_is_used_up_and_filled_again() {
    let world = World::start().await;
    let bob = world.mailbox().await;
    assert_eq!(left(&world, &bob).await, PrekeySupply { unclaimed: 0, limit: 100, batch: 0 });
    assert_eq!(claimed(&world, &bob.id).await, None);
    let (first, second) = (upload(1, 2), upload(2, 1));
    assert_eq!(add(&world, &bob, &first).await, PrekeySupply { unclaimed: 2, limit: 100, batch: 1 });
    assert_eq!(add(&world, &bob, &second).await, PrekeySupply { unclaimed: 3, limit: 100, batch: 2 });
    for expected in first.prekeys.iter().chain(&second.prekeys) {
        assert_eq!(claimed(&world, &bob.id).await, Some(*expected));
    }
    assert_eq!(claimed(&world, &bob.id).await, None);
    assert_eq!(left(&world, &bob).await.unclaimed, 0);
    add(&world, &bob, &upload(3, 1)).await;
    assert!(claimed(&world, &bob.id).await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_identical_claim_gets_the_identical_prekey_also_after_a_restart() {
    let mut world = World::start().await;
    let bob = world.mailbox().await;
    add(&world, &bob, &upload(1, 3)).await;
    let mine = random::<32>();
    let first = claim(&world, &bob.id, &mine).await;
    assert_eq!(
        (first.status.as_u16(), &first.headers["content-type"]),
        (200, &"application/octet-stream".parse().unwrap())
    );
    assert_eq!(claim(&world, &bob.id, &mine).await.body, first.body);
    world.restart().await;
    assert_eq!(claim(&world, &bob.id, &mine).await.body, first.body);
    assert_eq!(left(&world, &bob).await.unclaimed, 2);
    // The same claim elsewhere is another one.
    let carol = world.mailbox().await;
    add(&world, &carol, &upload(1, 1)).await;
    assert_ne!(claim(&world, &carol.id, &mine).await.body, first.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_got_none_is_not_remembered_and_gets_one_later() {
    let world = World::start().await;
    let bob = world.mailbox().await;
    let mine = random::<32>();
    assert_eq!(claim(&world, &bob.id, &mine).await.status, 204);
    assert_eq!(world.count("select count(*) from prekey_claims"), 0);
    add(&world, &bob, &upload(1, 2)).await;
    let got = claim(&world, &bob.id, &mine).await;
    assert_eq!(got.status, 200);
    assert_eq!(claim(&world, &bob.id, &mine).await.body, got.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_parallel_claims_get_sixty_four_prekeys_and_the_rest_none() {
    let world = World::start().await;
    let bob = world.mailbox().await;
    let supply = upload(1, 48);
    add(&world, &bob, &supply).await;
    let got: Vec<_> = join_all((0..64).map(|_| claimed(&world, &bob.id))).await.into_iter().flatten().collect();
    let distinct: HashSet<_> = got.iter().collect();
    assert_eq!((got.len(), distinct.len()), (48, 48), "no prekey went to two claims");
    assert_eq!(distinct, supply.prekeys.iter().collect());
    assert_eq!(world.count("select count(*) from prekeys"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_times_the_same_claim_at_once_gets_one_prekey() {
    let world = World::start().await;
    let bob = world.mailbox().await;
    add(&world, &bob, &upload(1, 100)).await;
    let mine = random::<32>();
    let got = join_all((0..64).map(|_| claim(&world, &bob.id, &mine))).await;
    let bodies: HashSet<_> = got.iter().map(|reply| (reply.status, &reply.body)).collect();
    assert_eq!((bodies.len(), got[0].status.as_u16()), (1, 200));
    assert_eq!(left(&world, &bob).await.unclaimed, 99);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_again_changes_nothing_and_what_was_claimed_never_comes_back() {
    let world = World::start().await;
    let bob = world.mailbox().await;
    let first = upload(1, 3);
    let before = add(&world, &bob, &first).await;
    assert_eq!(add(&world, &bob, &first).await, before);
    claimed(&world, &bob.id).await.unwrap();
    assert_eq!(add(&world, &bob, &first).await.unclaimed, 2);
    // Also not when nobody remembers any more that it was claimed.
    world.clock.advance_seconds(2 * 86_400);
    world.app.sweep().await.unwrap();
    assert_eq!(world.count("select count(*) from prekey_claims"), 0);
    let bob = world.fresh(&bob);
    assert_eq!(add(&world, &bob, &first).await.unclaimed, 2);

    let before = stored(&world);
    let changed = PrekeyUpload { prekeys: upload(1, 3).prekeys, ..first.clone() };
    assert_eq!(put(&world, &bob, changed.encode()).await.refusal(), ProblemKind::PrekeyBatch);
    assert_eq!(stored(&world), before);
    add(&world, &bob, &upload(7, 1)).await;
    for older in [first, upload(6, 1)] {
        assert_eq!(put(&world, &bob, older.encode()).await.refusal(), ProblemKind::PrekeyBatch);
    }
    assert_eq!(left(&world, &bob).await, PrekeySupply { unclaimed: 3, limit: 100, batch: 7 });
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_parallel_uploads_of_one_batch_are_one() {
    let world = World::start().await;
    let bob = world.mailbox().await;
    let body = upload(1, 5).encode();
    let replies = join_all((0..64).map(|_| put(&world, &bob, body.clone()))).await;
    assert!(replies.iter().all(|reply| reply.json::<PrekeySupply>().unclaimed == 5));
    assert_eq!(world.count("select count(*) from prekeys"), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_published_limit_holds_whatever_is_uploaded_and_claimed() {
    let world = World::start_with(|limits| limits.prekeys_per_mailbox = 3).await;
    let info: RelayInfo = Reply::to(world.http.get(world.at(RELAY_INFO_PATH))).await.json();
    assert_eq!((info.prekeys_per_mailbox, info.prekey_claim_seconds), (3, 86_400));
    let bob = world.mailbox().await;
    let first = upload(1, 100);
    assert_eq!(add(&world, &bob, &first).await, PrekeySupply { unclaimed: 3, limit: 3, batch: 1 });
    assert_eq!(add(&world, &bob, &upload(2, 1)).await.unclaimed, 3);
    claimed(&world, &bob.id).await.unwrap();
    assert_eq!(add(&world, &bob, &upload(3, 2)).await.unclaimed, 3);
    // An owner who claims their own all the time fills ten times as much, and waits then.
    for batch in 4..40 {
        add(&world, &bob, &upload(batch, 3)).await;
        while claimed(&world, &bob.id).await.is_some() {}
    }
    let kept = world.count("select count(*) from prekey_claims");
    assert!((30..=33).contains(&kept), "{kept}");
    world.clock.advance_seconds(2 * 86_400);
    world.app.sweep().await.unwrap();
    assert_eq!(add(&world, &world.fresh(&bob), &upload(41, 3)).await.unclaimed, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_is_remembered_for_the_published_time_and_then_forgotten_whole() {
    let world = World::start().await;
    let bob = world.mailbox().await;
    add(&world, &bob, &upload(1, 2)).await;
    world.clock.advance_seconds(1234);
    let mine = random::<32>();
    let first = claim(&world, &bob.id, &mine).await;
    assert_eq!(world.count("select kept_until % 3600 from prekey_claims"), 0, "not when it was, to the second");
    world.clock.advance_seconds(86_400);
    world.app.sweep().await.unwrap();
    assert_eq!(claim(&world, &bob.id, &mine).await.body, first.body);
    world.clock.advance_seconds(3601);
    world.app.sweep().await.unwrap();
    assert_eq!(world.count("select count(*) from prekey_claims"), 0);
    assert_eq!(left(&world, &world.fresh(&bob)).await.unclaimed, 1, "the supply stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_owner_fills_or_counts_a_supply_and_only_their_own() {
    let world = World::start().await;
    let (bob, mallory) = (world.mailbox().await, world.mailbox().await);
    let bobs = upload(1, 1);
    add(&world, &bob, &bobs).await;
    add(&world, &mallory, &upload(9, 5)).await;
    assert_eq!(left(&world, &bob).await, PrekeySupply { unclaimed: 1, limit: 100, batch: 1 });
    assert_eq!(claimed(&world, &bob.id).await, Some(bobs.prekeys[0]));
    let grant = World::jwt(&world.claims(&bob.id, Purpose::Grant));
    for jwt in [grant, String::new()] {
        let wrong = Mailbox { id: bob.id, jwt };
        assert_eq!(put(&world, &wrong, upload(2, 1).encode()).await.refusal(), ProblemKind::Unauthorized);
        let look = world.http.get(world.at(OWN_PREKEYS_PATH)).bearer_auth(&wrong.jwt);
        assert_eq!(Reply::to(look).await.refusal(), ProblemKind::Unauthorized);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn junk_is_refused_and_costs_no_write() {
    let world = World::start().await;
    let (bob, empty) = (world.mailbox().await, world.mailbox().await);
    add(&world, &bob, &upload(1, 2)).await;
    let before = stored(&world);
    assert_eq!(claim(&world, &MailboxId(random()), &random::<32>()).await.refusal(), ProblemKind::MailboxUnknown);
    assert_eq!(claim(&world, &empty.id, &random::<32>()).await.status, 204);
    for length in [0, 1, 31] {
        assert_eq!(claim(&world, &bob.id, &vec![7; length]).await.refusal(), ProblemKind::BadRequest, "{length}");
    }
    for length in [33, 5000] {
        assert_eq!(claim(&world, &bob.id, &vec![7; length]).await.refusal(), ProblemKind::TooLarge, "{length}");
    }
    let untyped = world.http.post(world.at(&claim_path(&bob.id))).body(vec![7; 32]);
    assert_eq!(Reply::to(untyped).await.refusal(), ProblemKind::UnsupportedMediaType);
    let nowhere =
        world.http.post(world.at("/v1/mailboxes/%ff/prekey")).header("content-type", "application/octet-stream");
    assert_eq!(Reply::to(nowhere.body(vec![7; 32])).await.refusal(), ProblemKind::MailboxUnknown);

    let good = upload(2, 3).encode();
    for bad in
        [&good[..0], &good[..7], &good[..8], &good[..9], &good[..good.len() - 1], &[&[0; 8], &good[8..]].concat()]
    {
        assert_eq!(put(&world, &bob, bad.to_vec()).await.refusal(), ProblemKind::BadRequest, "{}", bad.len());
    }
    assert_eq!(put(&world, &bob, vec![255; 8 + 138]).await.refusal(), ProblemKind::BadRequest, "too high a number");
    assert_eq!(put(&world, &bob, vec![1; MAX_PREKEY_UPLOAD + 1]).await.refusal(), ProblemKind::TooLarge);
    assert_eq!(stored(&world), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_a_mailbox_takes_its_supply_and_its_claims_along() {
    let world = World::start().await;
    let (bob, bystander) = (world.mailbox().await, world.mailbox().await);
    for by in [&bob, &bystander] {
        add(&world, by, &upload(1, 2)).await;
        claimed(&world, &by.id).await.unwrap();
    }
    let new = MailboxId(random());
    let mut grant = world.claims(&new, Purpose::Grant);
    grant.replaces = Some(bob.id);
    assert_eq!(world.open(&grant).await.status, 201);
    for table in ["prekey_supplies", "prekeys", "prekey_claims"] {
        assert_eq!(world.count(&format!("select count(*) from {table}")), 1, "{table}: the bystander's");
    }
    assert_eq!(claim(&world, &bob.id, &random::<32>()).await.refusal(), ProblemKind::MailboxUnknown);
    assert_eq!(put(&world, &bob, upload(2, 1).encode()).await.refusal(), ProblemKind::MailboxUnknown);
}
