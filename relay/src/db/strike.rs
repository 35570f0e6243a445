//! Strikes, and the revealed seeds that they are derived from (design §3).

use postern_credentials::reply_credential::ReplyNullifier;
use postern_protocol::ids::MailboxId;
use postern_store::{Row, StoreError, Tx, Value};

use super::reply::Slot;
use super::{corrupt, unsigned};

/// Nullifiers in one statement: a contact's slots in one epoch, by default.
const CHUNK: usize = 16;

const IS_STRUCK: &str = "SELECT 1 FROM reply_strikes WHERE mailbox = $1 AND epoch = $2 AND nullifier = $3";
const STRIKE: &str = "INSERT INTO reply_strikes (mailbox, epoch, nullifier) VALUES ($1, $2, $3), ($1, $2, $4), \
     ($1, $2, $5), ($1, $2, $6), ($1, $2, $7), ($1, $2, $8), ($1, $2, $9), ($1, $2, $10), ($1, $2, $11), ($1, $2, $12), \
     ($1, $2, $13), ($1, $2, $14), ($1, $2, $15), ($1, $2, $16), ($1, $2, $17), ($1, $2, $18) \
     ON CONFLICT (mailbox, epoch, nullifier) DO NOTHING";
const LIFT: &str = "DELETE FROM reply_strikes WHERE mailbox = $1 AND epoch = $2 AND nullifier IN \
     ($3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)";
const COUNT: &str = "SELECT COUNT(*) FROM reply_strikes WHERE mailbox = $1";
const PUT_REVEAL: &str = "INSERT INTO reply_reveals \
     (mailbox, key_version, period, digest, last_period, slots, sealed, expanded_epoch) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (mailbox, key_version, period, digest) DO UPDATE SET \
     last_period = excluded.last_period, slots = excluded.slots, sealed = excluded.sealed, \
     expanded_epoch = excluded.expanded_epoch";
const COUNT_REVEALS: &str = "SELECT COUNT(*) FROM reply_reveals WHERE mailbox = $1";
const DUE: &str = "SELECT key_version, period, digest, last_period, slots, sealed, expanded_epoch FROM reply_reveals \
     WHERE mailbox = $1 AND expanded_epoch <> $2";
const EXPANDED: &str = "UPDATE reply_reveals SET expanded_epoch = $5 \
     WHERE mailbox = $1 AND key_version = $2 AND period = $3 AND digest = $4";

/// Whether the owner has struck this slot.
pub(crate) async fn is_struck(tx: &mut Tx<'_>, slot: &Slot) -> Result<bool, StoreError> {
    Ok(tx.fetch_optional(IS_STRUCK, &slot.key()).await?.is_some())
}

/// Nullifiers of one epoch.
pub(crate) struct InEpoch {
    pub(crate) epoch: u32,
    pub(crate) nullifiers: Vec<ReplyNullifier>,
}

/// Strikes them; returns how many were not struck before.
pub(crate) async fn strike(tx: &mut Tx<'_>, mailbox: &MailboxId, list: &InEpoch) -> Result<u64, StoreError> {
    in_chunks(tx, STRIKE, mailbox, list).await
}

/// Lifts them; returns how many were struck.
pub(crate) async fn lift(tx: &mut Tx<'_>, mailbox: &MailboxId, list: &InEpoch) -> Result<u64, StoreError> {
    in_chunks(tx, LIFT, mailbox, list).await
}

async fn in_chunks(tx: &mut Tx<'_>, sql: &'static str, mailbox: &MailboxId, list: &InEpoch) -> Result<u64, StoreError> {
    let mut changed = 0;
    for chunk in list.nullifiers.chunks(CHUNK) {
        let mut args: Vec<Value> = vec![mailbox.0.into(), i64::from(list.epoch).into()];
        // The statement takes sixteen: a shorter chunk goes round, and to name one twice is to name it once.
        args.extend(chunk.iter().cycle().take(CHUNK).map(|nullifier| Value::from(nullifier.0)));
        changed += tx.execute(sql, &args).await?;
    }
    Ok(changed)
}

/// How many strikes the mailbox has.
pub(crate) async fn count(tx: &mut Tx<'_>, mailbox: &MailboxId) -> Result<u64, StoreError> {
    let row = tx.fetch_optional(COUNT, &[mailbox.0.into()]).await?;
    row.map_or(Ok(0), |row| row.int(0).map(unsigned))
}

/// A revealed seed.
#[derive(Clone)]
pub(crate) struct RevealRow {
    pub(crate) key_version: u32,
    /// The period that the seed is of.
    pub(crate) period: u32,
    /// Of the seed.
    pub(crate) digest: [u8; 32],
    /// The last period that it is remembered for.
    pub(crate) last_period: u32,
    /// Slots per epoch.
    pub(crate) slots: u16,
    /// The seed.
    pub(crate) sealed: Vec<u8>,
    /// The last epoch whose strikes were derived.
    pub(crate) expanded_epoch: u32,
}

impl RevealRow {
    fn read(row: &Row) -> Result<Self, StoreError> {
        let number = |index| u32::try_from(row.int(index)?).map_err(|_| corrupt(index, "a 32-bit number"));
        Ok(Self {
            key_version: number(0)?,
            period: number(1)?,
            digest: row.array(2)?,
            last_period: number(3)?,
            slots: u16::try_from(row.int(4)?).map_err(|_| corrupt(4, "a 16-bit number"))?,
            sealed: row.blob(5)?,
            expanded_epoch: number(6)?,
        })
    }

    fn key(&self, mailbox: &MailboxId) -> [Value; 4] {
        let (version, period) = (i64::from(self.key_version), i64::from(self.period));
        [mailbox.0.into(), version.into(), period.into(), self.digest.into()]
    }
}

/// Remembers a reveal; the owner's last word about a seed holds.
pub(crate) async fn put_reveal(tx: &mut Tx<'_>, mailbox: &MailboxId, reveal: &RevealRow) -> Result<(), StoreError> {
    let [mailbox, version, period, digest] = reveal.key(mailbox);
    let args = [
        mailbox,
        version,
        period,
        digest,
        i64::from(reveal.last_period).into(),
        i64::from(reveal.slots).into(),
        reveal.sealed.as_slice().into(),
        i64::from(reveal.expanded_epoch).into(),
    ];
    tx.execute(PUT_REVEAL, &args).await?;
    Ok(())
}

/// How many reveals the mailbox has.
pub(crate) async fn count_reveals(tx: &mut Tx<'_>, mailbox: &MailboxId) -> Result<u64, StoreError> {
    let row = tx.fetch_optional(COUNT_REVEALS, &[mailbox.0.into()]).await?;
    row.map_or(Ok(0), |row| row.int(0).map(unsigned))
}

/// Reveals whose strikes were derived for another epoch than this last.
pub(crate) async fn due(tx: &mut Tx<'_>, mailbox: &MailboxId, epoch: u32) -> Result<Vec<RevealRow>, StoreError> {
    let rows = tx.fetch_all(DUE, &[mailbox.0.into(), i64::from(epoch).into()]).await?;
    rows.iter().map(RevealRow::read).collect()
}

/// Notes that the strikes of `epoch` are derived; `false` if the reveal is gone.
pub(crate) async fn expanded(
    tx: &mut Tx<'_>,
    mailbox: &MailboxId,
    reveal: &RevealRow,
    epoch: u32,
) -> Result<bool, StoreError> {
    let [mailbox, version, period, digest] = reveal.key(mailbox);
    Ok(tx.execute(EXPANDED, &[mailbox, version, period, digest, i64::from(epoch).into()]).await? == 1)
}
