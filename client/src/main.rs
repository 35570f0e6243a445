//! The command `postern`.

fn main() -> std::process::ExitCode {
    postern_client::main()
}
