//! A new key for the values of a fleet, host by host, while apps read.

use crate::cluster::Door;
use crate::hosts::{KEY, TestFleet};
use crate::root::needs_root;
use std::fmt::Write as _;
use std::time::Duration;
use wxtokend::sim::Kill;

/// Nothing is fetched anew unless somebody wants it.
const LIFETIME: Duration = Duration::from_secs(900);
const RECORD: &str = "/wxtokend/accounts/classic/record";
const CHARTER: &str = "/wxtokend/fleet";

fn hex(key: &str) -> String {
    let mut digits = String::new();
    for byte in key.bytes() {
        write!(digits, "{byte:02x}").unwrap();
    }
    digits
}

/// The name of the key that the fleet's record is encrypted with.
fn sealed_with(fleet: &TestFleet) -> String {
    let record = fleet.cluster.value(RECORD).unwrap();
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    let sealed = record["sealed"].as_str().unwrap();
    sealed.split(':').next().unwrap().to_owned()
}

fn reload(fleet: &TestFleet, host: usize) {
    let (status, text) = fleet.hosts[host].run(&["reload"]);
    assert_eq!(status, 0, "{text}");
}

/// A dead token is replaced, on every host.
fn assert_in_order(fleet: &TestFleet) {
    for host in [0, 1] {
        fleet.wait_until("the engine", |fleet| {
            fleet.hosts[host].fleet("classic")["engine"] == "ok"
        });
        let dead = fleet.wait_for_rotation("classic", "", &[0, 1]);
        fleet.platform.with(|world, now| {
            world.kill(now, "wx00000000000000c1", "access_token", Kill::End);
        });
        let doubt = format!("{{\"bad_token\":\"{dead}\",\"errcode\":40001}}");
        // The verdict of a moment ago stands for half a minute.
        fleet.wait_until("another look", |fleet| {
            let answer = fleet.hosts[host].post("/v1/accounts/classic/refresh", &doubt);
            ["refreshed", "superseded"].contains(&answer["outcome"].as_str().unwrap_or_default())
        });
        fleet.wait_for_rotation("classic", &dead, &[0, 1]);
    }
}

#[test]
fn key_is_replaced_host_by_host_at_no_call_and_no_reader_notices() {
    needs_root!();
    let mut fleet = TestFleet::prepare_with(LIFETIME, 2, 1, Door::Open);
    for host in [0, 1] {
        fleet.start_host(host);
    }
    for host in [0, 1] {
        fleet.wait_for_tokens(host, &["classic", "stable", "corp"]);
    }
    fleet.find_leader("classic");
    let files = fleet.read_files(&[0, 1]);
    let calls = fleet.calls("classic") + fleet.calls("corp");
    let token = fleet.wait_for_rotation("classic", "", &[0, 1]);
    let old = sealed_with(&fleet);
    let new = hex("another-0123456789abcdef-0123456");
    let both = format!("{new}\n{}\n", hex(KEY));

    // The first host has both: nothing is encrypted with the new one yet, or the other host could not read it.
    fleet.hosts[0].write("key", &both);
    reload(&fleet, 0);
    fleet.wait_until("that it waits for the other", |fleet| {
        let told = fleet.hosts[0].told("when all hosts have it first in `key_file`");
        told.iter().any(|line| line.ends_with("not yet: host1"))
    });
    fleet.wait_for_check(0, 0, "these hosts do not have the new one first: host1");
    assert_eq!(sealed_with(&fleet), old);

    // The last one has it too: the fleet goes over by itself.
    fleet.hosts[1].write("key", &both);
    reload(&fleet, 1);
    fleet.wait_until("the new key", |fleet| sealed_with(fleet) != old);
    let name = sealed_with(&fleet);
    let told = format!("the fleet encrypts with key {name} from now on");
    fleet.wait_until("that both tell it", |fleet| {
        (fleet.hosts.iter()).all(|host| !host.told(&told).is_empty())
    });
    assert!(fleet.cluster.value(CHARTER).unwrap().contains(&name));

    // The old one is removed: by a restart here, by a reload there.
    fleet.hosts[0].terminate();
    fleet.hosts[0].write("new-key", &format!("{new}\n"));
    fleet.start_changed_host(0, |config| config.replace("/key\"", "/new-key\""));
    fleet.hosts[1].write("key", &format!("{new}\n"));
    reload(&fleet, 1);
    fleet.find_leader("classic");
    assert_eq!(fleet.wait_for_rotation("classic", "", &[0, 1]), token);
    assert_eq!(fleet.calls("classic") + fleet.calls("corp"), calls);
    let found = files.stop();
    let bad = (found.dead, found.missing, found.partial, found.errors);
    assert_eq!(bad, (0, 0, 0, 0), "{found:?}");
    assert_in_order(&fleet);

    // A host that has only the old one by now takes no part, and does no harm.
    fleet.hosts[1].write("key", KEY);
    reload(&fleet, 1);
    let told = format!(
        "encrypts with key {name}, and `key_file` here holds {old}: copy that file from a host of the fleet"
    );
    fleet.wait_until("that it is told", |fleet| {
        !fleet.hosts[1].told(&told).is_empty()
    });
    fleet.wait_until("one leader", |fleet| fleet.leader("classic") == Some(0));
    fleet.wait_until("the same in the status", |fleet| {
        fleet.hosts[1].fleet("classic")["engine"] == "away"
    });
    assert!(fleet.hosts[1].token("classic").is_some());
    fleet.wait_for_check(1, 69, &told);
    fleet.hosts[1].write("key", &new);
    reload(&fleet, 1);
    fleet.wait_until("that it takes part", |fleet| {
        fleet.hosts[1].fleet("classic")["engine"] == "ok"
    });
    assert_in_order(&fleet);
    fleet.assert_quiet_logs();
}
