//! Who has a place, and who has had nothing to answer for how long.

use std::collections::HashMap;
use std::sync::atomic::{
    AtomicU64, AtomicUsize,
    Ordering::{AcqRel, Acquire, Relaxed},
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// Connections of this process, of whichever listener.
static OPEN: AtomicUsize = AtomicUsize::new(0);

/// How many connections this process has open.
pub fn open_connections() -> usize {
    OPEN.load(Relaxed)
}

/// All places.
pub(crate) struct Seats {
    most: usize,
    began: Instant,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    next: u64,
    connections: HashMap<u64, Arc<State>>,
}

/// What is known of a connection.
struct State {
    began: Instant,
    /// Requests that are not answered to the end.
    busy: AtomicUsize,
    /// When it last had something to answer, or moved a byte of it: milliseconds since `began`.
    since: AtomicU64,
    evict: Notify,
    /// The last request was answered.
    freed: Notify,
}

impl State {
    fn touch(&self) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.since.store(now, Relaxed);
    }

    /// For how long it has had nothing to answer; `None` if it has something.
    fn idle(&self) -> Option<Duration> {
        let idle = self.began.elapsed().saturating_sub(Duration::from_millis(self.since.load(Relaxed)));
        (self.busy.load(Acquire) == 0).then_some(idle)
    }
}

impl Seats {
    pub(crate) fn new(most: usize) -> Self {
        Self { most, began: Instant::now(), taken: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place, if need be that of the connection that was idle for longest; `None` if there is none that is idle.
    pub(crate) fn take(self: &Arc<Self>) -> Option<Seat> {
        let mut taken = self.lock();
        if taken.connections.len() >= self.most && !taken.evict() {
            return None;
        }
        let (busy, since) = (AtomicUsize::new(0), AtomicU64::new(0));
        let state = Arc::new(State { began: self.began, busy, since, evict: Notify::new(), freed: Notify::new() });
        state.touch();
        let number = taken.next;
        taken.next = taken.next.wrapping_add(1);
        taken.connections.insert(number, Arc::clone(&state));
        drop(taken);
        OPEN.fetch_add(1, Relaxed);
        Some(Seat { seats: Arc::clone(self), number, state })
    }

    /// Makes a place free; false if no connection is idle.
    pub(crate) fn evict(&self) -> bool {
        self.lock().evict()
    }

    /// How many are taken.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.lock().connections.len()
    }
}

impl Taken {
    fn evict(&mut self) -> bool {
        let idle = self.connections.iter().filter_map(|(number, state)| Some((state.idle()?, *number)));
        let Some((_, longest)) = idle.max() else { return false };
        if let Some(state) = self.connections.remove(&longest) {
            state.evict.notify_one();
        }
        true
    }
}

/// A place; given back when dropped.
pub(crate) struct Seat {
    seats: Arc<Seats>,
    number: u64,
    state: Arc<State>,
}

impl Seat {
    /// For the parts of the connection that do something.
    pub(crate) fn watch(&self) -> Watch {
        Watch(Arc::clone(&self.state))
    }

    /// Returns when somebody else needs the place.
    pub(crate) async fn evicted(&self) {
        self.state.evict.notified().await;
    }

    /// Returns when there was nothing to answer for so long.
    pub(crate) async fn idle_for(&self, most: Duration) {
        loop {
            // Before the look: what is freed after it is noticed.
            let freed = self.state.freed.notified();
            match self.state.idle() {
                Some(idle) if idle >= most => return,
                Some(idle) => tokio::time::sleep(most.saturating_sub(idle)).await,
                // No timer for whoever has something to answer: ten thousand readers wait for hours.
                None => freed.await,
            }
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Relaxed);
        self.seats.lock().connections.remove(&self.number);
    }
}

/// Says that something is being done.
#[derive(Clone)]
pub(crate) struct Watch(Arc<State>);

impl Watch {
    /// A byte was moved.
    pub(crate) fn touch(&self) {
        self.0.touch();
    }

    /// There is something to answer, until what is returned is dropped.
    pub(crate) fn busy(&self) -> Busy {
        self.0.busy.fetch_add(1, Relaxed);
        Busy(Arc::clone(&self.0))
    }
}

/// Something is to be answered.
pub(crate) struct Busy(Arc<State>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.touch();
        if self.0.busy.fetch_sub(1, AcqRel) == 1 {
            self.0.freed.notify_waiters();
        }
    }
}
