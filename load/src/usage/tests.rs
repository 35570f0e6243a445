use super::*;

const STAT: &str = "4242 (a name) with (x) S 17 4242 4242 0 -1 4194560 7012 55 3 0 1234 567 89 10 20 0 9 0 8812345 \
                    251658240 9001 18446744073709551615 1 1 0 0 0 0 0 4096 1088 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n";
const STATUS: &str = "Name:\tpostern-relay\nState:\tS (sleeping)\nVmPeak:\t  245760 kB\nVmHWM:\t   40960 kB\nVmRSS:\t   36004 kB\n\
                      Threads:\t9\nvoluntary_ctxt_switches:\t1500\nnonvoluntary_ctxt_switches:\t25\n";
const IO: &str = "rchar: 323934931\nwchar: 323929600\nsyscr: 632687\nsyscw: 632675\nread_bytes: 8192\nwrite_bytes: 323932160\n\
                  cancelled_write_bytes: 4096\n";

#[test]
fn a_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
    assert_eq!(parse_stat(STAT), Some(Stat { parent: 17, user: 1234 + 89, system: 567 + 10 }));
    assert_eq!(parse_stat("4242 (a) S 17"), None);
    assert_eq!(parse_stat(""), None);
}

#[test]
fn a_line_is_found_by_its_whole_key() {
    assert_eq!(parse_line(STATUS, "VmRSS"), Some(36_004));
    assert_eq!(parse_line(STATUS, "voluntary_ctxt_switches"), Some(1500));
    assert_eq!(parse_line(STATUS, "nonvoluntary_ctxt_switches"), Some(25));
    assert_eq!(parse_line(IO, "write_bytes"), Some(323_932_160));
    assert_eq!(parse_line(IO, "write"), None);
    assert_eq!(parse_line(IO, "written"), None);
}

/// Puts a process into a made-up `/proc`: with so many ticks, written bytes, and switches in each of two threads.
fn put(proc: &Path, pid: u32, parent: u32, ticks: u64, written: u64, switches: u64) {
    let dir = proc.join(pid.to_string());
    std::fs::create_dir_all(dir.join("task/1")).unwrap();
    std::fs::create_dir_all(dir.join("task/2")).unwrap();
    let write = |name: &str, text: String| std::fs::write(dir.join(name), text).unwrap();
    write("stat", format!("{pid} (p) S {parent} 0 0 0 0 0 0 0 0 0 {ticks} {ticks} 0 0 20 0 1 0 0 0 0\n"));
    write("status", STATUS.to_owned());
    write("comm", "server\n".to_owned());
    write("io", format!("write_bytes: {written}\ncancelled_write_bytes: 0\n"));
    let status = format!("voluntary_ctxt_switches:\t{switches}\nnonvoluntary_ctxt_switches:\t1\n");
    write("task/1/status", status.clone());
    write("task/2/status", status);
}

#[test]
fn descendants_are_counted_and_strangers_are_not() {
    let proc = tempfile::tempdir().unwrap();
    let dir = proc.path();
    put(dir, 10, 1, 100, 1000, 5);
    put(dir, 11, 10, 100, 1000, 5);
    put(dir, 12, 11, 100, 1000, 5);
    put(dir, 20, 1, 100, 1000, 5);
    std::fs::create_dir(dir.join("self")).unwrap();
    let before = Snapshot::read(dir, &[10]).unwrap();
    // All go on; one more child comes; the stranger works most of all.
    put(dir, 10, 1, 150, 5000, 9);
    put(dir, 12, 11, 300, 1000, 5);
    put(dir, 13, 10, 50, 700, 2);
    put(dir, 20, 1, 9999, 999_999, 999);
    let usage = before.until(&Snapshot::read(dir, &[10]).unwrap());
    assert_eq!((usage.name.as_str(), usage.processes), ("server", 4));
    assert!((usage.user_seconds - 3.0).abs() < 1e-9 && (usage.cpu_seconds() - 6.0).abs() < 1e-9, "{usage:?}");
    assert_eq!(usage.written_bytes, 4000 + 700);
    assert_eq!((usage.voluntary_switches, usage.involuntary_switches), (2 * (4 + 2), 2));
    assert_eq!((usage.rss_bytes, usage.peak_rss_bytes), (4 * 36_004 * 1024, 4 * 40_960 * 1024));
}

#[test]
fn a_child_that_ended_is_not_subtracted() {
    let proc = tempfile::tempdir().unwrap();
    let dir = proc.path();
    put(dir, 10, 1, 100, 1000, 5);
    put(dir, 11, 10, 400, 4000, 70);
    let before = Snapshot::read(dir, &[10]).unwrap();
    std::fs::remove_dir_all(dir.join("11")).unwrap();
    // The kernel has added what the child used, 450 ticks in the end, to what its parent used.
    put(dir, 10, 1, 100 + 450, 1000 + 4100, 6);
    let usage = before.until(&Snapshot::read(dir, &[10]).unwrap());
    assert!((usage.user_seconds - 0.5).abs() < 1e-9, "{usage:?}");
    assert_eq!((usage.written_bytes, usage.voluntary_switches), (100, 2));
}

#[test]
fn a_process_that_is_not_there_is_an_error() {
    let proc = tempfile::tempdir().unwrap();
    put(proc.path(), 10, 1, 1, 1, 1);
    assert!(matches!(Snapshot::read(proc.path(), &[10, 11]), Err(UsageError::Process(11))));
    assert!(matches!(Snapshot::read(&proc.path().join("none"), &[10]), Err(UsageError::Proc(_))));
}

#[test]
fn two_roots_of_which_one_descends_from_the_other_count_once() {
    let proc = tempfile::tempdir().unwrap();
    put(proc.path(), 10, 1, 1, 1, 1);
    put(proc.path(), 11, 10, 1, 1, 1);
    let snapshot = Snapshot::read(proc.path(), &[10, 11]).unwrap();
    assert_eq!(snapshot.processes.len(), 2);
}

#[test]
fn this_very_process_uses_memory_and_time() {
    let before = Snapshot::of_self_alone().unwrap();
    let mut work = 1_u64;
    let usage = loop {
        for i in 0..1_000_000 {
            work = std::hint::black_box(work.wrapping_mul(i | 1));
        }
        let usage = before.until(&Snapshot::of_self_alone().unwrap());
        if usage.cpu_seconds() > 0.0 {
            break usage;
        }
    };
    assert!(usage.rss_bytes > 1 << 20 && usage.peak_rss_bytes >= usage.rss_bytes / 2, "{usage:?}");
}
