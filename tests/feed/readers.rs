//! Apps that read: SDKs and caches of PHP on keys of Redis, PHP and Mono on rows of real databases. While a key is missing an
//! SDK asks the platform by itself; with a dummy secret it gets 40125, and the next key is right again.

use crate::bench::{APPID, FeedBench, FeedProcess};
use crate::mariadb::{self, MariadbServer};
use crate::postgres::{self, PostgresServer};
use crate::redis::{self, RedisBackend};
use crate::servers::{have, have_file, root, run};
use std::path::PathBuf;
use std::process::Command;
use wxtokend::sim::{Endpoint, SimPlatform, World};

/// The text that the app has in the place of the AppSecret.
const DUMMY: &str = "kept-by-wxtokend";

fn reader(name: &str) -> PathBuf {
    root().join("tests/feed/readers").join(name)
}

/// A Redis that a feed keeps a key in, and a platform that the SDK asks without one.
struct RedisStage {
    bench: FeedBench,
    redis: RedisBackend,
    platform: SimPlatform,
    feed: FeedProcess,
}

impl RedisStage {
    /// The lines of a target without its URL.
    fn new(target: &str) -> Self {
        let bench = FeedBench::new();
        let redis = RedisBackend::new(bench.path("redis"), "");
        bench.write("dummy", DUMMY);
        bench.configure(&format!(
            "[[redis]]\nurl = \"redis://127.0.0.1:{}/0\"\n{target}",
            redis.port
        ));
        bench.daemon.set("shop", "access_token", "CANARY1", 7200);
        let mut world = World::new();
        world.account(APPID, "0123456789abcdef0123456789abcdef");
        let platform = SimPlatform::start(([127, 0, 0, 1], 0).into(), world).unwrap();
        let feed = bench.feed();
        bench.until_written();
        Self {
            bench,
            redis,
            platform,
            feed,
        }
    }

    /// The words of the SDK: its token, or what went wrong.
    fn read(&self, mut command: Command) -> String {
        let port = self.redis.port.to_string();
        run(command.args([port.as_str(), &self.platform.base_url(), APPID, DUMMY]))
    }

    fn token_calls(&self) -> u64 {
        self.platform
            .with(|world, _| world.calls(APPID, Endpoint::Token))
    }

    /// Reads the token without a call; without a key asks the platform, in vain; reads again when the key is back.
    fn reads_the_key_and_fails_without(&self, command: &dyn Fn() -> Command) {
        assert_eq!(self.read(command()), "CANARY1");
        assert_eq!(self.token_calls(), 0, "it asks nobody");
        self.feed.stop();
        self.redis.ask(&["FLUSHALL"]);
        let said = self.read(command());
        assert!(said.starts_with('!') && said.contains("40125"), "{said}");
        assert_eq!(self.redis.ask(&["KEYS", "*"]), "", "it keeps nothing");
        self.feed.go_on();
        self.bench
            .until("the key is back", || self.read(command()) == "CANARY1");
        let minted = self.platform.with(|world, _| world.values().count());
        assert_eq!(minted, 0, "no dummy makes a token");
    }
}

fn php(name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("php");
    command.arg(reader(name)).args(arguments);
    command
}

/// The format that an SDK reads, by `formats.php`.
fn a_format(sdk: &str, target: &str) {
    if !have(&redis::PROGRAMS) || !have(&["php"]) || !have_php("redis") {
        return;
    }
    let stage = RedisStage::new(target);
    stage.reads_the_key_and_fails_without(&|| php("formats.php", &[sdk]));
}

/// Tells whether PHP has an extension. In CI it has to.
fn have_php(extension: &str) -> bool {
    let modules = run(Command::new("php").arg("-m"));
    let is_there = modules
        .lines()
        .any(|line| line.eq_ignore_ascii_case(extension));
    is_there || have(&[&format!("the PHP extension {extension}")])
}

#[test]
fn wxjava_reads_its_key() {
    a_format("wxjava", "preset = \"wxjava\"\n");
}

