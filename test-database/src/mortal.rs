//! A PostgreSQL that is killed, -9, with all its children, and brought back on the same files; they lie where the test says.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use sqlx::{ConnectOptions, Connection};

use crate::TestDatabase;
use crate::database::{block_on, options};
use crate::host::{Owner, free_port, postgres_binaries};
use crate::processes::{kill_in, start_reaper};
use crate::server::USER;

/// How long a start may take, in looks.
const LOOKS: u32 = 1200;
const PAUSE: Duration = Duration::from_millis(50);
/// Beside the defaults of a fresh installation, syncs included: small files, for a small disk.
const SETTINGS: [&str; 6] = [
    "max_connections=200",
    "log_min_messages=fatal",
    "max_wal_size=96MB",
    "min_wal_size=32MB",
    "shared_buffers=64MB",
    // What is killed leaves its shared memory behind: in files of its own, then.
    "dynamic_shared_memory_type=mmap",
];

/// The server; it ends when it is dropped, or when its process does.
#[derive(Debug)]
pub struct Mortal {
    owner: Owner,
    /// All that it writes is below.
    directory: PathBuf,
    /// What it says, which must outlive its disk.
    log: PathBuf,
    port: u16,
    child: Option<Child>,
    reaper: Child,
}

impl Mortal {
    /// Makes one in a fresh directory `postgres` of `place`, and starts it; it writes its log to a directory of the test.
    pub fn start(place: &Path, log: &Path) -> Self {
        let directory = place.canonicalize().unwrap().join("postgres");
        std::fs::create_dir(&directory).unwrap();
        let owner = Owner::of(&directory);
        let reaper = start_reaper(&directory);
        let made = owner
            .run(&postgres_binaries().join("initdb"))
            .args(["--auth=trust", "--encoding=UTF8", "--locale=C", "-U", USER, "-D"])
            .arg(directory.join("data"))
            .output()
            .unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let mut server =
            Self { owner, directory, log: log.join("postgres.log"), port: free_port(), child: None, reaper };
        assert!(server.bring_back(), "PostgreSQL does not start: {}", server.read_log());
        server
    }

    /// A fresh database of it.
    pub fn database(&self, name: &str) -> TestDatabase {
        TestDatabase::at(format!("postgres://{USER}@127.0.0.1:{}", self.port), name)
    }

    /// kill -9 of the first process and its children. None is left when this returns.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            child.wait().unwrap();
        }
        kill_in(&self.directory);
    }

    /// Starts it, and waits until it takes connections; `false` if it gave up instead, because its disk is full for instance.
    pub fn bring_back(&mut self) -> bool {
        // What is left of one that ended by itself must be gone.
        self.kill();
        let log = File::options().create(true).append(true).open(&self.log).unwrap();
        let mut command = self.owner.run(&postgres_binaries().join("postgres"));
        command.arg("-D").arg(self.directory.join("data")).arg("-k").arg(&self.directory);
        let (port, listen) = (format!("port={}", self.port), "listen_addresses=127.0.0.1".to_owned());
        let settings = SETTINGS.map(str::to_owned).into_iter().chain([port, listen]);
        command.args(settings.flat_map(|setting| ["-c".to_owned(), setting]));
        let child = self.child.insert(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
        let options = options(&format!("postgres://{USER}@127.0.0.1:{}/postgres", self.port));
        for _ in 0..LOOKS {
            let connected = block_on(async || match options.connect().await {
                Ok(connection) => connection.close().await.is_ok(),
                Err(_) => false,
            });
            if connected {
                return true;
            }
            if child.try_wait().unwrap().is_some() {
                return false;
            }
            std::thread::sleep(PAUSE);
        }
        panic!("PostgreSQL neither starts nor gives up: {}", self.read_log());
    }

    /// Whether its first process is there.
    pub fn is_alive(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    /// What it has written.
    pub fn read_log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Mortal {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // At once, but so that it takes its shared memory with it.
            drop(Command::new("/bin/sh").args(["-c", "kill -QUIT \"$1\"", "kill", &child.id().to_string()]).status());
            drop(child.wait());
        }
        self.kill();
        drop(self.reaper.stdin.take());
        drop(self.reaper.wait());
    }
}
