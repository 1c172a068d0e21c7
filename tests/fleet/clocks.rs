//! The clocks of hosts are minutes apart: no token is published for longer than it lives.

use crate::cluster::Door;
use crate::common::{output_of, read_json};
use crate::hosts::{FleetHost, TestFleet};
use crate::root::needs_root;
use std::process::Command;
use std::time::Duration;

const LIFETIME: Duration = Duration::from_secs(60);
/// Seconds between the ends that hosts publish of one token: where an answer takes its time, the clocks are known less well.
const ENDS_APART: i64 = 10;
/// The seconds by which each host's clock is ahead.
const AHEAD: [i64; 3] = [0, 300, -300];

/// The end of a token as a host publishes it, on the clock of this test.
fn end(host: &FleetHost, ahead: i64) -> i64 {
    let file = read_json(&host.path("run/classic.json"));
    file["expire_time"].as_i64().unwrap() - ahead
}

/// Starts a host whose clock is wrong.
fn start(fleet: &mut TestFleet, number: usize) {
    let library = fleet.cluster.directory().join("clock.so");
    fleet.hosts[number].environment = match AHEAD[number] {
        0 => Vec::new(),
        ahead => vec![
            ("LD_PRELOAD", library.into()),
            ("CLOCK_AHEAD", ahead.to_string().into()),
        ],
    };
    fleet.start_host(number);
}

#[test]
fn hosts_whose_clocks_are_minutes_apart_publish_no_dead_token() {
    needs_root!();
    let mut fleet = TestFleet::prepare_with(LIFETIME, 3, 1, Door::Open);
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fleet/clock.c");
    let mut compile = Command::new("cc");
    let library = fleet.cluster.directory().join("clock.so");
    output_of(
        compile
            .args(["-shared", "-fPIC", "-o"])
            .arg(library)
            .arg(source),
    );
    for number in 0..3 {
        start(&mut fleet, number);
    }
    fleet.wait_for_rotation("classic", "", &[0, 1, 2]);
    let sockets = fleet.read_sockets(&[0, 1, 2]);
    for _ in 0..3 {
        let token = fleet.wait_for_rotation("classic", "", &[0, 1, 2]);
        fleet.wait_for_rotation("classic", &token, &[0, 1, 2]);
        // It may be replaced by another one while they are read.
        fleet.wait_until("about one end on all hosts", |fleet| {
            let ends = [0, 1, 2].map(|number| end(&fleet.hosts[number], AHEAD[number]));
            let (first, last) = (ends.iter().min().unwrap(), ends.iter().max().unwrap());
            last - first <= ENDS_APART
        });
        // Another host leads, by another clock; the one that begins anew knows no other clock at first.
        let old = fleet.find_leader("classic");
        fleet.hosts[old].terminate();
        fleet.wait_for_other_leader("classic", old);
        start(&mut fleet, old);
    }
    for (host, words) in [
        (0, " s "),
        (1, " s ahead of that of host"),
        (2, " s behind that of host"),
    ] {
        fleet.wait_until(words, |fleet| {
            let told = fleet.hosts[host].told("this host's clock is about ");
            let is_told =
                |line: &String| line.contains(words) && line.contains(": set both by NTP");
            told.iter().any(is_told)
        });
        fleet.wait_until("the same in `systemctl status`", |fleet| {
            fleet.hosts[host].status().contains("; this clock is ")
        });
    }
    let words = " s behind that of etcd's: set both by NTP";
    fleet.wait_for_check(2, 69, words);
    // Nobody listens while a host begins anew.
    let found = sockets.stop();
    assert_eq!((found.dead, found.partial), (0, 0), "{found:?}");
    assert!(found.values.len() > 3, "{found:?}");
    fleet.assert_quiet_logs();
}
