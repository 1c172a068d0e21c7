//! Redis with a password, over TLS, over a Unix socket, and behind Sentinel.

use crate::bench::{APPID, FeedBench};
use crate::faults::{Backend, Rows, suffer};
use crate::port::free_port;
use crate::servers::{BackendProcess, certificates, have, run, until};
use crate::stand_in::now;
use std::path::{Path, PathBuf};
use std::process::Command;

pub const PROGRAMS: [&str; 3] = ["redis-server", "redis-cli", "openssl"];

pub struct RedisBackend {
    directory: PathBuf,
    pub port: u16,
    tls_port: u16,
    password: &'static str,
    server: BackendProcess,
}

impl RedisBackend {
    pub fn new(directory: PathBuf, password: &'static str) -> Self {
        std::fs::create_dir(&directory).unwrap();
        certificates(&directory);
        let (port, tls_port) = (free_port(), free_port());
        let server = Self::spawn(&directory, port, tls_port, password);
        let this = Self {
            directory,
            port,
            tls_port,
            password,
            server,
        };
        this.until_up();
        this
    }

    fn spawn(directory: &Path, port: u16, tls_port: u16, password: &str) -> BackendProcess {
        let mut command = Command::new("redis-server");
        command.current_dir(directory).args([
            "--port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
        ]);
        command.args([
            "--tls-port",
            &tls_port.to_string(),
            "--tls-auth-clients",
            "no",
            "--unixsocket",
            "s",
            "--enable-protected-configs",
            "local",
        ]);
        command.args([
            "--tls-cert-file",
            "server.pem",
            "--tls-key-file",
            "server.key",
            "--tls-ca-cert-file",
            "ca.pem",
        ]);
        if !password.is_empty() {
            command.args(["--requirepass", password]);
        }
        BackendProcess::spawn(&mut command, &directory.join("log"))
    }

    fn client(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("redis-cli");
        command.args(["-p", &self.port.to_string()]).args(arguments);
        if !self.password.is_empty() {
            command.env("REDISCLI_AUTH", self.password);
        }
        command
    }

    fn until_up(&self) {
        until("Redis answers", || {
            let answer = self.client(&["PING"]).output().unwrap();
            answer.stdout.starts_with(b"PONG")
        });
    }

    pub fn ask(&self, arguments: &[&str]) -> String {
        run(&mut self.client(arguments))
            .trim_end_matches('\n')
            .to_owned()
    }
}

/// Its keys: each named after an account, with the token in it.
impl Backend for RedisBackend {
    fn target(&self) -> String {
        format!(
            "[[redis]]\nurl = \"redis://127.0.0.1:{}/0\"\nkey = \"{{{{ account }}}}\"\n\
             body = \"{{{{ access_token }}}}\"\ncheck_every = \"1s\"\ntimeout = \"4s\"\n",
            self.port
        )
    }

    fn token(&self, account: &str) -> String {
        self.ask(&["GET", account])
    }

