//! For tests only: databases of either engine, looked into past the servers.
//!
//! **Owns** a throw-away PostgreSQL, one for each process of tests ([`Server`]); fresh databases ([`TestDatabase`]); a
//! proxy that cuts connections around a commit ([`Proxy`]); a cluster that fails over ([`Cluster`]); a PostgreSQL that is killed and
//! brought back ([`Mortal`]); and a place where a process sleeps
//! too long ([`Pause`]). **May call** nothing of ours, so that every crate can use it.

mod cluster;
mod database;
mod host;
mod mortal;
mod pause;
mod processes;
mod proxy;
mod server;
mod watch;

pub use cluster::{Cluster, Loss, NODES};
pub use database::{Table, TestDatabase};
pub use host::free_port;
pub use mortal::Mortal;
pub use pause::{Pause, Sleeper};
pub use processes::start_watch;
pub use proxy::{Cut, Proxy};
pub use rusqlite::types::Value;
pub use server::Server;
pub use watch::Watch;

/// Which engine a test runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// A file.
    Sqlite,
    /// A database of the throw-away server.
    Postgres,
}

impl Engine {
    /// Both, for suites that run on each.
    pub const ALL: [Self; 2] = [Self::Sqlite, Self::Postgres];

    /// What `POSTERN_TEST_ENGINE` says, `sqlite` or `postgres`; without it SQLite.
    pub fn of_this_run() -> Self {
        match std::env::var("POSTERN_TEST_ENGINE").as_deref() {
            Err(_) | Ok("sqlite") => Self::Sqlite,
            Ok("postgres") => Self::Postgres,
            Ok(other) => panic!("POSTERN_TEST_ENGINE is neither sqlite nor postgres but {other}"),
        }
    }
}
