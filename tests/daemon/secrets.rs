//! Secrets and tokens are where they have to be, and nowhere else.

use crate::common::{Bench, as_user, call};
use crate::fixture::{SECRET, account, appid, bench, get, platform, shop, state};
use rustix::fs::chown;
use rustix::process::{Gid, Uid};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::sync::Arc;
use wxtokend::sim::{Effect, Endpoint, SimFault, SimPlatform};

/// The AppSecret that stands in the configuration itself.
const INLINE: &str = "inline-CANARY-0123456789";

/// Secrets, and all that the platform ever minted.
fn canaries(platform: &SimPlatform) -> Vec<String> {
    let minted: Vec<String> = platform.with(|world, _| world.values().map(Into::into).collect());
    assert!(!minted.is_empty());
    [minted, vec![SECRET.into(), INLINE.into()]].concat()
}

#[track_caller]
fn has_none(text: &str, canaries: &[String]) {
    for canary in canaries {
        // A part gives enough away. Where it stands is shown, without it.
        let found = text.find(&canary[..20]);
        let before = found.map(|at| text[..at].lines().last());
        assert_eq!(before, None, "a secret or a value is after this");
    }
}

/// Files below a directory that others may read.
fn readable_by_others(directory: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let metadata = entry.path().symlink_metadata().unwrap();
        if metadata.is_dir() {
            readable_by_others(&entry.path(), found);
        } else if metadata.is_file() && metadata.mode() & 0o004 != 0 {
            found.push(fs::read_to_string(entry.path()).unwrap());
        }
    }
}

const DAEMON: u32 = 1;

fn give_to_daemon(bench: &Bench) {
    let (uid, gid) = (Uid::from_raw(DAEMON), Gid::from_raw(DAEMON));
    for name in ["secret", "config.toml", "run", "state"] {
        chown(bench.path(name), Some(uid), Some(gid)).unwrap();
    }
}

/// The fault of the calls of each account in trouble.
fn troubles() -> Vec<(String, Effect)> {
    let effects = [
        Effect::Echo,
        // Once in the body of a request, once in its URL.
        Effect::Echo,
        Effect::HalfBody,
        Effect::Huge,
        Effect::LoginPage,
        Effect::Status(502),
        Effect::Redirect,
        Effect::Reset,
        Effect::Hang,
        Effect::Endless,
        Effect::errcode(40164),
        Effect::errcode(40125),
        Effect::errcode(48001),
    ];
    (1..).map(appid).zip(effects).collect()
}

const INLINE_APP: &str = "wx00000000000000ff";

/// A platform that fails in every way, and tells secrets and tokens where it can.
fn chatty_platform() -> Arc<SimPlatform> {
    platform(|world| {
        world.account(INLINE_APP, INLINE);
        for (id, effect) in troubles() {
            world.account(&id, SECRET);
            world.set_fault(SimFault::from(effect).of(&id));
        }
        for endpoint in [Endpoint::ApiDomainIp, Endpoint::GetTicket] {
            world.set_fault(SimFault::from(Effect::Echo).at(endpoint));
        }
    })
}

/// Writes a configuration of all accounts and returns it.
fn configure(bench: &Bench, platform: &SimPlatform) -> String {
    let inline = account("inline", INLINE_APP, "verify_every = \"1s\"");
    let inline = inline.replace(
        "secret_file = \"{dir}/secret\"",
        &format!("secret = \"{INLINE}\""),
    );
    let mut text = "timeout = \"1s\"\n".to_owned() + &shop("tickets = [\"jsapi\"]") + &inline;
    for (n, (id, _)) in troubles().iter().enumerate() {
        let method = ["stable", "classic"][n % 2];
        text += &account(&format!("a{n}"), id, &format!("method = \"{method}\""));
    }
    bench.configure(platform, &text);
    let config = fs::read_to_string(bench.path("config.toml")).unwrap();
    let config = config.replace("\"debug\"", "\"trace\"");
    bench.write_config(&config);
    give_to_daemon(bench);
    config
}

