//! What a command answers, and how it is printed: one JSON document, or text.

use std::io::Write as _;
use std::process::ExitCode;

use postern_protocol::time::Clock as _;
use serde_json::{Value, json};

use super::{SystemClock, show};
use crate::error::Error;

/// The answer of a command, in both forms.
pub(super) struct Answer {
    pub(super) json: Value,
    pub(super) text: String,
    /// 0, or what a failure along the way exits with.
    pub(super) exit: u8,
}

impl Answer {
    pub(super) fn new(json: Value, text: impl Into<String>) -> Self {
        Self { json, text: text.into(), exit: 0 }
    }

    /// Notes failures that did not keep the command from answering.
    pub(super) fn failures(mut self, failures: &[Error]) -> Self {
        if let Some(first) = failures.first() {
            self.exit = first.exit_code();
        }
        for error in failures {
            self.text.push('\n');
            self.text.push_str(&in_words("not done", error));
        }
        if let Value::Object(object) = &mut self.json {
            object.insert("failures".to_owned(), failures.iter().map(error_json).collect());
        }
        self
    }

    pub(super) fn print(&self, json: bool) -> ExitCode {
        let out = if json { self.json.to_string() } else { self.text.trim_end().to_owned() };
        // A reader that has gone away is no failure of ours.
        drop(writeln!(std::io::stdout(), "{out}"));
        ExitCode::from(self.exit)
    }
}

/// Prints a failure: on standard error, or as a JSON document where the answer would be.
pub(super) fn print_error(error: &Error, json: bool) -> ExitCode {
    if json {
        drop(writeln!(std::io::stdout(), "{}", json!({ "error": error_json(error) })));
    } else {
        drop(writeln!(std::io::stderr(), "{}", in_words("error", error)));
    }
    ExitCode::from(error.exit_code())
}

pub(super) fn error_json(error: &Error) -> Value {
    let problem = match error {
        Error::Refused(problem) => Some(problem),
        _ => None,
    };
    json!({
        "code": error.code(), "message": error.to_string(), "hint": error.hint(), "again_at": error.again_at(), "problem": problem,
    })
}

fn in_words(what: &str, error: &Error) -> String {
    let again = error.again_at().map(|at| format!("; again {}", show::when(SystemClock.now().seconds(), at)));
    let hint = error.hint().map(|hint| format!("\n  {hint}"));
    format!("{what}: {error}{}{}", again.unwrap_or_default(), hint.unwrap_or_default())
}
