//! A small disk of its own for the databases, which can be filled, and whose power can be cut.
//!
//! An ext4 on a loop device: `EXT4_IOC_SHUTDOWN` without a flush of the journal throws away all that was not synced. It needs root.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use postern_test_database::start_watch;

/// Unmounts when its standard input ends: that is when the process at the other end is gone, however it went.
const WATCH: &str = "read -r _; umount -l \"$1\" 2>/dev/null; exit 0";

/// `EXT4_IOC_SHUTDOWN` is `_IOR('X', 125, __u32)`; 2 is `EXT4_GOING_FLAGS_NOLOGFLUSH`. Debian's smallest interpreter does it.
const POWER_CUT: &str =
    r#"open(my $root, "<", $ARGV[0]) or die "$!"; my $how = pack("L", 2); ioctl($root, 0x8004587d, $how) or die "$!""#;

/// How often something that is busy is tried.
const TRIES: u32 = 200;
const PAUSE: Duration = Duration::from_millis(50);

/// What a full disk is filled with, beside the databases.
const FILLER: &str = "filler";

/// The disk; it goes when it is dropped, or with its process.
#[derive(Debug)]
pub struct Disk {
    mount: PathBuf,
    /// The image of an ext4.
    image: PathBuf,
    watch: Child,
}

impl Disk {
    /// Makes one of so many MiB in a directory, and mounts it there.
    ///
    /// # Errors
    /// Why this machine cannot.
    pub fn make(directory: &Path, mebibytes: u64) -> Result<Self, String> {
        let (mount, image) = (directory.join("disk"), directory.join("disk.img"));
        std::fs::create_dir(&mount).unwrap();
        std::fs::File::create(&image).unwrap().set_len(mebibytes << 20).unwrap();
        run(Command::new(tool("mkfs.ext4")).args(["-q", "-m", "0"]).arg(&image))?;
        mount_at(&image, &mount)?;
        let watch = start_watch(Command::new("/bin/sh"), WATCH, [&mount]);
        let disk = Self { mount, image, watch };
        // Whether power cuts are possible is better known now.
        disk.cut_power()?;
        disk.mount_again();
        Ok(disk)
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.mount
    }

    /// Leaves no room on it.
    pub fn fill(&self) {
        let filler = self.mount.join(FILLER);
        let mut size: u64 = 1 << 30;
        let mut filled = 0;
        while size >= 4096 {
            let (offset, length) = (filled.to_string(), size.to_string());
            let mut fallocate = Command::new(tool("fallocate"));
            fallocate.args(["--offset", &offset, "--length", &length]).arg(&filler);
            if run(&mut fallocate).is_ok() { filled += size } else { size /= 2 }
        }
    }

    /// Makes room again.
    pub fn empty(&self) {
        drop(std::fs::remove_file(self.mount.join(FILLER)));
    }

    /// From now on nothing more is written, and what was not synced is lost. Everything that works on it is to be killed next.
    ///
    /// # Errors
    /// Why this machine cannot.
    pub fn cut_power(&self) -> Result<(), String> {
        run(Command::new("perl").args(["-e", POWER_CUT]).arg(&self.mount)).map(drop)
    }

    /// Mounts it again after a power cut, which replays its journal. Nothing may use it.
    pub fn mount_again(&self) {
        for attempt in 1..=TRIES {
            match run(Command::new(tool("umount")).arg(&self.mount)) {
                Ok(_) => break,
                Err(why) => assert!(attempt < TRIES, "{why}"),
            }
            std::thread::sleep(PAUSE);
        }
        for attempt in 1..=TRIES {
            match mount_at(&self.image, &self.mount) {
                Ok(_) => break,
                Err(why) => assert!(attempt < TRIES, "{why}"),
            }
            std::thread::sleep(PAUSE);
        }
        self.empty();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(self.watch.stdin.take());
        drop(self.watch.wait());
    }
}

fn mount_at(image: &Path, at: &Path) -> Result<String, String> {
    run(Command::new(tool("mount")).args(["-o", "loop"]).arg(image).arg(at))
}

/// Debian keeps some where only root's path leads.
fn tool(name: &str) -> PathBuf {
    let places = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(|place| Path::new(place).join(name));
    places.into_iter().find(|file| file.is_file()).unwrap_or_else(|| PathBuf::from(name))
}

fn run(command: &mut Command) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{command:?}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!("{command:?}: {}", said.trim()))
    }
}
