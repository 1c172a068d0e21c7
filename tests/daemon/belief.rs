//! The platform's word on a token, the ends that apps are told, and the pace of calls, tried from outside.

use crate::common::{call, read_json};
use crate::fixture::{
    SHOP, bench, clear_of_midnight, get, in_file, is_alive, platform, probe, shop, token_calls,
    until_midnight,
};
use serde_json::json;
use std::thread;
use std::time::Duration;
use wxtokend::sim::{Effect, Endpoint, Kill, SimFault, SimPlatform};

fn verifications(platform: &SimPlatform) -> u64 {
    platform.with(|world, _| world.calls(SHOP, Endpoint::ApiDomainIp))
}

/// Sets a fault of the calls for a token.
fn fault(platform: &SimPlatform, fault: impl Into<SimFault>) {
    platform.with(|world, _| world.set_fault(fault.into().at(Endpoint::StableToken)));
}

#[test]
fn dead_token_is_not_handed_out_again_after_a_restart() {
    for is_crash in [false, true] {
        let (bench, platform) = (bench(), platform(|_| ()));
        bench.configure(&platform, &shop(""));
        let daemon = bench.start();
        let dead = in_file(&bench, "shop").unwrap();
        daemon.wait_until("a token that has settled", || {
            probe(&platform, &dead).age_ms > Some(10_000)
        });
        platform.with(|world, now| world.kill(now, SHOP, "access_token", Kill::End));
        fault(&platform, Effect::Hang);
        let (socket, body) = (bench.socket(), json!({"bad_token": dead}).to_string());
        let reporter = thread::spawn(move || {
            // The daemon goes before it answers.
            let _ = call(&socket, "POST", "/v1/accounts/shop/refresh", &body);
        });
        daemon.wait_until("the verdict, and a fetch that hangs", || {
            verifications(&platform) > 0 && token_calls(&platform, SHOP) > 1
        });
        if is_crash {
            daemon.kill();
        } else {
            daemon.terminate();
        }
        reporter.join().unwrap();
        let calls = token_calls(&platform, SHOP);
        let daemon = bench.spawn();
        daemon.wait_until("a new fetch", || token_calls(&platform, SHOP) > calls);
        daemon.wait_until("no file", || in_file(&bench, "shop").is_none());
        platform.with(|world, _| world.heal_all());
        daemon.wait_until("another token", || in_file(&bench, "shop").is_some());
        let token = in_file(&bench, "shop").unwrap();
        assert!(token != dead && is_alive(&platform, &token));
        daemon.terminate();
    }
}

#[test]
fn doubted_token_may_be_verified_although_the_budget_is_used_up() {
    clear_of_midnight(Duration::ZERO);
    let (bench, platform) = (bench(), platform(|_| ()));
    bench.configure(&platform, &shop("daily_budget = 1\npoll_every = \"0s\""));
    let daemon = bench.start();
    let body = json!({"bad_token": in_file(&bench, "shop").unwrap()}).to_string();
    let answer = call(&bench.socket(), "POST", "/v1/accounts/shop/refresh", &body).unwrap();
    assert_eq!(answer.status, 503, "{answer:?}");
    let (_, after) = answer.head.split_once("retry-after: ").unwrap();
    let seconds: u64 = after.lines().next().unwrap().parse().unwrap();
    let least = 550.min(until_midnight() - 1);
    assert!(
        (least..=600).contains(&seconds),
        "the last resort: {seconds}"
    );
    daemon.terminate();
}

#[test]
fn first_refusal_after_a_success_is_overcome_within_seconds() {
    let (bench, platform) = (bench(), platform(|_| ()));
    bench.configure(&platform, &shop("poll_every = \"2s\""));
    let daemon = bench.start();
    // A host behind several addresses: only one of them is not on the whitelist.
    fault(&platform, SimFault::from(Effect::errcode(40164)).times(1));
    // The next try but for a first failure is in minutes.
    daemon.log_with(&[
        "WARN  shop: cannot refresh access_token: 40164",
        "INFO  shop: fresh again",
    ]);
    daemon.terminate();
}

#[test]
fn classic_end_that_apps_are_told_is_no_later_than_the_next_fetch_allows() {
    let (bench, platform) = (bench(), platform(|_| ()));
    let api = "[[accounts.shop.file]]\npath = \"{dir}/run/api.json\"\nformat = \"api\"\n";
    bench.configure(&platform, &(shop("method = \"classic\"") + api));
    let daemon = bench.start();
    let file = read_json(&bench.path("run/shop.json"));
    let life = |of: &serde_json::Value| {
        of["expire_time"].as_i64().unwrap() - file["obtained_time"].as_i64().unwrap()
    };
    let told = 3420 + 300..=3600 + 300;
    assert!(told.contains(&life(&file)), "{file}");
    let account = get(&bench, "/v1/accounts/shop").json();
    assert_eq!(account["expire_time"], file["expire_time"]);
    let next = account["next_refresh_time"].as_i64().unwrap();
    let end = account["expire_time"].as_i64().unwrap();
    assert!((299..=300).contains(&(end - next)), "{account}");
    let token = get(&bench, "/v1/accounts/shop/token").json();
    assert!(token["expires_in"].as_i64().unwrap() <= 3900, "{token}");
    let api = read_json(&bench.path("run/api.json"));
    assert!(api["expires_in"].as_i64().unwrap() <= 3900, "{api}");
    // A restart tells the same.
    daemon.kill();
    let daemon = bench.start();
    let after = read_json(&bench.path("run/shop.json"));
    assert_eq!(after["expire_time"], file["expire_time"]);
    daemon.terminate();
}

#[test]
fn daily_quota_is_waited_out_over_restarts_and_may_be_tried_once() {
    clear_of_midnight(Duration::ZERO);
    let (bench, platform) = (bench(), platform(|_| ()));
    bench.configure(&platform, &shop(""));
    fault(&platform, Effect::errcode(45009));
    bench.start().terminate();
    bench.start().kill();
    let daemon = bench.start();
    assert_eq!(token_calls(&platform, SHOP), 1, "not one a start");
    let refresh = || call(&bench.socket(), "POST", "/v1/accounts/shop/refresh", "").unwrap();
    assert_eq!(refresh().status, 503);
    assert_eq!(token_calls(&platform, SHOP), 2, "an administrator may try");
    assert_eq!(refresh().status, 503);
    assert_eq!(token_calls(&platform, SHOP), 2, "once in half a minute");
    bench.configure(&platform, &format!("timeout = \"9s\"\n{}", shop("")));
    daemon.reload();
    daemon.wait_until("another try", || token_calls(&platform, SHOP) > 2);
    let account = get(&bench, "/v1/accounts/shop").json();
    assert_eq!(account["last_error"]["class"], "daily_quota");
    daemon.terminate();
}
