//! Blind signatures given to accounts.

use postern_protocol::ids::{RsaElement, TokenKeyId};
use postern_store::{StoreError, Tx};

const FIND: &str = "select key_id, blind_signature from issuances where account = $1 and blinded_digest = $2";
const INSERT: &str = "insert into issuances (account, blinded_digest, key_id, blind_signature)
    values ($1, $2, $3, $4) on conflict do nothing";
/// A few at a time, so that nobody waits for the whole of it.
const DROP_OF_KEY: &str = "delete from issuances where (account, blinded_digest, key_id) in
    (select account, blinded_digest, key_id from issuances where key_id = $1 limit 500)";

/// What this account was given for this blinded message: one signature per key, normally one.
pub(crate) async fn find(
    tx: &mut Tx<'_>,
    account: &[u8; 32],
    blinded: &[u8; 32],
) -> Result<Vec<(TokenKeyId, RsaElement)>, StoreError> {
    let rows = tx.fetch_all(FIND, &[account.into(), blinded.into()]).await?;
    rows.iter().map(|row| Ok((TokenKeyId(row.array(0)?), RsaElement(row.array(1)?)))).collect()
}

/// Records one; false if it was there.
pub(crate) async fn insert(
    tx: &mut Tx<'_>,
    account: &[u8; 32],
    blinded: &[u8; 32],
    key: &TokenKeyId,
    signature: &RsaElement,
) -> Result<bool, StoreError> {
    let args = [account.into(), blinded.into(), key.0.into(), signature.0.into()];
    Ok(tx.execute(INSERT, &args).await? == 1)
}

/// Drops some of what a retired key signed; 0 when nothing is left.
pub(crate) async fn drop_of_key(tx: &mut Tx<'_>, key: &TokenKeyId) -> Result<u64, StoreError> {
    tx.execute(DROP_OF_KEY, &[key.0.into()]).await
}
