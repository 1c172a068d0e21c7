//! Reloads, good and bad.

use crate::common::{FairTime, Freshness, ReadFrom, as_user, json, output_of, raw, read_socket};
use crate::fixture::{
    SECRET, SHOP, account, appid, bench, get, in_file, in_socket, names, platform, probe, shop,
    state, token_calls,
};
use crate::root::needs_root;
use rustix::fs::chown;
use rustix::process::{Gid, Signal, Uid};
use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::time::Duration;
use wxtokend::sim::{Effect, SimFault, SimPlatform};

fn three() -> std::sync::Arc<SimPlatform> {
    platform(|world| {
        for n in 1..4 {
            world.account(&appid(n), SECRET);
        }
    })
}

const OFTEN: &str = "poll_every = \"1s\"";

fn calls(platform: &SimPlatform) -> [u64; 4] {
    [0, 1, 2, 3].map(|n| token_calls(platform, &appid(n)))
}

#[test]
fn accounts_and_outputs_come_change_and_go() {
    let (bench, platform) = (bench(), three());
    let raw_file = "[[accounts.one.file]]\npath = \"{dir}/run/one.raw\"\nformat = \"raw\"\n";
    let api_file = raw_file.replace("\"raw\"", "\"api\"");
    let before = [
        shop(""),
        account("one", &appid(1), ""),
        raw_file.to_owned(),
        account("two", &appid(2), ""),
    ];
    bench.configure(&platform, &before.concat());
    let daemon = bench.start();
    let run = bench.path("run");
    let readers = Freshness::watch(
        &platform,
        &[
            ReadFrom::File(run.join("shop.json"), json),
            ReadFrom::Socket(run.join("shop.sock"), raw),
            ReadFrom::File(run.join("one.json"), json),
            ReadFrom::Socket(run.join("one.sock"), raw),
        ],
    );
    let token = in_file(&bench, "one").unwrap();
    let more = "[[accounts.one.socket]]\npath = \"{dir}/run/more.sock\"\n";
    let after = [
        shop(""),
        account("one", &appid(1), "poll_every = \"4m\""),
        api_file,
        more.to_owned(),
        account("three", &appid(3), ""),
    ];
    bench.configure(&platform, &after.concat());
    let said = output_of(&mut bench.wxtokend(&["reload"]));
    assert_eq!(said, "reloaded\nadded: three\nchanged: one\nremoved: two\n");
    // What is configured is there when a reload is over; what a new account needs is fetched then.
    let answer = fs::read_to_string(run.join("one.raw")).unwrap();
    assert!(
        answer.starts_with(&format!("{{\"access_token\":\"{token}\",\"expires_in\":7")),
        "{answer}"
    );
    assert!(
        read_socket(&run.join("more.sock"))
            .unwrap()
            .contains(&token)
    );
    daemon.wait_until("the new account", || in_file(&bench, "three").is_some());
    let outputs = [
        "api.sock",
        "more.sock",
        "one.json",
        "one.raw",
        "one.sock",
        "shop.json",
        "shop.sock",
        "three.json",
        "three.sock",
    ];
    daemon.wait_until("these outputs", || names(&run) == outputs);
    assert_eq!(
        calls(&platform),
        [1, 1, 1, 1],
        "no value that stood was fetched again"
    );
    assert_eq!(get(&bench, "/v1/accounts/two").status, 404);
    bench.configure(&platform, &before.concat());
    daemon.reload();
    daemon.wait_until("the account that is back", || {
        in_file(&bench, "two").is_some()
    });
    assert_eq!(calls(&platform), [1, 1, 1, 1], "its token was kept");
    daemon.wait_until("its content", || {
        fs::read_to_string(run.join("one.raw")).is_ok_and(|held| held == token)
    });
    daemon.wait_until("that the others go", || {
        !run.join("more.sock").exists() && !run.join("three.json").exists()
    });
    readers.wait_for_rounds(10);
    readers.stop().assert_always_fresh(0);
    daemon.terminate();
}

