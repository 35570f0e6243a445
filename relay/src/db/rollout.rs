//! What is kept of messages that were taken without a token (design §2.5).

use std::collections::{BTreeMap, HashMap, HashSet};

use postern_protocol::ids::{MailboxId, MessageId};
use postern_store::{Column, Many, StoreError, Tx};

use super::{int, unsigned};

static TAKE: Many = Many::rows(
    "INSERT INTO unenforced (mailbox, message, kept_until) VALUES ($1, $2, $3) \
     ON CONFLICT (mailbox, message) DO NOTHING RETURNING mailbox, message",
    &[Column::Blob, Column::Blob, Column::Int],
);
static KNOWN: Many = Many::rows(
    "WITH named (mailbox, message) AS (VALUES ($1, $2)) SELECT mailbox, message FROM unenforced \
     WHERE (mailbox, message) IN (SELECT mailbox, message FROM named)",
    &[Column::Blob, Column::Blob],
);
const UNTAKE: &str = "DELETE FROM unenforced WHERE mailbox = $1 AND message = $2";
const DROP: &str = "DELETE FROM unenforced WHERE (mailbox, message) IN \
     (SELECT mailbox, message FROM unenforced WHERE kept_until < $1 LIMIT $2)";
const COUNT: &str = "INSERT INTO unenforced_counts (reason, part, counted) VALUES ($1, $2, $3) \
     ON CONFLICT (reason, part) DO UPDATE SET counted = unenforced_counts.counted + excluded.counted";
const COUNTS: &str = "SELECT reason, cast(sum(counted) AS bigint) FROM unenforced_counts GROUP BY reason";

/// A message as its mailbox names it.
pub(crate) type Name = (MailboxId, MessageId);

fn sorted(names: impl Iterator<Item = Name>) -> Vec<Name> {
    let mut names: Vec<_> = names.collect();
    // One order for everybody, and each once.
    names.sort_unstable_by_key(|(mailbox, message)| (mailbox.0, message.0));
    names.dedup();
    names
}

/// Writes these down, until when they are kept (Unix seconds); those that were not there before.
pub(crate) async fn take(tx: &mut Tx<'_>, taken: HashMap<Name, u64>) -> Result<HashSet<Name>, StoreError> {
    let names = sorted(taken.keys().copied());
    let until = |name: &Name| taken.get(name).copied().unwrap_or(0);
    let rows = names.iter().map(|name| vec![name.0.0.into(), name.1.0.into(), int(until(name)).into()]).collect();
    let rows = tx.fetch_many(&TAKE, rows).await?;
    rows.iter().map(|row| Ok((MailboxId(row.array(0)?), MessageId(row.array(1)?)))).collect()
}

/// Those of these that were taken without a token, and are still known.
pub(crate) async fn known(tx: &mut Tx<'_>, names: HashSet<Name>) -> Result<HashSet<Name>, StoreError> {
    let rows = sorted(names.into_iter()).into_iter().map(|(mailbox, message)| vec![mailbox.0.into(), message.0.into()]);
    let rows = tx.fetch_many(&KNOWN, rows.collect()).await?;
    rows.iter().map(|row| Ok((MailboxId(row.array(0)?), MessageId(row.array(1)?)))).collect()
}

/// Takes back that it was taken, in the transaction in which it was.
pub(crate) async fn untake(tx: &mut Tx<'_>, (mailbox, message): Name) -> Result<(), StoreError> {
    tx.execute(UNTAKE, &[mailbox.0.into(), message.0.into()]).await.map(drop)
}

/// Forgets some that were kept until before `now` (Unix seconds). Returns how many; 0 when all are gone.
pub(crate) async fn drop_some(tx: &mut Tx<'_>, now: u64, limit: u64) -> Result<u64, StoreError> {
    tx.execute(DROP, &[int(now).into(), int(limit).into()]).await
}

/// Counts messages by why they would have been refused, in this part of the sums.
pub(crate) async fn count(tx: &mut Tx<'_>, part: u8, reasons: &BTreeMap<&'static str, u64>) -> Result<(), StoreError> {
    for (reason, messages) in reasons {
        tx.execute(COUNT, &[(*reason).into(), i64::from(part).into(), int(*messages).into()]).await?;
    }
    Ok(())
}

/// The sums.
pub(crate) async fn counts(tx: &mut Tx<'_>) -> Result<BTreeMap<String, u64>, StoreError> {
    let rows = tx.fetch_all(COUNTS, &[]).await?;
    rows.iter().map(|row| Ok((row.text(0)?, unsigned(row.int(1)?)))).collect()
}
