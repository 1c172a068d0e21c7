//! From the start to the end of a daemon, and the next one.

use crate::common::{FairTime, RunningDaemon, call, read_json};
use crate::fixture::{
    SHOP, bench, in_file, in_socket, is_alive, names, platform, probe, shop, state, token_calls,
};
use inotify::{Inotify, WatchMask};
use rustix::process::Signal;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};
use wxtokend::sim::{Effect, Endpoint, SimFault};

fn code(daemon: &mut RunningDaemon<'_>) -> Option<i32> {
    daemon.wait().code()
}

#[test]
fn daemon_publishes_and_stops() {
    let (bench, platform) = (bench(), platform(|_| ()));
    bench.configure(&platform, &shop(""));
    let daemon = bench.start();
    let token = in_file(&bench, "shop").unwrap();
    assert_eq!(in_socket(&bench, "shop"), token);
    let left = probe(&platform, &token).ends_in_ms.unwrap();
    assert!(left > 7_100_000, "{left}");
    let path = bench.path("run/shop.json");
    let held = read_json(&path);
    let expires = held["expire_time"].as_i64().unwrap();
    let obtained = held["obtained_time"].as_i64().unwrap();
    let line = format!(
        "{{\"access_token\":\"{token}\",\"expire_time\":{expires},\"obtained_time\":{obtained},\"account\":\"shop\"}}"
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), line);
    assert!((7199..=7200).contains(&(expires - obtained)));
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
    assert_eq!(token_calls(&platform, SHOP), 1);
    assert_eq!(daemon.terminate().code(), Some(0));
    assert_eq!(in_file(&bench, "shop"), Some(token), "files stay");
}

#[test]
fn without_a_service_manager_its_sockets_go_when_it_stops() {
    let (bench, platform) = (bench(), platform(|_| ()));
    bench.configure(&platform, &shop(""));
    // It waits for the directory for a moment only: the next start replaces a socket that stays.
    let removes_all = || {
        let mut daemon = bench.spawn_with(|command| {
            command.env_remove("NOTIFY_SOCKET");
        });
        daemon.wait_until("an answer", || {
            call(&bench.socket(), "GET", "/healthz", "").is_ok()
                && in_file(&bench, "shop").is_some()
        });
        daemon.signal(Signal::INT);
        assert_eq!(code(&mut daemon), Some(0));
        names(&bench.path("run")) == ["shop.json"]
    };
    assert!(
        (0..3).any(|_| removes_all()),
        "{:?}",
        names(&bench.path("run"))
    );
}

#[test]
fn a_restart_costs_no_call_even_after_a_crash() {
    let (bench, platform) = (bench(), platform(|_| ()));
    bench.configure(&platform, &shop("tickets = [\"jsapi\"]"));
    let daemon = bench.start();
    daemon.wait_until("everything", || state(&bench, "shop") == "fresh");
    let token = in_file(&bench, "shop").unwrap();
    daemon.kill();
    // What is there at READY was not fetched: there is nobody to fetch it from.
    platform.stop();
    fs::remove_file(bench.path("run/shop.json")).unwrap();
    let daemon = bench.start();
    assert_eq!(in_file(&bench, "shop").as_ref(), Some(&token));
    assert_eq!(in_socket(&bench, "shop"), token);
    daemon.terminate();
    platform.restart().unwrap();
    let daemon = bench.start();
    assert_eq!(in_file(&bench, "shop"), Some(token));
    daemon.terminate();
    assert_eq!(token_calls(&platform, SHOP), 1);
    let tickets = platform.with(|world, _| world.calls(SHOP, Endpoint::GetTicket));
    assert_eq!(tickets, 1);
}

#[test]
fn leftovers_of_a_killed_daemon_are_removed() {
    let (bench, platform) = (bench(), platform(|_| ()));
    bench.configure(&platform, &shop(""));
    let mut events = Inotify::init().unwrap();
    let run = bench.path("run");
    events.watches().add(&run, WatchMask::CREATE).unwrap();
    let daemon = bench.start();
    daemon.kill();
    let mut buffer = [0; 4096];
    let created = events.read_events(&mut buffer).unwrap();
    let temporaries: Vec<String> = created
        .filter_map(|event| Some(event.name?.to_str()?.to_owned()))
        .filter(|name| name.starts_with(".wxtokend-"))
        .collect();
    assert_eq!(temporaries.len(), 3, "of the file, the socket and the API");
    for name in &temporaries {
        fs::write(run.join(name), "half").unwrap();
    }
    fs::write(run.join(".wxtokend-of-somebody-else"), "").unwrap();
    bench.start().terminate();
    let left = names(&run);
    assert!(
        temporaries.iter().all(|name| !left.contains(name)),
        "{left:?}"
    );
    assert!(
        left.contains(&".wxtokend-of-somebody-else".into()),
        "{left:?}"
    );
}