#[test]
fn a_faulty_configuration_changes_nothing() {
    let (bench, platform) = (bench(), three());
    bench.configure(&platform, &shop(OFTEN));
    let daemon = bench.start();
    let run = bench.path("run");
    let files = names(&run);
    let good = shop(OFTEN);
    let twice = good
        .replace("[[accounts.shop.socket]]", "[[accounts.shop.file]]")
        .replace("shop.sock", "shop.json");
    let elsewhere = account("one", &appid(1), "").replace("/run/", "/nowhere/");
    let cases = [
        (shop("metod = \"classic\""), "did you mean `method`?"),
        (twice, "is taken already"),
        (good.clone() + &elsewhere, "nowhere"),
        (
            good.clone() + "\n[accounts.one]\nappid = \"x\"\n",
            "the secret is missing",
        ),
        (format!("{good}\n["), "config.toml:"),
    ];
    for (text, reason) in cases {
        bench.configure(&platform, &text);
        let before = bench.manager.count();
        let mut reload = bench.wxtokend(&["reload"]);
        let output = reload.output().unwrap();
        assert_eq!(output.status.code(), Some(78), "{reason}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(reason), "{reason}: {said}");
        daemon.wait_until("READY=1", || bench.manager.said_since(before, "READY=1"));
        let status = bench.manager.status().unwrap();
        assert!(
            status.starts_with("configuration rejected, the old one goes on: "),
            "{status}"
        );
        assert!(status.contains(reason), "{reason}: {status}");
        daemon.wait_until(reason, || {
            let log = daemon.log();
            log.lines()
                .any(|line| line.contains("WARN") && line.contains(reason))
        });
        assert_eq!(names(&run), files, "{reason}");
        assert_eq!(state(&bench, "shop"), "fresh");
    }
    // It stands there until the next reload, whatever happens meanwhile.
    let before = bench.manager.count();
    platform.with(|world, _| world.set_fault(Effect::errcode(40164).into()));
    let told = |text: &str| {
        bench.manager.with(|messages| {
            let mut after = messages[before..].iter();
            after.any(|message| message.text.contains(text))
        })
    };
    daemon.wait_until("the trouble in the status line", || told("shop: 40164"));
    let status = bench.manager.status().unwrap();
    assert!(status.starts_with("configuration rejected, "), "{status}");
    platform.with(|world, _| world.heal_all());
    bench.configure(&platform, &good);
    daemon.reload();
    daemon.signal(Signal::USR1);
    daemon.wait_until("fresh", || state(&bench, "shop") == "fresh");
    daemon.wait_until("a new status line", || {
        let status = bench.manager.status().unwrap();
        status.starts_with("1/1 accounts fresh; next refresh shop in ")
    });
    assert_eq!(calls(&platform)[1..], [0, 0, 0]);
    daemon.terminate();
}

#[test]
fn status_shows_a_rejected_configuration_and_the_log_tells_each_fault_once() {
    let (bench, platform) = (bench(), three());
    bench.configure(&platform, &shop(""));
    let daemon = bench.start();
    let status = |arguments: &[&str]| {
        let output = bench.wxtokend(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "the accounts are fresh");
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(!status(&["status"]).contains("rejected"));
    assert!(!status(&["status", "--json"]).contains("rejected"));
    let bad = "metod = \"classic\"\nreadrs = []";
    bench.configure(&platform, &shop(bad));
    // As the unit does it: what the command prints goes where the daemon logs to.
    let journal = File::create(bench.path("journal")).unwrap();
    let place = journal.metadata().unwrap();
    let mut reload = bench.wxtokend(&["reload"]);
    reload.env("JOURNAL_STREAM", format!("{}:{}", place.dev(), place.ino()));
    let ended = reload.stderr(journal).status().unwrap();
    assert_eq!(ended.code(), Some(78));
    let told = fs::read_to_string(bench.path("journal")).unwrap();
    assert!(
        told.contains("the old one still runs") && !told.contains("metod"),
        "{told}"
    );
    daemon.wait_until("the last line", || {
        daemon.log().contains("correct the faults above")
    });
    for key in ["`metod`", "`readrs`"] {
        assert_eq!(
            daemon.log().matches(key).count(),
            1,
            "{key}: {}",
            daemon.log()
        );
    }
    let table = status(&["status"]);
    let table = table.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        "the configuration on disk is rejected",
        "unknown key `metod`",
        "and 1 more",
    ] {
        assert!(table.contains(part), "{part}: {table}");
    }
    let json: serde_json::Value = serde_json::from_str(&status(&["status", "--json"])).unwrap();
    assert_eq!(json["rejected"].as_array().unwrap().len(), 2, "{json}");
    assert_eq!(json["rejected"][0]["line"], 16, "{json}");
    // Once it is right there is nothing more to show.
    bench.configure(&platform, &shop(""));
    daemon.reload();
    assert!(!status(&["status"]).contains("rejected"));
}

#[test]
fn the_log_leaves_out_no_fault_however_many_there_are() {
    let (bench, platform) = (bench(), three());
    bench.configure(&platform, &shop(""));
    let daemon = bench.start();
    let unknown = |range: std::ops::Range<u32>| -> String {
        let keys: Vec<_> = range.map(|n| format!("unheard_of_{n} = 1\n")).collect();
        keys.concat()
    };
    for (range, times) in [(0..30, 1), (30..60, 2)] {
        bench.configure(&platform, &shop(&unknown(range.clone())));
        daemon.signal(Signal::HUP);
        daemon.wait_until("the last line", || {
            daemon.log().matches("correct the faults above").count() == times
        });
        for n in range {
            let named = format!("unknown key `unheard_of_{n}`");
            assert!(daemon.log().contains(&named), "{named}: {}", daemon.log());
        }
    }
    daemon.terminate();
}

#[test]
fn only_administrators_see_what_is_wrong_with_the_configuration() {
    needs_root!();
    let (bench, platform) = (bench(), three());
    bench.configure(&platform, &shop("readers = [\"4321\"]"));
    let daemon = bench.start();
    bench.configure(&platform, &shop("readers = [\"4321\"]\nmetod = \"x\""));
    daemon.reload();
    let accounts = || get(&bench, "/v1/accounts").json();
    assert!(accounts()["rejected"].is_array());
    let seen = as_user(4321, 4321, &[], accounts);
    assert_eq!(seen["accounts"][0]["account"], "shop");
    assert!(seen["rejected"].is_null(), "{seen}");
}

#[test]
fn failed_reload_removes_its_new_sockets() {
    let (bench, platform) = (bench(), three());
    bench.configure(&platform, &shop(""));
    let daemon = bench.start();
    let run = bench.path("run");
    let files = names(&run);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let more = shop("") + &account("one", &appid(1), "");
    bench.configure(&platform, &more);
    let text = fs::read_to_string(bench.path("config.toml")).unwrap();
    let moved = text.replace("run/api.sock", "run/other.sock");
    let port = taken.local_addr().unwrap();
    bench.write_config(&moved.replace("[api]\n", &format!("[api]\nmetrics = \"{port}\"\n")));
    let mut reload = bench.wxtokend(&["reload"]);
    let output = reload.output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("choose a free port or stop what uses it"),
        "{said}"
    );
    assert_eq!(names(&run), files, "the port is taken");
    fs::write(run.join("other.sock"), "no socket").unwrap();
    bench.write_config(&moved);
    let output = reload.output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("something that is no socket is there"),
        "{said}"
    );
    fs::remove_file(run.join("other.sock")).unwrap();
    assert_eq!(names(&run), files, "the path is taken");
    daemon.reload();
    assert!(run.join("other.sock").exists());
    daemon.wait_until("the old socket is gone", || !run.join("api.sock").exists());
    daemon.wait_until("the new account", || in_file(&bench, "one").is_some());
    assert_eq!(calls(&platform), [1, 1, 0, 0]);
    daemon.terminate();
}

