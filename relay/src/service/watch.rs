//! What other processes wrote: one look, for all readers that wait here, at how many messages ever arrived for them. So any number of
//! relays behind one name wake each other's readers, on any engine, and ten thousand readers cost a few statements a look.

use std::collections::HashMap;
use std::time::Duration;

use postern_protocol::ids::MailboxId;
use postern_store::StoreError;
use tokio::time::sleep;

use crate::app::App;
use crate::db::read;

/// Looks until the task is dropped.
pub(crate) async fn run(app: &App) {
    loop {
        sleep(Duration::from_millis(app.config.limits.recheck_milliseconds)).await;
        let mailboxes = app.waiters.listening();
        if mailboxes.is_empty() {
            continue;
        }
        match look(app, &mailboxes).await {
            Ok(arrivals) => app.waiters.observe(&mailboxes, &arrivals),
            // They are looked at again.
            Err(error) => tracing::warn!(%error, "looking for what other processes wrote"),
        }
    }
}

async fn look(app: &App, mailboxes: &[MailboxId]) -> Result<HashMap<MailboxId, u64>, StoreError> {
    app.db.glance("watch", |tx| Box::pin(async move { read::arrivals(tx, mailboxes).await })).await
}
