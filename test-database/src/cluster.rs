//! Three PostgreSQL under Patroni and etcd behind HAProxy, with a synchronous standby always: what an operator runs who must not lose an
//! acknowledged commit with a machine (docs/scaling.md). Nodes are killed, -9, and brought back; nothing survives the test's process.

mod config;

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::Duration;

use crate::TestDatabase;
use crate::host::{Owner, free_port, postgres_binaries, program};
use crate::processes::{kill_in, start_reaper};
use crate::server::USER;
use config::Ports;

/// Its nodes.
pub const NODES: usize = 3;

/// How long anything may take, in looks.
const LOOKS: u32 = 600;
const PAUSE: Duration = Duration::from_millis(200);

/// What is killed of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Everything, as if the machine had lost its power.
    Machine,
    /// Patroni alone: PostgreSQL goes on, and nobody tells it that another leads.
    Patroni,
}

/// A running cluster; it ends when it is dropped, or when its process does.
#[derive(Debug)]
pub struct Cluster {
    directory: PathBuf,
    owner: Owner,
    nodes: Vec<Node>,
    /// HAProxy's port.
    port: u16,
    /// etcd and HAProxy, with the reaper at the end.
    others: Vec<Child>,
    reaper: Child,
}

#[derive(Debug)]
struct Node {
    ports: Ports,
    directory: PathBuf,
    patroni: Option<Child>,
}

impl Cluster {
    /// Starts it and waits until it is whole.
    pub fn start() -> Self {
        let [patroni, etcd, haproxy] = [("patroni", "patroni"), ("etcd", "etcd-server"), ("haproxy", "haproxy")]
            .map(|(name, of)| program(name, of));
        let binaries = postgres_binaries();
        let directory = tempfile::Builder::new().prefix("postern-cluster-").tempdir().unwrap().keep();
        let directory = directory.canonicalize().unwrap();
        let owner = Owner::of(&directory);
        let reaper = start_reaper(&directory);
        let (port, etcd_port) = (free_port(), free_port());
        let nodes = (0..NODES).map(|i| {
            let ports = Ports { postgres: free_port(), rest: free_port() };
            let directory = directory.join(format!("node{i}"));
            owner.make_directory(&directory);
            let text = config::patroni(&format!("node{i}"), ports, etcd_port, &binaries, &directory.join("data"));
            owner.write(&directory.join("patroni.yml"), &text);
            Node { ports, directory, patroni: None }
        });
        let nodes: Vec<_> = nodes.collect();
        let mut cluster = Self { directory, owner, nodes, port, others: Vec::new(), reaper };
        cluster.start_etcd(&etcd, etcd_port);
        for node in 0..NODES {
            cluster.start_node(node, &patroni);
        }
        let ports: Vec<_> = cluster.nodes.iter().map(|node| node.ports).collect();
        let file = cluster.directory.join("haproxy.cfg");
        owner.write(&file, &config::haproxy(port, &ports));
        // `-db`: in the foreground.
        let child = cluster.run(&haproxy, "haproxy", |command| command.arg("-db").arg("-f").arg(&file));
        cluster.others.push(child);
        cluster.wait_until_whole();
        cluster
    }

    /// A fresh database of it, by way of HAProxy.
    pub fn database(&self, name: &str) -> TestDatabase {
        TestDatabase::at(format!("postgres://{USER}@127.0.0.1:{}", self.port), name)
    }

    /// The node that leads, if one does: Patroni says so and PostgreSQL takes writes.
    pub fn leader(&self) -> Option<usize> {
        let mut leaders = (0..NODES).filter(|node| self.says(*node, "/primary"));
        leaders.next().filter(|_| leaders.next().is_none())
    }

    /// The node whose answer each commit waits for, if there is one.
    pub fn standby(&self) -> Option<usize> {
        (0..NODES).find(|node| self.says(*node, "/sync"))
    }

    /// Waits until one node leads, another is its synchronous standby, and the third follows. Returns the leader.
    pub fn wait_until_whole(&self) -> usize {
        self.wait("is not whole", || {
            let follow = (0..NODES).filter(|node| self.says(*node, "/replica")).count();
            self.leader().filter(|_| self.standby().is_some() && follow == NODES - 1)
        })
    }

    /// Waits until this node leads.
    pub fn wait_until_leads(&self, node: usize) {
        self.wait("is not led by whom it should be", || self.leader().filter(|leader| *leader == node));
    }

