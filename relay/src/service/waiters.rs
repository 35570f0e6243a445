//! Readers that wait for mail: one wake-up channel per mailbox, for as long as somebody listens, and never too many.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use postern_protocol::ids::MailboxId;
use tokio::sync::watch;

/// All waiting readers of this process.
#[derive(Clone)]
pub(crate) struct Waiters(Arc<Inner>);

struct Inner {
    most: usize,
    most_per_mailbox: usize,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    total: usize,
    /// How many readers there ever were.
    ever: u64,
    bells: HashMap<MailboxId, Bell>,
}

struct Bell {
    sender: watch::Sender<()>,
    /// How many messages had ever arrived when that was looked at last; none before the first look.
    arrivals: Option<u64>,
    listeners: usize,
}

impl Waiters {
    /// Room for `most` readers, `most_per_mailbox` of them at one mailbox.
    pub(crate) fn new(most: usize, most_per_mailbox: usize) -> Self {
        Self(Arc::new(Inner { most, most_per_mailbox, table: Mutex::default() }))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Listens at a mailbox from now on; none if there is no room.
    pub(crate) fn listen(&self, mailbox: MailboxId) -> Option<Waiter> {
        let mut table = self.table();
        let listening = table.bells.get(&mailbox).map_or(0, |bell| bell.listeners);
        if table.total >= self.0.most || listening >= self.0.most_per_mailbox {
            return None;
        }
        table.total += 1;
        table.ever = table.ever.wrapping_add(1);
        let turn = table.ever;
        let bell = table.bells.entry(mailbox).or_insert_with(|| Bell {
            sender: watch::Sender::new(()),
            arrivals: None,
            listeners: 0,
        });
        bell.listeners += 1;
        let receiver = bell.sender.subscribe();
        drop(table);
        Some(Waiter { mailbox, turn, receiver, waiters: self.clone() })
    }

    /// How many listen.
    pub(crate) fn count(&self) -> usize {
        self.table().total
    }

    /// Whether nobody listens anywhere.
    pub(crate) fn are_none(&self) -> bool {
        self.table().bells.is_empty()
    }

    /// Where somebody listens.
    pub(crate) fn listening(&self) -> Vec<MailboxId> {
        self.table().bells.keys().copied().collect()
    }

    /// Wakes whoever listens at those of the mailboxes where something has arrived since the last look, or that are gone. The first look
    /// at a mailbox wakes as well: nobody knows what came before it.
    pub(crate) fn observe(&self, mailboxes: &[MailboxId], arrivals: &HashMap<MailboxId, u64>) {
        let mut table = self.table();
        for mailbox in mailboxes {
            let Some(bell) = table.bells.get_mut(mailbox) else { continue };
            let now = arrivals.get(mailbox).copied();
            if now.is_none() || bell.arrivals != now {
                bell.arrivals = now;
                bell.sender.send_replace(());
            }
        }
    }

    /// Wakes whoever listens at the mailbox.
    pub(crate) fn wake(&self, mailbox: &MailboxId) {
        if let Some(bell) = self.table().bells.get(mailbox) {
            bell.sender.send_replace(());
        }
    }
}

/// A place among the waiting readers, given up on drop.
pub(crate) struct Waiter {
    mailbox: MailboxId,
    turn: u64,
    receiver: watch::Receiver<()>,
    waiters: Waiters,
}

impl Waiter {
    /// Notes how many messages had ever arrived when the reader looked, so that only another number wakes it.
    pub(crate) fn saw(&self, arrivals: u64) {
        let mut table = self.waiters.table();
        let Some(bell) = table.bells.get_mut(&self.mailbox) else { return };
        if bell.arrivals.replace(arrivals) != Some(arrivals) && bell.listeners > 1 {
            // Others at this mailbox have seen another number, or none.
            bell.sender.send_replace(());
        }
    }