    fn count_right(&self) -> usize {
        let names: Vec<String> = (0..1000).map(|n| format!("a{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let answer = self.ask(&[&["MGET"], names.as_slice()].concat());
        let lines = answer.lines().enumerate();
        lines
            .filter(|(n, line)| *line == format!("CANARY{n}"))
            .count()
    }

    fn make_thousand(&self) {}

    fn change(&self, account: &str) {
        self.ask(&["SET", account, "FOREIGN"]);
    }

    fn kill(&mut self) {
        self.server.kill();
    }

    fn start(&mut self) {
        self.server = Self::spawn(&self.directory, self.port, self.tls_port, self.password);
        self.until_up();
    }

    fn processes(&self) -> Vec<u32> {
        vec![self.server.id()]
    }

    fn hold_writes(&self) -> Option<BackendProcess> {
        self.ask(&["CLIENT", "PAUSE", "600000", "WRITE"]);
        None
    }

    fn is_writing(&self) -> bool {
        !self.ask(&["INFO", "clients"]).contains("blocked_clients:0")
    }

    fn set_read_only(&self, is_read_only: bool) {
        // Of a server that is not there.
        let of: &[&str] = if is_read_only {
            &["REPLICAOF", "127.0.0.1", "1"]
        } else {
            &["REPLICAOF", "NO", "ONE"]
        };
        self.ask(of);
    }

    fn read_only_words(&self) -> &'static str {
        "read only replica"
    }

    fn table(&self) -> Option<&dyn Rows> {
        None
    }
}

#[test]
fn every_fault_of_redis_heals() {
    if !have(&PROGRAMS) {
        return;
    }
    let bench = FeedBench::new();
    let mut redis = RedisBackend::new(bench.path("redis"), "");
    suffer(&bench, &mut redis);
}

fn configure(bench: &FeedBench, redis: &RedisBackend) {
    bench.write("password", "wrong");
    bench.write("dummy", "kept-by-wxtokend\n");
    let (port, tls_port) = (redis.port, redis.tls_port);
    bench.configure(&format!(
        r#"
[[redis]]
url = "redis://127.0.0.1:{port}/0"
password_file = "{{dir}}/password"
preset = "wxjava"
[[redis]]
url = "rediss://127.0.0.1:{tls_port}/1"
password_file = "{{dir}}/password"
ca_file = "{{dir}}/redis/ca.pem"
key = "app:{{{{ appid }}}}:token"
body = '{{"accessToken":"{{{{ access_token }}}}","expireTime":{{{{ expire_time }}}}000}}'
[[redis]]
url = "unix://{{dir}}/redis/s"
password_file = "{{dir}}/password"
preset = "wechatpy"
[[redis]]
url = "redis://127.0.0.1:{port}/0"
password_file = "{{dir}}/password"
preset = "easywechat-6"
cache = "symfony"
prefix = "app"
app_secret_file = "{{dir}}/dummy"
[[redis]]
url = "redis://127.0.0.1:{port}/0"
password_file = "{{dir}}/password"
preset = "wxjava"
value = "jsapi_ticket"
"#
    ));
}

#[test]
fn keys_are_kept_with_their_life_whatever_happens_to_them() {
    if !have(&PROGRAMS) {
        return;
    }
    let bench = FeedBench::new();
    let mut redis = RedisBackend::new(bench.path("redis"), "pass word");
    configure(&bench, &redis);
    let end = now() + 7200;
    bench.daemon.set("shop", "access_token", "CANARY1", 7200);
    bench
        .daemon
        .set("shop", "jsapi_ticket", "CANARYTICKET", 7200);
    let mut feed = bench.feed();
    bench.until_log("cannot be used");
    assert!(
        bench.log().contains("WRONGPASS") || bench.log().contains("Password authentication failed"),
        "{}",
        bench.log()
    );
    bench.write("password", "pass word\n");
    let key = format!("wx:access_token:{APPID}");
    let token = || redis.ask(&["GET", &key]);
    bench.until("the token for WxJava", || token() == "CANARY1");
    let ticket = format!("wx:ticket:key:{APPID}:jsapi");
    bench.until("the ticket", || {
        redis.ask(&["GET", &ticket]) == "CANARYTICKET"
    });
    let own = format!("app:{APPID}:token");
    bench.until("the token over TLS", || {
        redis
            .ask(&["-n", "1", "GET", &own])
            .starts_with("{\"accessToken\":\"CANARY1\"")
    });
    let python = format!("wechatpy:{APPID}_access_token");
    bench.until("the token over a Unix socket", || {
        redis.ask(&["GET", &python]) == "\"CANARY1\""
    });
    bench.until_ready();
    // The feed puts right what is 3 s off. The start of this test took a moment too.
    let lives_as_long_as_the_value = |key: &str| {
        let life: i64 = redis.ask(&["TTL", key]).parse().unwrap();
        (end - now() - 5..=end - now() + 10).contains(&life)
    };
    for key in redis.ask(&["KEYS", "*"]).lines() {
        bench.until(&format!("the life of {key}"), || {
            lives_as_long_as_the_value(key)
        });
    }

    // What somebody else does to a key is put right.
    for disturb in [
        &["SET", &key, "FOREIGN"][..],
        &["DEL", &key],
        &["PERSIST", &key],
        &["EXPIRE", &key, "100000"],
    ] {
        redis.ask(disturb);
        bench.until(&format!("the key is right after {disturb:?}"), || {
            token() == "CANARY1" && lives_as_long_as_the_value(&key)
        });
    }
    bench.until_log("somebody else changed it");
    // Where Redis tells, at once.
    redis.ask(&["CONFIG", "SET", "notify-keyspace-events", "KEA"]);
    redis.ask(&["SET", &key, "FOREIGN"]);
    bench.until("the key is right", || token() == "CANARY1");

    // The password changes: the file is read for each connection.
    redis.ask(&["CONFIG", "SET", "requirepass", "new"]);
    redis.password = "new";
    redis.ask(&["CLIENT", "KILL", "TYPE", "normal"]);
    bench.daemon.set("shop", "access_token", "CANARY3", 7200);
    let refused = || bench.log().matches("uthentication failed").count();
    let before = refused();
    bench.until("the old password is refused", || refused() > before);
    bench.write("password", "new");
    let token = || redis.ask(&["GET", &key]);
    bench.until("the newest token", || token() == "CANARY3");
    bench.until("a token that ends soon", || {
        bench.daemon.set("shop", "access_token", "CANARY4", 6);
        token() == "CANARY4"
    });
    bench.until("its end", || token().is_empty());
    bench.daemon.set_none("shop", "access_token");
    bench.daemon.set_none("shop", "jsapi_ticket");
    bench.until("no key", || {
        redis.ask(&["KEYS", "*"]).is_empty() && redis.ask(&["-n", "1", "KEYS", "*"]).is_empty()
    });
    assert!(!bench.log().contains("CANARY"), "{}", bench.log());
    assert_eq!(feed.terminate().code(), Some(0));
}

#[test]
fn check_online_names_the_keys_and_changes_none() {
    if !have(&PROGRAMS) {
        return;
    }
    let bench = FeedBench::new();
    let redis = RedisBackend::new(bench.path("redis"), "");
    bench.configure(&format!(
        "[[redis]]\nurl = \"redis://127.0.0.1:{}/0\"\npreset = \"silenceper\"\n",
        redis.port
    ));
    bench.daemon.set("shop", "access_token", "CANARY1", 7200);
    let output = bench
        .command(&["check", "--online", "feed.toml"])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        said.contains("would make the key `gowechat_officialaccount__"),
        "{said}"
    );
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(redis.ask(&["KEYS", "*"]), "");
}

