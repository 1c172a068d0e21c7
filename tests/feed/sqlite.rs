//! `SQLite` in WAL mode, beside an app that writes too.

use crate::bench::{Bench, is_root};
use crate::servers::{have, run};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn a_database_of_an_app_is_kept_while_the_app_writes() {
    if !have(&["sqlite3"]) {
        return;
    }
    let bench = Bench::new();
    let path = bench.path("app.db");
    let sql = |sql: &str| {
        let output = run(Command::new("sqlite3")
            .args(["-cmd", ".timeout 10000"])
            .arg(&path)
            .arg(sql));
        output.trim().to_owned()
    };
    sql(
        "PRAGMA journal_mode = WAL; CREATE TABLE config (id TEXT, token VARCHAR(512), expires INTEGER); \
         CREATE TABLE log (n INTEGER); INSERT INTO config VALUES ('shop', '', 0)",
    );
    bench.configure(
        r#"
[[database]]
url = "sqlite://{dir}/app.db"
statement = "UPDATE config SET token = :access_token, expires = :expire_time WHERE id = :account"
read_back = "SELECT token FROM config WHERE id = :account"
on_none = "UPDATE config SET token = NULL WHERE id = :account"
check_every = "1s"
"#,
    );
    let stop = Arc::new(AtomicBool::new(false));
    let app = {
        let (stop, path) = (Arc::clone(&stop), path.clone());
        std::thread::spawn(move || {
            let mut writes = 0;
            while !stop.load(Ordering::Relaxed) {
                let mut app = Command::new("sqlite3");
                app.args(["-cmd", ".timeout 10000"]).arg(&path);
                run(app.arg(format!(
                    "BEGIN IMMEDIATE; INSERT INTO log VALUES ({writes}); COMMIT"
                )));
                writes += 1;
            }
            writes
        })
    };
    bench.daemon.set("shop", "access_token", "CANARY1", 7200);
    let mut feed = bench.feed();
    let cell = || sql("SELECT token FROM config");
    for n in 1..=20 {
        let token = format!("CANARY{n}");
        bench.daemon.set("shop", "access_token", &token, 7200);
        bench.until(&token, || cell() == token);
    }
    sql("UPDATE config SET token = 'FOREIGN'");
    bench.until("the repair", || cell() == "CANARY20");
    stop.store(true, Ordering::Relaxed);
    let writes = app.join().unwrap();
    assert_eq!(
        sql("SELECT COUNT(*) FROM log"),
        writes.to_string(),
        "no write of the app was lost"
    );
    sql("ALTER TABLE config RENAME TO gone");
    bench.daemon.set("shop", "access_token", "CANARY21", 7200);
    bench.until_log("no such table: config");
    sql("ALTER TABLE gone RENAME TO config");
    bench.until("the table is back", || cell() == "CANARY21");
    bench.daemon.set_none("shop", "access_token");
    bench.until("no value", || cell().is_empty());
    assert_eq!(feed.terminate().code(), Some(0));
    assert_eq!(sql("PRAGMA integrity_check"), "ok");
    assert!(!bench.log().contains("CANARY"), "{}", bench.log());
}

#[test]
fn nobody_but_the_owner_of_the_file_writes_to_it() {
    if !have(&["sqlite3"]) || !is_root() {
        return;
    }
    let bench = Bench::new();
    run(Command::new("sqlite3")
        .arg(bench.path("app.db"))
        .arg("CREATE TABLE config (id TEXT, token TEXT)"));
    run(Command::new("chmod").arg("666").arg(bench.path("app.db")));
    bench.configure(
        r#"
[[database]]
url = "sqlite://{dir}/app.db"
statement = "UPDATE config SET token = :access_token WHERE id = :account"
"#,
    );
    bench.daemon.set("shop", "access_token", "CANARY", 7200);
    let _feed = bench.feed_as_nobody();
    bench.until_log("belongs to uid 0 and this runs as 65534");
}
