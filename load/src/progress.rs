//! What a terminal shows meanwhile, on standard error: rate and 99th percentile so far. Nothing where nobody looks.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::measure::Recorder;
use crate::pace::Limit;

const TICK: Duration = Duration::from_millis(200);

/// A bar that moves by itself until it is dropped.
#[derive(Debug)]
pub(crate) struct Progress(Option<(ProgressBar, JoinHandle<()>)>);

impl Progress {
    /// While things are made ready.
    pub(crate) fn preparing(text: &'static str) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self(None);
        }
        let bar = ProgressBar::new_spinner().with_message(text);
        bar.enable_steady_tick(TICK);
        Self(Some((bar, tokio::spawn(std::future::ready(())))))
    }

    /// While work of this name is recorded.
    pub(crate) fn of(recorder: &Arc<Recorder>, name: &'static str, limit: Limit) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self(None);
        }
        let template = ProgressStyle::with_template("{wide_bar} {msg}");
        let bar = ProgressBar::new(1000).with_style(template.unwrap_or_else(|_| ProgressStyle::default_bar()));
        let (shown, recorder) = (bar.clone(), Arc::clone(recorder));
        let task = tokio::spawn(async move {
            let begin = Instant::now();
            loop {
                tokio::time::sleep(TICK).await;
                let (count, p99) = recorder.so_far(name);
                let rate = count as f64 / begin.elapsed().as_secs_f64();
                shown.set_message(format!("{count} {name}, {rate:.0}/s, p99 {:.1} ms", p99.as_secs_f64() * 1000.0));
                shown.set_position(permille(limit, count, begin.elapsed()));
            }
        });
        Self(Some((bar, task)))
    }
}

/// How far it is, of whichever limit is nearer.
fn permille(limit: Limit, count: u64, elapsed: Duration) -> u64 {
    let by_count = limit.count.map(|most| count.saturating_mul(1000) / most.max(1));
    let by_time =
        limit.duration.map(|longest| (elapsed.as_secs_f64() / longest.as_secs_f64().max(0.001) * 1000.0) as u64);
    by_count.max(by_time).unwrap_or_default().min(1000)
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((bar, task)) = &self.0 {
            task.abort();
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_follows_the_limit_that_is_nearer() {
        let limit = Limit { duration: Some(Duration::from_secs(10)), count: Some(100) };
        assert_eq!(permille(limit, 20, Duration::from_secs(5)), 500);
        assert_eq!(permille(limit, 90, Duration::from_secs(5)), 900);
        assert_eq!(permille(limit, 900, Duration::from_secs(50)), 1000);
        assert_eq!(permille(Limit::default(), 900, Duration::from_secs(50)), 0);
    }
}
