//! When work is started: as soon as earlier work has ended (closed loop), or at a fixed rate whatever happens (open loop).
//!
//! In the open loop each piece of work has a moment at which it is due, and its latency counts from that moment: a server that stalls
//! is charged for everybody who would have come meanwhile (no coordinated omission). At each wake all that is due is started.
//! What cannot be started because too much is outstanding is counted, and not measured.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::measure::{Outcome, Recorder};

/// Below this the timer of tokio, which counts in milliseconds, is too coarse.
const COARSE: Duration = Duration::from_millis(20);
/// The shortest sleep that is worth a wake.
const SHORTEST: Duration = Duration::from_micros(200);

/// When work is started.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// So many at a time, each followed at once by the next.
    Closed {
        /// How many.
        in_flight: usize,
    },
    /// So many a second, evenly.
    Open {
        /// How many a second.
        per_second: f64,
        /// How many may be outstanding at a time; beyond it nothing is started.
        most_outstanding: usize,
    },
}

/// How much work. Whatever comes first ends it; with neither, only [`Stop`] does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limit {
    /// Nothing is started later than this; what was started is finished.
    pub duration: Option<Duration>,
    /// So many pieces of work.
    pub count: Option<u64>,
}

/// Ends a run early, from anywhere. What was started is finished and measured.
#[derive(Clone, Debug)]
pub struct Stop(Arc<watch::Sender<bool>>);

impl Default for Stop {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }
}

impl Stop {
    /// Starts nothing more.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }

    /// Whether it was stopped.
    pub fn is_stopped(&self) -> bool {
        *self.0.borrow()
    }

    /// Until it is stopped.
    pub async fn stopped(&self) {
        // The sender lives as long as `self`, so this cannot end otherwise.
        let _ = self.0.subscribe().wait_for(|stopped| *stopped).await;
    }
}

/// What [`run`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ran {
    /// Pieces of work that were started.
    pub started: u64,
    /// Those that ended, and were recorded. Fewer than started only if some panicked.
    pub ended: u64,
    /// Those of an open loop that were due and could not be started. No latency speaks of them.
    pub not_started: u64,
    /// The most by which the start of one was late, in an open loop. It is part of the latencies.
    pub latest_start: Duration,
    /// From the beginning to the end of the last.
    pub elapsed: Duration,
}

#[derive(Default)]
struct Counts {
    started: AtomicU64,
    ended: AtomicU64,
}

/// Does `work` at this pace until the limit, and records it under `name`. `work` gets numbers from 0 on, each once.
pub async fn run<W, F>(
    pace: Pace,
    limit: Limit,
    stop: &Stop,
    recorder: &Arc<Recorder>,
    name: &'static str,
    work: W,
) -> Ran
where
    W: Fn(u64) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Outcome> + Send + 'static,
{
    run_by(Alarm::fine(), pace, limit, stop, recorder, name, work).await
}

async fn run_by<W, F>(
    alarm: Alarm,
    pace: Pace,
    limit: Limit,
    stop: &Stop,
    recorder: &Arc<Recorder>,
    name: &'static str,
    work: W,
) -> Ran
where
    W: Fn(u64) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Outcome> + Send + 'static,
{
    let begin = Instant::now();
    let counts = Arc::new(Counts::default());
    let once = Once { counts: Arc::clone(&counts), recorder: Arc::clone(recorder), name, work };
    let (not_started, latest_start) = match pace {
        Pace::Closed { in_flight } => {
            closed(in_flight, limit, stop, begin, once).await;
            (0, Duration::ZERO)
        }
        Pace::Open { per_second, most_outstanding } => {
            let schedule = Schedule { begin, per_second, alarm };
            open(schedule, most_outstanding, limit, stop, once).await
        }
    };
    let (started, ended) = (counts.started.load(Ordering::SeqCst), counts.ended.load(Ordering::SeqCst));
    Ran { started, ended, not_started, latest_start, elapsed: begin.elapsed() }
}

/// Does and records one piece of work.
#[derive(Clone)]
struct Once<W> {
    counts: Arc<Counts>,
    recorder: Arc<Recorder>,
    name: &'static str,
    work: W,
}

impl<W, F> Once<W>
where
    W: Fn(u64) -> F,
    F: Future<Output = Outcome>,
{
    async fn run(&self, number: u64, since: Instant) {
        let outcome = (self.work)(number).await;
        self.recorder.record(self.name, since.elapsed(), &outcome);
        self.counts.ended.fetch_add(1, Ordering::SeqCst);
    }
}

