//! Processes by the directory that they work in: PostgreSQL's give up their group and their parent, but not that.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Ends all that runs in the directory and removes it when its own standard input ends: that is when the process at the other end is
/// gone, however it went.
const REAPER: &str = r#"
left() {
  for process in /proc/[0-9]*; do
    case $(readlink "$process/cwd") in "$1" | "$1"/*) echo "${process#/proc/}" ;; esac
  done
}
read -r _
for round in 1 2 3 4 5 6 7 8 9 10; do
  pids=$(left "$1")
  [ -n "$pids" ] || break
  kill -9 $pids
  sleep 0.1
done
rm -rf "$1"
"#;

/// Runs a script that waits for its standard input to end, which is when the process at the other end is gone, however it went; or
/// when what is returned is dropped.
pub fn start_watch(mut shell: Command, script: &str, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Child {
    shell.args(["-c", script, "watch"]).args(arguments);
    shell.current_dir("/").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    // Ctrl-C is for the tests; the watch must outlive them.
    shell.process_group(0).spawn().unwrap()
}

/// Ends and removes all that is in a directory once this process is gone, or the reaper's standard input is dropped.
pub(crate) fn start_reaper(directory: &Path) -> Child {
    start_watch(Command::new("/bin/sh"), REAPER, [directory])
}

/// kill -9 of all processes that work below a directory. None is left when this returns.
pub(crate) fn kill_in(directory: &Path) {
    // One may be starting another just now.
    loop {
        let processes = processes_in(directory);
        if processes.is_empty() {
            break;
        }
        // Some may have gone by themselves meanwhile.
        let mut kill = Command::new("/bin/sh");
        kill.args(["-c", "kill -9 \"$@\"", "kill"]).args(processes).stderr(Stdio::null()).status().unwrap();
    }
}

/// All processes that work below a directory.
fn processes_in(directory: &Path) -> Vec<String> {
    let is_in = |process: &PathBuf| std::fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(directory));
    let all = std::fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    let number =
        |process: PathBuf| process.file_name()?.to_str().filter(|name| name.parse::<u32>().is_ok()).map(str::to_owned);
    all.filter(is_in).filter_map(number).collect()
}
