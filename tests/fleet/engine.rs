//! The engine loses members, its majority, or all that it stored.

use crate::hosts::{ACCOUNTS, TestFleet, assert_not_misled};
use crate::root::needs_root;
use rustix::process::Signal;
use std::time::{Duration, Instant};

const LIFETIME: Duration = Duration::from_secs(40);

#[test]
fn member_that_dies_or_hangs_is_not_missed() {
    needs_root!();
    let mut fleet = TestFleet::start(LIFETIME);
    let readers = fleet.read_all(&[0, 1, 2]);
    for number in 0..3 {
        fleet.cluster.members[number].signal(Signal::STOP);
        let token = fleet.hosts[0].token("classic").unwrap();
        fleet.wait_for_rotation("classic", &token, &[0, 1, 2]);
        fleet.cluster.members[number].signal(Signal::CONT);
        fleet.cluster.kill(number);
        let token = fleet.hosts[0].token("classic").unwrap();
        fleet.wait_for_rotation("classic", &token, &[0, 1, 2]);
        fleet.cluster.start_again();
    }
    readers.stop().assert_always_fresh(6);
    fleet.assert_quiet_logs();
}

#[test]
fn without_a_majority_hosts_serve_what_they_have_until_its_end() {
    needs_root!();
    let mut fleet = TestFleet::start(LIFETIME);
    let files = fleet.read_files(&[0, 1, 2]);
    let calls = fleet.calls("classic");
    fleet.cluster.kill(0);
    fleet.cluster.kill(1);
    fleet.wait_until("that it is told", |fleet| {
        (fleet.hosts.iter()).all(|host| host.fleet("classic")["engine"] == "away")
    });
    fleet.wait_until("the end of the classic token", |fleet| {
        fleet
            .hosts
            .iter()
            .all(|host| host.token("classic").is_none())
    });
    // A call that was under way may have ended.
    assert!(fleet.calls("classic") <= calls + 1);
    for number in 0..3 {
        fleet.wait_for_tokens(number, &["stable", "corp"]);
    }
    fleet.cluster.start_again();
    fleet.wait_for_rotation("classic", "", &[0, 1, 2]);
    assert_not_misled(&files.stop());
    fleet.assert_quiet_logs();
}

#[test]
fn lost_data_of_the_engine_costs_one_call_an_account() {
    needs_root!();
    let mut fleet = TestFleet::start(Duration::from_secs(600));
    let (files, began) = (fleet.read_files(&[0, 1, 2]), Instant::now());
    let calls = ACCOUNTS.map(|(name, ..)| fleet.calls(name));
    fleet.cluster.lose_everything();
    for (name, ..) in ACCOUNTS {
        fleet.wait_until("a leader", |fleet| {
            fleet.leader(name).is_some()
                && fleet
                    .hosts
                    .iter()
                    .all(|host| host.fleet(name)["engine"] == "ok")
        });
        fleet.wait_for_rotation(name, "", &[0, 1, 2]);
    }
    for ((name, ..), before) in ACCOUNTS.into_iter().zip(calls) {
        let more = fleet.calls(name) - before;
        // `stable` is polled meanwhile.
        let polls = began.elapsed().as_secs() / 9 + 1;
        let limit = if name == "stable" { polls + 1 } else { 1 };
        assert!(more <= limit, "{more} calls for {name}");
    }
    let found = files.stop();
    assert_eq!(
        (found.dead, found.missing, found.partial),
        (0, 0, 0),
        "{found:?}"
    );
    fleet.assert_quiet_logs();
}

#[test]
fn host_with_another_key_takes_no_part_and_does_no_harm() {
    needs_root!();
    let mut fleet = TestFleet::prepare(LIFETIME, 3);
    fleet.start_host(0);
    fleet.start_host(1);
    for host in [0, 1] {
        fleet.wait_for_tokens(host, &["classic", "stable", "corp"]);
    }
    let readers = fleet.read_all(&[0, 1]);
    fleet.hosts[2].write_key("another-0123456789abcdef-0123456");
    let (calls, began) = (fleet.calls("classic"), Instant::now());
    fleet.start_changed_host(2, |config| config.replace("/key\"", "/other-key\""));
    fleet.wait_until("that it is told", |fleet| {
        fleet.hosts[2].log().contains("takes no part in the fleet")
    });
    let token = fleet.hosts[0].token("classic").unwrap();
    fleet.wait_for_rotation("classic", &token, &[0, 1]);
    assert_eq!(fleet.hosts[2].token("classic"), None);
    assert!(fleet.calls("classic") <= calls + 1 + rotations(began));
    readers.stop().assert_always_fresh(1);
}

/// Tokens that may have followed each other since then.
fn rotations(began: Instant) -> u64 {
    began.elapsed().as_secs() / (LIFETIME.as_secs() / 2 - 1) + 1
}

#[test]
fn hosts_are_upgraded_one_after_the_other() {
    needs_root!();
    // No token ends meanwhile.
    let mut fleet = TestFleet::start(Duration::from_secs(900));
    let files = fleet.read_files(&[0, 1, 2]);
    let calls = fleet.calls("classic");
    for number in 0..3 {
        fleet.hosts[number].terminate();
        fleet.start_host(number);
        fleet.wait_for_rotation("classic", "", &[0, 1, 2]);
    }
    assert_eq!(fleet.calls("classic"), calls);
    let found = files.stop();
    assert_eq!(
        (found.dead, found.missing, found.partial),
        (0, 0, 0),
        "{found:?}"
    );
    fleet.assert_quiet_logs();
}

#[test]
fn idle_fleet_asks_the_engine_little() {
    needs_root!();
    let fleet = TestFleet::start(Duration::from_secs(7200));
    let (before, began) = (fleet.cluster.requests(), Instant::now());
    while began.elapsed() < Duration::from_secs(20) {
        // The time that is looked at.
        std::thread::sleep(Duration::from_millis(100));
    }
    let requests = fleet.cluster.requests() - before;
    let each_second = requests / began.elapsed().as_secs_f64();
    // Three hosts keep a lease of 6 s alive, and the `stable` account is polled each 10 s.
    assert!(each_second < 5.0, "{each_second} requests a second");
}
