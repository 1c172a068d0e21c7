//! Messages to a service manager, and signals.

use crate::common::{Message, PATIENCE, RunningDaemon, wait_until};
use crate::fixture::{SECRET, SHOP, account, appid, bench, in_file, platform, shop, state};
use rustix::process::Signal;
use std::net::IpAddr;
use std::time::{Duration, Instant};
use wxtokend::sim::{Effect, Endpoint, Kill, SimFault};

/// Waits until the last `STATUS=` says something.
fn waits_for_status(daemon: &RunningDaemon<'_>, bench: &crate::common::Bench, what: &str) {
    daemon.wait_until(what, || {
        bench
            .manager
            .status()
            .is_some_and(|status| status.starts_with(what))
    });
}

#[test]
fn daemon_says_when_it_is_ready_reloading_and_stopping() {
    let (bench, platform) = (bench(), platform(|_| ()));
    bench.configure(&platform, &shop(""));
    let daemon = bench.start();
    bench.manager.with(|messages| {
        let ready = messages
            .iter()
            .position(|message| message.has("READY=1"))
            .unwrap();
        let status = "STATUS=1/1 accounts fresh; next refresh shop in ";
        assert!(
            messages[ready]
                .text
                .lines()
                .any(|line| line.starts_with(status))
        );
    });
    let monotonic = || rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let micros = |time: rustix::time::Timespec| time.tv_sec * 1_000_000 + time.tv_nsec / 1000;
    let began = micros(monotonic());
    daemon.reload();
    bench.manager.with(|messages| {
        let is_reloading = |message: &Message| message.has("RELOADING=1");
        let reloading = messages.iter().find(|message| is_reloading(message));
        let reloading = reloading.unwrap();
        let at = reloading
            .text
            .lines()
            .find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
        let at: i64 = at.unwrap().parse().unwrap();
        assert!((began..=micros(monotonic())).contains(&at));
        // And ready again once.
        let after = messages.iter().skip_while(|message| !is_reloading(message));
        assert_eq!(after.filter(|message| message.has("READY=1")).count(), 1);
    });
    daemon.terminate();
    wait_until("STOPPING=1", PATIENCE, String::new, || {
        bench.manager.said_since(0, "STOPPING=1")
    });
}

#[test]
fn the_status_line_tells_what_is_wrong_and_when_it_is_over() {
    let bench = bench();
    let ip: IpAddr = "203.0.113.7".parse().unwrap();
    let platform = platform(|world| {
        let blog = world.account(&appid(1), SECRET);
        (blog.whitelist, blog.seen_as) = (Some(Vec::new()), Some(ip));
    });
    bench.configure(&platform, &(shop("") + &account("blog", &appid(1), "")));
    let daemon = bench.start();
    let expected =
        "1/2 accounts fresh; blog: 40164 IP 203.0.113.7 is not whitelisted; next refresh ";
    waits_for_status(&daemon, &bench, expected);
    platform.with(|world, _| world.account(&appid(1), SECRET).whitelist = None);
    // An administrator who has mended something needs not wait.
    daemon.signal(Signal::USR1);
    waits_for_status(&daemon, &bench, "2/2 accounts fresh; next refresh ");
    assert_eq!(state(&bench, "blog"), "fresh");
    // For the first time.
    daemon.wait_until("the line that says so", || {
        daemon.log().contains("INFO  blog: fresh now")
    });
    daemon.terminate();
}

#[test]
fn sigusr1_has_every_token_looked_at() {
    let bench = bench();
    let platform = platform(|world| {
        world.account(&appid(1), SECRET);
    });
    bench.configure(
        &platform,
        &(shop("") + &account("blog", &appid(1), "method = \"classic\"")),
    );
    let daemon = bench.start();
    let (one, other) = (
        in_file(&bench, "shop").unwrap(),
        in_file(&bench, "blog").unwrap(),
    );
    platform.with(|world, now| world.kill(now, &appid(1), "access_token", Kill::End));
    daemon.signal(Signal::USR1);
    daemon.wait_until("another token", || {
        in_file(&bench, "blog").is_some_and(|token| token != other)
    });
    let looked = |n| platform.with(|world, _| world.calls(&appid(n), Endpoint::ApiDomainIp));
    daemon.wait_until("a look at both", || looked(0) > 0 && looked(1) > 0);
    assert_eq!(
        in_file(&bench, "shop"),
        Some(one),
        "a token that lives is kept"
    );
    daemon.terminate();
}

#[test]
fn signs_of_life_come_at_half_the_interval_while_it_lives() {
    let (bench, platform) = (bench(), platform(|_| ()));
    bench.configure(&platform, &shop(""));
    let daemon = bench.spawn_with(|command| {
        command.env("WATCHDOG_USEC", "1000000");
    });
    let beats = || -> Vec<Instant> {
        bench.manager.with(|messages| {
            let beats = messages.iter().filter(|message| message.has("WATCHDOG=1"));
            beats.map(|message| message.at).collect()
        })
    };
    daemon.wait_until("signs of life", || beats().len() > 9);
    let beats_so_far = beats();
    let pairs = beats_so_far.windows(2);
    let mut gaps: Vec<_> = pairs.map(|pair| (pair[1] - pair[0]).as_millis()).collect();
    gaps.sort_unstable();
    // That in the middle: a busy host is late with some.
    let gap = gaps[gaps.len() / 2];
    assert!((400..900).contains(&gap), "{gaps:?} ms");
    daemon.signal(Signal::STOP);
    // A beat may be on its way; after that there is none for as long as the manager waits.
    let mut seen = (beats().len(), Instant::now());
    wait_until("silence", PATIENCE, String::new, || {
        if beats().len() > seen.0 {
            seen = (beats().len(), Instant::now());
        }
        seen.1.elapsed() > Duration::from_millis(1100)
    });
    daemon.signal(Signal::CONT);
    daemon.wait_until("signs of life again", || beats().len() > seen.0);
    daemon.terminate();
}

#[test]
fn signs_of_life_go_on_while_the_platform_hangs() {
    let (bench, platform) = (bench(), platform(|_| ()));
    bench.configure(&platform, &shop(""));
    platform.with(|world, _| world.set_fault(SimFault::from(Effect::Hang)));
    let daemon = bench.spawn_with(|command| {
        command.env("WATCHDOG_USEC", "400000");
    });
    daemon.wait_until("signs of life", || {
        bench.manager.with(|messages| {
            messages
                .iter()
                .filter(|message| message.has("WATCHDOG=1"))
                .count()
                >= 5
        })
    });
    platform.with(|world, _| world.heal_all());
    assert_eq!(platform.with(|world, _| world.peak_in_flight(SHOP)), 1);
    daemon.terminate();
}
