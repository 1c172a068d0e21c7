//! Calls that are left, limits that apps of a corp share, and the time that a call may take.

use crate::common::{FairTime, RunningDaemon};
use crate::fixture::{
    SECRET, SHOP, account, bench, clear_of_midnight, get, in_file, is_alive, platform, platform_of,
    shop, token_calls,
};
use std::io::Read;
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};
use wxtokend::sim::{Effect, Endpoint, SimAccount, SimFault, SimPlatform};

const CORP: &str = "ww0123456789abcdef";

#[test]
fn healing_keeps_its_pace_after_half_of_the_budget_is_spent() {
    clear_of_midnight(Duration::ZERO);
    let (bench, platform) = (bench(), platform_of(Duration::from_secs(8)));
    let text = shop("method = \"classic\"\ndaily_budget = 30");
    bench.configure(&platform, &text);
    let daemon = bench.start();
    platform.with(|world, _| {
        world.set_fault(SimFault::from(Effect::errcode(-1)).at(Endpoint::Token));
    });
    let calls = || token_calls(&platform, SHOP);
    daemon.wait_until("an outage", || in_file(&bench, "shop").is_none());
    // Another [platform] section is a reason to try at once.
    for seconds in 3.. {
        let before = calls();
        if before > 20 {
            break;
        }
        bench.configure(&platform, &format!("timeout = \"{seconds}s\"\n{text}"));
        daemon.reload();
        daemon.wait_until("another try", || calls() > before);
    }
    let time = FairTime::start();
    platform.with(|world, _| world.heal_all());
    daemon.wait_until("another token", || {
        in_file(&bench, "shop").is_some_and(|token| is_alive(&platform, &token))
    });
    time.assert_within(Duration::from_secs(60));
    daemon.terminate();
}

#[test]
fn timeout_is_that_of_the_whole_call_however_many_hosts_it_tries() {
    let (bench, platform) = (bench(), platform(|_| ()));
    let silent = [(), ()].map(|()| silent_host());
    let hosts = silent
        .map(|port| format!("\"http://127.0.0.1:{port}\""))
        .join(", ");
    let text = shop("");
    bench.configure(&platform, &text);
    let path = bench.path("config.toml");
    let config = std::fs::read_to_string(&path).unwrap();
    let known = format!("hosts = [\"{}\"]\nwecom", platform.base_url());
    let with_both = format!("timeout = \"6s\"\nhosts = [{hosts}]\nwecom");
    assert!(config.contains(&known), "{config}");
    bench.write_config(&config.replace(&known, &with_both));
    let daemon = bench.spawn();
    let took = took(&daemon, "/cgi-bin/stable_token failed in ");
    // One after the other would take 12 s.
    assert!((5_000..11_500).contains(&took), "{took} ms");
    daemon.terminate();
}

/// A host that takes connections and requests, and never answers.
fn silent_host() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let mut request = [0; 4096];
                while stream.read(&mut request).is_ok_and(|read| read > 0) {}
            });
        }
    });
    port
}

/// The milliseconds that a call took, as the log says.
fn took(daemon: &RunningDaemon<'_>, words: &str) -> u64 {
    let mut found = None;
    daemon.wait_until("the end of a call", || {
        let log = daemon.log();
        let rest = log.split_once(words).map(|(_, rest)| rest.to_owned());
        found = rest.and_then(|rest| rest.split_once(" ms")?.0.parse().ok());
        found.is_some()
    });
    found.unwrap()
}

/// Calls for tickets of all apps of the corp.
fn ticket_calls(platform: &SimPlatform, apps: u32) -> u64 {
    let at = [Endpoint::GetJsapiTicket, Endpoint::AgentTicket];
    platform.with(|world, _| {
        let calls = (1..=apps).flat_map(|app| at.map(|at| (app, at)));
        calls
            .map(|(app, at)| world.calls(&format!("{CORP}/{app}"), at))
            .sum()
    })
}

