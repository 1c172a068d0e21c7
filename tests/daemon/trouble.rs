//! A platform that fails in every way it knows, and accounts that have trouble of their own.

use crate::common::{Freshness, ReadFrom, json, raw, read_json};
use crate::fixture::{
    SECRET, SHOP, account, appid, bench, get, in_file, in_socket, is_alive, platform, platform_of,
    replaced_early, shop, state, token_calls,
};
use serde_json::json;
use std::fs;
use std::net::IpAddr;
use std::time::Duration;
use wxtokend::sim::{Effect, Endpoint, SimFault};

const BRIEF: &str = "timeout = \"1s\"\n";

#[test]
fn no_fault_costs_a_valid_token() {
    let effects = [
        Effect::HalfBody,
        Effect::Endless,
        Effect::Drip,
        Effect::Huge,
        Effect::LoginPage,
        Effect::Status(500),
        Effect::Status(502),
        Effect::Status(404),
        Effect::Status(429),
        Effect::Redirect,
        Effect::Reset,
        Effect::Hang,
        Effect::Empty,
        Effect::Value(String::new()),
        Effect::Value("two words".into()),
        Effect::Value("\"};alert(1)".into()),
        Effect::Value("<script>".into()),
        Effect::Value("x".repeat(2049)),
        Effect::ExpiresIn(json!(0)),
        Effect::ExpiresIn(json!(-1)),
        Effect::ExpiresIn(json!(86_401)),
        Effect::ExpiresIn(json!(null)),
        Effect::ExpiresIn(json!("soon")),
        Effect::Body("{}".into()),
        Effect::Body("[]".into()),
        Effect::Body("null".into()),
        Effect::Body("{\"access_token\":".into()),
        Effect::errcode(-1),
        Effect::errcode(45033),
        Effect::Echo,
    ];
    let ids: Vec<_> = (1..).map(appid).take(effects.len()).collect();
    let (bench, platform) = (
        bench(),
        platform(|world| {
            for id in &ids {
                world.account(id, SECRET);
            }
        }),
    );
    let accounts = ids.iter().enumerate();
    let accounts = accounts.map(|(n, id)| account(&format!("a{n}"), id, "poll_every = \"1s\""));
    bench.configure(
        &platform,
        &(BRIEF.to_owned() + &accounts.collect::<String>()),
    );
    let daemon = bench.start();
    let name = |n: usize| format!("a{n}");
    // A busy host may take too long for a first call.
    for n in 0..ids.len() {
        daemon.wait_until("a token", || state(&bench, &name(n)) == "fresh");
    }
    let tokens: Vec<_> = (0..ids.len())
        .map(|n| in_file(&bench, &name(n)).unwrap())
        .collect();
    let calls: Vec<_> = ids.iter().map(|id| token_calls(&platform, id)).collect();
    platform.with(|world, _| {
        for (effect, id) in effects.iter().zip(&ids) {
            world.set_fault(SimFault::from(effect.clone()).of(id));
        }
    });
    let mut sources = Vec::new();
    for n in 0..ids.len() {
        sources.push(ReadFrom::File(bench.path(&format!("run/a{n}.json")), json));
        sources.push(ReadFrom::Socket(bench.path(&format!("run/a{n}.sock")), raw));
    }
    let readers = Freshness::watch(&platform, &sources);
    for (n, effect) in effects.iter().enumerate() {
        // The first may have been a good one that was under way.
        let failed = || token_calls(&platform, &ids[n]) >= calls[n] + 3;
        daemon.wait_until(&format!("calls that fail: {effect:?}"), failed);
        daemon.wait_until("degraded", || state(&bench, &name(n)) == "degraded");
        assert_eq!(
            in_file(&bench, &name(n)).as_ref(),
            Some(&tokens[n]),
            "{effect:?}"
        );
        assert_eq!(in_socket(&bench, &name(n)), tokens[n], "{effect:?}");
        let error = &get(&bench, &format!("/v1/accounts/a{n}")).json()["last_error"];
        assert!(
            !error["message"].as_str().unwrap().is_empty(),
            "{effect:?}: {error}"
        );
        assert!(
            !error["hint"].as_str().unwrap().is_empty(),
            "{effect:?}: {error}"
        );
    }
    readers.wait_for_rounds(2);
    readers.stop().assert_always_fresh(0);
    assert_eq!(platform.with(|world, _| world.log().followed_redirects), 0);
    platform.with(|world, _| world.heal_all());
    for n in 0..ids.len() {
        daemon.wait_until("all is well", || state(&bench, &name(n)) == "fresh");
    }
    daemon.terminate();
}

