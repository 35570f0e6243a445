//! What this machine has to run servers with: their programs, a user that they may run as, and free ports.

use std::fs::Permissions;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

/// Who runs a server: PostgreSQL refuses to be root.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner(Option<(u32, u32)>);

impl Owner {
    /// Whoever runs the tests; in place of root an unprivileged user, who gets the directory.
    pub(crate) fn of(directory: &Path) -> Self {
        if std::fs::metadata(directory).unwrap().uid() != 0 {
            return Self(None);
        }
        let (uid, gid) =
            user("postgres").or_else(|| user("nobody")).expect("a user for PostgreSQL, postgres or nobody");
        chown(directory, Some(uid), Some(gid)).unwrap();
        Self(Some((uid, gid)))
    }

    pub(crate) fn write(&self, file: &Path, contents: &str) {
        std::fs::write(file, contents).unwrap();
        std::fs::set_permissions(file, Permissions::from_mode(0o600)).unwrap();
        self.give(file);
    }

    pub(crate) fn make_directory(&self, directory: &Path) {
        std::fs::create_dir(directory).unwrap();
        std::fs::set_permissions(directory, Permissions::from_mode(0o700)).unwrap();
        self.give(directory);
    }

    fn give(&self, path: &Path) {
        if let Some((uid, gid)) = self.0 {
            chown(path, Some(uid), Some(gid)).unwrap();
        }
    }

    /// A command as this user, without input.
    pub(crate) fn run(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir("/").stdin(Stdio::null());
        if let Some((uid, gid)) = self.0 {
            command.uid(uid).gid(gid);
        }
        command
    }
}

/// Number and group of a user of this machine.
fn user(name: &str) -> Option<(u32, u32)> {
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// Where `postgres` and `initdb` are: the newest of Debian's places, or the path.
pub(crate) fn postgres_binaries() -> PathBuf {
    let version = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok());
    let mut debian = match std::fs::read_dir("/usr/lib/postgresql") {
        Ok(entries) => entries.map(|entry| entry.unwrap().path()).collect(),
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        Err(error) => panic!("/usr/lib/postgresql: {error}"),
    };
    debian.sort_by_key(version);
    let places = debian.iter().rev().map(|place| place.join("bin")).chain(path());
    let is_whole = |place: &PathBuf| ["postgres", "initdb"].iter().all(|name| place.join(name).is_file());
    places.into_iter().find(is_whole).expect(
        "PostgreSQL is not on this machine: neither below /usr/lib/postgresql nor in PATH are `postgres` and `initdb`. \
         On Debian: apt-get install postgresql",
    )
}

/// Where a program is, which comes with a package of Debian's.
pub(crate) fn program(name: &str, package: &str) -> PathBuf {
    // Debian keeps servers where only root's path leads.
    let places = path().chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/bin")]);
    let found = places.map(|place| place.join(name)).find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("`{name}` is not on this machine. On Debian: apt-get install {package}"))
}

fn path() -> impl Iterator<Item = PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).collect::<Vec<_>>().into_iter()
}

/// A port of 127.0.0.1 that nobody listens on, below the range that outgoing connections take theirs from: a server that is down for a
/// moment must find its port free when it comes back. No port is given out twice in one process.
pub fn free_port() -> u16 {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    let start = std::process::id().wrapping_mul(61);
    for _ in 0..1000 {
        let next = start.wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed).into()) % 20_000;
        let port = 10_000 + u16::try_from(next).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port");
}
