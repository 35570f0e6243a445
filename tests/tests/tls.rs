//! TLS by the servers themselves (docs/tls.md): whoever has an address with a fingerprint in it talks to that server or to nobody, and a server
//! changes its certificate, or is stopped and started, without losing anything.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use postern_client::channel::{Anonymous, Network, Request, Route};
use postern_client::error::Error;
use postern_protocol::ids::{MailboxId, MessageId};
use postern_protocol::login::JwtAudience;
use postern_protocol::send::{Accepted, EVENTS_PATH, MESSAGES_PATH, Messages, RELAY_INFO_PATH};
use postern_protocol::server::ServerUrl;
use postern_tests::app::Circle;
use postern_tests::between::Between;
use postern_tests::http::client_for;
use postern_tests::socks::Socks;
use postern_tests::world::now;
use postern_tests::{Actor, Person, Reply, World, invariants, programs};
use postern_tls::{TlsFiles, WrongServer, make_self_signed, wrong_server};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};

/// What is long enough for anything here.
const PATIENCE: Duration = Duration::from_secs(20);
/// So many write at the same time …
const WRITERS: usize = 6;
/// … and so much each: what one registration has room for.
const TOKENS: usize = 40;

fn server(url: &str) -> ServerUrl {
    url.parse().unwrap()
}

/// The same address with another fingerprint, or none.
fn known_by(url: &str, other: Option<&str>) -> String {
    let bare = server(url).base().to_owned();
    let place = bare.strip_prefix("https://").unwrap();
    other.map_or_else(|| bare.clone(), |pin| format!("https://{pin}@{place}"))
}

fn pin_of(url: &str) -> String {
    server(url).pins()[0].to_string()
}

/// A certificate of its own making with its key, and its fingerprint.
fn another_certificate() -> (TempDir, TlsFiles, String) {
    let dir = TempDir::new().unwrap();
    let made = make_self_signed(dir.path(), "https://127.0.0.1", now()).unwrap();
    let mut files = made.files;
    files.lie_in(dir.path());
    (dir, files, made.pin.to_string())
}

/// Puts other files in the place of a server's.
fn replace(dir: &Path, files: &TlsFiles) {
    std::fs::copy(&files.key_file, dir.join("tls.key")).unwrap();
    std::fs::copy(&files.certificate_file, dir.join("tls.pem")).unwrap();
}

/// Waits until something is in a server's log so often.
async fn logged(world: &World, words: &str, times: usize) {
    let there = async {
        while world.relay.read_log().matches(words).count() < times {
            sleep(Duration::from_millis(20)).await;
        }
    };
    let found = timeout(PATIENCE, there).await;
    found.unwrap_or_else(|_| panic!("{words:?} is not in the log: {}", world.relay.read_log()));
}