async fn closed<W, F>(in_flight: usize, limit: Limit, stop: &Stop, begin: Instant, once: Once<W>)
where
    W: Fn(u64) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Outcome> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    for _ in 0..in_flight.max(1) {
        let (once, stop) = (once.clone(), stop.clone());
        tasks.spawn(async move {
            while !stop.is_stopped() && limit.duration.is_none_or(|longest| begin.elapsed() < longest) {
                let next = |n: u64| limit.count.is_none_or(|most| n < most).then_some(n.saturating_add(1));
                let claimed = once.counts.started.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next);
                let Ok(number) = claimed else { break };
                once.run(number, Instant::now()).await;
                // So that work that never waits cannot keep the others from their turn.
                tokio::task::consume_budget().await;
            }
        });
    }
    while tasks.join_next().await.is_some() {}
}

/// When each piece of work of an open loop is due, and what wakes it.
struct Schedule {
    begin: Instant,
    per_second: f64,
    alarm: Alarm,
}

impl Schedule {
    /// Computed from the beginning each time: rounding does not add up.
    fn due(&self, number: u64) -> Option<Instant> {
        let after = Duration::try_from_secs_f64(number as f64 / self.per_second).ok()?;
        self.begin.checked_add(after)
    }
}

async fn open<W, F>(
    mut schedule: Schedule,
    most_outstanding: usize,
    limit: Limit,
    stop: &Stop,
    once: Once<W>,
) -> (u64, Duration)
where
    W: Fn(u64) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Outcome> + Send + 'static,
{
    let most = u32::try_from(most_outstanding.max(1)).unwrap_or(u32::MAX).min(1 << 20);
    let outstanding = Arc::new(Semaphore::new(most as usize));
    let (mut not_started, mut latest_start) = (0, Duration::ZERO);
    let mut number = 0;
    while limit.count.is_none_or(|count| number < count) {
        let Some(due) = schedule.due(number) else { break };
        if limit.duration.is_some_and(|longest| due.duration_since(schedule.begin) >= longest) {
            break;
        }
        let now = Instant::now();
        if due > now {
            tokio::select! {
                () = schedule.alarm.sleep(due.duration_since(now)) => {}
                () = stop.stopped() => {}
            }
        }
        if stop.is_stopped() {
            break;
        }
        if Instant::now() < due {
            continue;
        }
        match Arc::clone(&outstanding).try_acquire_owned() {
            Ok(permit) => {
                latest_start = latest_start.max(due.elapsed());
                // A number of its own for each that is started: what is left out leaves no gap.
                let mine = once.counts.started.fetch_add(1, Ordering::SeqCst);
                let once = once.clone();
                tokio::spawn(async move {
                    once.run(mine, due).await;
                    drop(permit);
                });
            }
            Err(_) => not_started += 1,
        }
        number += 1;
    }
    // All permits together: everything has ended. The semaphore is never closed.
    let _ = outstanding.acquire_many(most).await;
    (not_started, latest_start)
}

/// Sleeps more finely than tokio's timer, by a thread that does nothing else. Without a thread: by tokio's timer.
struct Alarm(Option<(std::sync::mpsc::Sender<Duration>, mpsc::Receiver<()>)>);

impl Alarm {
    fn fine() -> Self {
        Self(thread())
    }

    async fn sleep(&mut self, duration: Duration) {
        match &mut self.0 {
            // The last part of a long sleep is slept finely, the next time round.
            Some(_) if duration > COARSE => tokio::time::sleep(duration.saturating_sub(COARSE / 2)).await,
            Some((ask, rung)) if ask.send(duration.max(SHORTEST)).is_ok() => drop(rung.recv().await),
            _ => tokio::time::sleep(duration).await,
        }
    }
}

fn thread() -> Option<(std::sync::mpsc::Sender<Duration>, mpsc::Receiver<()>)> {
    let (ask, asked) = std::sync::mpsc::channel::<Duration>();
    let (ring, rung) = mpsc::channel(1);
    let sleeper = move || {
        while let Ok(duration) = asked.recv() {
            std::thread::sleep(duration);
            if ring.blocking_send(()).is_err() {
                break;
            }
        }
    };
    std::thread::Builder::new().name("alarm".to_owned()).spawn(sleeper).ok()?;
    Some((ask, rung))
}

#[cfg(test)]
mod tests;
