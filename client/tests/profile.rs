//! The profile on disk: what it gives away, and what it notices.
#![expect(clippy::unwrap_used, reason = "in tests a panic is the report")]

use std::path::Path;
use std::time::Duration;

use postern_client::Error;
use postern_client::profile::{KdfParams, Patience, Profile, Record};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rusqlite::Connection;
use serde::{Deserialize, Serialize};

const PASSWORD: &str = "correct horse battery staple";

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
struct Note {
    text: String,
}

impl Record for Note {
    const KIND: &'static str = "test-note";
}

#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Other(u32);

impl Record for Other {
    const KIND: &'static str = "test-other";
}

struct World {
    dir: tempfile::TempDir,
    rng: StdRng,
}

impl World {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), rng: StdRng::seed_from_u64(7) }
    }

    fn path(&self) -> std::path::PathBuf {
        Profile::path(self.dir.path(), "default").unwrap()
    }

    fn create(&mut self) -> Profile {
        let path = self.path();
        Profile::create(&path, PASSWORD, KdfParams::CHEAP, &mut self.rng, &Patience::NONE).unwrap()
    }

    fn open(&self) -> Result<Profile, Error> {
        Profile::open(&self.path(), PASSWORD, &Patience::NONE)
    }

    fn put(&mut self, profile: &mut Profile, key: &str, text: &str) {
        profile.tx(&mut self.rng, |t| t.put(key, &Note { text: text.into() })).unwrap();
    }
}

fn rows(path: &Path) -> Vec<(Vec<u8>, Vec<u8>)> {
    let db = Connection::open(path).unwrap();
    let mut statement = db.prepare("SELECT id, sealed FROM row ORDER BY id").unwrap();
    statement.query_map([], |r| Ok((r.get(0)?, r.get(1)?))).unwrap().map(Result::unwrap).collect()
}

fn damaged(outcome: Result<Profile, Error>) -> bool {
    match outcome {
        Err(error @ Error::ProfileDamaged(_)) => error.to_string().starts_with("profile is damaged"),
        _ => false,
    }
}

#[test]
fn what_was_written_is_there_after_reopening() {
    let mut world = World::new();
    let mut profile = world.create();
    world.put(&mut profile, "a", "one");
    world.put(&mut profile, "b", "two");
    world.put(&mut profile, "a", "three");
    profile.tx(&mut world.rng, |t| t.put("a", &Other(4))).unwrap();
    drop(profile);
    let mut profile = world.open().unwrap();
    assert_eq!(profile.get::<Note>("a").unwrap(), Some(Note { text: "three".into() }));
    assert_eq!(profile.get::<Other>("a").unwrap(), Some(Other(4)));
    assert_eq!(profile.list::<Note>().unwrap().len(), 2);
    assert!(profile.tx(&mut world.rng, |t| t.delete::<Note>("a")).unwrap());
    assert!(!profile.tx(&mut world.rng, |t| t.delete::<Note>("a")).unwrap());
    drop(profile);
    assert_eq!(world.open().unwrap().list::<Note>().unwrap().len(), 1);
}

#[test]
fn a_wrong_password_opens_nothing_and_a_second_profile_of_the_name_is_not_made() {
    let mut world = World::new();
    drop(world.create());
    let wrong = Profile::open(&world.path(), "correct horse battery stapler", &Patience::NONE);
    assert!(matches!(wrong, Err(Error::WrongPassword)));
    let again = Profile::create(&world.path(), PASSWORD, KdfParams::CHEAP, &mut world.rng, &Patience::NONE);
    assert!(matches!(again, Err(Error::ProfileExists)));
    let none = Profile::open(&world.dir.path().join("none.db"), PASSWORD, &Patience::NONE);
    assert!(matches!(none, Err(Error::NoProfile)));
}

#[test]
fn a_failed_transaction_leaves_nothing_behind() {
    let mut world = World::new();
    let mut profile = world.create();
    world.put(&mut profile, "a", "one");
    let outcome: Result<(), Error> = profile.tx(&mut world.rng, |t| {
        t.put("a", &Note { text: "two".into() })?;
        t.put("b", &Note { text: "three".into() })?;
        t.delete::<Note>("a")?;
        assert_eq!(t.list::<Note>()?.len(), 1);
        Err(Error::NeedsLogin)
    });
    assert!(matches!(outcome, Err(Error::NeedsLogin)));
    assert_eq!(profile.list::<Note>().unwrap(), [("a".to_owned(), Note { text: "one".into() })]);
    drop(profile);
    assert_eq!(world.open().unwrap().list::<Note>().unwrap().len(), 1);
}

