use std::net::SocketAddr;

use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use super::*;

const LARGE: usize = 16 * 1024 * 1024;

struct Served {
    at: SocketAddr,
    stop: oneshot::Sender<()>,
    done: JoinHandle<()>,
}

impl Served {
    async fn start(bounds: Bounds) -> Self {
        Self::start_with(bounds, None).await
    }

    /// With TLS, and what knows it by its key.
    async fn start_tls(bounds: Bounds) -> (Self, TlsConnector) {
        let dir = tempfile::TempDir::new().unwrap();
        let now = postern_protocol::time::Timestamp::from_seconds(1_800_000_000);
        let mut made = postern_tls::make_self_signed(dir.path(), "https://127.0.0.1", now).unwrap();
        made.files.lie_in(dir.path());
        let client = postern_tls::client_config(&[made.pin]).unwrap();
        (Self::start_with(bounds, Some(&made.files)).await, TlsConnector::from(Arc::new(client)))
    }

    async fn start_with(bounds: Bounds, tls: Option<&postern_tls::TlsFiles>) -> Self {
        let router = Router::new()
            .route("/", get(|| async { "here" }))
            .route("/large", get(|| async { vec![b'x'; LARGE] }))
            .route("/slow", get(|| async { tokio::time::sleep(Duration::from_millis(500)).await }));
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), tls).await.unwrap();
        let at = listener.tcp.local_addr().unwrap();
        let (stop, told) = oneshot::channel();
        let done = tokio::spawn(serve(listener, router, bounds, async { drop(told.await) }));
        Self { at, stop, done }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.at).await.unwrap()
    }

    /// What comes back, until the server hangs up.
    async fn ask(&self, request: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        to_the_end(&mut stream).await
    }
}

async fn to_the_end(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut all = Vec::new();
    // Reset or closed: both are hanging up.
    drop(timeout(Duration::from_secs(20), stream.read_to_end(&mut all)).await.expect("it hangs up"));
    String::from_utf8_lossy(&all).into_owned()
}

/// As [`Served::ask`], over TLS.
async fn ask_over_tls(served: &Served, connector: &TlsConnector, request: &str) -> String {
    let name = "127.0.0.1".try_into().unwrap();
    let mut stream = connector.connect(name, served.connect().await).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    to_the_end(&mut stream).await
}

fn get_of(path: &str, more: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{more}\r\n")
}

fn bounds() -> Bounds {
    Bounds {
        connections: 100,
        idle: Duration::from_secs(30),
        slow_reader: Duration::from_secs(30),
        answer_bytes: 64 << 20,
    }
}

#[tokio::test]
async fn a_head_that_is_sent_slowly_is_cut_in_time_and_others_are_served_meanwhile() {
    let served = Served::start(Bounds { idle: Duration::from_secs(1), ..bounds() }).await;
    let (began, mut slow) = (Instant::now(), served.connect().await);
    let dripping = async {
        // Every byte comes soon after the one before; the head never ends.
        while slow.write_all(b"G").await.is_ok() && began.elapsed() < Duration::from_secs(10) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        began.elapsed()
    };
    let honest = async {
        for _ in 0..10 {
            assert!(served.ask(&get_of("/", "")).await.ends_with("here"));
        }
    };
    let (lasted, ()) = tokio::join!(dripping, honest);
    assert!(lasted >= Duration::from_secs(1) && lasted < Duration::from_secs(5), "{lasted:?}");
}

#[tokio::test]
async fn a_connection_that_says_nothing_and_one_that_has_said_it_are_closed_in_time() {
    let served = Served::start(Bounds { idle: Duration::from_secs(1), ..bounds() }).await;
    assert_eq!(to_the_end(&mut served.connect().await).await, "");
    let mut kept = served.connect().await;
    kept.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    assert!(to_the_end(&mut kept).await.ends_with("here"));
}

