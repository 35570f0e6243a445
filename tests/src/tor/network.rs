//! The Tor processes: an authority, relays, a host of two onion services, and a client.

use std::net::Ipv4Addr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::Machine;

/// Enough for a path of three from either end of a rendezvous, and a choice.
const RELAYS: u16 = 5;
/// How long the client may take to know its way, in looks.
const LOOKS: u32 = 600;
const PAUSE: Duration = Duration::from_millis(200);

const AUTHORITY: &str = "\
AuthoritativeDirectory 1
V3AuthoritativeDirectory 1
ContactInfo authority@test.invalid
AssumeReachable 1
ExitPolicy reject *:*
AuthDirMaxServersPerAddr 0
TestingDirAuthVoteGuard *
TestingDirAuthVoteHSDir *
TestingDirAuthVoteExit *
TestingMinExitFlagThreshold 0
TestingMinFastFlagThreshold 0
TestingAuthDirTimeToLearnReachability 0
TestingV3AuthInitialVotingInterval 5
TestingV3AuthInitialVoteDelay 2
TestingV3AuthInitialDistDelay 2
V3AuthVotingInterval 10
V3AuthVoteDelay 2
V3AuthDistDelay 2
V3AuthNIntervalsValid 12
";

/// Nobody leaves by one, but without exits the authority's weights leave clients no middle.
const RELAY: &str = "\
AssumeReachable 1
ExitRelay 1
ExitPolicyRejectPrivate 0
ExitPolicy accept 127.0.0.0/8:*
ExitPolicy reject *:*
";

/// A running network.
#[derive(Debug)]
pub struct Network {
    dir: PathBuf,
    processes: Vec<Child>,
}

impl Network {
    /// Authority, relays and the onion host on one machine, at this address of it; the client on another. Each target is what an onion
    /// service leads to. Files lie in `dir`.
    pub fn start(
        dir: &Path,
        machine: &Machine,
        address: Ipv4Addr,
        user: &Machine,
        targets: [(Ipv4Addr, u16); 2],
    ) -> Self {
        let mut network = Self { dir: dir.join("tor"), processes: Vec::new() };
        make_dir(&network.dir);
        let authority = network.make_authority(address);
        let relay = |name: &str, port: u16| {
            format!("Nickname {name}\nAddress {address}\nORPort {address}:{port}\nSocksPort 0\n")
        };
        let text = format!("{}DirPort {address}:7100\n{AUTHORITY}", relay("authority", 5100));
        network.launch(machine, "authority", &authority, &text);
        for i in 0..RELAYS {
            let name = format!("relay{i}");
            let text = format!("{}{RELAY}", relay(&name, 5200 + i));
            network.launch(machine, &name, &authority, &text);
        }
        let mut onions = "SocksPort 0\n".to_owned();
        for (name, (host, port)) in ["issuer", "relay"].iter().zip(targets) {
            let service = network.dir.join("onions").join(name);
            onions.push_str(&format!("HiddenServiceDir {}\nHiddenServicePort 80 {host}:{port}\n", service.display()));
        }
        network.launch(machine, "onions", &authority, &onions);
        let client =
            format!("SocksPort 127.0.0.1:9050 IsolateSOCKSAuth\nControlPort unix:{}\n", network.control().display());
        network.launch(user, "client", &authority, &client);
        network
    }

    /// The keys of the authority, and the line by which everybody knows it.
    fn make_authority(&self, address: Ipv4Addr) -> String {
        let dir = self.dir.join("authority");
        let keys = dir.join("keys");
        make_dir(&dir);
        make_dir(&keys);
        let file = |name: &str| keys.join(format!("authority_{name}")).display().to_string();
        let directory = format!("{address}:7100");
        let mut generate = Command::new("sh");
        generate.args(["-c", r#"echo any | exec "$@" 2>&1"#, "sh", "tor-gencert", "--create-identity-key", "-m", "12"]);
        generate.args(["-a", &directory, "--passphrase-fd", "0"]);
        generate.args(["-i", &file("identity_key"), "-s", &file("signing_key"), "-c", &file("certificate")]);
        run(&mut generate);
        let certificate = std::fs::read_to_string(file("certificate")).unwrap();
        let identity = certificate.lines().find_map(|line| line.strip_prefix("fingerprint ")).unwrap();
        let mut list = Command::new("tor");
        list.args(["--ignore-missing-torrc", "-f", "/nonexistent", "--quiet", "--Nickname", "authority"]);
        list.args(["--ORPort", &format!("{address}:5100"), "--DataDirectory"]).arg(&dir);
        let listed = run(list.args(["--list-fingerprint", "rsa"]));
        let fingerprint = listed.lines().find_map(|line| line.strip_prefix("authority ")).unwrap().replace(' ', "");
        format!("DirAuthority authority orport=5100 no-v2 v3ident={identity} {directory} {fingerprint}\n")
    }

    fn launch(&mut self, machine: &Machine, name: &str, authority: &str, text: &str) {
        let dir = self.dir.join(name);
        make_dir(&dir);
        let (data, log, torrc) = (dir.display(), dir.join("log"), dir.join("torrc"));
        // The process that owns it is us: it ends when we do, however we do.
        let common = format!(
            "TestingTorNetwork 1\nDataDirectory {data}\nLog notice file {}\nShutdownWaitLength 0\n\
             PathsNeededToBuildCircuits 0.67\nAddressDisableIPv6 1\n__OwningControllerProcess {}\n",
            log.display(),
            std::process::id(),
        );
        std::fs::write(&torrc, format!("{common}{authority}{text}")).unwrap();
        let mut tor = machine.command("tor");
        tor.arg("-f").arg(&torrc).stdout(Stdio::null()).stderr(Stdio::null());
        self.processes.push(tor.spawn().unwrap());
    }

    /// Where the client is controlled.
    pub fn control(&self) -> PathBuf {
        self.dir.join("client/control")
    }

    /// The onion addresses, in the order of their targets.
    pub fn onions(&self) -> [String; 2] {
        ["issuer", "relay"].map(|name| {
            let file = self.dir.join("onions").join(name).join("hostname");
            self.wait_for("the onion host", || {
                let text = std::fs::read_to_string(&file).unwrap_or_default();
                text.ends_with('\n').then(|| text.trim().to_owned())
            })
        })
    }

    /// Until the client knows its way.
    pub fn wait_until_ready(&self) {
        let log = self.dir.join("client/log");
        self.wait_for("the client", || {
            std::fs::read_to_string(&log).unwrap_or_default().contains("Bootstrapped 100%").then_some(())
        });
    }

    fn wait_for<T>(&self, who: &str, look: impl Fn() -> Option<T>) -> T {
        for _ in 0..LOOKS {
            if let Some(found) = look() {
                return found;
            }
            std::thread::sleep(PAUSE);
        }
        let log = |name| std::fs::read_to_string(self.dir.join(name).join("log")).unwrap_or_default();
        panic!("{who} is not ready:\n{}\n{}", log("authority"), log("client"));
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for process in &mut self.processes {
            drop(process.kill());
            drop(process.wait());
        }
    }
}

fn make_dir(dir: &Path) {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).unwrap();
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}: {text}");
    text
}
