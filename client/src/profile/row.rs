//! Rows: typed on this side, sealed on the other.

use std::collections::{BTreeMap, BTreeSet};

use postern_protocol::codec::{Reader, put_bytes16};
use rand_core::CryptoRng;
use rusqlite::{Connection, OptionalExtension, Transaction};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::key::RowKeys;
use super::state::State;
use crate::error::{Error, Result};

/// A kind of row. Values are JSON inside the seal; new fields need a default, so that older profiles stay readable.
pub trait Record: Serialize + DeserializeOwned {
    /// The kind's name; no other kind has it, and it has no NUL.
    const KIND: &'static str;
}

/// Which rows there are, by kind: the file itself does not tell.
#[derive(Default, Clone)]
pub(super) struct Index(BTreeMap<String, BTreeSet<String>>);

impl Index {
    pub(super) fn insert(&mut self, kind: &str, key: &str) {
        self.0.entry(kind.to_owned()).or_default().insert(key.to_owned());
    }

    pub(super) fn contains(&self, kind: &str, key: &str) -> bool {
        self.0.get(kind).is_some_and(|keys| keys.contains(key))
    }

    pub(super) fn keys(&self, kind: &str) -> Vec<String> {
        self.0.get(kind).map(|keys| keys.iter().cloned().collect()).unwrap_or_default()
    }

    pub(super) fn apply(&mut self, changes: Changes) {
        for ((kind, key), present) in changes {
            if present {
                self.insert(&kind, &key);
            } else if let Some(keys) = self.0.get_mut(&kind) {
                keys.remove(&key);
            }
        }
    }
}

/// What a transaction did to the index: present or gone, the last change of a row counts.
pub(super) type Changes = BTreeMap<(String, String), bool>;

/// A row without its seal.
pub(super) struct Plain {
    pub(super) kind: String,
    pub(super) key: String,
    pub(super) json: Zeroizing<Vec<u8>>,
}

/// Opens a row and checks that it stands under its own name.
pub(super) fn open_row(keys: &RowKeys, id: &[u8; 32], sealed: &[u8]) -> Result<Plain> {
    const BAD: Error = Error::ProfileDamaged("a row was changed or moved");
    let plain = keys.seal.open(id, sealed).map_err(|_| BAD)?;
    let mut r = Reader::new(&plain);
    let kind = r.text16().map_err(|_| BAD)?.to_owned();
    let key = r.text16().map_err(|_| BAD)?.to_owned();
    let json = Zeroizing::new(r.rest().to_vec());
    if keys.row_id(&kind, &key) == *id { Ok(Plain { kind, key, json }) } else { Err(BAD) }
}

/// Reads a row that the index says is there.
pub(super) fn read<T: Record>(db: &Connection, keys: &RowKeys, key: &str) -> Result<T> {
    let id = keys.row_id(T::KIND, key);
    let plain = open_row(keys, &id, &sealed(db, &id)?)?;
    serde_json::from_slice(&plain.json).map_err(|_| Error::ProfileDamaged("a row is not of its kind"))
}

fn sealed(db: &Connection, id: &[u8; 32]) -> Result<Vec<u8>> {
    let mut statement = db.prepare_cached("SELECT sealed FROM row WHERE id = ?1")?;
    let found = statement.query_row([id], |r| r.get(0)).optional()?;
    found.ok_or(Error::ProfileDamaged("a row is missing"))
}

/// An open transaction; dropped without a commit it leaves nothing behind.
pub struct Tx<'a> {
    db: Transaction<'a>,
    keys: &'a RowKeys,
    rng: &'a mut dyn CryptoRng,
    index: &'a Index,
    changes: Changes,
    state: State,
}

impl<'a> Tx<'a> {
    pub(super) fn new(
        db: Transaction<'a>,
        keys: &'a RowKeys,
        rng: &'a mut dyn CryptoRng,
        index: &'a Index,
        state: State,
    ) -> Self {
        Self { db, keys, rng, index, changes: Changes::new(), state }
    }

    /// One row; `None` if there is none.
    ///
    /// # Errors
    /// [`Error::ProfileDamaged`], [`Error::Storage`].
    pub fn get<T: Record>(&self, key: &str) -> Result<Option<T>> {
        if self.contains(T::KIND, key) { read(&self.db, self.keys, key).map(Some) } else { Ok(None) }
    }

