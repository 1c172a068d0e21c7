//! Running out of threads, memory for them, or file descriptors for a moment: that is told, kills nothing and passes.

use crate::common::{Bench, Freshness, ReadFrom, RunningDaemon, json, output_of, raw};
use crate::fixture::{
    SECRET, SHOP, account, appid, bench, bench_on_disk, get, in_file, platform, replaced_early,
    shop,
};
use crate::root::needs_root;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs;
use std::io::Write;
use std::os::unix::fs::chown;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;
use wxtokend::sim::{SimPlatform, World};

/// A user that runs nothing else.
const USER: u32 = 54_399;

fn two() -> Arc<SimPlatform> {
    platform(|world: &mut World| {
        for id in [SHOP.to_owned(), appid(1)] {
            replaced_early(world.account(&id, SECRET));
        }
    })
}

fn own(bench: &Bench, path: &str) {
    chown(bench.path(path), Some(USER), Some(USER)).unwrap();
}

/// Limits the daemon from outside.
fn limit(daemon: &RunningDaemon<'_>, resource: &str, count: &str) {
    let pid = daemon.pid().as_raw_nonzero().to_string();
    let mut prlimit = Command::new("prlimit");
    prlimit.args(["--pid", &pid, &format!("--{resource}={count}:")]);
    // Without more rights than root always has, one user may limit only its own processes.
    let user = status(daemon, "Uid").try_into().unwrap();
    output_of(prlimit.uid(user).gid(user));
}

/// A number of `/proc/PID/status`.
fn status(daemon: &RunningDaemon<'_>, key: &str) -> u64 {
    let path = format!("/proc/{}/status", daemon.pid().as_raw_nonzero());
    let text = fs::read_to_string(path).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    let number = line.unwrap().split_whitespace().next().unwrap();
    number.parse().unwrap()
}

fn open_files(daemon: &RunningDaemon<'_>) -> usize {
    let path = format!("/proc/{}/fd", daemon.pid().as_raw_nonzero());
    fs::read_dir(path).unwrap().count()
}

fn blog(bench: &Bench, platform: &Arc<SimPlatform>) -> Freshness {
    Freshness::watch(
        platform,
        &[
            ReadFrom::File(bench.path("run/blog.json"), json),
            ReadFrom::Socket(bench.path("run/blog.sock"), raw),
        ],
    )
}

fn wait_for_rotation(bench: &Bench, daemon: &RunningDaemon<'_>) {
    let held = in_file(bench, "blog");
    daemon.wait_until("another token", || {
        in_file(bench, "blog").is_some_and(|token| Some(token) != held)
    });
}