/// A user whose name every host knows, and its uid.
const WWW: (&str, u32) = ("www-data", 33);
const GAMES: (&str, u32) = ("games", 5);
/// The user that the daemon runs as.
const DAEMON: u32 = 1;

#[test]
fn readers_that_are_added_may_read_within_a_second_and_those_removed_may_not() {
    crate::root::needs_root!();
    let (bench, platform) = (bench(), three());
    let configure = |readers: &str| {
        bench.configure(&platform, &shop(&format!("readers = [{readers}]")));
        for name in ["secret", "config.toml", "run", "state"] {
            chown(
                bench.path(name),
                Some(Uid::from_raw(DAEMON)),
                Some(Gid::from_raw(DAEMON)),
            )
            .unwrap();
        }
    };
    configure("\"www-data\"");
    // Without any privilege, as the daemon runs.
    let daemon = bench.start_with(|command| {
        command.uid(DAEMON).gid(DAEMON);
    });
    let token = in_file(&bench, "shop").unwrap();
    let may_read = |(_, uid): (&str, u32)| {
        let (file, socket) = (bench.path("run/shop.json"), bench.path("run/shop.sock"));
        as_user(uid, 60_000, &[], || {
            let file = fs::read_to_string(file).is_ok_and(|text| text.contains(&token));
            let socket = read_socket(&socket).is_ok_and(|text| text == token);
            (file, socket)
        })
    };
    let api = |(_, uid): (&str, u32)| {
        as_user(uid, 60_000, &[], || {
            get(&bench, "/v1/accounts/shop/token").status
        })
    };
    let mut took = Vec::new();
    let changes = [(WWW, GAMES, "\"games\""), (GAMES, WWW, "\"www-data\"")];
    for (reader, other, next) in [changes, changes].concat() {
        assert_eq!(may_read(reader), (true, true), "{reader:?}");
        assert_eq!(may_read(other), (false, false), "{other:?}");
        daemon.wait_until("the API agrees", || (api(reader), api(other)) == (200, 404));
        configure(next);
        let time = FairTime::start();
        daemon.signal(Signal::HUP);
        daemon.wait_until("the new reader reads", || may_read(other) == (true, true));
        took.push(time.elapsed());
        daemon.wait_until("the old one does not", || {
            may_read(reader) == (false, false)
        });
    }
    // A busy machine may be late once.
    assert!(
        took.iter().min() < Some(&Duration::from_secs(1)),
        "{took:?}"
    );
    assert_eq!(in_file(&bench, "shop"), Some(token.clone()));
    assert_eq!(calls(&platform), [1, 0, 0, 0]);
    assert_eq!(daemon.terminate().code(), Some(0));
}

