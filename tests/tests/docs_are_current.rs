//! The pages say what is so: tables and plots are what their scripts print today, and whatever is linked or named is there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The folders that a path in a page may begin with.
const PARTS: [&str; 18] = [
    ".ci",
    "benches",
    "client",
    "credentials",
    "docs",
    "fuzz",
    "issuer",
    "listen",
    "load",
    "migrations",
    "operate",
    "packaging",
    "protocol",
    "relay",
    "store",
    "test-database",
    "tests",
    "tls",
];
/// A name with so many underscores is a sentence, and so a test's.
const SENTENCE: usize = 4;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// What a script of docs/scaling prints.
fn print(script: &str, args: &[&str]) -> String {
    let output = Command::new("python3")
        .arg("-B")
        .arg(root().join("docs/scaling").join(script))
        .args(args)
        .output()
        .expect("python3 is needed (on Debian: apt-get install python3)");
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// All files below a folder with this ending, but for what is built.
fn files(dir: &Path, ending: &str, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() && name != "target" && name != ".git" {
            files(&path, ending, found);
        } else if name.ends_with(ending) {
            found.push(path);
        }
    }
}

fn pages() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    files(&root(), ".md", &mut found);
    assert!(found.len() > 10, "the pages are gone");
    found.into_iter().map(|path| (path.clone(), std::fs::read_to_string(path).unwrap())).collect()
}

/// Everything in the Rust sources, for the names in it.
fn sources() -> String {
    let mut found = Vec::new();
    files(&root(), ".rs", &mut found);
    found.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect()
}

/// Where the relative links of a page lead, without the places inside of files.
fn links(page: &str) -> Vec<String> {
    let targets = page.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
    let own = targets.filter(|target| !target.contains("://") && !target.starts_with('#'));
    own.map(|target| target.split('#').next().unwrap().to_owned()).collect()
}

/// What stands in backticks on one line.
fn code(page: &str) -> Vec<&str> {
    page.lines().flat_map(|line| line.split('`').skip(1).step_by(2)).collect()
}

/// The paths in it that begin in a folder of ours, braces expanded.
fn paths(code: &str) -> Vec<String> {
    let ours = |word: &&str| word.split_once('/').is_some_and(|(first, _)| PARTS.contains(&first));
    code.split_whitespace().filter(ours).flat_map(expand).collect()
}

/// `a/{b,c}/d` as `a/b/d` and `a/c/d`.
fn expand(path: &str) -> Vec<String> {
    let Some((before, rest)) = path.split_once('{') else { return vec![path.to_owned()] };
    let Some((choices, after)) = rest.split_once('}') else { return vec![path.to_owned()] };
    choices.split(',').flat_map(|choice| expand(&format!("{before}{choice}{after}"))).collect()
}

/// Names of tests and of benchmarks in it, as they stand in the sources or among the benchmarks' files.
fn names(code: &str) -> Vec<String> {
    let words: Vec<&str> = code.split_whitespace().collect();
    let plain = |word: &&&str| word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    let sentences = words.iter().filter(plain).filter(|word| word.matches('_').count() >= SENTENCE);
    let benches = words.windows(2).filter(|pair| pair[0] == "--bench").map(|pair| format!("benches/{}.rs", pair[1]));
    sentences.map(|name| format!("fn {name}(")).chain(benches).collect()
}

/// What a page promises and is not there.
fn missing(page: &Path, text: &str, sources: &str, benches: &[PathBuf]) -> Vec<String> {
    let beside = page.parent().unwrap();
    let mut missing: Vec<String> = links(text).into_iter().filter(|link| !beside.join(link).exists()).collect();
    for code in code(text) {
        missing.extend(paths(code).into_iter().filter(|path| !root().join(path).exists()));
        missing.extend(names(code).into_iter().filter(|name| match name.strip_prefix("benches/") {
            Some(_) => !benches.iter().any(|bench| bench.ends_with(name)),
            None => !sources.contains(name),
        }));
    }
    missing
}

