//! What processes and all their descendants used between two moments, from `/proc` (Linux).
//!
//! Descendants because PostgreSQL's backends are children of its postmaster. Of a child that ended meanwhile and was waited for, CPU
//! time and bytes written stay in its parent's numbers; its context switches and memory are lost, and so is all of one that nobody
//! waited for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Clock ticks of `/proc` in a second: `USER_HZ`, 100 on all of today's architectures.
const TICKS_PER_SECOND: u64 = 100;

/// Why nothing is known of a process.
#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    /// It is not there, or is not ours to look at.
    #[error("process {0} cannot be looked at")]
    Process(u32),
    /// `/proc` cannot be read.
    #[error("{0} cannot be read")]
    Proc(PathBuf),
}

/// What `/proc/PID/stat` says. Times in ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    parent: u32,
    /// Own, and of children that ended and were waited for.
    user: u64,
    system: u64,
}

fn parse_stat(text: &str) -> Option<Stat> {
    // The name is in parentheses and may hold spaces and parentheses itself.
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    let parent = u32::try_from(number(1)?).ok()?;
    let (user, system, child_user, child_system) = (number(11)?, number(12)?, number(13)?, number(14)?);
    Some(Stat { parent, user: user.saturating_add(child_user), system: system.saturating_add(child_system) })
}

/// The number of a line `key: number …`, as in `/proc/PID/status`, `io` and `smaps_rollup`.
fn parse_line(text: &str, key: &str) -> Option<u64> {
    let after = |line: &str| line.strip_prefix(key)?.strip_prefix(':')?.split_ascii_whitespace().next()?.parse().ok();
    text.lines().find_map(after)
}

/// Everything of one process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Process {
    user: Duration,
    system: Duration,
    rss: u64,
    peak_rss: u64,
    shared_out: u64,
    written: u64,
    voluntary: u64,
    involuntary: u64,
}

/// A moment: the totals of some processes and their descendants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    name: String,
    processes: BTreeMap<u32, Process>,
}

/// What was used between two moments.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Name of the (first) process.
    pub name: String,
    /// How many processes there are at the end.
    pub processes: usize,
    /// CPU time outside the kernel, seconds.
    pub user_seconds: f64,
    /// CPU time in the kernel, seconds.
    pub system_seconds: f64,
    /// Resident memory at the end, the processes added up: what they share counts once for each.
    pub rss_bytes: u64,
    /// The most that it ever was, since each process began; added up likewise.
    pub peak_rss_bytes: u64,
    /// Resident memory at the end, what is shared divided by who shares it; 0 where the system does not tell.
    pub pss_bytes: u64,
    /// Bytes that went to a storage device.
    pub written_bytes: u64,
    /// Switches because a thread waited.
    pub voluntary_switches: u64,
    /// Switches because another was to run.
    pub involuntary_switches: u64,
}

impl Snapshot {
    /// Of these processes and all their descendants, now.
    ///
    /// # Errors
    /// [`UsageError`]; a descendant that ends meanwhile is none.
    pub fn of(roots: &[u32]) -> Result<Self, UsageError> {
        Self::read(Path::new("/proc"), roots)
    }

    /// Of this process, without its descendants: servers that it started are not it.
    ///
    /// # Errors
    /// As [`Snapshot::of`].
    pub fn of_self_alone() -> Result<Self, UsageError> {
        let id = std::process::id();
        let mut all = Self::of(&[id])?;
        all.processes.retain(|pid, _| *pid == id);
        Ok(all)
    }

    fn read(proc: &Path, roots: &[u32]) -> Result<Self, UsageError> {
        let parents = parents(proc)?;
        let mut processes = BTreeMap::new();
        for root in roots {
            processes.insert(*root, process(proc, *root).ok_or(UsageError::Process(*root))?);
        }
        for pid in descendants(&parents, roots) {
            if let Some(process) = process(proc, pid) {
                processes.insert(pid, process);
            }
        }
        let first = roots.first().map(|pid| proc.join(pid.to_string()).join("comm"));
        let name = first.and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default();
        Ok(Self { name: name.trim().to_owned(), processes })
    }

