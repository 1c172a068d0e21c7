//! The leader dies, hangs, or loses its connections: another one leads, and no reader notices.

use crate::hosts::{TAKEOVER_LIMIT, TestFleet, assert_not_misled};
use crate::root::needs_root;
use rustix::process::Signal;
use std::time::{Duration, Instant};

const LIFETIME: Duration = Duration::from_secs(40);

fn others(host: usize) -> Vec<usize> {
    (0..3).filter(|&number| number != host).collect()
}

#[test]
fn hosts_hold_one_token_which_one_of_them_fetched() {
    needs_root!();
    let fleet = TestFleet::start(LIFETIME);
    fleet.wait_until("one leader in the eyes of all", |fleet| {
        let Some(leader) = fleet.leader("classic") else {
            return false;
        };
        (0..3).all(|number| {
            let view = fleet.hosts[number].fleet("classic");
            view["host"] == format!("host{leader}")
                && view["engine"] == "ok"
                && view["leader"] == (number == leader)
        })
    });
    let readers = fleet.read_all(&[0, 1, 2]);
    for name in ["classic", "stable", "corp"] {
        let (before, began) = (fleet.calls(name), Instant::now());
        let old = fleet.wait_for_rotation(name, "", &[0, 1, 2]);
        let new = fleet.wait_for_rotation(name, &old, &[0, 1, 2]);
        assert!(fleet.is_alive(&new));
        let calls = fleet.calls(name) - before;
        // As of one host: it polls `stable` each 10 s at most, and more often before the end.
        let limit = 12 + began.elapsed().as_secs() / 5;
        assert!(calls <= limit, "{calls} calls of three hosts for {name}");
    }
    readers.stop().assert_always_fresh(1);
    fleet.assert_quiet_logs();
}

#[test]
fn another_host_leads_when_the_leader_is_killed() {
    needs_root!();
    let mut fleet = TestFleet::start(LIFETIME);
    let old = fleet.find_leader("classic");
    let readers = fleet.read_all(&others(old));
    fleet.hosts[old].kill();
    let (new, took) = fleet.wait_for_other_leader("classic", old);
    assert!(took < TAKEOVER_LIMIT, "{took:?}");
    let token = fleet.hosts[new].token("classic").unwrap();
    fleet.wait_for_rotation("classic", &token, &others(old));
    // It comes back as one of those who follow.
    fleet.start_host(old);
    fleet.wait_until("the same token", |fleet| {
        fleet.hosts[old].token("classic") == fleet.hosts[new].token("classic")
    });
    fleet.wait_until("that it follows", |fleet| {
        fleet.leader("classic") == Some(new)
    });
    readers.stop().assert_always_fresh(1);
    fleet.assert_quiet_logs();
}

#[test]
fn leader_that_stops_by_order_is_followed_at_once() {
    needs_root!();
    let mut fleet = TestFleet::start(LIFETIME);
    let old = fleet.find_leader("classic");
    let readers = fleet.read_all(&others(old));
    fleet.hosts[old].terminate();
    // It gives its leadership up; nobody waits for the end of the lease.
    let leader = fleet.cluster.value("/wxtokend/accounts/classic/leader");
    let is_old = leader.is_some_and(|leader| leader.contains(&format!("\"host{old}\"")));
    assert!(!is_old, "{}", fleet.logs());
    fleet.wait_for_other_leader("classic", old);
    readers.stop().assert_always_fresh(0);
}

#[test]
fn leader_that_was_stopped_leads_no_more_when_it_goes_on() {
    needs_root!();
    let fleet = TestFleet::start(LIFETIME);
    let old = fleet.find_leader("classic");
    let readers = fleet.read_all(&others(old));
    let files = fleet.read_files(&[old]);
    fleet.hosts[old].signal(Signal::STOP);
    let (new, took) = fleet.wait_for_other_leader("classic", old);
    assert!(took < TAKEOVER_LIMIT, "{took:?}");
    let token = fleet.hosts[new].token("classic").unwrap();
    fleet.wait_for_rotation("classic", &token, &others(old));
    let calls = fleet.calls("classic");
    fleet.hosts[old].signal(Signal::CONT);
    fleet.wait_until("the same token", |fleet| {
        fleet.hosts[old].token("classic") == fleet.hosts[new].token("classic")
    });
    fleet.wait_until("one leader", |fleet| fleet.leader("classic") == Some(new));
    // What it wished to fetch before it was stopped, it does not.
    assert!(fleet.calls("classic") <= calls + 1);
    readers.stop().assert_always_fresh(1);
    // It could not take away what ended while it was stopped; it never showed a token that was replaced.
    let found = files.stop();
    assert_eq!(found.partial + found.errors, 0, "{found:?}");
    fleet.assert_quiet_logs();
}

