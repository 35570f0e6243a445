//! Man pages and shell completions of the three programs, made of what they say of themselves.
//!
//! **Owns** where each file goes. **May call** the programs' descriptions of their command lines, and nothing else of theirs. What is
//! written is never committed: it is as old as the programs beside it.

use std::fs::{create_dir_all, write};
use std::io::Result;
use std::path::Path;

use clap::Command;
use clap_complete::{Shell, generate_to};
use clap_mangen::Man;

/// The shells that completions are for.
pub const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Zsh, Shell::Fish];

/// The three programs.
pub fn programs() -> [Command; 3] {
    [postern_client::command(), postern_issuer::command(), postern_relay::command()]
}

/// Writes for each program, below `dir/PROGRAM`: `man/*.1`, a page for it and one for each of its commands, and `completions/SHELL/…`.
///
/// # Errors
/// What the file system says.
pub fn write_all(dir: &Path) -> Result<()> {
    for command in programs() {
        let name = command.get_name().to_owned();
        let dir = dir.join(&name);
        let man = dir.join("man");
        create_dir_all(&man)?;
        for shell in SHELLS {
            let completions = dir.join("completions").join(shell.to_string());
            create_dir_all(&completions)?;
            generate_to(shell, &mut command.clone(), &name, &completions)?;
        }
        write_pages(command.disable_help_subcommand(true), &name, &man)?;
    }
    Ok(())
}

/// A page for a command, and one for each below it: `postern-settings.1`.
fn write_pages(mut command: Command, name: &str, dir: &Path) -> Result<()> {
    command.build();
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        write_pages(below.clone(), &format!("{name}-{}", below.get_name()), dir)?;
    }
    let page = Man::new(command.display_name(name.to_owned())).title(name.to_uppercase()).manual("Postern");
    let mut text = Vec::new();
    page.render(&mut text)?;
    write(dir.join(format!("{name}.1")), text)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn every_command_has_a_page_and_bash_reads_the_completions() {
        let dir = tempfile::tempdir().unwrap();
        write_all(dir.path()).unwrap();
        let page = |program: &str, name: &str| {
            let file = dir.path().join(program).join("man").join(format!("{name}.1"));
            std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
        };
        for program in programs() {
            let name = program.get_name();
            assert!(page(name, name).contains(".SH SYNOPSIS"), "{name}");
            for below in program.get_subcommands().filter(|below| !below.is_hide_set()) {
                assert!(page(name, &format!("{name}-{}", below.get_name())).contains(".SH NAME"));
            }
            let file = dir.path().join(name).join("completions/bash").join(format!("{name}.bash"));
            let read = Command::new("bash").arg("-n").arg(&file).status().unwrap();
            assert!(read.success() && std::fs::read_to_string(&file).unwrap().contains("--version"), "{name}");
        }
        assert!(
            page("postern", "postern-sessions-revoke").contains("End a session"),
            "commands of commands have one too"
        );
        assert!(!page("postern", "postern-register").contains("cheap"), "what is hidden is not shown");
    }
}
