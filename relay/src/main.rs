//! The relay's program; everything is in the library, so that other binaries can be made of it.

use std::process::ExitCode;

fn main() -> ExitCode {
    postern_relay::main()
}
