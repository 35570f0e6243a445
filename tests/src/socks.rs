//! A SOCKS5 proxy (RFC 1928, 1929) that notes who asked for what: the place of Tor in tests.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// One connection through the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Circuit {
    /// User name and password: what Tor isolates circuits by.
    pub credentials: (String, String),
    /// Where it went.
    pub to: String,
}

/// A running proxy.
#[derive(Debug)]
pub struct Socks {
    /// As `--proxy` wants it.
    pub url: String,
    circuits: Arc<Mutex<Vec<Circuit>>>,
}

impl Socks {
    /// Starts it on a free port; it lives as long as the test.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("socks5h://{}", listener.local_addr().unwrap());
        let circuits = Arc::new(Mutex::new(Vec::new()));
        let log = circuits.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, log) = (stream.unwrap(), log.clone());
                std::thread::spawn(move || serve(stream, &log));
            }
        });
        Self { url, circuits }
    }

    /// All connections so far.
    pub fn circuits(&self) -> Vec<Circuit> {
        self.circuits.lock().unwrap().clone()
    }

    /// Those for anonymous requests.
    pub fn anonymous(&self) -> Vec<Circuit> {
        self.circuits().into_iter().filter(|circuit| !is_of_an_account(&circuit.credentials)).collect()
    }

    /// Those for requests that name the account.
    pub fn of_accounts(&self) -> Vec<Circuit> {
        self.circuits().into_iter().filter(|circuit| is_of_an_account(&circuit.credentials)).collect()
    }
}

/// Whether a request with these names the account: the client then ends the password with a dot and the server's name, for a circuit to
/// each server that is kept for a while.
pub fn is_of_an_account((_, password): &(String, String)) -> bool {
    password.contains('.')
}

fn bytes(stream: &mut TcpStream, n: usize) -> Vec<u8> {
    let mut out = vec![0; n];
    stream.read_exact(&mut out).unwrap();
    out
}

fn counted(stream: &mut TcpStream) -> String {
    let n = bytes(stream, 1)[0];
    String::from_utf8(bytes(stream, n.into())).unwrap()
}

fn serve(mut client: TcpStream, log: &Mutex<Vec<Circuit>>) {
    let methods = bytes(&mut client, 2)[1];
    let offered = bytes(&mut client, methods.into());
    assert!(offered.contains(&2), "the client offers no user name and password");
    client.write_all(&[5, 2]).unwrap();
    assert_eq!(bytes(&mut client, 1), [1]);
    let credentials = (counted(&mut client), counted(&mut client));
    client.write_all(&[1, 0]).unwrap();

    let request = bytes(&mut client, 4);
    let host = match request[3] {
        1 => bytes(&mut client, 4).iter().map(u8::to_string).collect::<Vec<_>>().join("."),
        3 => counted(&mut client),
        other => panic!("address type {other}"),
    };
    let port = u16::from_be_bytes(bytes(&mut client, 2).try_into().unwrap());
    if request[1] != 1 {
        // No such command, as proxies say that are not Tor.
        client.write_all(&[5, 7, 0, 1, 0, 0, 0, 0, 0, 0]).unwrap();
        return;
    }
    let to = format!("{host}:{port}");
    log.lock().unwrap().push(Circuit { credentials, to: to.clone() });
    let server = TcpStream::connect(&to).unwrap();
    client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).unwrap();
    let (up, down) = (pipe(&client, &server), pipe(&server, &client));
    up.join().unwrap();
    down.join().unwrap();
}

fn pipe(from: &TcpStream, to: &TcpStream) -> std::thread::JoinHandle<()> {
    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
    std::thread::spawn(move || {
        // Either end may hang up whenever it likes.
        drop(std::io::copy(&mut from, &mut to));
        drop(to.shutdown(Shutdown::Write));
    })
}
