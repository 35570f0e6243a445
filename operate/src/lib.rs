//! What both servers show whoever operates them: health, metrics, logs, what a doctor finds; and the settings of that.
//!
//! **Owns** `/healthz`, `/readyz` and `/metrics`, the port that metrics are on, the form of logs, files with secrets, and the section `[operation]` of both
//! configurations. **May call** `postern-protocol` and `postern-tls`. It knows no table and no user: every label of a metric is a word of this program, which the types see to
//! (`&'static str`), and nothing here sees a request but its method, its route and the kind of its refusal.
//!
//! How to add a metric: a field in the `metrics.rs` of its server, registered there with a sentence of help; it is counted after the commit
//! that makes it true; and a row in `docs/operating.md`.

mod config;
mod doctor;
mod health;
mod log;
mod metrics;
mod requests;
mod secret_file;
mod serve;
mod version;

pub use config::{OPERATION_TEMPLATE, Operation};
pub use doctor::Doctor;
pub use health::{Health, NotReady, Operated, health_routes};
pub use log::{LogArgs, LogError, LogFormat};
pub use metrics::{METRICS_PATH, Metrics};
pub use requests::{Labels, Requests};
pub use secret_file::{SecretFileError, read_database_url, read_secret};
pub use serve::{serve_metrics, start_metrics};
pub use version::version_line;

pub use prometheus_client::metrics::counter::Counter;
pub use prometheus_client::metrics::family::Family;
pub use prometheus_client::metrics::gauge::Gauge;
pub use prometheus_client::metrics::histogram::Histogram;
pub use prometheus_client::registry::Registry;