#[test]
fn trouble_of_one_account_is_not_that_of_another() {
    let (hangs, forbidden, nameless) = (appid(1), appid(2), appid(3));
    let ip: IpAddr = "203.0.113.7".parse().unwrap();
    let (bench, platform) = (
        bench(),
        platform(|world| {
            replaced_early(world.account(SHOP, SECRET));
            world.account(&hangs, SECRET);
            let account = world.account(&forbidden, SECRET);
            (account.whitelist, account.seen_as) = (Some(Vec::new()), Some(ip));
            world.account(&nameless, SECRET);
            world.set_fault(SimFault::from(Effect::Hang).of(&appid(1)));
        }),
    );
    let text = [
        // Those that hang leave no more than a place.
        "timeout = \"60s\"\nconcurrency = 4\n",
        &shop(""),
        &account("hangs", &hangs, ""),
        &account("forbidden", &forbidden, ""),
        &account("nameless", &nameless, "").replace("{dir}/secret", "{dir}/missing"),
    ];
    bench.configure(&platform, &text.concat());
    let daemon = bench.spawn();
    let run = bench.path("run");
    daemon.wait_until("a token in both", || {
        !in_socket_if_there(&bench).is_empty() && run.join("shop.json").exists()
    });
    let readers = Freshness::watch(
        &platform,
        &[
            ReadFrom::File(run.join("shop.json"), json),
            ReadFrom::Socket(run.join("shop.sock"), raw),
        ],
    );
    daemon.wait_until("what is wrong with each", || {
        ["forbidden", "nameless"]
            .iter()
            .all(|name| state(&bench, name) == "expired")
    });
    let error =
        |name: &str| get(&bench, &format!("/v1/accounts/{name}")).json()["last_error"].clone();
    let forbidden = error("forbidden");
    assert_eq!(forbidden["errcode"], 40164);
    assert_eq!(forbidden["class"], "operator");
    assert!(
        forbidden["hint"]
            .as_str()
            .unwrap()
            .starts_with("add 203.0.113.7 to the IP whitelist")
    );
    assert!(!forbidden["rid"].as_str().unwrap().is_empty());
    let missing = error("nameless");
    assert!(
        missing["message"]
            .as_str()
            .unwrap()
            .contains("/missing` cannot be read: no such file"),
        "{missing}"
    );
    assert!(
        missing["hint"]
            .as_str()
            .unwrap()
            .contains("no reload is needed"),
        "{missing}"
    );
    assert_eq!(token_calls(&platform, &nameless), 0);
    for _ in 0..2 {
        let held = in_file(&bench, "shop");
        daemon.wait_until("another token", || in_file(&bench, "shop") != held);
    }
    readers.wait_for_rounds(2);
    readers.stop().assert_always_fresh(2);
    // It expires, for want of an answer, if this took longer than a call.
    assert!(["starting", "expired"].contains(&&*state(&bench, "hangs")));
    assert_eq!(in_socket(&bench, "hangs"), "");
    // A secret that appears is used without a reload.
    bench.secret("missing", SECRET);
    daemon.wait_until("the account whose secret was missing", || {
        state(&bench, "nameless") == "fresh"
    });
    daemon.terminate();
}

fn in_socket_if_there(bench: &crate::common::Bench) -> String {
    crate::common::read_socket(&bench.path("run/shop.sock")).unwrap_or_default()
}

