//! Used nonces.

use postern_protocol::time::Timestamp;
use postern_store::{StoreError, Tx};

use super::time;

const USE_NONCE: &str = "insert into login_nonces (nonce_digest, expires) values ($1, $2) on conflict do nothing";
const PRUNE_NONCES: &str = "delete from login_nonces where expires <= $1";

/// Uses a nonce up; false if it was used before.
pub(crate) async fn use_nonce(tx: &mut Tx<'_>, digest: &[u8; 32], expires: Timestamp) -> Result<bool, StoreError> {
    Ok(tx.execute(USE_NONCE, &[digest.into(), time(expires)]).await? == 1)
}

/// Forgets nonces that would be refused as expired.
pub(crate) async fn prune_nonces(tx: &mut Tx<'_>, now: Timestamp) -> Result<u64, StoreError> {
    tx.execute(PRUNE_NONCES, &[time(now)]).await
}
