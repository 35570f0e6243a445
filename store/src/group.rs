//! Group commit: what comes in while a transaction is under way shares the next one.
//!
//! There is no timer: the worker takes what is queued and goes. So the first of a quiet moment waits for nobody, and under load one commit
//! serves as many as have come meanwhile. The queue is bounded: beyond it nothing is promised.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};

/// Does some jobs, all in one transaction; as many answers, in the same order.
pub type Work<J, A> = Arc<dyn Fn(Vec<J>) -> BoxFuture<'static, Vec<A>> + Send + Sync>;

/// Why a job was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Dropped {
    /// So much is queued that it would take too long.
    #[error("too much is queued")]
    Full,
    /// There was no answer: whether it was done is not known.
    #[error("no answer came from the queue")]
    Closed,
}

/// A worker and its queue. Cloning shares them; it ends when the last clone is dropped.
pub struct Group<J, A> {
    queue: mpsc::Sender<Job<J, A>>,
}

struct Job<J, A> {
    job: J,
    answer: oneshot::Sender<A>,
}

impl<J, A> Clone for Group<J, A> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone() }
    }
}

impl<J, A> std::fmt::Debug for Group<J, A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Group(..)")
    }
}

impl<J: Send + 'static, A: Send + 'static> Group<J, A> {
    /// Starts the worker, which takes at most `most` jobs at a time, in the order in which they come; up to `queued` wait.
    ///
    /// One worker is meant: two have smaller groups, and in their way what they write.
    pub fn start(most: usize, queued: usize, work: Work<J, A>) -> Self {
        let (queue, receiver) = mpsc::channel(queued.max(1));
        tokio::spawn(run(receiver, most.max(1), work));
        Self { queue }
    }

    /// Has a job done. A caller that is dropped meanwhile takes nothing back.
    ///
    /// # Errors
    /// [`Dropped::Full`] at once, and the job is not done; [`Dropped::Closed`].
    pub async fn run(&self, job: J) -> Result<A, Dropped> {
        let (answer, answered) = oneshot::channel();
        self.queue.try_send(Job { job, answer }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Dropped::Full,
            mpsc::error::TrySendError::Closed(_) => Dropped::Closed,
        })?;
        answered.await.map_err(|_| Dropped::Closed)
    }
}

async fn run<J, A>(mut queue: mpsc::Receiver<Job<J, A>>, most: usize, work: Work<J, A>) {
    let mut taken = Vec::new();
    while queue.recv_many(&mut taken, most).await > 0 {
        let (jobs, answers): (Vec<J>, Vec<_>) = taken.drain(..).map(|Job { job, answer }| (job, answer)).unzip();
        // A panic costs its own jobs their answer, and nobody else theirs.
        let done = AssertUnwindSafe(async { work(jobs).await }).catch_unwind().await.unwrap_or_default();
        for (answer, to) in done.into_iter().zip(answers) {
            // Whoever asked may have gone.
            drop(to.send(answer));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Semaphore;

    use super::*;

    type Sizes = Arc<Mutex<Vec<usize>>>;

    /// A group whose batches wait for permits, and their sizes.
    fn gated(queued: usize) -> (Group<u32, u32>, Arc<Semaphore>, Sizes) {
        let (gate, sizes) = (Arc::new(Semaphore::new(0)), Arc::new(Mutex::new(Vec::new())));
        let (through, seen) = (Arc::clone(&gate), Arc::clone(&sizes));
        let work: Work<u32, u32> = Arc::new(move |jobs| {
            let (through, seen) = (Arc::clone(&through), Arc::clone(&seen));
            Box::pin(async move {
                through.acquire().await.unwrap().forget();
                seen.lock().unwrap().push(jobs.len());
                jobs.into_iter().map(|n| n * 2).collect()
            })
        });
        (Group::start(8, queued, work), gate, sizes)
    }

    #[tokio::test]
    async fn the_first_goes_alone_and_those_that_come_meanwhile_go_together() {
        let (group, gate, sizes) = gated(64);
        let first = tokio::spawn({
            let group = group.clone();
            async move { group.run(1).await }
        });
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        let rest: Vec<_> = (2..14)
            .map(|n| {
                let group = group.clone();
                tokio::spawn(async move { (n, group.run(n).await) })
            })
            .collect();
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        gate.add_permits(10);
        assert_eq!(first.await.unwrap(), Ok(2));
        for done in rest {
            let (n, answer) = done.await.unwrap();
            assert_eq!(answer, Ok(2 * n), "everybody gets their own answer");
        }
        assert_eq!(*sizes.lock().unwrap(), [1, 8, 4], "eight at most");
    }

    #[tokio::test]
    async fn beyond_the_queue_a_job_is_refused_at_once_and_the_others_are_done() {
        let (group, gate, _) = gated(4);
        let full = Arc::new(AtomicUsize::new(0));
        let all: Vec<_> = (0..20)
            .map(|n| {
                let (group, full) = (group.clone(), Arc::clone(&full));
                tokio::spawn(async move {
                    if group.run(n).await == Err(Dropped::Full) {
                        full.fetch_add(1, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        assert!(full.load(Ordering::SeqCst) >= 20 - 4 - 8);
        gate.add_permits(20);
        for one in all {
            one.await.unwrap();
        }
        assert!(full.load(Ordering::SeqCst) < 20);
        assert_eq!(group.run(5).await, Ok(10));
    }

    #[tokio::test]
    async fn a_panic_costs_its_own_jobs_their_answer_and_the_worker_goes_on() {
        let work: Work<u32, u32> = Arc::new(|jobs| {
            assert!(!jobs.contains(&1), "a planted panic");
            Box::pin(async { jobs })
        });
        let group = Group::start(8, 8, work);
        assert_eq!(group.run(1).await, Err(Dropped::Closed));
        assert_eq!(group.run(2).await, Ok(2));
    }
}