#[test]
fn a_server_that_sentinel_replaces_is_followed() {
    if !have(&PROGRAMS) {
        return;
    }
    let bench = FeedBench::new();
    let mut master = RedisBackend::new(bench.path("master"), "");
    let replica = RedisBackend::new(bench.path("replica"), "");
    replica.ask(&["REPLICAOF", "127.0.0.1", &master.port.to_string()]);
    let port = free_port();
    let configuration = bench.write(
        "sentinel.conf",
        &format!(
            "port {port}\nbind 127.0.0.1\nsentinel monitor mymaster 127.0.0.1 {} 1\n\
             sentinel down-after-milliseconds mymaster 5000\nsentinel failover-timeout mymaster 5000\n",
            master.port
        ),
    );
    let mut command = Command::new("redis-server");
    let _sentinel = BackendProcess::spawn(
        command.arg(configuration).arg("--sentinel"),
        &bench.path("sentinel.log"),
    );
    let replicas = || {
        let mut ask = Command::new("redis-cli");
        ask.args(["-p", &port.to_string(), "SENTINEL", "REPLICAS", "mymaster"]);
        String::from_utf8(ask.output().unwrap().stdout).unwrap()
    };
    until("the sentinel knows the replica", || {
        replicas().contains(&replica.port.to_string())
    });
    bench.configure(&format!(
        "[[redis]]\nsentinels = [\"redis://127.0.0.1:{port}\"]\nservice = \"mymaster\"\npreset = \"wxjava\"\n"
    ));
    bench.daemon.set("shop", "access_token", "CANARY1", 7200);
    let _feed = bench.feed();
    let key = format!("wx:access_token:{APPID}");
    bench.until("the token on the master", || {
        master.ask(&["GET", &key]) == "CANARY1"
    });
    bench.until("the token on the replica", || {
        replica.ask(&["GET", &key]) == "CANARY1"
    });
    master.server.kill();
    bench.daemon.set("shop", "access_token", "CANARY2", 7200);
    // While it becomes the master it closes connections.
    let held = || replica.client(&["GET", &key]).output().unwrap().stdout;
    bench.until("the token on the new master", || {
        held().starts_with(b"CANARY2")
    });
    assert!(replica.ask(&["ROLE"]).starts_with("master"));
}
