//! `MariaDB`: strict mode and not, by the peer's identity and with a password over TLS.

use crate::bench::FeedBench;
use crate::faults::{Backend, Rows, suffer};
use crate::port::free_port;
use crate::servers::{BackendProcess, certificates, find, have, run, run_again_on, until};
use std::path::PathBuf;
use std::process::Command;

pub const PROGRAMS: [&str; 4] = ["mariadbd", "mariadb-install-db", "mariadb", "openssl"];

pub struct MariadbServer {
    pub directory: PathBuf,
    pub port: u16,
    server: BackendProcess,
}

impl MariadbServer {
    pub fn new(bench: &FeedBench) -> Self {
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
            .arg(format!("--datadir={}", directory.join("data").display()))
            // Two that install at once take each other's temporary tables for theirs.
            .arg(format!("--tmpdir={}", directory.display())));
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

    fn spawn(directory: &std::path::Path, port: u16, me: &str) -> BackendProcess {
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
            // A client of a busy machine may take its time to say who it is.
            "--connect-timeout=120".to_owned(),
            // What was committed outlives the process, not the host.
            "--innodb-flush-log-at-trx-commit=2".to_owned(),
            "--innodb-buffer-pool-size=16M".to_owned(),
            format!("--ssl-cert={shown}/server.pem"),
            format!("--ssl-key={shown}/server.key"),
        ]);
        BackendProcess::spawn(&mut command, &directory.join("log"))
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

    pub fn sql(&self, sql: &str) -> String {
        // The feed and the test may wait for each other: then the server has one of the two try again.
        run_again_on("Deadlock found", || self.client(sql))
            .trim_end_matches('\n')
            .to_owned()
    }
}

impl Backend for MariadbServer {
    fn target(&self) -> String {
        format!(
            "[[database]]\nurl = \"mysql://wxfeed@127.0.0.1:{}/app\"\npassword_file = \"{{dir}}/password\"\n\
             statement = \"UPDATE t SET token = :access_token WHERE id = :account\"\n\
             read_back = \"SELECT token FROM t WHERE id = :account\"\ncheck_every = \"1s\"\ntimeout = \"4s\"\n",
            self.port
        )
    }

    fn token(&self, account: &str) -> String {
        self.sql(&format!("SELECT token FROM app.t WHERE id = '{account}'"))
    }

    fn count_right(&self) -> usize {
        let count = "SELECT COUNT(*) FROM app.t WHERE token = CONCAT('CANARY', SUBSTR(id, 2))";
        self.sql(count).parse().unwrap()
    }

    fn make_thousand(&self) {
        let rows: Vec<String> = (0..1000).map(|n| format!("('a{n}', '')")).collect();
        self.sql(&format!("INSERT INTO app.t VALUES {}", rows.join(",")));
    }

    fn change(&self, account: &str) {
        self.sql(&format!(
            "UPDATE app.t SET token = 'FOREIGN' WHERE id = '{account}'"
        ));
    }

    fn kill(&mut self) {
        self.server.kill();
    }

    fn start(&mut self) {
        let me = run(&mut Command::new("whoami"));
        self.server = Self::spawn(&self.directory, self.port, me.trim());
        self.until_up();
    }

    fn processes(&self) -> Vec<u32> {
        vec![self.server.id()]
    }

    fn hold_writes(&self) -> Option<BackendProcess> {
        let lock = "BEGIN; SELECT * FROM app.t FOR UPDATE; SELECT SLEEP(600)";
        let holder = BackendProcess::spawn(&mut self.client(lock), &self.directory.join("holder"));
        let holds =
            "SELECT COUNT(*) FROM information_schema.processlist WHERE state = 'User sleep'";
        until("the lock", || self.sql(holds) == "1");
        Some(holder)
    }

    fn is_writing(&self) -> bool {
        let waits =
            "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'UPDATE t %'";
        self.sql(waits) != "0"
    }

    fn set_read_only(&self, is_read_only: bool) {
        self.sql(&format!(
            "SET GLOBAL read_only = {}",
            u8::from(is_read_only)
        ));
    }

