//! A name service that is away: the outputs that name one of its users wait, and nothing else does.

use crate::common::{Bench, FairTime, RunningDaemon, output_of};
use crate::fixture::{SECRET, account, appid, bench, get, in_file, platform, shop};
use crate::root::needs_root;
use rustix::process::Signal;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use wxtokend::sim::SimPlatform;

/// A user that the name service tells, when it is there.
const UID: u32 = 54_321;
/// SIGTERM to exit, and some time for a busy host.
const EXIT_LIMIT: Duration = Duration::from_millis(6500);

/// Has a command run where `passwd` lies over the host's, and no other source of names is asked.
fn surround(bench: &Bench, command: &mut Command) {
    let switch = bench.path("nsswitch.conf");
    fs::write(&switch, "passwd: files\n").unwrap();
    let environment = command
        .get_envs()
        .filter_map(|(name, value)| Some((name, value?)));
    let mut surrounded = Command::new("unshare");
    let script = "mount --bind \"$2\" /etc/nsswitch.conf && mount --bind \"$1\" /etc/passwd && shift 2 && exec \"$@\"";
    surrounded
        .args(["--mount", "sh", "-c", script, "sh"])
        .args([bench.path("passwd"), switch])
        .arg(command.get_program())
        .args(command.get_args())
        .env_clear()
        .envs(environment);
    *command = surrounded;
}

fn start(bench: &Bench, change: impl FnOnce(&mut Command)) -> RunningDaemon<'_> {
    bench.spawn_with(|command| {
        command.env("WATCHDOG_USEC", "4000000");
        surround(bench, command);
        change(command);
    })
}

/// From now on the name service of a daemon answers.
fn answer(bench: &Bench, daemon: &RunningDaemon<'_>) {
    let names = bench.path("names");
    let text = format!("root:x:0:0::/root:/bin/sh\naway:x:{UID}:{UID}::/:/bin/sh\n");
    fs::write(&names, text).unwrap();
    let pid = daemon.pid().as_raw_nonzero().to_string();
    let mut mount = Command::new("nsenter");
    mount
        .args(["-t", &pid, "-m", "mount", "--bind"])
        .arg(&names)
        .arg("/etc/passwd");
    output_of(&mut mount);
}

/// The file that `away` names is there, and belongs to its owner.
fn is_owned(path: &Path) -> bool {
    path.metadata().is_ok_and(|found| found.uid() == UID)
}

fn output_error(bench: &Bench, index: usize) -> String {
    let shop = get(bench, "/v1/accounts/shop").json();
    shop["outputs"][index]["error"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

/// `shop`, with outputs for a user of the name service, and `blog`.
fn two(bench: &Bench) -> Arc<SimPlatform> {
    let platform = platform(|world| {
        world.account(&appid(1), SECRET);
    });
    let away = "[[accounts.shop.file]]\npath = \"{dir}/run/owned.json\"\nowner = \"away\"\n\
                [[accounts.shop.socket]]\npath = \"{dir}/run/of-reader.sock\"\nreaders = [\"away\"]\n";
    let text = shop("") + away + &account("blog", &appid(1), "");
    bench.configure(&platform, &text);
    platform
}

#[test]
fn names_that_could_not_be_looked_up_are_looked_up_again() {
    needs_root!();
    let bench = bench();
    let platform = two(&bench);
    let config = fs::read_to_string(bench.path("config.toml")).unwrap();
    bench.write_config(&config.replacen("admins = [", "admins = [\"away\", ", 1));
    // It cannot be opened.
    let _socket = UnixListener::bind(bench.path("passwd")).unwrap();
    let daemon = start(&bench, |_| ());
    daemon.wait_until("READY=1", || daemon.said("READY=1"));
    daemon.wait_until("the rest is served", || {
        in_file(&bench, "shop").is_some() && in_file(&bench, "blog").is_some()
    });
    daemon.log_with(&["\"away\", which cannot be looked up now"]);
    daemon.wait_until("that it is told", || {
        output_error(&bench, 1).contains("`away`, which could not be looked up")
    });
    assert!(!bench.path("run/owned.json").exists());
    assert!(!bench.path("run/of-reader.sock").exists());
    let as_away = || {
        let socket = bench.socket();
        crate::common::as_user(UID, UID, &[], || {
            crate::common::call(&socket, "GET", "/v1/accounts/blog", "")
                .unwrap()
                .status
        })
    };
    assert_eq!(as_away(), 404);
    let calls = crate::fixture::token_calls(&platform, &appid(1));
    answer(&bench, &daemon);
    daemon.wait_until("its file", || is_owned(&bench.path("run/owned.json")));
    daemon.wait_until("its socket", || bench.path("run/of-reader.sock").exists());
    let socket = bench.path("run/of-reader.sock");
    daemon.wait_until("a token in it", || {
        let read = crate::common::as_user(UID, UID, &[], || crate::common::read_socket(&socket));
        read.is_ok_and(|text| text.contains("access_token"))
    });
    daemon.wait_until("an admin", || as_away() == 200);
    daemon.wait_until("that it is told", || {
        daemon.log().contains("the name service answers")
    });
    // The other account noticed nothing.
    assert_eq!(crate::fixture::token_calls(&platform, &appid(1)), calls);
    assert_eq!(daemon.terminate().code(), Some(0));
}

#[test]
fn name_service_that_hangs_holds_up_neither_others_nor_the_end() {
    needs_root!();
    let bench = bench();
    let _platform = two(&bench);
    // Nobody ever writes to it.
    output_of(Command::new("mkfifo").arg(bench.path("passwd")));
    let time = FairTime::start();
    let daemon = start(&bench, |_| ());
    daemon.wait_until("READY=1", || daemon.said("READY=1"));
    time.assert_within(Duration::from_secs(20));
    daemon.wait_until("the rest is served", || in_file(&bench, "blog").is_some());
    // While it is looked up again and again.
    let beats = || {
        let manager = &bench.manager;
        manager.with(|messages| messages.iter().filter(|m| m.has("WATCHDOG=1")).count())
    };
    let before = beats();
    daemon.wait_until("signs of life", || beats() > before + 8);
    let time = FairTime::start();
    daemon.reload();
    time.assert_within(Duration::from_secs(20));
    assert!(!bench.path("run/owned.json").exists());
    // It answers again: what hung ends too.
    answer(&bench, &daemon);
    drop(
        OpenOptions::new()
            .write(true)
            .read(true)
            .open(bench.path("passwd"))
            .unwrap(),
    );
    daemon.wait_until("its file", || is_owned(&bench.path("run/owned.json")));
    assert_eq!(daemon.terminate().code(), Some(0));
}

#[test]
fn daemon_stops_in_time_while_the_name_service_hangs() {
    needs_root!();
    let bench = bench();
    let _platform = two(&bench);
    output_of(Command::new("mkfifo").arg(bench.path("passwd")));
    let daemon = start(&bench, |_| ());
    daemon.wait_until("READY=1", || daemon.said("READY=1"));
    daemon.signal(Signal::HUP);
    let time = FairTime::start();
    assert_eq!(daemon.terminate().code(), Some(0));
    time.assert_within(EXIT_LIMIT);
}
