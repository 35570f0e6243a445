//! `postern-issuer`: see [`postern_issuer`].

use std::process::ExitCode;

fn main() -> ExitCode {
    postern_issuer::main()
}
