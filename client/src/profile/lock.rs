//! One command at a time on one profile, by an advisory lock on a file beside it. The file also remembers the generation of the
//! profile that was last used here: a database that is older than that is a copy from before, and its tokens and message keys
//! have been used.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

use crate::error::{Error, Result};

use super::key::SALT_LEN;

const STEP: Duration = Duration::from_millis(100);

/// Holds the lock until dropped.
pub(super) struct ProfileLock {
    file: File,
}

impl ProfileLock {
    /// Takes the lock; after the first try in vain `on_wait` is called once, and after `wait` it gives up.
    ///
    /// # Errors
    /// [`Error::ProfileBusy`] after `wait`.
    pub(super) fn take(path: &Path, wait: Duration, on_wait: &dyn Fn()) -> Result<Self> {
        let file = super::file::private().create(true).read(true).write(true).truncate(false).open(path)?;
        let tries = wait.as_millis() / STEP.as_millis();
        for n in 0..=tries {
            match file.try_lock() {
                Ok(()) => return Ok(Self { file }),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(error.into()),
            }
            if n == 0 {
                on_wait();
            }
            if n < tries {
                std::thread::sleep(STEP);
            }
        }
        Err(Error::ProfileBusy)
    }

    /// The generation that was last seen of the profile with this salt; 0 if none was.
    pub(super) fn generation(&mut self, salt: &[u8; SALT_LEN]) -> Result<u64> {
        self.file.seek(SeekFrom::Start(0))?;
        let mut bytes = Vec::new();
        (&self.file).take(64).read_to_end(&mut bytes)?;
        // A note that was cut short by a crash is no note.
        let Some((theirs, rest)) = bytes.split_first_chunk::<SALT_LEN>() else { return Ok(0) };
        let generation = rest.first_chunk::<8>().map_or(0, |b| u64::from_be_bytes(*b));
        Ok(if theirs == salt { generation } else { 0 })
    }

    /// Notes the generation. Not synced: after a power cut an older note is harmless, it only says less.
    pub(super) fn note(&mut self, salt: &[u8; SALT_LEN], generation: u64) -> Result<()> {
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&[salt.as_slice(), &generation.to_be_bytes()].concat())?;
        Ok(())
    }
}
