//! The storm: hundreds of scripted people use real servers while faults are injected, each keeps a history, and a checker that does no I/O
//! says whether the promises of design §10.1 were kept (docs/storm.md).

pub mod check;
pub mod history;
