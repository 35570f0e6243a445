//! A plain balancer: each connection goes to the next server that takes it, and no server is told about any other.

use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// A running balancer; it lives as long as the test.
#[derive(Clone, Debug)]
pub struct Balancer {
    /// Where it listens.
    pub address: String,
    servers: Arc<Mutex<Vec<String>>>,
    served: Arc<AtomicUsize>,
}

impl Balancer {
    /// Starts it, with no servers yet.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let balancer = Self {
            address: listener.local_addr().unwrap().to_string(),
            servers: Arc::default(),
            served: Arc::default(),
        };
        let own = balancer.clone();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let own = own.clone();
                thread::spawn(move || own.serve(&client));
            }
        });
        balancer
    }

    /// One server more, `host:port`.
    pub fn add(&self, server: String) {
        self.servers.lock().unwrap().push(server);
    }

    /// How many connections were served.
    pub fn served(&self) -> usize {
        self.served.load(Ordering::SeqCst)
    }

    fn serve(&self, client: &TcpStream) {
        let turn = self.served.fetch_add(1, Ordering::SeqCst);
        let servers = self.servers.lock().unwrap().clone();
        let found = (0..servers.len()).find_map(|n| TcpStream::connect(&servers[(turn + n) % servers.len()]).ok());
        let Some(server) = found else { return };
        thread::scope(|scope| {
            scope.spawn(|| pipe(client, &server));
            pipe(&server, client);
        });
    }
}

fn pipe(mut from: &TcpStream, mut to: &TcpStream) {
    // Either end may hang up whenever it likes.
    drop(std::io::copy(&mut from, &mut to));
    drop(to.shutdown(Shutdown::Write));
}
