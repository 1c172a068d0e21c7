//! The time from a rotation to its confirmed write, for each kind of target; the memory of a feed with a thousand accounts; the
//! sizes of the binaries and the packages in their trees. It prints and judges nothing: how fast something is depends on the
//! host and what else it does. What is not installed is named.

#![expect(clippy::print_stdout, reason = "a benchmark reports")]
#![expect(clippy::cast_precision_loss, reason = "sizes are small")]
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on ends")]
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    missing_docs,
    reason = "it uses parts of tests"
)]

#[path = "../feed/bench.rs"]
mod bench;
#[path = "../feed/faults.rs"]
mod faults;
#[path = "../common/manager.rs"]
mod manager;
#[path = "../feed/mariadb.rs"]
mod mariadb;
#[path = "../common/port.rs"]
mod port;
#[path = "../feed/postgres.rs"]
mod postgres;
#[path = "../feed/redis.rs"]
mod redis;
#[path = "../common/root.rs"]
mod root;
#[path = "../feed/servers.rs"]
mod servers;
#[path = "../feed/sqlite.rs"]
mod sqlite;
#[path = "../feed/sqlserver.rs"]
mod sqlserver;
#[path = "../watch/stand_in.rs"]
mod stand_in;
#[path = "../feed/tree.rs"]
mod tree;

use bench::{FeedBench, FeedProcess};
use faults::Backend;
use std::path::Path;
use std::time::{Duration, Instant};

const ROTATIONS: usize = 101;

fn main() {
    println!("from a rotation to its confirmed write, median of {ROTATIONS}:");
    if servers::have(&mariadb::PROGRAMS) {
        let bench = FeedBench::new();
        measure(
            "MariaDB, password over TLS",
            &bench,
            &mariadb::ready(&bench),
        );
    }
    if servers::have(&postgres::PROGRAMS) {
        let bench = FeedBench::new();
        measure(
            "PostgreSQL, peer identity",
            &bench,
            &postgres::ready(&bench),
        );
    }
    if servers::have(&["sqlite3"]) {
        let bench = FeedBench::new();
        measure("SQLite", &bench, &sqlite::SqliteFile::new(&bench));
    }
    if sqlserver::TdsServer::have() {
        let bench = FeedBench::new();
        let name = "a stand-in with SQL Server's protocol, in Python, over TLS";
        measure(name, &bench, &sqlserver::ready(&bench));
    }
    if servers::have(&redis::PROGRAMS) {
        let bench = FeedBench::new();
        let redis = redis::RedisBackend::new(bench.path("redis"), "");
        measure("Redis", &bench, &redis);
        memory();
    }
    sizes();
}

/// Prints the median time in which a new token is written.
fn measure(name: &str, bench: &FeedBench, server: &impl Backend) {
    bench.configure(
        &server
            .target()
            .replace("check_every = \"1s\"", "check_every = \"0s\""),
    );
    let set = |n: usize| {
        let token = format!("{n:03}{}", "t".repeat(154));
        bench.daemon.set("shop", "access_token", &token, 7200);
    };
    set(0);
    let feed = server.feed(bench);
    let written = || bench.log().matches("holds access_token").count();
    bench.until("the first token", || written() == 1);
    let mut times: Vec<Duration> = (1..=ROTATIONS)
        .map(|n| {
            let start = Instant::now();
            set(n);
            while written() == n {
                std::thread::sleep(Duration::from_micros(50));
            }
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    let millis = |time: Duration| time.as_secs_f64() * 1000.0;
    println!(
        "  {name}: {:.1} ms, 99 of 100 in {:.1} ms",
        millis(times[ROTATIONS / 2]),
        millis(times[ROTATIONS * 99 / 100])
    );
    drop(feed);
}

/// Prints the memory of a feed that keeps a thousand accounts.
fn memory() {
    let bench = FeedBench::new();
    let redis = redis::RedisBackend::new(bench.path("redis"), "");
    bench.configure(&redis.target());
    for n in 0..1000 {
        let (account, token) = (format!("a{n}"), format!("CANARY{n}"));
        bench.daemon.set(&account, "access_token", &token, 7200);
    }
    let feed = bench.feed();
    bench.until("a thousand tokens", || redis.count_right() == 1000);
    println!("memory with 1000 accounts in Redis: {} kB", resident(&feed));
}

/// Resident memory, in kilobytes.
fn resident(feed: &FeedProcess) -> u64 {
    let status = format!("/proc/{}/status", feed.pid().as_raw_nonzero());
    let status = std::fs::read_to_string(status).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.unwrap().trim().trim_end_matches(" kB");
    number.parse().unwrap()
}

fn sizes() {
    let feed = Path::new(env!("CARGO_BIN_EXE_wxtokend-feed"));
    for (package, path) in [
        ("wxtokend", feed.with_file_name("wxtokend")),
        ("wxtokend-feed", feed.to_path_buf()),
    ] {
        let size = std::fs::metadata(&path).map(|metadata| metadata.len());
        let size = size.map_or("not built".to_owned(), |bytes| {
            format!("{:.1} MB", bytes as f64 / 1e6)
        });
        let packages = tree::crates(package).len();
        println!("{package}: {size}, {packages} packages in its tree");
    }
}
