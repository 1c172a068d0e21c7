//! The state over a restart, also when it is damaged or cannot be written.

use crate::common::{FairTime, Freshness, ReadFrom, json};
use crate::fixture::{
    Mount, SECRET, SHOP, bench, clear_of_midnight, get, in_file, is_alive, names, platform,
    platform_of, replaced_early, shop, state, token_calls,
};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;
use wxtokend::sim::Effect;

#[test]
fn stored_state_is_readable_by_the_daemon_alone() {
    let (bench, platform) = (bench(), platform(|_| ()));
    fs::remove_dir(bench.path("state")).unwrap();
    bench.configure(&platform, &shop(""));
    let daemon = bench.start();
    let mode = |path: &str| fs::metadata(bench.path(path)).unwrap().mode() & 0o7777;
    assert_eq!(mode("state"), 0o700);
    assert_eq!(names(&bench.path("state")), ["lock", "state.jsonl"]);
    for file in ["state/lock", "state/state.jsonl"] {
        assert_eq!(mode(file), 0o600, "{file}");
    }
    daemon.terminate();
}

#[test]
fn a_damaged_file_is_set_aside() {
    let (bench, platform) = (bench(), platform(|_| ()));
    bench.configure(&platform, &shop(""));
    bench.start().terminate();
    let path = bench.path("state/state.jsonl");
    let good = fs::read_to_string(&path).unwrap();
    let version = good.replace("\"version\":1", "\"version\":2");
    assert_ne!(version, good);
    for (n, bad) in ["", "{\"version\":1,", "\0\0\0\0", &version]
        .into_iter()
        .enumerate()
    {
        fs::write(&path, bad).unwrap();
        let daemon = bench.start();
        let token = in_file(&bench, "shop").unwrap();
        assert!(is_alive(&platform, &token));
        assert_eq!(
            token_calls(&platform, SHOP),
            n as u64 + 2,
            "{}",
            daemon.log()
        );
        assert_eq!(
            fs::read_to_string(bench.path("state/state.jsonl.damaged")).unwrap(),
            bad
        );
        let warnings = || daemon.log().matches(" and is set aside as `").count();
        daemon.wait_until("a warning", || warnings() > n);
        assert_eq!(warnings(), n + 1);
        assert_eq!(daemon.terminate().code(), Some(0));
    }
    bench.start().terminate();
    assert_eq!(
        token_calls(&platform, SHOP),
        5,
        "what was stored since is good"
    );
}

#[test]
fn a_state_directory_that_cannot_be_had_is_said() {
    let (bench, platform) = (bench(), platform(|_| ()));
    fs::remove_dir(bench.path("state")).unwrap();
    fs::write(bench.path("state"), "").unwrap();
    bench.configure(&platform, &shop(""));
    let mut daemon = bench.spawn();
    let code = daemon.wait().code();
    assert!(matches!(code, Some(1 | 78)), "{code:?}");
    assert!(daemon.log().contains("/state"), "{}", daemon.log());
}

#[test]
fn a_budget_holds_over_restarts_and_crashes() {
    clear_of_midnight(Duration::ZERO);
    let (bench, platform) = (bench(), platform_of(Duration::from_secs(4)));
    bench.configure(&platform, &shop("method = \"classic\"\ndaily_budget = 3"));
    let daemon = bench.start();
    daemon.wait_until("the calls of a day", || token_calls(&platform, SHOP) == 3);
    daemon.wait_until("a day without a token", || {
        state(&bench, "shop") == "expired"
    });
    daemon.log_with(&["`daily_budget` of 3 calls is used up"]);
    daemon.kill();
    for n in 0..3 {
        let (time, warned) = (
            FairTime::start(),
            bench.path("log").metadata().unwrap().len(),
        );
        let daemon = bench.start();
        // There is nothing to wait for.
        time.assert_within(Duration::from_secs(9));
        let account = get(&bench, "/v1/accounts/shop").json();
        assert_eq!(
            (&account["calls_today"], &account["daily_budget"]),
            (&3.into(), &3.into())
        );
        let wait = account["next_refresh_time"].as_i64().unwrap() - now();
        assert!((200..=600).contains(&wait), "{wait}");
        assert_eq!(in_file(&bench, "shop"), None);
        let log = || daemon.log().split_off(usize::try_from(warned).unwrap());
        let told = || {
            log()
                .matches("`daily_budget` of 3 calls is used up")
                .count()
        };
        daemon.wait_until("that it is told", || told() > 0);
        assert_eq!(told(), 1, "{}", log());
        if n == 0 {
            daemon.kill();
        } else {
            daemon.terminate();
        }
    }
    assert_eq!(token_calls(&platform, SHOP), 3);
}

fn now() -> i64 {
    i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()).unwrap()
}