#[test]
fn every_row_that_is_changed_is_noticed() {
    let mut world = World::new();
    let mut profile = world.create();
    for key in ["a", "b", "c"] {
        world.put(&mut profile, key, key);
    }
    drop(profile);
    for (id, sealed) in rows(&world.path()) {
        for at in [0, 1, 30, sealed.len() - 1] {
            let mut bad = sealed.clone();
            bad[at] ^= 1;
            let db = Connection::open(world.path()).unwrap();
            db.execute("UPDATE row SET sealed = ?1 WHERE id = ?2", (&bad, &id)).unwrap();
            assert!(damaged(world.open()), "byte {at}");
            db.execute("UPDATE row SET sealed = ?1 WHERE id = ?2", (&sealed, &id)).unwrap();
        }
    }
    assert!(world.open().is_ok());
}

#[test]
fn every_row_that_is_removed_swapped_or_added_is_noticed() {
    let mut world = World::new();
    let mut profile = world.create();
    world.put(&mut profile, "a", "one");
    world.put(&mut profile, "b", "two");
    drop(profile);
    let all = rows(&world.path());
    let db = Connection::open(world.path()).unwrap();
    for (id, sealed) in &all {
        db.execute("DELETE FROM row WHERE id = ?1", [id]).unwrap();
        assert!(damaged(world.open()), "removed");
        db.execute("INSERT INTO row (id, sealed) VALUES (?1, ?2)", (id, sealed)).unwrap();
    }
    db.execute("UPDATE row SET sealed = ?1 WHERE id = ?2", (&all[0].1, &all[1].0)).unwrap();
    assert!(damaged(world.open()), "swapped");
    db.execute("UPDATE row SET sealed = ?1 WHERE id = ?2", (&all[1].1, &all[1].0)).unwrap();
    assert!(world.open().is_ok());
    db.execute("INSERT INTO row (id, sealed) VALUES (?1, ?2)", (vec![1u8; 32], &all[0].1)).unwrap();
    assert!(damaged(world.open()), "added");
}

#[test]
fn a_row_put_back_from_before_is_noticed() {
    let mut world = World::new();
    let mut profile = world.create();
    world.put(&mut profile, "token", "unspent");
    drop(profile);
    let before = rows(&world.path());
    let mut profile = world.open().unwrap();
    world.put(&mut profile, "token", "spent");
    drop(profile);
    let db = Connection::open(world.path()).unwrap();
    db.execute("UPDATE row SET sealed = ?1 WHERE id = ?2", (&before[0].1, &before[0].0)).unwrap();
    assert!(damaged(world.open()));
}

#[test]
fn the_hash_of_the_state_cannot_be_changed_or_removed_either() {
    let mut world = World::new();
    let mut profile = world.create();
    world.put(&mut profile, "a", "one");
    drop(profile);
    let db = Connection::open(world.path()).unwrap();
    let before: Vec<u8> = db.query_row("SELECT sealed FROM state", [], |r| r.get(0)).unwrap();
    let mut profile = world.open().unwrap();
    world.put(&mut profile, "b", "two");
    drop(profile);
    db.execute("UPDATE state SET sealed = ?1", [before]).unwrap();
    assert!(damaged(world.open()), "older");
    db.execute("UPDATE state SET sealed = ?1", [vec![0u8; 90]]).unwrap();
    assert!(damaged(world.open()), "changed");
    db.execute("DELETE FROM state", []).unwrap();
    assert!(damaged(world.open()), "removed");
}

#[test]
fn a_whole_file_put_back_from_before_is_noticed_on_this_machine() {
    let mut world = World::new();
    let mut profile = world.create();
    world.put(&mut profile, "token", "unspent");
    drop(profile);
    let before = std::fs::read(world.path()).unwrap();
    let mut profile = world.open().unwrap();
    world.put(&mut profile, "token", "spent");
    drop(profile);
    std::fs::write(world.path(), before).unwrap();
    assert!(matches!(world.open(), Err(Error::ProfileRolledBack)));
}

