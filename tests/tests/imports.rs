//! Who may import whom (docs of each crate): dependencies between crates point one way, and stay so.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, MetadataCommand};

/// What each crate may depend on outside its tests. A crate that is not listed fails the test.
const ALLOWED: &[(&str, &[&str])] = &[
    ("postern-protocol", &[]),
    ("postern-credentials", &["postern-protocol"]),
    ("postern-store", &["postern-protocol"]),
    ("postern-test-database", &[]),
    ("postern-tls", &["postern-protocol"]),
    ("postern-listen", &["postern-protocol", "postern-tls"]),
    ("postern-operate", &["postern-protocol", "postern-tls"]),
    ("postern-client", &["postern-protocol", "postern-credentials", "postern-tls"]),
    ("postern-fuzz-targets", &["postern-protocol", "postern-credentials", "postern-client"]),
    ("postern-load", &["postern-protocol", "postern-credentials"]),
    (
        "postern-issuer",
        &[
            "postern-protocol",
            "postern-credentials",
            "postern-store",
            "postern-listen",
            "postern-tls",
            "postern-operate",
        ],
    ),
    (
        "postern-relay",
        &[
            "postern-protocol",
            "postern-credentials",
            "postern-store",
            "postern-listen",
            "postern-tls",
            "postern-operate",
        ],
    ),
    // Asks the three programs for their commands.
    ("postern-pages", &["postern-client", "postern-issuer", "postern-relay"]),
];

/// What must not be reached from the pure crates, by whatever way.
const IMPURE: &[&str] = &["tokio", "axum", "sqlx", "sqlx-core", "rusqlite", "reqwest", "hyper"];

fn local_imports() -> BTreeMap<String, BTreeSet<String>> {
    let metadata = MetadataCommand::new().no_deps().exec().unwrap();
    let names: BTreeSet<String> = metadata.packages.iter().map(|p| p.name.to_string()).collect();
    let mut imports = BTreeMap::new();
    for package in &metadata.packages {
        let normal = package.dependencies.iter().filter(|d| d.kind != DependencyKind::Development);
        let local = normal.map(|d| d.name.clone()).filter(|n| names.contains(n)).collect();
        imports.insert(package.name.to_string(), local);
    }
    imports
}

#[test]
fn dependencies_between_crates_point_one_way() {
    let imports = local_imports();
    assert!(imports.len() > ALLOWED.len(), "the workspace has its crates and the tests");
    for (name, local) in imports {
        if ["postern-tests", "postern-benches"].contains(&name.as_str()) {
            continue;
        }
        let (_, allowed) = ALLOWED.iter().find(|(n, _)| *n == name).unwrap_or_else(|| panic!("{name} has no rule"));
        for dependency in &local {
            assert!(allowed.contains(&dependency.as_str()), "{name} must not import {dependency}");
        }
    }
}

#[test]
fn wire_and_cryptography_reach_no_io() {
    let metadata = MetadataCommand::new().exec().unwrap();
    let resolve = metadata.resolve.as_ref().unwrap();
    for root in ["postern-protocol", "postern-credentials"] {
        let id = &metadata.packages.iter().find(|p| p.name.as_str() == root).unwrap().id;
        let mut seen = BTreeSet::from([id.clone()]);
        let mut queue = vec![id.clone()];
        while let Some(id) = queue.pop() {
            let node = resolve.nodes.iter().find(|n| n.id == id).unwrap();
            for dep in &node.deps {
                let normal = dep.dep_kinds.iter().any(|k| k.kind == DependencyKind::Normal);
                if normal && seen.insert(dep.pkg.clone()) {
                    queue.push(dep.pkg.clone());
                }
            }
        }
        for package in metadata.packages.iter().filter(|p| seen.contains(&p.id)) {
            assert!(!IMPURE.contains(&package.name.as_str()), "{root} reaches {}", package.name);
        }
    }
}

#[test]
fn issuer_and_relay_never_import_each_other() {
    let imports = local_imports();
    assert!(!imports["postern-issuer"].contains("postern-relay"));
    assert!(!imports["postern-relay"].contains("postern-issuer"));
}
