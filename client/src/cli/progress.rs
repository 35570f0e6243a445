//! Anything longer than a second shows that it is going on: on standard error, on a terminal, not beside JSON.

use std::future::Future;
use std::io::IsTerminal as _;
use std::time::Duration;

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
