//! Tokens that are replaced: readers never meet a dead one, nor none.

use crate::common::{Freshness, ReadFrom, json, raw};
use crate::fixture::{SECRET, SHOP, account, appid, bench, in_file, platform, shop};
use crate::fixture::{is_alive, probe, replaced_early, token_calls};
use std::time::Duration;
use wxtokend::sim::{Kill, SimFault};

const CORP: &str = "ww0123456789abcdef/1000002";

#[test]
fn readers_of_every_kind_of_account_always_hold_a_living_token() {
    let bench = bench();
    let platform = platform(|world| {
        replaced_early(world.account(SHOP, SECRET));
        replaced_early(world.account(&appid(1), SECRET));
        let (corpid, agentid) = CORP.split_once('/').unwrap();
        let mut corp = wxtokend::sim::SimAccount::new(corpid, SECRET);
        corp.agentid = Some(agentid.parse().unwrap());
        // The real one may hand out the same token until it ends; an overlap is what can be kept without a gap.
        replaced_early(&mut corp);
        world.add(corp);
    });
    let text = [
        shop("tickets = [\"jsapi\"]"),
        account("blog", &appid(1), "method = \"classic\"\nrefresh_at = 0.3"),
        account("corp", CORP, "refresh_at = 0.3"),
        "[[accounts.shop.file]]\npath = \"{dir}/run/jsapi.json\"\nvalue = \"jsapi_ticket\"\n"
            .into(),
    ];
    bench.configure(&platform, &text.concat());
    let daemon = bench.start();
    let run = |name: &str| bench.path(&format!("run/{name}"));
    daemon.wait_until("the ticket", || run("jsapi.json").exists());
    let mut sources = vec![ReadFrom::File(run("jsapi.json"), json)];
    for name in ["shop", "blog", "corp"] {
        sources.push(ReadFrom::File(run(&format!("{name}.json")), json));
        sources.push(ReadFrom::Socket(run(&format!("{name}.sock")), raw));
    }
    let readers = Freshness::watch(&platform, &sources);
    for name in ["shop", "blog", "corp"] {
        for _ in 0..3 {
            let held = in_file(&bench, name);
            daemon.wait_until("another token", || in_file(&bench, name) != held);
        }
    }
    readers.wait_for_rounds(2);
    // Four values of each account, and some tickets.
    readers.stop().assert_always_fresh(3 * 4);
    daemon.terminate();
}

/// A daemon that has just got a token which lives for five minutes, and asks for the next within nine seconds.
fn classic(keys: &str) -> String {
    format!(
        "timeout = \"20s\"\n{}",
        shop(&format!("method = \"classic\"\n{keys}"))
    )
}

const SOON: &str = "refresh_at = 0.03";
const LATE: &str = "refresh_at = 0.9";

#[test]
fn a_token_minted_for_a_daemon_that_was_killed_costs_no_reader_a_dead_one() {
    let bench = bench();
    let platform = platform(|world| {
        let account = world.account(SHOP, SECRET);
        account.lifetime(Duration::from_secs(300));
        account.overlap = Some(Duration::from_secs(40));
    });
    bench.configure(&platform, &classic(SOON));
    let daemon = bench.start();
    let old = in_file(&bench, "shop").unwrap();
    // Minted at once, answered too late.
    platform.with(|world, _| world.set_fault(SimFault::delay(Duration::from_secs(60)).times(1)));
    daemon.wait_until("the second call", || token_calls(&platform, SHOP) == 2);
    daemon.kill();
    let readers = Freshness::watch(
        &platform,
        &[ReadFrom::File(bench.path("run/shop.json"), json)],
    );
    assert!(
        probe(&platform, &old).ends_in_ms.unwrap() <= 40_000,
        "it has been replaced"
    );
    bench.configure(&platform, &classic(LATE));
    let daemon = bench.start();
    let replaced = || in_file(&bench, "shop").is_some_and(|token| token != old);
    daemon.wait_until("a token after the one that was lost", replaced);
    readers.wait_for_rounds(2);
    readers.stop().assert_always_fresh(0);
    assert_eq!(token_calls(&platform, SHOP), 3);
    daemon.terminate();
    // All that was asked is answered: nothing is due any more.
    bench.start().terminate();
    assert_eq!(token_calls(&platform, SHOP), 3);
}

#[test]
fn a_token_minted_for_a_daemon_that_stops_is_published() {
    let bench = bench();
    let platform = platform(|world| {
        world
            .account(SHOP, SECRET)
            .lifetime(Duration::from_secs(300));
    });
    bench.configure(&platform, &classic(SOON));
    let daemon = bench.start();
    let old = in_file(&bench, "shop").unwrap();
    platform.with(|world, _| world.set_fault(SimFault::delay(Duration::from_secs(1)).times(1)));
    daemon.wait_until("the second call", || token_calls(&platform, SHOP) == 2);
    assert_eq!(daemon.terminate().code(), Some(0));
    let new = in_file(&bench, "shop").unwrap();
    assert_ne!(new, old);
    assert!(is_alive(&platform, &new));
    bench.configure(&platform, &classic(LATE));
    let daemon = bench.start();
    assert_eq!(in_file(&bench, "shop"), Some(new));
    daemon.terminate();
    assert_eq!(token_calls(&platform, SHOP), 2);
}

#[test]
fn foreign_fetcher_is_noticed() {
    let bench = bench();
    let platform = platform(|world| {
        world.account(SHOP, SECRET).overlap = Some(Duration::from_millis(100));
    });
    bench.configure(&platform, &classic("verify_every = \"1s\""));
    let daemon = bench.start();
    let old = in_file(&bench, "shop").unwrap();
    platform.with(|world, now| world.kill(now, SHOP, "access_token", Kill::SecondFetcher));
    let replaced = || in_file(&bench, "shop").is_some_and(|token| token != old);
    daemon.wait_until("a token in place of the dead one", replaced);
    daemon.log_with(&[
        "somebody else fetches tokens for wx0000000000000000",
        "method = \"stable\"",
    ]);
    daemon.terminate();
}
