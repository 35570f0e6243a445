//! Where randomness comes from: the operating system, or a seed in tests.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use rand::SeedableRng;
use rand::rngs::{StdRng, SysRng};
use rand_core::UnwrapErr;

/// A source that every request takes its own generator from, so that none is shared across an await.
#[derive(Clone)]
pub struct Randomness(Source);

#[derive(Clone)]
enum Source {
    System,
    Seeded(Arc<Mutex<StdRng>>),
}

impl Randomness {
    /// The operating system's.
    pub const fn system() -> Self {
        Self(Source::System)
    }

    /// Always the same stream: for tests.
    pub fn seeded(seed: u64) -> Self {
        Self(Source::Seeded(Arc::new(Mutex::new(StdRng::seed_from_u64(seed)))))
    }

    /// A generator for one task. A system without randomness ends the request, not the process.
    pub fn generator(&self) -> StdRng {
        match &self.0 {
            Source::System => StdRng::from_rng(&mut UnwrapErr(SysRng)),
            Source::Seeded(parent) => parent.lock().unwrap_or_else(PoisonError::into_inner).fork(),
        }
    }
}

impl fmt::Debug for Randomness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Randomness")
    }
}