#[test]
fn a_reset_secret_needs_no_reload() {
    let (bench, platform) = (bench(), platform(|_| ()));
    bench.configure(&platform, &shop("poll_every = \"1s\""));
    let daemon = bench.start();
    // Both at once, as far as the daemon can see.
    platform.stop();
    bench.secret("secret", "another-0123456789abcdef");
    platform.with(|world, _| {
        world.account(SHOP, "another-0123456789abcdef");
    });
    // A call that read the one before has failed then.
    let written = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    daemon.wait_until("a failure", || {
        let error = get(&bench, "/v1/accounts/shop").json()["last_error"].clone();
        error["time"].as_u64() > Some(written)
    });
    let calls = token_calls(&platform, SHOP);
    platform.restart().unwrap();
    daemon.wait_until("a call with the new one", || {
        token_calls(&platform, SHOP) > calls
    });
    daemon.wait_until("fresh", || state(&bench, "shop") == "fresh");
    let outcomes: Vec<_> = platform.with(|world, _| {
        world
            .log()
            .calls
            .iter()
            .map(|call| call.outcome.clone())
            .collect()
    });
    assert!(
        outcomes.iter().all(|outcome| outcome == "ok"),
        "{outcomes:?}"
    );
    // One that was forgotten is told about, with what to do; the token stays.
    platform.with(|world, _| {
        world.account(SHOP, "yet-another-0123456789abcdef");
    });
    daemon.wait_until("degraded", || state(&bench, "shop") == "degraded");
    let error = get(&bench, "/v1/accounts/shop").json()["last_error"].clone();
    assert_eq!(error["errcode"], 40125);
    assert!(
        error["hint"]
            .as_str()
            .unwrap()
            .contains("no reload is needed"),
        "{error}"
    );
    assert!(is_alive(&platform, &in_file(&bench, "shop").unwrap()));
    bench.secret("secret", "yet-another-0123456789abcdef");
    let refresh = bench.wxtokend(&["refresh", "shop"]).output().unwrap();
    assert_eq!(refresh.status.code(), Some(0), "{refresh:?}");
    daemon.wait_until("fresh", || state(&bench, "shop") == "fresh");
    daemon.terminate();
}

#[test]
fn another_host_serves_while_the_first_is_dead_but_not_when_it_refuses() {
    let (bench, first, second) = (bench(), platform(|_| ()), platform(|_| ()));
    // It keeps its port, so that nobody else listens there.
    let closed = platform(|_| ());
    closed.stop();
    let nobody = closed.address();
    let hosts = |first: &str| {
        bench.configure(&second, &shop("poll_every = \"1s\""));
        let text = fs::read_to_string(bench.path("config.toml")).unwrap();
        let one = format!("hosts = [\"{}\"]", second.base_url());
        let both = format!(
            "timeout = \"4s\"\nhosts = [\"{first}\", \"{}\"]",
            second.base_url()
        );
        bench.write_config(&text.replacen(&one, &both, 1));
    };
    let refused = SimFault::from(Effect::errcode(40164));
    first.with(|world, _| world.set_fault(refused.clone()));
    hosts(&first.base_url());
    let daemon = bench.start();
    assert_eq!(
        (token_calls(&first, SHOP), token_calls(&second, SHOP)),
        (1, 0)
    );
    assert_eq!(state(&bench, "shop"), "expired");
    daemon.terminate();
    let mut served = 0;
    for fault in [
        None,
        Some(Effect::Status(502)),
        Some(Effect::Hang),
        Some(Effect::Reset),
    ] {
        first.with(|world, _| world.heal_all());
        let host = match &fault {
            Some(fault) => {
                first.with(|world, _| world.set_fault(fault.clone().into()));
                first.base_url()
            }
            None => format!("http://{nobody}"),
        };
        hosts(&host);
        // What is stored would do.
        fs::remove_file(bench.path("state/state.jsonl")).unwrap();
        let before = bench.path("log").metadata().unwrap().len();
        let daemon = bench.start();
        served += 1;
        assert!(token_calls(&second, SHOP) >= served, "{fault:?}");
        daemon.wait_until("a token", || in_file(&bench, "shop").is_some());
        let token = in_file(&bench, "shop").unwrap();
        assert!(is_alive(&second, &token), "{fault:?}");
        let log = || daemon.log().split_off(usize::try_from(before).unwrap());
        let said = format!(
            "{} serves, since hosts before it in `hosts` fail",
            second.base_url()
        );
        daemon.wait_until(&said, || log().contains(&said));
        let asked = token_calls(&first, SHOP);
        let calls = token_calls(&second, SHOP);
        daemon.wait_until("more calls", || token_calls(&second, SHOP) >= calls + 2);
        assert_eq!(
            token_calls(&first, SHOP),
            asked,
            "a dead host is left alone for a while"
        );
        served = token_calls(&second, SHOP);
        daemon.terminate();
    }
}

