//! The portable subset (design §9): what every migration and every statement keeps to, so that the same text runs on SQLite, on
//! PostgreSQL, and on a cluster that speaks its protocol.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What shards, and where its large tables are cut: every primary key and unique index begins with this column, and so every row
/// of one token, mailbox or account is in one place. Tables that are not listed are small, and whole everywhere.
const SHARDED: &[(&str, &[(&str, &str)])] = &[
    (
        "issuer",
        &[
            ("accounts", "account"),
            ("issuances", "account"),
            ("registrations", "cookie_digest"),
            ("relay_exchanges", "blinded_digest"),
            ("login_nonces", "nonce_digest"),
            ("sessions", "session"),
            ("attempts", "bucket"),
            ("lookup_allowance", "account"),
            ("lookup_issuances", "account"),
            ("lookup_spent", "nullifier"),
        ],
    ),
    (
        "relay",
        &[
            ("mailboxes", "mailbox"),
            ("closed_mailboxes", "mailbox"),
            ("cards", "mailbox"),
            ("messages", "mailbox"),
            ("ledger", "nullifier"),
            ("reply_keys", "mailbox"),
            ("reply_nullifiers", "mailbox"),
            ("reply_strikes", "mailbox"),
            ("reply_reveals", "mailbox"),
            ("prekey_supplies", "mailbox"),
            ("prekeys", "mailbox"),
            ("prekey_claims", "mailbox"),
            ("unenforced", "mailbox"),
            ("bells", "process"),
        ],
    ),
];

/// Words that no statement has.
const NOWHERE: &[&str] = &[
    "serial",
    "bigserial",
    "sequence",
    "nextval",
    "autoincrement",
    "references",
    "foreign",
    "trigger",
    "function",
    "procedure",
    "truncate",
    "savepoint",
    "pg_advisory_lock",
    "pg_advisory_xact_lock",
    "generated",
    "rowid",
    "lock",
    "listen",
    "notify",
];
/// What one engine has and the other has not, or means otherwise.
const NOT_IN_STATEMENTS: &[&str] = &[
    "randomblob",
    "hex",
    "unixepoch",
    "strftime",
    "datetime",
    "ifnull",
    "glob",
    "regexp",
    "replace",
    "ilike",
    "extract",
    "now",
    "substr",
    "group_concat",
    "string_agg",
    "least",
    "greatest",
    "pragma",
    "true",
    "false",
    "unnest",
    "using",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn files(directory: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|found| found == ending));
    files.sort();
    files
}

fn without_comments(sql: &str) -> String {
    let code = |line: &str| line.split("--").next().unwrap_or_default().to_owned();
    sql.lines().map(code).collect::<Vec<_>>().join("\n")
}

fn words(sql: &str) -> Vec<String> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    sql.to_lowercase().split(|c| !is_word(c)).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn unquoted(sql: &str) -> String {
    sql.split('\'').step_by(2).collect::<Vec<_>>().join("''")
}

fn migrations(server: &str, engine: &str) -> Vec<(String, String)> {
    let read = |file: PathBuf| {
        (file.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read_to_string(&file).unwrap())
    };
    files(&root().join("migrations").join(server).join(engine), "sql").into_iter().map(read).collect()
}

/// Every string of a source file that is SQL, and where it stands. Rust's own line continuations are taken out.
fn statements(file: &Path) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(file).unwrap();
    let code = text.split("#[cfg(test)]").next().unwrap();
    let strings = code.split('"').skip(1).step_by(2).map(|string| string.replace("\\\n", " "));
    let verb = |sql: &String| {
        words(sql).first().is_some_and(|verb| ["select", "insert", "update", "delete", "with"].contains(&verb.as_str()))
    };
    strings.filter(verb).map(|sql| (file.display().to_string(), sql)).collect()
}

fn all_statements() -> Vec<(String, String)> {
    let mut all = Vec::new();
    for server in ["issuer", "relay"] {
        for file in files(&root().join(server).join("src/db"), "rs") {
            all.extend(statements(&file));
        }
    }
    // What both servers say alike.
    all.extend(statements(&root().join("store/src/lease.rs")));
    all
}

