//! The connection to PostgreSQL breaks just before and just after each commit of everything that an issuer does: nobody notices,
//! and nothing happens twice. Before, the commit was never done; after, it was, and its answer is lost.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail loudly")]

mod world;

use postern_issuer::service::{account, directory, housekeeping, keys, lookup};
use postern_protocol::directory::{LISTING_PATH, ListingRequest};
use postern_protocol::internal::{SIGN_PATH, SignRequest, SignResponse};
use postern_protocol::login::{
    ACCOUNT_PATH, Account, JwtAudience, REVOKE_PATH, RevokeRequest, SESSIONS_PATH, Sessions,
};
use postern_test_database::{Cut, Proxy};
use world::lookups::number;
use world::people::{batch_request, token_request};
use world::{Person, World};

/// Runs a flow with a cut at its first commit, at its second, and so on, until it has no more commits; both ways. The flow is told
/// its number.
async fn with_each_commit_cut(proxy: &Proxy, least: u32, flow: impl AsyncFn(u32)) {
    let mut n = 0;
    for cut in Cut::ALL {
        let before = proxy.cuts();
        for commit in 0.. {
            proxy.cut_after(commit, cut);
            flow(n).await;
            n += 1;
            if proxy.cuts() - before == commit {
                break;
            }
        }
        proxy.leave();
        assert!(proxy.cuts() - before >= least, "only {} commits were cut", proxy.cuts() - before);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_from_its_first_text_to_its_end() {
    let (world, proxy) = World::behind_proxy(|config| {
        config.limits.texts_per_day = 1_000_000;
        config.limits.login_guesses_per_minute = 1_000_000;
    })
    .await;
    with_each_commit_cut(&proxy, 15, async |n| whole_life(&world, n).await).await;
    let flows = world.query("select count(*) from accounts");
    // All were deleted, and each got its five tokens once, its two look-up tokens once, and spent them once.
    assert_eq!(world.query("select count(*) from accounts where state = 'deleted' and tokens_issued = 5"), flows);
    assert_eq!(world.query("select count(*) from issuances"), 5 * flows);
    assert_eq!(world.query("select sum(count) from key_counts"), 5 * flows);
    assert_eq!(world.query("select count(*) from lookup_allowance where issued = 2"), flows);
    assert_eq!(world.query("select sum(count) from lookup_issuances"), 2 * flows);
    assert_eq!(world.query("select count(*) from lookup_spent"), 2 * flows);
    assert_eq!(world.query("select count(*) from sessions"), 0);
    // A good password gives its guess back: what was counted twice on the way is all that is left, never less than nothing.
    assert_eq!(world.query("select count(*) from attempts where count < 0"), 0);
}

async fn whole_life(world: &World, n: u32) {
    let person = Person::new(world, n);
    let (_, tokens) = person.register(world, 2).await;
    assert_eq!(tokens.len(), 2);
    let mut session = person.login(world).await;
    let mut other = person.login(world).await;
    let jwt = session.jwt(world, JwtAudience::Issuer).await;
    let key = world.active_key().await;
    let rest = person.blind(world, &key, 3);
    let requests = rest.iter().map(|token| token_request(&key, token.message)).collect();
    assert_eq!(world.send(batch_request(&jwt, requests)).await.status, 200);
    let asked = world.ask(&world.lookup_tokens(&jwt, 2).await, &[number(n), number(n + 1)]);
    let reply = world.look_up(&asked.request).await;
    assert_eq!(asked.finish(&world.lookup_info().await.oprf_key, &reply).len(), 2);

    let listing = serde_json::to_vec(&ListingRequest { listed: false }).unwrap();
    assert_eq!(session.call(world, "PUT", LISTING_PATH, listing).await.status, 204);
    let shown: Account = session.call(world, "GET", ACCOUNT_PATH, Vec::new()).await.json();
    assert_eq!((shown.tokens_issued, shown.listed), (5, false));
    assert_eq!(session.allowance(world).await.issued, 2);
    let list: Sessions = session.call(world, "GET", SESSIONS_PATH, Vec::new()).await.json();
    assert_eq!(list.sessions.len(), 2);
    let revoke = |session| serde_json::to_vec(&RevokeRequest { session }).unwrap();
    let itself = revoke(other.id);
    assert_eq!(other.call(world, "POST", REVOKE_PATH, itself).await.status, 204);
    let mut third = person.login(world).await;
    assert_eq!(third.call(world, "POST", REVOKE_PATH, revoke(third.id)).await.status, 204);
    assert_eq!(session.call(world, "DELETE", ACCOUNT_PATH, Vec::new()).await.status, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blind_signature_for_a_relay() {
    let (world, proxy) = World::behind_proxy(|_| {}).await;
    let person = Person::new(&world, 0);
    person.register(&world, 5).await;
    let key = world.active_key().await;
    with_each_commit_cut(&proxy, 1, async |_| {
        let blinded = person.blind(&world, &key, 1).remove(0);
        let request = SignRequest { token_key_id: key.key_id(), blinded: blinded.message };
        let (reply, signed) = world.relay_call(SIGN_PATH, &request).await;
        assert!(signed);
        blinded.pending.finish(&key, &reply.json::<SignResponse>().blind_signature).unwrap();
    })
    .await;
    let signed = world.query("select count(*) from relay_exchanges");
    assert_eq!(world.query("select sum(count) from key_counts where relay <> ''"), signed);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_does() {
    let (world, proxy) = World::behind_proxy(|config| config.lookup.keep_builds = 100).await;
    with_each_commit_cut(&proxy, 8, async |n| {
        let (keys_before, epoch) = (world.query("select count(*) from token_keys"), lookup_epoch(&world));
        let person = Person::new(&world, n);
        person.register(&world, 0).await;
        // Not 64 live keys in the end.
        world.clock.advance_seconds(100);
        keys::rotate(&world.issuer, 50).await.unwrap();
        assert_eq!(world.query("select count(*) from token_keys"), keys_before + 1, "one rotation makes one key");
        assert_eq!(lookup::rotate(&world.issuer).await.unwrap(), epoch + 1);
        let build = directory::build(&world.issuer).await.unwrap();
        assert_eq!(build, Some(n + 1), "nobody else builds");
        assert!(account::revoke(&world.issuer, &person.phone).await.unwrap());
        world.clock.advance_seconds(100);
        housekeeping::once(&world.issuer).await.unwrap();
        assert_eq!(world.query("select count(*) from token_keys"), 1, "those that are over are gone");
    })
    .await;
    assert_eq!(
        world.query("select count(*) from accounts where state = 'revoked'"),
        world.query("select count(*) from accounts")
    );
    assert_eq!(world.query("select count(*) from directory_builds where state <> 'published'"), 0);
    assert_eq!(world.query("select count(*) - 1 - max(place) from key_log"), 0, "a log without gaps");
}

fn lookup_epoch(world: &World) -> u32 {
    u32::try_from(world.query("select coalesce(max(epoch), 1) from oprf_epochs")).unwrap()
}
