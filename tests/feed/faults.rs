//! The faults that a server can have, each tried on each real server: the row or key is right again once the fault is gone,
//! the log says what was wrong, and no part of a value is in it.

use crate::bench::{FeedBench, FeedProcess};
use crate::servers::{BackendProcess, signal_all, until, until_all};
use rustix::process::Signal;

/// A server as the faults see it. It keeps the token of each account in a row or key of its own.
pub trait Backend {
    /// The lines of the target in the configuration: `timeout` 4 s, `check_every` 1 s.
    fn target(&self) -> String;

    /// Starts the feed as a user that the server lets in.
    fn feed(&self, bench: &FeedBench) -> FeedProcess {
        bench.feed()
    }

    /// The token of an account as an app reads it; empty if there is none.
    fn token(&self, account: &str) -> String;

    /// The rows or keys of the accounts `a0`, `a1`, … that hold the token `CANARY0`, `CANARY1`, ….
    fn count_right(&self) -> usize;

    /// Makes rows for the accounts `a0` to `a999`, where there have to be rows.
    fn make_thousand(&self);

    /// Somebody else writes to the row of an account.
    fn change(&self, account: &str);

    fn kill(&mut self);
    fn start(&mut self);
    fn processes(&self) -> Vec<u32>;

    /// Keeps writes from ending until what is returned is dropped or the server is killed.
    fn hold_writes(&self) -> Option<BackendProcess>;

    /// A write has begun and is held.
    fn is_writing(&self) -> bool;

    /// Lets no one write, or everybody again.
    fn set_read_only(&self, is_read_only: bool);

    /// The words of the log while nobody may write.
    fn read_only_words(&self) -> &'static str;

    /// A table whose rows can be removed and doubled. Nothing for keys.
    fn table(&self) -> Option<&dyn Rows>;
}

/// A table with a column `id` and a column `token`.
pub trait Rows {
    fn sql(&self, sql: &str) -> String;

    /// The words of the log when there is no table `t`.
    fn missing_words(&self) -> &'static str;
}

/// Goes through all faults. The server runs, and has an empty row for the account `shop`.
pub fn suffer(bench: &FeedBench, server: &mut impl Backend) {
    let set = |n: u32| {
        let token = token_text(n);
        bench.daemon.set("shop", "access_token", &token, 7200);
        token
    };
    bench.configure(&server.target());
    server.kill();
    set(1);
    let mut feed = server.feed(bench);
    bench.until_log("cannot be used");
    server.start();
    bench.until("the first token", || server.token("shop") == token_text(1));
    bench.until_ready();

    hang(bench, server, &|| set(2));
    if !server.processes().is_empty() {
        die_in_the_middle(bench, server, &|| set(3));
    }

    let before = bench.log().len();
    server.set_read_only(true);
    let token = set(4);
    bench.until_log_after(before, server.read_only_words());
    assert_ne!(server.token("shop"), token);
    server.set_read_only(false);
    bench.until("a token after the server was read-only", || {
        server.token("shop") == token
    });

    let before = bench.log().len();
    server.change("shop");
    bench.until_log_after(before, "somebody else changed it");
    bench.until("the repair", || server.token("shop") == token);

    if let Some(table) = server.table() {
        lose_and_double_rows(bench, table);
    }
    patient(bench, server, &feed);
    thousand(bench, server);
    assert!(!bench.log().contains("CANARY"), "{}", bench.log());
    assert_eq!(feed.terminate().code(), Some(0));
}

fn token_text(n: u32) -> String {
    format!("CANARY-{n}-{}", "x".repeat(140))
}

/// All its processes stand still: they accept, and never answer. A file is locked by another program.
fn hang(bench: &FeedBench, server: &impl Backend, set: &dyn Fn() -> String) {
    let processes = server.processes();
    signal_all(&processes, Signal::STOP);
    let lock = processes.is_empty().then(|| server.hold_writes());
    let before = bench.log().len();
    let token = set();
    bench.until_log_after(before, "there is no answer within 4s");
    signal_all(&processes, Signal::CONT);
    drop(lock);
    bench.until("a token after the server hung", || {
        server.token("shop") == token
    });
}

fn die_in_the_middle(bench: &FeedBench, server: &mut impl Backend, set: &dyn Fn() -> String) {
    let before = server.token("shop");
    let hold = server.hold_writes();
    let token = set();
    bench.until("a write that has begun", || server.is_writing());
    server.kill();
    drop(hold);
    server.start();
    let now = server.token("shop");
    assert!(
        now == before || now == token || now.is_empty(),
        "half a write: {now}"
    );
    bench.until("a token after the server died", || {
        server.token("shop") == token
    });
}

fn lose_and_double_rows(bench: &FeedBench, table: &dyn Rows) {
    let set = |n| {
        let token = token_text(n);
        bench.daemon.set("shop", "access_token", &token, 7200);
        token
    };
    let token = || table.sql("SELECT DISTINCT token FROM t WHERE id = 'shop'");
    let before = token();
    table.sql("INSERT INTO t SELECT id, token FROM t WHERE id = 'shop'");
    set(5);
    bench.until_log("finds 2 rows, and is to find 1 row");
    assert_eq!(token(), before, "nothing is written");
    table.sql("DELETE FROM t WHERE id = 'shop'");
    bench.until_log("finds 0 rows, and is to find 1 row");
    table.sql("INSERT INTO t (id, token) VALUES ('shop', '')");
    bench.until("a token in the row that is back", || {
        token() == token_text(5)
    });
    table.sql("ALTER TABLE t RENAME TO gone");
    set(6);
    bench.until_log(table.missing_words());
    table.sql("ALTER TABLE gone RENAME TO t");
    bench.until("a token in the table that is back", || {
        token() == token_text(6)
    });
}

/// With so much to write on a busy machine, a write may take its time.
fn patient(bench: &FeedBench, server: &impl Backend, feed: &FeedProcess) {
    let target = server
        .target()
        .replace("timeout = \"4s\"", "timeout = \"30s\"")
        .replace("check_every = \"1s\"", "check_every = \"5s\"");
    bench.configure(&target);
    feed.signal(Signal::HUP);
    bench.until_log("the configuration was reloaded");
}

/// Many accounts in one place: all are written, and one that somebody else changed is put right.
fn thousand(bench: &FeedBench, server: &impl Backend) {
    server.make_thousand();
    let accounts = 1000;
    for n in 0..accounts {
        let (account, token) = (format!("a{n}"), format!("CANARY{n}"));
        bench.daemon.set(&account, "access_token", &token, 7200);
    }
    until_all("all tokens", accounts, || server.count_right());
    server.change("a50");
    until("the repair of one of them", || {
        server.count_right() == accounts
    });
}
