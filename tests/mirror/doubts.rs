//! Apps that doubt their token: looked at once, and nothing is burnt.

use crate::fixture::{BLOG, SHOP, Stage, key, stable_body, token_target};
use std::time::{Duration, Instant};
use wxtokend::sim::{Endpoint, Kill};

const LIFE: Duration = Duration::from_secs(7200);

#[test]
fn a_forced_refresh_is_a_doubt_that_costs_one_question() {
    let stage = Stage::new(LIFE);
    stage.configure("", "0");
    let daemon = stage.start();
    let cms = key("shop", "cms");
    let token = stage.ask(SHOP, cms).token();
    let granted = stage.calls_of(Endpoint::StableToken);
    let mut client = stage.client();
    let began = Instant::now();
    for _ in 0..20 {
        let body = stable_body(SHOP, cms, true);
        let answer = client.post("/cgi-bin/stable_token", "application/json", &body);
        assert_eq!(answer.token(), token, "it lives, so it stays");
    }
    // A token is looked at every 30 s at most.
    let most = 1 + began.elapsed().as_secs() / 30;
    let looks = stage.calls_of(Endpoint::ApiDomainIp);
    assert!((1..=most).contains(&looks), "asked about {looks} times");
    assert_eq!(
        stage.calls_of(Endpoint::StableToken),
        granted,
        "nothing is fetched"
    );
    drop(client);
    daemon.terminate();
}

#[test]
fn a_forced_refresh_of_a_dead_token_brings_a_living_one() {
    let stage = Stage::new(LIFE);
    stage.configure("", "0");
    let daemon = stage.start();
    let cms = key("blog", "cms");
    let old = stage.ask(BLOG, cms).token();
    // A younger token is asked about again before it is called dead.
    daemon.wait_until("the token has settled", || {
        let age = stage
            .platform
            .with(|world, now| world.probe(now, &old).age_ms);
        age > Some(10_000)
    });
    stage.platform.with(|world, now| {
        world.kill(now, BLOG, "access_token", Kill::End);
    });
    // An answer waits for the platform for 3 s at most.
    let mut new = old.clone();
    daemon.wait_until("a living token", || {
        new = stage.ask_stable(BLOG, cms, true).token();
        new != old
    });
    assert!(stage.is_alive(&new));
    // A ticket asked with the old one: known, superseded, no call.
    let calls = stage.calls();
    let answer = stage.ask_ticket(&old);
    // `blog` keeps no ticket, but knows the token: not 40001.
    assert_eq!(answer.errcode(), -1, "{answer:?}");
    assert_eq!(stage.calls(), calls);
    daemon.terminate();
}

#[test]
fn a_ticket_is_given_for_the_present_and_for_recent_tokens() {
    let stage = Stage::new(Duration::from_secs(100));
    stage.configure("method = \"classic\"\nrefresh_at = 0.1", "0");
    let daemon = stage.start();
    let cms = key("shop", "cms");
    let mut client = stage.client();
    let first = client.get(&token_target(SHOP, cms)).token();
    assert_eq!(stage.ask_ticket(&first).errcode(), 0);
    let mut second = first.clone();
    daemon.wait_until("another token", || {
        second = client.get(&token_target(SHOP, cms)).token();
        second != first
    });
    for token in [&first, &second] {
        let ticket = stage.ask_ticket(token);
        assert!(stage.is_alive(&ticket.token()), "{ticket:?}");
    }
    assert_eq!(stage.ask_ticket("69_somebody-elses").errcode(), 40001);
    // The doubt is recorded by the account's task, for which the answer does not wait.
    let line = "wxtokend_passive_refresh_total{account=\"shop\",outcome=\"superseded\"} 1";
    daemon.wait_until("the old token was a doubt", || {
        stage.api("/metrics").body.contains(line)
    });
    assert_eq!(
        stage.calls_of(Endpoint::ApiDomainIp),
        0,
        "that asked nobody"
    );
    drop(client);
    daemon.terminate();
}

#[test]
fn a_platform_that_is_away_delays_a_doubt_by_seconds_and_the_token_stays() {
    let stage = Stage::new(LIFE);
    // A call alone would take ten minutes.
    stage.write(&format!("timeout = \"10m\"\n{}", stage.text("", "0")));
    let daemon = stage.start();
    let cms = key("shop", "cms");
    let token = stage.ask(SHOP, cms).token();
    stage.platform.with(|world, _| {
        world.set_fault(wxtokend::sim::Effect::Hang.into());
    });
    let began = Instant::now();
    assert_eq!(stage.ask_stable(SHOP, cms, true).token(), token);
    let took = began.elapsed();
    assert!(took < Duration::from_secs(60), "{took:?}");
    assert_eq!(stage.ask(SHOP, cms).token(), token);
    daemon.terminate();
}
