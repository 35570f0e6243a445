//! The ledger's rows (design §2.1).

use std::collections::{HashMap, HashSet};

use postern_protocol::ids::{MailboxId, Nullifier, RsaElement, TokenKeyId};
use postern_store::{Column, Many, Row, StoreError, Tx, Value};

use super::{corrupt, opt_array};

const FIND: &str = "SELECT state, token_digest, mailbox, envelope_digest, blinded_digest, blind_signature \
     FROM ledger WHERE nullifier = $1";
const KEY_RETIRED: &str = "SELECT 1 FROM retired_keys WHERE key_id = $1";
static RETIRED: Many = Many::list("SELECT key_id FROM retired_keys WHERE key_id IN ($1)", &[Column::Blob]);
static SEEN: Many = Many::list(
    "SELECT state, token_digest, mailbox, envelope_digest, blinded_digest, blind_signature, nullifier \
     FROM ledger WHERE nullifier IN ($1)",
    &[Column::Blob],
);
static OPEN: Many = Many::list("SELECT mailbox FROM mailboxes WHERE mailbox IN ($1)", &[Column::Blob]);
static ATTACH: Many = Many::rows(
    "INSERT INTO ledger (nullifier, key_id, token_digest, mailbox, envelope_digest, state) \
     VALUES ($1, $2, $3, $4, $5, 'attached') ON CONFLICT (nullifier) DO NOTHING RETURNING nullifier",
    &[Column::Blob; 5],
);
const DETACH: &str = "DELETE FROM ledger WHERE nullifier = $1";

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
    /// All of them.
    pub(crate) const ALL: [Self; 5] = [Self::Attached, Self::Released, Self::Burnt, Self::Exchanging, Self::Exchanged];

    /// As it stands in the ledger.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Attached => "attached",
            Self::Released => "released",
            Self::Burnt => "burnt",
            Self::Exchanging => "exchanging",
            Self::Exchanged => "exchanged",
        }
    }

    pub(crate) fn parse(text: &str) -> Result<Self, StoreError> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or(corrupt(0, "a token state"))
    }
}

/// A row of the ledger.
#[derive(Clone)]
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
#[derive(Clone)]
pub(crate) struct Spend {
    pub(crate) nullifier: Nullifier,
    pub(crate) key_id: TokenKeyId,
    pub(crate) token_digest: [u8; 32],
    pub(crate) mailbox: MailboxId,
    pub(crate) envelope_digest: [u8; 32],
}

impl Spend {
    fn row(&self) -> Vec<Value> {
        vec![
            self.nullifier.0.into(),
            self.key_id.0.into(),
            self.token_digest.into(),
            self.mailbox.0.into(),
            self.envelope_digest.into(),
        ]
    }
}

/// Those of these keys whose rows have been dropped.
pub(crate) async fn retired(tx: &mut Tx<'_>, keys: HashSet<[u8; 32]>) -> Result<HashSet<[u8; 32]>, StoreError> {
    let keys = keys.into_iter().map(|key| vec![key.into()]).collect();
    tx.fetch_many(&RETIRED, keys).await?.iter().map(|row| row.array(0)).collect()
}

/// Spends the tokens that have no row; which they were. One that comes twice is spent once, on what it comes with first.
pub(crate) async fn attach(tx: &mut Tx<'_>, mut spends: Vec<&Spend>) -> Result<HashSet<Nullifier>, StoreError> {
    // Stable: the message that is queued is the first that names the token, and the row must be of no other.
    spends.sort_by_key(|spend| spend.nullifier.0);
    spends.dedup_by_key(|spend| spend.nullifier.0);
    let rows = spends.into_iter().map(Spend::row).collect();
    tx.fetch_many(&ATTACH, rows).await?.iter().map(|row| row.array(0).map(Nullifier)).collect()
}

/// Takes back that a token was spent, in the transaction in which it was.
pub(crate) async fn detach(tx: &mut Tx<'_>, nullifier: &Nullifier) -> Result<(), StoreError> {
    tx.execute(DETACH, &[nullifier.0.into()]).await.map(drop)
}

/// The rows of those tokens that have one.
pub(crate) async fn rows(
    tx: &mut Tx<'_>,
    tokens: impl Iterator<Item = Nullifier>,
) -> Result<HashMap<Nullifier, LedgerRow>, StoreError> {
    let rows = tx.fetch_many(&SEEN, tokens.map(|nullifier| vec![nullifier.0.into()]).collect()).await?;
    rows.iter().map(|row| Ok((Nullifier(row.array(6)?), LedgerRow::read(row)?))).collect()
}

/// Of mailboxes and tokens: which of the ones are open, and the rows of the others.
pub(crate) async fn seen(
    tx: &mut Tx<'_>,
    asked: &[(MailboxId, Nullifier)],
) -> Result<(HashSet<MailboxId>, HashMap<Nullifier, LedgerRow>), StoreError> {
    let mailboxes: HashSet<_> = asked.iter().map(|(mailbox, _)| mailbox.0).collect();
    let mailboxes = mailboxes.into_iter().map(|mailbox| vec![mailbox.into()]).collect();
    let open: Result<_, StoreError> =
        tx.fetch_many(&OPEN, mailboxes).await?.iter().map(|row| row.array(0).map(MailboxId)).collect();
    Ok((open?, rows(tx, asked.iter().map(|(_, nullifier)| *nullifier)).await?))
}
