//! Two builds of the daemon side by side, in turns, in one run: memory, start, reads of a token socket, requests of the
//! API. `WXTOKEND_OLD=/path/to/the/one/before cargo bench --bench versions`. Without it, the build is compared with
//! itself, which shows how much the host disturbs.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a benchmark panics, reports and rounds"
)]

#[path = "../common/mod.rs"]
mod common;
#[path = "side.rs"]
mod side;

use common::{Bench, PATIENCE, RunningDaemon, wait_until};
use side::{Build, builds};
use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use wxtokend::sim::{SimAccount, SimPlatform, World};

const ROUNDS: usize = 15;
const ROUND: Duration = Duration::from_millis(200);

fn main() {
    let builds = builds();
    println!("{:46} {:>12} {:>12}   new / old", "", "old", "new");
    for accounts in [3, 1000, 10_000] {
        let title = format!("resident memory, {accounts} accounts, MB");
        compare(&title, 1, &builds, |build| resident(build, accounts));
    }
    compare(
        "1,000 new accounts, start to last file, ms",
        5,
        &builds,
        |build| start(build, false),
    );
    compare(
        "1,000 stored tokens, start to READY, ms",
        5,
        &builds,
        |build| start(build, true),
    );
    reads(&builds);
}

/// Takes a figure of both builds in turns; prints the medians, and the median of the ratios of each turn.
fn compare(title: &str, rounds: usize, builds: &[Build; 2], mut figure: impl FnMut(&Build) -> f64) {
    let (mut old, mut new) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        // Who comes first changes, since the first of a turn may find other caches than the second.
        if round % 2 == 0 {
            old.push(figure(&builds[0]));
            new.push(figure(&builds[1]));
        } else {
            new.push(figure(&builds[1]));
            old.push(figure(&builds[0]));
        }
    }
    let ratios = old.iter().zip(&new).map(|(old, new)| new / old).collect();
    println!(
        "{title:46} {:>12.1} {:>12.1}   {:.3}",
        median(old),
        median(new),
        median(ratios)
    );
}

/// A platform and a bench whose daemon keeps so many accounts, with a file each.
fn site(accounts: usize) -> (SimPlatform, Bench) {
    let mut world = World::new();
    for number in 0..accounts as u64 {
        world.add(SimAccount::numbered(number));
    }
    let platform = SimPlatform::start(([127, 0, 0, 1], 0).into(), world).unwrap();
    let bench = Bench::new();
    let mut text = String::new();
    for number in 0..accounts {
        bench.secret(&format!("secret{number}"), &format!("{number:032x}"));
        write!(
            text,
            "[accounts.a{number}]\nappid = 'wx{number:016x}'\nsecret_file = '{{dir}}/secret{number}'\n\
             [[accounts.a{number}.file]]\npath = '{{dir}}/run/a{number}.json'\n"
        )
        .unwrap();
    }
    text.push_str("[[accounts.a0.socket]]\npath = '{dir}/run/a0.sock'\nformat = 'raw'\n");
    bench.configure(&platform, &text);
    let config = bench.path("config.toml");
    let quiet = fs::read_to_string(&config)
        .unwrap()
        .replace("\"debug\"", "\"info\"");
    fs::write(config, quiet).unwrap();
    (platform, bench)
}

fn last_file(bench: &Bench, daemon: &RunningDaemon<'_>, accounts: usize) {
    for number in 0..accounts {
        let path = bench.path(&format!("run/a{number}.json"));
        wait_until("a file", PATIENCE * 4, || daemon.log(), || path.exists());
    }
}

fn resident(build: &Build, accounts: usize) -> f64 {
    let (_platform, bench) = site(accounts);
    let daemon = build.spawn_with(&bench, |_| {});
    last_file(&bench, &daemon, accounts);
    // What it needed to fetch is given back by then.
    thread::sleep(Duration::from_secs(3));
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS"))
        .unwrap();
    let kilobytes = line.split_whitespace().nth(1).unwrap();
    kilobytes.parse::<f64>().unwrap() / 1000.0
}

fn start(build: &Build, stored: bool) -> f64 {
    let (_platform, bench) = site(1000);
    let began = Instant::now();
    let daemon = build.spawn_with(&bench, |_| {});
    last_file(&bench, &daemon, 1000);
    if !stored {
        return began.elapsed().as_secs_f64() * 1e3;
    }
    daemon.wait_until("READY=1", || daemon.said("READY=1"));
    daemon.terminate();
    let before = bench.manager.count();
    let began = Instant::now();
    let daemon = build.spawn_with(&bench, |_| {});
    daemon.wait_until("READY=1", || daemon.said("READY=1"));
    let ready = bench.manager.with(|messages| {
        let ready = messages[before..].iter().find(|m| m.has("READY=1"));
        ready.unwrap().at - began
    });
    daemon.terminate();
    ready.as_secs_f64() * 1e3
}

fn reads(builds: &[Build; 2]) {
    let sites = [site(1), site(1)];
    let daemons = [0, 1].map(|n| build_ready(&builds[n], &sites[n].1));
    for clients in [1, 4, 16] {
        let title = format!("token socket, {clients} clients, reads a second");
        let rate = |build: &Build| {
            let socket = sites[usize::from(build.is_new)].1.path("run/a0.sock");
            times_a_second(clients, || read(&socket, b""))
        };
        compare(&title, ROUNDS, builds, rate);
        let title = format!("API, {clients} clients, requests a second");
        let rate = |build: &Build| {
            let socket = sites[usize::from(build.is_new)].1.socket();
            let request =
                b"GET /v1/accounts/a0/token HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
            times_a_second(clients, || read(&socket, request))
        };
        compare(&title, ROUNDS, builds, rate);
    }
    drop(daemons);
}

fn build_ready<'a>(build: &Build, bench: &'a Bench) -> RunningDaemon<'a> {
    let daemon = build.spawn_with(bench, |_| {});
    daemon.wait_until("READY=1", || daemon.said("READY=1"));
    daemon
}

fn read(socket: &Path, request: &[u8]) {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.write_all(request).unwrap();
    let mut answer = Vec::with_capacity(1024);
    stream.read_to_end(&mut answer).unwrap();
    assert!(answer.len() > 50, "not a token");
}

/// Times a second that this many clients can do something.
fn times_a_second(clients: usize, act: impl Fn() + Sync) -> f64 {
    let is_over = AtomicBool::new(false);
    let began = Instant::now();
    let count: usize = thread::scope(|scope| {
        let until_over = || {
            let mut count = 0;
            while !is_over.load(Ordering::Relaxed) {
                act();
                count += 1;
            }
            count
        };
        let clients: Vec<_> = (0..clients).map(|_| scope.spawn(until_over)).collect();
        thread::sleep(ROUND);
        is_over.store(true, Ordering::Relaxed);
        clients
            .into_iter()
            .map(|client| client.join().unwrap())
            .sum()
    });
    count as f64 / began.elapsed().as_secs_f64()
}

/// The middle one.
fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
