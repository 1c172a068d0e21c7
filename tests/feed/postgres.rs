//! `PostgreSQL`: by the peer's identity, and with a password over TLS.

use crate::bench::{FeedBench, FeedProcess, NOBODY, is_root};
use crate::faults::{Backend, Rows, suffer};
use crate::port::free_port;
use crate::servers::{BackendProcess, as_nobody, certificates, find, have, run, until};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

pub const PROGRAMS: [&str; 4] = ["initdb", "postgres", "psql", "openssl"];

pub struct PostgresServer {
    pub directory: PathBuf,
    pub port: u16,
    server: BackendProcess,
}

impl PostgresServer {
    pub fn new(bench: &FeedBench) -> Self {
        let directory = bench.path("postgres");
        fs::create_dir(&directory).unwrap();
        certificates(&directory);
        if is_root() {
            run(Command::new("chown")
                .args(["-R", &format!("{NOBODY}:{NOBODY}")])
                .arg(&directory));
        }
        let data = directory.join("data");
        run(as_nobody(
            Command::new(find("initdb")).arg("-D").arg(&data).args([
                "-U",
                "nobody",
                "-A",
                "trust",
                "--no-sync",
                "-E",
                "UTF8",
                "--locale=C",
            ]),
        ));
        let user = run(as_nobody(Command::new("id").arg("-un")));
        fs::write(
            data.join("pg_hba.conf"),
            "local all nobody peer map=m\nlocal all all peer\nhostssl all all 127.0.0.1/32 scram-sha-256\n",
        )
        .unwrap();
        fs::write(
            data.join("pg_ident.conf"),
            format!("m {} nobody\n", user.trim()),
        )
        .unwrap();
        let port = free_port();
        let server = Self::spawn(&directory, port);
        let this = Self {
            directory,
            port,
            server,
        };
        this.until_up();
        this
    }

    fn spawn(directory: &Path, port: u16) -> BackendProcess {
        let mut command = Command::new(find("postgres"));
        let shown = directory.display();
        command.arg("-D").arg(directory.join("data"));
        for option in [
            format!("port={port}"),
            format!("unix_socket_directories={shown}"),
            "listen_addresses=127.0.0.1".to_owned(),
            "ssl=on".to_owned(),
            format!("ssl_cert_file={shown}/server.pem"),
            format!("ssl_key_file={shown}/server.key"),
            "fsync=off".to_owned(),
        ] {
            command.arg("-c").arg(option);
        }
        let mode = fs::Permissions::from_mode(0o600);
        fs::set_permissions(directory.join("server.key"), mode).unwrap();
        BackendProcess::spawn(as_nobody(&mut command), &directory.join("log"))
    }

    fn client(&self, sql: &str) -> Command {
        let mut command = Command::new("psql");
        command.arg("-h").arg(&self.directory).args([
            "-p",
            &self.port.to_string(),
            "-U",
            "nobody",
            "-d",
            "postgres",
            "-X",
            "-A",
            "-t",
            "-q",
            "-c",
            sql,
        ]);
        // The test itself may write whatever the database says to others.
        command.env("PGOPTIONS", "-c default_transaction_read_only=off");
        as_nobody(&mut command);
        command
    }

    fn until_up(&self) {
        until("PostgreSQL answers", || self.is_up());
    }

    fn is_up(&self) -> bool {
        self.client("SELECT 1").output().unwrap().status.success()
    }

    pub fn sql(&self, sql: &str) -> String {
        run(&mut self.client(sql)).trim_end_matches('\n').to_owned()
    }
}

impl Backend for PostgresServer {
    fn target(&self) -> String {
        format!(
            "[[database]]\nurl = \"postgres://nobody@localhost/postgres?socket={{dir}}/postgres/.s.PGSQL.{}\"\n\
             statement = \"UPDATE t SET token = :access_token WHERE id = :account\"\n\
             read_back = \"SELECT token FROM t WHERE id = :account\"\ncheck_every = \"1s\"\ntimeout = \"4s\"\n",
            self.port
        )
    }

