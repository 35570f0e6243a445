//! The issuer under a name of the test world.

fn main() -> std::process::ExitCode {
    postern_issuer::main()
}
