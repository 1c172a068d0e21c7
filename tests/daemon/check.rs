//! `wxtokend check`, with and without a word from the platform.

use crate::common::{Bench, output_of};
use crate::fixture::{
    SECRET, SHOP, account, appid, bench, in_file, is_alive, names, platform, shop, token_calls,
};
use std::net::IpAddr;
use wxtokend::sim::Endpoint;

fn check(bench: &Bench, arguments: &[&str]) -> (Option<i32>, String) {
    let arguments = [&["check"], arguments].concat();
    let output = bench.wxtokend(&arguments).output().unwrap();
    assert!(
        output.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    (
        output.status.code(),
        String::from_utf8(output.stdout).unwrap(),
    )
}

#[test]
fn every_fault_is_printed_at_once_and_nothing_is_changed() {
    let (bench, platform) = (bench(), platform(|_| ()));
    bench.configure(&platform, &shop(""));
    let (code, said) = check(&bench, &[]);
    assert_eq!(code, Some(0));
    assert!(
        said.ends_with("config.toml: no fault; accounts: 1, outputs: 2\n"),
        "{said}"
    );
    bench.write_config(
        "[daemon]\nlog_levl = \"info\"\n[accounts.shop]\nappid = \"wx1\"\nsecret = \"CANARY\"\n\
         [[accounts.shop.file]]\npath = \"relative\"\n",
    );
    let (code, said) = check(&bench, &[]);
    assert_eq!(code, Some(78));
    let path = bench.path("config.toml");
    for start in ["2:1: unknown key `log_levl`", "4:9: ", "7:8: "] {
        let fault = format!("{}:{start}", path.display());
        assert!(
            said.lines().any(|line| line.starts_with(&fault)),
            "{fault}: {said}"
        );
    }
    assert!(!said.contains("CANARY"));
    // As `run` sees it.
    let mut daemon = bench.spawn();
    assert_eq!(daemon.wait().code(), Some(78));
    assert_eq!(daemon.log(), said);
    assert!(names(&bench.path("run")).is_empty() && names(&bench.path("state")).is_empty());
}

#[test]
fn the_platform_is_asked_about_each_account_and_no_token_in_use_ends() {
    let bench = bench();
    let ip: IpAddr = "203.0.113.7".parse().unwrap();
    let platform = platform(|world| {
        for n in 1..4 {
            world.account(&appid(n), SECRET);
        }
    });
    let good = shop("") + &account("blog", &appid(1), "method = \"classic\"");
    bench.configure(&platform, &good);
    let daemon = bench.start();
    let token = in_file(&bench, "blog").unwrap();
    let said = output_of(&mut bench.wxtokend(&["check", "--online"]));
    assert!(
        said.contains("shop: ok: the platform grants an access_token for "),
        "{said}"
    );
    assert!(
        said.contains("blog: ok: the platform grants an access_token for 2h"),
        "{said}"
    );
    assert!(is_alive(&platform, &token));
    let classic = platform.with(|world, _| world.calls(&appid(1), Endpoint::Token));
    assert_eq!(classic, 1, "the daemon's own");
    daemon.terminate();
    platform.with(|world, _| {
        let account = world.account(&appid(2), SECRET);
        (account.whitelist, account.seen_as) = (Some(Vec::new()), Some(ip));
        world.account(&appid(3), "another-0123456789abcdef");
    });
    let bad = account("two", &appid(2), "") + &account("three", &appid(3), "");
    let missing = account("none", &appid(4), "").replace("{dir}/secret", "{dir}/missing");
    bench.configure(&platform, &(good + &bad + &missing));
    let (code, said) = check(&bench, &["--online"]);
    assert_eq!(code, Some(69));
    for (name, parts) in [
        ("two: 40164 ", ["203.0.113.7", "IP白名单"]),
        ("three: 40125 ", ["appsecret", "AppSecret"]),
        ("none: secret file ", ["/missing", "put the AppSecret"]),
    ] {
        let report: Vec<_> = said
            .lines()
            .skip_while(|line| !line.starts_with(name))
            .take(2)
            .collect();
        assert_eq!(report.len(), 2, "{name}: {said}");
        for part in parts {
            assert!(report.concat().contains(part), "{part}: {said}");
        }
    }
    assert!(
        said.contains("shop: ok"),
        "one account's trouble is not another's"
    );
    assert!(!said.contains(SECRET));
    assert_eq!(token_calls(&platform, SHOP), 3);
}