#[test]
fn leader_that_is_cut_off_from_the_engine_fetches_no_classic_token() {
    needs_root!();
    let fleet = TestFleet::start(LIFETIME);
    let old = fleet.find_leader("classic");
    let readers = fleet.read_all(&others(old));
    let files = fleet.read_files(&[old]);
    fleet.cut_from_engine(old, true);
    let (new, took) = fleet.wait_for_other_leader("classic", old);
    assert!(took < TAKEOVER_LIMIT, "{took:?}");
    fleet.wait_until("that it is told", |fleet| {
        let view = fleet.hosts[old].fleet("classic");
        view["engine"] == "away" && view["leader"] == false
    });
    let token = fleet.hosts[new].token("classic").unwrap();
    fleet.wait_for_rotation("classic", &token, &others(old));
    // Alone it serves what it has until its end, and then nothing, under classic; the others it may fetch itself.
    fleet.wait_until("its end", |fleet| {
        fleet.hosts[old].token("classic").is_none()
    });
    fleet.wait_for_tokens(old, &["stable", "corp"]);
    fleet.cut_from_engine(old, false);
    fleet.wait_until("the same token", |fleet| {
        let token = fleet.hosts[new].token("classic");
        token.is_some() && fleet.hosts[old].token("classic") == token
    });
    readers.stop().assert_always_fresh(1);
    assert_not_misled(&files.stop());
    fleet.assert_quiet_logs();
}

#[test]
fn leader_that_is_cut_off_from_the_platform_leaves_the_lead_to_another() {
    needs_root!();
    let fleet = TestFleet::start(LIFETIME);
    let old = fleet.find_leader("classic");
    let readers = fleet.read_all(&[0, 1, 2]);
    fleet.cut_from_platform(old, true);
    let began = Instant::now();
    while began.elapsed() < 3 * LIFETIME {
        let token = fleet.hosts[old].token("classic").unwrap();
        fleet.wait_for_rotation("classic", &token, &[0, 1, 2]);
    }
    assert_ne!(fleet.find_leader("classic"), old);
    // Even on the host that does not reach the platform.
    readers.stop().assert_always_fresh(3);
    fleet.cut_from_platform(old, false);
    fleet.assert_quiet_logs();
}

#[test]
fn leader_without_any_connection_is_followed_by_another() {
    needs_root!();
    let fleet = TestFleet::start(LIFETIME);
    let old = fleet.find_leader("classic");
    let readers = fleet.read_all(&others(old));
    let files = fleet.read_files(&[old]);
    fleet.hosts[old].machine.plug(false);
    let (new, took) = fleet.wait_for_other_leader("classic", old);
    assert!(took < TAKEOVER_LIMIT, "{took:?}");
    let token = fleet.hosts[new].token("classic").unwrap();
    fleet.wait_for_rotation("classic", &token, &others(old));
    fleet.hosts[old].machine.plug(true);
    fleet.wait_until("the same token", |fleet| {
        fleet.hosts[old].token("classic") == fleet.hosts[new].token("classic")
    });
    readers.stop().assert_always_fresh(1);
    assert_not_misled(&files.stop());
    fleet.assert_quiet_logs();
}

#[test]
fn doubt_on_a_follower_reaches_the_leader() {
    needs_root!();
    let fleet = TestFleet::start(Duration::from_secs(600));
    let follower = others(fleet.find_leader("stable"))[0];
    let dead = fleet.hosts[follower].token("stable").unwrap();
    let kill = wxtokend::sim::Kill::End;
    fleet.platform.with(|world, now| {
        world.kill(now, "wx00000000000000a1", "access_token", kill);
    });
    let body = format!("{{\"bad_token\":\"{dead}\",\"errcode\":40001}}");
    let answer = fleet.hosts[follower].post("/v1/accounts/stable/refresh", &body);
    assert_eq!(answer["outcome"], "refreshed", "{answer}");
    let token = answer["access_token"].as_str().unwrap();
    assert!(fleet.is_alive(token));
    fleet.wait_for_rotation("stable", &dead, &[0, 1, 2]);
}