#[test]
fn both_engines_have_the_same_migrations_but_for_three_words() {
    let translated = |line: &str| {
        let line = line.replace("BLOB", "BYTEA").replace("INTEGER", "BIGINT");
        let line = line.replace(") STRICT;", ");").replace(") strict;", ");");
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    // What is said about the translation itself.
    let body = |sql: &str| sql.lines().filter(|line| !line.starts_with("-- (")).collect::<Vec<_>>().join("\n");
    for server in ["issuer", "relay"] {
        let (sqlite, postgres) = (migrations(server, "sqlite"), migrations(server, "postgres"));
        assert!(!sqlite.is_empty());
        assert_eq!(sqlite.iter().map(|m| &m.0).collect::<Vec<_>>(), postgres.iter().map(|m| &m.0).collect::<Vec<_>>());
        for ((name, sqlite), (_, postgres)) in sqlite.iter().zip(&postgres) {
            let (sqlite, postgres_lines) = (body(sqlite), body(postgres));
            assert_eq!(sqlite.lines().count(), postgres_lines.lines().count(), "{server} {name}");
            for (sqlite, postgres) in sqlite.lines().zip(postgres_lines.lines()) {
                assert_eq!(translated(sqlite), translated(postgres), "{server} {name}");
            }
            assert!(!without_comments(postgres).contains("INTEGER") && !without_comments(postgres).contains("BLOB"));
        }
    }
}

#[test]
fn nothing_is_used_that_a_cluster_lacks_or_that_the_engines_take_differently() {
    let mut read = 0;
    for server in ["issuer", "relay"] {
        for (name, sql) in migrations(server, "postgres") {
            let found: Vec<_> = words(&unquoted(&without_comments(&sql)));
            let found: Vec<_> = found.iter().filter(|word| NOWHERE.contains(&word.as_str())).collect();
            assert!(found.is_empty(), "{server} {name}: {found:?}");
        }
    }
    for (place, sql) in all_statements() {
        read += 1;
        let words = words(&unquoted(&sql));
        let banned = |word: &&String| NOWHERE.contains(&word.as_str()) || NOT_IN_STATEMENTS.contains(&word.as_str());
        let found: Vec<_> = words.iter().filter(banned).collect();
        assert!(found.is_empty(), "{place}: {sql}: {found:?}");
        assert!(!sql.contains('?') && !sql.contains("x'") && !sql.contains("||"), "{place}: {sql}");
        // SUM of BIGINT is NUMERIC on PostgreSQL.
        assert!(!words.contains(&"sum".to_owned()) || words.contains(&"cast".to_owned()), "{place}: {sql}");
        // With two arguments these are other functions, or none.
        for function in ["max(", "min("] {
            let arguments = sql.to_lowercase();
            let arguments = arguments.split(function).nth(1).and_then(|rest| rest.split(')').next());
            assert!(arguments.is_none_or(|arguments| !arguments.contains(',')), "{place}: {sql}");
        }
    }
    assert!(read > 100, "only {read} statements were found");
}

/// The columns of each primary key and unique index, by table.
fn keys(server: &str) -> BTreeMap<String, Vec<Vec<String>>> {
    let mut keys: BTreeMap<String, Vec<Vec<String>>> = BTreeMap::new();
    for (_, sql) in migrations(server, "postgres") {
        for statement in without_comments(&sql).to_lowercase().split(';') {
            let words = words(statement);
            match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
                ["create", "table", table, ..] => {
                    let columns = match statement.split_once("primary key (") {
                        Some((_, rest)) => {
                            rest.split(')').next().unwrap().split(',').map(|c| c.trim().to_owned()).collect()
                        }
                        None => {
                            let line = statement
                                .lines()
                                .find(|line| line.contains("primary key"))
                                .unwrap_or_else(|| panic!("{table} has no key"));
                            vec![line.split_whitespace().next().unwrap().to_owned()]
                        }
                    };
                    keys.entry((*table).to_owned()).or_default().push(columns);
                }
                ["drop", "table", table] => drop(keys.remove(*table)),
                ["create", "unique", "index", _, "on", table, ..] => {
                    let list = statement.split('(').nth(1).unwrap().split(')').next().unwrap();
                    keys.entry((*table).to_owned())
                        .or_default()
                        .push(list.split(',').map(|c| c.trim().to_owned()).collect());
                }
                _ => {}
            }
        }
    }
    keys
}

#[test]
fn every_key_of_a_sharded_table_begins_with_what_it_is_sharded_by() {
    for (server, sharded) in SHARDED {
        let keys = keys(server);
        for (table, column) in *sharded {
            for key in keys.get(*table).unwrap_or_else(|| panic!("{server} has no table {table}")) {
                assert_eq!(key.first().map(String::as_str), Some(*column), "{server} {table}: {key:?}");
            }
        }
        for table in keys.keys() {
            let known = sharded.iter().any(|(name, _)| name == table) || WHOLE.contains(&table.as_str());
            assert!(known, "{server}: say whether {table} is sharded, and by what");
        }
    }
}

