//! Acknowledging, and the two verdicts (M18, M20), for many messages at once.

use std::collections::{BTreeMap, HashMap, HashSet};

use postern_protocol::ids::{MailboxId, MessageId, Nullifier};
use postern_store::{Column, Many, Row, StoreError, Tx};

use super::send::TokenState;
use super::{int, opt_array, unsigned};

static REMOVE: Many = Many::rows(
    "WITH named (mailbox, message) AS (VALUES ($1, $2)) DELETE FROM messages \
     WHERE (mailbox, message) IN (SELECT mailbox, message FROM named) RETURNING mailbox, message, size",
    &[Column::Blob, Column::Blob],
);
static OPEN: Many = Many::list("SELECT mailbox FROM mailboxes WHERE mailbox IN ($1)", &[Column::Blob]);
// All of them are there: they were read in this transaction.
static COUNT_OUT: Many = Many::rows(
    "INSERT INTO mailboxes (mailbox, queued_messages, queued_bytes) VALUES ($1, $2, $3) \
     ON CONFLICT (mailbox) DO UPDATE SET queued_messages = mailboxes.queued_messages - excluded.queued_messages, \
     queued_bytes = mailboxes.queued_bytes - excluded.queued_bytes",
    &[Column::Blob, Column::Int, Column::Int],
);
static STATES: Many =
    Many::list("SELECT nullifier, mailbox, state FROM ledger WHERE nullifier IN ($1)", &[Column::Blob]);
static RELEASE: Many = Many::list(
    "UPDATE ledger SET state = 'released' WHERE nullifier IN ($1) AND state = 'attached' RETURNING nullifier",
    &[Column::Blob],
);
static BURN: Many = Many::list(
    "UPDATE ledger SET state = 'burnt' WHERE nullifier IN ($1) AND state = 'attached' RETURNING nullifier",
    &[Column::Blob],
);

/// What a recipient says of a token. There is no third word: declining a contact is a release (M37), and nothing tells
/// the two apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Not spam: the token can be exchanged.
    Release,
    /// Spam: the token is burnt for ever.
    Burn,
}

/// Takes messages out of their queues; those that were in there.
pub(crate) async fn remove(
    tx: &mut Tx<'_>,
    messages: &HashSet<(MailboxId, MessageId)>,
) -> Result<HashSet<(MailboxId, MessageId)>, StoreError> {
    let mut keys: Vec<_> = messages.iter().collect();
    // One order for everybody: two such lists cannot block each other row by row.
    keys.sort_unstable_by_key(|(mailbox, message)| (mailbox.0, message.0));
    let keys = keys.into_iter().map(|(mailbox, message)| vec![mailbox.0.into(), message.0.into()]).collect();
    let mut removed = HashSet::new();
    let mut sizes: BTreeMap<[u8; 32], (u64, u64)> = BTreeMap::new();
    for row in tx.fetch_many(&REMOVE, keys).await? {
        let mailbox = row.array(0)?;
        let (messages, bytes) = sizes.entry(mailbox).or_default();
        *messages = messages.saturating_add(1);
        *bytes = bytes.saturating_add(unsigned(row.int(2)?));
        removed.insert((MailboxId(mailbox), MessageId(row.array(1)?)));
    }
    let open = tx.fetch_many(&OPEN, sizes.keys().map(|mailbox| vec![mailbox.into()]).collect()).await?;
    let open: HashSet<[u8; 32]> = open.iter().map(|row| row.array(0)).collect::<Result<_, _>>()?;
    let counts = sizes.into_iter().filter(|(mailbox, _)| open.contains(mailbox));
    let counts =
        counts.map(|(mailbox, (messages, bytes))| vec![mailbox.into(), int(messages).into(), int(bytes).into()]);
    tx.fetch_many(&COUNT_OUT, counts.collect()).await?;
    Ok(removed)
}

/// Where tokens that were spent on a message were spent, and where they stand.
pub(crate) async fn states(
    tx: &mut Tx<'_>,
    tokens: HashSet<Nullifier>,
) -> Result<HashMap<Nullifier, (MailboxId, TokenState)>, StoreError> {
    let tokens = tokens.into_iter().map(|token| vec![token.0.into()]).collect();
    let mut states = HashMap::new();
    for row in tx.fetch_many(&STATES, tokens).await? {
        // One that was exchanged unspent is of no mailbox.
        if let Some(mailbox) = opt_array(&row, 1)? {
            states.insert(Nullifier(row.array(0)?), (MailboxId(mailbox), TokenState::parse(&row.text(2)?)?));
        }
    }
    Ok(states)
}

/// Moves attached tokens, all of them.
///
/// # Errors
/// [`StoreError::Busy`] if one is not attached, as it was in this transaction: an engine that shows that keeps transactions apart less well
/// than it must.
pub(crate) async fn judge(tx: &mut Tx<'_>, moved: &HashMap<Nullifier, Verdict>) -> Result<(), StoreError> {
    for (verdict, statement) in [(Verdict::Release, &RELEASE), (Verdict::Burn, &BURN)] {
        let mut tokens: Vec<_> = moved.iter().filter(|(_, says)| **says == verdict).map(|(token, _)| token.0).collect();
        tokens.sort_unstable();
        let wanted = tokens.len();
        let rows: Vec<Row> =
            tx.fetch_many(statement, tokens.into_iter().map(|token| vec![token.into()]).collect()).await?;
        if rows.len() != wanted {
            return Err(StoreError::Busy);
        }
    }
    Ok(())
}
