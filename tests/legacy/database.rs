//! The row of a table that `wxtokend-feed` keeps.

use crate::common::wait_until;
use crate::reader::Background;
use crate::{LegacyStage, can_run};
use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use wxtokend::sim::World;

/// Daemon and feed may each wait for a minute after what failed, one after the other.
const PATIENCE: Duration = Duration::from_secs(300);

/// A database as an app has it, and what keeps the token of one account in it, as the user games.
pub(crate) struct AppDatabase {
    path: PathBuf,
    account: &'static str,
    _keeper: Background,
}

impl AppDatabase {
    /// Makes it, and waits for the first token.
    pub(crate) fn keep(stage: &LegacyStage, account: &'static str) -> Self {
        let directory = stage.path("db");
        fs::create_dir(&directory).unwrap();
        let path = directory.join("app.db");
        sql(
            &path,
            &format!(
                "create table CONFIG (UserName text primary key, access_token text);\
                 insert into CONFIG values ('{account}', 'old'), ('other', 'untouched');"
            ),
        );
        let user = nix::unistd::User::from_name("games").unwrap().unwrap();
        for path in [&directory, &path] {
            chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
        }
        let configuration = directory.join("feed.toml");
        let text = format!(
            "socket = \"{}\"\naccounts = [\"{account}\"]\n[[database]]\nurl = \"sqlite://{}\"\n\
             statement = \"UPDATE CONFIG SET access_token = :access_token WHERE UserName = :account\"\n\
             read_back = \"SELECT access_token FROM CONFIG WHERE UserName = :account\"\n\
             on_none = \"UPDATE CONFIG SET access_token = '' WHERE UserName = :account\"\ncheck_every = \"1s\"\n",
            stage.path("run/api.sock").display(),
            path.display(),
        );
        fs::write(&configuration, text).unwrap();
        let feed = Path::new(env!("CARGO_BIN_EXE_wxtokend")).with_file_name("wxtokend-feed");
        assert!(
            feed.exists(),
            "build it first: cargo build --package wxtokend-feed"
        );
        stage.bring(&feed);
        let mut command = stage.program("wxtokend-feed");
        command.arg("run").arg(&configuration);
        let database = Self {
            path,
            account,
            _keeper: Background::start("games", command),
        };
        database.until("a token", |token| token != "old");
        let other = database.select("other");
        assert_eq!(other, "untouched");
        database
    }

    fn select(&self, name: &str) -> String {
        let query = format!("select access_token from CONFIG where UserName = '{name}'");
        sql(&self.path, &query)
    }

    fn until(&self, what: &str, condition: impl Fn(&str) -> bool) -> String {
        let token = || self.select(self.account);
        wait_until(what, PATIENCE, token, || condition(&token()));
        token()
    }
}

/// A database's answer to a statement.
fn sql(path: &Path, statement: &str) -> String {
    let mut command = Command::new("sqlite3");
    // The feed and apps may have it locked.
    let output = command
        .args(["-cmd", ".timeout 60000"])
        .arg(path)
        .arg(statement)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim_end().into()
}

#[test]
fn a_row_is_kept_right_and_never_outlives_its_token() {
    if !can_run("a_row_is_kept_right_and_never_outlives_its_token") {
        return;
    }
    let id = "wx00000000000000d1";
    let mut world = World::new();
    let account = world.account(id, "0123456789abcdef0123456789abcdef");
    account.lifetime(Duration::from_secs(24));
    (account.window, account.overlap) =
        (Some(Duration::from_secs(12)), Some(Duration::from_secs(12)));
    let stage = LegacyStage::new(world);
    stage.configure(
        "[accounts.shop]\nappid = \"wx00000000000000d1\"\nsecret = \"0123456789abcdef0123456789abcdef\"\n\
         readers = [\"games\"]\n",
    );
    let daemon = stage.start();
    let database = AppDatabase::keep(&stage, "shop");
    let is_alive = |token: &str| {
        stage
            .platform
            .with(|world, now| world.probe(now, token).alive)
    };
    let first = database.until("alive", is_alive);
    let second = database.until("another", |token| token != first && is_alive(token));

    // Somebody edits it.
    sql(&database.path, "update CONFIG set access_token = 'edited'");
    database.until("put right", is_alive);

    // The database is away while a new token comes.
    let aside = database.path.with_extension("aside");
    fs::rename(&database.path, &aside).unwrap();
    fs::create_dir(&database.path).unwrap();
    let current = || {
        let get = stage.bench.wxtokend(&["get", "shop"]).output().unwrap();
        String::from_utf8(get.stdout).unwrap().trim_end().to_owned()
    };
    let before = current();
    daemon.wait_until("another", || current() != before);
    fs::remove_dir(&database.path).unwrap();
    fs::rename(&aside, &database.path).unwrap();
    database.until("what came meanwhile", is_alive);

    // There is no token any more.
    stage.platform.stop();
    database.until("empty", str::is_empty);
    stage.platform.restart().unwrap();
    let last = database.until("back", is_alive);
    assert_ne!(last, second);

    // Nobody to ask: what is there is good until it ends.
    assert!(daemon.terminate().success());
    wait_until("dead", PATIENCE, String::new, || {
        let held = database.select("shop");
        let truth = (stage.platform).with(|world, now| world.probe(now, &last));
        // Ends are told in whole seconds, rounded down.
        let is_at_its_end = !truth.alive || truth.ends_in_ms < Some(2500);
        assert!(!held.is_empty() || is_at_its_end, "{truth:?}");
        !truth.alive
    });
    database.until("empty", str::is_empty);
    let _daemon = stage.start();
    database.until("back", is_alive);
}
