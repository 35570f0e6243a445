//! A private Tor network with onion services, each side on a machine of its own: who can reach whom is not left to chance.
//!
//! Three network namespaces are machines. On the servers' there are issuer and relay, reachable over one cable; at the other end of it is
//! the network's, with nothing but Tor: an authority, relays, and the host of the onion services. A second cable leads from there to the
//! user's, with his own Tor and the commands. Nobody forwards: from the user's machine no packet gets to the servers'.
//!
//! Needs root, and of Debian `tor`, `tcpdump` and `iproute2`.

mod capture;
mod control;
mod machine;
mod network;

pub use capture::Capture;
pub use control::{Control, Stream};
pub use machine::Machine;
pub use network::Network;

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};

use postern_test_database::free_port;
use tempfile::TempDir;

use crate::{Programs, World};

/// The servers' machine, on its cable.
const SERVERS: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 1);
/// The onion host, at the other end of it.
pub const ONION_HOST: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 2);
/// The Tor network, on the user's cable.
const NETWORK: Ipv4Addr = Ipv4Addr::new(10, 77, 2, 1);
/// The user's machine.
const USER: Ipv4Addr = Ipv4Addr::new(10, 77, 2, 2);

/// What `--proxy` is on the user's machine.
pub const PROXY: &str = "socks5h://127.0.0.1:9050";

/// Everything, running.
#[derive(Debug)]
pub struct Lab {
    /// Issuer and relay, known by their onion addresses.
    pub world: World,
    /// What Tor on the user's machine tells of its streams.
    pub control: Control,
    /// Connections to the relay's port, from anywhere.
    pub capture: Capture,
    /// The programs, to be run on the user's machine.
    pub programs: Programs,
    /// Where Tor alone is.
    pub tor: Machine,
    network: Network,
    servers: Machine,
    user: Machine,
    _dir: TempDir,
}

impl Lab {
    /// All of it; what this machine cannot do is said loudly, and fails if `POSTERN_REQUIRE_TOR` is set.
    pub fn start(programs: &Programs) -> Option<Self> {
        is_possible().then(|| Self::start_here(programs))
    }

    fn start_here(programs: &Programs) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let [servers, tor, user] = [Machine::start(), Machine::start(), Machine::start()];
        servers.connect(SERVERS, &tor, ONION_HOST);
        tor.connect(NETWORK, &user, USER);
        let at = [free_port(), free_port()];
        let targets = at.map(|port| (SERVERS, port));
        let network = Network::start(dir.path(), &tor, NETWORK, &user, targets);
        let listen = at.map(|port| format!("0.0.0.0:{port}"));
        let world = World::start_known_as(servers.programs(programs), &listen, &network.onions());
        network.wait_until_ready();
        println!("Tor knows its way");
        let control = Control::open(&network.control());
        let capture = Capture::start(&servers, at[1]);
        let programs = user.programs(programs);
        Self { world, control, capture, programs, tor, network, servers, user, _dir: dir }
    }

    /// The programs that run on the machine where only Tor may be.
    pub fn beside_the_onion_host(&self) -> Vec<String> {
        self.tor.running()
    }

    /// Whether a packet gets from the user's machine to the servers'.
    pub fn user_reaches_servers(&self) -> bool {
        let mut route = self.user.command("ip");
        route.args(["route", "get", &SERVERS.to_string()]).stdout(Stdio::null()).stderr(Stdio::null());
        route.status().unwrap().success()
    }

    /// The end of all of it, in order; the connections that were seen.
    pub fn stop(self) -> (World, Vec<Ipv4Addr>) {
        let seen = self.capture.stop();
        drop((self.control, self.network, self.servers, self.user, self.tor));
        (self.world, seen)
    }
}

/// Issuer and relay on a machine of their own, at loopback addresses, with the capture of the relay's port: for clients of that machine.
pub fn servers_alone(programs: &Programs) -> Option<(World, Capture, Machine)> {
    is_possible().then(|| {
        let machine = Machine::start();
        let at = [free_port(), free_port()];
        let [listen, known] = ["0.0.0.0", "127.0.0.1"].map(|host| at.map(|port| format!("{host}:{port}")));
        let world = World::start_known_as(machine.programs(programs), &listen, &known);
        (world, Capture::start(&machine, at[1]), machine)
    })
}

/// Whether this machine can do it.
fn is_possible() -> bool {
    match what_lacks() {
        None => true,
        Some(lack) => {
            println!("NOT RUN: no private Tor network here: {lack}");
            assert!(std::env::var_os("POSTERN_REQUIRE_TOR").is_none(), "{lack}");
            false
        }
    }
}

fn what_lacks() -> Option<String> {
    const TOOLS: [&str; 6] = ["tor", "tor-gencert", "tcpdump", "ip", "nsenter", "unshare"];
    let there =
        |tool: &&str| ["/usr/bin", "/usr/sbin", "/bin", "/sbin"].iter().any(|dir| Path::new(dir).join(tool).exists());
    if let Some(tool) = TOOLS.iter().find(|tool| !there(tool)) {
        return Some(format!("{tool} is not installed"));
    }
    let mut attempt = Command::new("unshare");
    attempt.args(["--net", "ip", "link", "add", "here", "type", "veth", "peer", "name", "there"]);
    let output = attempt.stdin(Stdio::null()).output().unwrap();
    (!output.status.success()).then(|| format!("no network namespaces: {}", String::from_utf8_lossy(&output.stderr)))
}
