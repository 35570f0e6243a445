//! Somebody tries to get more than five tokens, another's number, or into another's account.

use futures::future::join_all;
use postern_credentials::identity::IdentityKey;
use postern_credentials::login_chain::ClientLogin;
use postern_credentials::session;
use postern_protocol::ids::Base64;
use postern_protocol::login::{
    ACCOUNT_PATH, CHALLENGE_PATH, ChallengeResponse, JwtAudience, LOGIN_PATH, MAX_M, MIN_M, REVOKE_PATH, RevokeRequest,
    SESSIONS_PATH, SessionCall, Sessions,
};
use postern_protocol::problem::ProblemKind;
use postern_protocol::register::{CodeResponse, RegistrationResponse};
use postern_protocol::tokens::{
    BATCH_REQUEST_MEDIA_TYPE, BatchTokenRequest, BatchTokenResponse, REQUEST_MEDIA_TYPE, TOKEN_REQUEST_PATH,
    TokenRequest,
};
use postern_tests::http::post_json;
use postern_tests::{Actor, Reply, World, invariants, programs};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose, SanType};

async fn ask_tokens(actor: &Actor, jwt: &str, media_type: &str, body: Vec<u8>) -> Reply {
    let request = actor.http.post(actor.issuer(TOKEN_REQUEST_PATH)).bearer_auth(jwt);
    Reply::to(request.header("content-type", media_type).body(body)).await.unwrap()
}

