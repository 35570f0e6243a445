//! A network namespace as a machine: it has its own addresses and ports, and reaches only what a cable leads to.

use std::io::{BufRead as _, BufReader};
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::Programs;

/// One; it is gone when this is dropped or its process ends, and its programs have ended.
#[derive(Debug)]
pub struct Machine {
    /// Waits for its input to end, which it does however we end.
    holder: Child,
    scripts: TempDir,
}

impl Machine {
    /// A machine with nothing but itself.
    pub fn start() -> Self {
        let mut holder = Command::new("unshare")
            .args(["--net", "sh", "-c", "ip link set lo up && echo up && exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(holder.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "up\n", "a network namespace");
        Self { holder, scripts: tempfile::tempdir().unwrap() }
    }

    fn namespace(&self) -> String {
        format!("/proc/{}/ns/net", self.holder.id())
    }

    /// A program on this machine.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.namespace())).args(["--", program]).stdin(Stdio::null());
        command
    }

    fn ip(&self, args: &[&str]) {
        let output = self.command("ip").args(args).output().unwrap();
        assert!(output.status.success(), "ip {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// A cable to another machine, with an address at each end.
    pub fn connect(&self, own: Ipv4Addr, other: &Self, its: Ipv4Addr) {
        // Named by what is at the other end.
        let [here, there] = [its, own].map(|address| format!("to{}", address.to_bits() & 0xffff));
        let pid = other.holder.id().to_string();
        self.ip(&["link", "add", &here, "type", "veth", "peer", "name", &there, "netns", &pid]);
        for (machine, name, address) in [(self, &here, own), (other, &there, its)] {
            machine.ip(&["address", "add", &format!("{address}/30"), "dev", name]);
            machine.ip(&["link", "set", name, "up"]);
        }
    }

    /// The programs, so that whoever runs them runs them on this machine.
    pub fn programs(&self, programs: &Programs) -> Programs {
        let here = |program: &Path| {
            let script = self.scripts.path().join(program.file_name().unwrap());
            let line = format!("#!/bin/sh\nexec nsenter --net={} -- {} \"$@\"\n", self.namespace(), program.display());
            std::fs::write(&script, line).unwrap();
            std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
            script
        };
        Programs { issuer: here(&programs.issuer), relay: here(&programs.relay), postern: here(&programs.postern) }
    }

    /// Names of the programs that run on it, but for the one that holds it.
    pub fn running(&self) -> Vec<String> {
        let own = std::fs::read_link(self.namespace()).unwrap();
        let processes = std::fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap());
        let ours = processes.filter(|process| {
            std::fs::read_link(process.path().join("ns/net")).is_ok_and(|namespace| namespace == own)
                && process.file_name() != self.holder.id().to_string().as_str()
        });
        // Whoever has ended meanwhile has no name.
        ours.filter_map(|process| std::fs::read_to_string(process.path().join("comm")).ok())
            .map(|name| name.trim().to_owned())
            .collect()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(self.holder.kill());
        drop(self.holder.wait());
    }
}
