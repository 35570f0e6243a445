//! The seeds in the repository are those that are made today. With `POSTERN_WRITE_SEEDS=1` they are written first.

use std::path::Path;

use postern_fuzz_targets::{TARGETS, seeds};

#[test]
fn the_seeds_in_the_corpora_are_those_that_are_made_today() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("corpus");
    let all = seeds::all();
    for (target, name, bytes) in &all {
        let path = corpus.join(target).join(format!("seed-{name}"));
        if std::env::var_os("POSTERN_WRITE_SEEDS").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, bytes).unwrap();
        }
        assert!(
            std::fs::read(&path).is_ok_and(|kept| kept == *bytes),
            "{} is another: POSTERN_WRITE_SEEDS=1",
            path.display()
        );
    }
    for (target, _) in TARGETS {
        assert!(all.iter().any(|(of, ..)| of == target), "{target} has no seeds");
    }
}
