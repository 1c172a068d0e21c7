//! The cost of a token for a PHP page by each way, and of templates for the daemon. `cargo bench --bench php`

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark panics and reports"
)]

#[path = "../common/mod.rs"]
mod common;

use common::{Bench, PATIENCE, wait_until};
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;
use wxtokend::sim::{SimPlatform, World};
use wxtokend::template::{Facts, Template};
use wxtokend::value::ValueName;

const ROUNDS: &str = "2000";
const OUTPUTS: usize = 10_000;

fn main() {
    templates();
    ways();
}

/// A Redis server on a Unix socket, if it is installed; ended when dropped.
struct RedisServer(Child);

impl RedisServer {
    fn start(socket: &Path, token: &str) -> Option<Self> {
        let child = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--unixsocket"])
            .arg(socket)
            .stdout(Stdio::null())
            .spawn()
            .ok()?;
        let redis = Self(child);
        wait_until("redis listens", PATIENCE, String::new, || socket.exists());
        let set = Command::new("redis-cli")
            .arg("-s")
            .arg(socket)
            .args(["set", "shop", token])
            .output();
        assert!(set.unwrap().status.success());
        Some(redis)
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ways() {
    let bench = Bench::new();
    let mut world = World::new();
    world.account("wx00000000000000c1", "0123456789abcdef0123456789abcdef");
    let platform = SimPlatform::start(([127, 0, 0, 1], 0).into(), world).unwrap();
    let config = r#"
        [accounts.shop]
        appid = "wx00000000000000c1"
        secret = "0123456789abcdef0123456789abcdef"
        file = [{ path = "{dir}/run/shop.json" }, { path = "{dir}/run/shop.php", format = "php" }]
        socket = [{ path = "{dir}/run/shop.sock", format = "raw" }]
    "#;
    bench.configure(&platform, config);
    let _daemon = bench.start();

    let json = common::read_json(&bench.path("run/shop.json"));
    let token = json["access_token"].as_str().unwrap();
    let redis = RedisServer::start(&bench.path("redis.sock"), token);
    let sqlite = bench.path("token.db");
    let made = Command::new("php")
        .arg("-r")
        .arg(format!(
            "$db = new PDO('sqlite:{}'); $db->exec('create table account (name primary key, token)');\
             $db->exec(\"insert into account values ('shop', '{token}')\");",
            sqlite.display()
        ))
        .status();
    assert!(made.unwrap().success());

    println!("\n| a token by            | median, µs | 99 %, µs |\n| --- | ---: | ---: |");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let measured = Command::new("php")
        .arg(root.join("tests/bench/php.php"))
        .arg(root.join("packaging/examples/php"))
        .args([bench.path("run"), bench.path("redis.sock"), sqlite])
        .arg(ROUNDS)
        .status();
    assert!(measured.unwrap().success());
    if redis.is_none() {
        println!("(redis-server is not installed)");
    }
}

/// Resident memory of this process, kB.
fn resident() -> i64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn templates() {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/templates/access-youxrq.xml.j2");
    let value = "7".repeat(136);
    let facts = Facts {
        account: "shop",
        appid: "wx00000000000000c1",
        values: &[(ValueName::AccessToken, &value)],
        expire_time: 1_700_007_200,
        obtained_time: 1_700_000_000,
        expires_in: 7200,
    };
    let template = Template::parse(&path, &fs::read_to_string(&path).unwrap()).unwrap();
    let memory = resident();
    let began = Instant::now();
    let outputs: Vec<_> = (0..OUTPUTS)
        .map(|_| template.render(facts).unwrap())
        .collect();
    let time = began.elapsed();
    println!(
        "\n{OUTPUTS} outputs of one template: {time:.1?}, {:.1?} and {} bytes each, with the {} bytes that it makes",
        time / u32::try_from(OUTPUTS).unwrap(),
        (resident() - memory) * 1024 / i64::try_from(OUTPUTS).unwrap(),
        outputs[0].len(),
    );
    drop(outputs);
    let memory = resident();
    let began = Instant::now();
    let distinct: Vec<_> = (0..OUTPUTS)
        .map(|_| Template::parse(&path, &fs::read_to_string(&path).unwrap()).unwrap())
        .collect();
    println!(
        "{} templates of their own: {:.1?} to load and try, {} bytes each",
        distinct.len(),
        began.elapsed(),
        (resident() - memory) * 1024 / i64::try_from(OUTPUTS).unwrap(),
    );
}
