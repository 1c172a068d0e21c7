//! `wxtokend-feed check`: every fault at once, and what would change.

use crate::bench::FeedBench;
use crate::servers::{have, run, sqlite};
use rustix::process::Signal;
use std::process::Command;

fn faults(bench: &FeedBench, text: &str) -> Vec<String> {
    bench.write("feed.toml", text);
    let output = bench.command(&["check", "feed.toml"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let expected = if said.is_empty() { 0 } else { 78 };
    assert_eq!(output.status.code(), Some(expected), "{said}");
    said.lines().map(str::to_owned).collect()
}

#[test]
fn every_fault_is_said_at_once_where_it_stands() {
    let bench = FeedBench::new();
    bench.write("password", "x");
    let said = faults(
        &bench,
        r#"socket = "api.sock"
acounts = ["shop"]
[[database]]
url = "mysql://u:CANARY@db.example/app"
statement = "UPDATE t SET a = :token"
[[database]]
url = "postgres://u@db.example/app"
statement = "UPDATE t SET a = ':access_token'"
on_none = "UPDATE t SET a = :expires_in"
read_back = "UPDATE t SET a = 1"
rows = 0
time_zone = "Mars/Olympus"
check_every = "soon"
[[redis]]
url = "redis://127.0.0.1/x"
preset = "wxjawa"
[[redis]]
url = "redis://127.0.0.1"
preset = "easywechat-6"
[[redis]]
url = "redis://127.0.0.1"
key = "{{ access_token }}"
body = "{{ token }}"
statment = "x"
"#,
    );
    let text = said.join("\n");
    assert!(!text.contains("CANARY"), "{text}");
    for (line, key, expected) in [
        (1, "`socket`", "must be an absolute path"),
        (2, "unknown key `acounts`", "did you mean `accounts`?"),
        (4, "`url`", "holds a password"),
        (7, "`url`", "needs a password over TCP"),
        (11, "`rows`", "must be a number from 1, or \"any\""),
        (12, "`time_zone`", "must be the name of a time zone"),
        (13, "`check_every`", "must be a duration"),
        (15, "`url`", "must end in the number of a database"),
        (16, "`preset`", "did you mean \"wxjava\"?"),
        (
            19,
            "`preset`",
            "makes its key of the secret that the app has",
        ),
        (23, "`body`", "is no template that can be used"),
        (24, "unknown key `statment`", "known here"),
    ] {
        let place = format!("feed.toml:{line}:");
        let is_it = |fault: &&String| {
            [place.as_str(), key, expected]
                .iter()
                .all(|part| fault.contains(*part))
        };
        assert!(
            said.iter().any(|fault| is_it(&fault)),
            "{place} {expected}\n{text}"
        );
    }
    let good = "[[database]]\nurl = \"sqlite:///x/app.db\"\nstatement = \"UPDATE t SET a = :access_token\"\n";
    assert_eq!(faults(&bench, good), Vec::<String>::new());
    let wrong = good.replace(":access_token", "':access_token'");
    assert!(faults(&bench, &wrong)[0].contains("inside quotes"));
    bench.write("readable", "x");
    run(Command::new("chmod").arg("644").arg(bench.path("readable")));
    let readable = "[[database]]\nurl = \"mysql://u@h/app\"\npassword_file = \"readable\"\nstatement = \"UPDATE t SET a = :access_token\"\n";
    assert!(faults(&bench, readable)[0].contains("everybody may read"));
}

#[test]
fn online_says_what_would_change_and_changes_nothing() {
    if !have(&["sqlite3"]) {
        return;
    }
    let bench = FeedBench::new();
    let sql = |sql: &str| sqlite(&bench.path("app.db"), sql);
    sql("CREATE TABLE t (id TEXT, token TEXT); INSERT INTO t VALUES ('shop', 'OLD')");
    let configure = |table: &str, condition: &str| {
        bench.configure(&format!(
            "[[database]]\nurl = \"sqlite://{{dir}}/app.db\"\nstatement = \"UPDATE {table} SET token = :access_token WHERE id = {condition}\"\n"
        ));
    };
    let check = || {
        let output = bench
            .command(&["check", "--online", "feed.toml"])
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).unwrap())
    };
    bench.daemon.set("shop", "access_token", "CANARY", 7200);
    configure("t", ":account");
    let (code, said) = check();
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("shop access_token: would change 1 row"),
        "{said}"
    );
    configure("t", "'nobody'");
    let (code, said) = check();
    assert_eq!(code, Some(69), "{said}");
    assert!(
        said.contains("feed.toml:4:") && said.contains("finds 0 rows"),
        "{said}"
    );
    configure("missing", ":account");
    let (code, said) = check();
    assert_eq!(code, Some(69), "{said}");
    assert!(
        said.contains("`statement` cannot be prepared: no such table: missing"),
        "{said}"
    );
    assert_eq!(sql("SELECT token FROM t"), "OLD");
}

#[test]
fn a_reload_changes_targets_and_a_faulty_one_changes_nothing() {
    if !have(&["sqlite3"]) {
        return;
    }
    let bench = FeedBench::new();
    let sql = |sql: &str| sqlite(&bench.path("app.db"), sql);
    sql(
        "CREATE TABLE a (token TEXT); INSERT INTO a VALUES (''); CREATE TABLE b (token TEXT); INSERT INTO b VALUES ('')",
    );
    let target = |table: &str| {
        format!(
            "[[database]]\nurl = \"sqlite://{{dir}}/app.db\"\nstatement = \"UPDATE {table} SET token = :access_token\"\n"
        )
    };
    bench.configure(&target("a"));
    bench.daemon.set("shop", "access_token", "CANARY1", 7200);
    let mut feed = bench.feed();
    bench.until_ready();
    bench.until("the first token", || {
        sql("SELECT token FROM a") == "CANARY1"
    });
    bench.configure("nonsense = 1\n");
    feed.signal(Signal::HUP);
    bench.until_log("reload rejected");
    bench.daemon.set("shop", "access_token", "CANARY2", 7200);
    bench.until("the old configuration goes on", || {
        sql("SELECT token FROM a") == "CANARY2"
    });
    let before = bench.manager.count();
    bench.configure(&(target("a") + &target("b")));
    feed.signal(Signal::HUP);
    bench.until("the new target", || sql("SELECT token FROM b") == "CANARY2");
    bench.until("READY=1 after RELOADING=1", || {
        bench.manager.said_since(before, "READY=1")
    });
    assert!(bench.manager.said_since(before, "RELOADING=1"));
    assert_eq!(feed.terminate().code(), Some(0));
    bench.write("feed.toml", "nonsense = 1\n");
    let output = bench.command(&["run", "feed.toml"]).output().unwrap();
    assert_eq!(output.status.code(), Some(78));
}
