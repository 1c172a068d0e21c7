//! `PostgreSQL`: by the peer's identity, and with a password over TLS.

use crate::bench::{Bench, NOBODY, is_root};
use crate::servers::{Server, as_nobody, certificates, find, free_port, have, run, until};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

struct Postgres {
    directory: PathBuf,
    port: u16,
    server: Server,
}

impl Postgres {
    fn start(bench: &Bench) -> Self {
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

    fn spawn(directory: &Path, port: u16) -> Server {
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
        Server::spawn(as_nobody(&mut command), &directory.join("log"))
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
        as_nobody(&mut command);
        command
    }

    fn until_up(&self) {
        until("PostgreSQL answers", || {
            self.client("SELECT 1").output().unwrap().status.success()
        });
    }

    fn sql(&self, sql: &str) -> String {
        run(&mut self.client(sql)).trim_end_matches('\n').to_owned()
    }
}

fn make_tables(postgres: &Postgres) {
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

fn configure(bench: &Bench, port: u16) {
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
    if !have(&["initdb", "postgres", "psql", "openssl"]) {
        return;
    }
    let bench = Bench::new();
    let mut postgres = Postgres::start(&bench);
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
    postgres.sql("UPDATE wechat_access_tokens SET token = 'FOREIGN'");
    bench.until("the repair", || cell() == "CANARY-FIRST");
    postgres.server.kill();
    bench
        .daemon
        .set("shop", "access_token", "CANARY-SECOND", 7200);
    bench.until_log("database 1 (postgres://nobody@");
    bench.until_log("cannot be used");
    until("no lock of the dead server", || {
        let _ = fs::remove_file(postgres.directory.join("data/postmaster.pid"));
        postgres.server = Postgres::spawn(&postgres.directory, postgres.port);
        std::thread::sleep(std::time::Duration::from_secs(2));
        postgres
            .client("SELECT 1")
            .output()
            .unwrap()
            .status
            .success()
    });
    let cell = || postgres.sql("SELECT token FROM wechat_access_tokens");
    bench.until("the second token", || cell() == "CANARY-SECOND");
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