    /// What was used from this moment to a later one.
    pub fn until(&self, later: &Self) -> Usage {
        let total = |snapshot: &Self, of: fn(&Process) -> u64| snapshot.processes.values().map(of).sum::<u64>();
        let time = |of: fn(&Process) -> Duration| {
            let sum = |snapshot: &Self| snapshot.processes.values().map(of).sum::<Duration>();
            sum(later).saturating_sub(sum(self)).as_secs_f64()
        };
        let more = |of: fn(&Process) -> u64| total(later, of).saturating_sub(total(self, of));
        // Switches of one that ended are in nobody's numbers any more, so its earlier ones must not be subtracted.
        let switches = |of: fn(&Process) -> u64| {
            let before = |pid: &u32| self.processes.get(pid).map_or(0, of);
            later.processes.iter().map(|(pid, process)| of(process).saturating_sub(before(pid))).sum()
        };
        Usage {
            name: later.name.clone(),
            processes: later.processes.len(),
            user_seconds: time(|p| p.user),
            system_seconds: time(|p| p.system),
            rss_bytes: total(later, |p| p.rss),
            peak_rss_bytes: total(later, |p| p.peak_rss),
            pss_bytes: total(later, |p| p.shared_out),
            written_bytes: more(|p| p.written),
            voluntary_switches: switches(|p| p.voluntary),
            involuntary_switches: switches(|p| p.involuntary),
        }
    }
}

impl Usage {
    /// CPU time altogether, seconds.
    pub const fn cpu_seconds(&self) -> f64 {
        self.user_seconds + self.system_seconds
    }
}

/// Parent of each process there is.
fn parents(proc: &Path) -> Result<BTreeMap<u32, u32>, UsageError> {
    let entries = std::fs::read_dir(proc).map_err(|_| UsageError::Proc(proc.to_owned()))?;
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let parent = |pid: u32| {
        let text = std::fs::read_to_string(proc.join(pid.to_string()).join("stat")).ok()?;
        Some((pid, parse_stat(&text)?.parent))
    };
    Ok(pids.filter_map(parent).collect())
}

/// All that descend from `roots`, without these.
fn descendants(parents: &BTreeMap<u32, u32>, roots: &[u32]) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    let mut queue = roots.to_vec();
    while let Some(of) = queue.pop() {
        for (pid, _) in parents.iter().filter(|(_, parent)| **parent == of) {
            if !roots.contains(pid) && found.insert(*pid) {
                queue.push(*pid);
            }
        }
    }
    found
}

fn process(proc: &Path, pid: u32) -> Option<Process> {
    let dir = proc.join(pid.to_string());
    let text = |name: &str| std::fs::read_to_string(dir.join(name)).ok();
    let stat = parse_stat(&text("stat")?)?;
    let status = text("status")?;
    let kilobytes = |text: &str, key: &str| parse_line(text, key).unwrap_or(0).saturating_mul(1024);
    let (voluntary, involuntary) = switches(&dir);
    Some(Process {
        user: ticks(stat.user),
        system: ticks(stat.system),
        rss: kilobytes(&status, "VmRSS"),
        peak_rss: kilobytes(&status, "VmHWM"),
        shared_out: text("smaps_rollup").map_or(0, |text| kilobytes(&text, "Pss")),
        written: text("io").and_then(|text| parse_line(&text, "write_bytes")).unwrap_or(0),
        voluntary,
        involuntary,
    })
}

fn ticks(ticks: u64) -> Duration {
    Duration::from_millis(ticks.saturating_mul(1000 / TICKS_PER_SECOND))
}

/// Of all threads: `status` of the process speaks of its first thread alone.
fn switches(dir: &Path) -> (u64, u64) {
    let Ok(threads) = std::fs::read_dir(dir.join("task")) else { return (0, 0) };
    let texts = threads.filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("status")).ok());
    texts.fold((0, 0), |(voluntary, involuntary), text| {
        let count = |key| parse_line(&text, key).unwrap_or(0);
        (voluntary + count("voluntary_ctxt_switches"), involuntary + count("nonvoluntary_ctxt_switches"))
    })
}

#[cfg(test)]
mod tests;
