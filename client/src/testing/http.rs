//! A tiny HTTP server on a thread: one connection, one request, one answer, or none.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use postern_protocol::problem::{Problem, ProblemKind};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) authorization: String,
    pub(crate) body: Vec<u8>,
}

impl Asked {
    pub(crate) fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// What goes back.
pub(crate) struct Told {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
}

impl Told {
    pub(crate) fn bytes(status: u16, body: Vec<u8>) -> Self {
        Self { status, headers: Vec::new(), body }
    }

    pub(crate) fn json(status: u16, body: &impl Serialize) -> Self {
        Self::bytes(status, serde_json::to_vec(body).unwrap())
    }

    pub(crate) fn problem(kind: ProblemKind) -> Self {
        Self::problem_document(Problem::new(kind))
    }

    pub(crate) fn problem_document(problem: Problem) -> Self {
        let mut told = Self::json(problem.status, &problem);
        told.headers.push(("content-type", "application/problem+json".to_owned()));
        told
    }
}

/// What goes wrong with a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// The connection breaks before it is looked at.
    Before,
    /// It is done, and the answer is lost.
    After,
}

type Handler = dyn Fn(&Asked) -> Told + Send + Sync;

/// The running server; its log holds every request that was read.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) url: String,
    log: Arc<Mutex<Vec<Asked>>>,
    faults: Arc<Mutex<Vec<(String, Fault)>>>,
}

impl Server {
    /// Binds and serves until the test ends.
    pub(crate) fn start(handler: impl FnOnce(&str) -> Box<Handler>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let handler = handler(&url);
        let server = Self { url, log: Arc::default(), faults: Arc::default() };
        let shared = server.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                shared.serve(&mut stream.unwrap(), &*handler);
            }
        });
        server
    }

    /// The next request whose path contains `path` meets this fault.
    pub(crate) fn fail_next(&self, path: &str, fault: Fault) {
        self.faults.lock().unwrap().push((path.to_owned(), fault));
    }

    /// Every request with this in its path.
    pub(crate) fn asked(&self, path: &str) -> Vec<Asked> {
        self.log.lock().unwrap().iter().filter(|asked| asked.path.contains(path)).cloned().collect()
    }

    fn serve(&self, stream: &mut TcpStream, handler: &Handler) {
        // The client keeps its direct connections open; we do not.
        let Some(asked) = read(stream) else { return };
        self.log.lock().unwrap().push(asked.clone());
        let fault = {
            let mut faults = self.faults.lock().unwrap();
            let at = faults.iter().position(|(path, _)| asked.path.contains(path.as_str()));
            at.map(|at| faults.remove(at).1)
        };
        if fault == Some(Fault::Before) {
            return;
        }
        let told = handler(&asked);
        if fault == Some(Fault::After) {
            return;
        }
        let mut head =
            format!("HTTP/1.1 {} X\r\nconnection: close\r\ncontent-length: {}\r\n", told.status, told.body.len());
        for (name, value) in &told.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        drop(stream.write_all(&[head.as_bytes(), &told.body].concat()));
    }
}

fn read(stream: &TcpStream) -> Option<Asked> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut parts = line.split(' ');
    let (method, path) = (parts.next()?.to_owned(), parts.next()?.to_owned());
    let (mut length, mut authorization) = (0, String::new());
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim_end().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().ok()?,
            "authorization" => value.clone_into(&mut authorization),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Asked { method, path, authorization, body })
}
