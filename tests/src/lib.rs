//! The world of the tests: an issuer and a relay as real processes on real sockets and databases, and actors who use or attack them.
//!
//! **Owns** starting, killing and restarting the servers ([`World`]), the actor who speaks the wire by hand and can therefore
//! misbehave at any point ([`actor::Actor`], with [`replies`], [`prekeys`] and [`lookups`]), a look at all that is on disk
//! ([`tables`]), people with the command who live the main flow ([`person`], [`app`]), the checker of docs/invariants.sql ([`invariants`]), the linkability games ([`game`]), the
//! search for planted secrets ([`planted`]), the storm ([`storm`]), junk by the thousand ([`junk`]), commands that bring their own servers ([`own`]), and a private Tor network ([`tor`]). **May call** everything.

pub mod actor;
pub mod app;
pub mod balancer;
pub mod between;
pub mod game;
pub mod http;
pub mod invariants;
pub mod junk;
pub mod kannel;
pub mod lookups;
pub mod own;
pub mod person;
pub mod planted;
pub mod prekeys;
pub mod replies;
pub mod requests;
pub mod socks;
pub mod storm;
pub mod tables;
pub mod tor;
pub mod traffic;
pub mod world;

pub use actor::Actor;
pub use http::Reply;
pub use person::Person;
pub use world::{Place, Programs, World};

/// The programs of this test build. A macro because cargo tells their paths to integration tests only.
#[macro_export]
macro_rules! programs {
    () => {
        $crate::Programs {
            issuer: env!("CARGO_BIN_EXE_world-issuer").into(),
            relay: env!("CARGO_BIN_EXE_world-relay").into(),
            postern: env!("CARGO_BIN_EXE_world-postern").into(),
        }
    };
}
