//! A PostgreSQL that nobody else uses, from the binaries of this machine, gone when the process that asked for it is.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::OnceLock;
use std::time::Duration;

use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor};

use crate::database::{TestDatabase, block_on, options};
use crate::host::{Owner, free_port, postgres_binaries};
use crate::processes::start_watch;

pub(crate) const USER: &str = "postern";
/// How long a server may take to start, in tries.
const START_TRIES: u32 = 600;
const START_PAUSE: Duration = Duration::from_millis(100);

/// Starts the server and ends it, with all it has written, when its own standard input ends: that is when the process at the other
/// end is gone, however it went.
const WATCH: &str = r#"
program=$1 directory=$2
shift 2
"$program" -D "$directory/data" -k "$directory" -c max_connections=400 -c log_min_messages=fatal "$@" >"$directory/log" 2>&1 &
server=$!
read -r _
kill -QUIT "$server"
wait "$server"
rm -rf "$directory"
"#;

/// A running server. Its settings are those of a fresh installation, syncs included.
#[derive(Debug)]
pub struct Server {
    directory: PathBuf,
    /// Of its socket's name, and of its address if it has one.
    port: u16,
    /// Its standard input ends with this process.
    _watch: Child,
}

impl Server {
    /// The server of this process, started when it is first asked for.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Server> = OnceLock::new();
        SHARED.get_or_init(Self::start_own)
    }

    /// One more, for a test that changes its settings.
    pub fn start_own() -> Self {
        Self::start(5432, |_, _| vec!["-c".to_owned(), "listen_addresses=".to_owned()])
    }

    /// One that also listens on 127.0.0.1, where it takes TLS alone, as `localhost` with the certificate [`Self::certificate`], and asks
    /// for a password: the user `postern` has [`Self::PASSWORD`].
    pub fn with_tls() -> Self {
        let port = free_port();
        let server = Self::start(port, |owner, directory| {
            let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
            owner.write(&directory.join("server.crt"), &made.cert.pem());
            owner.write(&directory.join("server.key"), &made.signing_key.serialize_pem());
            let rules = "local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n";
            owner.write(&directory.join("data/pg_hba.conf"), rules);
            let file = |name: &str| directory.join(name).display().to_string();
            let settings = [
                "ssl=on".to_owned(),
                format!("ssl_cert_file={}", file("server.crt")),
                format!("ssl_key_file={}", file("server.key")),
                "listen_addresses=127.0.0.1".to_owned(),
                format!("port={port}"),
            ];
            settings.into_iter().flat_map(|setting| ["-c".to_owned(), setting]).collect()
        });
        let (options, password) = (options(&server.url("postgres")), Self::PASSWORD);
        block_on(async || {
            let mut db = options.connect().await.unwrap();
            db.execute(AssertSqlSafe(format!("alter user {USER} password '{password}'"))).await.unwrap();
            db.close().await.unwrap();
        });
        server
    }

    /// One that also listens on 127.0.0.1, trusts everybody there, and logs as a fresh installation does, errors with their statements.
    pub fn with_log() -> Self {
        let port = free_port();
        let settings = ["listen_addresses=127.0.0.1", &format!("port={port}"), "log_min_messages=warning"];
        let settings: Vec<_> = settings.iter().flat_map(|s| ["-c".to_owned(), (*s).to_owned()]).collect();
        Self::start(port, |_, _| settings)
    }

    /// A fresh database of a server with an address, with which it goes.
    pub fn database(&self, name: &str) -> TestDatabase {
        TestDatabase::at(format!("postgres://{USER}@127.0.0.1:{}", self.port), name)
    }

    /// Its log so far.
    pub fn read_log(&self) -> Vec<u8> {
        std::fs::read(self.directory.join("log")).unwrap_or_default()
    }

    /// What a server with TLS asks for.
    pub const PASSWORD: &str = "hunter2-of-the-tests";

    /// The certificate of a server with TLS, which is its own CA.
    pub fn certificate(&self) -> PathBuf {
        self.directory.join("server.crt")
    }

    /// The port of a server with TLS.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Where its socket is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The number of its first process, whose children serve the connections.
    pub fn process(&self) -> u32 {
        let file = std::fs::read_to_string(self.directory.join("data/postmaster.pid")).unwrap();
        file.lines().next().and_then(|line| line.trim().parse().ok()).unwrap()
    }

    /// The URL of one of its databases.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{USER}@localhost:{}/{database}?host={}", self.port, self.directory.display())
    }

    /// `prepare` may change what is there before the start; it returns further arguments.
    fn start(port: u16, prepare: impl FnOnce(&Owner, &Path) -> Vec<String>) -> Self {
        let binaries = postgres_binaries();
        let directory = tempfile::Builder::new().prefix("postern-pg-").tempdir().unwrap().keep();
        let owner = Owner::of(&directory);
        let data = directory.join("data");
        let made = owner
            .run(&binaries.join("initdb"))
            .args(["--no-sync", "--auth=trust", "--encoding=UTF8", "--locale=C", "-U", USER, "-D"])
            .arg(&data)
            .output()
            .unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let further = prepare(&owner, &directory);
        let watched = [binaries.join("postgres"), directory.clone()].into_iter().map(OsString::from);
        let further = further.into_iter().map(OsString::from);
        let watch = start_watch(owner.run(Path::new("/bin/sh")), WATCH, watched.chain(further));
        let server = Self { directory, port, _watch: watch };
        server.wait();
        server
    }

    fn wait(&self) {
        let options = options(&self.url("postgres"));
        for _ in 0..START_TRIES {
            let connected = block_on(async || match options.connect().await {
                Ok(connection) => connection.close().await.is_ok(),
                Err(_) => false,
            });
            if connected {
                return;
            }
            std::thread::sleep(START_PAUSE);
        }
        let log = std::fs::read_to_string(self.directory.join("log")).unwrap_or_default();
        panic!("PostgreSQL does not start: {log}");
    }
}
