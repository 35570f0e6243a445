//! The issuer's keys as last heard.

use postern_protocol::ids::TokenKeyId;
use postern_protocol::tokens::KeyState;
use postern_store::{Row, StoreError, Tx, Value};

use super::{corrupt, int, unsigned};

const ALL: &str = "SELECT spki, state, not_before, not_after FROM token_keys ORDER BY coalesce(not_before, 0) DESC";
const PUT: &str = "INSERT INTO token_keys (key_id, spki, state, not_before, not_after) VALUES ($1, $2, $3, $4, $5) \
     ON CONFLICT (key_id) DO UPDATE SET state = excluded.state, not_before = excluded.not_before, \
     not_after = excluded.not_after";
const ENDED: &str = "SELECT key_id FROM token_keys WHERE not_after < $1";
const RETIRED: &str = "SELECT key_id FROM retired_keys";

/// One key, as the issuer lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListedKey {
    /// SubjectPublicKeyInfo, DER.
    pub(crate) spki: Vec<u8>,
    pub(crate) state: KeyState,
    /// Unix seconds.
    pub(crate) not_before: Option<u64>,
    /// Unix seconds.
    pub(crate) not_after: Option<u64>,
}

/// All keys whose rows are not dropped yet.
pub(crate) async fn all(tx: &mut Tx<'_>) -> Result<Vec<ListedKey>, StoreError> {
    let rows = tx.fetch_all(ALL, &[]).await?;
    let keys = rows.iter().map(|row| {
        let state = match row.text(1)?.as_str() {
            "active" => KeyState::Active,
            "retiring" => KeyState::Retiring,
            _ => return Err(corrupt(1, "a key state")),
        };
        let not_before = row.opt_int(2)?.map(unsigned);
        Ok(ListedKey { spki: row.blob(0)?, state, not_before, not_after: row.opt_int(3)?.map(unsigned) })
    });
    keys.collect()
}

/// Writes one key down, or what is new about it.
pub(crate) async fn put(tx: &mut Tx<'_>, id: &TokenKeyId, key: &ListedKey) -> Result<(), StoreError> {
    let state = match key.state {
        KeyState::Active => "active",
        KeyState::Retiring => "retiring",
    };
    let args: [Value; 5] = [
        id.0.into(),
        key.spki.as_slice().into(),
        state.into(),
        key.not_before.map(int).into(),
        key.not_after.map(int).into(),
    ];
    tx.execute(PUT, &args).await?;
    Ok(())
}

/// The keys whose time was over before `moment` (Unix seconds), and whose rows are not all dropped yet.
pub(crate) async fn ended_before(tx: &mut Tx<'_>, moment: u64) -> Result<Vec<TokenKeyId>, StoreError> {
    ids(&tx.fetch_all(ENDED, &[int(moment).into()]).await?)
}

/// Keys that must never count again.
pub(crate) async fn retired(tx: &mut Tx<'_>) -> Result<Vec<TokenKeyId>, StoreError> {
    ids(&tx.fetch_all(RETIRED, &[]).await?)
}

fn ids(rows: &[Row]) -> Result<Vec<TokenKeyId>, StoreError> {
    rows.iter().map(|row| row.array(0).map(TokenKeyId)).collect()
}
