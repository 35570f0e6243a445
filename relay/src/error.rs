//! Why the relay refuses: one type for every service, rendered in one place (`http/problem.rs`).

use postern_protocol::problem::{Problem, ProblemKind};
use postern_store::StoreError;

/// A refusal, or a failure of ours.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// As the problem says.
    #[error("{}", .0.title)]
    Problem(Box<Problem>),
    /// As the problem says, with the value of `WWW-Authenticate` that goes with a 401.
    #[error("{}", .0.title)]
    Challenge(Box<Problem>, String),
    /// The database failed. Nothing was committed, but for [`StoreError::Lost`], where nobody knows: the identical request learns it.
    #[error("storage: {0}")]
    Store(#[from] StoreError),
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