#[test]
fn a_second_instance_is_turned_away() {
    let (bench, platform) = (bench(), platform(|_| ()));
    bench.configure(&platform, &shop(""));
    let first = bench.start();
    let mut second = bench.spawn();
    assert_eq!(code(&mut second), Some(75));
    assert!(
        second
            .log()
            .contains("held by another instance: stop that one")
    );
    assert!(!second.said("READY=1"));
    assert!(!in_socket(&bench, "shop").is_empty(), "the first goes on");
    assert_eq!(state(&bench, "shop"), "fresh");
    first.terminate();
}

#[test]
fn a_bad_configuration_is_not_run() {
    let bench = bench();
    let mut daemon = bench.spawn();
    assert_eq!(code(&mut daemon), Some(78), "there is none");
    bench.write_config("[daemon]\nlog_levl = 1\n\n[accounts.shop]\nappid = \"wx1\"\n");
    let mut daemon = bench.spawn();
    assert_eq!(code(&mut daemon), Some(78));
    let log = daemon.log();
    for fault in ["config.toml:2:1: ", "config.toml:5:9: ", "config.toml:4:"] {
        assert!(log.contains(fault), "{fault}: {log}");
    }
    assert!(!daemon.said("READY=1"));
    assert!(names(&bench.path("run")).is_empty());
}

#[test]
fn a_platform_that_refuses_connections_at_the_start_is_waited_for() {
    let (bench, platform) = (bench(), platform(|_| ()));
    bench.configure(&platform, &shop(""));
    platform.stop();
    let time = FairTime::start();
    let daemon = bench.start();
    // Tried once is enough.
    time.assert_within(Duration::from_secs(9));
    assert_eq!(in_file(&bench, "shop"), None);
    assert_eq!(in_socket(&bench, "shop"), "");
    assert_eq!(state(&bench, "shop"), "expired");
    platform.restart().unwrap();
    daemon.wait_until("a token", || in_file(&bench, "shop").is_some());
    daemon.wait_until("fresh", || state(&bench, "shop") == "fresh");
    assert!(is_alive(&platform, &in_socket(&bench, "shop")));
}

#[test]
fn a_platform_that_is_silent_at_the_start_holds_it_up_for_ten_seconds() {
    let (bench, platform) = (bench(), platform(|_| ()));
    bench.configure(&platform, &format!("timeout = \"60s\"\n{}", shop("")));
    platform.with(|world, _| world.set_fault(Effect::Hang.into()));
    let (began, time) = (Instant::now(), FairTime::start());
    let daemon = bench.spawn();
    daemon.wait_until("READY=1", || daemon.said("READY=1"));
    time.assert_within(Duration::from_secs(13));
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(10), "{took:?}");
    assert_eq!(in_file(&bench, "shop"), None);
    assert_eq!(in_socket(&bench, "shop"), "");
    let time = FairTime::start();
    assert_eq!(daemon.terminate().code(), Some(0));
    time.assert_within(Duration::from_secs(6));
}

#[test]
fn a_stop_in_the_middle_of_a_call_waits_for_the_answer() {
    for method in ["stable", "classic"] {
        let (bench, platform) = (bench(), platform(|_| ()));
        let keys = format!("method = \"{method}\"\ntickets = [\"jsapi\"]");
        bench.configure(&platform, &shop(&keys));
        let delay = Duration::from_millis(1500);
        platform.with(|world, _| world.set_fault(SimFault::delay(delay)));
        let daemon = bench.spawn();
        daemon.wait_until("a call", || token_calls(&platform, SHOP) == 1);
        // Before the start is over, there is nothing to end in an orderly way.
        daemon.wait_until("the end of the start", || {
            call(&bench.socket(), "GET", "/healthz", "").is_ok()
        });
        assert_eq!(daemon.terminate().code(), Some(0));
        let token = in_file(&bench, "shop").expect("the answer was waited for");
        let daemon = bench.start();
        assert_eq!(in_file(&bench, "shop"), Some(token));
        assert_eq!(token_calls(&platform, SHOP), 1, "{method}");
        daemon.terminate();
    }
}
