//! Many accounts, many clients, few file descriptors.

use crate::common::{Bench, FairTime, Freshness, ReadFrom, call, json, raw};
use crate::fixture::{
    Mount, SECRET, SHOP, account, appid, bench, get, in_file, in_socket, limit_files, names,
    platform, replaced_early, shop,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fmt::Write;
use std::fs;
use std::os::unix::net::UnixStream;
use std::time::Duration;
use wxtokend::sim::SimAccount;

const MANY: u64 = 3000;

#[test]
fn thousands_of_accounts_need_few_file_descriptors() {
    crate::root::needs_root!();
    let bench = Bench::new();
    // Waiting for a disk is not what is tried here.
    let disks = [
        Mount::over(bench.path("run"), 1 << 28),
        Mount::over(bench.path("state"), 1 << 28),
    ];
    let platform = platform(|world| {
        for n in 0..MANY {
            world.add(SimAccount::numbered(n));
        }
    });
    let mut text = String::new();
    for n in 0..MANY {
        let id = appid(n);
        let _ = write!(
            text,
            "[accounts.a{n}]\nappid = \"{id}\"\nsecret = \"{n:032x}\"\n[[accounts.a{n}.file]]\npath = \"{{dir}}/run/a{n}.json\"\n"
        );
    }
    bench.configure(&platform, &text);
    let limited = || bench.spawn_with(|command| limit_files(command, 1024));
    let daemon = limited();
    daemon.wait_until("all files", || {
        bench.path("run").read_dir().unwrap().count() as u64 > MANY
    });
    for n in [0, 1, MANY / 2, MANY - 1] {
        let name = format!("a{n}");
        daemon.wait_until("its token", || in_file(&bench, &name).is_some());
    }
    assert_eq!(platform.with(|world, _| world.token_calls()), MANY);
    assert!(platform.with(|world, _| world.log().in_flight.peak) <= 32);
    let open = fs::read_dir(format!("/proc/{}/fd", daemon.pid().as_raw_nonzero()))
        .unwrap()
        .count();
    assert!(open < 200, "{open}");
    let log = daemon.log();
    // A busy machine may hold up a file for a moment.
    let is_trouble = |line: &&str| {
        (line.contains("WARN") || line.contains("ERROR"))
            && !line.contains("its file system does not answer")
    };
    assert_eq!(log.lines().find(is_trouble), None);
    daemon.terminate();
    // Again, from what is stored.
    for name in names(&bench.path("run")) {
        fs::remove_file(bench.path("run").join(name)).unwrap();
    }
    let daemon = limited();
    daemon.wait_until("READY=1", || daemon.said("READY=1"));
    // With the API socket.
    daemon.wait_until("all files", || {
        names(&bench.path("run")).len() as u64 == MANY + 1
    });
    let time = FairTime::start();
    daemon.reload();
    time.assert_within(Duration::from_secs(20));
    assert_eq!(platform.with(|world, _| world.token_calls()), MANY);
    daemon.terminate();
    drop(disks);
}

#[test]
fn more_sockets_than_file_descriptors_are_refused_with_the_number_to_set() {
    let (bench, platform) = (bench(), platform(|_| ()));
    let mut text = shop("");
    for n in 0..100 {
        let _ = write!(
            text,
            "[[accounts.shop.socket]]\npath = \"{{dir}}/run/{n}.sock\"\n"
        );
    }
    bench.configure(&platform, &text);
    let mut daemon = bench.spawn_with(|command| limit_files(command, 128));
    assert_eq!(daemon.wait().code(), Some(78));
    let log = daemon.log();
    assert!(
        log.contains("the hard limit is 128: set LimitNOFILE="),
        "{log}"
    );
    assert!(names(&bench.path("run")).is_empty());
    // With as many as it says, it runs.
    let needed: u32 = log
        .split("LimitNOFILE=")
        .nth(1)
        .unwrap()
        .split(' ')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    let daemon = bench.spawn_with(|command| limit_files(command, needed));
    daemon.wait_until("the last socket", || {
        crate::common::read_socket(&bench.path("run/99.sock")).is_ok_and(|text| !text.is_empty())
    });
    // A reload that asks for more is refused as well.
    text += &account("blog", &appid(1), "");
    bench.configure(&platform, &text);
    let reload = bench.wxtokend(&["reload"]).output().unwrap();
    assert_eq!(reload.status.code(), Some(78));
    assert!(
        String::from_utf8_lossy(&reload.stderr).contains("LimitNOFILE="),
        "{reload:?}"
    );
    assert!(!in_socket(&bench, "shop").is_empty());
    daemon.terminate();
}

#[test]
fn silent_clients_cost_nobody_anything() {
    crate::root::needs_root!();
    let limit = getrlimit(Resource::Nofile);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            ..limit
        },
    )
    .unwrap();
    let platform = platform(|world| replaced_early(world.account(SHOP, SECRET)));
    let bench = bench();
    bench.configure(&platform, &shop(""));
    let daemon = bench.spawn_with(|command| limit_files(command, 1024));
    daemon.wait_until("READY=1", || daemon.said("READY=1"));
    let (socket, file) = (bench.path("run/shop.sock"), bench.path("run/shop.json"));
    let readers = Freshness::watch(
        &platform,
        &[
            ReadFrom::Socket(socket.clone(), raw),
            ReadFrom::File(file, json),
        ],
    );
    // Those that read nothing, and those that ask for nothing.
    let silent: Vec<_> = (0..1500)
        .map(|_| UnixStream::connect(&socket).unwrap())
        .collect();
    let on_the_api: Vec<_> = (0..300)
        .map_while(|_| UnixStream::connect(bench.socket()).ok())
        .collect();
    let held = in_file(&bench, "shop");
    daemon.wait_until("another token", || in_file(&bench, "shop") != held);
    readers.wait_for_rounds(50);
    readers.stop().assert_always_fresh(1);
    // Who holds half of the connections holds up nobody else.
    let www = crate::common::as_user(33, 33, &[], || {
        call(&bench.socket(), "GET", "/v1/accounts", "")
            .unwrap()
            .status
    });
    assert_eq!(www, 200);
    drop((silent, on_the_api));
    daemon.wait_until("answers", || {
        get(&bench, &format!("/v1/accounts/{}", "shop")).status == 200
    });
    assert!(platform.with(|world, _| world.peak_in_flight(SHOP)) == 1);
    daemon.terminate();
}
