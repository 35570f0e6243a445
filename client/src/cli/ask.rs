//! The password: from a file, from the environment, or from the terminal.

use std::io::IsTerminal as _;

use zeroize::Zeroizing;

use super::args::Global;
use crate::error::{Error, Result};

/// The variable that the password is taken from if no file is named.
const VARIABLE: &str = "POSTERN_PASSWORD";

/// The password of an existing profile.
pub(super) fn password(global: &Global) -> Result<Zeroizing<String>> {
    match given(global)? {
        Some(password) => Ok(password),
        None => prompt("Password: "),
    }
}

/// A password for a new profile; asked for twice.
pub(super) fn new_password(global: &Global) -> Result<Zeroizing<String>> {
    let password = match given(global)? {
        Some(password) => password,
        None => {
            let first = prompt("Choose a password: ")?;
            if *first != *prompt("Once more: ")? {
                return Err(Error::Invalid("the two passwords are not the same".to_owned()));
            }
            first
        }
    };
    if password.is_empty() {
        return Err(Error::Invalid("the password must not be empty".to_owned()));
    }
    if password.chars().count() < 8 && !global.json {
        eprintln!("warning: a short password is soon guessed by whoever gets hold of the profile's file");
    }
    Ok(password)
}

fn given(global: &Global) -> Result<Option<Zeroizing<String>>> {
    if let Some(path) = &global.password_file {
        let text = Zeroizing::new(
            std::fs::read_to_string(path)
                .map_err(|error| Error::Invalid(format!("the password file cannot be read: {error}")))?,
        );
        return Ok(Some(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned())));
    }
    Ok(std::env::var(VARIABLE).ok().map(Zeroizing::new))
}

fn prompt(text: &str) -> Result<Zeroizing<String>> {
    if !std::io::stdin().is_terminal() {
        return Err(Error::Invalid(format!("no password: set {VARIABLE} or name a file with --password-file")));
    }
    rpassword::prompt_password(text)
        .map(Zeroizing::new)
        .map_err(|error| Error::Invalid(format!("no password: {error}")))
}
