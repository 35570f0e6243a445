//! What other processes wrote. Each rings its bell, a row of its own, in the transactions that give readers something to see; whoever has
//! readers that wait looks at the bells, and only if another's has rung at how many messages ever arrived for them. So any number of
//! relays behind one name wake each other's readers, on any engine, and readers cost nothing while nothing comes for them (ADR 18).

use std::collections::HashMap;
use std::time::Duration;

use postern_protocol::ids::MailboxId;
use postern_store::{Holder, StoreError};
use tokio::time::{Instant, sleep};

use crate::app::App;
use crate::db::read;

/// Looks until the task is dropped.
pub(crate) async fn run(app: &App) {
    let limits = &app.config.limits;
    // Were a bell ever missed, no reader would wait longer for it than for a heartbeat.
    let in_any_case = Duration::from_secs(limits.heartbeat_seconds);
    let (mut heard, mut looked) = (HashMap::new(), Instant::now());
    loop {
        sleep(Duration::from_millis(limits.recheck_milliseconds)).await;
        if app.waiters.are_none() {
            continue;
        }
        let is_due = looked.elapsed() >= in_any_case;
        match look(app, &heard, is_due).await {
            Ok(Some(rung)) => (heard, looked) = (rung, Instant::now()),
            Ok(None) => {}
            // They are looked at again.
            Err(error) => tracing::warn!(%error, "looking for what other processes wrote"),
        }
    }
}

/// Wakes the readers for whom there is something, if another process has rung since, or if `is_due`; then what the bells said before.
async fn look(
    app: &App,
    heard: &HashMap<Holder, u64>,
    is_due: bool,
) -> Result<Option<HashMap<Holder, u64>>, StoreError> {
    let rung = app.db.glance("bells", |tx| Box::pin(async move { read::rung(tx).await })).await?;
    let is_news = |(process, count): (&Holder, &u64)| *process != app.holder && heard.get(process) != Some(count);
    if !is_due && !rung.iter().any(is_news) {
        return Ok(None);
    }
    let mailboxes: Vec<MailboxId> = app.waiters.listening();
    let arrivals = app.db.glance("watch", |tx| {
        let mailboxes = &mailboxes;
        Box::pin(async move { read::arrivals(tx, mailboxes).await })
    });
    app.waiters.observe(&mailboxes, &arrivals.await?);
    Ok(Some(rung))
}