#[test]
fn a_timed_block_is_slept_out_over_restarts() {
    let (bench, platform) = (bench(), platform(|_| ()));
    bench.configure(&platform, &shop(""));
    platform.with(|world, _| world.set_fault(Effect::errcode(89507).into()));
    bench.start().kill();
    for _ in 0..2 {
        let time = FairTime::start();
        let daemon = bench.start();
        // There is nothing to wait for.
        time.assert_within(Duration::from_secs(9));
        let account = get(&bench, "/v1/accounts/shop").json();
        assert_eq!(account["last_error"]["errcode"], 89507);
        let wait = account["next_refresh_time"].as_i64().unwrap() - now();
        assert!((3000..=3600).contains(&wait), "{wait}");
        daemon.terminate();
    }
    assert_eq!(token_calls(&platform, SHOP), 1);
}

#[test]
fn a_full_disk_below_the_state_costs_no_reader_anything() {
    crate::root::needs_root!();
    let (bench, platform) = (
        bench(),
        platform(|world| replaced_early(world.account(SHOP, SECRET))),
    );
    let disk = Mount::over(bench.path("state"), 65_536);
    bench.configure(&platform, &shop(""));
    let daemon = bench.start();
    let filler = disk.fill();
    let readers = Freshness::watch(
        &platform,
        &[ReadFrom::File(bench.path("run/shop.json"), json)],
    );
    let said = "no space left on device; until that works, a restart costs a call";
    // There is room for some lines left in the last block of the file.
    daemon.wait_until("that the disk is full", || daemon.log().contains(said));
    for _ in 0..2 {
        let held = in_file(&bench, "shop");
        daemon.wait_until("another token", || in_file(&bench, "shop") != held);
    }
    readers.wait_for_rounds(2);
    readers.stop().assert_always_fresh(2);
    assert_eq!(daemon.log().matches(said).count(), 1, "{}", daemon.log());
    fs::remove_file(filler).unwrap();
    daemon.wait_until("that it is stored again", || {
        daemon.log().contains("its state is stored again")
    });
    let held = in_file(&bench, "shop");
    daemon.wait_until("another token", || in_file(&bench, "shop") != held);
    platform.stop();
    // What was answered before is published then.
    daemon.wait_until("a failure", || state(&bench, "shop") == "degraded");
    let token = in_file(&bench, "shop").unwrap();
    daemon.kill();
    let daemon = bench.start();
    let stored = in_file(&bench, "shop");
    assert!(
        stored == Some(token) || stored.is_none(),
        "it may have expired meanwhile"
    );
    daemon.terminate();
    drop(disk);
}

#[test]
fn a_full_disk_below_an_output_leaves_the_old_value_while_it_is_valid() {
    crate::root::needs_root!();
    let life = Duration::from_secs(40);
    let (bench, platform) = (
        bench(),
        platform(|world| {
            let account = world.account(SHOP, SECRET);
            account.lifetime(life);
            account.overlap = Some(life);
        }),
    );
    fs::create_dir(bench.path("full")).unwrap();
    let disk = Mount::over(bench.path("full"), 65_536);
    let more = "[[accounts.shop.file]]\npath = \"{dir}/full/shop.json\"\n";
    bench.configure(
        &platform,
        &(shop("method = \"classic\"\nrefresh_at = 0.15") + more),
    );
    let daemon = bench.start();
    let path = bench.path("full/shop.json");
    let held = fs::read_to_string(&path).unwrap();
    let filler = disk.fill();
    let readers = Freshness::watch(&platform, &[ReadFrom::File(path.clone(), json)]);
    daemon.wait_until("degraded", || state(&bench, "shop") == "degraded");
    assert_eq!(
        fs::read_to_string(&path).unwrap(),
        held,
        "it is valid still"
    );
    // Nothing half stays.
    daemon.wait_until("that it is cleaned up", || {
        names(&bench.path("full")) == ["filler", "shop.json"]
    });
    let said = format!("cannot write `{}`: no space left on device", path.display());
    let outputs = get(&bench, "/v1/accounts/shop").json()["outputs"].clone();
    let failed: Vec<_> = outputs
        .as_array()
        .unwrap()
        .iter()
        .filter(|output| output["state"] == "failed")
        .collect();
    assert_eq!(failed.len(), 1, "{outputs}");
    assert!(
        failed[0]["error"].as_str().unwrap().starts_with(&said),
        "{outputs}"
    );
    // Taken away, it may leave just the room that its successor needs.
    daemon.wait_until("its end", || {
        fs::read_to_string(&path).ok().as_ref() != Some(&held)
    });
    let found = readers.stop();
    assert_eq!((found.dead, found.looks_expired), (0, 0), "{found:?}");
    assert!(
        is_alive(&platform, &in_file(&bench, "shop").unwrap()),
        "the others go on"
    );
    fs::remove_file(filler).unwrap();
    daemon.wait_until("the file", || path.exists());
    daemon.wait_until("fresh", || state(&bench, "shop") == "fresh");
    daemon.log_with(&[&said, "full/shop.json` is published again"]);
    daemon.terminate();
    drop(disk);
}