#[test]
fn ten_apps_of_a_corp_stay_far_below_its_limit_on_tickets() {
    const APPS: u32 = 10;
    let (bench, platform) = (
        bench(),
        platform(|world| {
            for app in 1..=APPS {
                let mut corp = SimAccount::new(CORP, SECRET);
                corp.agentid = Some(app);
                // Each would be asked for all the time.
                corp.ticket_lifetime = Some(Duration::from_secs(2));
                world.add(corp);
            }
        }),
    );
    let text = (1..=APPS).map(|app| {
        let id = format!("{CORP}/{app}");
        account(
            &format!("app{app}"),
            &id,
            "tickets = [\"jsapi\", \"agent\"]",
        )
    });
    bench.configure(&platform, &text.collect::<String>());
    let daemon = bench.start();
    let calls = || ticket_calls(&platform, APPS);
    daemon.wait_until("a quarter of 400 calls", || calls() >= 100);
    let began = Instant::now();
    // Alone each app might make 25 at once.
    daemon.wait_until("some time", || began.elapsed() > Duration::from_secs(15));
    assert!(calls() < 110, "{}", calls());
    daemon.terminate();
}

#[test]
fn corp_is_asked_for_the_same_token_at_half_life_and_around_its_end() {
    let (bench, platform) = (
        bench(),
        platform(|world| {
            world
                .account(CORP, SECRET)
                .lifetime(Duration::from_secs(24))
                .window = Some(Duration::ZERO);
        }),
    );
    let text = account("corp", CORP, "").replace("appid", "corpid");
    bench.configure(&platform, &text);
    let daemon = bench.start();
    let calls = || token_calls(&platform, CORP);
    for _ in 0..2 {
        let (held, before) = (in_file(&bench, "corp"), calls());
        daemon.wait_until("another token", || {
            in_file(&bench, "corp").is_some_and(|token| Some(token) != held)
        });
        // Once at half-life, then at its end, which the platform rounds to a second.
        let made = calls() - before;
        assert!((1..=6).contains(&made), "{made}");
    }
    daemon.terminate();
}

#[test]
fn another_secret_file_without_an_agentid_is_another_app() {
    let other = "CANARY-fedcba9876543210-CANARY";
    let (bench, platform) = (
        bench(),
        platform(|world| {
            for (agentid, secret) in [(1, SECRET), (2, other)] {
                let mut corp = SimAccount::new(CORP, secret);
                corp.agentid = Some(agentid);
                world.add(corp);
            }
        }),
    );
    let text = account("corp", CORP, "").replace("appid", "corpid");
    bench.configure(&platform, &text);
    let daemon = bench.start();
    let calls = |app: u32| token_calls(&platform, &format!("{CORP}/{app}"));
    let of_first = in_file(&bench, "corp").unwrap();
    assert_eq!((calls(1), calls(2)), (1, 0));
    bench.secret("other", other);
    bench.configure(&platform, &text.replace("{dir}/secret", "{dir}/other"));
    daemon.reload();
    daemon.wait_until("the other app's token", || {
        in_file(&bench, "corp").is_some_and(|token| token != of_first)
    });
    assert_eq!((calls(1), calls(2)), (1, 1));
    daemon.terminate();
    // Also over a restart.
    bench.configure(&platform, &text);
    let daemon = bench.start();
    daemon.wait_until("a token of the first app", || {
        in_file(&bench, "corp").is_some_and(|token| token == of_first)
    });
    assert_eq!((calls(1), calls(2)), (2, 1));
    daemon.terminate();
}

#[test]
fn a_corp_that_is_refused_as_too_frequent_waits_a_minute_and_not_for_midnight() {
    let (bench, platform) = (
        bench(),
        platform(|world| {
            world.account(CORP, SECRET);
        }),
    );
    platform.with(|world, _| world.set_fault(Effect::errcode(45009).into()));
    let text = account("corp", CORP, "").replace("appid", "corpid") + &shop("");
    bench.configure(&platform, &text);
    let daemon = bench.start();
    let wait = |name: &str| {
        let account = get(&bench, &format!("/v1/accounts/{name}")).json();
        let error = &account["last_error"];
        let next = account["next_refresh_time"].as_i64().unwrap();
        (
            error["class"].as_str().unwrap().to_owned(),
            error["hint"].as_str().unwrap().to_owned(),
            next - error["time"].as_i64().unwrap(),
        )
    };
    let (class, hint, seconds) = wait("corp");
    assert_eq!(class, "frequency");
    assert!((59..=61).contains(&seconds), "{seconds}");
    assert!(!hint.contains("midnight"), "{hint}");
    assert_eq!(wait("shop").0, "daily_quota");
    daemon.terminate();
}
