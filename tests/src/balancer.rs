//! A plain balancer: each connection goes to the next server that takes it, and no server is told about any other. It can write down what
//! passes, and something else can stand in it.

use std::fmt;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// What stands between a client and the servers: gets the client's connection, and what makes one to the next server.
pub trait Between: Send + Sync {
    /// Serves one connection to its end.
    fn serve(&self, client: &TcpStream, connect: &dyn Fn() -> Option<TcpStream>);
}

/// A running balancer; it lives as long as the test.
#[derive(Clone)]
pub struct Balancer {
    /// Where it listens.
    pub address: String,
    servers: Arc<Mutex<Vec<String>>>,
    served: Arc<AtomicUsize>,
    /// What passed, if it is written down.
    passed: Option<Passed>,
    between: Arc<dyn Between>,
}

impl fmt::Debug for Balancer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Balancer").field("address", &self.address).finish_non_exhaustive()
    }
}

/// The bytes of each connection: what the client said, and what the server.
type Passed = Arc<Mutex<Vec<[Vec<u8>; 2]>>>;

impl Balancer {
    /// Starts it, with no servers yet.
    pub fn start() -> Self {
        Self::start_with(Arc::new(Pipe(None)))
    }

    /// Starts one that writes down every byte.
    pub fn start_tapped() -> Self {
        let passed = Passed::default();
        Self { passed: Some(passed.clone()), ..Self::start_with(Arc::new(Pipe(Some(passed)))) }
    }

    /// Starts one that something else stands in.
    pub fn start_with(between: Arc<dyn Between>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let balancer = Self {
            address: listener.local_addr().unwrap().to_string(),
            servers: Arc::default(),
            served: Arc::default(),
            passed: None,
            between,
        };
        let own = balancer.clone();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let own = own.clone();
                thread::spawn(move || own.between.serve(&client, &|| own.connect()));
            }
        });
        balancer
    }

    /// What passed so far, by connection: what the client said, and what the server. Empty if it is not written down.
    pub fn passed(&self) -> Vec<[Vec<u8>; 2]> {
        self.passed.as_ref().map(|passed| passed.lock().unwrap().clone()).unwrap_or_default()
    }

    /// One server more, `host:port`.
    pub fn add(&self, server: String) {
        self.servers.lock().unwrap().push(server);
    }

    /// How many connections were served.
    pub fn served(&self) -> usize {
        self.served.load(Ordering::SeqCst)
    }

    /// A connection to the next server that takes it.
    fn connect(&self) -> Option<TcpStream> {
        let turn = self.served.fetch_add(1, Ordering::SeqCst);
        let servers = self.servers.lock().unwrap().clone();
        (0..servers.len()).find_map(|n| TcpStream::connect(&servers[(turn + n) % servers.len()]).ok())
    }
}

/// Lets everything through, and writes it down if it is told where.
struct Pipe(Option<Passed>);

impl Between for Pipe {
    fn serve(&self, client: &TcpStream, connect: &dyn Fn() -> Option<TcpStream>) {
        let Some(server) = connect() else { return };
        let place = self.0.as_ref().map(|passed| {
            let mut passed = passed.lock().unwrap();
            passed.push(Default::default());
            passed.len() - 1
        });
        thread::scope(|scope| {
            scope.spawn(|| self.pipe(client, &server, place, 0));
            self.pipe(&server, client, place, 1);
        });
    }
}

impl Pipe {
    fn pipe(&self, mut from: &TcpStream, mut to: &TcpStream, place: Option<usize>, side: usize) {
        let mut buffer = vec![0; 64 * 1024];
        // Either end may hang up whenever it likes.
        while let Ok(n @ 1..) = from.read(&mut buffer) {
            // Before it goes on: who has the answer finds the request here.
            if let (Some(passed), Some(place)) = (&self.0, place) {
                passed.lock().unwrap()[place][side].extend_from_slice(&buffer[..n]);
            }
            if to.write_all(&buffer[..n]).is_err() {
                break;
            }
        }
        drop(to.shutdown(Shutdown::Write));
    }
}
