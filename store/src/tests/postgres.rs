//! What only PostgreSQL has: a connection that can break.

use postern_test_database::{Cut, Proxy, Server};

use super::*;

/// Spends a coin that may be its own: true if it is spent now, by this transaction or by a commit of it that nobody heard of.
async fn spend_once(db: &Db, id: [u8; 4], told: &AtomicU32) -> Result<bool, StoreError> {
    db.run("spend", |tx| {
        Box::pin(async move {
            told.fetch_add(u32::from(tx.may_have_committed()), Ordering::SeqCst);
            let fresh = tx.execute(SPEND, &[id.into(), "x".into(), Value::Null]).await? == 1;
            Ok(fresh || tx.may_have_committed())
        })
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_cut_around_the_commit_is_resolved_and_the_transaction_is_told() {
    let place = place(Engine::Postgres);
    let proxy = Proxy::start(&place.database);
    let db = Db::open(&proxy.url(), SCHEMA).await.unwrap();
    for (cut, id) in [(Cut::BeforeCommit, [1; 4]), (Cut::AfterCommit, [2; 4])] {
        let (before, told) = (proxy.cuts(), AtomicU32::new(0));
        proxy.cut_after(0, cut);
        assert!(spend_once(&db, id, &told).await.unwrap());
        assert_eq!((proxy.cuts() - before, told.into_inner()), (1, 1), "{cut:?}");
        assert_eq!(place.database.int("select count(*) from coins"), i64::from(id[0]));
    }
    // Without a cut a spent coin is spent.
    assert!(!spend_once(&db, [2; 4], &AtomicU32::new(0)).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_the_server_has_ended_are_replaced_unseen() {
    let place = place(Engine::Postgres);
    let db = Db::open(&place.url, SCHEMA).await.unwrap();
    for round in 1..=3u8 {
        let together: Vec<_> = (0..8u8).map(|i| spend_task(&db, [round, i, 0, 0])).collect();
        for spent in together {
            assert!(spent.await.unwrap());
        }
        place.database.rows(
            "select cast(count(pg_terminate_backend(pid)) as bigint) from pg_stat_activity
             where datname = current_database() and pid <> pg_backend_pid()",
            &[],
        );
    }
    assert_eq!(count(&db).await, 24);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_found_everything_done_waits_for_the_standby_as_the_one_that_did_it() {
    let server = Server::start_own();
    let db = Db::open(&server.url("postgres"), SCHEMA).await.unwrap();
    assert!(spend(&db, [1; 4]).await.unwrap());
    say(&db, "alter system set synchronous_standby_names = '*'; select pg_reload_conf()").await;
    for settle in [false, true] {
        let waiting = one_that_waits(&db, settle);
        let waiting = tokio::time::timeout(Duration::from_secs(30), waiting).await.expect("nothing waits");
        assert_eq!(count(&db).await, 1, "reading waits for nobody");
        assert!(!waiting.is_finished());
        say(&db, "alter system set synchronous_standby_names = ''; select pg_reload_conf()").await;
        waiting.await.unwrap().unwrap();
        say(&db, "alter system set synchronous_standby_names = '*'; select pg_reload_conf()").await;
    }
    say(&db, "alter system set synchronous_standby_names = ''; select pg_reload_conf()").await;
}

/// Asks until a question waits for a standby: what the server is told to do it does in a moment.
async fn one_that_waits(db: &Db, settle: bool) -> tokio::task::JoinHandle<Result<(), StoreError>> {
    loop {
        let asked = tokio::spawn({
            let db = db.clone();
            async move { if settle { db.settle().await } else { spend(&db, [1; 4]).await.map(drop) } }
        });
        while !asked.is_finished() {
            if waits(db).await {
                break;
            }
        }
        if !asked.is_finished() {
            return asked;
        }
    }
}

async fn say(db: &Db, sql: &'static str) {
    for sql in sql.split("; ") {
        db.glance("say", |tx| Box::pin(async move { tx.execute_script(sql).await })).await.unwrap();
    }
}

/// Whether somebody waits for a standby.
async fn waits(db: &Db) -> bool {
    const WAITING: &str = "select count(*) from pg_stat_activity where wait_event = 'SyncRep'";
    let seen = db.glance("waits", |tx| Box::pin(async move { tx.fetch_all(WAITING, &[]).await?[0].int(0) }));
    seen.await.unwrap() == 1
}

fn spend_task(db: &Db, id: [u8; 4]) -> tokio::task::JoinHandle<bool> {
    let db = db.clone();
    tokio::spawn(async move { spend(&db, id).await.unwrap() })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pool_is_no_larger_than_the_url_says() {
    let place = place(Engine::Postgres);
    let db = Db::open(&format!("{}&pool_size=2", place.url), SCHEMA).await.unwrap();
    let together: Vec<_> = (0..32u8).map(|i| spend_task(&db, [i; 4])).collect();
    for spent in together {
        assert!(spent.await.unwrap());
    }
    // The one that asks is not counted.
    let open = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()";
    assert!((1..=2).contains(&place.database.int(open)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_and_a_database_that_is_not_are_said() {
    let place = place(Engine::Postgres);
    let missing = place.url.replace(place.database.name(), "no_such_database");
    let error = Db::open(&missing, SCHEMA).await.unwrap_err();
    assert!(matches!(&error, StoreError::Engine(e) if e.code() == Some("3D000")), "{error}");
    let error = Db::open("postgres://relay:hunter2@localhost/x?host=/no/such/place", SCHEMA).await.unwrap_err();
    assert!(matches!(error, StoreError::Unreachable(_)), "{error}");
    assert!(!format!("{error} {error:?}").contains("hunter2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_that_was_interrupted_is_taken_up_where_it_stopped() {
    let place = place(Engine::Postgres);
    Db::open(&place.url, SCHEMA).await.unwrap().close().await;
    // As if the program had died after the first statement.
    place.database.script("drop table log; delete from schema_history; delete from schema_steps where step > 0");
    let db = Db::open(&place.url, SCHEMA).await.unwrap();
    assert_eq!(place.database.int("select count(*) from log"), 0);
    assert_eq!(count(&db).await, 0);
}

#[cfg(feature = "pg-tls")]
#[tokio::test(flavor = "multi_thread")]
async fn over_tls_the_server_is_authenticated_as_the_url_asks_and_no_error_names_the_password() {
    let server = Server::with_tls();
    let url = |host: &str, password: &str, ssl: &str| {
        format!("postgres://postern:{password}@{host}:{}/postgres?{ssl}", server.port())
    };
    let (password, ca) = (Server::PASSWORD, server.certificate());
    let verified = format!("sslmode=verify-full&sslrootcert={}", ca.display());
    let db = Db::open(&url("localhost", password, &verified), SCHEMA).await.unwrap();
    const ENCRYPTED: &str = "select count(*) from pg_stat_ssl where pid = pg_backend_pid() and ssl";
    let encrypted = db.read("tls", |tx| Box::pin(async move { tx.fetch_all(ENCRYPTED, &[]).await?[0].int(0) }));
    assert_eq!(encrypted.await.unwrap(), 1);
    // Without the CA, under another name, without TLS; and with another password.
    for (host, password, ssl) in [
        ("localhost", password, "sslmode=verify-full"),
        ("127.0.0.1", password, verified.as_str()),
        ("localhost", password, "sslmode=disable"),
        ("localhost", "hunter3-of-nobody", verified.as_str()),
    ] {
        let refused = Db::open(&url(host, password, ssl), SCHEMA).await.unwrap_err();
        assert!(matches!(refused, StoreError::Engine(_)), "{host} {ssl}: {refused:?}");
        assert!(!format!("{refused} {refused:?}").contains(password), "{refused}");
    }
    Db::open(&url("127.0.0.1", password, "sslmode=require"), SCHEMA).await.unwrap();
}
