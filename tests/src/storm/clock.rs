//! Clocks of servers that jump, by Debian's libfaketime, which the servers are started with: they read the time as ever, and are told another.

use std::path::{Path, PathBuf};

/// Where Debian keeps it, below the directory of the architecture.
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

/// The clock of one server.
#[derive(Debug)]
pub struct FalseClock {
    library: PathBuf,
    file: PathBuf,
}

impl FalseClock {
    /// One that is right so far; it keeps a file in a directory.
    ///
    /// # Errors
    /// If this machine cannot.
    pub fn new(directory: &Path, name: &str) -> Result<Self, String> {
        let library = library().ok_or("libfaketime is not on this machine. On Debian: apt-get install libfaketime")?;
        let clock = Self { library, file: directory.join(format!("{name}.clock")) };
        clock.set(0);
        Ok(clock)
    }

    /// So many seconds ahead of the right time from now on, or behind it.
    pub fn set(&self, seconds: i64) {
        let new = self.file.with_extension("new");
        std::fs::write(&new, format!("{seconds:+}\n")).unwrap();
        // At once, for whoever reads it just now.
        std::fs::rename(new, &self.file).unwrap();
    }

    /// What the server is to be started with.
    pub fn environment(&self) -> Vec<(String, String)> {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        vec![
            pair("LD_PRELOAD", &self.library.display().to_string()),
            pair("FAKETIME_TIMESTAMP_FILE", &self.file.display().to_string()),
            pair("FAKETIME_CACHE_DURATION", "1"),
            // Only what a clock on the wall shows jumps.
            pair("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ]
    }

    /// Removes what a killed process leaves behind: libfaketime would have done it at its end.
    pub fn sweep(process: u32) {
        for name in ["faketime_shm_", "sem.faketime_sem_"] {
            drop(std::fs::remove_file(format!("/dev/shm/{name}{process}")));
        }
    }
}

fn library() -> Option<PathBuf> {
    let architectures = std::fs::read_dir("/usr/lib").ok()?.filter_map(Result::ok).map(|entry| entry.path());
    architectures.map(|path| path.join(LIBRARY)).find(|file| file.is_file())
}
