//! `postern-pages DIR`: writes man pages and completions there.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(dir) = std::env::args_os().nth(1) else {
        eprintln!("usage: postern-pages DIR");
        return ExitCode::from(2);
    };
    match postern_pages::write_all(Path::new(&dir)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("postern-pages: {error}");
            ExitCode::FAILURE
        }
    }
}
