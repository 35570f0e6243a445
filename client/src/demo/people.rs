//! A person with the `postern` command and a profile.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::servers::Servers;
use super::{Expectations, Failure};

/// What a command answered.
pub(super) struct Ran {
    /// Its exit code.
    pub(super) exit: i32,
    /// The document it printed.
    json: Value,
}

impl Ran {
    /// The value at a JSON pointer (RFC 6901); null if there is none.
    pub(super) fn at(&self, pointer: &str) -> &Value {
        self.json.pointer(pointer).unwrap_or(&Value::Null)
    }
}

/// Somebody who has registered.
pub(super) struct Person {
    name: &'static str,
    pub(super) phone: &'static str,
    /// The link to the contact card.
    pub(super) card: String,
    program: PathBuf,
    data_dir: PathBuf,
    password_file: PathBuf,
}

impl Person {
    /// Registers by text, with the code from the console gateway's file, and turns the random delays off.
    pub(super) fn register(
        servers: &Servers,
        dir: &Path,
        name: &'static str,
        phone: &'static str,
        expect: &mut Expectations,
    ) -> Result<Self, Failure> {
        let program = std::env::current_exe().map_err(|e| Failure::new("finding this program", e))?;
        let data_dir = dir.join("people");
        let password_file = dir.join(format!("{name}.password"));
        std::fs::write(&password_file, format!("the password of {name}\n"))
            .map_err(|e| Failure::new("writing a password file", e))?;
        let mut person = Self { name, phone, card: String::new(), program, data_dir, password_file };

        person.run(&["register", phone, "--issuer", &servers.issuer_url])?;
        let code = servers.code_for(phone)?;
        let verified = person.run(&["verify", &code])?;
        expect.that(verified.at("/tokens_left") == 5, "five tokens, signed blindly");
        person.card = verified.at("/card").as_str().unwrap_or_default().to_owned();
        person.run_quietly(&["settings", "--release-delay", "0", "--exchange-interval", "0"])?;
        Ok(person)
    }

    /// Runs a command that has to succeed, and shows it.
    pub(super) fn run(&self, args: &[&str]) -> Result<Ran, Failure> {
        let ran = self.run_to_any_end(args)?;
        self.succeeded(args, ran)
    }

    /// Runs a command, and shows it.
    pub(super) fn run_to_any_end(&self, args: &[&str]) -> Result<Ran, Failure> {
        let shown: Vec<String> = args.iter().map(|arg| shorten(arg)).collect();
        println!("{}$ postern {}", self.name, shown.join(" "));
        self.start(args)
    }

    fn run_quietly(&self, args: &[&str]) -> Result<Ran, Failure> {
        let ran = self.start(args)?;
        self.succeeded(args, ran)
    }

    fn succeeded(&self, args: &[&str], ran: Ran) -> Result<Ran, Failure> {
        if ran.exit == 0 {
            return Ok(ran);
        }
        let verb = args.first().copied().unwrap_or_default();
        Err(Failure::new(&format!("{}: postern {verb}", self.name), format!("exit {}: {}", ran.exit, ran.json)))
    }

    fn start(&self, args: &[&str]) -> Result<Ran, Failure> {
        let what = format!("{}: running postern", self.name);
        let mut command = Command::new(&self.program);
        command.args(["--json", "--profile", self.name]).arg("--data-dir").arg(&self.data_dir);
        command.arg("--password-file").arg(&self.password_file).args(args).stdin(Stdio::null());
        let output = command.output().map_err(|e| Failure::new(&what, e))?;
        let json = serde_json::from_slice(&output.stdout)
            .map_err(|_| Failure::new(&what, String::from_utf8_lossy(&output.stderr)))?;
        Ok(Ran { exit: output.status.code().unwrap_or(-1), json })
    }

    /// The signature screen's first number.
    pub(super) fn tokens_left(&self) -> Result<u64, Failure> {
        let screen = self.run_quietly(&["tokens"])?;
        screen.at("/left").as_u64().ok_or_else(|| Failure::new("reading the tokens", "no number"))
    }
}

/// A card link is long; texts are quoted.
fn shorten(arg: &str) -> String {
    if arg.starts_with("postern:v1?") {
        return "'postern:v1?relay=…'".to_owned();
    }
    if arg.len() == 64 && arg.bytes().all(|b| b.is_ascii_hexdigit()) {
        return arg.chars().take(8).collect();
    }
    if let Some((_, file)) = arg.rsplit_once('/').filter(|(_, file)| file.ends_with(".csv")) {
        return file.to_owned();
    }
    if arg.contains(' ') { format!("'{arg}'") } else { arg.to_owned() }
}