#[test]
fn connections_that_died_unnoticed_are_replaced() {
    let (bench, platform) = (bench(), platform(|_| ()));
    bench.configure(
        &platform,
        &(BRIEF.to_owned() + &shop("poll_every = \"1s\"")),
    );
    let daemon = bench.start();
    let ok = || {
        let log = platform.with(|world, _| world.log().clone());
        log.calls.iter().filter(|call| call.outcome == "ok").count()
    };
    for _ in 0..2 {
        platform.with(|world, _| world.freeze_connections());
        let before = ok();
        daemon.wait_until("a call on a new connection", || ok() > before);
    }
    daemon.terminate();
}

#[test]
fn value_that_expires_during_an_outage_is_removed() {
    let (bench, platform) = (bench(), platform_of(Duration::from_secs(30)));
    let keep = "[[accounts.shop.file]]\npath = \"{dir}/run/kept.json\"\non_expiry = \"keep\"\n";
    bench.configure(&platform, &(shop("") + keep));
    let daemon = bench.start();
    let kept = bench.path("run/kept.json");
    platform.stop();
    // What was answered before is published then.
    daemon.wait_until("a failure", || state(&bench, "shop") == "degraded");
    let token = in_file(&bench, "shop").unwrap();
    let expires = read_json(&kept)["expire_time"].as_i64().unwrap();
    let readers = Freshness::watch(
        &platform,
        &[
            ReadFrom::File(bench.path("run/shop.json"), json),
            ReadFrom::Socket(bench.path("run/shop.sock"), raw),
        ],
    );
    daemon.wait_until("the file is gone", || in_file(&bench, "shop").is_none());
    daemon.wait_until("the socket is empty", || {
        in_socket(&bench, "shop").is_empty()
    });
    readers.wait_for_rounds(10);
    let found = readers.stop();
    assert!(found.missing > 0 && found.empty > 0, "{found:?}");
    assert_eq!(
        (found.dead, found.partial, found.looks_expired, found.errors),
        (0, 0, 0, 0),
        "{found:?}"
    );
    let now = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()).unwrap();
    assert!(
        now + 1 >= expires,
        "not long before its time: {now} {expires}"
    );
    assert_eq!(read_json(&kept)["access_token"], *token);
    daemon.wait_until("expired", || state(&bench, "shop") == "expired");
    let status = bench.wxtokend(&["status"]).output().unwrap();
    assert_eq!(status.status.code(), Some(1));
    let get = bench.wxtokend(&["get", "shop"]).output().unwrap();
    assert_eq!((get.status.code(), get.stdout.len()), (Some(69), 0));
    daemon.log_with(&["ERROR shop: no valid access_token: cannot connect to http://127.0.0.1"]);
    platform.restart().unwrap();
    daemon.wait_until("all is well", || state(&bench, "shop") == "fresh");
    daemon.wait_until("another token", || !in_socket(&bench, "shop").is_empty());
    assert_ne!(read_json(&kept)["access_token"], *token);
    daemon.terminate();
}

#[test]
fn tickets_have_trouble_of_their_own() {
    let (bench, platform) = (bench(), platform(|_| ()));
    let ticket =
        "[[accounts.shop.file]]\npath = \"{dir}/run/jsapi.json\"\nvalue = \"jsapi_ticket\"\n";
    bench.configure(&platform, &(shop("tickets = [\"jsapi\"]") + ticket));
    let fault = SimFault::from(Effect::errcode(-1)).at(Endpoint::GetTicket);
    platform.with(|world, _| world.set_fault(fault));
    let daemon = bench.start();
    daemon.wait_until("degraded", || state(&bench, "shop") == "degraded");
    assert!(is_alive(&platform, &in_file(&bench, "shop").unwrap()));
    assert!(!bench.path("run/jsapi.json").exists());
    platform.with(|world, _| world.heal_all());
    daemon.wait_until("the ticket", || state(&bench, "shop") == "fresh");
    let held = read_json(&bench.path("run/jsapi.json"));
    assert!(is_alive(&platform, held["jsapi_ticket"].as_str().unwrap()));
    assert_eq!(token_calls(&platform, SHOP), 1);
    daemon.terminate();
}
