//! The ledger's rows, and queueing, for cold sends and replies alike (design §2.1: spend and enqueue are one transaction).

use postern_protocol::ids::{MailboxId, MessageId, Nullifier, RsaElement, TokenKeyId};
use postern_protocol::reply::ReplyAuthorization;
use postern_store::{Row, StoreError, Tx, Value};

use super::{corrupt, int, opt_array};

const FIND: &str = "SELECT state, token_digest, mailbox, envelope_digest, blinded_digest, blind_signature \
     FROM ledger WHERE nullifier = $1";
const KEY_RETIRED: &str = "SELECT 1 FROM retired_keys WHERE key_id = $1";
const ATTACH: &str = "INSERT INTO ledger (nullifier, key_id, token_digest, state, mailbox, envelope_digest) \
     VALUES ($1, $2, $3, 'attached', $4, $5) ON CONFLICT (nullifier) DO NOTHING";
const COUNT_IN: &str = "UPDATE mailboxes SET queued_messages = queued_messages + 1, queued_bytes = queued_bytes + $2, \
     arrivals = arrivals + 1 WHERE mailbox = $1 AND queued_messages < $3 AND queued_bytes + $2 <= $4";
// `arrivals` has just been counted up in the same transaction: the place in the queue, which a clock cannot give.
const ENQUEUE: &str = "INSERT INTO messages (mailbox, message, position, arrived_at, size, envelope, \
     reply_key_version, reply_epoch, presentation) \
     SELECT $1, $2, arrivals, $3, $4, $5, $6, $7, $8 FROM mailboxes WHERE mailbox = $1";
const UNCOUNT_ARRIVAL: &str = "UPDATE mailboxes SET arrivals = arrivals - 1 WHERE mailbox = $1";

/// Where a token stands (design §2.1). A token without a row is unseen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenState {
    /// Paid for a message.
    Attached,
    /// The recipient gave it back.
    Released,
    /// The recipient called it spam.
    Burnt,
    /// An exchange has begun; the issuer may have signed.
    Exchanging,
    /// Exchanged.
    Exchanged,
}

impl TokenState {
    pub(crate) fn parse(text: &str) -> Result<Self, StoreError> {
        match text {
            "attached" => Ok(Self::Attached),
            "released" => Ok(Self::Released),
            "burnt" => Ok(Self::Burnt),
            "exchanging" => Ok(Self::Exchanging),
            "exchanged" => Ok(Self::Exchanged),
            _ => Err(corrupt(0, "a token state")),
        }
    }
}

/// A row of the ledger.
pub(crate) struct LedgerRow {
    pub(crate) state: TokenState,
    /// SHA-256 of the whole token.
    pub(crate) token_digest: [u8; 32],
    /// Where it was spent, and on which envelope; none if it was exchanged unspent.
    pub(crate) spent: Option<(MailboxId, [u8; 32])>,
    /// What an exchange was begun with.
    pub(crate) blinded_digest: Option<[u8; 32]>,
    /// What the exchange ended with.
    pub(crate) blind_signature: Option<RsaElement>,
}

impl LedgerRow {
    fn read(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            state: TokenState::parse(&row.text(0)?)?,
            token_digest: row.array(1)?,
            spent: opt_array(row, 2)?.map(MailboxId).zip(opt_array(row, 3)?),
            blinded_digest: opt_array(row, 4)?,
            blind_signature: opt_array(row, 5)?.map(RsaElement),
        })
    }
}

/// The token's row.
pub(crate) async fn find(tx: &mut Tx<'_>, nullifier: &Nullifier) -> Result<Option<LedgerRow>, StoreError> {
    let row = tx.fetch_optional(FIND, &[nullifier.0.into()]).await?;
    row.as_ref().map(LedgerRow::read).transpose()
}

/// Whether the key's rows have been dropped: then nothing can say any more which of its tokens were spent.
pub(crate) async fn key_is_retired(tx: &mut Tx<'_>, key: &TokenKeyId) -> Result<bool, StoreError> {
    Ok(tx.fetch_optional(KEY_RETIRED, &[key.0.into()]).await?.is_some())
}

/// What a cold send writes.
pub(crate) struct Spend {
    pub(crate) nullifier: Nullifier,
    pub(crate) key_id: TokenKeyId,
    pub(crate) token_digest: [u8; 32],
    pub(crate) mailbox: MailboxId,
    pub(crate) envelope_digest: [u8; 32],
}

/// Spends the token; `false` if it has a row already.
pub(crate) async fn attach(tx: &mut Tx<'_>, spend: &Spend) -> Result<bool, StoreError> {
    let args: [Value; 5] = [
        spend.nullifier.0.into(),
        spend.key_id.0.into(),
        spend.token_digest.into(),
        spend.mailbox.0.into(),
        spend.envelope_digest.into(),
    ];
    Ok(tx.execute(ATTACH, &args).await? == 1)
}

/// What a mailbox may hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quota {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

/// A message that comes in.
pub(crate) struct Arrival<'a> {
    pub(crate) mailbox: MailboxId,
    pub(crate) message: MessageId,
    /// Unix seconds.
    pub(crate) at: u64,
    pub(crate) envelope: &'a [u8],
    /// What a reply was admitted by; none for a cold send.
    pub(crate) reply: Option<&'a ReplyAuthorization>,
}

/// Queues the envelope; `false` if the mailbox is gone or full, and then nothing is written.
pub(crate) async fn enqueue(tx: &mut Tx<'_>, arrival: &Arrival<'_>, quota: Quota) -> Result<bool, StoreError> {
    let size = int(u64::try_from(arrival.envelope.len()).unwrap_or(u64::MAX));
    let counted: [Value; 4] =
        [arrival.mailbox.0.into(), size.into(), int(quota.messages).into(), int(quota.bytes).into()];
    if tx.execute(COUNT_IN, &counted).await? != 1 {
        return Ok(false);
    }
    let message: [Value; 8] = [
        arrival.mailbox.0.into(),
        arrival.message.0.into(),
        int(arrival.at).into(),
        size.into(),
        arrival.envelope.into(),
        arrival.reply.map(|reply| i64::from(reply.key_version)).into(),
        arrival.reply.map(|reply| i64::from(reply.epoch)).into(),
        arrival.reply.map(|reply| reply.presentation).into(),
    ];
    tx.execute(ENQUEUE, &message).await?;
    Ok(true)
}

/// Takes back that something arrived, after it was queued and removed in this transaction: nobody who waits is told.
pub(crate) async fn uncount_arrival(tx: &mut Tx<'_>, mailbox: &MailboxId) -> Result<(), StoreError> {
    tx.execute(UNCOUNT_ARRIVAL, &[mailbox.0.into()]).await?;
    Ok(())
}
