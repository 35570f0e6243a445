//! The two channels, over real sockets: what is refused, and that every anonymous request has a circuit of its own.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "in tests a panic is the report")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use postern_client::Error;
use postern_client::channel::{Anonymous, Authenticated, Network, Request, Route};
use postern_protocol::problem::ProblemKind;
use rand::SeedableRng;
use rand::rngs::StdRng;

fn quick() -> Network {
    Network { timeout: Duration::from_secs(5), attempts: 3, backoff: Duration::from_millis(1) }
}

fn rng() -> StdRng {
    StdRng::seed_from_u64(1)
}

/// Reads one request.
fn read_request(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    while !bytes.windows(4).any(|w| w == b"\r\n\r\n") {
        let n = stream.read(&mut buffer).unwrap();
        if n == 0 {
            break;
        }
        bytes.extend_from_slice(&buffer[..n]);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A server that answers the given answers in turn, one a connection; an empty one hangs up.
fn server(answers: Vec<String>) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    std::thread::spawn(move || {
        for (answer, stream) in answers.iter().zip(listener.incoming()) {
            let mut stream = stream.unwrap();
            let request = read_request(&mut stream);
            // Noted before it is answered, so that whoever has the answer finds the note.
            log.lock().unwrap().push(request);
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    (url, seen)
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn an_anonymous_request_off_loopback_is_refused_until_somebody_says_how() {
    let request = Request::get("https://relay.example", "/v1/relay").unwrap();
    let refused = Anonymous::new(Route::Unset, quick()).send(&mut rng(), &request).await;
    let error = refused.unwrap_err();
    assert!(matches!(error, Error::NotAnonymous { .. }));
    assert!(error.hint().unwrap().contains("socks5h://"));
    assert_eq!(error.exit_code(), 8);
}

#[tokio::test]
async fn secrets_do_not_cross_the_network_in_the_clear() {
    let request = Request::get("http://issuer.example", "/").unwrap();
    let direct = Authenticated::new(quick());
    assert!(matches!(direct.send_protected(&request).await, Err(Error::InsecureTransport { .. })));
    let anonymous = Anonymous::new(Route::Direct, quick());
    assert!(matches!(anonymous.send(&mut rng(), &request).await, Err(Error::InsecureTransport { .. })));
}

#[tokio::test]
async fn what_was_lost_on_the_way_is_sent_again_byte_for_byte() {
    let unavailable = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_owned();
    let (url, seen) = server(vec![String::new(), unavailable, ok("yes")]);
    let request = Request::post_json(&url, "/x", &"body").unwrap();
    let reply = Anonymous::new(Route::Unset, quick()).send(&mut rng(), &request).await.unwrap();
    assert_eq!(reply.body, b"yes");
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 3);
    assert!(seen.iter().all(|one| *one == seen[0]));
}

#[tokio::test]
async fn a_server_that_stays_away_is_a_network_error_without_the_path() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let request = Request::get(&url, "/v1/mailboxes/planted/card").unwrap();
    let error = Authenticated::new(quick()).send(&request).await.unwrap_err();
    assert!(matches!(error, Error::Network { .. }));
    assert!(!error.to_string().contains("planted"), "{error}");
}

#[tokio::test]
async fn refusals_are_not_repeated_and_are_read() {
    let body = r#"{"type":"urn:postern:problem:mailbox-full","title":"x","status":429}"#;
    let answer = format!(
        "HTTP/1.1 429 Too Many\r\ncontent-type: application/problem+json\r\nretry-after: 60\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    let (url, seen) = server(vec![answer, ok("")]);
    let reply = Authenticated::new(quick()).send(&Request::get(&url, "/").unwrap()).await.unwrap();
    let problem = reply.problem();
    assert_eq!(problem.known_kind(), Some(ProblemKind::MailboxFull));
    assert_eq!(problem.retry_after, Some(60));
    assert_eq!(seen.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn an_answer_longer_than_agreed_is_not_read_to_its_end() {
    let (url, _) = server(vec![ok(&"x".repeat(1000))]);
    let request = Request::get(&url, "/").unwrap().max_answer(999);
    assert!(matches!(Authenticated::new(quick()).send(&request).await, Err(Error::Misbehaved(_))));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let answer =
        "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    let (url, _) = server(vec![answer.to_owned()]);
    let reply =
        Anonymous::new(Route::Unset, quick()).send(&mut rng(), &Request::get(&url, "/").unwrap()).await.unwrap();
    assert_eq!(reply.status, 302);
}

#[tokio::test]
async fn two_anonymous_requests_have_two_connections_and_the_same_headers() {
    let (url, seen) = server(vec![ok("1"), ok("2")]);
    let anonymous = Anonymous::new(Route::Unset, quick());
    let mut rng = rng();
    for _ in 0..2 {
        anonymous.send(&mut rng, &Request::get(&url, "/x").unwrap()).await.unwrap();
    }
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0], seen[1]);
    assert!(seen[0].contains("user-agent: postern/1\r\n"));
    for header in ["cookie", "accept-language", "referer", "x-forwarded-for"] {
        assert!(!seen[0].to_lowercase().contains(header), "{header}");
    }
}

/// What a SOCKS5 client asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Asked {
    user: Vec<u8>,
    password: Vec<u8>,
    /// The domain name, if it was one (RFC 1928 §5, type 3).
    domain: Option<String>,
}

fn field(stream: &mut TcpStream) -> Vec<u8> {
    let mut length = [0];
    stream.read_exact(&mut length).unwrap();
    let mut bytes = vec![0; usize::from(length[0])];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

/// SOCKS5 (RFC 1928) with user name and password (RFC 1929), up to the request inside, which is left to be answered.
fn socks_session(stream: &mut TcpStream) -> Asked {
    let mut head = [0; 1];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(head, [5]);
    assert!(field(stream).contains(&2), "offers user name and password");
    stream.write_all(&[5, 2]).unwrap();
    stream.read_exact(&mut head).unwrap();
    let (user, password) = (field(stream), field(stream));
    stream.write_all(&[1, 0]).unwrap();
    let mut request = [0; 4];
    stream.read_exact(&mut request).unwrap();
    assert_eq!(request[..3], [5, 1, 0]);
    let domain = (request[3] == 3).then(|| String::from_utf8(field(stream)).unwrap());
    let mut rest = vec![0; if domain.is_some() { 2 } else { 6 }];
    stream.read_exact(&mut rest).unwrap();
    stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).unwrap();
    read_request(stream);
    Asked { user, password, domain }
}

#[tokio::test]
async fn each_request_through_the_proxy_has_its_own_credentials_and_names_are_looked_up_there() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = format!("socks5h://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let one = socks_session(&mut stream);
            log.lock().unwrap().push(one);
            stream.write_all(ok("through the proxy").as_bytes()).unwrap();
        }
    });
    let anonymous = Anonymous::new(Route::socks(&proxy).unwrap(), quick());
    let mut rng = rng();
    for _ in 0..2 {
        // A name that no resolver of this machine knows.
        let request = Request::get("http://relaynobodyelseknows.onion", "/v1/relay").unwrap();
        let reply = anonymous.send(&mut rng, &request).await.unwrap();
        assert_eq!(reply.body, b"through the proxy");
    }
    let asked = asked.lock().unwrap();
    assert_eq!(asked.len(), 2);
    assert!(asked.iter().all(|one| one.domain.as_deref() == Some("relaynobodyelseknows.onion")));
    assert!(asked.iter().all(|one| one.user.len() >= 16 && one.password.len() >= 16));
    assert_ne!(asked[0].user, asked[1].user);
    assert_ne!(asked[0].password, asked[1].password);
}

#[tokio::test]
async fn a_proxy_that_is_set_is_used_for_loopback_as_well() {
    let request = Request::get("http://127.0.0.1:9", "/").unwrap();
    let anonymous = Anonymous::new(Route::socks("socks5h://127.0.0.1:1").unwrap(), quick());
    assert!(matches!(anonymous.send(&mut rng(), &request).await, Err(Error::Network { .. })));
}
