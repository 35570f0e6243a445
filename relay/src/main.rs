//! The relay's program; everything is in the library, so that other binaries can be made of it.

use std::process::ExitCode;

/// Servers allocate small things all the time, on one thread, and free them on another.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    postern_relay::main()
}
