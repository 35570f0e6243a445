//! A packet capture of one port: who opens connections to it.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

use super::Machine;

/// A running capture, of all interfaces of a machine.
#[derive(Debug)]
pub struct Capture {
    tcpdump: Option<Child>,
    seen: Option<JoinHandle<BTreeSet<(Ipv4Addr, u16)>>>,
    report: Option<JoinHandle<String>>,
}

impl Capture {
    /// Sees every connection to this port from now on, whoever makes it and whether it succeeds or not.
    pub fn start(machine: &Machine, port: u16) -> Self {
        let opening = format!("tcp dst port {port} and tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn");
        let mut tcpdump = machine
            .command("tcpdump")
            .args(["-i", "any", "-n", "-l", "--immediate-mode", &opening])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (out, mut err) = (tcpdump.stdout.take().unwrap(), BufReader::new(tcpdump.stderr.take().unwrap()));
        let mut told = String::new();
        while !told.contains("listening on") {
            assert_ne!(err.read_line(&mut told).unwrap(), 0, "tcpdump: {told}");
        }
        let report = std::thread::spawn(move || {
            let mut told = String::new();
            err.read_to_string(&mut told).unwrap();
            told
        });
        // Through `lo` each packet is seen twice, going out and coming in.
        let seen = std::thread::spawn(move || {
            let lines = BufReader::new(out).lines().map(Result::unwrap);
            // At its end it writes an empty one.
            lines.filter(|line| !line.is_empty()).map(|line| source(&line)).collect()
        });
        Self { tcpdump: Some(tcpdump), seen: Some(seen), report: Some(report) }
    }

    /// The address that each connection came from.
    pub fn stop(mut self) -> Vec<Ipv4Addr> {
        let mut tcpdump = self.tcpdump.take().unwrap();
        // So that it tells what it had and what it lost.
        assert!(Command::new("kill").args(["-INT", &tcpdump.id().to_string()]).status().unwrap().success());
        let seen = self.seen.take().unwrap().join().unwrap();
        let report = self.report.take().unwrap().join().unwrap();
        tcpdump.wait().unwrap();
        assert!(report.contains("\n0 packets dropped by kernel"), "the capture has holes: {report}");
        seen.into_iter().map(|(address, _)| address).collect()
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        if let Some(mut tcpdump) = self.tcpdump.take() {
            drop(tcpdump.kill());
            drop(tcpdump.wait());
        }
    }
}

/// Address and port of the sender in a line like `18:00:00.000000 lo    In  IP 127.0.0.1.40000 > 127.0.0.1.8080: Flags [S], …`.
fn source(line: &str) -> (Ipv4Addr, u16) {
    let mut words = line.split(' ').skip_while(|word| *word != "IP").skip(1);
    let (address, port) = words.next().and_then(|word| word.rsplit_once('.')).unwrap_or_else(|| panic!("{line}"));
    (address.parse().unwrap(), port.parse().unwrap())
}
