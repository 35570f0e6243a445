//! Everything that a server sees, says, logs and keeps.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, Once};

use axum::Router;
use axum::body::Body;
use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::serve::{IncomingStream, Listener};
use postern_protocol::time::{Clock, MockClock, Timestamp};
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags};
use tokio::net::{TcpListener, TcpStream};

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// The issuer.
    Issuer,
    /// The relay.
    Relay,
}

/// A request with its answer, as the server saw them.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// Whose.
    pub server: Server,
    /// When it came.
    pub at: Timestamp,
    /// Over which connection: they are counted.
    pub connection: u64,
    /// Method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Names and values, in order.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body.
    pub body: Vec<u8>,
    /// Status of the answer.
    pub status: u16,
    /// Names and values of the answer's headers.
    pub answer_headers: Vec<(String, Vec<u8>)>,
    /// The answer.
    pub answer: Vec<u8>,
    /// What both servers logged since the answer before.
    pub log: String,
}

impl Exchange {
    /// The value of a request's header, if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let value = self.headers.iter().find(|(there, _)| there == name).map(|(_, value)| value)?;
        std::str::from_utf8(value).ok()
    }
}

/// Where exchanges are written down, in order of arrival; both servers' in one list.
#[derive(Clone)]
pub struct Recorder {
    clock: Arc<MockClock>,
    exchanges: Arc<Mutex<Vec<Exchange>>>,
}

impl Recorder {
    /// An empty one. The process logs everything from now on.
    pub fn new(clock: Arc<MockClock>) -> Self {
        capture_logs();
        Self { clock, exchanges: Arc::default() }
    }

    /// Takes what there is.
    pub fn take(&self) -> Vec<Exchange> {
        std::mem::take(&mut self.exchanges.lock().unwrap())
    }

    /// Puts back, in front of what came since.
    pub fn put_back(&self, mut taken: Vec<Exchange>) {
        let mut exchanges = self.exchanges.lock().unwrap();
        taken.append(&mut exchanges);
        *exchanges = taken;
    }

    /// A router that records, around one that does not.
    pub fn around(&self, server: Server, inner: Router) -> Router {
        inner.layer(from_fn_with_state((server, self.clone()), record))
    }
}

async fn record(
    State((server, recorder)): State<(Server, Recorder)>,
    ConnectInfo(connection): ConnectInfo<Number>,
    request: Request,
    next: Next,
) -> Response {
    let at = recorder.clock.now();
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let (method, path) = (parts.method.to_string(), parts.uri.to_string());
    let headers = named(&parts.headers);
    let response = next.run(Request::from_parts(parts, Body::from(body.clone()))).await;
    let (parts, answer) = response.into_parts();
    let answer = axum::body::to_bytes(answer, usize::MAX).await.unwrap();
    recorder.exchanges.lock().unwrap().push(Exchange {
        server,
        at,
        connection: connection.0,
        method,
        path,
        headers,
        body: body.to_vec(),
        status: parts.status.as_u16(),
        answer_headers: named(&parts.headers),
        answer: answer.to_vec(),
        log: take_logs(),
    });
    Response::from_parts(parts, Body::from(answer))
}

fn named(headers: &axum::http::HeaderMap) -> Vec<(String, Vec<u8>)> {
    headers.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect()
}

/// Listens, and counts connections instead of naming ports, which are not the same twice.
pub struct Counting {
    listener: TcpListener,
    accepted: u64,
}

impl Counting {
    /// On a free port of this machine; its URL.
    pub async fn bind() -> (Self, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        (Self { listener, accepted: 0 }, url)
    }
}

impl Listener for Counting {
    type Io = TcpStream;
    type Addr = u64;

    async fn accept(&mut self) -> (TcpStream, u64) {
        let (stream, _) = Listener::accept(&mut self.listener).await;
        stream.set_nodelay(true).unwrap();
        self.accepted += 1;
        (stream, self.accepted)
    }

    fn local_addr(&self) -> io::Result<u64> {
        Ok(0)
    }
}

/// The number of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Number(u64);

impl Connected<IncomingStream<'_, Counting>> for Number {
    fn connect_info(stream: IncomingStream<'_, Counting>) -> Self {
        Self(*stream.remote_addr())
    }
}

/// Threads of servers have names that begin so; what other threads log is not the servers' to see.
pub const SERVER_THREAD: &str = "server";

static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct ServerLog;

impl io::Write for ServerLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let is_server = std::thread::current().name().is_some_and(|name| name.starts_with(SERVER_THREAD));
        if is_server {
            LOG.lock().unwrap().extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn capture_logs() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let format = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).without_time().with_ansi(false);
        format.with_writer(|| ServerLog).init();
    });
}

fn take_logs() -> String {
    String::from_utf8_lossy(&std::mem::take(&mut *LOG.lock().unwrap())).into_owned()
}

/// All rows of a database: by table and rowid, which is the order in which they were written.
pub type Rows = BTreeMap<(String, i64), Vec<Value>>;

/// Reads them.
pub fn rows(file: &Path) -> Rows {
    let db = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    db.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
    let mut names = db.prepare("select name from sqlite_schema where type = 'table' order by name").unwrap();
    let names: Vec<String> = names.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let mut all = Rows::new();
    for name in names {
        let mut statement = db.prepare(&format!("select rowid, * from \"{name}\"")).unwrap();
        let width = statement.column_count();
        let mut rows = statement.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let values = (1..width).map(|i| row.get(i).unwrap()).collect();
            all.insert((name.clone(), row.get(0).unwrap()), values);
        }
    }
    all
}

/// A row that was written, changed or dropped.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Its table.
    pub table: String,
    /// Its rowid.
    pub rowid: i64,
    /// What it was, if it was there.
    pub before: Option<Vec<Value>>,
    /// What it is, if it is there.
    pub after: Option<Vec<Value>>,
}

/// What is different, in order of table and rowid.
pub fn changes(before: &Rows, after: &Rows) -> Vec<Change> {
    let change = |(table, rowid): &(String, i64)| {
        let key = (table.clone(), *rowid);
        Change {
            table: table.clone(),
            rowid: *rowid,
            before: before.get(&key).cloned(),
            after: after.get(&key).cloned(),
        }
    };
    let changed = after.iter().filter(|(key, row)| before.get(*key) != Some(*row)).map(|(key, _)| change(key));
    let dropped = before.keys().filter(|key| !after.contains_key(*key)).map(change);
    changed.chain(dropped).collect()
}
