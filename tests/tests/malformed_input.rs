//! Truncated, oversized and bit-flipped requests on every endpoint: refused with a problem document, nothing stored, no panic.

use postern_protocol::exchange::EXCHANGE_PATH;
use postern_protocol::login::{ACCOUNT_PATH, CHALLENGE_PATH, LOGIN_PATH, SESSIONS_PATH};
use postern_protocol::lookup::LOOKUP_PATH;
use postern_protocol::prekeys::OWN_PREKEYS_PATH;
use postern_protocol::register::{CODE_PATH, REGISTRATION_PATH};
use postern_protocol::release::{ACK_PATH, DECLINE_PATH, RELEASE_PATH, SPAM_PATH};
use postern_protocol::reply::{REPLY_KEYS_PATH, REPLY_SCHEME, REVEALS_PATH, STRIKES_PATH};
use postern_protocol::send::{EVENTS_PATH, MAILBOXES_PATH, MESSAGES_PATH, OWN_CARD_PATH};
use postern_protocol::tokens::TOKEN_REQUEST_PATH;
use postern_tests::replies::LONG_EPOCHS;
use postern_tests::tables::Table;
use postern_tests::{Reply, World, programs, requests};

/// All rows of all tables, but for those that are there to be written by junk: counters of attempts, and the nonces that a
/// wrong guess uses up; and who keeps house, which is said anew all the time.
fn stored(world: &World) -> Vec<Table> {
    let kept = |table: &Table| !["attempts", "login_nonces", "leases"].contains(&table.name.as_str());
    world.issuer_db.tables().into_iter().chain(world.relay_db.tables()).filter(kept).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_body_is_refused_everywhere_and_nothing_is_stored() {
    let mut world = World::start_with(programs!(), "", LONG_EPOCHS);
    let (alice, requests) = requests::all(&world).await;
    let before = stored(&world);
    for request in requests.iter().filter(|request| !request.body.is_empty()) {
        let n = request.body.len();
        for cut in [0, 1, 2, n / 3, n / 2, n.saturating_sub(2), n - 1].into_iter().filter(|cut| *cut < n) {
            // A card has no form of its own that a cut could hurt, and an empty object has no shorter form but the cut ones.
            if request.url.ends_with(OWN_CARD_PATH) && cut > 0 {
                continue;
            }
            let reply = request.with_body(request.body[..cut].to_vec()).send(&alice.http).await.unwrap();
            assert_eq!(reply.status / 100, 4, "{} {} cut to {cut}", request.method, request.url);
            reply.problem();
            assert!(stored(&world) == before, "{} cut to {cut} stored something", request.url);
        }
    }
    world.assert_healthy();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_oversized_body_is_refused_everywhere_and_nothing_is_stored() {
    let mut world = World::start_with(programs!(), "", LONG_EPOCHS);
    let (alice, requests) = requests::all(&world).await;
    let before = stored(&world);
    for request in &requests {
        let mut body = request.body.clone();
        body.resize(4 << 20, b' ');
        // A server may hang up on a body it will not read: then there is no answer to look at.
        if let Ok(reply) = request.with_body(body).send(&alice.http).await {
            assert_eq!(reply.status / 100, 4, "{} {}", request.method, request.url);
            reply.problem();
        }
        assert!(stored(&world) == before, "{} stored something", request.url);
    }
    world.assert_healthy();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_is_refused_or_harmless_and_never_an_error_of_the_server() {
    let mut world = World::start_with(programs!(), "code_tries = 100\nlogin_guesses_per_user = 100000", LONG_EPOCHS);
    let (alice, requests) = requests::all(&world).await;
    for request in &requests {
        // What a flip can turn into another well-formed request: a new key, another number, another envelope or card. But a
        // reply's presentation covers its envelope.
        let open = [CODE_PATH, CHALLENGE_PATH, OWN_CARD_PATH, "/messages"];
        let is_reply = request.authorization.as_ref().is_some_and(|value| value.starts_with(REPLY_SCHEME));
        if !is_reply && open.iter().any(|path| request.url.ends_with(path)) {
            continue;
        }
        let mut before = stored(&world);
        let step = (request.body.len() / 60).max(1);
        for position in (0..request.body.len()).step_by(step) {
            let mut body = request.body.clone();
            body[position] ^= 1 << (position % 7);
            let reply = request.with_body(body).send(&alice.http).await.unwrap();
            if reply.status / 100 == 4 {
                reply.problem();
                assert!(stored(&world) == before, "{} flipped at {position} stored something", request.url);
            } else {
                // A blinded message with a flipped bit is another blinded message; a message id is another id; so are a
                // salt, a verifier and a label, a nullifier, a seed, a blinded number, and a group secret of a version not declared yet;
                // so are a sealed prekey, the number of a batch above the last, and a claim.
                let free = [
                    TOKEN_REQUEST_PATH,
                    ACK_PATH,
                    RELEASE_PATH,
                    DECLINE_PATH,
                    SPAM_PATH,
                    LOGIN_PATH,
                    REGISTRATION_PATH,
                    LOOKUP_PATH,
                    EXCHANGE_PATH,
                    REPLY_KEYS_PATH,
                    STRIKES_PATH,
                    REVEALS_PATH,
                    OWN_PREKEYS_PATH,
                    "/prekey",
                ];
                let allowed = free.iter().any(|path| request.url.ends_with(path));
                assert!(reply.status < 300 && allowed, "{} flipped at {position}: {}", request.url, reply.status);
                before = stored(&world);
            }
        }
    }
    world.assert_healthy();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_credential_opens_nothing() {
    let mut world = World::start_with(programs!(), "", LONG_EPOCHS);
    let (alice, requests) = requests::all(&world).await;
    let before = stored(&world);
    for request in requests.iter().filter(|r| r.authorization.is_some()) {
        let good = request.authorization.clone().unwrap();
        let step = (good.len() / 40).max(1);
        let mut damaged: Vec<Option<String>> =
            (0..good.len()).step_by(step).map(|n| Some(good[..n].to_owned())).collect();
        damaged.push(None);
        damaged.push(Some(format!("{good}A")));
        damaged.push(Some("Bearer ".repeat(500)));
        for credential in damaged {
            let mut request = request.with_body(request.body.clone());
            request.authorization = credential;
            let reply = request.send(&alice.http).await.unwrap();
            assert_eq!(reply.status / 100, 4, "{}", request.url);
            reply.problem();
        }
    }
    assert!(stored(&world) == before);
    world.assert_healthy();
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_paths_wrong_methods_and_wrong_media_types_are_problem_documents() {
    let mut world = World::start_with(programs!(), "", LONG_EPOCHS);
    let (alice, requests) = requests::all(&world).await;
    for base in [&world.issuer_url, &world.relay_url] {
        for path in
            ["/", "/v2/issuer", "/v1/%00", "/v1/mailboxes/short/messages", "/v1/mailboxes/%ff/card", "/internal/v1/x"]
        {
            let reply = Reply::to(alice.http.get(format!("{base}{path}"))).await.unwrap();
            assert_eq!(reply.status / 100, 4, "{base}{path}");
            reply.problem();
        }
    }
    for request in &requests {
        let mut other = request.with_body(request.body.clone());
        other.method = "PATCH";
        other.send(&alice.http).await.unwrap().problem();
        if request.body.is_empty() {
            continue;
        }
        let mut other = request.with_body(request.body.clone());
        other.content_type = Some("text/plain");
        let reply = other.send(&alice.http).await.unwrap();
        assert_eq!(reply.status / 100, 4, "{} as text/plain", request.url);
        reply.problem();
    }
    for path in [MESSAGES_PATH, EVENTS_PATH, MAILBOXES_PATH] {
        Reply::to(alice.http.get(alice.relay(path))).await.unwrap().problem();
    }
    for path in [SESSIONS_PATH, ACCOUNT_PATH] {
        Reply::to(alice.http.get(alice.issuer(path))).await.unwrap().problem();
    }
    world.assert_healthy();
}
