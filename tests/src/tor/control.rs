//! What Tor tells of its streams over its control port (control-spec.txt of Tor, §4.1.2).

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// One connection through Tor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stream {
    /// What the client called itself.
    pub credentials: (String, String),
    /// Where it went, `host:port`.
    pub to: String,
    /// The circuits that it was on; none if it never got so far.
    pub circuits: BTreeSet<u64>,
}

/// A control connection.
#[derive(Debug)]
pub struct Control {
    connection: UnixStream,
    events: Arc<Mutex<Vec<String>>>,
    answers: Receiver<String>,
}

impl Control {
    /// Listens from now on.
    pub fn open(socket: &Path) -> Self {
        let connection = UnixStream::connect(socket).unwrap();
        let events = Arc::new(Mutex::new(Vec::new()));
        let (log, lines) = (events.clone(), BufReader::new(connection.try_clone().unwrap()).lines());
        let (sender, answers) = channel();
        std::thread::spawn(move || {
            // The connection ends with Tor.
            for line in lines.map_while(Result::ok) {
                if let Some(event) = line.strip_prefix("650 ") {
                    log.lock().unwrap().push(event.to_owned());
                } else if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let control = Self { connection, events, answers };
        for command in ["AUTHENTICATE", "SETEVENTS STREAM"] {
            control.ask(command);
        }
        control
    }

    fn ask(&self, command: &str) {
        (&self.connection).write_all(format!("{command}\r\n").as_bytes()).unwrap();
        let answer = self.answers.recv_timeout(Duration::from_secs(30)).unwrap();
        assert_eq!(answer, "250 OK", "{command}");
    }

    /// All streams of users so far, in the order that they came in.
    pub fn streams(&self) -> Vec<Stream> {
        // What was before the answer has been read by then.
        self.ask("SIGNAL HEARTBEAT");
        read(&self.events.lock().unwrap())
    }
}

fn read(events: &[String]) -> Vec<Stream> {
    let mut streams: BTreeMap<u64, Stream> = BTreeMap::new();
    for event in events {
        let words: Vec<&str> = event.split(' ').collect();
        let ["STREAM", id, status, circuit, to, ..] = words[..] else { continue };
        let id = id.parse().unwrap();
        let value = |key: &str| {
            let quoted = words.iter().find_map(|word| word.strip_prefix(key)).unwrap_or_default();
            quoted.trim_matches('"').to_owned()
        };
        if status == "NEW" && words.contains(&"PURPOSE=USER") {
            let credentials = (value("SOCKS_USERNAME="), value("SOCKS_PASSWORD="));
            streams.insert(id, Stream { credentials, to: to.to_owned(), circuits: BTreeSet::new() });
        }
        let circuit: u64 = circuit.parse().unwrap();
        if let Some(stream) = streams.get_mut(&id).filter(|_| circuit != 0) {
            stream.circuits.insert(circuit);
        }
    }
    streams.into_values().collect()
}
