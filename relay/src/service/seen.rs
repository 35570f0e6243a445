//! The look at a token that does not hold, or not any more: whether the mailbox is open, and whether the token was dealt with before.
//! Requests that come in at the same time share one look. One that holds is not looked at: spending it finds out (ADR 16).

use std::sync::Arc;

use postern_protocol::ids::{MailboxId, Nullifier};
use postern_protocol::problem::ProblemKind;
use postern_store::{Db, Dropped, Group, StoreError, Work};

use crate::config::Limits;
use crate::db::send::{self, LedgerRow};
use crate::error::Refusal;

/// Tokens of one look.
const MOST: usize = 128;
/// What a sender is told to wait when too many wait, seconds.
const BUSY_RETRY: u64 = 1;

/// What there is.
pub(crate) struct Sight {
    /// Whether there is such a mailbox.
    pub(crate) is_open: bool,
    /// The token's row; none if it is unseen.
    pub(crate) row: Option<LedgerRow>,
}

/// Looks for everybody.
#[derive(Debug)]
pub(crate) struct Looks(Group<(MailboxId, Nullifier), Result<Sight, StoreError>>);

impl Looks {
    /// Starts the reader; it ends with it.
    pub(crate) fn start(db: &Db, limits: &Limits) -> Self {
        let db = db.clone();
        let work: Work<_, _> = Arc::new(move |asked| {
            let db = db.clone();
            Box::pin(async move { look(&db, &asked).await })
        });
        Self(Group::start(MOST, limits.queued_sends, work))
    }

    /// Looks for one.
    ///
    /// # Errors
    /// `unavailable` with a retry time if too many wait; what the database says.
    pub(crate) async fn at(&self, mailbox: MailboxId, nullifier: Nullifier) -> Result<Sight, Refusal> {
        match self.0.run((mailbox, nullifier)).await {
            Ok(sight) => Ok(sight?),
            Err(Dropped::Full) => Err(Refusal::retry_after(ProblemKind::Unavailable, BUSY_RETRY)),
            Err(Dropped::Closed) => Err(StoreError::Busy.into()),
        }
    }
}

async fn look(db: &Db, asked: &[(MailboxId, Nullifier)]) -> Vec<Result<Sight, StoreError>> {
    let seen = db.glance("seen", |tx| Box::pin(async move { send::seen(tx, asked).await })).await;
    let (open, rows) = match seen {
        Ok(seen) => seen,
        Err(error) => {
            tracing::warn!(%error, "looks at tokens must be repeated");
            return asked.iter().map(|_| Err(StoreError::Busy)).collect();
        }
    };
    let sight = |(mailbox, nullifier): &(MailboxId, Nullifier)| {
        Ok(Sight { is_open: open.contains(mailbox), row: rows.get(nullifier).cloned() })
    };
    asked.iter().map(sight).collect()
}
