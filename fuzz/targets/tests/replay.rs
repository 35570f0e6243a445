//! Every file of every corpus through its target. One test, since the targets count what is allocated in the whole process.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use postern_fuzz_targets::{TARGETS, run};

/// All corpora together, bytes.
const MOST: u64 = 300 * 1024;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn names(dir: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn every_target_has_a_corpus_and_holds_on_all_of_it() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(targets.len(), TARGETS.len(), "two targets have one name");
    assert_eq!(names(&fuzz().join("corpus")), targets);
    let programs = names(&fuzz().join("fuzz_targets"));
    assert_eq!(programs, targets.iter().map(|name| format!("{name}.rs")).collect(), "three lines for every target");
    let manifest = std::fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    let (mut bytes, mut fallen) = (0, Vec::new());
    for (target, _) in TARGETS {
        assert!(
            manifest.contains(&format!("path = \"fuzz_targets/{target}.rs\"")),
            "{target} is not in fuzz/Cargo.toml"
        );
        let corpus = fuzz().join("corpus").join(target);
        for name in names(&corpus) {
            let input = std::fs::read(corpus.join(&name)).unwrap();
            bytes += input.len() as u64;
            if std::panic::catch_unwind(|| run(target, &input)).is_err() {
                fallen.push(format!("fuzz/corpus/{target}/{name}"));
            }
        }
    }
    assert!(fallen.is_empty(), "{fallen:#?}");
    assert!(bytes <= MOST, "the corpora have grown to {bytes} bytes: minimise them");
}
