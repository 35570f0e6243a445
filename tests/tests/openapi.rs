//! The OpenAPI documents: what their script writes, of all endpoints and no others, and with every type of problem. `tests/schemathesis.sh` sends what they describe.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use postern_protocol::problem::ProblemKind;
use postern_protocol::send::OPENAPI_PATH;
use postern_tests::{Reply, World, programs};
use serde_json::Value;

const SERVERS: [&str; 2] = ["issuer", "relay"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn document(server: &str) -> Value {
    let text = std::fs::read_to_string(root().join(format!("docs/openapi/{server}.json"))).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Methods and paths.
fn operations(document: &Value) -> Vec<(String, String)> {
    let paths = document["paths"].as_object().unwrap();
    let methods = |(path, item): (&String, &Value)| {
        let path = path.clone();
        let methods: Vec<String> = item.as_object().unwrap().keys().map(|method| method.to_uppercase()).collect();
        methods.into_iter().map(move |method| (method, path.clone()))
    };
    paths.iter().flat_map(methods).collect()
}

#[test]
fn the_documents_are_those_that_their_script_writes() {
    let written = tempfile::tempdir().unwrap();
    let script = root().join("docs/openapi/make.py");
    let done = Command::new("python3").arg("-B").arg(script).arg(written.path()).status().unwrap();
    assert!(done.success());
    for server in SERVERS {
        let name = format!("{server}.json");
        let [kept, made] = [root().join("docs/openapi"), written.path().to_owned()]
            .map(|dir| std::fs::read_to_string(dir.join(&name)).unwrap());
        assert!(kept == made, "python3 docs/openapi/make.py writes another {name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_endpoint_is_in_the_document_and_every_endpoint_of_the_document_is_there() {
    let world = World::start(programs!());
    let http = reqwest::Client::new();
    for (server, base) in SERVERS.into_iter().zip([&world.issuer_url, &world.relay_url]) {
        let document = document(server);
        assert_eq!(Reply::to(http.get(format!("{base}{OPENAPI_PATH}"))).await.unwrap().json::<Value>(), document);
        // As many as the router has, and the two of `health_routes`; and each that is named is one of them.
        let router = std::fs::read_to_string(root().join(server).join("src/app.rs")).unwrap();
        assert_eq!(router.matches(".route(").count() + 2, document["paths"].as_object().unwrap().len(), "{server}");
        for (method, path) in operations(&document) {
            let path = path.replace("{build}", "1").replace("{bucket}", "0").replace("{mailbox}", &"A".repeat(43));
            let ask = |method: &str| Reply::to(http.request(method.parse().unwrap(), format!("{base}{path}")));
            assert_eq!(ask("PATCH").await.unwrap().status, 405, "{server}: {path}");
            let found = ask(&method).await.unwrap();
            let kind = (found.status >= 400).then(|| found.problem().known_kind()).flatten();
            assert_ne!(kind, Some(ProblemKind::MethodNotAllowed), "{server}: {method} {path}");
        }
    }
}

#[test]
fn every_type_of_problem_is_in_a_document_with_its_status_and_none_that_there_is_not() {
    let mut named = BTreeSet::new();
    for server in SERVERS {
        for (name, answer) in document(server)["components"]["responses"].as_object().unwrap() {
            let status: u16 = name.split('.').next().unwrap().parse().unwrap();
            for slug in answer["description"].as_str().unwrap().split(", ") {
                let kind = ProblemKind::ALL.iter().find(|kind| kind.slug() == slug).unwrap_or_else(|| panic!("{slug}"));
                assert_eq!(kind.status(), status, "{slug}");
                named.insert(slug.to_owned());
            }
        }
    }
    let missing: Vec<_> =
        ProblemKind::ALL.iter().map(|kind| kind.slug()).filter(|slug| !named.contains(*slug)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
