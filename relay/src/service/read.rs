//! Reading: at least once until acknowledged, oldest first (design §6).

use std::time::Duration;

use futures::Stream;
use postern_protocol::ids::{Base64, MailboxId};
use postern_protocol::problem::ProblemKind;
use postern_protocol::send::{Messages, QueuedMessage};
use postern_protocol::time::Timestamp;
use postern_store::StoreError;
use tokio::time::{Instant, sleep_until};

use crate::app::App;
use crate::db::read::{self, Status};
use crate::error::Refusal;

/// An answer holds about this many bytes of envelopes, and one message in any case.
const MAX_ANSWER: u64 = 1024 * 1024;

/// The oldest messages, at most `limit`. An empty mailbox is waited for, `wait` at the longest.
///
/// # Errors
/// `internal` when the database fails.
pub(crate) async fn messages(app: &App, mailbox: MailboxId, limit: u64, wait: Duration) -> Result<Messages, Refusal> {
    // Listening begins before the first look, so that nothing slips in between. Without room there is no waiting.
    let waiter = if wait.is_zero() { None } else { app.waiters.listen(mailbox) };
    let deadline = Instant::now() + wait;
    let page = page(app, mailbox, limit).await?;
    let Some(mut waiter) = waiter.filter(|_| page.messages.is_empty()) else { return Ok(page) };
    let mut stopping = app.stopping.clone();
    loop {
        tokio::select! {
            () = waiter.woken() => {}
            () = sleep_until(deadline) => return Ok(Messages { messages: Vec::new(), more: false }),
            _ = stopping.wait_for(|stop| *stop) => return Ok(Messages { messages: Vec::new(), more: false }),
        }
        let page = self::page(app, mailbox, limit).await?;
        if !page.messages.is_empty() {
            return Ok(page);
        }
    }
}

async fn page(app: &App, mailbox: MailboxId, limit: u64) -> Result<Messages, Refusal> {
    let (queued, more) = app
        .db
        .read("messages", |tx| {
            Box::pin(async move {
                let sizes = read::sizes(tx, &mailbox, limit.saturating_add(1)).await?;
                let fit = fitting(&sizes, limit);
                let queued = read::fetch(tx, &mailbox, fit).await?;
                Ok::<_, StoreError>((queued, u64::try_from(sizes.len()).unwrap_or(u64::MAX) > fit))
            })
        })
        .await?;
    let messages = queued.into_iter().map(|queued| QueuedMessage {
        message: queued.message,
        arrived: queued.arrived,
        admission: queued.admission,
        envelope: Base64(queued.envelope),
    });
    Ok(Messages { messages: messages.collect(), more })
}

/// How many of the first `limit` messages go into one answer.
fn fitting(sizes: &[u64], limit: u64) -> u64 {
    let mut bytes = 0u64;
    let mut count = 0;
    for size in sizes {
        bytes = bytes.saturating_add(*size);
        if count == limit || (count > 0 && bytes > MAX_ANSWER) {
            break;
        }
        count += 1;
    }
    count
}

/// What an event stream says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// There is something to fetch.
    Mail,
    /// Still here.
    Heartbeat,
}

/// Events of a mailbox until `expires`, or until it is closed or the server stops.
///
/// # Errors
/// `rate-limited` when too many readers wait already.
pub(crate) fn events(
    app: App,
    mailbox: MailboxId,
    expires: Timestamp,
) -> Result<impl Stream<Item = Event> + Send + 'static, Refusal> {
    let mut waiter = app
        .waiters
        .listen(mailbox)
        .ok_or_else(|| Refusal::retry_after(ProblemKind::RateLimited, app.config.limits.heartbeat_seconds))?;
    let heartbeat = Duration::from_secs(app.config.limits.heartbeat_seconds);
    let mut stopping = app.stopping.clone();
    Ok(async_stream::stream! {
        // Readers come together when a server starts: each keeps a time of its own, so that their heartbeats do not.
        let (mut seen, mut due) = (None, Instant::now() + waiter.share_of(heartbeat));
        // A database that fails ends the stream: the client comes back and is told so.
        while app.clock.now() < expires
            // Boxed: an idle reader keeps no room for it.
            && let Ok(Some(status)) = Box::pin(status(&app, mailbox)).await
        {
            waiter.saw(status.arrivals);
            if is_news(seen, status) {
                yield Event::Mail;
            }
            seen = Some(status.arrivals);
            // A heartbeat asks nobody: whatever arrives, and the mailbox's end, wakes.
            loop {
                let woken = tokio::select! {
                    () = waiter.woken() => true,
                    () = sleep_until(due) => false,
                    _ = stopping.wait_for(|stop| *stop) => return,
                };
                while due <= Instant::now() {
                    due += heartbeat;
                }
                if woken || app.clock.now() >= expires {
                    break;
                }
                yield Event::Heartbeat;
            }
        }
    })
}

/// What waits at the beginning is news, and later whatever has arrived since.
fn is_news(seen: Option<u64>, status: Status) -> bool {
    seen.map_or(status.queued > 0, |seen| status.arrivals != seen)
}

async fn status(app: &App, mailbox: MailboxId) -> Result<Option<Status>, StoreError> {
    app.db.glance("mailbox_status", |tx| Box::pin(async move { read::status(tx, &mailbox).await })).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_reader_keeps_less_than_a_kilobyte() {
        fn size<S>(_: fn(App, MailboxId, Timestamp) -> Result<S, Refusal>) -> usize {
            size_of::<S>()
        }
        let bytes = size(events);
        assert!(bytes < 1024, "{bytes}");
    }

    #[test]
    fn an_answer_is_bounded_in_number_and_bytes_but_never_empty() {
        assert_eq!(fitting(&[], 100), 0);
        assert_eq!(fitting(&[4096; 101], 100), 100);
        assert_eq!(fitting(&[65_536; 100], 100), 16);
        assert_eq!(fitting(&[MAX_ANSWER + 1, 1], 100), 1);
    }
}
