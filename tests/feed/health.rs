//! The feed's metrics, its health, and its watchdog.

use crate::bench::FeedBench;
use crate::port::free_port;
use crate::servers::{have, sqlite};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const TABLE: &str = "CREATE TABLE t (token TEXT); INSERT INTO t VALUES ('')";

/// A feed with a database that can be written and one that cannot, and its answers over HTTP.
struct Watched {
    bench: FeedBench,
    port: u16,
}

impl Watched {
    fn new() -> Self {
        let (bench, port) = (FeedBench::new(), free_port());
        sqlite(&bench.path("app.db"), TABLE);
        bench.configure(&format!(
            "metrics = \"127.0.0.1:{port}\"\n\
             [[database]]\nurl = \"sqlite://{{dir}}/app.db\"\nstatement = \"UPDATE t SET token = :access_token\"\n\
             read_back = \"SELECT token FROM t\"\ncheck_every = \"1s\"\n\
             [[database]]\nurl = \"sqlite://{{dir}}/missing.db\"\nstatement = \"UPDATE t SET token = :access_token\"\n"
        ));
        Self { bench, port }
    }

    fn get(&self, path: &str) -> (String, String) {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) else {
            return (String::new(), String::new());
        };
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
        (head.to_owned(), body.to_owned())
    }

    /// The value of a sample.
    fn sample(&self, name: &str) -> Option<f64> {
        let (_, body) = self.get("/metrics");
        let mut lines = body.lines();
        let line = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map(|value| value.parse().unwrap())
    }
}

#[test]
fn metrics_and_health_tell_each_target() {
    if !have(&["sqlite3"]) {
        return;
    }
    let watched = Watched::new();
    let bench = &watched.bench;
    bench.daemon.set("shop", "access_token", "CANARY1", 7200);
    let mut feed = bench.feed();
    let [good, bad] = ["database 1", "database 2"];
    let of = |name: &str, target: &str| {
        watched.sample(&format!("wxtokend_feed_{name}{{target=\"{target}\"}}"))
    };
    // Each target is a task of its own, and tells when it has come so far.
    for (what, name, target, value) in [
        ("a value for the good one", "target_values", good, 1.0),
        ("the good one is not behind", "target_behind", good, 0.0),
        ("the good one is up", "target_up", good, 1.0),
        ("the bad one is not up", "target_up", bad, 0.0),
        ("the bad one is behind", "target_behind", bad, 1.0),
    ] {
        bench.until(what, || of(name, target) == Some(value));
    }
    assert!(of("last_write_timestamp_seconds", good) > Some(1.7e9));
    assert_eq!(of("last_write_timestamp_seconds", bad), Some(0.0));
    let writes = |target: &str, result: &str| {
        let labels = format!("{{result=\"{result}\",target=\"{target}\"}}");
        watched.sample(&format!("wxtokend_feed_writes_total{labels}"))
    };
    assert_eq!(writes(good, "success"), Some(1.0));
    assert_eq!(writes(good, "failure"), Some(0.0));
    bench.until("a failed write is counted", || {
        writes(bad, "failure") > Some(0.0)
    });
    assert_eq!(watched.sample("wxtokend_feed_connected"), Some(1.0));
    assert!(watched.sample("process_resident_memory_bytes").is_some());
    let (_, text) = watched.get("/metrics");
    assert!(text.contains("wxtokend_feed_build_info{commit="), "{text}");
    assert!(!text.contains("CANARY"), "{text}");

    // Health names the one that is not well.
    let (head, body) = watched.get("/healthz");
    assert!(head.starts_with("HTTP/1.1 503"), "{head}");
    assert!(body.contains("1/2 values in place; database 2: "), "{body}");
    let (head, _) = watched.get("/other");
    assert!(head.starts_with("HTTP/1.1 404"), "{head}");

    // Somebody else writes: a repair is counted.
    sqlite(&bench.path("app.db"), "UPDATE t SET token = 'FOREIGN'");
    bench.until("the repair is counted", || {
        of("repairs_total", good) == Some(1.0)
    });

    // The missing file comes: everything is well.
    sqlite(&bench.path("new.db"), TABLE);
    std::fs::rename(bench.path("new.db"), bench.path("missing.db")).unwrap();
    bench.until("both are up", || of("target_up", bad) == Some(1.0));
    bench.until("health", || {
        watched.get("/healthz").0.starts_with("HTTP/1.1 200")
    });

    // A rejected reload is counted.
    let reloads = |result: &str| {
        watched.sample(&format!(
            "wxtokend_feed_config_reloads_total{{result=\"{result}\"}}"
        ))
    };
    bench.write("feed.toml", "nonsense = 1\n");
    feed.signal(rustix::process::Signal::HUP);
    bench.until("the rejected reload is counted", || {
        reloads("rejected") == Some(1.0)
    });
    assert_eq!(reloads("success"), Some(0.0));
    assert_eq!(feed.terminate().code(), Some(0));
}

/// The manager hears from the feed twice in each interval, also while a target hangs.
#[test]
fn the_watchdog_is_fed_while_a_target_hangs() {
    let bench = FeedBench::new();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    bench.write("password", "x");
    bench.configure(&format!(
        "[[database]]\nurl = \"mysql://u@127.0.0.1:{}/app\"\npassword_file = \"{{dir}}/password\"\n\
         statement = \"UPDATE t SET token = :access_token\"\ntimeout = \"30s\"\n",
        silent.local_addr().unwrap().port()
    ));
    bench.daemon.set("shop", "access_token", "CANARY1", 7200);
    let mut feed = bench.feed_with(|command| {
        command.env("WATCHDOG_USEC", "1000000");
    });
    let begun = Instant::now();
    let (mut beats, mut seen) = (0, 0);
    while beats < 5 {
        bench.until("the next beat of the watchdog", || {
            bench.manager.said_since(seen, "WATCHDOG=1")
        });
        seen = bench.manager.count();
        beats += 1;
    }
    let took = begun.elapsed();
    assert!(took > Duration::from_secs(1), "no storm of beats: {took:?}");
    assert_eq!(feed.terminate().code(), Some(0));
}