    /// All rows of a kind with their keys, in the order of the keys.
    ///
    /// # Errors
    /// [`Error::ProfileDamaged`], [`Error::Storage`].
    pub fn list<T: Record>(&self) -> Result<Vec<(String, T)>> {
        let mut keys: BTreeSet<String> = self.index.keys(T::KIND).into_iter().collect();
        for ((_, key), present) in self.changes.iter().filter(|((kind, _), _)| kind == T::KIND) {
            if *present {
                keys.insert(key.clone())
            } else {
                keys.remove(key)
            };
        }
        keys.into_iter().map(|key| read(&self.db, self.keys, &key).map(|value| (key, value))).collect()
    }

    /// Writes a row, in place of an older one of this kind and key.
    ///
    /// # Errors
    /// [`Error::ProfileDamaged`], [`Error::Storage`].
    pub fn put<T: Record>(&mut self, key: &str, value: &T) -> Result<()> {
        let id = self.keys.row_id(T::KIND, key);
        self.take_out(T::KIND, key, &id)?;
        let sealed = self.seal(&id, T::KIND, key, value)?;
        self.db
            .prepare_cached("INSERT INTO row (id, sealed) VALUES (?1, ?2) ON CONFLICT (id) DO UPDATE SET sealed = ?2")?
            .execute((id, &sealed))?;
        self.state.toggle(&self.keys.row_tag(&id, &sealed));
        self.state.count = self.state.count.saturating_add(1);
        self.changes.insert((T::KIND.to_owned(), key.to_owned()), true);
        Ok(())
    }

    /// Removes a row; whether there was one.
    ///
    /// # Errors
    /// [`Error::ProfileDamaged`], [`Error::Storage`].
    pub fn delete<T: Record>(&mut self, key: &str) -> Result<bool> {
        let id = self.keys.row_id(T::KIND, key);
        let there = self.take_out(T::KIND, key, &id)?;
        if there {
            self.db.prepare_cached("DELETE FROM row WHERE id = ?1")?.execute([id])?;
            self.changes.insert((T::KIND.to_owned(), key.to_owned()), false);
        }
        Ok(there)
    }

    /// Takes a row out of the set hash; whether there was one.
    fn take_out(&mut self, kind: &str, key: &str, id: &[u8; 32]) -> Result<bool> {
        let there = self.contains(kind, key);
        if there {
            self.state.toggle(&self.keys.row_tag(id, &sealed(&self.db, id)?));
            self.state.count = self.state.count.saturating_sub(1);
        }
        Ok(there)
    }

    fn contains(&self, kind: &str, key: &str) -> bool {
        let changed = self.changes.get(&(kind.to_owned(), key.to_owned()));
        changed.copied().unwrap_or_else(|| self.index.contains(kind, key))
    }

    fn seal<T: Record>(&mut self, id: &[u8; 32], kind: &str, key: &str, value: &T) -> Result<Vec<u8>> {
        const LONG: Error = Error::Internal("a row's key is too long");
        let json = Zeroizing::new(serde_json::to_vec(value).map_err(|_| Error::Internal("a row does not encode"))?);
        let mut plain = Zeroizing::new(Vec::with_capacity(json.len().saturating_add(128)));
        put_bytes16(&mut plain, kind.as_bytes()).map_err(|_| LONG)?;
        put_bytes16(&mut plain, key.as_bytes()).map_err(|_| LONG)?;
        plain.extend_from_slice(&json);
        let mut rng = &mut *self.rng;
        Ok(self.keys.seal.seal(&mut rng, id, &plain))
    }

    /// Commits with the new hash of the state; `None` if nothing was changed.
    pub(super) fn commit(mut self) -> Result<Option<(State, Changes)>> {
        if self.changes.is_empty() {
            return Ok(None);
        }
        self.state.generation = self.state.generation.saturating_add(1);
        let sealed = self.state.seal(&self.keys.seal, self.rng);
        self.db.execute("UPDATE state SET sealed = ?1 WHERE id = 1", [sealed])?;
        self.db.commit()?;
        Ok(Some((self.state, self.changes)))
    }
}
