//! `postern-load`: see [`postern_load`].

use std::process::ExitCode;

fn main() -> ExitCode {
    postern_load::main()
}