    fn feed(&self, bench: &FeedBench) -> FeedProcess {
        bench.feed_as_nobody()
    }

    fn token(&self, account: &str) -> String {
        self.sql(&format!("SELECT token FROM t WHERE id = '{account}'"))
    }

    fn count_right(&self) -> usize {
        let count = "SELECT COUNT(*) FROM t WHERE token = 'CANARY' || SUBSTR(id, 2)";
        self.sql(count).parse().unwrap()
    }

    fn make_thousand(&self) {
        self.sql("INSERT INTO t SELECT 'a' || n, '' FROM generate_series(0, 999) AS n");
    }

    fn change(&self, account: &str) {
        self.sql(&format!(
            "UPDATE t SET token = 'FOREIGN' WHERE id = '{account}'"
        ));
    }

    fn kill(&mut self) {
        self.server.kill();
    }

    fn start(&mut self) {
        // Processes of the dead server may live for a moment more.
        until("PostgreSQL starts again", || {
            let _ = fs::remove_file(self.directory.join("data/postmaster.pid"));
            self.server = Self::spawn(&self.directory, self.port);
            until("PostgreSQL answers or has ended", || {
                self.is_up() || self.server.has_ended()
            });
            self.is_up()
        });
    }

    fn processes(&self) -> Vec<u32> {
        vec![self.server.id()]
    }

    fn hold_writes(&self) -> Option<BackendProcess> {
        let lock = "BEGIN; SELECT * FROM t FOR UPDATE; SELECT pg_sleep(600)";
        let holder = BackendProcess::spawn(&mut self.client(lock), &self.directory.join("holder"));
        let holds = "SELECT COUNT(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
        until("the lock", || self.sql(holds) == "1");
        Some(holder)
    }

    fn is_writing(&self) -> bool {
        let waits = "SELECT COUNT(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'UPDATE t %'";
        self.sql(waits) != "0"
    }

    fn set_read_only(&self, is_read_only: bool) {
        let word = if is_read_only { "on" } else { "off" };
        self.sql(&format!(
            "ALTER DATABASE postgres SET default_transaction_read_only = {word}"
        ));
    }

    fn read_only_words(&self) -> &'static str {
        "cannot execute UPDATE in a read-only transaction"
    }

    fn table(&self) -> Option<&dyn Rows> {
        Some(self)
    }
}

impl Rows for PostgresServer {
    fn sql(&self, sql: &str) -> String {
        Self::sql(self, sql)
    }

    fn missing_words(&self) -> &'static str {
        "relation \"t\" does not exist"
    }
}

/// A server with the table `t`.
pub fn ready(bench: &FeedBench) -> PostgresServer {
    let postgres = PostgresServer::new(bench);
    postgres.sql("CREATE TABLE t (id text, token varchar(512))");
    postgres.sql("INSERT INTO t VALUES ('shop', '')");
    postgres
}

#[test]
fn every_fault_of_postgresql_heals() {
    if !have(&PROGRAMS) {
        return;
    }
    let bench = FeedBench::new();
    let mut postgres = ready(&bench);
    suffer(&bench, &mut postgres);
}

fn make_tables(postgres: &PostgresServer) {
    for sql in [
        "CREATE TABLE wechat_access_tokens (app_type text PRIMARY KEY, token text, expires_at timestamptz, n int, local timestamp)",
        "CREATE TABLE short (id text, token varchar(10))",
        "INSERT INTO short VALUES ('shop', 'OLD')",
        "CREATE TABLE other (id text, token varchar(512), expired_at timestamp, expires varchar(20))",
        "INSERT INTO other VALUES ('shop', '', NULL, '')",
        "CREATE ROLE wxfeed LOGIN PASSWORD 'secret'",
        "GRANT SELECT, UPDATE ON other TO wxfeed",
    ] {
        postgres.sql(sql);
    }
}

