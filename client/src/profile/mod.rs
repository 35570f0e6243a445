//! The profile: everything that the client knows, in one SQLite file of sealed rows.
//!
//! 1. Argon2id makes one key of the password; three keys are derived from it (`key`). The password is not stored (K6).
//! 2. A row is `id ‖ sealed`: the id is a keyed hash of kind and key, the content XChaCha20-Poly1305 with the id as context. Whoever
//!    holds the file sees how many rows there are and how long they are, nothing else.
//! 3. The hash of the whole state is stored with the state, in the same transaction, and checked at every opening (`state`, H47).
//! 4. One command at a time (`lock`).
//!
//! How to add a kind of row: a struct in the file of its word, `impl Record` with a kind that no other has.

mod file;
mod key;
mod lock;
mod row;
mod state;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rand_core::CryptoRng;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

pub use self::key::KdfParams;
use self::key::{Header, RowKeys, SALT_LEN};
use self::lock::ProfileLock;
use self::row::{Index, open_row};
pub use self::row::{Record, Tx};
use self::state::State;
use crate::error::{Error, Result};

const VERSION: u32 = 1;

const SCHEMA: &str = "
  -- One row: how the password becomes the key.
  CREATE TABLE header (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    version INTEGER NOT NULL,     -- of this schema
    salt BLOB NOT NULL,           -- 16 random bytes
    memory_kib INTEGER NOT NULL,  -- Argon2id
    passes INTEGER NOT NULL,
    lanes INTEGER NOT NULL,
    check_tag BLOB NOT NULL       -- HMAC over the above: tells a wrong password
  ) STRICT;
  -- One row: the sealed hash of all rows below.
  CREATE TABLE state (id INTEGER PRIMARY KEY CHECK (id = 1), sealed BLOB NOT NULL) STRICT;
  -- Everything else.
  CREATE TABLE row (
    id BLOB PRIMARY KEY,          -- HMAC of kind and key, 32 bytes
    sealed BLOB NOT NULL          -- kind, key and JSON, sealed with the id as context
  ) STRICT, WITHOUT ROWID;
";

/// How long to wait for another command, and what to say meanwhile.
pub struct Patience<'a> {
    /// At most so long.
    pub wait: Duration,
    /// Called once when waiting begins.
    pub on_wait: &'a dyn Fn(),
}

impl Patience<'_> {
    /// Gives up at once.
    pub const NONE: Self = Self { wait: Duration::ZERO, on_wait: &|| {} };
}

/// An open profile. Silent in `Debug`.
pub struct Profile {
    path: PathBuf,
    salt: [u8; SALT_LEN],
    keys: RowKeys,
    live: Option<Live>,
}

/// What is there only while the lock is held.
struct Live {
    db: Connection,
    lock: ProfileLock,
    state: State,
    index: Index,
}

impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Profile(..)")
    }
}

impl Profile {
    /// Where the profile `name` lies below a data directory.
    ///
    /// # Errors
    /// [`Error::Invalid`] for names that are not 1 to 64 letters, digits, `-`, `_` or `.` in the middle.
    pub fn path(data_dir: &Path, name: &str) -> Result<PathBuf> {
        let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
        if !plain || name.starts_with('.') || !(1..=64).contains(&name.len()) {
            return Err(Error::Invalid("a profile's name has letters, digits, - and _ only".to_owned()));
        }
        Ok(data_dir.join("profiles").join(format!("{name}.db")))
    }

    /// Whether there is a profile in this file.
    pub fn exists(path: &Path) -> bool {
        std::fs::metadata(path).is_ok_and(|file| file.len() > 0)
    }

