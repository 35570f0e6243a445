//! A person who uses the `postern` command, in a profile of their own.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::world::{Place, Programs};

/// Somebody with a profile.
#[derive(Clone, Debug)]
pub struct Person {
    /// The profile's name.
    pub name: String,
    /// The number.
    pub phone: String,
    program: PathBuf,
    data_dir: PathBuf,
    /// Arguments before each command.
    pub options: Vec<String>,
    /// Variables of each command.
    pub environment: Vec<(String, String)>,
}

/// What a command answered.
#[derive(Debug)]
pub struct Ran {
    /// Its exit code; `None` if it was killed.
    pub exit: Option<i32>,
    /// The document it printed; null if it was killed.
    pub json: Value,
}

impl Person {
    /// A person without a profile; profiles lie in `dir`.
    pub fn new(programs: &Programs, dir: &std::path::Path, name: &str, phone: &str) -> Self {
        Self {
            name: name.to_owned(),
            phone: phone.to_owned(),
            program: programs.postern.clone(),
            data_dir: dir.join("people"),
            options: Vec::new(),
            environment: Vec::new(),
        }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["--json", "--profile", &self.name]).arg("--data-dir").arg(&self.data_dir);
        command.args(&self.options).args(args).env("POSTERN_PASSWORD", format!("password of {}", self.name));
        command.envs(self.environment.iter().cloned());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, args: &[&str]) -> Ran {
        let output = self.command(args).output().unwrap();
        let json = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{args:?}: {}", String::from_utf8_lossy(&output.stderr)));
        Ran { exit: output.status.code(), json }
    }

    /// Runs a command on a terminal (that of util-linux's `script`), without `--json`; everything that it showed.
    pub fn on_a_terminal(&self, args: &[&str]) -> String {
        let mut command = vec![self.program.display().to_string(), "--profile".into(), self.name.clone()];
        command.extend(["--data-dir".into(), self.data_dir.display().to_string()]);
        command.extend(self.options.iter().cloned().chain(args.iter().map(|arg| (*arg).to_owned())));
        let line = command.iter().map(|part| format!("'{part}'")).collect::<Vec<_>>().join(" ");
        let output = Command::new("script")
            .args(["--quiet", "--return", "--command", &line, "/dev/null"])
            .env("POSTERN_PASSWORD", format!("password of {}", self.name))
            .env("TERM", "xterm")
            .stdin(Stdio::null())
            .output()
            .expect("`script` of util-linux is needed");
        let shown = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{shown}");
        shown
    }

    /// Runs a command that has to succeed.
    pub fn ok(&self, args: &[&str]) -> Value {
        let ran = self.run(args);
        assert_eq!(ran.exit, Some(0), "{} {args:?}: {}", self.name, ran.json);
        ran.json
    }

    /// Repeats a command while the servers are down.
    pub fn until_ok(&self, args: &[&str]) -> Value {
        for _ in 0..200 {
            let ran = self.run(args);
            match ran.exit {
                Some(0) => return ran.json,
                Some(5) => std::thread::sleep(Duration::from_millis(50)),
                _ => panic!("{} {args:?}: {}", self.name, ran.json),
            }
        }
        panic!("{} {args:?} never succeeded", self.name);
    }

    /// Starts a command and kills it, -9, after so long, unless it has ended by then.
    pub fn run_and_kill(&self, args: &[&str], after: Duration) {
        let mut child = self.command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(after);
        drop(child.kill());
        child.wait().unwrap();
    }

    /// Registers and turns the random delays off.
    pub fn register(&self, place: &Place) {
        self.until_ok(&["register", &self.phone, "--issuer", &place.issuer_url, "--cheap-kdf"]);
        let code = place.code_for(&self.phone).unwrap();
        self.until_ok(&["verify", &code]);
        self.ok(&["settings", "--release-delay", "0", "--exchange-interval", "0"]);
    }

    /// The link to the own card.
    pub fn card(&self) -> String {
        self.ok(&["card"])["link"].as_str().unwrap().to_owned()
    }

    /// All messages that are not junk.
    pub fn messages(&self) -> Vec<Value> {
        self.until_ok(&["inbox"])["messages"].as_array().unwrap().clone()
    }
}