/// Runs a command and returns all that it prints.
fn printed(bench: &Bench, arguments: &[&str], code: i32) -> String {
    let output = bench.wxtokend(arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}");
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

#[test]
fn secrets_are_in_nothing_that_is_printed() {
    crate::root::needs_root!();
    let (bench, platform) = (bench(), chatty_platform());
    let config = configure(&bench, &platform);
    let daemon = bench.spawn_with(|command| {
        command.uid(DAEMON).gid(DAEMON);
        command.env("RUST_LOG", "trace").env("RUST_BACKTRACE", "1");
    });
    daemon.wait_until("READY=1", || daemon.said("READY=1"));
    for n in 0..troubles().len() {
        let name = format!("a{n}");
        daemon.wait_until("its trouble", || state(&bench, &name) == "expired");
    }
    let looks = || platform.with(|world, _| world.calls(INLINE_APP, Endpoint::ApiDomainIp));
    daemon.wait_until("calls that carry a token", || looks() >= 2);
    let degraded = || state(&bench, "shop") == "degraded";
    daemon.wait_until("the ticket's trouble", degraded);
    let mut texts = Vec::new();
    for arguments in [&["status"] as &[&str], &["status", "--json"]] {
        texts.push(printed(&bench, arguments, 1));
    }
    // A faulty configuration, whose faults are beside secrets.
    let faulty =
        config.replace("secret = \"inline", "secret = \"a b inline") + "\nsecret = \"CANARY";
    for faulty in [&faulty, &faulty.replace("\nsecret = \"CANARY", "\n")] {
        bench.write_config(faulty);
        give_to_daemon(&bench);
        texts.push(printed(&bench, &["reload"], 78));
        texts.push(printed(&bench, &["check"], 78));
    }
    texts.push(daemon.log());
    bench.manager.with(|messages| {
        texts.extend(messages.iter().map(|message| message.text.clone()));
    });
    let process = Path::new("/proc").join(daemon.pid().as_raw_nonzero().to_string());
    for name in ["cmdline", "environ"] {
        let bytes = fs::read(process.join(name)).unwrap();
        texts.push(String::from_utf8_lossy(&bytes).into_owned());
    }
    let of_account = ["/v1/accounts", "/v1/accounts/shop", "/metrics", "/healthz"];
    texts.extend(of_account.map(|target| get(&bench, target).body));
    // Somebody who is no reader.
    for target in of_account.iter().chain(&["/v1/accounts/shop/token"]) {
        let ask = || call(&bench.socket(), "GET", target, "").unwrap();
        let answer = as_user(33, 33, &[], ask);
        texts.push(answer.head + &answer.body);
    }
    readable_by_others(&bench.path(""), &mut texts);
    assert!(texts.len() > 20, "{}", texts.len());
    let canaries = canaries(&platform);
    for text in &texts {
        has_none(text, &canaries);
    }
    // Root, not the user, owns what would let the user's other processes look into it: no core is dumped either.
    for name in ["mem", "environ"] {
        assert_eq!(fs::metadata(process.join(name)).unwrap().uid(), 0);
        let peek = || fs::File::open(process.join(name)).is_ok();
        assert!(!as_user(DAEMON, DAEMON, &[], peek), "{name}");
    }
    daemon.terminate();
}

#[test]
fn outputs_hold_the_value_and_the_state_no_secret() {
    let (bench, platform) = (bench(), platform(|_| ()));
    bench.configure(&platform, &shop(""));
    let daemon = bench.start();
    let canaries = canaries(&platform);
    let file = fs::read_to_string(bench.path("run/shop.json")).unwrap();
    assert!(
        canaries.iter().any(|canary| file.contains(canary)),
        "what is searched for is what is handed out"
    );
    let stored = fs::read_to_string(bench.path("state/state.jsonl")).unwrap();
    assert!(!stored.contains(SECRET));
    daemon.terminate();
}
