//! What the tables hold altogether. Of large tables a part is counted, and the rest taken to be like it: nullifiers and mailboxes are random
//! bytes, so that how far the first hundred thousand reach says how many there are.

use std::collections::BTreeMap;

use postern_store::{StoreError, Tx, Value};

use super::unsigned;

const ANSWERS: &str = "SELECT epoch FROM reply_fence";
const LEDGER_BOUND: &str = "SELECT nullifier FROM ledger ORDER BY nullifier LIMIT 1 OFFSET $1";
const LEDGER: &str = "SELECT state, count(*), cast(sum(CASE WHEN state = 'attached' AND NOT EXISTS \
     (SELECT 1 FROM messages WHERE messages.mailbox = ledger.mailbox AND messages.message = ledger.nullifier) \
     THEN 1 ELSE 0 END) AS bigint) FROM ledger WHERE nullifier < $1 GROUP BY state";
const MAILBOXES_BOUND: &str = "SELECT mailbox FROM mailboxes ORDER BY mailbox LIMIT 1 OFFSET $1";
const MAILBOXES: &str = "SELECT count(*), cast(coalesce(sum(queued_messages), 0) AS bigint), \
     cast(coalesce(sum(queued_bytes), 0) AS bigint) FROM mailboxes WHERE mailbox < $1";

/// Rows of a table that are counted one by one.
const SAMPLE: i64 = 100_000;

/// What there is.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Measured {
    /// Tokens by state.
    pub(crate) ledger: BTreeMap<String, i64>,
    /// Attached tokens whose message is not queued any more.
    pub(crate) stuck: i64,
    pub(crate) mailboxes: i64,
    pub(crate) queued_messages: i64,
    pub(crate) queued_bytes: i64,
}

/// How much of a table is counted.
struct Part {
    /// Keys below these bytes.
    below: Vec<u8>,
}

impl Part {
    /// The first `SAMPLE` rows, or all.
    async fn of(tx: &mut Tx<'_>, bound: &'static str) -> Result<Self, StoreError> {
        let row = tx.fetch_optional(bound, &[SAMPLE.into()]).await?;
        // Above every key of 32 bytes.
        let all = || vec![u8::MAX; 33];
        Ok(Self { below: row.map(|row| row.blob(0)).transpose()?.unwrap_or_else(all) })
    }

    fn arg(&self) -> Value {
        self.below.clone().into()
    }

    /// What all rows come to, if those of this part come to so much.
    fn of_all(&self, counted: i64) -> i64 {
        if self.below.len() != 32 {
            return counted;
        }
        let reach = self.below.iter().take(8).fold(0_u128, |sum, byte| (sum << 8) | u128::from(*byte)).max(1);
        let all = (u128::from(unsigned(counted)) << 64) / reach;
        i64::try_from(all).unwrap_or(i64::MAX)
    }
}

/// That it comes back is the answer.
pub(crate) async fn answers(tx: &mut Tx<'_>) -> Result<(), StoreError> {
    tx.fetch_optional(ANSWERS, &[]).await.map(drop)
}

/// Counts.
pub(crate) async fn measure(tx: &mut Tx<'_>) -> Result<Measured, StoreError> {
    let mut measured = Measured::default();
    let part = Part::of(tx, LEDGER_BOUND).await?;
    for row in tx.fetch_all(LEDGER, &[part.arg()]).await? {
        measured.ledger.insert(row.text(0)?, part.of_all(row.int(1)?));
        measured.stuck = measured.stuck.saturating_add(part.of_all(row.int(2)?));
    }
    let part = Part::of(tx, MAILBOXES_BOUND).await?;
    if let Some(row) = tx.fetch_optional(MAILBOXES, &[part.arg()]).await? {
        measured.mailboxes = part.of_all(row.int(0)?);
        measured.queued_messages = part.of_all(row.int(1)?);
        measured.queued_bytes = part.of_all(row.int(2)?);
    }
    Ok(measured)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_stands_for_the_whole() {
        let whole = Part { below: vec![u8::MAX; 33] };
        assert_eq!(whole.of_all(7), 7);
        let mut quarter = vec![0; 32];
        quarter[0] = 0x40;
        assert_eq!(Part { below: quarter }.of_all(100_000), 400_000);
        assert_eq!(Part { below: vec![0; 32] }.of_all(i64::MAX), i64::MAX, "whatever the keys are");
    }
}
