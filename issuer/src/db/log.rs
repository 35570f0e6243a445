//! The leaves of the log. Only ever appended to.

use postern_protocol::ids::Sha256Digest;
use postern_store::{StoreError, Tx};

use super::{count, counted};

const FIND: &str = "select place from key_log where leaf_hash = $1";
const SIZE: &str = "select count(*) from key_log";
const APPEND: &str = "insert into key_log (place, leaf_hash, leaf) values ($1, $2, $3)";
const LEAVES: &str = "select leaf from key_log where place >= $1 and place < $2 order by place";

/// Whether a leaf is there.
pub(crate) async fn contains(tx: &mut Tx<'_>, leaf_hash: &Sha256Digest) -> Result<bool, StoreError> {
    Ok(tx.fetch_optional(FIND, &[leaf_hash.0.into()]).await?.is_some())
}

/// How many leaves there are.
pub(crate) async fn size(tx: &mut Tx<'_>) -> Result<u64, StoreError> {
    tx.fetch_optional(SIZE, &[]).await?.map_or(Ok(0), |row| counted(row.int(0)?, 0))
}

/// Appends a leaf that is not there.
pub(crate) async fn append(tx: &mut Tx<'_>, leaf_hash: &Sha256Digest, leaf: &[u8]) -> Result<(), StoreError> {
    let place = size(tx).await?;
    tx.execute(APPEND, &[count(place), leaf_hash.0.into(), leaf.into()]).await.map(drop)
}

/// The leaves `from` up to, not including, `to`.
pub(crate) async fn leaves(tx: &mut Tx<'_>, from: u64, to: u64) -> Result<Vec<Vec<u8>>, StoreError> {
    tx.fetch_all(LEAVES, &[count(from), count(to)]).await?.iter().map(|row| row.blob(0)).collect()
}
