//! Time until a follower has all values when ten thousand accounts rotate at once, beside a bare loop of as many
//! equal writes, in turns in one run. It prints and judges nothing: how fast something is depends on the host and what
//! else it does.

#![expect(clippy::print_stdout, reason = "a benchmark reports")]
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on ends")]

#[path = "../api/fixture.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
mod fixture;

#[path = "../common/root.rs"]
#[allow(
    dead_code,
    unused_macros,
    unused_imports,
    reason = "the tests use the rest"
)]
mod root;

use fixture::{ApiDaemon, Fake, account, grant};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};
use wxtokend::snapshot::Snapshot;

const ACCOUNTS: usize = 10_000;
const ROUNDS: usize = 15;

fn main() {
    let fakes: Vec<Fake> = (0..ACCOUNTS)
        .map(|number| account(&format!("account-{number:05}"), vec![]))
        .collect();
    let daemon = ApiDaemon::of(&fakes);
    let mut stream = UnixStream::connect(&daemon.socket).unwrap();
    // As in HTTP/1.0: without chunks, so that both sides of the comparison read lines.
    stream
        .write_all(b"GET /v1/watch?value=access_token HTTP/1.0\r\n\r\n")
        .unwrap();
    let mut lines = BufReader::with_capacity(1 << 16, stream);
    let mut line = String::new();
    let mut next = |line: &mut String| {
        line.clear();
        assert_ne!(lines.read_line(line).unwrap(), 0);
    };
    while !line.contains("synced") {
        next(&mut line);
    }
    let (mut bare, mut followed) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let token = format!("{round:03}{}", "t".repeat(154));
        let snapshots: Vec<Snapshot> = fakes
            .iter()
            .map(|fake| {
                let mut snapshot = Snapshot::clone(&fake.snapshot.latest());
                snapshot.grants[0].1 = grant(&token, 7000);
                snapshot
            })
            .collect();
        let start = Instant::now();
        thread::scope(|scope| {
            scope.spawn(|| {
                for (fake, snapshot) in fakes.iter().zip(snapshots) {
                    fake.snapshot.publish(snapshot);
                }
            });
            for _ in 0..ACCOUNTS {
                next(&mut line);
                while line.contains("heartbeat") {
                    next(&mut line);
                }
            }
        });
        followed.push(start.elapsed());
        bare.push(bare_loop(line.as_bytes()));
    }
    let (followed, bare) = (median(&mut followed), median(&mut bare));
    println!("{ACCOUNTS} accounts rotate; median of {ROUNDS} rounds");
    println!("one follower has all after  {:8.1} ms", millis(followed));
    println!("bare loop of equal writes   {:8.1} ms", millis(bare));
    println!(
        "the follower takes          {:8.2} times as long",
        followed.as_secs_f64() / bare.as_secs_f64()
    );
}

/// The time that as many equal lines take over a socket, one write each.
fn bare_loop(line: &[u8]) -> Duration {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let start = Instant::now();
    thread::scope(|scope| {
        scope.spawn(move || {
            for _ in 0..ACCOUNTS {
                ours.write_all(line).unwrap();
            }
        });
        let mut lines = BufReader::with_capacity(1 << 16, theirs);
        let mut read = String::new();
        for _ in 0..ACCOUNTS {
            read.clear();
            assert_eq!(lines.read_line(&mut read).unwrap(), line.len());
        }
    });
    start.elapsed()
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
