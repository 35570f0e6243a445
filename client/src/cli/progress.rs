//! Anything longer than a second shows that it is going on: on standard error, on a terminal, not beside JSON.

use std::future::Future;
use std::io::IsTerminal as _;
use std::time::Duration;

use crate::lookup::{Progress, Step};

/// Runs `work`; after 0.8 s a spinner with this text turns until it is done.
pub(super) async fn spinning<T>(quiet: bool, text: &str, work: impl Future<Output = T>) -> T {
    tokio::pin!(work);
    if quiet || !std::io::stderr().is_terminal() {
        return work.await;
    }
    tokio::select! {
        out = &mut work => return out,
        () = tokio::time::sleep(Duration::from_millis(800)) => {}
    }
    let spinner = indicatif::ProgressBar::new_spinner().with_message(text.to_owned());
    spinner.enable_steady_tick(Duration::from_millis(120));
    let out = work.await;
    spinner.finish_and_clear();
    out
}

/// A bar that counts.
pub(super) struct Counting(Option<indicatif::ProgressBar>);

/// A bar for a look-up; nothing beside JSON, or where nobody looks.
pub(super) fn counting(quiet: bool) -> Counting {
    let visible = !quiet && std::io::stderr().is_terminal();
    let style = indicatif::ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len}, {eta} left");
    let style = style.unwrap_or_else(|_| indicatif::ProgressStyle::default_bar());
    Counting(visible.then(|| indicatif::ProgressBar::new(0).with_style(style)))
}

impl Counting {
    /// How far it has come.
    pub(super) fn show(&self, progress: Progress) {
        let Some(bar) = &self.0 else { return };
        bar.set_message(match progress.step {
            Step::Numbers => "asking for the numbers, blinded",
            Step::Buckets => "fetching the directory",
        });
        bar.set_length(u64::try_from(progress.of).unwrap_or(u64::MAX));
        bar.set_position(u64::try_from(progress.done).unwrap_or(u64::MAX));
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