/// Tables that are small and whole everywhere: a few rows, or a few thousand.
const WHOLE: &[&str] = &[
    "token_keys",
    "key_counts",
    "retired_keys",
    "reply_fence",
    "lookup_fence",
    "oprf_epochs",
    "directory_builds",
    "directory_files",
    "key_log",
    "leases",
    "unenforced_counts",
];

/// Statements on sharded tables that name no shard: what walks a table by age or key, beside the requests.
const OVER_ALL_SHARDS: &[&str] = &[
    "delete from attempts where expires",
    "delete from login_nonces where expires",
    "delete from sessions where expires",
    "delete from registrations where expires",
    "delete from issuances where (",
    "delete from relay_exchanges where (",
    "delete from lookup_spent where nullifier in",
    "delete from lookup_issuances where (",
    "select account, phone, identity_key",
    // Sessions are sharded by their own name, for that is what every call names; their owner asks for all of them rarely.
    "select session, label",
    "delete from sessions where account",
    "select mailbox, message from messages where arrived_at",
    "select nullifier, state from ledger where key_id",
    "select max(epoch) from reply_nullifiers",
    "delete from reply_nullifiers where (",
    "delete from reply_strikes where (",
    "delete from reply_reveals where (",
    "delete from prekey_claims where (",
    "delete from unenforced where (",
    // Once in a while, for metrics.
    "select count(*) from accounts",
    "select count(*) from sessions",
    "select nullifier from ledger order",
    "select state, count(*), cast",
    "select mailbox from mailboxes order",
    "select count(*), cast(coalesce(sum(queued_messages",
    // A row for each process.
    "select process, rung",
    "delete from bells where rung_at",
];

#[test]
fn every_statement_on_the_way_of_a_request_names_its_shard() {
    let mut unused: Vec<&str> = OVER_ALL_SHARDS.to_vec();
    for (server, sharded) in SHARDED {
        for (place, sql) in
            all_statements().into_iter().filter(|(place, _)| place.contains(&format!("/{server}/src/db")))
        {
            let sql = words(&sql).join(" ");
            let words: Vec<&str> = sql.split(' ').collect();
            for (table, column) in sharded.iter().filter(|(table, _)| words.contains(table)) {
                let exempt = OVER_ALL_SHARDS.iter().find(|begin| sql.starts_with(&self::words(begin).join(" ")));
                if let Some(exempt) = exempt {
                    unused.retain(|begin| begin != exempt);
                    continue;
                }
                let names_it = match words.first() {
                    Some(&"insert") => words.get(3) == Some(column) || words.contains(&"select"),
                    // Pairs that are named as arguments.
                    Some(&"with") => sql.starts_with(&format!("with named {column} ")),
                    _ => sql.contains(&format!("{column} $")) || sql.contains(&format!("{column} in $")),
                };
                assert!(names_it, "{place}: {sql}: {table} is not asked by {column}");
            }
        }
    }
    assert!(unused.is_empty(), "no such statement any more: {unused:?}");
}

#[test]
fn a_cluster_is_cut_as_the_list_says() {
    for (server, sharded) in SHARDED {
        let sql = without_comments(
            &std::fs::read_to_string(root().join("migrations").join(server).join("citus.sql")).unwrap(),
        );
        let mut cut = BTreeMap::new();
        for statement in sql.split(';').map(str::trim).filter(|statement| !statement.is_empty()) {
            let quoted: Vec<&str> = statement.split('\'').skip(1).step_by(2).collect();
            let by = match (statement.split('(').next().unwrap(), quoted.as_slice()) {
                ("select create_distributed_table", [_, column, beside]) => {
                    // What lies beside another table is cut by the same column.
                    assert!(*beside == "none" || sharded.contains(&(*beside, *column)), "{statement}");
                    Some((*column).to_owned())
                }
                ("select create_reference_table", [_]) => None,
                _ => panic!("{server}: {statement}"),
            };
            assert!(cut.insert(quoted[0].to_owned(), by).is_none(), "{statement}: twice");
        }
        let list = keys(server).into_keys().map(|table| {
            let by = sharded.iter().find(|(name, _)| *name == table).map(|(_, column)| (*column).to_owned());
            (table, by)
        });
        assert_eq!(cut, list.collect(), "{server}");
    }
}