/// While no thread can be had, another file system is needed, which takes threads of its own.
fn threads_cannot_be_had(
    resource: &str,
    enough: &str,
    short: impl FnOnce(&RunningDaemon<'_>) -> String,
) {
    let (bench, platform) = (bench(), two());
    fs::create_dir(bench.path("srv")).unwrap();
    let disk = crate::fixture::Mount::over(bench.path("srv"), 1 << 20);
    for path in ["run", "state", "srv", "secret"] {
        own(&bench, path);
    }
    bench.configure(&platform, &account("blog", &appid(1), ""));
    own(&bench, "config.toml");
    let daemon = bench.spawn_with(|command| {
        command.uid(USER).gid(USER);
    });
    daemon.wait_until("READY=1", || daemon.said("READY=1"));
    let count = short(&daemon);
    limit(&daemon, resource, &count);
    let text = shop("").replace("run/shop.json", "srv/shop.json") + &account("blog", &appid(1), "");
    bench.configure(&platform, &text);
    own(&bench, "config.toml");
    daemon.reload();
    daemon.wait_until("that it is told", || {
        daemon.log().contains("cannot start a thread") && daemon.log().contains("TasksMax=")
    });
    let readers = blog(&bench, &platform);
    wait_for_rotation(&bench, &daemon);
    wait_for_rotation(&bench, &daemon);
    readers.stop().assert_always_fresh(1);
    limit(&daemon, resource, enough);
    let file = bench.path("srv/shop.json");
    daemon.wait_until("its file", || file.exists());
    assert_eq!(daemon.terminate().code(), Some(0));
    drop(disk);
}

#[test]
fn processes_that_are_used_up_are_told_and_tried_again() {
    needs_root!();
    threads_cannot_be_had("nproc", "1000", |_| "1".to_owned());
}

#[test]
fn memory_that_is_short_for_threads_is_told_and_tried_again() {
    needs_root!();
    threads_cannot_be_had("as", "unlimited", |daemon| {
        // Less than the stack of a thread.
        (status(daemon, "VmSize") * 1024 + (1 << 20)).to_string()
    });
}

#[test]
fn file_descriptors_that_are_used_up_kill_nothing() {
    // Nobody else may count what the daemon has open.
    needs_root!();
    // Where the directory is held open, a file is removed without another descriptor.
    let (bench, platform) = (bench_on_disk(), two());
    bench.configure(&platform, &account("blog", &appid(1), ""));
    let daemon = bench.start();
    wait_for_rotation(&bench, &daemon);
    let readers = Freshness::watch(
        &platform,
        &[ReadFrom::File(bench.path("run/blog.json"), json)],
    );
    limit(&daemon, "nofile", &open_files(&daemon).min(12).to_string());
    // Clients wait in vain, and the token ends: nobody may find it in its file then.
    let clients: Vec<_> = (0..20)
        .map(|_| UnixStream::connect(bench.socket()).unwrap())
        .collect();
    daemon.wait_until("that it is told", || {
        daemon.log().to_lowercase().contains("too many open files")
    });
    daemon.wait_until("its end", || in_file(&bench, "blog").is_none());
    limit(&daemon, "nofile", "1024");
    drop(clients);
    daemon.wait_until("another token", || in_file(&bench, "blog").is_some());
    daemon.wait_until("the API", || get(&bench, "/healthz").status == 200);
    assert_eq!(readers.stop().dead, 0);
    let log = daemon.log();
    let told = log.matches("cannot accept").count();
    assert!(told < 20, "{told}");
    assert!(!log.contains("panicked"), "{log}");
    assert_eq!(daemon.terminate().code(), Some(0));
}

#[test]
fn api_socket_in_a_directory_of_another_user_is_a_fault() {
    needs_root!();
    let (bench, platform) = (bench(), two());
    fs::create_dir(bench.path("app")).unwrap();
    own(&bench, "app");
    bench.configure(&platform, &shop(""));
    let text = fs::read_to_string(bench.path("config.toml")).unwrap();
    bench.write_config(&text.replace("run/api.sock", "app/api.sock"));
    let mut daemon = bench.spawn();
    assert_eq!(daemon.wait().code(), Some(78), "{}", daemon.log());
    let log = daemon.log();
    assert!(
        log.contains(
            "its directory belongs to uid 54399, who could put something else in its place"
        ),
        "{log}"
    );
    assert!(!bench.path("app/api.sock").exists());
    // A running daemon refuses such a socket at a reload too.
    bench.write_config(&text);
    let daemon = bench.start();
    bench.write_config(&text.replace("run/api.sock", "app/api.sock"));
    let reload = bench.wxtokend(&["reload"]).output().unwrap();
    assert_eq!(reload.status.code(), Some(78), "{reload:?}");
    assert_eq!(get(&bench, "/healthz").status, 200);
    daemon.terminate();
}

/// Connections of one attack: nearly all that there are.
const ATTACKERS: usize = 1700;
/// Memory that they may take together, KiB.
const MOST: u64 = 24 << 10;

#[test]
fn memory_that_attacks_take_is_bounded_and_used_again() {
    // Nobody else may count what the daemon has open.
    needs_root!();
    let files = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: files.maximum,
        ..files
    };
    setrlimit(Resource::Nofile, raised).unwrap();
    let (bench, platform) = (bench(), two());
    bench.configure(&platform, &shop(""));
    let daemon = bench.start();
    let quiet = open_files(&daemon);
    // The head of a request without its end.
    let head = format!("GET /healthz HTTP/1.1\r\nX: {}", "x".repeat(8000));
    let memory_after_attack = || {
        let clients: Vec<_> = (0..ATTACKERS)
            .map(|_| {
                let mut client = UnixStream::connect(bench.socket()).unwrap();
                // It may be cut off already.
                let _ = client.write_all(head.as_bytes());
                client
            })
            .collect();
        daemon.wait_until("that all are held", || {
            open_files(&daemon) > quiet + ATTACKERS / 2
        });
        drop(clients);
        daemon.wait_until("that all are gone", || open_files(&daemon) < quiet + 20);
        status(&daemon, "VmRSS")
    };
    let before = status(&daemon, "VmRSS");
    let first = memory_after_attack();
    assert!(first < before + MOST, "{before} {first} KiB");
    let more: Vec<_> = (0..4).map(|_| memory_after_attack()).collect();
    // The first attacks make each thread's heap as large as it needs; from then on it does not grow.
    assert!(more[3] < more[0] + 4096, "{before} {first} {more:?} KiB");
    assert_eq!(get(&bench, "/healthz").status, 200);
    daemon.terminate();
}
