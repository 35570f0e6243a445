//! The linkability game in full: `cargo run --release --bin linkability -- --rounds 10000`. Worlds are made in the directory for temporary
//! files; one that lies in memory (`TMPDIR=/dev/shm`) makes it several times as fast.

use std::process::ExitCode;

fn main() -> ExitCode {
    postern_tests::game::report::main(std::env::args().skip(1))
}