/// An authority as a machine may trust it, and certificates for this machine that it signs.
struct Authority {
    dir: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let (dir, key) = (TempDir::new().unwrap(), KeyPair::generate().unwrap());
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        std::fs::write(dir.path().join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Self { dir, issuer: Issuer::new(params, key) }
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    fn signs(&self, name: &str, until: i32) -> TlsFiles {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(until, 1, 1));
        let key = KeyPair::generate().unwrap();
        let [certificate_file, key_file] = ["pem", "key"].map(|end| self.dir.path().join(format!("{name}.{end}")));
        std::fs::write(&certificate_file, params.signed_by(&key, &self.issuer).unwrap().pem()).unwrap();
        std::fs::write(&key_file, key.serialize_pem()).unwrap();
        assert!(Command::new("chmod").arg("600").arg(&key_file).status().unwrap().success());
        TlsFiles { certificate_file, key_file }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn people_write_to_each_other_over_tls_and_know_both_servers_by_their_keys() {
    let mut world = World::start_tls(programs!(), "", "");
    assert!(world.issuer_url.contains('@') && world.relay_url.contains('@'));
    // The whole flow: registration, first messages, releases, exchanges by way of relay and issuer, replies.
    let deeds = Circle::new(&world.programs, world.dir.path(), &world.place, 71).live(&AtomicBool::new(true), 1);
    assert!(deeds.returned >= 2 && deeds.replies >= 2, "{deeds:?}");

    // Through a proxy as well, and it is the proxy that goes to the relay.
    let [ann, ben] = [("ann", "+41791240001"), ("ben", "+41791240002")]
        .map(|(name, phone)| Person::new(&world.programs, world.dir.path(), name, phone));
    [&ann, &ben].iter().for_each(|person| person.register(&world.place));
    let socks = Socks::start();
    ann.ok(&["settings", "--proxy", &socks.url]);
    let card = ben.card();
    assert!(card.contains(&format!("relay={}&", world.relay_url)), "{card}");
    assert_eq!(ann.ok(&["send", &card, "hello"])["status"], "delivered");
    assert_eq!(ben.messages()[0]["text"], "hello");
    let relay = world.relay.address();
    assert!(socks.circuits().iter().any(|circuit| circuit.to == relay));

    invariants::assert_hold(&world);
    world.assert_healthy();
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_in_between_is_refused_before_a_byte_of_a_request_and_the_command_says_so() {
    let mut world = World::start_tls(programs!(), "", "");
    let (_dir, files, wrong_pin) = another_certificate();
    let impostor = Between::start("http://127.0.0.1:9", &files).await;
    let at = impostor.url.strip_prefix("https://").unwrap();

    // The command, on its way to an issuer.
    let eve = Person::new(&world.programs, world.dir.path(), "eve", "+41791240011");
    let address = format!("https://{}@{at}", pin_of(&world.issuer_url));
    let ran = eve.run(&["register", &eve.phone, "--issuer", &address, "--cheap-kdf"]);
    assert_eq!((ran.exit, &ran.json["error"]["code"]), (Some(12), &"wrong-server".into()), "{}", ran.json);
    let said = ran.json.to_string();
    assert!(said.contains("not who its address says: its key is not the one in its address"), "{said}");

    // The anonymous way, directly and through a proxy. It is not tried again.
    let socks = Socks::start();
    for route in [Route::Direct, Route::socks(&socks.url).unwrap()] {
        let anonymous = Anonymous::new(route, Network::default());
        let ask = |url: String| {
            let (anonymous, mut rng) = (anonymous.clone(), StdRng::seed_from_u64(1));
            async move { anonymous.send(&mut rng, &Request::get(&url, RELAY_INFO_PATH).unwrap()).await }
        };
        let refused = ask(format!("https://{}@{at}", pin_of(&world.relay_url))).await;
        assert!(matches!(refused, Err(Error::WrongServer { reason: WrongServer::Key, .. })), "{refused:?}");
        // Another server's fingerprint is as good as none, and none is not enough for a key that nobody signed.
        let refused = ask(known_by(&world.relay_url, Some(&pin_of(&world.issuer_url)))).await;
        assert!(matches!(refused, Err(Error::WrongServer { reason: WrongServer::Key, .. })), "{refused:?}");
        let refused = ask(known_by(&world.relay_url, None)).await;
        assert!(matches!(refused, Err(Error::WrongServer { reason: WrongServer::Issuer, .. })), "{refused:?}");
        assert_eq!(ask(world.relay_url.clone()).await.unwrap().status, 200);
    }
    assert_eq!(socks.circuits().len(), 4, "one for each, and none again");

    // A relay whose issuer is somebody else.
    world.relay.stop();
    let config = world.dir.path().join("relay/relay.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace(&world.issuer_url, &known_by(&world.issuer_url, Some(&wrong_pin)))).unwrap();
    world.relay.start();
    logged(&world, "the server at the issuer's address is not who the address says", 1).await;
    assert!(impostor.asked().is_empty(), "nothing was sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fingerprint_that_was_taken_out_of_a_link_comes_back_with_the_card() {
    let world = World::start_tls(programs!(), "", "");
    let [mut ann, ben] = [("ann", "+41791240021"), ("ben", "+41791240022")]
        .map(|(name, phone)| Person::new(&world.programs, world.dir.path(), name, phone));
    [&ann, &ben].iter().for_each(|person| person.register(&world.place));
    let authority = Authority::new();
    ann.environment.push(("SSL_CERT_FILE".into(), authority.file().display().to_string()));
    let bounds = |n: usize| format!("hello {n}");

    // Somebody in between whom an authority believes, one whose key is in the changed link, and one whose certificate is over.
    let trusted = Between::start(&world.relay_url, &authority.signs("between", 4000)).await;
    let (_dir, files, pin) = another_certificate();
    let pinned = Between::start(&world.relay_url, &files).await;
    let link = ben.card();
    let changed = [trusted.url.clone(), known_by(&pinned.url, Some(&pin))];
    for (n, url) in changed.iter().enumerate() {
        let link = link.replace(&world.relay_url, url);
        assert_eq!(ann.ok(&["send", &link, &bounds(n)])["status"], "delivered");
    }
    for between in [&trusted, &pinned] {
        let asked = between.asked();
        assert!(asked.iter().any(|request| request.starts_with("GET") && request.ends_with("/card")), "{asked:?}");
        assert!(!asked.iter().any(|request| request.starts_with("POST")), "no token, no message: {asked:?}");
    }
    let mut texts: Vec<_> = ben.messages().iter().map(|message| message["text"].clone()).collect();
    texts.sort_by_key(ToString::to_string);
    assert_eq!(texts, [bounds(0), bounds(1)]);

    // Without a fingerprint a certificate must be one that authorities vouch for, now.
    let expired = Between::start(&world.relay_url, &authority.signs("expired", 2021)).await;
    for (url, says) in [(&expired.url, "has expired"), (&known_by(&pinned.url, None), "from nobody whom")] {
        let ran = ann.run(&["send", &link.replace(&world.relay_url, url), "never"]);
        assert_eq!((ran.exit, &ran.json["error"]["code"]), (Some(12), &"wrong-server".into()), "{}", ran.json);
        assert!(ran.json.to_string().contains(says), "{}", ran.json);
    }
    assert!(expired.asked().is_empty());
}

/// Writes all of its tokens to somebody, one after the other; how often a request failed, and the messages that were confirmed.
async fn write_all(mut actor: Actor, to: MailboxId) -> (usize, Vec<Accepted>) {
    let (mut failed, mut confirmed) = (0, Vec::new());
    for token in std::mem::take(&mut actor.tokens) {
        let envelope = actor.envelope(&to, "hello");
        let reply = actor.send(&to, &token.token, &envelope).await;
        failed += reply.repeated as usize;
        confirmed.push(reply.json());
    }
    (failed, confirmed)
}

/// Somebody with many tokens, whose requests know the relay by these keys alone and have a connection each.
async fn writer(world: &World, n: usize, pins: &[&str]) -> Actor {
    let mut actor = Actor::new(&world.place, &format!("+417912501{n:02}")).await;
    actor.register(&world.place, TOKENS).await;
    let pins: Vec<_> = pins.iter().map(|pin| pin.parse().unwrap()).collect();
    let tls = postern_tls::client_config(&pins).unwrap();
    let builder = reqwest::Client::builder().tls_backend_preconfigured(tls).pool_max_idle_per_host(0);
    actor.http = builder.build().unwrap();
    actor
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_changes_under_load_and_no_request_fails() {
    let mut world = World::start_tls(programs!(), &format!("tokens_per_account = {TOKENS}"), "");
    let old_pin = pin_of(&world.relay_url);
    let ((_dirs, second, second_pin), relay_dir) = (another_certificate(), world.dir.path().join("relay"));
    let reader = Actor::ready(&world, "+41791250001").await;
    let to = reader.mailbox();
    let mut writers = Vec::new();
    for n in 0..WRITERS {
        writers.push(writer(&world, 10 + n, &[&old_pin, &second_pin]).await);
    }
    // Who knows the old key alone, on a connection that was there before.
    let (kept, [relay]) = client_for([&world.relay_url]);
    let info = format!("{relay}{RELAY_INFO_PATH}");
    assert_eq!(Reply::to(kept.get(&info)).await.unwrap().status, 200);

    let writing: Vec<_> = writers.into_iter().map(|writer| tokio::spawn(write_all(writer, to))).collect();
    // Half of a renewal, then junk: both are refused, and the old certificate goes on.
    std::fs::copy(&second.certificate_file, relay_dir.join("tls.pem")).unwrap();
    world.relay.signal("HUP");
    logged(&world, "the new certificate is not taken, the old one stays", 1).await;
    std::fs::write(relay_dir.join("tls.pem"), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
        .unwrap();
    world.relay.signal("HUP");
    logged(&world, "the new certificate is not taken, the old one stays", 2).await;
    let fresh = |pin: &str| {
        let (http, _) = client_for([known_by(&world.relay_url, Some(pin)).as_str()]);
        let request = http.get(&info);
        async move { request.send().await }
    };
    assert_eq!(fresh(&old_pin).await.unwrap().status(), 200);

    replace(&relay_dir, &second);
    world.relay.signal("HUP");
    logged(&world, "certificate and key were read again", 1).await;
    assert_eq!(fresh(&second_pin).await.unwrap().status(), 200, "new connections see it");
    let refused = fresh(&old_pin).await.unwrap_err();
    assert_eq!(wrong_server(&refused), Some(WrongServer::Key));
    assert_eq!(Reply::to(kept.get(&info)).await.unwrap().status, 200, "old connections go on");

    let mut confirmed = 0;
    for writing in writing {
        let (failed, messages) = writing.await.unwrap();
        assert_eq!(failed, 0);
        confirmed += messages.len();
    }
    assert_eq!(confirmed, WRITERS * TOKENS);
    invariants::assert_hold_with_more_tokens(&world);
    world.assert_healthy();
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_are_stopped_under_load_have_kept_all_that_they_confirmed_and_send_readers_home() {
    let mut world = World::start_tls(programs!(), &format!("tokens_per_account = {TOKENS}"), "");
    let mut reader = Actor::ready(&world, "+41791250051").await;
    let to = reader.mailbox();
    let pin = pin_of(&world.relay_url);
    let mut writing = Vec::new();
    for n in 0..WRITERS {
        let mut writer = writer(&world, 60 + n, &[&pin]).await;
        writer.patient = true;
        writing.push(writer);
    }
    // Readers who would wait for long: of a mailbox in which nothing comes.
    let mut idle = Actor::ready(&world, "+41791250052").await;
    let idle_jwt = idle.jwt(JwtAudience::Relay).await;
    let poll = idle.http.get(idle.relay(&format!("{MESSAGES_PATH}?wait=25"))).bearer_auth(&idle_jwt);
    let poll = tokio::spawn(async move {
        loop {
            let asked = Instant::now();
            // Whoever comes too late for one stop is there for the next.
            if let Ok(reply) = Reply::to(poll.try_clone().unwrap()).await {
                return (reply, asked.elapsed());
            }
            sleep(Duration::from_millis(20)).await;
        }
    });
    let events = idle.http.get(idle.relay(EVENTS_PATH)).bearer_auth(&idle_jwt).send().await.unwrap();
    let events = tokio::spawn(events.bytes());
    let writing: Vec<_> = writing.into_iter().map(|writer| tokio::spawn(write_all(writer, to))).collect();
    let place = world.place.clone();
    let registering = tokio::spawn(async move {
        for n in 0..6 {
            let mut newcomer = Actor::new(&place, &format!("+417912507{n:02}")).await;
            newcomer.patient = true;
            newcomer.register(&place, 20).await;
            assert_eq!(newcomer.tokens.len(), 20);
        }
    });
    let (mut failed, mut confirmed) = (0, Vec::new());
    for _ in 0..2 {
        sleep(Duration::from_millis(300)).await;
        let began = Instant::now();
        // By a thread: everybody goes on meanwhile.
        world = tokio::task::spawn_blocking(move || {
            world.relay.stop();
            world.issuer.stop();
            world
        })
        .await
        .unwrap();
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        world.issuer.start();
        world.relay.start();
    }
    registering.await.unwrap();
    let (polled, waited) = poll.await.unwrap();
    assert!(polled.json::<Messages>().messages.is_empty() && waited < PATIENCE, "sent home early: {waited:?}");
    assert!(timeout(PATIENCE, events).await.unwrap().unwrap().is_ok(), "a stream that ends as streams end");
    for writing in writing {
        let (again, messages) = writing.await.unwrap();
        failed += again;
        confirmed.extend(messages.into_iter().map(|accepted| accepted.message));
    }
    assert!(failed > 0, "it was down under load");
    assert_eq!(confirmed.len(), WRITERS * TOKENS);

    let found = reader.read_all().await;
    let sorted = |mut ids: Vec<MessageId>| {
        ids.sort();
        ids
    };
    assert_eq!(sorted(found), sorted(confirmed), "all that was confirmed, each once");
    invariants::assert_hold_with_more_tokens(&world);
    world.assert_healthy();
}

/// What `openssl s_client` says of a server.
fn openssl(at: &str, args: &[&str]) -> String {
    let output = Command::new("openssl")
        .args(["s_client", "-connect", at])
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("openssl is needed (on Debian: apt-get install openssl)");
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn openssl_sees_tls_1_3_and_1_2_with_http_1_1_and_2_and_nothing_older() {
    let mut world = World::start_tls(programs!(), "", "");
    for at in [world.issuer.address(), world.relay.address()] {
        for (version, name) in [("-tls1_3", "TLSv1.3"), ("-tls1_2", "TLSv1.2")] {
            for protocol in ["h2", "http/1.1"] {
                let said = openssl(&at, &[version, "-alpn", protocol]);
                assert!(said.contains(&format!("ALPN protocol: {protocol}")), "{said}");
                assert!(said.contains(&format!("New, {name}, Cipher is ")), "{said}");
            }
        }
        // Offered with all that is weak, so that it is the server that declines.
        let said = openssl(&at, &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]);
        assert!(said.contains("SSL alert number") && said.contains("Cipher is (NONE)"), "{said}");
    }
    // Who speaks plain HTTP to it, or junk, is hung up on; SIGHUP is no harm to it.
    for junk in [&b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"[..], &[0x16, 3, 1, 0xff, 0xff, 0, 0], &[0; 300]] {
        let mut stream = std::net::TcpStream::connect(world.relay.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(junk).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut said = Vec::new();
        drop(std::io::Read::read_to_end(&mut stream, &mut said));
        assert!(said.len() < 10, "an alert and no more: {said:?}");
    }
    world.assert_healthy();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_others_can_read_is_refused_and_sighup_ends_no_server_without_tls() {
    let mut world = World::start(programs!());
    for server in [&world.issuer, &world.relay] {
        server.signal("HUP");
    }
    let reader = Actor::new(&world.place, "+41791250091").await;
    assert_eq!(reader.ask(reader.http.get(reader.relay(RELAY_INFO_PATH))).await.status, 200);
    world.assert_healthy();

    let (_dir, files, _) = another_certificate();
    assert!(Command::new("chmod").arg("644").arg(&files.key_file).status().unwrap().success());
    for (server, name) in [(&world.issuer, "issuer"), (&world.relay, "relay")] {
        let config = world.dir.path().join(format!("{name}/{name}.toml"));
        let section =
            format!("\n[tls]\ncertificate_file = {:?}\nkey_file = {:?}\n", files.certificate_file, files.key_file);
        std::fs::write(&config, std::fs::read_to_string(&config).unwrap() + &section).unwrap();
        for command in ["check-config", "serve"] {
            let output = server.prepare(&[command]).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(!output.status.success() && said.contains("is open to others: chmod 600"), "{said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_s_own_authority_is_known_by_its_fingerprint() {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/tls.md")).unwrap();
    let mut blocks = page.split("```sh\n").map(|rest| rest.split("```").next().unwrap());
    let lines = blocks.find(|block| block.contains("identity.key")).unwrap();
    let lines = lines.replace("DNS:relay.example", "IP:127.0.0.1");
    let fingerprint = page.lines().find(|line| line.starts_with("openssl pkey -in tls.key")).unwrap();
    let fingerprint = fingerprint.replace("tls.key", "identity.key");
    let dir = TempDir::new().unwrap();
    let output = Command::new("sh")
        .args(["-e", "-c", &format!("{{ {lines} }} >&2\n{fingerprint}")])
        .current_dir(dir.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let pin = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    let [certificate_file, key_file] = ["tls.pem", "tls.key"].map(|name| dir.path().join(name));
    let between = Between::start("http://127.0.0.1:9", &TlsFiles { certificate_file, key_file }).await;
    let ask = |url: String| {
        let (http, [base]) = client_for([&url]);
        async move { http.get(base).send().await }
    };
    assert_eq!(ask(known_by(&between.url, Some(&pin))).await.unwrap().status(), 502);
    // It is for this name, not for whatever leads there.
    let elsewhere = known_by(&between.url, Some(&pin)).replace("127.0.0.1", "localhost");
    assert_eq!(wrong_server(&ask(elsewhere).await.unwrap_err()), Some(WrongServer::Name));
}
