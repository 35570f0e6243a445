//! Blind signatures given to relays for exchanges.

use postern_protocol::ids::{RsaElement, TokenKeyId};
use postern_store::{StoreError, Tx};

const FIND: &str = "select blind_signature from relay_exchanges where blinded_digest = $1 and key_id = $2";
const INSERT: &str = "insert into relay_exchanges (blinded_digest, key_id, relay, blind_signature)
    values ($1, $2, $3, $4)";
/// A few at a time, so that nobody waits for the whole of it.
const DROP_OF_KEY: &str = "delete from relay_exchanges where (blinded_digest, key_id) in
    (select blinded_digest, key_id from relay_exchanges where key_id = $1 limit 500)";

/// The signature under this key, if it was made before.
pub(crate) async fn find(
    tx: &mut Tx<'_>,
    blinded: &[u8; 32],
    key: &TokenKeyId,
) -> Result<Option<RsaElement>, StoreError> {
    let row = tx.fetch_optional(FIND, &[blinded.into(), key.0.into()]).await?;
    row.map(|row| row.array(0).map(RsaElement)).transpose()
}

/// Records one.
pub(crate) async fn insert(
    tx: &mut Tx<'_>,
    blinded: &[u8; 32],
    key: &TokenKeyId,
    relay: &str,
    signature: &RsaElement,
) -> Result<(), StoreError> {
    let args = [blinded.into(), key.0.into(), relay.into(), signature.0.into()];
    tx.execute(INSERT, &args).await.map(drop)
}

/// Drops some of what a retired key signed; 0 when nothing is left.
pub(crate) async fn drop_of_key(tx: &mut Tx<'_>, key: &TokenKeyId) -> Result<u64, StoreError> {
    tx.execute(DROP_OF_KEY, &[key.0.into()]).await
}
