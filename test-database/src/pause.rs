//! Somebody who stops in the middle and goes on when the test says so: a process that was stopped, and wakes up too late.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// Longer than anything takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where somebody stops, once.
#[derive(Debug)]
pub struct Pause(Mutex<Option<(Sender<()>, Receiver<()>)>>);

/// Whoever has stopped, in the hands of the test.
#[derive(Debug)]
pub struct Sleeper {
    stopped: Receiver<()>,
    go_on: Sender<()>,
}

impl Pause {
    /// A pause, and who will make it.
    pub fn new() -> (Self, Sleeper) {
        let ((arrive, stopped), (go_on, told)) = (channel(), channel());
        (Self(Mutex::new(Some((arrive, told)))), Sleeper { stopped, go_on })
    }

    /// Stops the task that calls until the test goes on, in a runtime of many threads; every other time nothing.
    pub fn here(&self) {
        let pause = self.0.lock().unwrap().take();
        if let Some((arrive, told)) = pause {
            // What else waits for this thread goes on elsewhere.
            tokio::task::block_in_place(|| {
                // Errors: the test is over.
                let _ = arrive.send(());
                let _ = told.recv();
            });
        }
    }
}

impl Sleeper {
    /// Blocks until it has stopped.
    pub fn wait(&self) {
        self.stopped.recv_timeout(PATIENCE).expect("it stops");
    }

    /// Lets it go on.
    pub fn go_on(self) {
        self.go_on.send(()).unwrap();
    }
}
