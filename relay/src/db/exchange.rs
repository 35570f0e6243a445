//! The ledger's side of an exchange (design §2.2). Every move names the state it comes from and, once there is one, the
//! digest it was begun with, so that a late or repeated writer changes nothing.

use postern_protocol::ids::{Nullifier, RsaElement, TokenKeyId};
use postern_store::{StoreError, Tx, Value};

const BEGIN_RELEASED: &str = "UPDATE ledger SET state = 'exchanging', blinded_digest = $2, new_key_id = $3 \
     WHERE nullifier = $1 AND state = 'released'";
const BEGIN_UNSPENT: &str = "INSERT INTO ledger (nullifier, key_id, token_digest, state, blinded_digest, new_key_id) \
     VALUES ($1, $2, $3, 'exchanging', $4, $5) ON CONFLICT (nullifier) DO NOTHING";
const FINISH: &str = "UPDATE ledger SET state = 'exchanged', blind_signature = $3 \
     WHERE nullifier = $1 AND state = 'exchanging' AND blinded_digest = $2";
const BACK_TO_RELEASED: &str = "UPDATE ledger SET state = 'released', blinded_digest = NULL, new_key_id = NULL \
     WHERE nullifier = $1 AND state = 'exchanging' AND blinded_digest = $2 AND mailbox IS NOT NULL";
const BACK_TO_UNSEEN: &str =
    "DELETE FROM ledger WHERE nullifier = $1 AND state = 'exchanging' AND blinded_digest = $2 AND mailbox IS NULL";

/// One exchange: which token for which blinded message.
#[derive(Clone, Copy)]
pub(crate) struct Exchange {
    pub(crate) nullifier: Nullifier,
    /// The old token's key.
    pub(crate) key_id: TokenKeyId,
    pub(crate) token_digest: [u8; 32],
    /// SHA-256 of new key and blinded message.
    pub(crate) blinded_digest: [u8; 32],
    pub(crate) new_key_id: TokenKeyId,
}

/// Begins with a released token; `false` if it is not released (any more).
pub(crate) async fn begin_released(tx: &mut Tx<'_>, exchange: &Exchange) -> Result<bool, StoreError> {
    let args: [Value; 3] = [exchange.nullifier.0.into(), exchange.blinded_digest.into(), exchange.new_key_id.0.into()];
    Ok(tx.execute(BEGIN_RELEASED, &args).await? == 1)
}

/// Begins with a token that was never spent; `false` if it has a row.
pub(crate) async fn begin_unspent(tx: &mut Tx<'_>, exchange: &Exchange) -> Result<bool, StoreError> {
    let args: [Value; 5] = [
        exchange.nullifier.0.into(),
        exchange.key_id.0.into(),
        exchange.token_digest.into(),
        exchange.blinded_digest.into(),
        exchange.new_key_id.0.into(),
    ];
    Ok(tx.execute(BEGIN_UNSPENT, &args).await? == 1)
}

/// Keeps the issuer's signature; `false` if this exchange is not under way (any more).
pub(crate) async fn finish(tx: &mut Tx<'_>, exchange: &Exchange, signature: &RsaElement) -> Result<bool, StoreError> {
    let args: [Value; 3] = [exchange.nullifier.0.into(), exchange.blinded_digest.into(), signature.0.into()];
    Ok(tx.execute(FINISH, &args).await? == 1)
}

/// Undoes a beginning: the row goes back to where it came from, if it is still this exchange's; `false` if it is not.
pub(crate) async fn undo(tx: &mut Tx<'_>, exchange: &Exchange) -> Result<bool, StoreError> {
    let args: [Value; 2] = [exchange.nullifier.0.into(), exchange.blinded_digest.into()];
    Ok(tx.execute(BACK_TO_RELEASED, &args).await? == 1 || tx.execute(BACK_TO_UNSEEN, &args).await? == 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::MIGRATIONS;
    use crate::db::send::{TokenState, find};
    use postern_store::Db;
    use postern_test_database::{Engine, TestDatabase};

    fn exchange(digest: u8) -> Exchange {
        Exchange {
            nullifier: Nullifier([1; 32]),
            key_id: TokenKeyId([2; 32]),
            token_digest: [3; 32],
            blinded_digest: [digest; 32],
            new_key_id: TokenKeyId([4; 32]),
        }
    }

    #[tokio::test]
    async fn a_late_end_or_undoing_of_one_exchange_does_not_touch_the_next() {
        let dir = tempfile::TempDir::new().unwrap();
        for engine in Engine::ALL {
            end_and_undo_late(&TestDatabase::new(engine, dir.path().join("relay.db"))).await;
        }
    }

    async fn end_and_undo_late(database: &TestDatabase) {
        let db = Db::open(&database.url(), MIGRATIONS).await.unwrap();
        let row = db.run("all of it", |tx| {
            Box::pin(async move {
                let (first, second) = (exchange(5), exchange(6));
                assert!(begin_unspent(tx, &first).await?);
                assert!(!begin_unspent(tx, &second).await?);
                undo(tx, &first).await?;
                assert!(find(tx, &first.nullifier).await?.is_none());
                assert!(begin_unspent(tx, &second).await?);
                // The first request was sent twice: its copies come back now.
                undo(tx, &first).await?;
                assert!(!finish(tx, &first, &RsaElement([7; 256])).await?);
                assert!(finish(tx, &second, &RsaElement([8; 256])).await?);
                undo(tx, &second).await?;
                assert!(!finish(tx, &second, &RsaElement([9; 256])).await?);
                find(tx, &first.nullifier).await
            })
        });
        let row = row.await.unwrap().unwrap();
        assert_eq!((row.state, row.blinded_digest), (TokenState::Exchanged, Some([6; 32])));
        assert_eq!(row.blind_signature, Some(RsaElement([8; 256])));
    }
}
