//! Apps that report a token because the platform refused it: as many as like, as often as they like, and the account's
//! quota is none the worse for it.

use crate::common::{ApiReply, as_user, call};
use crate::fixture::{
    SECRET, SHOP, account, appid, bench, in_file, is_alive, platform, probe, shop, state,
    token_calls,
};
use serde_json::json;
use std::path::Path;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};
use wxtokend::sim::{Endpoint, Kill, SimFault, SimPlatform};

/// A group of this host whose members are readers, by its name and number.
const READERS: (&str, u32) = ("www-data", 33);
const CORP: &str = "ww0123456789abcdef";

/// Asks as user number `n` of the readers.
fn ask(socket: &Path, n: u32, method: &str, target: &str, body: &str) -> ApiReply {
    as_user(30_000 + n, 30_000 + n, &[READERS.1], || {
        call(socket, method, target, body).unwrap()
    })
}

fn report(socket: &Path, n: u32, account: &str, token: &str) -> ApiReply {
    let target = format!("/v1/accounts/{account}/refresh");
    let body = json!({"bad_token": token, "errcode": 40001}).to_string();
    ask(socket, n, "POST", &target, &body)
}

fn verifications(platform: &SimPlatform, id: &str) -> u64 {
    platform.with(|world, _| world.calls(id, Endpoint::ApiDomainIp))
}

#[test]
fn fifty_readers_of_a_dead_token_cost_one_question_and_one_new_token() {
    const ASKERS: u32 = 50;
    crate::root::needs_root!();
    let (bench, blog) = (bench(), appid(1));
    let platform = platform(|world| {
        world.account(&blog, SECRET);
        world.account(CORP, SECRET);
    });
    let readers = format!("readers = [\"@{}\"]", READERS.0);
    let text = [
        shop(&readers),
        account("blog", &blog, &format!("method = \"classic\"\n{readers}")),
        account("corp", CORP, &readers).replace("appid =", "corpid ="),
    ];
    bench.configure(&platform, &text.concat());
    let daemon = bench.start();
    let socket = bench.socket();
    for (name, id) in [("shop", SHOP), ("blog", &blog), ("corp", CORP)] {
        let dead = in_file(&bench, name).unwrap();
        // A younger one is asked about twice.
        daemon.wait_until("a token that has settled", || {
            probe(&platform, &dead).age_ms > Some(10_000)
        });
        let before = (token_calls(&platform, id), verifications(&platform, id));
        platform.with(|world, now| {
            // So that all come while it is asked about.
            let slow = SimFault::delay(Duration::from_secs(4)).of(id);
            world.set_fault(slow.at(Endpoint::ApiDomainIp));
            world.kill(now, id, "access_token", Kill::End)
        });
        let together = Barrier::new(ASKERS as usize);
        let answers: Vec<_> = thread::scope(|scope| {
            let ask = |n| {
                let (together, socket, dead) = (&together, &socket, &dead);
                scope.spawn(move || {
                    together.wait();
                    report(socket, n, name, dead)
                })
            };
            let askers: Vec<_> = (0..ASKERS).map(ask).collect();
            askers
                .into_iter()
                .map(|asker| asker.join().unwrap())
                .collect()
        });
        let new = in_file(&bench, name).unwrap();
        assert_ne!(new, dead);
        assert!(is_alive(&platform, &new));
        for answer in answers {
            assert_eq!(answer.status, 200, "{name}: {answer:?}");
            let given = answer.json();
            assert_eq!(given["outcome"], "refreshed", "{name}");
            assert_eq!(given["access_token"], *new, "{name}");
        }
        let after = || (token_calls(&platform, id), verifications(&platform, id));
        assert_eq!(after(), (before.0 + 1, before.1 + 1), "{name}");
        // Who comes late has the new one without a call.
        let late = report(&socket, 0, name, &dead).json();
        assert_eq!(
            (&late["outcome"], &late["access_token"]),
            (&json!("superseded"), &json!(new))
        );
        assert_eq!(after(), (before.0 + 1, before.1 + 1), "{name}");
    }
    daemon.terminate();
}

