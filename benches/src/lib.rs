//! What the benchmarks of running servers share: a relay in a process of its own, tokens, what is measured beside it, and the ratios.
//!
//! **May call** everything; nothing calls it. Each benchmark is a program in `benches/` that measures both sides in one run, in rounds
//! that alternate, and prints `ratio <name> = <x>`. It exits with an error if a bar is missed.
#![allow(clippy::disallowed_methods, reason = "a benchmark measures the real clock")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed operation must not count as a fast one"
)]

/// As in the servers' programs; and so for what they are compared with.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

pub mod bare;
pub mod client;
pub mod crowd;
pub mod mint;
pub mod peer;
pub mod ratio;
pub mod readers;
pub mod relay;
pub mod role;
