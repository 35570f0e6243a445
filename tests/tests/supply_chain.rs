//! What is built in, by the rules of deny.toml: known licences, no second version that nobody has looked at, one source; and `unsafe` in one module alone.
#![allow(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use cargo_metadata::{Metadata, MetadataCommand, Package};
use serde::Deserialize;
use spdx::{Expression, LicenseReq, Licensee, ParseMode};

/// The part of deny.toml that is read here; `cargo deny` reads all of it.
#[derive(Deserialize)]
struct Rules {
    graph: Graph,
    licenses: Licenses,
    bans: Bans,
    sources: Sources,
}

#[derive(Deserialize)]
struct Graph {
    targets: Vec<String>,
}

#[derive(Deserialize)]
struct Licenses {
    allow: Vec<String>,
    exceptions: Vec<Exception>,
}

#[derive(Deserialize)]
struct Exception {
    #[serde(rename = "crate")]
    name: String,
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Bans {
    skip: Vec<Skip>,
}

#[derive(Deserialize)]
struct Skip {
    #[serde(rename = "crate")]
    spec: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Sources {
    allow_registry: Vec<String>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn rules() -> Rules {
    toml::from_str(&std::fs::read_to_string(root().join("deny.toml")).unwrap()).unwrap()
}

/// All that is built for the targets of the rules, tests included.
fn built(rules: &Rules) -> Vec<Package> {
    let [target] = rules.graph.targets.as_slice() else { panic!("one target") };
    let mut command = MetadataCommand::new();
    command.other_options(["--locked".to_owned(), "--filter-platform".to_owned(), target.clone()]);
    let Metadata { packages, resolve, .. } = command.exec().unwrap();
    let nodes: BTreeSet<_> = resolve.unwrap().nodes.into_iter().map(|node| node.id).collect();
    let packages: Vec<_> = packages.into_iter().filter(|package| nodes.contains(&package.id)).collect();
    assert!(packages.len() > 100, "{} packages", packages.len());
    packages
}

fn spec(package: &Package) -> String {
    let version = &package.version;
    format!("{}@{}.{}.{}{}", package.name, version.major, version.minor, version.patch, pre(&version.pre))
}

fn pre(pre: &str) -> String {
    if pre.is_empty() { String::new() } else { format!("-{pre}") }
}

/// Why a licence may not be passed on by these rules, if it may not.
fn objection(name: &str, licence: Option<&str>, rules: &Licenses) -> Option<String> {
    let Some(licence) = licence else { return Some(format!("{name} has no licence")) };
    let Ok(expression) = Expression::parse_mode(licence, ParseMode::LAX) else {
        return Some(format!("{name}: no expression: {licence}"));
    };
    let own = rules.exceptions.iter().filter(|exception| exception.name == name).flat_map(|it| &it.allow);
    let allowed: Vec<Licensee> = rules.allow.iter().chain(own).map(|id| Licensee::parse(id).unwrap()).collect();
    let is_allowed = |asked: &LicenseReq| allowed.iter().any(|licensee| licensee.satisfies(asked));
    (!expression.evaluate(is_allowed)).then(|| format!("{name}: {licence}"))
}

#[test]
fn every_crate_has_a_licence_that_may_be_passed_on() {
    let rules = rules();
    let found: Vec<_> =
        built(&rules).iter().filter_map(|it| objection(&it.name, it.license.as_deref(), &rules.licenses)).collect();
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn a_licence_that_asks_more_is_objected_to() {
    let rules = rules().licenses;
    for licence in
        [Some("GPL-3.0-only"), Some("MIT AND AGPL-3.0-or-later"), Some("MPL-2.0"), Some("no such thing"), None]
    {
        assert!(objection("some-crate", licence, &rules).is_some(), "{licence:?}");
    }
    for licence in ["MIT OR GPL-3.0-only", "MIT/Apache-2.0", "(MIT OR Apache-2.0) AND Unicode-3.0"] {
        assert_eq!(objection("some-crate", Some(licence), &rules), None);
    }
}

#[test]
fn a_second_version_of_a_crate_is_one_that_somebody_has_looked_at() {
    let rules = rules();
    let skipped: BTreeSet<String> = rules.bans.skip.iter().map(|skip| skip.spec.clone()).collect();
    let mut versions: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let built = built(&rules);
    for package in &built {
        let known = versions.entry(package.name.to_string()).or_default();
        known.push(spec(package));
    }
    for (name, specs) in &versions {
        let new: Vec<_> = specs.iter().filter(|spec| !skipped.contains(*spec)).collect();
        assert!(new.len() <= 1, "{name}: {new:?}; see `cargo tree -d`");
    }
    let all: BTreeSet<_> = versions.iter().filter(|(_, specs)| specs.len() > 1).flat_map(|(_, specs)| specs).collect();
    let gone: Vec<_> = skipped.iter().filter(|spec| !all.contains(spec)).collect();
    assert!(gone.is_empty(), "no longer twice: {gone:?}");
}

#[test]
fn every_crate_comes_from_the_one_registry_or_is_ours() {
    let rules = rules();
    for package in built(&rules) {
        let is_ours = package.manifest_path.starts_with(root().to_str().unwrap());
        let source = package.source.as_ref().map(|source| source.repr.trim_start_matches("registry+").to_owned());
        let is_known = source.as_ref().is_some_and(|source| rules.sources.allow_registry.contains(source));
        assert!(is_known != (is_ours && source.is_none()), "{}: {source:?}", package.name);
    }
}

/// All Rust that is ours.
fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn unsafe_code_is_denied_everywhere_and_allowed_in_one_module_and_one_benchmark() {
    let metadata = MetadataCommand::new().no_deps().exec().unwrap();
    for package in &metadata.packages {
        let manifest: toml::Table = toml::from_str(&std::fs::read_to_string(&package.manifest_path).unwrap()).unwrap();
        let lints = manifest["lints"].as_table().unwrap();
        let inherits = lints.get("workspace").and_then(toml::Value::as_bool) == Some(true);
        let denies = || lints["rust"].get("unsafe_code").and_then(toml::Value::as_str) == Some("deny");
        assert!(inherits || denies(), "{}", package.name);
    }
    let workspace: toml::Table = toml::from_str(&std::fs::read_to_string(root().join("Cargo.toml")).unwrap()).unwrap();
    assert_eq!(workspace["workspace"]["lints"]["rust"]["unsafe_code"].as_str(), Some("deny"));

    let mut files = Vec::new();
    sources(&root(), &mut files);
    let allow = concat!("allow(unsafe", "_code");
    let allowing: BTreeSet<_> = files
        .iter()
        .filter(|file| std::fs::read_to_string(file).unwrap().contains(allow))
        .map(|file| file.strip_prefix(root()).unwrap().to_str().unwrap())
        .collect();
    assert_eq!(allowing, BTreeSet::from(["credentials/benches/bbs04/mod.rs", "credentials/src/aws_lc.rs"]));
}
