//! SQL Server's protocol, spoken by a package of `PyPI`: login, encryption and the statement with its parameters. It is not
//! SQL Server itself.

use crate::bench::Bench;
use crate::servers::{Server, certificates, free_port, have, run, skip, until};
use std::path::Path;
use std::process::Command;

#[test]
fn a_statement_with_parameters_goes_over_tls_after_a_login_with_a_password() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let package = root.join("target/pysqlbridge");
    if !have(&["sqlite3", "openssl"]) {
        return;
    }
    if !package.exists() {
        skip("target/pysqlbridge");
        return;
    }
    let bench = Bench::new();
    certificates(bench.dir.path());
    let database = bench.path("server.db");
    let sql = |sql: &str| {
        run(Command::new("sqlite3")
            .args(["-cmd", ".timeout 5000"])
            .arg(&database)
            .arg(sql))
        .trim()
        .to_owned()
    };
    sql(
        "CREATE TABLE SWX_Config (AppID text, access_token text, overtime text, short text CHECK (length(short) <= 20)); \
         INSERT INTO SWX_Config VALUES ('wx0123456789abcdef', '', '', '')",
    );
    let port = free_port();
    let mut command = Command::new("python3");
    command
        .arg(root.join("tests/feed/tds_server.py"))
        .arg(port.to_string())
        .args([
            &database,
            &bench.path("server.pem"),
            &bench.path("server.key"),
            &bench.path("wire"),
        ])
        .env("PYTHONPATH", &package)
        .env("PASSWORD", "right");
    let _server = Server::spawn(&mut command, &bench.path("server.log"));
    until("the server listens", || {
        std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
    });

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
    sql("UPDATE SWX_Config SET access_token = 'FOREIGN'");
    bench.until("the repair", || cell() == "CANARY-SECOND");

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

    let wire = std::fs::read_to_string(bench.path("wire")).unwrap();
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
    assert_eq!(feed.terminate().code(), Some(0));
}
