//! What `/metrics` shows: a picture that is taken once in so many seconds, so that nothing it tells is finer in time, and however often it is
//! asked for, it costs no more.

use futures::future::BoxFuture;
use postern_protocol::time::Timestamp;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::sync::Mutex;

/// `GET`: all metrics, in the text format of OpenMetrics 1.0.
pub const METRICS_PATH: &str = "/metrics";
/// The media type that goes with it.
pub(crate) const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The last picture, and how to take the next.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    seconds: u64,
    last: Mutex<Option<Picture>>,
}

#[derive(Debug)]
struct Picture {
    /// Which span of time it is of.
    span: u64,
    text: String,
}

impl Metrics {
    /// Of everything in the registry, once in so many seconds.
    pub fn new(registry: Registry, seconds: u64) -> Self {
        Self { registry, seconds: seconds.max(1), last: Mutex::default() }
    }

    /// The picture of this span of time. `count` brings up to date what is counted from the database, before one is taken.
    pub async fn text(&self, now: Timestamp, count: BoxFuture<'_, ()>) -> String {
        let span = now.seconds() / self.seconds;
        let mut last = self.last.lock().await;
        if let Some(picture) = last.as_ref().filter(|picture| picture.span == span) {
            return picture.text.clone();
        }
        count.await;
        let mut text = String::new();
        if encode(&mut text, &self.registry).is_err() {
            // A String takes whatever is written.
            text.clear();
        }
        *last = Some(Picture { span, text: text.clone() });
        text
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;

    use super::*;

    #[tokio::test]
    async fn between_two_pictures_nothing_is_seen_of_when_something_happened() {
        let (mut registry, things) = (Registry::with_prefix("test"), Counter::<u64>::default());
        registry.register("things", "Things that happened", things.clone());
        let metrics = Metrics::new(registry, 60);
        let at = |seconds| metrics.text(Timestamp::from_seconds(seconds), Box::pin(async {}));
        let first = at(600).await;
        assert!(first.contains("test_things_total 0\n"), "{first}");
        things.inc();
        for second in 600..660 {
            assert_eq!(at(second).await, first);
        }
        assert!(at(660).await.contains("test_things_total 1\n"));
    }
}
