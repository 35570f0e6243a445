//! The load generator under a name of the test world.

fn main() -> std::process::ExitCode {
    postern_load::main()
}