#[test]
fn a_file_that_is_no_database_is_damaged_and_not_a_crash() {
    let mut world = World::new();
    drop(world.create());
    std::fs::write(world.path(), b"not a database at all, but long enough to look at".repeat(40)).unwrap();
    assert!(damaged(world.open()));
    std::fs::remove_file(world.path()).unwrap();
    Connection::open(world.path()).unwrap().execute_batch("CREATE TABLE x (y)").unwrap();
    assert!(damaged(world.open()));
}

#[test]
fn a_change_behind_an_open_profile_is_noticed_before_the_next_deed() {
    let mut world = World::new();
    let mut profile = world.create();
    world.put(&mut profile, "a", "one");
    assert!(profile.verify().is_ok());
    let id = rows(&world.path())[0].0.clone();
    Connection::open(world.path()).unwrap().execute("DELETE FROM row WHERE id = ?1", [id]).unwrap();
    assert!(matches!(profile.verify(), Err(Error::ProfileDamaged(_))));
    assert!(matches!(profile.get::<Note>("a"), Err(Error::ProfileDamaged(_))));
}

#[test]
fn two_commands_do_not_work_on_one_profile_at_once() {
    let mut world = World::new();
    let mut profile = world.create();
    assert!(matches!(world.open(), Err(Error::ProfileBusy)));
    let told = std::cell::Cell::new(0);
    let on_wait = || told.set(told.get() + 1);
    let patience = Patience { wait: Duration::from_millis(250), on_wait: &on_wait };
    assert!(matches!(Profile::open(&world.path(), PASSWORD, &patience), Err(Error::ProfileBusy)));
    assert_eq!(told.get(), 1, "said once that it waits");

    profile.pause();
    assert!(profile.get::<Note>("a").is_err(), "a paused profile does nothing");
    let mut other = world.open().unwrap();
    world.put(&mut other, "a", "by the other");
    assert!(matches!(profile.resume(&Patience::NONE), Err(Error::ProfileBusy)));
    drop(other);
    profile.resume(&Patience::NONE).unwrap();
    assert_eq!(profile.get::<Note>("a").unwrap().unwrap().text, "by the other");
}

#[test]
fn one_that_waits_gets_the_profile_when_the_other_leaves() {
    let mut world = World::new();
    let profile = world.create();
    let path = world.path();
    let waiting = std::thread::spawn(move || {
        let patience = Patience { wait: Duration::from_secs(20), on_wait: &|| {} };
        Profile::open(&path, PASSWORD, &patience).is_ok()
    });
    std::thread::sleep(Duration::from_millis(150));
    drop(profile);
    assert!(waiting.join().unwrap());
}

#[test]
fn the_file_shows_no_password_phone_or_text() {
    let mut world = World::new();
    let mut profile = world.create();
    world.put(&mut profile, "+41791234567", "the planted secret text");
    world.put(&mut profile, "+41791234567", "the planted secret text, changed");
    drop(profile);
    for entry in std::fs::read_dir(world.dir.path().join("profiles")).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        for planted in [PASSWORD, "+41791234567", "791234567", "planted secret", "test-note"] {
            assert!(!bytes.windows(planted.len()).any(|w| w == planted.as_bytes()), "{planted}");
        }
    }
}

#[cfg(unix)]
#[test]
fn only_the_owner_can_read_the_files() {
    use std::os::unix::fs::PermissionsExt;
    let mut world = World::new();
    drop(world.create());
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&world.path()), 0o600);
    assert_eq!(mode(&world.path().with_extension("lock")), 0o600);
    assert_eq!(mode(world.path().parent().unwrap()), 0o700);
}

#[test]
fn debug_is_silent_and_names_cannot_leave_the_directory() {
    let mut world = World::new();
    assert_eq!(format!("{:?}", world.create()), "Profile(..)");
    for bad in ["", "../x", "a/b", ".hidden", "a b", "ä"] {
        assert!(Profile::path(Path::new("/d"), bad).is_err(), "{bad}");
    }
}
