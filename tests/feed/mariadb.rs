//! `MariaDB`: strict mode and not, by the peer's identity and with a password over TLS.

use crate::bench::Bench;
use crate::servers::{Server, certificates, find, free_port, have, run, until};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

struct Mariadb {
    directory: PathBuf,
    port: u16,
    server: Server,
}

impl Mariadb {
    fn start(bench: &Bench) -> Self {
        let directory = bench.path("mariadb");
        std::fs::create_dir(&directory).unwrap();
        certificates(&directory);
        let me = run(&mut Command::new("whoami"));
        run(Command::new(find("mariadb-install-db"))
            .args([
                "--no-defaults",
                "--auth-root-authentication-method=socket",
                "--skip-test-db",
            ])
            .arg(format!("--auth-root-socket-user={}", me.trim()))
            .arg(format!("--user={}", me.trim()))
            .arg(format!("--datadir={}", directory.join("data").display())));
        let port = free_port();
        let server = Self::spawn(&directory, port, me.trim());
        let this = Self {
            directory,
            port,
            server,
        };
        this.until_up();
        this
    }

    fn spawn(directory: &std::path::Path, port: u16, me: &str) -> Server {
        let shown = directory.display();
        let mut command = Command::new(find("mariadbd"));
        command.args([
            "--no-defaults".to_owned(),
            format!("--user={me}"),
            format!("--datadir={shown}/data"),
            format!("--socket={shown}/s"),
            format!("--pid-file={shown}/pid"),
            format!("--port={port}"),
            "--bind-address=127.0.0.1".to_owned(),
            "--skip-name-resolve".to_owned(),
            "--innodb-flush-log-at-trx-commit=0".to_owned(),
            "--innodb-buffer-pool-size=16M".to_owned(),
            format!("--ssl-cert={shown}/server.pem"),
            format!("--ssl-key={shown}/server.key"),
        ]);
        Server::spawn(&mut command, &directory.join("log"))
    }

    fn client(&self, sql: &str) -> Command {
        let mut command = Command::new(find("mariadb"));
        command
            .args(["--no-defaults", "-N", "-B", "-S"])
            .arg(self.directory.join("s"))
            .args(["-e", sql]);
        command
    }

    fn until_up(&self) {
        until("MariaDB answers", || {
            self.client("SELECT 1").output().unwrap().status.success()
        });
    }

    fn sql(&self, sql: &str) -> String {
        run(&mut self.client(sql)).trim_end_matches('\n').to_owned()
    }

    fn restart(&mut self) {
        let me = run(&mut Command::new("whoami"));
        self.server = Self::spawn(&self.directory, self.port, me.trim());
        self.until_up();
    }
}

fn make_tables(mariadb: &Mariadb) {
    mariadb.sql(
        "CREATE DATABASE app; USE app; SET GLOBAL sql_mode = ''; \
         CREATE TABLE SWX_Config (AppID varchar(32), access_token varchar(512), overtime datetime, expires int); \
         CREATE TABLE other (id varchar(32), token varchar(512), ms bigint, started varchar(30)); \
         CREATE TABLE short (id varchar(32), token varchar(20)); \
         INSERT INTO SWX_Config VALUES ('wx0123456789abcdef', '', NULL, 0); \
         INSERT INTO other VALUES ('shop', '', 0, ''); INSERT INTO short VALUES ('shop', 'OLD'); \
         CREATE USER wxfeed@127.0.0.1 IDENTIFIED BY 'pass word' REQUIRE SSL; \
         GRANT SELECT, UPDATE ON app.other TO wxfeed@127.0.0.1;",
    );
}

