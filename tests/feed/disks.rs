//! Disks that are full: on each server the write fails with the server's words, and succeeds once there is room.

use crate::bench::{FeedBench, NOBODY};
use crate::mariadb::{self, MariadbServer};
use crate::postgres::{self, PostgresServer};
use crate::redis::{self, RedisBackend};
use crate::root::needs_root;
use crate::servers::{have, run, sqlite};
use std::fs;
use std::io::Write;
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::process::Command;

/// A file system in memory that is unmounted when dropped.
struct TinyDisk(PathBuf);

impl TinyDisk {
    fn mount(bench: &FeedBench, size: &str) -> Self {
        let place = bench.path("tiny");
        fs::create_dir(&place).unwrap();
        run(Command::new("mount")
            .args([
                "-t",
                "tmpfs",
                "-o",
                &format!("size={size},mode=0755"),
                "tiny",
            ])
            .arg(&place));
        chown(&place, Some(NOBODY), Some(NOBODY)).unwrap();
        Self(place)
    }

    /// Takes all the room that is left.
    fn fill(&self) {
        let mut options = fs::OpenOptions::new();
        let options = options.append(true).create(true);
        let mut file = options.open(self.0.join("filler")).unwrap();
        let full = loop {
            if let Err(error) = file.write_all(&[0; 4096]) {
                break error;
            }
        };
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    }

    fn make_room(&self) {
        fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for TinyDisk {
    fn drop(&mut self) {
        // Servers may still have files open there.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A value on the way to a full disk: refused with these words, and written once there is room.
fn fill_and_heal(
    bench: &FeedBench,
    disk: &TinyDisk,
    words: &str,
    is_written: &dyn Fn(&str) -> bool,
) {
    bench.until("the first token", || is_written("CANARY1"));
    disk.fill();
    let token = format!("CANARY2{}", "x".repeat(140));
    bench.daemon.set("shop", "access_token", &token, 7200);
    bench.until_log(words);
    assert!(!is_written(&token));
    disk.make_room();
    bench.until("a token after there is room", || is_written(&token));
    assert!(!bench.log().contains("CANARY"), "{}", bench.log());
}

#[test]
fn a_full_disk_of_mariadb_heals() {
    needs_root!();
    if !have(&mariadb::PROGRAMS) {
        return;
    }
    let bench = FeedBench::new();
    let mariadb = MariadbServer::new(&bench);
    let disk = TinyDisk::mount(&bench, "16m");
    // Rows that grow with the value, so that the table has to.
    mariadb.sql(&format!(
        "CREATE DATABASE app; USE app; \
         CREATE TABLE big (n int PRIMARY KEY, token varchar(2048)) ENGINE=InnoDB DATA DIRECTORY='{}'; \
         INSERT INTO big SELECT seq, '' FROM seq_1_to_500",
        disk.0.display()
    ));
    let me = run(&mut Command::new("whoami"));
    bench.configure(&format!(
        "[[database]]\nurl = \"mysql://{}@localhost/app?socket={{dir}}/mariadb/s\"\n\
         statement = \"UPDATE big SET token = REPEAT(:access_token, 8)\"\nrows = \"any\"\n",
        me.trim()
    ));
    bench.daemon.set("shop", "access_token", "CANARY1", 7200);
    let _feed = bench.feed();
    fill_and_heal(&bench, &disk, "The table 'big' is full", &|token| {
        let right = format!("SELECT COUNT(*) FROM app.big WHERE token = REPEAT('{token}', 8)");
        mariadb.sql(&right) == "500"
    });
}

#[test]
fn a_full_disk_of_postgresql_heals() {
    needs_root!();
    if !have(&postgres::PROGRAMS) {
        return;
    }
    let bench = FeedBench::new();
    let postgres = PostgresServer::new(&bench);
    let disk = TinyDisk::mount(&bench, "4m");
    postgres.sql(&format!(
        "CREATE TABLESPACE tiny LOCATION '{}'",
        disk.0.display()
    ));
    postgres.sql("CREATE TABLE big (n int, token text) TABLESPACE tiny");
    postgres.sql("INSERT INTO big SELECT n, '' FROM generate_series(1, 500) AS n");
    bench.configure(&format!(
        "[[database]]\nurl = \"postgres://nobody@localhost/postgres?socket={{dir}}/postgres/.s.PGSQL.{}\"\n\
         statement = \"UPDATE big SET token = REPEAT(:access_token, 8)\"\nrows = \"any\"\n",
        postgres.port
    ));
    bench.daemon.set("shop", "access_token", "CANARY1", 7200);
    let _feed = bench.feed_as_nobody();
    fill_and_heal(&bench, &disk, "No space left on device", &|token| {
        let right = format!("SELECT COUNT(*) FROM big WHERE token = REPEAT('{token}', 8)");
        postgres.sql(&right) == "500"
    });
}

#[test]
fn a_full_disk_of_sqlite_heals() {
    needs_root!();
    if !have(&["sqlite3"]) {
        return;
    }
    let bench = FeedBench::new();
    let disk = TinyDisk::mount(&bench, "1m");
    let sql = |sql: &str| sqlite(&disk.0.join("app.db"), sql);
    sql("CREATE TABLE t (token TEXT); INSERT INTO t VALUES ('')");
    bench.configure(
        "[[database]]\nurl = \"sqlite://{dir}/tiny/app.db\"\nstatement = \"UPDATE t SET token = :access_token\"\n",
    );
    bench.daemon.set("shop", "access_token", "CANARY1", 7200);
    let _feed = bench.feed();
    fill_and_heal(&bench, &disk, "disk is full", &|token| {
        sql("SELECT token FROM t") == token
    });
    assert_eq!(sql("PRAGMA integrity_check"), "ok");
}

/// Redis keeps its values in memory; it takes no more of them while it cannot save.
#[test]
fn a_full_disk_of_redis_heals() {
    needs_root!();
    if !have(&redis::PROGRAMS) {
        return;
    }
    let bench = FeedBench::new();
    let disk = TinyDisk::mount(&bench, "1m");
    let redis = RedisBackend::new(bench.path("redis"), "");
    redis.ask(&["CONFIG", "SET", "dir", disk.0.to_str().unwrap()]);
    redis.ask(&["CONFIG", "SET", "save", "1 1"]);
    bench.configure(&format!(
        "[[redis]]\nurl = \"redis://127.0.0.1:{}/0\"\nkey = \"{{{{ account }}}}\"\nbody = \"{{{{ access_token }}}}\"\n",
        redis.port
    ));
    bench.daemon.set("shop", "access_token", "CANARY1", 7200);
    let _feed = bench.feed();
    let is_written = |token: &str| redis.ask(&["GET", "shop"]) == token;
    bench.until("the first token", || is_written("CANARY1"));
    bench.until("a save that fails", || {
        // Again each time: a save that ended meanwhile gave back the room of the one before.
        disk.fill();
        let mut set = Command::new("redis-cli");
        set.args(["-p", &redis.port.to_string(), "SET", "other", "x"]);
        run(&mut set).contains("MISCONF")
    });
    bench.daemon.set("shop", "access_token", "CANARY2", 7200);
    bench.until_log("unable to persist to disk");
    disk.make_room();
    bench.until("a token after there is room", || is_written("CANARY2"));
    assert!(!bench.log().contains("CANARY"), "{}", bench.log());
}
