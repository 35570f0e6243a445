//! Secrets in files: keys, and database URLs with a password.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// Why a secret cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretFileError {
    /// It cannot be read.
    #[error("cannot read {0}: {1}")]
    Read(PathBuf, std::io::Error),
    /// Others than its owner may read or write it.
    #[error("{0} is open to others than its owner: chmod 600 it")]
    TooOpen(PathBuf),
}

/// The text of a file that its owner alone may read, without white space around it.
///
/// # Errors
/// [`SecretFileError`].
pub fn read_secret(path: &Path) -> Result<Zeroizing<String>, SecretFileError> {
    let failed = |error| SecretFileError::Read(path.to_owned(), error);
    let mut file = std::fs::File::open(path).map_err(failed)?;
    // Of the file that was opened, whatever is under the name by now.
    if file.metadata().map_err(failed)?.permissions().mode() & 0o077 != 0 {
        return Err(SecretFileError::TooOpen(path.to_owned()));
    }
    let mut text = Zeroizing::new(String::new());
    file.read_to_string(&mut text).map_err(failed)?;
    Ok(Zeroizing::new(text.trim().to_owned()))
}

/// A database's URL. `file:NAME` stands for what is in that file, which its owner alone may read, relative to `dir`.
///
/// # Errors
/// [`SecretFileError`].
pub fn read_database_url(dir: &Path, url: &str) -> Result<String, SecretFileError> {
    match url.strip_prefix("file:") {
        Some(file) => Ok(read_secret(&dir.join(file))?.to_string()),
        None => Ok(url.to_owned()),
    }
}
