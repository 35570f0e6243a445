//! The section `[operation]`, the same in both configurations.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::log::LogFormat;

/// How an operator looks in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Operation {
    /// Where `/metrics` is asked for, without TLS and by whoever reaches it; none: nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<SocketAddr>,
    /// Whether that may be an address that other machines reach.
    pub metrics_anywhere: bool,
    /// How often what `/metrics` shows changes, seconds: nothing it tells is finer in time.
    pub metrics_seconds: u64,
    /// What is logged; POSTERN_LOG and `--log` go over it.
    pub log: String,
    /// How a line of it looks; POSTERN_LOG_FORMAT and `--log-format` go over it.
    pub log_format: LogFormat,
}

impl Default for Operation {
    fn default() -> Self {
        let (log, log_format) = ("info".to_owned(), LogFormat::Text);
        Self { metrics: None, metrics_anywhere: false, metrics_seconds: 60, log, log_format }
    }
}

impl Operation {
    /// What must hold, and what is said if it does not.
    pub fn rules(&self) -> [(bool, &'static str); 2] {
        let is_here = self.metrics.is_none_or(|at| at.ip().is_loopback());
        [
            (
                is_here || self.metrics_anywhere,
                "`operation.metrics` must be a loopback address, or `operation.metrics_anywhere` be true",
            ),
            (self.metrics_seconds > 0, "`operation.metrics_seconds` must not be 0"),
        ]
    }
}

/// The section as `init` writes it.
pub const OPERATION_TEMPLATE: &str = r#"# How you look in (docs/operating.md).
[operation]
# metrics = "127.0.0.1:9464"          # Prometheus asks here for /metrics; nowhere if it is not set
# metrics_anywhere = false            # whether that may be an address that other machines reach
# metrics_seconds = 60                # how often what /metrics shows changes
# log = "info"                        # or error, warn, debug, trace, off; POSTERN_LOG and --log go over it
# log_format = "text"                 # or "json", one object a line
"#;

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(operation: &Operation) -> bool {
        operation.rules().iter().all(|(holds, _)| *holds)
    }

    #[test]
    fn metrics_are_on_loopback_unless_it_is_said_otherwise() {
        assert!(holds(&Operation::default()));
        for (at, is_here) in
            [("127.0.0.1:9464", true), ("[::1]:9464", true), ("0.0.0.0:9464", false), ("192.168.1.2:9464", false)]
        {
            let operation = Operation { metrics: Some(at.parse().unwrap()), ..Operation::default() };
            assert_eq!(holds(&operation), is_here, "{at}");
            assert!(holds(&Operation { metrics_anywhere: true, ..operation }), "{at}");
        }
        assert!(!holds(&Operation { metrics_seconds: 0, ..Operation::default() }));
    }

    #[test]
    fn the_template_says_the_defaults_and_has_every_key() {
        #[derive(Deserialize)]
        struct File {
            operation: Operation,
        }
        let as_written: File = toml::from_str(OPERATION_TEMPLATE).unwrap();
        assert_eq!(as_written.operation, Operation::default());
        let lines =
            OPERATION_TEMPLATE.lines().filter_map(|line| line.strip_prefix("# ")).filter(|line| line.contains(" = "));
        let uncommented: String = lines.map(|line| format!("{line}\n")).collect();
        let read: Operation = toml::from_str(&uncommented).unwrap();
        let example = Some("127.0.0.1:9464".parse().unwrap());
        assert_eq!(read, Operation { metrics: example, ..Operation::default() });
        let all = toml::Value::try_from(&read).unwrap();
        assert_eq!(all.as_table().unwrap().len(), uncommented.lines().count(), "every key once");
    }
}