    /// A part of `whole`, such that those of readers one after the other spread evenly over it (Fibonacci hashing).
    pub(crate) fn share_of(&self, whole: Duration) -> Duration {
        let turn = u128::from(self.turn.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        Duration::from_nanos(((whole.as_nanos().min(u128::from(u64::MAX)) * turn) >> 64) as u64)
    }

    /// Returns once the mailbox has been woken since the last return, or since listening began: no wake-up is lost.
    pub(crate) async fn woken(&mut self) {
        if self.receiver.changed().await.is_err() {
            // The sender lives in the table as long as this place does.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut table = self.waiters.table();
        table.total = table.total.saturating_sub(1);
        if let Entry::Occupied(mut entry) = table.bells.entry(self.mailbox) {
            entry.get_mut().listeners -= 1;
            if entry.get().listeners == 0 {
                entry.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wake_up_before_the_wait_is_not_lost_and_nothing_stays_behind() {
        let waiters = Waiters::new(3, 2);
        let mailbox = MailboxId([1; 32]);
        let mut first = waiters.listen(mailbox).unwrap();
        let second = waiters.listen(mailbox).unwrap();
        assert!(waiters.listen(mailbox).is_none(), "two at one mailbox");
        let other = waiters.listen(MailboxId([2; 32])).unwrap();
        assert!(waiters.listen(MailboxId([3; 32])).is_none(), "three in all");
        waiters.wake(&mailbox);
        first.woken().await;
        drop((first, second, other));
        assert!(waiters.table().bells.is_empty());
        assert_eq!(waiters.table().total, 0);
    }

    #[test]
    fn the_shares_of_readers_who_come_together_spread_evenly() {
        let (waiters, whole) = (Waiters::new(1000, 1000), Duration::from_secs(15));
        let readers: Vec<_> = (0..1000).map(|_| waiters.listen(MailboxId([1; 32])).unwrap()).collect();
        let mut tenths = [0; 10];
        for reader in &readers {
            let share = reader.share_of(whole);
            assert!(share < whole, "{share:?}");
            tenths[(share.as_secs_f64() / 1.5) as usize] += 1;
        }
        assert!(tenths.iter().all(|count| (95..=105).contains(count)), "{tenths:?}");
    }

    #[tokio::test]
    async fn what_has_arrived_elsewhere_wakes_once_and_only_where_it_arrived() {
        let waiters = Waiters::new(9, 9);
        let mailboxes = [1, 2, 3].map(|n| MailboxId([n; 32]));
        let mut readers = mailboxes.map(|mailbox| waiters.listen(mailbox).unwrap());
        let mut woken = async |arrivals: [Option<u64>; 3]| {
            let known = mailboxes.iter().zip(arrivals).filter_map(|(mailbox, n)| Some((*mailbox, n?))).collect();
            waiters.observe(&mailboxes, &known);
            let mut woken = Vec::new();
            for reader in &mut readers {
                woken.push(tokio::time::timeout(std::time::Duration::ZERO, reader.woken()).await.is_ok());
            }
            woken
        };
        assert_eq!(woken([Some(0), Some(7), Some(0)]).await, [true; 3], "the first look");
        assert_eq!(woken([Some(0), Some(7), Some(0)]).await, [false; 3]);
        assert_eq!(woken([Some(0), Some(8), Some(0)]).await, [false, true, false]);
        assert_eq!(woken([Some(0), Some(8), None]).await, [false, false, true], "it is gone");
    }

    #[tokio::test]
    async fn what_the_only_reader_has_seen_wakes_nobody_and_what_one_of_two_has_seen_wakes_the_other() {
        let waiters = Waiters::new(9, 9);
        let mailbox = MailboxId([1; 32]);
        let is_woken =
            async |reader: &mut Waiter| tokio::time::timeout(std::time::Duration::ZERO, reader.woken()).await.is_ok();
        let mut first = waiters.listen(mailbox).unwrap();
        first.saw(5);
        waiters.observe(&[mailbox], &HashMap::from([(mailbox, 5)]));
        assert!(!is_woken(&mut first).await);
        let second = waiters.listen(mailbox).unwrap();
        second.saw(6);
        waiters.observe(&[mailbox], &HashMap::from([(mailbox, 6)]));
        assert!(is_woken(&mut first).await, "the sixth came while it waited");
    }
}