    /// Makes a new profile: directory 0700, file 0600.
    ///
    /// # Errors
    /// [`Error::ProfileExists`], [`Error::ProfileBusy`], [`Error::Storage`].
    pub fn create(
        path: &Path,
        password: &str,
        kdf: KdfParams,
        rng: &mut dyn CryptoRng,
        patience: &Patience<'_>,
    ) -> Result<Self> {
        if let Some(dir) = path.parent() {
            file::private_dir(dir)?;
        }
        let mut lock = ProfileLock::take(&lock_path(path), patience.wait, patience.on_wait)?;
        // SQLite would make it readable for others; an empty file is what a creation that was cut short leaves.
        drop(file::private().create(true).append(true).open(path)?);
        if Self::exists(path) {
            return Err(Error::ProfileExists);
        }
        let mut salt = [0; SALT_LEN];
        rng.fill_bytes(&mut salt);
        let (keys, header) = RowKeys::create(password, salt, kdf)?;
        let state = State { generation: 1, ..State::default() };
        let mut db = connect(path)?;
        let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        tx.execute_batch(SCHEMA)?;
        write_header(&tx, &header)?;
        tx.execute("INSERT INTO state (id, sealed) VALUES (1, ?1)", [state.seal(&keys.seal, rng)])?;
        tx.commit()?;
        lock.note(&salt, state.generation)?;
        let live = Live { db, lock, state, index: Index::default() };
        Ok(Self { path: path.to_owned(), salt, keys, live: Some(live) })
    }

    /// Opens a profile and checks every row of it.
    ///
    /// # Errors
    /// [`Error::NoProfile`], [`Error::WrongPassword`], [`Error::ProfileDamaged`], [`Error::ProfileRolledBack`],
    /// [`Error::ProfileBusy`], [`Error::Storage`].
    pub fn open(path: &Path, password: &str, patience: &Patience<'_>) -> Result<Self> {
        if !Self::exists(path) {
            return Err(Error::NoProfile);
        }
        let lock = ProfileLock::take(&lock_path(path), patience.wait, patience.on_wait)?;
        let db = connect(path)?;
        let header = read_header(&db)?;
        if header.version > VERSION {
            return Err(Error::Invalid("this profile was written by a newer postern".to_owned()));
        }
        let keys = RowKeys::open(password, &header)?;
        let mut profile = Self { path: path.to_owned(), salt: header.salt, keys, live: None };
        profile.live = Some(profile.load(db, lock)?);
        Ok(profile)
    }

    /// Lets other commands at the profile; the keys stay in memory. Nothing works until [`Self::resume`].
    pub fn pause(&mut self) {
        self.live = None;
    }

    /// Takes the lock again and checks every row, as [`Self::open`] does.
    ///
    /// # Errors
    /// As [`Self::open`]; the profile stays paused then.
    pub fn resume(&mut self, patience: &Patience<'_>) -> Result<()> {
        if self.live.is_none() {
            let lock = ProfileLock::take(&lock_path(&self.path), patience.wait, patience.on_wait)?;
            self.live = Some(self.load(connect(&self.path)?, lock)?);
        }
        Ok(())
    }

    /// Reads every row again and compares the hash of the state (H47: before every send and receive).
    ///
    /// # Errors
    /// [`Error::ProfileDamaged`].
    pub fn verify(&self) -> Result<()> {
        let live = self.live()?;
        let (state, _) = scan(&live.db, &self.keys)?;
        if state == live.state { Ok(()) } else { Err(Error::ProfileDamaged("it was changed behind our back")) }
    }

