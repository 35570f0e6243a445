//! `doctor`: what an operator would look at, looked at, with what to do about each.

use std::fmt::Display;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use postern_protocol::server::ServerUrl;
use postern_protocol::time::Timestamp;
use rustix::fs::statvfs;
use rustix::process::{Resource, getrlimit};

/// Free space below which a server soon fails, and below which somebody should look, bytes.
const DISK: [u64; 2] = [256 << 20, 2 << 30];
/// By how much clocks may differ before JWTs and calls are refused, and before somebody should look, seconds.
const CLOCKS: [u64; 2] = [30, 2];
/// How long a server is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// Open files beside connections.
const OTHER_FILES: u64 = 128;

/// What was found so far.
#[derive(Debug, Default)]
pub struct Doctor {
    lines: Vec<String>,
    is_ill: bool,
}

impl Doctor {
    /// All is well with this.
    pub fn good(&mut self, what: &str, found: impl Display) {
        self.lines.push(format!("ok    {what}: {found}"));
    }

    /// It works, and somebody should look.
    pub fn warn(&mut self, what: &str, found: impl Display, to_do: &str) {
        self.lines.push(format!("warn  {what}: {found}\n      {to_do}"));
    }

    /// It does not work.
    pub fn bad(&mut self, what: &str, found: impl Display, to_do: &str) {
        self.is_ill = true;
        self.lines.push(format!("BAD   {what}: {found}\n      {to_do}"));
    }

    /// A file that its owner alone may read.
    pub fn private(&mut self, what: &str, path: &Path) {
        match std::fs::metadata(path).map(|found| found.permissions().mode() & 0o777) {
            Ok(mode) if mode & 0o077 == 0 => self.good(what, format_args!("{} is its owner's alone", path.display())),
            Ok(mode) => {
                let found = format!("{} has mode {mode:o}", path.display());
                self.bad(what, found, "Others can read it: chmod 600 it, and think of whether somebody has.");
            }
            Err(error) => {
                self.bad(what, format_args!("{}: {error}", path.display()), "Put the file back, from a copy.")
            }
        }
    }

    /// Room on the disk that this lies on.
    pub fn disk(&mut self, path: &Path) {
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let free = statvfs(dir).map(|found| found.f_bavail.saturating_mul(found.f_frsize));
        let mib = |bytes: u64| format!("{} MiB free in {}", bytes >> 20, dir.display());
        let to_do = "Make room, or move the database: a server whose disk is full refuses everything that writes.";
        match free {
            Ok(free) if free < DISK[0] => self.bad("disk", mib(free), to_do),
            Ok(free) if free < DISK[1] => self.warn("disk", mib(free), to_do),
            Ok(free) => self.good("disk", mib(free)),
            Err(error) => {
                self.warn("disk", format_args!("{}: {error}", dir.display()), "See that the directory is there.")
            }
        }
    }

    /// File handles for so many connections.
    pub fn open_files(&mut self, connections: usize) {
        let most = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
        let wanted = (connections as u64).saturating_add(OTHER_FILES);
        if most >= wanted {
            self.good("open files", format_args!("{most} allowed, {wanted} wanted"));
        } else {
            let to_do =
                "Fewer connections than `limits.connections` will be taken: LimitNOFILE= in the unit, or `ulimit -Hn`.";
            self.warn("open files", format_args!("{most} allowed, {wanted} wanted"), to_do);
        }
    }

    /// Our clock against the database's, if that has one of its own.
    pub fn clock(&mut self, ours: Timestamp, theirs: Option<Timestamp>) {
        let Some(theirs) = theirs else { return self.good("clock", "the database has none of its own") };
        let apart = ours.seconds().abs_diff(theirs.seconds());
        let found = format!("{apart} s apart from the database's");
        let to_do = "Set both by NTP: tokens, calls and sessions are judged by the time.";
        if apart >= CLOCKS[0] {
            self.bad("clock", found, to_do);
        } else if apart >= CLOCKS[1] {
            self.warn("clock", found, to_do);
        } else {
            self.good("clock", found);
        }
    }

    /// The schema of the database: how far it is, and how far this program would bring it.
    pub fn schema(&mut self, applied: i64, known: i64) {
        if applied == known {
            self.good("schema", format_args!("version {applied}, as this program knows it"));
        } else {
            let to_do = "`migrate` brings it up to date, and so does `serve`. Make a backup first.";
            self.warn("schema", format_args!("version {applied} of {known}"), to_do);
        }
    }

    /// Whether a server answers under its own URL, as the one it is; `path` is of its information document.
    pub async fn reaches(&mut self, url: &str, path: &str, name: &str) {
        match ask(url, path).await {
            Ok(found) if found.get("name").is_some_and(|found| found == name) => {
                self.good("url", format_args!("{url} is answered by {name}"));
            }
            Ok(_) => {
                let to_do = "Something else answers there: look at the proxy in front, the port, and the name in the configuration.";
                self.bad("url", format_args!("{url} is not answered by {name}"), to_do);
            }
            Err(why) => {
                let to_do = "If the server runs, nobody reaches it so: look at the proxy in front, name service, certificate and firewall. Else start it.";
                self.warn("url", format_args!("{url}: {why}"), to_do);
            }
        }
    }

    /// What was found, a line each, and whether the server can work.
    pub fn report(self) -> (String, bool) {
        (self.lines.join("\n"), !self.is_ill)
    }
}

/// The document that is there.
async fn ask(url: &str, path: &str) -> Result<serde_json::Value, String> {
    let server: ServerUrl = url.parse().map_err(|_| "this is no URL of a server".to_owned())?;
    let mut builder = reqwest::Client::builder().timeout(PATIENCE).redirect(reqwest::redirect::Policy::none());
    if !server.pins().is_empty() {
        let tls = postern_tls::client_config(server.pins()).map_err(|error| error.to_string())?;
        builder = builder.tls_backend_preconfigured(tls);
    }
    let client = builder.build().map_err(|error| error.to_string())?;
    let answer = client.get(format!("{}{path}", server.base())).send().await;
    let answer = answer.map_err(|error| error.without_url().to_string())?;
    let text = answer.text().await.map_err(|error| error.without_url().to_string())?;
    serde_json::from_str(&text).map_err(|_| "it answers, and not as a server of Postern".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_no_failure_and_what_is_bad_says_what_to_do() {
        let mut doctor = Doctor::default();
        doctor.schema(3, 5);
        doctor.open_files(0);
        doctor.clock(Timestamp::from_seconds(100), Some(Timestamp::from_seconds(105)));
        let (report, is_well) = doctor.report();
        assert!(is_well && report.contains("warn  schema: version 3 of 5\n      `migrate`"), "{report}");
        let mut doctor = Doctor::default();
        doctor.clock(Timestamp::from_seconds(100), Some(Timestamp::from_seconds(500)));
        let (report, is_well) = doctor.report();
        assert!(!is_well && report.contains("NTP"), "{report}");
    }

    #[test]
    fn a_key_that_others_can_read_is_found() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (mode, is_private) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false)] {
            std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
            let mut doctor = Doctor::default();
            doctor.private("key", file.path());
            assert_eq!(doctor.report().1, is_private, "{mode:o}");
            assert_eq!(crate::read_secret(file.path()).is_ok(), is_private, "{mode:o}");
        }
        let mut doctor = Doctor::default();
        doctor.private("key", Path::new("/nowhere"));
        assert!(!doctor.report().1);
    }
}
