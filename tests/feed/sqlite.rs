//! `SQLite` in WAL mode, beside an app that writes too.

use crate::bench::{FeedBench, FeedProcess, NOBODY, is_root};
use crate::faults::{Backend, Rows, suffer};
use crate::servers::{BackendProcess, as_nobody, have, run, sqlite, sqlite3};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn a_database_of_an_app_is_kept_while_the_app_writes() {
    if !have(&["sqlite3"]) {
        return;
    }
    let bench = FeedBench::new();
    let path = bench.path("app.db");
    let sql = |sql: &str| sqlite(&path, sql);
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
                let write = format!("BEGIN IMMEDIATE; INSERT INTO log VALUES ({writes}); COMMIT");
                sqlite(&path, &write);
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
    crate::root::needs_root!();
    if !have(&["sqlite3"]) {
        return;
    }
    let bench = FeedBench::new();
    let table = "CREATE TABLE config (id TEXT, token TEXT)";
    sqlite(&bench.path("app.db"), table);
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

/// A file of the user that the feed runs as.
pub struct SqliteFile(PathBuf);

impl SqliteFile {
    pub fn new(bench: &FeedBench) -> Self {
        let directory = bench.path("sqlite");
        fs::create_dir(&directory).unwrap();
        if is_root() {
            std::os::unix::fs::chown(&directory, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let this = Self(directory.join("app.db"));
        Rows::sql(
            &this,
            "CREATE TABLE t (id TEXT, token TEXT); INSERT INTO t VALUES ('shop', '')",
        );
        this
    }

    fn client(&self) -> Command {
        let mut command = sqlite3(&self.0);
        as_nobody(&mut command);
        command
    }
}

impl Backend for SqliteFile {
    fn target(&self) -> String {
        "[[database]]\nurl = \"sqlite://{dir}/sqlite/app.db\"\n\
         statement = \"UPDATE t SET token = :access_token WHERE id = :account\"\n\
         read_back = \"SELECT token FROM t WHERE id = :account\"\ncheck_every = \"1s\"\ntimeout = \"4s\"\n"
            .to_owned()
    }

    fn feed(&self, bench: &FeedBench) -> FeedProcess {
        bench.feed_as_nobody()
    }

    fn token(&self, account: &str) -> String {
        Rows::sql(self, &format!("SELECT token FROM t WHERE id = '{account}'"))
    }

    fn count_right(&self) -> usize {
        let count = "SELECT COUNT(*) FROM t WHERE token = 'CANARY' || SUBSTR(id, 2)";
        Rows::sql(self, count).parse().unwrap()
    }

    fn make_thousand(&self) {
        let rows: Vec<String> = (0..1000).map(|n| format!("('a{n}', '')")).collect();
        Rows::sql(self, &format!("INSERT INTO t VALUES {}", rows.join(",")));
    }

    fn change(&self, account: &str) {
        Rows::sql(
            self,
            &format!("UPDATE t SET token = 'FOREIGN' WHERE id = '{account}'"),
        );
    }

    /// There is no server: the file is away.
    fn kill(&mut self) {
        fs::rename(&self.0, self.0.with_extension("away")).unwrap();
    }

    fn start(&mut self) {
        fs::rename(self.0.with_extension("away"), &self.0).unwrap();
    }

    fn processes(&self) -> Vec<u32> {
        Vec::new()
    }

    /// Another program locks the whole file.
    fn hold_writes(&self) -> Option<BackendProcess> {
        let locked = self.0.with_file_name("locked");
        let lock = format!("BEGIN EXCLUSIVE;\n.shell touch {}\n", locked.display());
        let holder = BackendProcess::spawn_with_input(&mut self.client(), &lock);
        crate::servers::until("the lock", || locked.exists());
        fs::remove_file(&locked).unwrap();
        Some(holder)
    }

    fn is_writing(&self) -> bool {
        true
    }

    fn set_read_only(&self, is_read_only: bool) {
        let mode = if is_read_only { 0o444 } else { 0o644 };
        fs::set_permissions(&self.0, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn read_only_words(&self) -> &'static str {
        "attempt to write a readonly database"
    }

    fn table(&self) -> Option<&dyn Rows> {
        Some(self)
    }
}

impl Rows for SqliteFile {
    fn sql(&self, sql: &str) -> String {
        run(self.client().arg(sql)).trim().to_owned()
    }

    fn missing_words(&self) -> &'static str {
        "no such table: t"
    }
}

#[test]
fn every_fault_of_sqlite_heals() {
    if !have(&["sqlite3"]) {
        return;
    }
    let bench = FeedBench::new();
    let mut sqlite = SqliteFile::new(&bench);
    suffer(&bench, &mut sqlite);
}

/// A write runs in the feed itself: it is the feed that dies in the middle.
#[test]
fn a_feed_that_dies_in_the_middle_of_a_write_harms_no_database() {
    if !have(&["sqlite3"]) {
        return;
    }
    let bench = FeedBench::new();
    let sqlite = SqliteFile::new(&bench);
    bench.configure(&sqlite.target());
    for round in 0..10 {
        let token = format!("CANARY{round}");
        bench.daemon.set("shop", "access_token", &token, 7200);
        let feed = sqlite.feed(&bench);
        // Killed at some point of its way, further on each time.
        let until = std::time::Duration::from_millis(10 + round * 7);
        std::thread::sleep(until);
        drop(feed);
        let held = sqlite.token("shop");
        let is_whole = held.is_empty() || (0..=round).any(|n| held == format!("CANARY{n}"));
        assert!(is_whole, "half a write: {held}");
    }
    let _feed = sqlite.feed(&bench);
    bench.until("the last token", || sqlite.token("shop") == "CANARY9");
    assert_eq!(Rows::sql(&sqlite, "PRAGMA integrity_check"), "ok");
}