    /// One transaction: all or nothing, on disk before it returns. `rng` gives the nonces.
    ///
    /// # Errors
    /// What the closure says, or [`Error::ProfileDamaged`], [`Error::Storage`]; nothing is changed then.
    pub fn tx<T>(&mut self, rng: &mut dyn CryptoRng, body: impl FnOnce(&mut Tx<'_>) -> Result<T>) -> Result<T> {
        let live = self.live.as_mut().ok_or(PAUSED)?;
        let db = live.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if read_state(&db, &self.keys)? != live.state {
            return Err(Error::ProfileDamaged("it was changed behind our back"));
        }
        let mut tx = Tx::new(db, &self.keys, rng, &live.index, live.state);
        let out = body(&mut tx)?;
        if let Some((state, index)) = tx.commit()? {
            live.state = state;
            live.index.apply(index);
            live.lock.note(&self.salt, state.generation)?;
        }
        Ok(out)
    }

    /// One row; `None` if there is none.
    ///
    /// # Errors
    /// [`Error::ProfileDamaged`], [`Error::Storage`].
    pub fn get<T: Record>(&self, key: &str) -> Result<Option<T>> {
        let live = self.live()?;
        if !live.index.contains(T::KIND, key) {
            return Ok(None);
        }
        row::read(&live.db, &self.keys, key).map(Some)
    }

    /// All rows of a kind with their keys, in the order of the keys.
    ///
    /// # Errors
    /// [`Error::ProfileDamaged`], [`Error::Storage`].
    pub fn list<T: Record>(&self) -> Result<Vec<(String, T)>> {
        let live = self.live()?;
        let keys = live.index.keys(T::KIND);
        keys.into_iter().map(|key| row::read(&live.db, &self.keys, &key).map(|value| (key, value))).collect()
    }

    fn live(&self) -> Result<&Live> {
        self.live.as_ref().ok_or(PAUSED)
    }

    fn load(&self, db: Connection, mut lock: ProfileLock) -> Result<Live> {
        let state = read_state(&db, &self.keys)?;
        let (found, index) = scan(&db, &self.keys)?;
        if (found.count, found.set) != (state.count, state.set) {
            return Err(Error::ProfileDamaged("rows were removed, added or replaced"));
        }
        if state.generation < lock.generation(&self.salt)? {
            return Err(Error::ProfileRolledBack);
        }
        Ok(Live { db, lock, state, index })
    }
}

const PAUSED: Error = Error::Internal("the profile is paused");

fn lock_path(path: &Path) -> PathBuf {
    path.with_extension("lock")
}

fn connect(path: &Path) -> Result<Connection> {
    let db = Connection::open(path)?;
    db.busy_timeout(Duration::from_secs(5))?;
    // FULL: what was answered for must survive a power cut. secure_delete: old rows hold keys that were given up.
    db.pragma_update(None, "synchronous", "FULL")?;
    db.pragma_update(None, "secure_delete", "ON")?;
    db.pragma_update(None, "trusted_schema", "OFF")?;
    Ok(db)
}

fn write_header(db: &Connection, header: &Header) -> Result<()> {
    let kdf = &header.kdf;
    let values = (header.version, header.salt, kdf.memory_kib, kdf.passes, kdf.lanes, header.check);
    db.execute(
        "INSERT INTO header (id, version, salt, memory_kib, passes, lanes, check_tag) VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6)",
        values,
    )?;
    Ok(())
}

fn read_header(db: &Connection) -> Result<Header> {
    let sql = "SELECT version, salt, memory_kib, passes, lanes, check_tag FROM header WHERE id = 1";
    db.query_row(sql, [], |r| {
        let kdf = KdfParams { memory_kib: r.get(2)?, passes: r.get(3)?, lanes: r.get(4)? };
        Ok(Header { version: r.get(0)?, salt: r.get(1)?, kdf, check: r.get(5)? })
    })
    .optional()
    .map_err(unreadable)?
    .ok_or(Error::ProfileDamaged("its header is missing"))
}

fn read_state(db: &Connection, keys: &RowKeys) -> Result<State> {
    let sql = "SELECT sealed FROM state WHERE id = 1";
    let sealed: Option<Vec<u8>> = db.query_row(sql, [], |r| r.get(0)).optional().map_err(unreadable)?;
    State::open(&keys.seal, &sealed.ok_or(Error::ProfileDamaged("the hash of its state is missing"))?)
}

/// Opens every row: which are there, and the state they add up to (generation left 0 … taken from the stored one by the caller).
fn scan(db: &Connection, keys: &RowKeys) -> Result<(State, Index)> {
    let mut state = State { generation: read_state(db, keys)?.generation, ..State::default() };
    let mut index = Index::default();
    let mut statement = db.prepare("SELECT id, sealed FROM row").map_err(unreadable)?;
    let mut rows = statement.query([])?;
    while let Some(r) = rows.next().map_err(unreadable)? {
        let id: [u8; 32] = r.get(0).map_err(unreadable)?;
        let sealed: Vec<u8> = r.get(1).map_err(unreadable)?;
        let plain = open_row(keys, &id, &sealed)?;
        state.toggle(&keys.row_tag(&id, &sealed));
        state.count = state.count.saturating_add(1);
        index.insert(&plain.kind, &plain.key);
    }
    Ok((state, index))
}

/// A table or column that is not as we made it is damage; a full disk or a locked file is not.
fn unreadable(error: rusqlite::Error) -> Error {
    match Error::from(error) {
        Error::Storage(_) => Error::ProfileDamaged("its tables are not those that we write"),
        other => other,
    }
}
