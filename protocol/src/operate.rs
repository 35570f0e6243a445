//! What balancers and operators ask a server.

/// `GET`: whether the process is up. 200 and a word; touches nothing.
pub const HEALTH_PATH: &str = "/healthz";
/// `GET`: whether it can do its work: the database answers, keys are there, it is not stopping. 200 and a word, or 503 and a problem.
pub const READY_PATH: &str = "/readyz";