#[test]
fn the_tables_of_the_scaling_page_are_those_that_its_scripts_print() {
    let page = std::fs::read_to_string(root().join("docs/scaling.md")).unwrap();
    let plots = tempfile::tempdir().unwrap();
    let costs = print("costs.py", &["--out", plots.path().to_str().unwrap()]);
    for printed in [costs, print("lookups.py", &[])] {
        for table in printed.split("\n\n") {
            assert!(table.starts_with('|') && page.contains(table.trim()), "this is not in docs/scaling.md:\n{table}");
        }
    }
}

#[test]
fn the_plots_of_the_scaling_page_are_those_that_its_script_draws() {
    let page = std::fs::read_to_string(root().join("docs/scaling.md")).unwrap();
    let drawn = tempfile::tempdir().unwrap();
    print("costs.py", &["--out", drawn.path().to_str().unwrap()]);
    let plots = |dir: &Path| -> BTreeMap<String, String> {
        let mut found = Vec::new();
        files(dir, ".svg", &mut found);
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        found.iter().map(|path| (name(path), std::fs::read_to_string(path).unwrap())).collect()
    };
    let (kept, drawn) = (plots(&root().join("docs/scaling")), plots(drawn.path()));
    assert!(!drawn.is_empty());
    assert_eq!(kept.keys().collect::<Vec<_>>(), drawn.keys().collect::<Vec<_>>());
    for (name, svg) in &drawn {
        assert!(kept[name] == *svg, "python3 docs/scaling/costs.py draws another {name}");
        assert!(page.contains(&format!("](scaling/{name})")), "{name} is not shown");
    }
}

#[test]
fn whatever_a_page_links_or_names_is_there() {
    let (sources, mut benches) = (sources(), Vec::new());
    files(&root(), ".rs", &mut benches);
    let all = pages();
    let missing: Vec<_> = all
        .iter()
        .map(|(page, text)| (page, missing(page, text, &sources, &benches)))
        .filter(|(_, missing)| !missing.is_empty())
        .collect();
    assert!(missing.is_empty(), "{missing:#?}");
    let named: usize = all.iter().flat_map(|(_, text)| code(text)).map(|code| paths(code).len()).sum();
    let linked: usize = all.iter().map(|(_, text)| links(text).len()).sum();
    assert!(named > 20 && linked > 20, "{named} paths and {linked} links: they are no longer found");
}

/// What somebody cannot do by the threat model, and no test is named for it.
fn unshown(page: &str) -> Vec<&str> {
    let lists = page.split("\nCannot:\n\n- ").skip(1).map(|rest| rest.split("\n\n").next().unwrap_or_default());
    let points = lists.flat_map(|list| list.split("\n- "));
    points.filter(|point| code(point).into_iter().all(|code| names(code).is_empty())).collect()
}

#[test]
fn whatever_the_threat_model_says_cannot_be_done_names_the_test_that_shows_it() {
    let page = std::fs::read_to_string(root().join("docs/threat-model.md")).unwrap();
    assert_eq!(unshown(&page), Vec::<&str>::new());
    let adversaries = page.matches("\n## ").count() - 1;
    assert_eq!(page.matches("\nCannot:\n\n- ").count(), adversaries, "each adversary has a list");
    assert!(!page.contains("\nCannot "), "a claim outside of a list");
    let planted = "\nCannot:\n\n- fly: `by_the_laws_of_physics`\n- swim\n\nAfterwards `nothing`.\n";
    assert_eq!(unshown(planted), ["swim"]);
}

#[test]
fn what_is_not_there_is_found() {
    let page = "[gone](gone.md#part) [here](data-model.md) [away](https://example.org/x) [below](#part)\n\
                `tests/tests/gone.rs` `cargo bench --bench gone` `docs/{README,gone}.md` `a_test_that_is_not_there` `/v1/log`\n";
    let missing = missing(&root().join("docs/scaling.md"), page, "fn a_test_that_is_there()", &[]);
    let expected =
        ["gone.md", "tests/tests/gone.rs", "benches/gone.rs", "docs/gone.md", "fn a_test_that_is_not_there("];
    assert_eq!(missing, expected);
}
