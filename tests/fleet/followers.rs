//! A host that only follows: without an AppSecret and without a way to the platform.

use crate::cluster::Door;
use crate::hosts::{SECRET, TestFleet, assert_not_misled};
use crate::root::needs_root;
use std::time::Duration;
use wxtokend::sim::Kill;

/// A host whose `role` is follower, and that knows no secret.
fn follower(config: String) -> String {
    let mut changed = config.replacen("[fleet]\n", "[fleet]\nrole = \"follower\"\n", 1);
    drop(config);
    while let Some(at) = changed.find("secret_file") {
        let end = changed[at..].find('\n').unwrap();
        changed.replace_range(at..=at + end, "");
    }
    changed
}

/// A host that may lead, and one that follows.
fn start(lifetime: Duration) -> TestFleet {
    let mut fleet = TestFleet::prepare_with(lifetime, 2, 1, Door::Open);
    fleet.cut_from_platform(1, true);
    fleet.start_host(0);
    fleet.start_changed_host(1, follower);
    for name in ["classic", "stable", "corp"] {
        fleet.wait_for_rotation(name, "", &[0, 1]);
        fleet.wait_until("a leader", |fleet| fleet.leader(name) == Some(0));
    }
    fleet
}

#[test]
fn follower_publishes_what_the_leader_fetches() {
    needs_root!();
    let fleet = start(Duration::from_secs(40));
    let readers = fleet.read_all(&[0, 1]);
    for name in ["classic", "stable"] {
        let token = fleet.wait_for_rotation(name, "", &[0, 1]);
        fleet.wait_for_rotation(name, &token, &[0, 1]);
    }
    readers.stop().assert_always_fresh(1);
    fleet.wait_for_run(1, &["status"], 0, "host0");
    fleet.wait_until("the leader's name", |fleet| {
        let view = fleet.hosts[1].fleet("classic");
        (&view["leader"], &view["host"]) == (&false.into(), &"host0".into())
    });
    let words = "fleet: this host only follows: no call to the platform is tried";
    fleet.wait_for_run(1, &["check", "--online"], 0, words);
    let host = &fleet.hosts[1];
    let words = "this host is a follower in its fleet and never calls the platform";
    let hint = "ask on the host that leads; `wxtokend status` names it";
    for arguments in [
        &["quota", "classic"][..],
        &["quota", "classic", "--clear", "--yes"],
    ] {
        let (status, text) = host.run(arguments);
        let is_told = text.contains(words) && text.contains(hint);
        assert!(status == 77 && is_told, "{status}: {text}");
    }
    assert_eq!(
        host.get("/v1/accounts/classic/quota")["error"],
        "not_allowed"
    );
    fleet.wait_for_run(0, &["quota", "classic"], 0, "");
    fleet.assert_quiet_logs();
}

#[test]
fn refresh_on_a_follower_is_done_by_the_leader() {
    needs_root!();
    let fleet = start(Duration::from_secs(600));
    for (name, id) in [
        ("stable", "wx00000000000000a1"),
        ("classic", "wx00000000000000c1"),
    ] {
        let dead = fleet.wait_for_rotation(name, "", &[0, 1]);
        let text = fleet.wait_for_run(1, &["refresh", name], 0, "");
        assert_eq!(fleet.wait_for_rotation(name, "", &[0, 1]), dead, "{text}");
        fleet.platform.with(|world, now| {
            world.kill(now, id, "access_token", Kill::End);
        });
        // The verdict of a moment ago stands for half a minute.
        fleet.wait_until("another look", |fleet| {
            fleet.hosts[1].run(&["refresh", name]);
            fleet.hosts[1]
                .token(name)
                .is_some_and(|token| token != dead)
        });
        let token = fleet.wait_for_rotation(name, &dead, &[0, 1]);
        assert!(fleet.is_alive(&token));
    }
    fleet.assert_quiet_logs();
}

#[test]
fn value_that_lasts_is_fetched_by_the_leader_for_an_app_of_a_follower() {
    needs_root!();
    let fleet = start(Duration::from_secs(600));
    let corp = "ww00000000000000b1";
    fleet
        .platform
        .with(|world, _| world.account(corp, SECRET).gettoken_mints = true);
    let calls = fleet.calls("corp");
    let ask = |seconds: u64| {
        let target = format!("/v1/accounts/corp/token?min_valid={seconds}");
        fleet.hosts[1].get(&target)
    };
    let first = ask(1);
    fleet.wait_until("a part of its life", |_| {
        ask(1)["expires_in"].as_u64().unwrap() < 570
    });
    assert_eq!(fleet.calls("corp"), calls);
    let second = ask(575);
    assert_eq!(fleet.calls("corp"), calls + 1, "{second}\n{}", fleet.logs());
    assert!(second["expires_in"].as_u64().unwrap() >= 575, "{second}");
    assert_ne!(second["access_token"], first["access_token"]);
    // Longer than any lives: the leader refuses, and what stands is handed out without a wait for the time to be up.
    let watch = fleet.stopwatch();
    let third = ask(7200);
    let took = watch.elapsed();
    assert_eq!(third["access_token"], second["access_token"]);
    assert!(took < Duration::from_secs(14), "{took:?}");
    assert_eq!(fleet.calls("corp"), calls + 1);
    fleet.assert_quiet_logs();
}

#[test]
fn follower_without_etcd_serves_until_the_end() {
    needs_root!();
    let mut fleet = start(Duration::from_secs(60));
    let files = fleet.read_files(&[1]);
    // One with most of its life left.
    let before = fleet.wait_for_rotation("stable", "", &[0, 1]);
    fleet.wait_for_rotation("stable", &before, &[0, 1]);
    fleet.cluster.kill(0);
    fleet.wait_until("that it is told", |fleet| {
        fleet.hosts[1].fleet("stable")["engine"] == "away"
    });
    fleet.wait_until("the same in the status", |fleet| {
        fleet.hosts[1].run(&["status"]).1.contains("etcd away")
    });
    // It begins anew, and knows what it has stored.
    let token = fleet.hosts[1].token("stable").unwrap();
    fleet.hosts[1].terminate();
    fleet.start_changed_host(1, follower);
    assert_eq!(fleet.hosts[1].token("stable"), Some(token));
    let answer = fleet.hosts[1].run(&["refresh", "stable"]);
    assert_eq!(answer.0, 75, "nobody can be asked: {}", answer.1);
    for name in ["classic", "stable", "corp"] {
        fleet.wait_until("the end", |fleet| fleet.hosts[1].token(name).is_none());
    }
    fleet.wait_until("the same in the status", |fleet| {
        let (status, text) = fleet.hosts[1].run(&["status"]);
        status == 1 && !text.contains("fresh")
    });
    fleet.wait_for_tokens(0, &["stable", "corp"]);
    fleet.cluster.start_again();
    for name in ["classic", "stable", "corp"] {
        fleet.wait_for_rotation(name, "", &[0, 1]);
    }
    assert_not_misled(&files.stop());
    fleet.assert_quiet_logs();
}
