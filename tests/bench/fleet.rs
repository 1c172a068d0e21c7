//! A fleet of three hosts on a cluster of etcd, beside one host alone: time of a takeover, delay of a rotation on another host,
//! requests to etcd, calls. It prints and judges nothing. Needs root and `etcd`, and about ten minutes; with arguments only
//! the parts that they name.

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
#[path = "../fleet/stalls.rs"]
mod stalls;

use hosts::TestFleet;
use std::fmt::Write as _;
use std::thread;
use std::time::{Duration, Instant};
use wxtokend::sim::SimAccount;

const TAKEOVERS: usize = 50;
const ROTATIONS: usize = 50;
const ACCOUNTS: u64 = 1000;
/// Polls in the comparison of calls come closer than the usual 5 minutes by this factor.
const HASTE: u64 = 10;
const POLL_EVERY: Duration = Duration::from_secs(300 / HASTE);
const WATCHED: Duration = Duration::from_secs(60);
/// The life of tokens whose rotations are watched: they come at half of it.
const SHORT_LIFE: Duration = Duration::from_secs(8);
const LONG_LIFE: Duration = Duration::from_secs(7200);

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
    if wanted("idle") {
        idle_requests();
    }
    if wanted("calls") {
        let (fleet, requests) = calls_of(3);
        let (alone, _) = calls_of(1);
        let a_day = |calls: u64| calls * 86_400 / WATCHED.as_secs() / HASTE;
        println!(
            "token calls a day for {ACCOUNTS} accounts of `stable`: three hosts {}, one host {}; requests of the three to etcd for each call: {requests:.1}",
            a_day(fleet),
            a_day(alone)
        );
    }
}

/// The median and the worst, in words.
fn of_all(times: &mut [Duration]) -> String {
    times.sort();
    let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
    let (median, worst) = (median.as_millis(), worst.as_millis());
    format!("median {median} ms, worst of {} {worst} ms", times.len())
}

/// Kills the leader again and again.
fn takeovers() {
    let mut fleet = TestFleet::start(LONG_LIFE);
    let mut times = Vec::new();
    while times.len() < TAKEOVERS {
        let old = fleet.find_leader("classic");
        fleet.hosts[old].kill();
        let (_, took) = fleet.wait_for_other_leader("classic", old);
        times.push(took);
        fleet.start_host(old);
    }
    println!(
        "takeover after a crash of the leader, lease 6 s: {}",
        of_all(&mut times)
    );
}

/// Compares the moments when a rotation is in the files of all hosts.
fn delays() {
    let fleet = TestFleet::start(SHORT_LIFE);
    let held = || [0, 1, 2].map(|number| fleet.hosts[number].token("classic"));
    let (mut times, mut first) = (Vec::new(), None);
    let mut old = fleet.wait_for_rotation("classic", "", &[0, 1, 2]);
    while times.len() < ROTATIONS {
        let tokens = held();
        let has_new = |token: &&Option<String>| token.as_ref().is_some_and(|token| *token != old);
        let new = tokens.iter().filter(has_new).count();
        if new > 0 {
            let first = *first.get_or_insert_with(Instant::now);
            if new == tokens.len() {
                times.push(first.elapsed());
            }
        }
        if let [Some(token), ..] = tokens
            && new == 3
        {
            (old, first) = (token, None);
        }
        thread::sleep(Duration::from_millis(1));
    }
    println!(
        "delay of a rotation between the first host's file and the last one's: {}",
        of_all(&mut times)
    );
}

/// Requests to etcd of hosts that have nothing to do.
fn idle_requests() {
    let mut fleet = TestFleet::prepare(LONG_LIFE, 3);
    for number in 0..3 {
        fleet.start_changed_host(number, |config| {
            config.replace("poll_every = \"10s\"\n", "")
        });
    }
    fleet.find_leader("classic");
    // The start is over.
    thread::sleep(Duration::from_secs(10));
    let asked = fleet.cluster.requests();
    thread::sleep(WATCHED);
    let requests = (fleet.cluster.requests() - asked) / WATCHED.as_secs_f64();
    println!("requests a second to etcd of three idle hosts: {requests:.2}");
}

/// Token calls of a thousand `stable` accounts while they are watched; and how many requests to etcd there were for each.
fn calls_of(hosts: usize) -> (u64, f64) {
    let mut fleet = TestFleet::prepare(LONG_LIFE, hosts);
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
                Some((without, _)) if hosts == 1 => without,
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
    let calls = fleet.platform.with(|world, _| world.token_calls()) - before;
    let requests = fleet.cluster.requests() - asked;
    #[expect(clippy::cast_precision_loss, reason = "it is small")]
    (calls, requests / calls as f64)
}