#[test]
fn silenceper_reads_both_of_its_keys() {
    a_format("silenceper", "preset = \"silenceper\"\n");
    a_format("silenceper-stable", "preset = \"silenceper\"\n");
}

#[test]
fn powerwechat_reads_its_key() {
    a_format(
        "powerwechat",
        "preset = \"powerwechat\"\napp_secret_file = \"{dir}/dummy\"\n",
    );
}

#[test]
fn easywechat_5_reads_its_array() {
    a_format(
        "easywechat-5",
        "preset = \"easywechat-5\"\napp_secret_file = \"{dir}/dummy\"\n",
    );
}

#[test]
fn easywechat_on_laravel_reads_its_key() {
    a_format(
        "laravel",
        "preset = \"easywechat-6\"\napp_secret_file = \"{dir}/dummy\"\ncache = \"laravel\"\n\
         prefix = \"shop_database_shop_cache_\"\n",
    );
}

#[test]
fn easywechat_on_thinkphp_reads_its_key() {
    a_format(
        "thinkphp",
        "preset = \"easywechat-6\"\napp_secret_file = \"{dir}/dummy\"\ncache = \"thinkphp\"\nprefix = \"tp_\"\n",
    );
}

#[test]
fn symfony_cache_finds_what_easywechat_6_looks_for() {
    let autoload = "/usr/share/php/Symfony/Component/Cache/autoload.php";
    if !have(&redis::PROGRAMS) || !have(&["php"]) || !have_php("redis") || !have_file(autoload) {
        return;
    }
    let stage = RedisStage::new(
        "preset = \"easywechat-6\"\ncache = \"symfony\"\nprefix = \"app\"\napp_secret_file = \"{dir}/dummy\"\n",
    );
    stage.reads_the_key_and_fails_without(&|| php("symfony.php", &[]));
}

#[test]
fn wechatpy_itself_reads_its_key() {
    if !have(&redis::PROGRAMS) || !have_file("target/wechatpy/wechatpy") {
        return;
    }
    let stage = RedisStage::new("preset = \"wechatpy\"\n");
    stage.reads_the_key_and_fails_without(&|| {
        let mut command = Command::new("python3");
        command
            .env("PYTHONPATH", root().join("target/wechatpy"))
            .arg(reader("wechatpy_reader.py"));
        command
    });
}

#[test]
fn node_easywechat_itself_reads_its_key() {
    let packages = "target/clients/node/node_modules";
    if !have(&redis::PROGRAMS)
        || !have(&["node"])
        || !have_file(&format!("{packages}/node-easywechat"))
    {
        return;
    }
    let stage = RedisStage::new(&format!(
        "key = \"official_account.access_token.{{{{ appid }}}}.{DUMMY}.0\"\nbody = \"{{{{ access_token }}}}\"\n"
    ));
    let program = stage.bench.path("reader.js");
    std::fs::copy(reader("node_easywechat.js"), &program).unwrap();
    std::os::unix::fs::symlink(root().join(packages), stage.bench.path("node_modules")).unwrap();
    stage.reads_the_key_and_fails_without(&|| {
        let mut command = Command::new("node");
        command.arg(&program);
        command
    });
}

/// The table of an app, in `MariaDB` and `PostgreSQL` alike, and a user of the app that may only read it.
const TABLE: [&str; 2] = [
    "CREATE TABLE CONFIG (UserName varchar(64) PRIMARY KEY, access_token varchar(512))",
    "INSERT INTO CONFIG VALUES ('shop', '')",
];
const STATEMENT: &str = "statement = \"UPDATE CONFIG SET access_token = :access_token WHERE UserName = :account\"\n\
                         read_back = \"SELECT access_token FROM CONFIG WHERE UserName = :account\"\n";

/// The example that is shipped, with PDO.
fn php_row(source: &str) -> Command {
    let example = root().join("packaging/examples/database/database_row.php");
    let mut command = Command::new("php");
    command.arg("-r").arg(format!(
        "require '{}'; echo access_token(new PDO('{source}', 'app', 'word'), 'shop');",
        example.display()
    ));
    command
}

