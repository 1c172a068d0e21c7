//! Crowds: of idle connections, and of connections that come and go.

use crate::fixture::{SHOP, Stage, key, token_target};
use rustix::process::Pid;
use std::net::TcpStream;
use std::time::Duration;

#[test]
fn ten_thousand_idle_connections_cost_readers_nothing() {
    let stage = Stage::new(Duration::from_secs(7200));
    stage.configure("", "0");
    let daemon = stage.start();
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let (soft, hard) = (files.current.unwrap_or(u64::MAX), files.maximum);
    rustix::process::setrlimit(
        rustix::process::Resource::Nofile,
        rustix::process::Rlimit {
            current: hard,
            maximum: hard,
        },
    )
    .unwrap();
    let room = usize::try_from(hard.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
    let crowd = 10_000.min(room.saturating_sub(1000));
    assert!(
        crowd == 10_000 || std::env::var_os("CI").is_none(),
        "raise the limit of open files, it is {soft}"
    );
    let target = token_target(SHOP, key("shop", "cms"));
    let mut reader = stage.client();
    let mut idle = Vec::new();
    for number in 0..crowd {
        idle.push(TcpStream::connect(stage.address).unwrap());
        if number % 100 == 0 {
            assert_eq!(reader.get(&target).errcode(), 0, "the one that reads stays");
        }
    }
    // A reader that comes now is served as the one that came first is.
    for mut client in [reader, stage.client()] {
        let before = cpu_time(daemon.pid());
        for _ in 0..100 {
            assert_eq!(client.get(&target).errcode(), 0);
        }
        let took = cpu_time(daemon.pid()).checked_sub(before).unwrap();
        assert!(took < Duration::from_secs(5), "100 answers by {took:?}");
    }
    // The API and the accounts do not notice.
    assert_eq!(stage.api("/v1/accounts/shop").status, 200);
    drop(idle);
    daemon.terminate();
}

/// The time of processors that a process has used, whatever else the machine does.
fn cpu_time(process: Pid) -> Duration {
    let path = format!("/proc/{}/stat", process.as_raw_nonzero());
    let stat = std::fs::read_to_string(path).unwrap();
    let fields = stat.rsplit(") ").next().unwrap().split(' ');
    // utime and stime, in the kernel's hundredths of a second.
    let ticks: u64 = (fields.skip(11).take(2))
        .map(|ticks| ticks.parse::<u64>().unwrap())
        .sum();
    Duration::from_millis(ticks * 10)
}
