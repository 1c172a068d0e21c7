//! SQL Server's protocol, spoken by a package of `PyPI`: login, encryption and the statement with its parameters. It is not
//! SQL Server itself.

use crate::bench::FeedBench;
use crate::faults::{Backend, Rows, suffer};
use crate::port::free_port;
use crate::servers::{BackendProcess, certificates, have, have_file, root, sqlite, until};
use std::path::PathBuf;
use std::process::Command;

/// The package, and a server made of it that keeps its tables in a file of `SQLite`.
pub struct TdsServer {
    directory: PathBuf,
    port: u16,
    server: BackendProcess,
}

impl TdsServer {
    pub fn have() -> bool {
        have(&["sqlite3", "openssl", "python3"]) && have_file("target/pysqlbridge/pysqlbridge")
    }

    fn new(bench: &FeedBench) -> Self {
        let directory = bench.dir.path().to_path_buf();
        certificates(&directory);
        std::fs::write(directory.join("login"), "right").unwrap();
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

    fn spawn(directory: &std::path::Path, port: u16) -> BackendProcess {
        let mut command = Command::new("python3");
        command
            .arg(root().join("tests/feed/tds_server.py"))
            .arg(port.to_string())
            .args(
                ["server.db", "server.pem", "server.key", "wire"].map(|name| directory.join(name)),
            )
            .env("PYTHONPATH", root().join("target/pysqlbridge"));
        BackendProcess::spawn(&mut command, &directory.join("server.log"))
    }

    fn until_up(&self) {
        until("the server listens", || {
            std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok()
        });
    }

    fn sql(&self, sql: &str) -> String {
        sqlite(&self.directory.join("server.db"), sql)
    }

    /// All that it was asked, a line each.
    fn wire(&self) -> String {
        std::fs::read_to_string(self.directory.join("wire")).unwrap_or_default()
    }

    /// Has the server behave as the file of that name says.
    fn behave(&self, name: &str, is_on: bool) {
        let path = self.directory.join(name);
        if is_on {
            std::fs::write(path, "").unwrap();
        } else {
            std::fs::remove_file(path).unwrap();
        }
    }
}

impl Backend for TdsServer {
    fn target(&self) -> String {
        format!(
            "[[database]]\nurl = \"sqlserver://wxfeed@127.0.0.1:{}/app\"\npassword_file = \"{{dir}}/password\"\n\
             ca_file = \"{{dir}}/ca.pem\"\nstatement = \"UPDATE t SET token = :access_token WHERE id = :account\"\n\
             read_back = \"SELECT token FROM t WHERE id = :account\"\ncheck_every = \"1s\"\ntimeout = \"4s\"\n",
            self.port
        )
    }

    fn token(&self, account: &str) -> String {
        self.sql(&format!("SELECT token FROM t WHERE id = '{account}'"))
    }

    fn count_right(&self) -> usize {
        let count = "SELECT COUNT(*) FROM t WHERE token = 'CANARY' || SUBSTR(id, 2)";
        self.sql(count).parse().unwrap()
    }

    fn make_thousand(&self) {
        let rows: Vec<String> = (0..1000).map(|n| format!("('a{n}', '')")).collect();
        self.sql(&format!("INSERT INTO t VALUES {}", rows.join(",")));
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
        let _ = std::fs::remove_file(self.directory.join("hold"));
        self.server = Self::spawn(&self.directory, self.port);
        self.until_up();
    }

    fn processes(&self) -> Vec<u32> {
        vec![self.server.id()]
    }

    fn hold_writes(&self) -> Option<BackendProcess> {
        std::fs::write(self.directory.join("wire"), "").unwrap();
        self.behave("hold", true);
        None
    }

    fn is_writing(&self) -> bool {
        self.wire().contains("UPDATE t ")
    }

    fn set_read_only(&self, is_read_only: bool) {
        self.behave("read-only", is_read_only);
    }

    fn read_only_words(&self) -> &'static str {
        "because the database is read-only"
    }

    fn table(&self) -> Option<&dyn Rows> {
        Some(self)
    }
}