/// The rest of an app's class on Mono, over an ODBC client of Debian.
fn mono_row(bench: &FeedBench, driver: &str, source: &str) -> Command {
    let program = bench.path("row.exe");
    run(Command::new("mcs")
        .arg("-r:System.Data")
        .arg(format!("-out:{}", program.display()))
        .arg(reader("OdbcRow.cs")));
    let mut command = Command::new("mono");
    command.arg(program).args([
        &format!("Driver={driver};Uid=app;Pwd=word;{source}"),
        "shop",
    ]);
    command
}

/// The file of an ODBC driver, whatever the machine is.
fn odbc_driver(name: &str) -> Option<String> {
    let directory = format!("/usr/lib/{}-linux-gnu/odbc", std::env::consts::ARCH);
    let path = format!("{directory}/{name}");
    have_file(&path).then_some(path)
}

#[test]
fn php_and_mono_read_a_row_of_mariadb() {
    if !have(&mariadb::PROGRAMS) || !have(&["php", "mcs", "mono"]) || !have_php("pdo_mysql") {
        return;
    }
    let Some(driver) = odbc_driver("libmaodbc.so") else {
        return;
    };
    let bench = FeedBench::new();
    let mariadb = MariadbServer::new(&bench);
    mariadb.sql(&format!(
        "CREATE DATABASE app; USE app; {}; CREATE USER app@'%' IDENTIFIED BY 'word'; \
         GRANT SELECT ON app.CONFIG TO app@'%'",
        TABLE.join("; ")
    ));
    let me = run(&mut Command::new("whoami"));
    bench.configure(&format!(
        "[[database]]\nurl = \"mysql://{}@localhost/app?socket={{dir}}/mariadb/s\"\n{STATEMENT}",
        me.trim()
    ));
    bench.daemon.set("shop", "access_token", "CANARY1", 7200);
    let _feed = bench.feed();
    bench.until_written();
    let port = mariadb.port;
    let source = format!("mysql:host=127.0.0.1;port={port};dbname=app");
    assert_eq!(run(&mut php_row(&source)), "CANARY1");
    let source = format!("Server=127.0.0.1;Port={port};Database=app");
    let mut mono = mono_row(&bench, &driver, &source);
    assert_eq!(run(&mut mono), "CANARY1\n");
    bench.daemon.set("shop", "access_token", "CANARY2", 7200);
    bench.until("the new token on Mono", || run(&mut mono) == "CANARY2\n");
}

#[test]
fn php_and_mono_read_a_row_of_postgresql() {
    if !have(&postgres::PROGRAMS) || !have(&["php", "mcs", "mono"]) || !have_php("pdo_pgsql") {
        return;
    }
    let Some(driver) = odbc_driver("psqlodbcw.so") else {
        return;
    };
    let bench = FeedBench::new();
    let postgres = PostgresServer::new(&bench);
    for sql in TABLE {
        postgres.sql(sql);
    }
    postgres.sql("CREATE ROLE app LOGIN PASSWORD 'word'");
    postgres.sql("GRANT SELECT ON CONFIG TO app");
    let port = postgres.port;
    bench.configure(&format!(
        "[[database]]\nurl = \"postgres://nobody@localhost/postgres?socket={{dir}}/postgres/.s.PGSQL.{port}\"\n{STATEMENT}"
    ));
    bench.daemon.set("shop", "access_token", "CANARY1", 7200);
    let _feed = bench.feed_as_nobody();
    bench.until_written();
    let source = format!("pgsql:host=127.0.0.1;port={port};dbname=postgres;sslmode=require");
    assert_eq!(run(&mut php_row(&source)), "CANARY1");
    let source = format!("Server=127.0.0.1;Port={port};Database=postgres;SSLmode=require");
    let mut mono = mono_row(&bench, &driver, &source);
    assert_eq!(run(&mut mono), "CANARY1\n");
    bench.daemon.set("shop", "access_token", "CANARY2", 7200);
    bench.until("the new token on Mono", || run(&mut mono) == "CANARY2\n");
}