    /// Waits until the leader has a synchronous standby.
    pub fn wait_for_standby(&self) {
        self.wait("has no standby", || self.leader().and(self.standby()));
    }

    /// Waits until a node leads that is not this one, and has a synchronous standby. Returns the leader.
    pub fn wait_for_another_leader(&self, than: usize) -> usize {
        self.wait("has no other leader", || self.leader().filter(|leader| *leader != than && self.standby().is_some()))
    }

    /// kill -9. Nothing of it is left when this returns; none of it says goodbye to the others.
    pub fn kill(&mut self, node: usize, loss: Loss) {
        let node = &mut self.nodes[node];
        let mut patroni = node.patroni.take().expect("runs");
        if loss == Loss::Machine {
            kill_in(&node.directory);
        } else {
            patroni.kill().unwrap();
        }
        patroni.wait().unwrap();
    }

    /// Starts what was killed of a node; it becomes a follower of whoever leads now.
    pub fn bring_back(&mut self, node: usize) {
        self.start_node(node, &program("patroni", "patroni"));
    }

    fn start_node(&mut self, node: usize, patroni: &Path) {
        let name = format!("node{node}");
        let child = self.run(patroni, &name, |command| command.arg("patroni.yml"));
        assert!(self.nodes[node].patroni.replace(child).is_none(), "runs already");
    }

    fn start_etcd(&mut self, etcd: &Path, port: u16) {
        let (at, peers) = (format!("http://127.0.0.1:{port}"), format!("http://127.0.0.1:{}", free_port()));
        let child = self.run(etcd, "etcd", |command| {
            command.args(["--name", "etcd", "--data-dir", "data"]);
            command.args(["--listen-client-urls", &at, "--advertise-client-urls", &at]);
            command.args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers]);
            command.args(["--initial-cluster", &format!("etcd={peers}")])
        });
        self.others.push(child);
        self.wait("has no etcd", || get(port, "/health").filter(|status| *status == 200));
    }

    /// Runs a program in a directory of its name.
    fn run(&self, program: &Path, name: &str, arguments: impl FnOnce(&mut Command) -> &mut Command) -> Child {
        let directory = self.directory.join(name);
        if !directory.is_dir() {
            self.owner.make_directory(&directory);
        }
        let log = File::options().create(true).append(true).open(directory.join("log")).unwrap();
        let mut command = self.owner.run(program);
        // Nothing that the user of the tests has set is meant for these.
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", &directory);
        command.current_dir(&directory).stdout(log.try_clone().unwrap()).stderr(log);
        arguments(&mut command).spawn().unwrap()
    }

    /// Whether a node answers 200 at this path of Patroni's REST interface.
    fn says(&self, node: usize, path: &str) -> bool {
        get(self.nodes[node].ports.rest, path) == Some(200)
    }

    fn wait<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        for _ in 0..LOOKS {
            if let Some(found) = look() {
                return found;
            }
            sleep(PAUSE);
        }
        panic!("the cluster {what}\n{}", self.logs());
    }

    /// The ends of what its parts have written.
    fn logs(&self) -> String {
        let names = (0..NODES).map(|i| format!("node{i}")).chain(["etcd".to_owned(), "haproxy".to_owned()]);
        let tail = |name: String| {
            let text = std::fs::read_to_string(self.directory.join(&name).join("log")).unwrap_or_default();
            // Whoever hangs up on Patroni gets a trace in it.
            let lines: Vec<_> = text.lines().filter(|line| line.starts_with("20") || line.starts_with('[')).collect();
            format!("{name}:\n{}\n", lines[lines.len().saturating_sub(50)..].join("\n"))
        };
        names.map(tail).collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.reaper.stdin.take());
        drop(self.reaper.wait());
        let patroni = self.nodes.iter_mut().filter_map(|node| node.patroni.as_mut());
        for child in patroni.chain(&mut self.others) {
            drop(child.wait());
        }
    }
}

/// The status that a GET is answered with, if it is.
fn get(port: u16, path: &str) -> Option<u16> {
    let address = ([127, 0, 0, 1], port).into();
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    // Some close the connection before all is read; the first line is enough.
    drop(stream.read_to_string(&mut answer));
    answer.split(' ').nth(1)?.parse().ok()
}
