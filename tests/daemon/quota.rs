//! The platform's own count of an account's calls, beside the daemon's.

use crate::common::{Bench, as_user, call};
use crate::fixture::{SECRET, SHOP, bench, clear_of_midnight, get, platform, shop, state};
use crate::root::needs_root;
use std::process::Output;
use std::time::Duration;
use wxtokend::sim::{Endpoint, SimPlatform, SimRequest};

fn run(bench: &Bench, arguments: &[&str]) -> (i32, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = bench.wxtokend(arguments).output().unwrap();
    let text = String::from_utf8([stdout, stderr].concat()).unwrap();
    (status.code().unwrap(), text)
}

/// Somebody else fetches so often.
fn fetch_elsewhere(platform: &SimPlatform, times: usize) {
    let body =
        format!(r#"{{"grant_type":"client_credential","appid":"{SHOP}","secret":"{SECRET}"}}"#);
    for _ in 0..times {
        platform.with(|world, now| {
            let request = SimRequest::post("/cgi-bin/stable_token", body.as_bytes());
            world.handle(now, &request);
        });
    }
}

#[test]
fn the_platforms_count_stands_beside_ours_and_tells_of_others() {
    clear_of_midnight(Duration::ZERO);
    let (bench, platform) = (bench(), platform(|_| ()));
    bench.configure(&platform, &shop("tickets = [\"jsapi\"]"));
    let daemon = bench.start();
    daemon.wait_until("a ticket", || state(&bench, "shop") == "fresh");
    fetch_elsewhere(&platform, 30);
    let (code, said) = run(&bench, &["quota", "shop"]);
    assert_eq!(code, 0, "{said}");
    for line in [
        "/cgi-bin/stable_token ",
        "/cgi-bin/ticket/getticket ",
        "our own calls today: 5, of which the counts above should have 2",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    let answer = get(&bench, "/v1/accounts/shop/quota").json();
    assert_eq!(
        (&answer["calls_today"], &answer["calls_listed"]),
        (&5.into(), &2.into()),
        "{answer}"
    );
    let count = &answer["endpoints"][0];
    assert_eq!(count["path"], "/cgi-bin/stable_token");
    assert_eq!(
        (&count["used"], &count["limit"]),
        (&31.into(), &500_000.into())
    );
    assert_eq!(count["left"], 500_000 - 31);
    let asked = || platform.with(|world, _| world.calls(SHOP, Endpoint::QuotaGet));
    assert_eq!(
        asked(),
        3,
        "once for each endpoint, though two wanted to know"
    );
    let (_, status) = run(&bench, &["status"]);
    let words: Vec<_> = status.split_whitespace().collect();
    let told =
        "the platform counts 32 calls today, and the daemon made another number: somebody else";
    assert!(words.join(" ").contains(told), "{status}");
    assert_eq!(
        state(&bench, "shop"),
        "fresh",
        "the count is no trouble of the account"
    );

    let (code, said) = run(&bench, &["quota", "shop", "--clear"]);
    assert_eq!(code, 1, "nobody is there to be asked: {said}");
    let cleared = || platform.with(|world, _| world.calls(SHOP, Endpoint::ClearQuota));
    assert_eq!(cleared(), 0);
    let (code, said) = run(&bench, &["quota", "shop", "--clear", "--yes", "--json"]);
    assert_eq!((code, cleared()), (0, 1), "{said}");
    let answer: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(answer["endpoints"][0]["used"], 0, "{answer}");
    let (code, said) = run(&bench, &["quota", "shop", "--clear", "--yes"]);
    assert_eq!((code, cleared()), (75, 1), "{said}");
    assert!(said.contains("try again in "), "{said}");
    let (_, status) = run(&bench, &["status"]);
    assert!(!status.contains("the platform counts"), "{status}");
    assert!(!daemon.log().contains(SECRET));
    assert_eq!(run(&bench, &["quota", "nobody"]).0, 66);

    // Two calls, three questions, a clearing and three questions.
    let made = || get(&bench, "/v1/accounts/shop").json()["calls_today"].clone();
    assert_eq!(made(), 9);
    let metrics = get(&bench, "/metrics").body;
    for (path, calls) in [("openapi/quota/get", 6), ("clear_quota/v2", 1)] {
        let line = format!(
            "wxtokend_platform_calls_total{{account=\"shop\",endpoint=\"/cgi-bin/{path}\",result=\"ok\"}} {calls}\n"
        );
        assert!(metrics.contains(&line), "{line}: {metrics}");
    }
    daemon.kill();
    let daemon = bench.start();
    assert_eq!(made(), 9, "over a crash");
    let answer = get(&bench, "/v1/accounts/shop/quota").json();
    assert_eq!(
        (&answer["calls_today"], &answer["calls_listed"]),
        (&12.into(), &0.into()),
        "{answer}"
    );
    let (_, status) = run(&bench, &["status"]);
    assert!(!status.contains("the platform counts"), "{status}");
    daemon.terminate();
    assert_eq!(run(&bench, &["quota", "shop"]).0, 69);
}

#[test]
fn a_platform_without_counts_says_so() {
    let corp = "ww0123456789abcdef";
    let (bench, platform) = (
        bench(),
        platform(|world| {
            world.account(corp, SECRET);
        }),
    );
    let text = shop("").replace("appid", "corpid").replace(SHOP, corp);
    bench.configure(&platform, &text);
    let daemon = bench.start();
    let (code, said) = run(&bench, &["quota", "shop"]);
    assert_eq!(code, 66, "{said}");
    assert!(said.contains("shows no count"), "{said}");
    daemon.terminate();
}

#[test]
fn a_reader_sees_the_count_and_only_an_administrator_clears_it() {
    needs_root!();
    let (bench, platform) = (bench(), platform(|_| ()));
    bench.configure(&platform, &shop("readers = [\"33\"]"));
    let daemon = bench.start();
    let ask = |uid, method, path: &str| {
        let target = format!("/v1/accounts/shop/{path}");
        let answer = as_user(uid, uid, &[], || call(&bench.socket(), method, &target, ""));
        answer.unwrap().status
    };
    assert_eq!(ask(33, "GET", "quota"), 200);
    assert_eq!(ask(33, "POST", "quota/clear"), 403);
    assert_eq!(ask(34, "GET", "quota"), 404);
    assert_eq!(ask(34, "POST", "quota/clear"), 404);
    assert_eq!(ask(0, "GET", "quota/clear"), 405);
    assert_eq!(ask(0, "POST", "quota/clear"), 200);
    daemon.terminate();
}