fn single(actor: &mut Actor) -> TokenRequest {
    let truncated_token_key_id = actor.key.truncated_key_id();
    TokenRequest { truncated_token_key_id, blinded_msg: actor.blind(1)[0].message }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rest_of_the_five_by_every_route_at_once_is_never_a_sixth() {
    let mut world = World::start(programs!());
    let mut mallory = Actor::new(&world, "+41791232001").await;
    mallory.register(&world, 2).await;
    mallory.login().await;
    let jwt = mallory.jwt(JwtAudience::Issuer).await;
    let singles: Vec<_> = (0..24).map(|_| single(&mut mallory)).collect();
    let batches: Vec<_> = (0..12).map(|_| vec![single(&mut mallory), single(&mut mallory)]).collect();
    let by_single = join_all(singles.iter().map(|r| ask_tokens(&mallory, &jwt, REQUEST_MEDIA_TYPE, r.encode())));
    let by_batch = join_all(batches.iter().map(|b| {
        let body = BatchTokenRequest(b.clone()).encode().unwrap();
        ask_tokens(&mallory, &jwt, BATCH_REQUEST_MEDIA_TYPE, body)
    }));
    let (by_single, by_batch) = futures::future::join(by_single, by_batch).await;
    let mut signed = by_single.iter().filter(|r| r.status == 200).count();
    for reply in by_batch.iter().filter(|r| r.status == 200) {
        signed += BatchTokenResponse::decode(&reply.body).unwrap().0.iter().flatten().count();
    }
    assert_eq!(signed, 3);
    for refused in by_single.iter().chain(&by_batch).filter(|r| r.status != 200) {
        assert_eq!(refused.refusal(), ProblemKind::AllowanceExhausted);
    }
    // What was signed is signed again for whoever asks for the same, and counts once.
    for (request, reply) in singles.iter().zip(&by_single).filter(|(_, r)| r.status == 200) {
        let again = ask_tokens(&mallory, &jwt, REQUEST_MEDIA_TYPE, request.encode()).await;
        assert_eq!((again.status, &again.body), (200, &reply.body));
    }
    assert_eq!(world.issuer_db.int("select tokens_issued from accounts"), 5);
    invariants::assert_hold(&world);
    world.assert_healthy();
}

#[tokio::test(flavor = "multi_thread")]
async fn registering_again_gives_a_new_identity_and_no_new_tokens() {
    let world = World::start(programs!());
    let mut first = Actor::ready(&world, "+41791232002").await;
    let mut second = Actor::new(&world, "+41791232002").await;
    second.register(&world, 5).await;
    let account = second.account.clone().unwrap();
    assert!(account.blind_signatures.is_empty());
    assert_eq!(account.tokens_issued, 5);
    assert_ne!(account.mailbox, first.mailbox());
    // The old owner's sessions are over, and his mailbox closes when the new one opens.
    assert_eq!(first.call("GET", ACCOUNT_PATH, Vec::new()).await.refusal(), ProblemKind::Unauthorized);
    second.open_mailbox().await;
    let stranger = Actor::ready(&world, "+41791232003").await;
    let envelope = second.envelope(&first.mailbox(), "hello");
    let reply = stranger.send(&first.mailbox(), &stranger.tokens[0].token, &envelope).await;
    assert_eq!(reply.refusal(), ProblemKind::MailboxUnknown);
    // The refused send has not cost the token.
    assert_eq!(stranger.send(&second.mailbox(), &stranger.tokens[0].token, &envelope).await.status, 201);
    invariants::assert_hold(&world);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_registration_is_answered_alike_and_a_changed_one_is_refused() {
    let world = World::start(programs!());
    let mut alice = Actor::new(&world, "+41791232004").await;
    let request = alice.register(&world, 5).await;
    let account = alice.account.clone().unwrap();
    let replays = join_all((0..8).map(|_| alice.send_registration(&request))).await;
    for replay in replays {
        assert_eq!(replay.json::<RegistrationResponse>(), account);
    }
    let mut changed = request.clone();
    changed.tokens.blinded = alice.blind(5).iter().map(|b| b.message).collect();
    assert_eq!(alice.send_registration(&changed).await.refusal(), ProblemKind::RegistrationConflict);
    assert_eq!(world.issuer_db.int("select count(*) from accounts"), 1);
    invariants::assert_hold(&world);
}

#[tokio::test(flavor = "multi_thread")]
async fn six_blinded_messages_in_one_registration_are_refused_and_nothing_is_stored() {
    let world = World::start(programs!());
    let mut mallory = Actor::new(&world, "+41791232005").await;
    let cookie: CodeResponse = mallory.ask_code().await.json();
    let code = world.code_for("+41791232005").unwrap();
    let blinded = mallory.blind(6);
    let request = mallory.registration(cookie.cookie, code, &blinded);
    assert_eq!(mallory.send_registration(&request).await.status / 100, 4);
    // Five that are one and the same are not five.
    let mut same = request.clone();
    same.tokens.blinded = vec![request.tokens.blinded[0]; 5];
    assert_eq!(mallory.send_registration(&same).await.status / 100, 4);
    assert_eq!(world.issuer_db.int("select count(*) from accounts"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_cannot_be_guessed_beyond_five_tries_even_with_the_right_one_after() {
    let world = World::start(programs!());
    let mut mallory = Actor::new(&world, "+41791232006").await;
    let cookie: CodeResponse = mallory.ask_code().await.json();
    let right = world.code_for("+41791232006").unwrap();
    let blinded = mallory.blind(1);
    let mut request = mallory.registration(cookie.cookie, right.clone(), &blinded);
    for i in 0..5 {
        request.code = format!("{:06}", (right.parse::<u32>().unwrap() + 1 + i) % 1_000_000);
        assert_eq!(mallory.send_registration(&request).await.refusal(), ProblemKind::CodeWrong);
    }
    request.code = right;
    let refused = mallory.send_registration(&request).await;
    assert_eq!(refused.refusal(), ProblemKind::RateLimited);
    assert!(refused.problem().retry_after.is_some());
    assert_eq!(world.issuer_db.int("select count(*) from accounts"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_texted_to_one_number_is_worth_nothing_for_another() {
    let world = World::start(programs!());
    let mut mallory = Actor::new(&world, "+41791232007").await;
    let own: CodeResponse = mallory.ask_code().await.json();
    let code = world.code_for("+41791232007").unwrap();
    let victim = Actor::new(&world, "+41791232008").await;
    let blinded = mallory.blind(1);
    let mut request = mallory.registration(own.cookie, code.clone(), &blinded);
    request.phone = victim.phone.clone();
    assert_eq!(mallory.send_registration(&request).await.refusal(), ProblemKind::CookieInvalid);
    // A cookie for the victim's number without reading the victim's text.
    mallory.phone = victim.phone.clone();
    let theirs: CodeResponse = mallory.ask_code().await.json();
    request.cookie = theirs.cookie;
    if world.code_for("+41791232008").unwrap() != code {
        assert_eq!(mallory.send_registration(&request).await.refusal(), ProblemKind::CodeWrong);
    }
    // Somebody else's key in the certificate request.
    let right = world.code_for("+41791232008").unwrap();
    let other = Actor::new(&world, "+41791232008").await;
    request.code = right;
    request.certificate_request = Base64(postern_credentials::certificate::request(&other.identity).unwrap());
    assert_eq!(mallory.send_registration(&request).await.refusal(), ProblemKind::CertificateRequestInvalid);
    assert_eq!(world.issuer_db.int("select count(*) from accounts"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_to_one_number_are_capped_and_the_refusal_says_until_when() {
    let world = World::start(programs!());
    let alice = Actor::new(&world, "+41791232009").await;
    for _ in 0..5 {
        assert_eq!(alice.ask_code().await.status, 200);
    }
    let refused = alice.ask_code().await;
    assert_eq!(refused.refusal(), ProblemKind::TextLimit);
    assert!(refused.headers.contains_key("retry-after"));
    let texts = std::fs::read_to_string(&world.texts_file).unwrap();
    assert_eq!(texts.lines().count(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_and_an_unknown_user_get_the_same_answer() {
    let world = World::start(programs!());
    let mut alice = Actor::ready(&world, "+41791232010").await;
    let mut nobody = Actor::new(&world, "+41791232011").await;
    let wrong = alice.login_with("wrong").await.unwrap_err();
    let unknown = nobody.login_with("wrong").await.unwrap_err();
    assert_eq!((wrong.status, &wrong.body), (unknown.status, &unknown.body));
    assert_eq!(wrong.refusal(), ProblemKind::LoginRefused);
    let names = |r: &Reply| r.headers.keys().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(names(&wrong), names(&unknown));
    // A salt that changed from one question to the next would give the unknown away.
    let mut salts = Vec::new();
    for _ in 0..2 {
        let (request, _) = ClientLogin::begin(&mut nobody.rng, nobody.phone.clone());
        let reply = Reply::to(post_json(&nobody.http, &nobody.issuer(CHALLENGE_PATH), &request)).await.unwrap();
        salts.push(reply.json::<ChallengeResponse>().salt);
    }
    assert_eq!(salts[0], salts[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn guessing_a_password_is_bounded_and_live_sessions_go_on() {
    let world = World::start(programs!());
    let mut alice = Actor::ready(&world, "+41791232012").await;
    let mut mallory = Actor::new(&world, "+41791232012").await;
    // Ten in a quarter of an hour; twice that if one ends just now.
    let mut guesses = 0;
    while mallory.login_with(&format!("guess {guesses}")).await.unwrap_err().refusal() != ProblemKind::RateLimited {
        guesses += 1;
        assert!(guesses <= 20, "guessing goes on and on");
    }
    let right = alice.password.clone();
    assert_eq!(mallory.login_with(&right).await.unwrap_err().refusal(), ProblemKind::RateLimited);
    assert_eq!(alice.call("GET", ACCOUNT_PATH, Vec::new()).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_challenge_that_is_changed_on_the_way_is_not_answered() {
    let world = World::start(programs!());
    let mut alice = Actor::ready(&world, "+41791232013").await;
    let (request, _) = ClientLogin::begin(&mut alice.rng, alice.phone.clone());
    let reply = Reply::to(post_json(&alice.http, &alice.issuer(CHALLENGE_PATH), &request)).await.unwrap();
    let genuine: ChallengeResponse = reply.json();
    let mut small = genuine.clone();
    small.m = MIN_M - 1;
    let mut large = genuine.clone();
    large.m = MAX_M + 1;
    let mut moved = genuine.clone();
    moved.m += 1;
    let mut unsigned = genuine.clone();
    unsigned.signature.0 = [0; 64];
    for forged in [small, large, moved, unsigned] {
        let (_, login) = ClientLogin::begin(&mut alice.rng, alice.phone.clone());
        assert!(login.answer(&alice.info.name, &alice.info.public_key, &alice.password, &forged, "x").is_err());
    }
    // A genuine challenge, but for another ephemeral key.
    let (_, other) = ClientLogin::begin(&mut alice.rng, alice.phone.clone());
    assert!(other.answer(&alice.info.name, &alice.info.public_key, &alice.password, &genuine, "x").is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_works_once_however_often_it_is_sent() {
    let world = World::start(programs!());
    let mut alice = Actor::ready(&world, "+41791232014").await;
    let (request, login) = ClientLogin::begin(&mut alice.rng, alice.phone.clone());
    let reply = Reply::to(post_json(&alice.http, &alice.issuer(CHALLENGE_PATH), &request)).await.unwrap();
    let (answer, _) =
        login.answer(&alice.info.name, &alice.info.public_key, &alice.password, &reply.json(), "x").unwrap();
    let url = alice.issuer(LOGIN_PATH);
    let replies = join_all((0..16).map(|_| Reply::to(post_json(&alice.http, &url, &answer)))).await;
    let accepted = replies.iter().filter(|r| r.as_ref().unwrap().status == 200).count();
    assert_eq!(accepted, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_call_is_good_once_for_its_method_path_and_body() {
    let world = World::start(programs!());
    let mut alice = Actor::ready(&world, "+41791232015").await;
    let (id, key, seq) = alice.session.take().unwrap();
    let header = |seq: u64, method: &str, path: &str, body: &[u8]| {
        SessionCall { session: id, seq, mac: session::call_mac(&key, method, path, seq, body) }.to_string()
    };
    let get =
        |path: &str, header: String| Reply::to(alice.http.get(alice.issuer(path)).header("authorization", header));
    let signed = header(seq + 1, "GET", ACCOUNT_PATH, b"");
    // Turned to another path, or with a higher number, it is refused and the number is not used up.
    assert_eq!(get(SESSIONS_PATH, signed.clone()).await.unwrap().refusal(), ProblemKind::Unauthorized);
    let raised = signed.replace(&format!("seq={}", seq + 1), &format!("seq={}", seq + 9));
    assert_eq!(get(ACCOUNT_PATH, raised).await.unwrap().refusal(), ProblemKind::Unauthorized);
    let reply = get(ACCOUNT_PATH, signed.clone()).await.unwrap();
    assert_eq!(reply.status, 200);
    assert!(reply.headers.contains_key("postern-session-mac"));
    assert_eq!(get(ACCOUNT_PATH, signed).await.unwrap().refusal(), ProblemKind::CallReplayed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_session_is_over_and_others_are_not() {
    let world = World::start(programs!());
    let mut laptop = Actor::ready(&world, "+41791232016").await;
    let stolen = laptop.session.take().unwrap();
    laptop.login().await;
    let sessions: Sessions = laptop.call("GET", SESSIONS_PATH, Vec::new()).await.json();
    assert_eq!(sessions.sessions.len(), 2);
    assert_eq!(sessions.sessions.iter().filter(|s| s.current).count(), 1);
    let body = serde_json::to_vec(&RevokeRequest { session: stolen.0 }).unwrap();
    assert_eq!(laptop.call("POST", REVOKE_PATH, body).await.status, 204);
    let kept = laptop.session.replace(stolen).unwrap();
    assert_eq!(laptop.call("GET", ACCOUNT_PATH, Vec::new()).await.refusal(), ProblemKind::Unauthorized);
    laptop.session = Some(kept);
    assert_eq!(laptop.call("GET", ACCOUNT_PATH, Vec::new()).await.status, 200);
}

/// A PKCS#10 request, signed by the right key, that asks for more than a key: a CA, and somebody else's name.
fn greedy_request(identity: &IdentityKey, name: &str) -> Vec<u8> {
    // PKCS#8 of an Ed25519 seed (RFC 8410 §7).
    let frame = hex::decode("302e020100300506032b657004220420").unwrap();
    let pkcs8 = [frame.as_slice(), identity.seed()].concat();
    let key = KeyPair::try_from(pkcs8).unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.subject_alt_names = vec![SanType::URI(format!("tel:{name}").try_into().unwrap())];
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.serialize_request(&key).unwrap().der().to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_for_a_ca_or_another_name_gets_an_ordinary_certificate_of_the_verified_number() {
    let world = World::start(programs!());
    let mut mallory = Actor::new(&world, "+41791232017").await;
    let cookie: CodeResponse = mallory.ask_code().await.json();
    let code = world.code_for("+41791232017").unwrap();
    let blinded = mallory.blind(1);
    let mut request = mallory.registration(cookie.cookie, code, &blinded);
    request.certificate_request = Base64(greedy_request(&mallory.identity, "+41791239999"));
    let account: RegistrationResponse = mallory.send_registration(&request).await.json();

    let pem = |name: &str, der: &[u8]| {
        let file = world.dir.path().join(name);
        let convert =
            openssl(&["x509", "-inform", "DER", "-in", &write(&file, der), "-out", &format!("{}.pem", file.display())]);
        assert!(convert.status.success());
        format!("{}.pem", file.display())
    };
    let leaf = pem("leaf", &account.certificate.0);
    let ca = pem("ca", &mallory.info.ca_certificate.0);
    let text = String::from_utf8(openssl(&["x509", "-noout", "-text", "-in", &leaf]).stdout).unwrap();
    assert!(text.contains("+41791232017") && !text.contains("+41791239999"), "{text}");
    assert!(text.contains("CA:FALSE") && !text.contains("CA:TRUE") && !text.contains("Certificate Sign"), "{text}");
    let verified = openssl(&["verify", "-x509_strict", "-CAfile", &ca, &leaf]);
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
    let other = openssl(&["verify", "-x509_strict", "-CAfile", &leaf, &leaf]);
    assert!(!other.status.success(), "a certificate that verifies against anything proves nothing");
}

fn write(file: &std::path::Path, bytes: &[u8]) -> String {
    std::fs::write(file, bytes).unwrap();
    file.display().to_string()
}

fn openssl(args: &[&str]) -> std::process::Output {
    std::process::Command::new("openssl").args(args).output().expect("openssl is needed to check certificates")
}
