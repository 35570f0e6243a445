//! A proxy in front of PostgreSQL that cuts a connection around a commit: what the client saw, and what became of the
//! transaction, are then two things.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::{Server, TestDatabase};

/// Where the connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The server never hears of the commit.
    BeforeCommit,
    /// The server has committed; its answer is lost.
    AfterCommit,
}

impl Cut {
    /// Both.
    pub const ALL: [Self; 2] = [Self::BeforeCommit, Self::AfterCommit];
}

/// The proxy. It speaks to the server of this process.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    database: String,
    plan: Arc<Plan>,
}

/// What is still to be cut.
#[derive(Debug, Default)]
struct Plan {
    /// How many commits to let through first, and what then.
    next: Mutex<Option<(u32, Cut)>>,
    made: AtomicU32,
}

impl Plan {
    fn take(&self) -> Option<Cut> {
        let mut next = self.next.lock().unwrap();
        if let Some((before @ 1.., _)) = next.as_mut() {
            *before -= 1;
            return None;
        }
        let cut = next.take().map(|(_, cut)| cut);
        self.made.fetch_add(u32::from(cut.is_some()), Ordering::SeqCst);
        cut
    }
}

impl Proxy {
    /// In front of a database.
    pub fn start(database: &TestDatabase) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let socket = Server::shared().directory().join(".s.PGSQL.5432");
        let plan = Arc::new(Plan::default());
        let shared = Arc::clone(&plan);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = UnixStream::connect(&socket) else { continue };
                let connection = Arc::new(Link { client, server, cutting: Mutex::new(false) });
                let (up, down, plan) = (Arc::clone(&connection), connection, Arc::clone(&shared));
                thread::spawn(move || up.forward(&plan));
                thread::spawn(move || down.answer());
            }
        });
        Self { address, database: database.name().to_owned(), plan }
    }

    /// The URL of the database through the proxy.
    pub fn url(&self) -> String {
        format!("postgres://postern@{}/{}?sslmode=disable", self.address, self.database)
    }

    /// Cuts at a commit of a transaction that writes: the next one, or the one after so many more.
    pub fn cut_after(&self, commits: u32, cut: Cut) {
        *self.plan.next.lock().unwrap() = Some((commits, cut));
    }

    /// Cuts nothing any more.
    pub fn leave(&self) {
        *self.plan.next.lock().unwrap() = None;
    }

    /// How many connections were cut so far.
    pub fn cuts(&self) -> u32 {
        self.plan.made.load(Ordering::SeqCst)
    }
}

/// A client and its server.
struct Link {
    client: TcpStream,
    server: UnixStream,
    /// From now on answers are swallowed, and the first one ends the connection.
    cutting: Mutex<bool>,
}

impl Link {
    /// From the client to the server, message by message.
    fn forward(&self, plan: &Plan) {
        let mut writes = false;
        let mut first = true;
        while let Some(message) = read_message(&mut &self.client, first) {
            first = false;
            if let Some(sql) = simple_query(&message) {
                writes |= sql.starts_with("BEGIN") && sql.contains("READ WRITE");
                let commits = sql.ends_with("COMMIT");
                let cut = if writes && commits { plan.take() } else { None };
                writes &= !commits && !sql.starts_with("ROLLBACK");
                match cut {
                    Some(Cut::BeforeCommit) => break,
                    Some(Cut::AfterCommit) => *self.cutting.lock().unwrap() = true,
                    None => {}
                }
            }
            if (&self.server).write_all(&message).is_err() {
                break;
            }
        }
        self.end();
    }

    /// From the server to the client.
    fn answer(&self) {
        let mut buffer = [0; 16_384];
        while let Ok(n @ 1..) = (&self.server).read(&mut buffer) {
            // Held while it is written, so that nothing passes once the cut is decided.
            let cutting = self.cutting.lock().unwrap();
            if *cutting || (&self.client).write_all(&buffer[..n]).is_err() {
                break;
            }
        }
        self.end();
    }

    fn end(&self) {
        drop(self.client.shutdown(Shutdown::Both));
        drop(self.server.shutdown(Shutdown::Both));
    }
}

/// One message of the frontend protocol; the first one has no type byte.
fn read_message(from: &mut impl Read, first: bool) -> Option<Vec<u8>> {
    let mut message = vec![0; if first { 4 } else { 5 }];
    from.read_exact(&mut message).ok()?;
    let start = message.len() - 4;
    let length = u32::from_be_bytes(message[start..].try_into().unwrap()) as usize;
    let head = message.len();
    message.resize(start + length, 0);
    from.read_exact(&mut message[head..]).ok()?;
    Some(message)
}

/// The text of a simple query.
fn simple_query(message: &[u8]) -> Option<&str> {
    message.strip_prefix(b"Q").and_then(|rest| std::str::from_utf8(rest.get(4..)?.strip_suffix(b"\0")?).ok())
}
