//! Why the issuer refuses: one type for every service, rendered in one place ([`crate::http::answer`]).

use postern_protocol::problem::{Problem, ProblemKind};
use postern_store::StoreError;

/// A refusal, or a failure of ours.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// As the problem says.
    #[error("{}", .0.title)]
    Problem(Box<Problem>),
    /// No valid credential of this `Authorization` scheme.
    #[error("a valid credential is needed")]
    Unauthorized(&'static str),
    /// The database failed. Nothing was committed, but for [`StoreError::Lost`], where nobody knows: the identical request learns it.
    #[error("storage: {0}")]
    Store(#[from] StoreError),
    /// Something failed that should not; the text is for the log and names no user.
    #[error("{0}")]
    Failed(&'static str),
}

impl Refusal {
    /// With what was wrong this time; never with anything that identifies who asked or about what.
    pub fn detailed(kind: ProblemKind, detail: &'static str) -> Self {
        Problem::new(kind).detail(detail).into()
    }

    /// With the time to try again, seconds.
    pub fn retry_after(kind: ProblemKind, seconds: u64) -> Self {
        Problem::new(kind).retry_after(seconds).into()
    }
}

impl From<ProblemKind> for Refusal {
    fn from(kind: ProblemKind) -> Self {
        Problem::new(kind).into()
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self::Problem(Box::new(problem))
    }
}