#[test]
fn readers_who_complain_for_a_minute_cause_a_call_each_half_minute() {
    crate::root::needs_root!();
    let (bench, platform) = (bench(), platform(|_| ()));
    let readers = format!("readers = [\"@{}\"]", READERS.0);
    bench.configure(&platform, &shop(&readers));
    let daemon = bench.start();
    let (socket, token) = (bench.socket(), in_file(&bench, "shop").unwrap());
    let began = Instant::now();
    // As fast as an app that handles requests of its own.
    let for_a_minute = |ask: &dyn Fn() -> ApiReply| {
        let mut answers = Vec::new();
        while began.elapsed() < Duration::from_secs(61) {
            answers.push(ask());
            thread::sleep(Duration::from_millis(10));
        }
        answers
    };
    let (living, foreign, greedy) = thread::scope(|scope| {
        let living = scope.spawn(|| for_a_minute(&|| report(&socket, 1, "shop", &token)));
        let foreign = scope.spawn(|| for_a_minute(&|| report(&socket, 2, "shop", "another")));
        let target = "/v1/accounts/shop/token?min_valid=7190";
        let greedy = scope.spawn(|| for_a_minute(&|| ask(&socket, 3, "GET", target, "")));
        (
            living.join().unwrap(),
            foreign.join().unwrap(),
            greedy.join().unwrap(),
        )
    });
    let half_minutes = began.elapsed().as_secs() / 30;
    let verified = verifications(&platform, SHOP);
    assert!(verified > 1, "it is looked at again: {verified}");
    assert!(
        verified <= half_minutes + 1,
        "{verified} in {:?}",
        began.elapsed()
    );
    let mut looked = 0;
    for answer in &living {
        assert_eq!(answer.status, 200, "{answer:?}");
        let given = answer.json();
        assert_eq!(given["outcome"], "still_valid");
        match given.get("verified_seconds_ago") {
            // And as long as this answer took.
            Some(seconds) => assert!(seconds.as_u64() <= Some(35), "{given}"),
            None => looked += 1,
        }
    }
    assert_eq!(looked, verified);
    for answer in foreign {
        let given = answer.json();
        assert_eq!(
            (&given["outcome"], &given["access_token"]),
            (&json!("superseded"), &json!(token))
        );
    }
    for answer in greedy {
        assert_eq!(answer.json()["access_token"], *token);
    }
    // One at the start, and one for the wish.
    assert_eq!(token_calls(&platform, SHOP), 2);
    assert_eq!(
        (in_file(&bench, "shop"), state(&bench, "shop")),
        (Some(token), "fresh".into())
    );
    assert!(living.len() > 100, "{} reports", living.len());
    daemon.terminate();
}

#[test]
fn token_handed_out_dead_is_forced_for_those_who_may() {
    crate::root::needs_root!();
    let (bench, blog, wiki) = (bench(), appid(1), appid(2));
    let platform = platform(|world| {
        world.account(&blog, SECRET);
        world.account(&wiki, SECRET);
    });
    let readers = format!("readers = [\"@{}\"]", READERS.0);
    let text = [
        shop(&readers),
        account("blog", &blog, &readers),
        account("wiki", &wiki, &format!("force_on_dead = true\n{readers}")),
    ];
    bench.configure(&platform, &text.concat());
    let daemon = bench.start();
    let (socket, refresh) = (bench.socket(), |name| {
        bench.wxtokend(&["refresh", name]).output().unwrap()
    });
    for (name, id) in [("shop", SHOP), ("blog", &blog), ("wiki", &wiki)] {
        let token = in_file(&bench, name).unwrap();
        daemon.wait_until("a token that has settled", || {
            probe(&platform, &token).age_ms > Some(10_000)
        });
        platform.with(|world, now| world.kill(now, id, "access_token", Kill::Stuck));
    }
    let tokens = ["shop", "blog", "wiki"].map(|name| in_file(&bench, name).unwrap());
    let [reader, admin, configured] = thread::scope(|scope| {
        let (socket, tokens) = (&socket, &tokens);
        let reader = scope.spawn(move || report(socket, 1, "shop", &tokens[0]));
        let admin =
            scope.spawn(move || call(socket, "POST", "/v1/accounts/blog/refresh", "").unwrap());
        let configured = scope.spawn(move || report(socket, 1, "wiki", &tokens[2]));
        [reader, admin, configured].map(|asker| asker.join().unwrap())
    });
    for (answer, dead) in [(admin, &tokens[1]), (configured, &tokens[2])] {
        let given = answer.json();
        assert_eq!(given["outcome"], "refreshed", "{answer:?}");
        let new = given["access_token"].as_str().unwrap();
        assert!(new != dead && is_alive(&platform, new));
    }
    assert_eq!(reader.status, 503, "{reader:?}");
    assert_eq!(reader.json()["error"], "no_valid_value");
    let hint = reader.json()["hint"].as_str().unwrap().to_owned();
    assert!(hint.contains("wxtokend refresh shop"), "{hint}");
    daemon.wait_until("it is taken away", || in_file(&bench, "shop").is_none());
    // So soon after the reader's, it says when, and then does what the hint promises.
    let early = refresh("shop");
    let said = String::from_utf8_lossy(&early.stderr).into_owned();
    assert_eq!(early.status.code(), Some(69), "{said}");
    let (_, seconds) = said.split_once("try again in ").unwrap();
    let seconds: u64 = seconds.split(' ').next().unwrap().parse().unwrap();
    assert!((1..=30).contains(&seconds), "{said}");
    let began = Instant::now();
    let over = Duration::from_secs(seconds + 1);
    daemon.wait_until("the time is up", || began.elapsed() >= over);
    let in_time = refresh("shop");
    assert_eq!(in_time.status.code(), Some(0), "{in_time:?}");
    let new = in_file(&bench, "shop").unwrap();
    assert!(new != tokens[0] && is_alive(&platform, &new));
    daemon.terminate();
}