fn configure(bench: &FeedBench, port: u16) {
    let password = bench.write("password", "secret\n");
    fs::set_permissions(&password, fs::Permissions::from_mode(0o640)).unwrap();
    if is_root() {
        run(Command::new("chown")
            .arg(format!("{NOBODY}"))
            .arg(&password));
    }
    bench.configure(&format!(
        r#"
[[database]]
url = "postgres://nobody@localhost/postgres?socket={{dir}}/postgres/.s.PGSQL.{port}"
statement = """
INSERT INTO wechat_access_tokens VALUES (:account, :access_token, :expire_time_datetime, :expire_time, :expire_time_datetime)
ON CONFLICT (app_type) DO UPDATE SET token = excluded.token, expires_at = excluded.expires_at, n = excluded.n, local = excluded.local"""
read_back = "SELECT token FROM wechat_access_tokens WHERE app_type = :account"
on_none = "DELETE FROM wechat_access_tokens WHERE app_type = :account"
check_every = "1s"
time_zone = "Asia/Shanghai"
[[database]]
url = "postgres://wxfeed@127.0.0.1:{port}/postgres"
password_file = "{{dir}}/password"
ca_file = "{{dir}}/postgres/ca.pem"
statement = "UPDATE other SET token = :access_token, expired_at = :expire_time_datetime, expires = :expire_time WHERE id = :account"
[[database]]
url = "postgres://nobody@localhost/postgres?socket={{dir}}/postgres/.s.PGSQL.{port}"
statement = "UPDATE short SET token = :access_token WHERE id = :account"
"#
    ));
}

#[test]
fn rows_are_kept_by_peer_identity_and_with_a_password_over_tls() {
    if !have(&PROGRAMS) {
        return;
    }
    let bench = FeedBench::new();
    let postgres = PostgresServer::new(&bench);
    make_tables(&postgres);
    configure(&bench, postgres.port);
    bench
        .daemon
        .set("shop", "access_token", "CANARY-FIRST", 7200);
    let mut feed = bench.feed_as_nobody();
    let cell = || postgres.sql("SELECT token FROM wechat_access_tokens");
    bench.until("the first token", || cell() == "CANARY-FIRST");
    bench.until("the first token over TLS", || {
        postgres.sql("SELECT token FROM other") == "CANARY-FIRST"
    });
    bench.until_ready();
    let rows =
        || postgres.sql("SELECT xmin, * FROM other") + &postgres.sql("SELECT xmin, * FROM short");
    let before = rows();
    let mut check = Command::new(bench.path("wxtokend-feed"));
    check
        .args(["check", "--online", "feed.toml"])
        .current_dir(bench.dir.path());
    let said = run(as_nobody(&mut check));
    assert_eq!(said.matches("would change 1 row").count(), 3, "{said}");
    assert_eq!(before, rows(), "a look changes nothing");
    assert_eq!(
        postgres.sql("SELECT extract(epoch FROM expires_at)::bigint - n FROM wechat_access_tokens"),
        "0"
    );
    assert_eq!(
        postgres.sql(
            "SELECT (local AT TIME ZONE 'Asia/Shanghai') = expires_at FROM wechat_access_tokens"
        ),
        "t"
    );
    bench.until_log("value too long for type character varying(10)");
    assert_eq!(postgres.sql("SELECT token FROM short"), "OLD");
    postgres.sql("ALTER ROLE wxfeed PASSWORD 'changed'");
    bench
        .daemon
        .set("shop", "access_token", "CANARY-THIRD", 7200);
    bench.until_log("password authentication failed");
    fs::write(bench.path("password"), "changed").unwrap();
    bench.until("the third token", || {
        postgres.sql("SELECT token FROM other") == "CANARY-THIRD"
    });
    bench.daemon.remove("shop");
    bench.until("no row", || cell().is_empty());
    assert!(!bench.log().contains("CANARY"), "{}", bench.log());
    assert_eq!(feed.terminate().code(), Some(0));
}