fn configure(bench: &Bench, port: u16) {
    let me = run(&mut Command::new("whoami"));
    let socket = format!(
        "mysql://{}@localhost/app?socket={{dir}}/mariadb/s",
        me.trim()
    );
    bench.write("password", "pass word\n");
    bench.configure(&format!(
        r#"
[[database]]
url = "{socket}"
statement = "UPDATE SWX_Config SET access_token = :access_token, overtime = :expire_time_datetime, expires = :expire_time WHERE AppID = :appid"
read_back = "SELECT access_token FROM SWX_Config WHERE AppID = :appid"
on_none = "UPDATE SWX_Config SET access_token = '' WHERE AppID = :appid"
check_every = "1s"
time_zone = "Asia/Shanghai"
[[database]]
url = "mysql://wxfeed@127.0.0.1:{port}/app"
password_file = "{{dir}}/password"
ca_file = "{{dir}}/mariadb/ca.pem"
statement = "UPDATE other SET token = :access_token, ms = :expire_time_ms, started = :start_time WHERE id = :account"
[[database]]
url = "{socket}"
statement = "UPDATE short SET token = :access_token WHERE id = :account"
read_back = "SELECT token FROM short WHERE id = :account"
"#
    ));
}

#[test]
fn rows_are_kept_whatever_happens_to_them_and_to_the_server() {
    if !have(&["mariadbd", "mariadb-install-db", "mariadb", "openssl"]) {
        return;
    }
    let bench = Bench::new();
    let mut mariadb = Mariadb::start(&bench);
    make_tables(&mariadb);
    configure(&bench, mariadb.port);
    let token = |n: u32| format!("76_CANARY{n}{}", "x".repeat(140));
    bench.daemon.set("shop", "access_token", &token(1), 7200);
    let mut feed = bench.feed();
    let cell = || mariadb.sql("SELECT access_token FROM app.SWX_Config");
    bench.until("the first token", || cell() == token(1));
    bench.until("the first token over TLS", || {
        mariadb.sql("SELECT token FROM app.other") == token(1)
    });
    bench.until_ready();
    let times = mariadb.sql("SELECT overtime = DATE_ADD('1970-01-01 08:00:00', INTERVAL expires SECOND) FROM app.SWX_Config");
    assert_eq!(times, "1", "a local time in Asia/Shanghai");
    assert_eq!(
        mariadb.sql("SELECT ms DIV 1000 - started FROM app.other"),
        "7200",
        "a start is 7200 s before the end"
    );

    // A value that is cut is a fault, and leaves what stood.
    bench.until_log("the value has 150 characters and the column holds 20");
    assert_eq!(mariadb.sql("SELECT token FROM app.short"), "OLD");
    mariadb.sql("SET GLOBAL sql_mode = 'STRICT_TRANS_TABLES'");

    // Somebody else's change is put right.
    mariadb.sql("UPDATE app.SWX_Config SET access_token = 'FOREIGN'");
    bench.until("the row is repaired", || cell() == token(1));
    bench.until_log("somebody else changed it");

    bench.daemon.set("shop", "access_token", &token(2), 7200);
    bench.until("the second token", || cell() == token(2));

    // No row, two rows.
    mariadb.sql("INSERT INTO app.SWX_Config SELECT * FROM app.SWX_Config");
    bench.daemon.set("shop", "access_token", &token(3), 7200);
    bench.until_log("finds 2 rows, and is to find 1 row");
    assert_eq!(
        mariadb.sql("SELECT DISTINCT access_token FROM app.SWX_Config"),
        token(2),
        "nothing was written"
    );
    mariadb.sql("DELETE FROM app.SWX_Config");
    bench.until_log("finds 0 rows, and is to find 1 row");
    mariadb.sql("INSERT INTO app.SWX_Config VALUES ('wx0123456789abcdef', '', NULL, 0)");
    bench.until("the third token", || cell() == token(3));

    // The server dies: the newest value is what it gets when it is back.
    mariadb.server.kill();
    for n in 4..=6 {
        bench.daemon.set("shop", "access_token", &token(n), 7200);
    }
    bench.until_log("cannot be used: the server cannot be reached");
    mariadb.restart();
    let cell = || mariadb.sql("SELECT access_token FROM app.SWX_Config");
    bench.until("the newest token", || cell() == token(6));
    bench.until_log("can be used again");

    // The password changes: the file is read for each connection.
    mariadb.sql("ALTER USER wxfeed@127.0.0.1 IDENTIFIED BY 'new'");
    bench.daemon.set("shop", "access_token", &token(7), 7200);
    bench.until_log("Access denied for user");
    bench.write("password", "new");
    bench.until("the newest token over TLS", || {
        mariadb.sql("SELECT token FROM app.other") == token(7)
    });

    // A table that is missing.
    mariadb.sql("RENAME TABLE app.other TO app.gone");
    bench.daemon.set("shop", "access_token", &token(8), 7200);
    bench.until_log("other' doesn't exist");
    mariadb.sql("RENAME TABLE app.gone TO app.other");
    mariadb.sql("GRANT SELECT, UPDATE ON app.other TO wxfeed@127.0.0.1");
    bench.until("the eighth token", || {
        mariadb.sql("SELECT token FROM app.other") == token(8)
    });

    bench.daemon.set_none("shop", "access_token");
    bench.until("no token", || cell().is_empty());
    bench.until("a value that ends without a word of the daemon", || {
        bench.daemon.set("shop", "access_token", &token(9), 3);
        cell() == token(9)
    });
    bench.until("its end", || cell().is_empty());
    assert!(!bench.log().contains("CANARY"), "{}", bench.log());
    assert_eq!(feed.terminate().code(), Some(0));
}

