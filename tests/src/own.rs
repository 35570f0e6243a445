//! A command that brings its own servers: the same program again, under their names.

use std::path::Path;
use std::process::ExitCode;

use tempfile::TempDir;

use crate::Programs;

/// To be called first of all: is the server whose name this process was started under, if it was.
pub fn play() -> Option<ExitCode> {
    let name = std::env::args_os().next()?;
    match Path::new(&name).file_name()?.to_str()? {
        "world-issuer" => Some(postern_issuer::main()),
        "world-relay" => Some(postern_relay::main()),
        _ => None,
    }
}

/// This program under the names of the servers, for as long as the directory is kept. It is not the command `postern`.
pub fn programs() -> (Programs, TempDir) {
    let names = tempfile::tempdir().unwrap();
    let own = std::env::current_exe().unwrap();
    let [issuer, relay] = ["world-issuer", "world-relay"].map(|name| {
        let link = names.path().join(name);
        std::os::unix::fs::symlink(&own, &link).unwrap();
        link
    });
    (Programs { issuer, relay, postern: own }, names)
}
