//! Logs of both servers: to standard error, filtered, as text or as a JSON object a line. Nothing of a span is written: libraries may put
//! addresses there.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::registry::LookupSpan;

use crate::config::Operation;

/// How a line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line, for programs.
    Json,
}

/// What is said on the command line or in the environment, over the configuration.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct LogArgs {
    /// What is logged: `warn`, `debug`, or by part, `info,postern_store=debug`.
    #[arg(long = "log", env = "POSTERN_LOG", value_name = "FILTER")]
    pub filter: Option<String>,
    /// How a line looks.
    #[arg(long = "log-format", env = "POSTERN_LOG_FORMAT", value_name = "FORMAT")]
    pub format: Option<LogFormat>,
}

/// The filter cannot be read.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{0}` is no filter for logs: a level (error, warn, info, debug, trace, off), or part=level, with commas between"
)]
pub struct LogError(String);

impl LogArgs {
    /// Logs from here on. A second time nothing changes.
    ///
    /// # Errors
    /// [`LogError`].
    pub fn start(&self, operation: &Operation) -> Result<(), LogError> {
        let said = self.filter.as_deref().filter(|filter| !filter.is_empty());
        let filter = said.unwrap_or(&operation.log);
        let parsed = EnvFilter::try_new(filter).map_err(|_| LogError(filter.to_owned()))?;
        let format = self.format.unwrap_or(operation.log_format);
        // An error is that somebody logs already.
        let _ = tracing::subscriber::set_global_default(subscriber(parsed, format, std::io::stderr));
        Ok(())
    }
}

/// Of this form, to there.
fn subscriber<W>(filter: EnvFilter, format: LogFormat, to: W) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(to).with_ansi(false);
    match format {
        LogFormat::Text => Box::new(builder.event_format(Plain).finish()),
        LogFormat::Json => Box::new(builder.json().with_current_span(false).with_span_list(false).finish()),
    }
}

/// When, how bad, where, what.
struct Plain;

impl<S, N> FormatEvent<S, N> for Plain
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        SystemTime.format_time(&mut writer)?;
        let of = event.metadata();
        write!(writer, " {:>5} {}: ", of.level(), of.target())?;
        context.field_format().format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(filter: &str, format: LogFormat) -> String {
        let kept = Kept::default();
        let to = kept.clone();
        let subscriber = subscriber(EnvFilter::new(filter), format, move || to.clone());
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::info_span!("connection", peer = "192.0.2.7");
            let _inside = span.enter();
            tracing::info!(messages = 3, "deleted");
            tracing::debug!("not asked for");
        });
        String::from_utf8(kept.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_line_of_json_says_what_happened_and_not_for_whom() {
        let line = logged("info", LogFormat::Json);
        let said: serde_json::Value = serde_json::from_str(line.trim()).unwrap();
        assert_eq!((&said["level"], &said["fields"]["message"]), (&"INFO".into(), &"deleted".into()));
        assert_eq!(said["fields"]["messages"], 3);
        assert!(!line.contains("192.0.2.7"), "{line}");
    }

    #[test]
    fn a_filter_is_of_one_of_the_forms_or_refused() {
        assert!(logged("warn", LogFormat::Text).is_empty());
        let line = logged("info", LogFormat::Text);
        assert!(line.contains("  INFO postern_operate::log::tests: deleted messages=3\n"), "{line}");
        assert!(!line.contains("192.0.2.7"), "{line}");
        let wrong = LogArgs { filter: Some("postern=loud".to_owned()), format: None };
        assert!(wrong.start(&Operation::default()).is_err());
    }
}
