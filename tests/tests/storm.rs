//! A short storm on the engine of the run; `cargo run --release --bin storm` is the long one (docs/storm.md).

use std::time::Duration;

use postern_test_database::Engine;
use postern_tests::programs;
use postern_tests::storm::{Options, run};

/// How long faults are injected; longer, until there were so many kills and operations, on a machine that is slow.
const LENGTH: Duration = Duration::from_secs(20);
const ACCOUNTS: u32 = 16;
const KILLS: u64 = 12;
const OPERATIONS: usize = 600;

#[test]
fn a_short_storm_breaks_no_promise() {
    let (engine, programs) = (Engine::of_this_run(), programs!());
    let report =
        run(&Options { engine, seed: 6, accounts: ACCOUNTS, length: LENGTH, least: (KILLS, OPERATIONS), programs });
    println!("{report}");
    assert!(report.is_clean(), "{report}");
    assert!(report.killed() >= KILLS, "{} kills", report.killed());
    // Too little would prove nothing.
    for kind in ["issue", "open", "send", "read", "ack", "release", "exchange", "reply"] {
        assert!(report.done(kind) > 0, "nobody has had any {kind}: {report}");
    }
    assert!(report.unanswered > 0, "nothing was ever lost: {report}");
}