#[tokio::test]
async fn a_request_that_takes_longer_than_an_idle_connection_may_last_is_answered_and_then_its_connection_is_closed() {
    let served = Served::start(Bounds { idle: Duration::from_millis(100), ..bounds() }).await;
    assert!(served.ask(&get_of("/slow", "")).await.starts_with("HTTP/1.1 200"));
    let mut kept = served.connect().await;
    kept.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    assert!(to_the_end(&mut kept).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn idle_connections_give_their_place_up_to_one_that_asks_and_never_the_busy_ones() {
    let served = Served::start(Bounds { connections: 3, ..bounds() }).await;
    let mut busy = served.connect().await;
    busy.write_all(get_of("/slow", "").as_bytes()).await.unwrap();
    // It is busy once its head is read.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut idle = Vec::new();
    for _ in 0..20 {
        idle.push(served.connect().await);
    }
    assert!(served.ask(&get_of("/", "")).await.ends_with("here"));
    assert!(to_the_end(&mut busy).await.starts_with("HTTP/1.1 200"));
    assert_eq!(to_the_end(&mut idle[0]).await, "", "the one that was idle for longest");
}

#[tokio::test]
async fn when_all_places_have_something_to_answer_the_next_is_hung_up_on() {
    let served = Served::start(Bounds { connections: 2, ..bounds() }).await;
    let mut busy = [served.connect().await, served.connect().await];
    for stream in &mut busy {
        stream.write_all(get_of("/slow", "").as_bytes()).await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(served.ask(&get_of("/", "")).await, "");
    for stream in &mut busy {
        assert!(to_the_end(stream).await.starts_with("HTTP/1.1 200"));
    }
}

#[tokio::test]
async fn who_does_not_read_the_answer_is_cut_and_who_reads_it_slowly_enough_gets_all_of_it() {
    let served = Served::start(Bounds { slow_reader: Duration::from_secs(1), ..bounds() }).await;
    let mut never = served.connect().await;
    never.write_all(get_of("/large", "").as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(to_the_end(&mut never).await.len() < LARGE, "it was cut");
    let mut slow = served.connect().await;
    slow.write_all(get_of("/large", "").as_bytes()).await.unwrap();
    let (mut read, mut part, began) = (0, vec![0; 1 << 20], Instant::now());
    loop {
        match slow.read(&mut part).await.unwrap() {
            0 => break,
            n => read += n,
        }
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    assert!(read > LARGE && began.elapsed() > Duration::from_millis(600), "{read} in {:?}", began.elapsed());
}

#[tokio::test]
async fn large_answers_that_nobody_reads_have_a_bound_and_small_ones_are_given_meanwhile() {
    let served =
        Served::start(Bounds { answer_bytes: LARGE + 1000, slow_reader: Duration::from_secs(2), ..bounds() }).await;
    let mut unread = served.connect().await;
    unread.write_all(get_of("/large", "").as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let refused = served.ask(&get_of("/large", "")).await;
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("urn:postern:problem:unavailable"), "{refused}");
    assert!(served.ask(&get_of("/", "")).await.ends_with("here"));
    // Who does not read is cut, and there is room again.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(served.ask(&get_of("/large", "")).await.len() > LARGE);
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused_with_a_problem_document_and_a_longer_one_is_not_read() {
    let served = Served::start(bounds()).await;
    let long = |n: usize| get_of("/", &format!("x-long: {}\r\n", "y".repeat(n)));
    assert!(served.ask(&long(MAX_HEAD - 200)).await.ends_with("here"));
    let refused = served.ask(&long(MAX_HEAD)).await;
    assert!(refused.starts_with("HTTP/1.1 431") && refused.contains("urn:postern:problem:head-too-large"), "{refused}");
    let unread = served.ask(&long(READ_AHEAD * 4)).await;
    assert!(unread.is_empty() || unread.starts_with("HTTP/1.1 431"), "{unread}");
}

#[tokio::test]
async fn a_server_that_stops_answers_what_it_was_asked() {
    let served = Served::start(bounds()).await;
    let (mut busy, mut idle) = (served.connect().await, served.connect().await);
    busy.write_all(get_of("/slow", "").as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    served.stop.send(()).unwrap();
    assert!(to_the_end(&mut busy).await.starts_with("HTTP/1.1 200"));
    assert_eq!(to_the_end(&mut idle).await, "");
    timeout(Duration::from_secs(5), served.done).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_place_is_free_again_when_its_connection_is_over() {
    let seats = Arc::new(Seats::new(2));
    let (first, second) = (seats.take().unwrap(), seats.take().unwrap());
    let held = (first.watch().busy(), second.watch().busy());
    assert!(seats.take().is_none());
    drop(first);
    assert_eq!(seats.len(), 1);
    let third = seats.take().unwrap();
    drop((held, second, third));
    assert_eq!(seats.len(), 0);
}

#[tokio::test]
async fn an_endpoint_s_share_is_its_own() {
    let endpoints = Endpoints::new(1);
    let (one, other) = (endpoints.of("/one"), endpoints.of("/other"));
    let _taken = one.try_acquire().unwrap();
    assert!(endpoints.of("/one").try_acquire().is_err() && other.try_acquire().is_ok());
}

/// The beginning of a ClientHello that never ends.
const HALF_A_HELLO: &[u8] = &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];

#[tokio::test]
async fn a_handshake_that_is_slow_is_cut_in_time_and_others_are_served_meanwhile() {
    let (served, connector) = Served::start_tls(Bounds { idle: Duration::from_secs(1), ..bounds() }).await;
    let (began, mut slow, mut silent) = (Instant::now(), served.connect().await, served.connect().await);
    slow.write_all(HALF_A_HELLO).await.unwrap();
    let dripping = async {
        while slow.write_all(&[0]).await.is_ok() && began.elapsed() < Duration::from_secs(10) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        began.elapsed()
    };
    let honest = async {
        for _ in 0..10 {
            assert!(ask_over_tls(&served, &connector, &get_of("/", "")).await.ends_with("here"));
        }
    };
    let (lasted, ()) = tokio::join!(dripping, honest);
    assert!(lasted >= Duration::from_secs(1) && lasted < Duration::from_secs(5), "{lasted:?}");
    assert_eq!(to_the_end(&mut silent).await, "");
}

#[tokio::test]
async fn handshakes_that_go_on_for_ever_give_their_places_up_to_one_that_asks() {
    let (served, connector) = Served::start_tls(Bounds { connections: 3, ..bounds() }).await;
    let mut half = Vec::new();
    for _ in 0..20 {
        let mut stream = served.connect().await;
        stream.write_all(HALF_A_HELLO).await.unwrap();
        half.push(stream);
    }
    assert!(ask_over_tls(&served, &connector, &get_of("/", "")).await.ends_with("here"));
    assert_eq!(to_the_end(&mut half[0]).await, "");
}

#[tokio::test]
async fn who_does_not_read_the_answer_is_cut_with_tls_as_well() {
    let (served, connector) = Served::start_tls(Bounds { slow_reader: Duration::from_secs(1), ..bounds() }).await;
    let name = "127.0.0.1".try_into().unwrap();
    let mut never = connector.connect(name, served.connect().await).await.unwrap();
    never.write_all(get_of("/large", "").as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(to_the_end(&mut never).await.len() < LARGE, "it was cut");
    assert!(ask_over_tls(&served, &connector, &get_of("/large", "")).await.len() > LARGE);
}

#[tokio::test]
async fn a_server_that_stops_waits_for_no_handshake_and_answers_what_it_was_asked_over_tls() {
    let (served, connector) = Served::start_tls(bounds()).await;
    let mut half = served.connect().await;
    half.write_all(HALF_A_HELLO).await.unwrap();
    let name = "127.0.0.1".try_into().unwrap();
    let mut busy = connector.connect(name, served.connect().await).await.unwrap();
    busy.write_all(get_of("/slow", "").as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    served.stop.send(()).unwrap();
    assert!(to_the_end(&mut busy).await.starts_with("HTTP/1.1 200"));
    assert_eq!(to_the_end(&mut half).await, "");
    timeout(Duration::from_secs(5), served.done).await.unwrap().unwrap();
}