impl Rows for TdsServer {
    fn sql(&self, sql: &str) -> String {
        Self::sql(self, sql)
    }

    fn missing_words(&self) -> &'static str {
        "no such table: t"
    }
}

/// A server with the table `t`.
pub fn ready(bench: &FeedBench) -> TdsServer {
    let server = TdsServer::new(bench);
    server.sql("CREATE TABLE t (id text, token text); INSERT INTO t VALUES ('shop', '')");
    bench.write("password", "right");
    server
}

#[test]
fn every_fault_of_a_server_with_the_protocol_of_sql_server_heals() {
    if !TdsServer::have() {
        return;
    }
    let bench = FeedBench::new();
    let mut server = ready(&bench);
    suffer(&bench, &mut server);
}

#[test]
fn a_statement_with_parameters_goes_over_tls_after_a_login_with_a_password() {
    if !TdsServer::have() {
        return;
    }
    let bench = FeedBench::new();
    let server = TdsServer::new(&bench);
    let (port, sql) = (server.port, |sql: &str| server.sql(sql));
    sql(
        "CREATE TABLE SWX_Config (AppID text, access_token text, overtime text, short text CHECK (length(short) <= 20)); \
         INSERT INTO SWX_Config VALUES ('wx0123456789abcdef', '', '', '')",
    );
    bench.write("password", "wrong");
    bench.configure(&format!(
        r#"
[[database]]
url = "sqlserver://wxfeed@127.0.0.1:{port}/app"
password_file = "{{dir}}/password"
ca_file = "{{dir}}/ca.pem"
statement = "UPDATE SWX_Config SET access_token = :access_token, overtime = :expire_time_datetime WHERE AppID = :appid"
read_back = "SELECT access_token FROM SWX_Config WHERE AppID = :appid"
check_every = "1s"
[[database]]
url = "sqlserver://wxfeed@127.0.0.1:{port}/app"
password_file = "{{dir}}/password"
ca_file = "{{dir}}/ca.pem"
statement = "UPDATE SWX_Config SET short = :access_token WHERE AppID = :appid"
"#
    ));
    bench
        .daemon
        .set("shop", "access_token", "CANARY-FIRST-and-some-more", 7200);
    let mut feed = bench.feed();
    bench.until_log("Login failed for user");
    bench.write("password", "right");
    let cell = || sql("SELECT access_token FROM SWX_Config");
    bench.until("the first token", || cell() == "CANARY-FIRST-and-some-more");
    bench.until_log("would be truncated");
    bench
        .daemon
        .set("shop", "access_token", "CANARY-SECOND", 7200);
    bench.until("the second token", || cell() == "CANARY-SECOND");
    // A disk that is full, in the words of SQL Server.
    server.behave("full", true);
    bench
        .daemon
        .set("shop", "access_token", "CANARY-THIRD", 7200);
    bench.until_log("filegroup is full. (error 1105)");
    server.behave("full", false);
    bench.until("a token after there is room", || cell() == "CANARY-THIRD");

    // The password changes: the file is read for each connection.
    let refused = || bench.log().matches("Login failed for user").count();
    let before = refused();
    std::fs::write(bench.path("login"), "changed").unwrap();
    bench
        .daemon
        .set("shop", "access_token", "CANARY-FOURTH", 7200);
    bench.until("the old password is refused", || refused() > before);
    bench.write("password", "changed");
    bench.until("a token by the new password", || cell() == "CANARY-FOURTH");

    let output = bench
        .command(&["check", "--online", "feed.toml"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        said.contains("shop access_token: would change 1 row"),
        "{said}{:?}",
        output.stderr
    );

    assert_eq!(feed.terminate().code(), Some(0));
    let wire = server.wire();
    assert!(!wire.contains("\"encrypted\": false"), "{wire}");
    assert!(
        wire.contains("UPDATE SWX_Config SET access_token = @P1, overtime = @P2 WHERE AppID = @P3"),
        "{wire}"
    );
    let statements = wire
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    for statement in statements {
        assert!(!statement["sql"].as_str().unwrap().contains("CANARY"));
    }
    assert!(!bench.log().contains("CANARY"), "{}", bench.log());
}