#[test]
fn the_answer_for_another_app_is_nobodys() {
    let (bench, platform) = (bench(), three());
    bench.configure(&platform, &shop(""));
    let delay = SimFault::delay(Duration::from_secs(2)).of(SHOP);
    platform.with(|world, _| world.set_fault(delay));
    let daemon = bench.spawn();
    daemon.wait_until("a call", || calls(&platform) == [1, 0, 0, 0]);
    bench.configure(&platform, &account("shop", &appid(1), ""));
    daemon.signal(Signal::HUP);
    daemon.wait_until("a token", || {
        !in_socket(&bench, "shop").is_empty() && in_file(&bench, "shop").is_some()
    });
    let token = in_file(&bench, "shop").unwrap();
    assert_eq!(probe(&platform, &token).account.unwrap(), appid(1));
    assert_eq!(in_socket(&bench, "shop"), token);
    daemon.wait_until("the end of the start", || {
        daemon.log().contains(" is ready: ")
    });
    // Another one takes away what was of the one before.
    platform.stop();
    bench.configure(&platform, &account("shop", &appid(2), ""));
    daemon.reload();
    daemon.wait_until("that it goes", || {
        in_file(&bench, "shop").is_none() && in_socket(&bench, "shop").is_empty()
    });
    daemon.terminate();
}

#[test]
fn a_reload_changes_how_the_platform_is_asked_and_what_is_logged() {
    let (bench, first, second) = (bench(), three(), three());
    bench.configure(&first, &shop("poll_every = \"1s\""));
    let daemon = bench.start();
    bench.configure(&second, &shop("poll_every = \"1s\""));
    let text = fs::read_to_string(bench.path("config.toml")).unwrap();
    bench.write_config(&text.replace("\"debug\"", "\"warn\""));
    daemon.reload();
    daemon.wait_until("calls to the second", || token_calls(&second, SHOP) >= 2);
    let (asked, log) = (token_calls(&first, SHOP), daemon.log().len());
    let asked_second = token_calls(&second, SHOP);
    daemon.wait_until("one more", || token_calls(&second, SHOP) > asked_second);
    assert_eq!(token_calls(&first, SHOP), asked);
    assert_eq!(daemon.log().len(), log, "{}", daemon.log());
    daemon.terminate();
}

#[test]
fn a_new_platform_section_is_told_and_a_failing_account_asks_at_once() {
    let (bench, first, second) = (bench(), three(), three());
    first.with(|world, _| world.set_fault(Effect::errcode(40164).into()));
    bench.configure(&first, &shop(""));
    let daemon = bench.start();
    // Without a new platform the next try is in five minutes.
    daemon.wait_until("expired", || state(&bench, "shop") == "expired");
    bench.configure(&second, &shop(""));
    let said = output_of(&mut bench.wxtokend(&["reload"]));
    assert_eq!(said, "reloaded\nchanged: [platform]\n");
    let told = "configuration reloaded: [platform] changed; accounts: added none; changed none; removed none; 1 unchanged";
    daemon.wait_until(told, || daemon.log().contains(told));
    daemon.wait_until("fresh", || state(&bench, "shop") == "fresh");
}
