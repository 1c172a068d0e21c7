//! A fleet of three hosts on a cluster of etcd, beside one host alone: time of a takeover, calls, requests to etcd, delay of
//! a rotation on another host. It prints and judges nothing. Needs root and `etcd`, and about a quarter of an hour; with
//! arguments only the parts that they name.

#![expect(clippy::print_stdout, reason = "a benchmark reports")]
#![allow(dead_code, reason = "the tests use the rest")]
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on ends")]

#[path = "../common/mod.rs"]
mod common;

#[path = "../fleet/certificates.rs"]
mod certificates;
#[path = "../fleet/cluster.rs"]
mod cluster;
#[path = "../fleet/hosts.rs"]
mod hosts;
#[path = "../fleet/network.rs"]
mod network;

use hosts::TestFleet;
use std::fmt::Write as _;
use std::thread;
use std::time::{Duration, Instant};
use wxtokend::sim::SimAccount;

const TAKEOVERS: usize = 50;
const ACCOUNTS: u64 = 1000;
/// Interval of polls in the comparison of calls: a tenth of the usual one.
const POLL_EVERY: Duration = Duration::from_secs(30);
const WATCHED: Duration = Duration::from_secs(120);

fn main() {
    assert!(
        rustix::process::geteuid().is_root(),
        "network namespaces need root"
    );
    let parts: Vec<_> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with('-'))
        .collect();
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|wanted| wanted == part);
    if wanted("takeover") {
        takeovers();
    }
    if wanted("delay") {
        delays();
    }
    if wanted("calls") {
        let fleet = calls_of(3, true);
        let alone = calls_of(1, false);
        // Polls are ten times as close as usual here.
        let a_day = |calls: u64| calls * 86_400 / WATCHED.as_secs() / 10;
        println!(
            "token calls a day for {ACCOUNTS} accounts: three hosts {}, one host {}",
            a_day(fleet),
            a_day(alone)
        );
    }
}

/// The median and the worst.
fn of_all(times: &mut [Duration]) -> (Duration, Duration) {
    times.sort();
    (times[times.len() / 2], times[times.len() - 1])
}

/// Kills the leader again and again.
fn takeovers() {
    let mut fleet = TestFleet::start(Duration::from_secs(600));
    let mut times = Vec::new();
    while times.len() < TAKEOVERS {
        let old = fleet.find_leader("classic");
        fleet.hosts[old].kill();
        let (_, took) = fleet.wait_for_other_leader("classic", old);
        times.push(took);
        fleet.start_host(old);
    }
    let (median, worst) = of_all(&mut times);
    println!(
        "takeover after a crash of the leader, lease 6 s: median {median:?}, worst of {TAKEOVERS} {worst:?}"
    );
}

/// Compares the moments when a rotation is in the files of all hosts.
fn delays() {
    let fleet = TestFleet::start(Duration::from_secs(12));
    let mut times = Vec::new();
    let mut old = fleet.hosts[0].token("stable");
    while times.len() < 25 {
        let held = || [0, 1, 2].map(|number| fleet.hosts[number].token("stable"));
        let mut first = None;
        loop {
            let tokens = held();
            let fresh = tokens
                .iter()
                .filter(|token| token.is_some() && **token != old)
                .count();
            if fresh > 0 && first.is_none() {
                first = Some(Instant::now());
            }
            if fresh == tokens.len() {
                old.clone_from(&tokens[0]);
                break;
            }
        }
        times.extend(first.map(|first| first.elapsed()));
    }
    let (median, worst) = of_all(&mut times);
    println!(
        "delay of a rotation between the first host's file and the last one's: median {median:?}, worst of 25 {worst:?}"
    );
}

/// Token calls of a thousand `stable` accounts while they are watched; in a fleet also the requests to etcd.
fn calls_of(hosts: usize, is_fleet: bool) -> u64 {
    let mut fleet = TestFleet::prepare(Duration::from_secs(7200), hosts);
    fleet.platform.with(|world, _| {
        for number in 0..ACCOUNTS {
            world.add(SimAccount::numbered(number));
        }
    });
    let mut accounts = String::new();
    for n in 0..ACCOUNTS {
        let _ = write!(
            accounts,
            "\n[accounts.a{n}]\nappid = \"wx{n:016x}\"\nsecret = \"{n:032x}\"\npoll_every = \"{}s\"\n",
            POLL_EVERY.as_secs()
        );
    }
    for number in 0..hosts {
        let accounts = &accounts;
        fleet.start_changed_host(number, |config| {
            let daemon = config.split("\n[accounts.").next().unwrap();
            let daemon = match daemon.split_once("\n[fleet]") {
                Some((without, _)) if !is_fleet => without,
                _ => daemon,
            };
            daemon.to_owned() + accounts
        });
    }
    // The start is over.
    thread::sleep(POLL_EVERY);
    let before = fleet.platform.with(|world, _| world.token_calls());
    let asked = fleet.cluster.requests();
    thread::sleep(WATCHED);
    if is_fleet {
        let requests = fleet.cluster.requests() - asked;
        println!(
            "requests a second to etcd of three hosts, {ACCOUNTS} accounts polled each {POLL_EVERY:?}: {:.2}",
            requests / WATCHED.as_secs_f64()
        );
    }
    fleet.platform.with(|world, _| world.token_calls()) - before
}