#[test]
fn a_server_that_hangs_delays_no_other_and_a_thousand_accounts_are_kept() {
    if !have(&["mariadbd", "mariadb-install-db", "mariadb", "openssl"]) {
        return;
    }
    let bench = Bench::new();
    let mariadb = Mariadb::start(&bench);
    mariadb.sql(
        "CREATE DATABASE app; CREATE TABLE app.t (id varchar(64) PRIMARY KEY, token varchar(512))",
    );
    let rows: Vec<String> = (0..1000).map(|n| format!("('a{n}', '')")).collect();
    mariadb.sql(&format!("INSERT INTO app.t VALUES {}", rows.join(",")));
    // It lets connect and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent_port = silent.local_addr().unwrap().port();
    let me = run(&mut Command::new("whoami"));
    bench.write("password", "x");
    bench.configure(&format!(
        r#"
[[database]]
url = "mysql://u@127.0.0.1:{silent_port}/app"
password_file = "{{dir}}/password"
statement = "UPDATE t SET token = :access_token WHERE id = :account"
timeout = "1s"
[[database]]
url = "mysql://{}@localhost/app?socket={{dir}}/mariadb/s"
statement = "UPDATE t SET token = :access_token WHERE id = :account"
read_back = "SELECT token FROM t WHERE id = :account"
check_every = "1s"
"#,
        me.trim()
    ));
    for n in 0..1000 {
        bench.daemon.set(
            &format!("a{n}"),
            "access_token",
            &format!("CANARY{n}"),
            7200,
        );
    }
    let begun = Instant::now();
    let feed = bench.feed();
    let written =
        || mariadb.sql("SELECT COUNT(*) FROM app.t WHERE token = CONCAT('CANARY', SUBSTR(id, 2))");
    bench.until("all rows", || written() == "1000");
    let took = begun.elapsed();
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", feed.pid().as_raw_nonzero())).unwrap();
    let memory = status
        .lines()
        .find(|line| line.starts_with("VmHWM"))
        .unwrap_or_default();
    eprintln!("1000 accounts in one database: {took:?}, {memory}");
    bench.until_log("there is no answer within 1s");
    mariadb.sql("UPDATE app.t SET token = 'FOREIGN' WHERE id = 'a500'");
    bench.until("the repair", || written() == "1000");
    // Slow is not hanging: the next write waits no longer than its deadline.
    bench.daemon.set("a1", "access_token", "CANARYnew", 7200);
    let set = Instant::now();
    bench.until("the new token", || {
        mariadb.sql("SELECT token FROM app.t WHERE id = 'a1'") == "CANARYnew"
    });
    assert!(set.elapsed() < Duration::from_secs(10));
}
