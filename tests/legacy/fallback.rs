//! An app that fetches by itself when its file has expired, while the daemon is away for longer than a token lives, and
//! when it comes back.

use crate::common::{call, wait_until};
use crate::reader::{Reader, ReaderLog};
use crate::{LegacyStage, can_run};
use std::time::Duration;
use wxtokend::sim::{Endpoint, World};

/// Longer than a daemon or an app waits for anything, on a machine that does much else besides.
const PATIENCE: Duration = Duration::from_secs(300);
const SECRET: &str = "0123456789abcdef0123456789abcdef";
const STABLE: &str = "wx00000000000000b1";
const CLASSIC: &str = "wx00000000000000b2";
const DUMMY: &str = "wx00000000000000b3";

/// The app may write two of the files, as long as the daemon lets it, and has only a dummy secret for the third.
const ACCOUNTS: &str = r#"
[accounts.stable]
appid = "wx00000000000000b1"
secret = "0123456789abcdef0123456789abcdef"
file = [{ path = "OUT/stable.json", mode = "0660", group = "www-data", on_expiry = "keep" }]

[accounts.classic]
appid = "wx00000000000000b2"
secret = "0123456789abcdef0123456789abcdef"
method = "classic"
file = [{ path = "OUT/classic.json", mode = "0660", group = "www-data", on_expiry = "keep" }]

[accounts.dummy]
appid = "wx00000000000000b3"
secret = "0123456789abcdef0123456789abcdef"
readers = ["www-data"]
file = [{ path = "OUT/dummy.json" }]
"#;

fn set_life(stage: &LegacyStage, life: Duration) {
    stage.platform.with(|world, _| {
        for id in [STABLE, CLASSIC, DUMMY] {
            let account = world.account(id, SECRET).lifetime(life);
            (account.window, account.overlap) = (Some(life / 2), Some(life / 2));
        }
    });
}

fn start(stage: &LegacyStage, name: &'static str, appid: &'static str, secret: &str) -> Reader {
    let mut command = stage.php(
        "own_cache_file.php",
        &format!("access_token('OUT/{name}.json')"),
    );
    command
        .env("WECHAT_HOST", stage.platform.base_url())
        .env("APPID", appid)
        .env("APPSECRET", secret);
    Reader::start(
        name,
        "www-data",
        command,
        (appid, "access_token"),
        &stage.platform,
    )
}

/// Calls for a classic token, which are all that the app makes.
fn classic_calls(stage: &LegacyStage, appid: &str) -> u64 {
    stage
        .platform
        .with(|world, _| world.calls(appid, Endpoint::Token))
}

/// The calls for a classic token that the daemon counted since it started.
fn daemon_calls(stage: &LegacyStage) -> u64 {
    let metrics = call(&stage.bench.socket(), "GET", "/metrics", "")
        .unwrap()
        .body;
    let of_classic = |line: &&str| {
        line.starts_with("wxtokend_platform_calls_total{") && line.contains("account=\"classic\"")
    };
    let count = |line: &str| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap();
    metrics.lines().filter(of_classic).map(count).sum()
}

#[test]
fn an_app_that_fetches_by_itself_does_not_fight() {
    if !can_run("an_app_that_fetches_by_itself_does_not_fight") {
        return;
    }
    let life = Duration::from_secs(30);
    let stage = LegacyStage::new(World::new());
    set_life(&stage, life);
    stage.configure(ACCOUNTS);
    let daemon = stage.start();
    let apps = [
        start(&stage, "stable", STABLE, SECRET),
        start(&stage, "classic", CLASSIC, SECRET),
        start(&stage, "dummy", DUMMY, "kept-by-wxtokend"),
    ];
    for app in &apps {
        app.until("rotated", |seen| seen.distinct.len() >= 3);
        assert_eq!(app.seen().failures, [""; 0], "{}", app.name);
        assert_eq!(app.seen().dead, [], "{}", app.name);
    }
    assert_eq!(classic_calls(&stage, STABLE), 0, "it had no reason to");

    // Away for longer than a token lives. What the app fetches lives as long as it believes.
    assert!(daemon.terminate().success());
    set_life(&stage, Duration::from_secs(7200));
    let [stable, classic, dummy] = &apps;
    let daemons = classic_calls(&stage, CLASSIC);
    for (app, appid, before) in [(stable, STABLE, 0), (classic, CLASSIC, daemons)] {
        wait_until("a fetch of the app's own", PATIENCE, String::new, || {
            classic_calls(&stage, appid) > before
        });
        let reads = app.seen().reads;
        app.until("living on it", |seen| seen.reads > reads + 10);
        let calls = classic_calls(&stage, appid);
        assert_eq!(calls, before + 1, "{}: once, for its file", app.name);
    }
    dummy.until("failing loudly", |seen| !seen.failures.is_empty());
    assert!(dummy.seen().failures[0].contains("no token of our own: 40125"));

    // Back: whoever fetched goes back to the daemon's file, and is not needed any more.
    set_life(&stage, life);
    let _daemon = stage.start();
    for app in &apps {
        let before = app.seen().distinct;
        let new = |seen: &ReaderLog| seen.distinct.difference(&before).count() >= 3;
        app.until("rotating again", new);
    }
    assert_eq!(classic_calls(&stage, STABLE), 1);
    // A call may be under way; but were there any of the app's, the two would never agree.
    wait_until(
        "the calls of the daemon to be all",
        PATIENCE,
        String::new,
        || classic_calls(&stage, CLASSIC) - (daemons + 1) == daemon_calls(&stage),
    );
    for app in &apps {
        // Its own arithmetic: it goes by whole seconds, so that in the last one the token may be dead already, and its line waits to be read.
        let dead = app.seen().dead;
        assert!(
            dead.iter()
                .all(|truth| truth.ended_ms_ago.is_some_and(|ms| ms < 3000)),
            "{}: {dead:?}",
            app.name
        );
    }
}
