//! A prefix in etcd that is of another fleet, of another app, or of another version is told and harmless.

use crate::cluster::Door;
use crate::hosts::{TestFleet, assert_not_misled};
use crate::root::needs_root;
use serde_json::Value as Json;
use std::time::Duration;

const RECORD: &str = "/wxtokend/accounts/classic/record";
const CHARTER: &str = "/wxtokend/fleet";
const CLASSIC: &str = "wx00000000000000c1";
const OTHER: &str = "wx00000000000000c9";

/// Starts the second host with another configuration, and waits until it says something, which it says once.
fn assert_told(fleet: &mut TestFleet, from: &str, to: &str, told: &str) {
    fleet.hosts[1].terminate();
    fleet.start_changed_host(1, |config| config.replace(from, to));
    fleet.wait_until(told, |fleet| warnings(fleet, 1, told) > 0);
    assert_eq!(warnings(fleet, 1, told), 1, "{}", fleet.hosts[1].log());
}

/// The warnings and errors that hold some words.
fn warnings(fleet: &TestFleet, host: usize, words: &str) -> usize {
    let lines = fleet.hosts[host].told(words);
    let is_warning = |line: &&String| !line.contains(" INFO ");
    lines.iter().filter(is_warning).count()
}

/// The first host goes on as if nothing were.
fn assert_harmless(fleet: &TestFleet) {
    let token = fleet.hosts[0].token("classic").unwrap();
    fleet.wait_for_rotation("classic", &token, &[0]);
    fleet.wait_until("the same leader", |fleet| {
        fleet.leader("classic") == Some(0)
    });
}

fn change(fleet: &TestFleet, key: &str, change: impl FnOnce(&mut Json)) {
    let text = fleet.cluster.value(key).unwrap();
    let mut json = serde_json::from_str(&text).unwrap();
    change(&mut json);
    fleet.cluster.put(key, &json.to_string());
}

/// Two hosts, of which the first leads, and a member of etcd.
fn start() -> TestFleet {
    let mut fleet = TestFleet::prepare_with(Duration::from_secs(40), 2, 1, Door::Open);
    fleet.start_host(0);
    fleet.wait_for_tokens(0, &["classic", "stable", "corp"]);
    fleet.start_host(1);
    fleet.wait_for_rotation("classic", "", &[0, 1]);
    fleet
}

#[test]
fn prefix_of_others_and_app_of_others_are_told_and_left_alone() {
    needs_root!();
    let mut fleet = start();
    let readers = fleet.read_all(&[0]);

    let told = format!(
        "in the fleet this name is that of {CLASSIC}, another app: give the account the same name and id on all hosts, or each fleet a `prefix` of its own"
    );
    assert_told(&mut fleet, CLASSIC, OTHER, &told);
    assert_harmless(&fleet);
    assert_eq!(fleet.hosts[1].token("classic"), None);
    // Its other accounts take part.
    fleet.wait_for_rotation("stable", "", &[0, 1]);

    // Kubernetes keeps its own below this prefix.
    fleet.cluster.put("/registry/pods/web", "k8s");
    let told = "below `prefix` /registry/ etcd holds what is not of a fleet of wxtokend, such as /registry/pods/web: choose a prefix of its own for the fleet";
    let section = "[fleet]\nprefix = \"/registry\"\n";
    assert_told(&mut fleet, "[fleet]\n", section, told);
    assert_harmless(&fleet);
    fleet.wait_for_check(1, 69, told);
    assert_eq!(fleet.cluster.keys("/registry/"), ["/registry/pods/web"]);
    readers.stop().assert_always_fresh(2);
    fleet.assert_quiet_logs();
}

#[test]
fn record_of_a_later_version_is_told_and_left_alone() {
    needs_root!();
    let mut fleet = start();

    // A host of a later version led last, and is gone.
    fleet.hosts[1].terminate();
    fleet.hosts[0].terminate();
    change(&fleet, RECORD, |record| record["version"] = 2.into());
    let record = fleet.cluster.value(RECORD);
    let calls = fleet.calls("classic");
    let told = "a later version of wxtokend wrote the fleet's record (format 2, this one knows 1): upgrade this host";
    for host in [0, 1] {
        fleet.start_host(host);
    }
    let sockets = fleet.read_sockets(&[0, 1]);
    for host in [0, 1] {
        fleet.wait_until("that it is told", |fleet| warnings(fleet, host, told) > 0);
    }
    fleet.wait_until("the end of the token", |fleet| {
        fleet
            .hosts
            .iter()
            .all(|host| host.token("classic").is_none())
    });
    assert_eq!(fleet.calls("classic"), calls);
    assert_eq!(fleet.cluster.value(RECORD), record);
    assert_eq!(fleet.leader("classic"), None);
    fleet.wait_for_rotation("stable", "", &[0, 1]);
    for host in [0, 1] {
        assert_eq!(
            warnings(&fleet, host, told),
            1,
            "{}",
            fleet.hosts[host].log()
        );
    }

    // Somebody writes what nobody can read: it is replaced.
    fleet.cluster.put(RECORD, "{}");
    let token = fleet.wait_for_rotation("classic", "", &[0, 1]);
    fleet.wait_for_rotation("classic", &token, &[0, 1]);

    // The whole fleet is of a later version.
    change(&fleet, CHARTER, |charter| charter["version"] = 2.into());
    let told = "the fleet at /wxtokend/ is of a later version of wxtokend (format 2, this one knows 1): upgrade this host";
    for host in [0, 1] {
        fleet.wait_until("that it is told", |fleet| {
            !fleet.hosts[host].told(told).is_empty()
        });
        assert_eq!(warnings(&fleet, host, "it serves what it has"), 1);
        fleet.wait_for_check(host, 69, told);
    }
    let calls = fleet.calls("classic");
    fleet.wait_until("the end of the token", |fleet| {
        fleet
            .hosts
            .iter()
            .all(|host| host.token("classic").is_none())
    });
    assert_eq!(fleet.calls("classic"), calls);
    fleet.wait_for_tokens(1, &["stable", "corp"]);
    change(&fleet, CHARTER, |charter| charter["version"] = 1.into());
    fleet.wait_for_rotation("classic", "", &[0, 1]);

    // A host of another version beside them is told of.
    let card =
        "{\"host\":\"web9\",\"version\":\"9.9.9\",\"format\":2,\"may_lead\":true,\"asked\":0}";
    fleet.cluster.put("/wxtokend/hosts/9", card);
    let words = "host web9 runs wxtokend 9.9.9, this one ";
    fleet.wait_until("that it is told", |fleet| {
        fleet.hosts.iter().all(|host| !host.told(words).is_empty())
    });
    fleet.cluster.remove("/wxtokend/hosts/9");
    assert_not_misled(&sockets.stop());
    fleet.assert_quiet_logs();
}
