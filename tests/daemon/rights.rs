//! An account that may not use an interface: that says nothing about its token.

use crate::common::call;
use crate::fixture::{SHOP, bench, in_file, is_alive, platform, shop};
use wxtokend::sim::{Effect, Endpoint, Kill, SimFault};

#[test]
fn a_missing_right_is_told_once_and_another_interface_is_asked() {
    let (bench, platform) = (bench(), platform(|_| ()));
    let calls = |endpoint| platform.with(|world, _| world.calls(SHOP, endpoint));
    let forbid = |endpoint| {
        let fault = SimFault::from(Effect::errcode(48001)).at(endpoint);
        platform.with(|world, _| world.set_fault(fault));
    };
    forbid(Endpoint::ApiDomainIp);
    bench.configure(&platform, &shop("verify_every = \"1s\""));
    let daemon = bench.start();
    daemon.wait_until("three looks", || calls(Endpoint::CallbackIp) >= 3);
    assert_eq!(calls(Endpoint::ApiDomainIp), 1);
    let told = |words: &str| daemon.log().matches(words).count();
    daemon.log_with(&["says nothing about its token"]);
    assert_eq!(told("says nothing about its token"), 1, "{}", daemon.log());
    // The other one's word counts.
    let dead = in_file(&bench, "shop").unwrap();
    platform.with(|world, now| world.kill(now, SHOP, "access_token", Kill::End));
    daemon.wait_until("another token", || {
        in_file(&bench, "shop").is_some_and(|token| token != dead && is_alive(&platform, &token))
    });
    // Without any such interface the token stands, and reports of it are not believed.
    forbid(Endpoint::CallbackIp);
    let before = calls(Endpoint::CallbackIp);
    daemon.wait_until("more looks", || calls(Endpoint::CallbackIp) >= before + 4);
    let token = in_file(&bench, "shop").unwrap();
    let body = format!("{{\"bad_token\":\"{token}\",\"errcode\":40001}}");
    let answer = call(&bench.socket(), "POST", "/v1/accounts/shop/refresh", &body).unwrap();
    assert!(is_alive(&platform, &token), "{}", answer.body);
    assert_eq!(in_file(&bench, "shop"), Some(token));
    let lines = told("48001");
    let looks = calls(Endpoint::CallbackIp) - before;
    assert!(
        lines < 12,
        "{lines} lines for {looks} looks: {}",
        daemon.log()
    );
    daemon.terminate();
}