    fn read_only_words(&self) -> &'static str {
        "running with the --read-only option"
    }

    fn table(&self) -> Option<&dyn Rows> {
        Some(self)
    }
}

impl Rows for MariadbServer {
    fn sql(&self, sql: &str) -> String {
        Self::sql(self, &format!("USE app; {sql}"))
    }

    fn missing_words(&self) -> &'static str {
        "Table 'app.t' doesn't exist"
    }
}

/// A server with the table `t`, and the user of the feed, who may not change it.
pub fn ready(bench: &FeedBench) -> MariadbServer {
    let mariadb = MariadbServer::new(bench);
    mariadb.sql(
        "CREATE DATABASE app; CREATE TABLE app.t (id varchar(64), token varchar(512), KEY (id)); \
         INSERT INTO app.t VALUES ('shop', ''); CREATE USER wxfeed@127.0.0.1 IDENTIFIED BY 'word'; \
         GRANT SELECT, UPDATE ON app.* TO wxfeed@127.0.0.1",
    );
    bench.write("password", "word");
    mariadb
}

#[test]
fn every_fault_of_mariadb_heals() {
    if !have(&PROGRAMS) {
        return;
    }
    let bench = FeedBench::new();
    let mut mariadb = ready(&bench);
    suffer(&bench, &mut mariadb);
}

fn make_tables(mariadb: &MariadbServer) {
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

fn configure(bench: &FeedBench, port: u16) {
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
fn rows_are_kept_by_peer_identity_and_with_a_password_over_tls() {
    if !have(&PROGRAMS) {
        return;
    }
    let bench = FeedBench::new();
    let mariadb = MariadbServer::new(&bench);
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
    let before = mariadb.sql("SELECT * FROM app.SWX_Config, app.other, app.short");
    let said = run(&mut bench.command(&["check", "--online", "feed.toml"]));
    assert_eq!(said.matches("would change 1 row").count(), 3, "{said}");
    let after = mariadb.sql("SELECT * FROM app.SWX_Config, app.other, app.short");
    assert_eq!(before, after, "a look changes nothing");
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

    // In strict mode the same is an error of the server.
    bench.daemon.set("shop", "access_token", &token(2), 7200);
    bench.until("the second token", || cell() == token(2));
    bench.until("the fault in strict mode", || {
        let said = "the value has 150 characters and the column holds 20";
        bench.log().matches(said).count() >= 2
    });
    assert_eq!(mariadb.sql("SELECT token FROM app.short"), "OLD");

    // The password changes: the file is read for each connection.
    mariadb.sql("ALTER USER wxfeed@127.0.0.1 IDENTIFIED BY 'new'");
    bench.daemon.set("shop", "access_token", &token(7), 7200);
    bench.until_log("Access denied for user");
    bench.write("password", "new");
    bench.until("the newest token over TLS", || {
        mariadb.sql("SELECT token FROM app.other") == token(7)
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
fn a_server_that_hangs_delays_no_other() {
    if !have(&PROGRAMS) {
        return;
    }
    let bench = FeedBench::new();
    let mariadb = MariadbServer::new(&bench);
    mariadb.sql(
        "CREATE DATABASE app; CREATE TABLE app.t (id varchar(64), token varchar(512), KEY (id)); \
         INSERT INTO app.t VALUES ('shop', '')",
    );
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
timeout = "10m"
[[database]]
url = "mysql://{}@localhost/app?socket={{dir}}/mariadb/s"
statement = "UPDATE t SET token = :access_token WHERE id = :account"
"#,
        me.trim()
    ));
    bench.daemon.set("shop", "access_token", "CANARY1", 7200);
    let _feed = bench.feed();
    for n in 2..=5 {
        let token = format!("CANARY{n}");
        bench.daemon.set("shop", "access_token", &token, 7200);
        bench.until(&token, || mariadb.token("shop") == token);
    }
    // The one that hangs has not even been given up.
    let log = bench.log();
    let mut given_up = log.lines().filter(|line| line.contains("cannot be used"));
    assert!(!given_up.any(|line| line.contains("database 1 ")), "{log}");
}
