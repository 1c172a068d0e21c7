//! A leader has a classic token granted and cannot share it: it is left to whoever leads then.

use crate::cluster::Door;
use crate::hosts::{TestFleet, assert_not_misled};
use crate::root::needs_root;
use std::time::Duration;
use wxtokend::sim::{Endpoint, Kill, SimFault};

const CLASSIC: &str = "wx00000000000000c1";
const TOLD: &str = "a leader before had access_token ";

/// Tells why the platform answers late: the leader is cut off meanwhile.
const ANSWER: Duration = Duration::from_secs(3);
/// A machine that stalls may share the token before the test has cut its leader off.
const ATTEMPTS: usize = 3;

/// A fleet whose leader, which is returned, was cut off from etcd during a call for `classic`, and holds a token that the
/// other host does not know. That one has fetched another.
fn start() -> (TestFleet, usize, [String; 2]) {
    let mut fleet = TestFleet::prepare_with(Duration::from_secs(120), 2, 1, Door::Open);
    for host in [0, 1] {
        fleet.start_changed_host(host, |config| {
            config.replace("timeout = \"3s\"", "timeout = \"5s\"")
        });
    }
    for _ in 0..ATTEMPTS {
        if let Some((old, tokens)) = cut_off_in_a_call(&fleet) {
            return (fleet, old, tokens);
        }
    }
    panic!("it was always shared in time\n{}", fleet.logs());
}

/// Cuts the leader off during its next call. Returns it, its token, and that of the other host; nothing if it was too late
/// for that, and all is as before.
fn cut_off_in_a_call(fleet: &TestFleet) -> Option<(usize, [String; 2])> {
    let before = fleet.wait_for_rotation("classic", "", &[0, 1]);
    let old = fleet.find_leader("classic");
    let late = SimFault::delay(ANSWER)
        .of(CLASSIC)
        .at(Endpoint::Token)
        .after_work()
        .times(1);
    let calls = fleet.platform.with(|world, _| {
        world.set_fault(late);
        world.calls(CLASSIC, Endpoint::Token)
    });
    fleet.wait_until("a call", |fleet| fleet.calls("classic") > calls);
    fleet.cut_from_engine(old, true);
    let (new, _) = fleet.wait_for_other_leader("classic", old);
    let stored = fleet.wait_for("another token", |fleet| {
        let token = fleet.hosts[new].token("classic");
        token.filter(|token| *token != before)
    });
    let orphan = fleet.hosts[old].token("classic");
    let orphan = orphan.filter(|token| *token != before && *token != stored);
    if orphan.is_none() {
        fleet.cut_from_engine(old, false);
    }
    let orphan = orphan?;
    assert_eq!(fleet.calls("classic"), calls + 2);
    Some((old, [orphan, stored]))
}

#[test]
fn orphan_is_adopted_when_the_stored_token_is_dead() {
    needs_root!();
    let (fleet, old, [orphan, _]) = start();
    let new = 1 - old;
    let calls = fleet.calls("classic");
    fleet.platform.with(|world, now| {
        world.kill(now, CLASSIC, "access_token", Kill::End);
    });
    assert!(fleet.is_alive(&orphan));
    fleet.cut_from_engine(old, false);
    fleet.wait_until("the orphan on both hosts", |fleet| {
        (fleet.hosts.iter()).all(|host| host.token("classic").as_ref() == Some(&orphan))
    });
    assert_eq!(fleet.hosts[new].told(TOLD).len(), 1, "{}", fleet.logs());
    fleet.wait_until("the same leader", |fleet| {
        fleet.leader("classic") == Some(new)
    });
    assert_eq!(fleet.calls("classic"), calls, "{}", fleet.logs());
    assert_eq!(
        fleet.cluster.value("/wxtokend/accounts/classic/orphan"),
        None
    );
    // It goes on from there.
    let next = fleet.wait_for_rotation("classic", &orphan, &[0, 1]);
    assert!(fleet.is_alive(&next));
    fleet.assert_quiet_logs();
}

#[test]
fn orphan_is_left_when_the_stored_token_lives() {
    needs_root!();
    let (fleet, old, [_, stored]) = start();
    let new = 1 - old;
    let calls = fleet.calls("classic");
    let files = fleet.read_files(&[0, 1]);
    fleet.cut_from_engine(old, false);
    fleet.wait_until("that it is looked at", |fleet| {
        !fleet.hosts[new].told(TOLD).is_empty()
    });
    fleet.wait_until("that it is gone", |fleet| {
        let orphan = fleet.cluster.value("/wxtokend/accounts/classic/orphan");
        orphan.is_none()
    });
    assert_eq!(fleet.wait_for_rotation("classic", "", &[0, 1]), stored);
    assert_eq!(fleet.calls("classic"), calls, "{}", fleet.logs());
    assert_not_misled(&files.stop());
    fleet.assert_quiet_logs();
}
