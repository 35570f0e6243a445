//! What only a client reads: the inside of an envelope, address books, its own profile.

use std::cell::RefCell;
use std::fs;
use std::path::PathBuf;

use postern_client::lookup::{Format, parse_contacts};
use postern_client::payload::{Inner, Kind, MAX_TEXT, Payload};
use postern_client::profile::{KdfParams, Patience, Profile, Record};
use postern_protocol::ids::PhoneNumber;
use serde::{Deserialize, Serialize};

use super::{canonical, frugal, stable, text};
use crate::seeds;

/// An opened envelope, and what was in the Olm message in it.
pub(crate) fn payload(data: &[u8]) {
    // Olm's messages have several spellings, and so have theirs.
    stable(data, 16, Inner::decode, Inner::encode);
    if let Some(payload) = canonical(data, 4, Payload::decode, |payload| payload.encode().unwrap().to_vec()) {
        assert!(payload.kind == Kind::Text || payload.text.expose().is_empty());
        assert!(payload.text.expose().len() <= data.len() && MAX_TEXT > 0);
    }
}

/// vCards and tables: whatever numbers are found are numbers, and each is found once.
pub(crate) fn address_book(data: &[u8]) {
    let Some(text) = text(data) else { return };
    for (format, country) in [(Format::Vcf, Some("CH")), (Format::Csv, Some("CH")), (Format::Csv, None)] {
        let found = parse_contacts(text, format, country).unwrap();
        let mut numbers: Vec<_> = found.entries.iter().map(|entry| entry.phone.as_str()).collect();
        for entry in &found.entries {
            assert_eq!(entry.phone.as_str().parse::<PhoneNumber>().as_ref(), Ok(&entry.phone));
            assert!(entry.name.chars().count() <= 100 && !entry.name.contains(char::is_control));
        }
        let all = numbers.len();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), all, "a number comes twice");
    }
}

/// A phone number; and any text that the numbering plan makes one of, in every country: it stays what it is.
pub(crate) fn phone(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let parsed = frugal(data, 1, || text.parse::<PhoneNumber>());
    if let Ok(phone) = &parsed {
        assert!(phone.as_str() == text && (8..=16).contains(&text.len()) && text.is_ascii());
        assert_eq!(serde_json::from_slice::<PhoneNumber>(&serde_json::to_vec(phone).unwrap()).unwrap(), *phone);
    }
    if text.contains(['"', '\n', ',', ';', '\t']) {
        return;
    }
    for country in ["CH", "IT", "US"] {
        let found = parse_contacts(text, Format::Csv, Some(country)).unwrap();
        for entry in found.entries {
            let again = parse_contacts(entry.phone.as_str(), Format::Csv, Some(country)).unwrap();
            assert!(again.entries.iter().map(|entry| &entry.phone).eq([&entry.phone]), "a number is another number");
        }
    }
}

#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Note(String);

impl Record for Note {
    const KIND: &'static str = "note";
}

const NOTES: usize = 8;

/// A profile in a file of its own, and what it was when it was right.
struct Home {
    _dir: tempfile::TempDir,
    path: PathBuf,
    good: Vec<u8>,
}

impl Home {
    fn new() -> Self {
        // In memory where there is such a place: SQLite reads a file, and a disk is slow.
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let path = dir.path().join("profile.db");
        let mut rng = seeds::rng();
        let mut profile = Profile::create(&path, "password", KdfParams::CHEAP, &mut rng, &Patience::NONE).unwrap();
        let put = |n: usize| (format!("{n}"), Note("a note ".repeat(n * n)));
        profile.tx(&mut rng, |t| (0..NOTES).map(put).try_for_each(|(key, note)| t.put(&key, &note))).unwrap();
        drop(profile);
        let good = fs::read(&path).unwrap();
        Self { _dir: dir, path, good }
    }
}

thread_local!(static HOME: RefCell<Option<Home>> = const { RefCell::new(None) });

/// The file of a profile with bytes changed (place, new value: 3 bytes each), then cut off or lengthened: it is opened as it was
/// written, or not at all.
pub(crate) fn profile(data: &[u8]) {
    HOME.with_borrow_mut(|home| {
        let Home { path, good, .. } = home.get_or_insert_with(Home::new);
        let mut file = good.clone();
        let (changes, rest) = data.as_chunks::<3>();
        for [high, low, value] in changes {
            let at = usize::from(u16::from_be_bytes([*high, *low])) % file.len();
            file[at] = *value;
        }
        match rest {
            [] => {}
            [cut] => file.truncate(file.len() * usize::from(*cut) / 255),
            more => file.extend_from_slice(more),
        }
        fs::write(&*path, &file).unwrap();
        if let Ok(profile) = Profile::open(path, "password", &Patience::NONE)
            && let Ok(notes) = profile.list::<Note>()
        {
            let expected = |n: usize| (format!("{n}"), Note("a note ".repeat(n * n)));
            assert!(notes.into_iter().eq((0..NOTES).map(expected)), "a changed profile was believed");
            assert!(profile.get::<Note>("9").is_ok_and(|note| note.is_none()));
        }
    });
}
