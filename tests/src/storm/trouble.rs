//! Trouble between clients and servers: a request, or its answer, that is delayed, lost, cut in the middle, or delivered twice.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use crate::balancer::Between;

/// What befalls one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It waits before it is delivered.
    LateRequest,
    /// Its answer waits.
    LateAnswer,
    /// It is never delivered.
    LostRequest,
    /// Half of it is delivered, and the connection ends.
    CutRequest,
    /// The answer is never delivered.
    LostAnswer,
    /// Half of the answer is delivered.
    CutAnswer,
    /// It is delivered over two connections at once; one of the answers is.
    Twice,
    /// It is delivered again later, when the client is somewhere else; nobody gets that answer.
    Echo,
}

impl Trouble {
    /// All.
    pub const ALL: [Self; 8] = [
        Self::LateRequest,
        Self::LateAnswer,
        Self::LostRequest,
        Self::CutRequest,
        Self::LostAnswer,
        Self::CutAnswer,
        Self::Twice,
        Self::Echo,
    ];

    /// In words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::LateRequest => "late request",
            Self::LateAnswer => "late answer",
            Self::LostRequest => "lost request",
            Self::CutRequest => "cut request",
            Self::LostAnswer => "lost answer",
            Self::CutAnswer => "cut answer",
            Self::Twice => "twice at once",
            Self::Echo => "again later",
        }
    }
}

/// How long one end waits for the other.
const PATIENCE: Duration = Duration::from_secs(60);
/// The most that something is late, milliseconds.
const LATE: u64 = 1500;
/// The most that an echo is.
const LATER: u64 = 6000;
/// More than any request of ours.
const LONGEST: usize = 1 << 20;

/// Stands between clients and servers and makes trouble for some of the requests.
pub struct Weather {
    rng: Mutex<StdRng>,
    /// Of a thousand requests so many have trouble.
    share: AtomicUsize,
    made: [AtomicU64; Trouble::ALL.len()],
}

impl Weather {
    /// For so many of a thousand requests. What befalls which request depends on the order that they come in.
    pub fn new(seed: u64, share: usize) -> Self {
        let rng = Mutex::new(StdRng::seed_from_u64(seed));
        Self { rng, share: share.into(), made: Default::default() }
    }

    /// No more trouble.
    pub fn calm(&self) {
        self.share.store(0, Ordering::SeqCst);
    }

    /// How much of each was made.
    pub fn made(&self) -> impl Iterator<Item = (Trouble, u64)> {
        Trouble::ALL.into_iter().zip(self.made.iter().map(|made| made.load(Ordering::SeqCst)))
    }

    /// What befalls the next request, how late, and a coin for what else is to be decided.
    fn next(&self) -> Option<(Trouble, [Duration; 2], bool)> {
        let mut rng = self.rng.lock().unwrap();
        // Always as many draws.
        let (draw, trouble) = (rng.random_range(0..1000), *Trouble::ALL.choose(&mut rng).unwrap());
        let late = [LATE, LATER].map(|most| Duration::from_millis(rng.random_range(0..most)));
        let coin = rng.random_bool(0.5);
        if draw >= self.share.load(Ordering::SeqCst) {
            return None;
        }
        self.made[trouble as usize].fetch_add(1, Ordering::SeqCst);
        Some((trouble, late, coin))
    }
}

impl Between for Weather {
    /// One request and its answer: it is told that the connection ends with it.
    fn serve(&self, client: &TcpStream, connect: &dyn Fn() -> Option<TcpStream>) {
        drop(client.set_read_timeout(Some(PATIENCE)));
        let Some(request) = read_request(client) else { return };
        let trouble = self.next();
        let answer = match trouble {
            None => connect().and_then(|server| exchange(&server, &request)),
            Some((trouble, late, coin)) => troubled(trouble, late, coin, &request, connect),
        };
        let Some(answer) = answer else {
            drop(client.shutdown(Shutdown::Both));
            return;
        };
        // Whoever has hung up gets nothing.
        drop((&*client).write_all(&answer));
        drop(client.shutdown(Shutdown::Write));
        if let Some((Trouble::Echo, [_, later], _)) = trouble {
            thread::sleep(later);
            connect().and_then(|server| exchange(&server, &request));
        }
    }
}

/// The answer that the client gets, or the part of it.
fn troubled(
    trouble: Trouble,
    late: [Duration; 2],
    coin: bool,
    request: &[u8],
    connect: &dyn Fn() -> Option<TcpStream>,
) -> Option<Vec<u8>> {
    match trouble {
        Trouble::LostRequest => None,
        Trouble::LateRequest => {
            thread::sleep(late[0]);
            exchange(&connect()?, request)
        }
        Trouble::LateAnswer => {
            let answer = exchange(&connect()?, request);
            thread::sleep(late[0]);
            answer
        }
        Trouble::CutRequest => {
            let server = connect()?;
            drop((&server).write_all(&request[..request.len() / 2]));
            drop(server.shutdown(Shutdown::Both));
            None
        }
        Trouble::LostAnswer => {
            exchange(&connect()?, request);
            None
        }
        Trouble::CutAnswer => {
            let mut answer = exchange(&connect()?, request)?;
            answer.truncate(answer.len() / 2);
            Some(answer)
        }
        Trouble::Twice => {
            let (one, other) = (connect()?, connect()?);
            let answers = thread::scope(|scope| {
                let one = scope.spawn(|| exchange(&one, request));
                [exchange(&other, request), one.join().unwrap()]
            });
            let [first, second] = answers;
            if coin { first } else { second }
        }
        // The second time comes when the client has its answer.
        Trouble::Echo => exchange(&connect()?, request),
    }
}

/// The answer to a request, whole; `None` if the server said nothing.
fn exchange(server: &TcpStream, request: &[u8]) -> Option<Vec<u8>> {
    let mut server = server;
    server.set_read_timeout(Some(PATIENCE)).ok()?;
    server.write_all(request).ok()?;
    let mut answer = Vec::new();
    // Of a server that is killed in the middle the client gets what there is.
    drop(server.read_to_end(&mut answer));
    (!answer.is_empty()).then_some(answer)
}

/// One request of HTTP/1.1, which says now that it is the only one of its connection.
fn read_request(mut client: &TcpStream) -> Option<Vec<u8>> {
    let mut request = Vec::new();
    let mut buffer = [0; 16_384];
    loop {
        if let Some(head) = request.windows(4).position(|four| four == b"\r\n\r\n") {
            let text = std::str::from_utf8(&request[..head]).ok()?.to_ascii_lowercase();
            let field = |name: &str| text.split("\r\n").find_map(|line| line.strip_prefix(name)).map(str::trim);
            assert!(field("transfer-encoding:").is_none(), "a body of unknown length");
            let length: usize = field("content-length:").map_or(Some(0), |length| length.parse().ok())?;
            if request.len() >= head + 4 + length {
                let first = request.windows(2).position(|two| two == b"\r\n")?;
                request.splice(first..first, *b"\r\nconnection: close");
                return Some(request);
            }
        }
        match client.read(&mut buffer) {
            Ok(n @ 1..) if request.len() < LONGEST => request.extend_from_slice(&buffer[..n]),
            _ => return None,
        }
    }
}
