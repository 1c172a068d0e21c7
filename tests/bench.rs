//! The bench itself: a test is worth what its instruments are.

mod common;

use common::root;
use common::{Bench, Freshness, ReadFrom, as_user, json, raw, wait_until};
use std::fs;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::sync::Arc;
use std::time::Duration;
use wxtokend::sim::{Kill, SimPlatform, SimRequest, World};

const APP: &str = "wx0123456789abcdef";

fn platform() -> (Arc<SimPlatform>, String) {
    let mut world = World::new();
    world.account(APP, "s");
    let platform = SimPlatform::start(([127, 0, 0, 1], 0).into(), world).expect("a free port");
    let target = format!("/cgi-bin/token?grant_type=client_credential&appid={APP}&secret=s");
    let answer = platform.with(|world, now| world.handle(now, &SimRequest::get(&target)).to_json());
    let token = answer["access_token"].as_str().expect("a token").into();
    (Arc::new(platform), token)
}

#[test]
fn readers_tell_fresh_from_dead_missing_empty_and_partial() {
    let bench = Bench::new();
    let (platform, token) = platform();
    let path = bench.path("run/shop.json");
    let read = |text: Option<&str>| {
        match text {
            Some(text) => drop(bench.secret("run/shop.json", text)),
            None => fs::remove_file(&path).unwrap(),
        }
        let readers = Freshness::watch(&platform, &[ReadFrom::File(path.clone(), json)]);
        readers.wait_for_rounds(3);
        readers.stop()
    };
    let good = |expire_time: u64| {
        format!(r#"{{"access_token":"{token}","expire_time":{expire_time},"account":"shop"}}"#)
    };
    let later = good(4_102_444_799);
    let fresh = read(Some(&later));
    fresh.assert_always_fresh(0);
    assert!(fresh.reads > 0);
    let check = |text: Option<&str>, count: fn(&common::Findings) -> usize| {
        let findings = read(text);
        assert!(
            findings.reads > 0 && count(&findings) == findings.reads,
            "{findings:?}"
        );
    };
    check(Some(&good(1)), |f| f.looks_expired);
    check(Some(&later[..50]), |f| f.partial);
    check(Some(""), |f| f.empty);
    check(None, |f| f.missing);
    check(Some(&later.replace(&token, "86_another")), |f| f.dead);
    platform.with(|world, now| world.kill(now, APP, "access_token", Kill::End));
    // Readers know times to the millisecond, and take the doubtful one for alive.
    let ended = || platform.with(|world, now| world.probe(now, &token).ended_ms_ago);
    wait_until("its end is past", common::PATIENCE, String::new, || {
        ended() > Some(1)
    });
    check(Some(&later), |f| f.dead);
}

#[test]
fn readers_read_sockets() {
    let bench = Bench::new();
    let (platform, token) = platform();
    let path = bench.path("run/shop.sock");
    let listener = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            stream.unwrap().write_all(token.as_bytes()).unwrap();
        }
    });
    let readers = Freshness::watch(&platform, &[ReadFrom::Socket(path, raw)]);
    readers.wait_for_rounds(3);
    readers.stop().assert_always_fresh(0);
}

#[test]
fn the_manager_keeps_what_it_is_told_and_given() {
    let bench = Bench::new();
    let file = fs::File::open("/dev/null").unwrap();
    let before = bench.manager.count();
    let socket = UnixDatagram::unbound().unwrap();
    socket.connect(bench.manager.path()).unwrap();
    socket.send(b"READY=1\nSTATUS=one").unwrap();
    send_fd(&socket, b"FDSTORE=1", &file);
    wait_until("both", common::PATIENCE, String::new, || {
        bench.manager.count() == before + 2
    });
    assert!(bench.manager.said_since(before, "READY=1"));
    assert!(!bench.manager.said_since(before, "READY"));
    assert!(!bench.manager.said_since(before + 1, "READY=1"));
    assert_eq!(bench.manager.status().as_deref(), Some("one"));
    bench.manager.with(|messages| {
        assert_eq!(messages[before].fds.len(), 0);
        let given = fs::File::from(messages[before + 1].fds[0].try_clone().unwrap());
        assert_eq!(
            given.metadata().unwrap().rdev(),
            file.metadata().unwrap().rdev()
        );
    });
}

fn send_fd(socket: &UnixDatagram, text: &[u8], fd: impl AsFd) {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let fds = [fd.as_fd()];
    assert!(ancillary.push(SendAncillaryMessage::ScmRights(&fds)));
    let parts = [std::io::IoSlice::new(text)];
    sendmsg(socket, &parts, &mut ancillary, SendFlags::empty()).expect("a socket that listens");
}

#[test]
fn another_user_is_another_user() {
    crate::root::needs_root!();
    let bench = Bench::new();
    let path = bench.secret("secret", "x");
    let read = || fs::read(&path).map_err(|error| error.kind());
    assert_eq!(
        as_user(65534, 65534, &[], read),
        Err(std::io::ErrorKind::PermissionDenied)
    );
    assert_eq!(read(), Ok(b"x".into()), "only that thread was changed");
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
    assert!(
        as_user(65534, 65534, &[0], read).is_ok(),
        "as a member of the group"
    );
}

#[test]
#[should_panic(expected = "not within 10ms: pigs fly\nthe log")]
fn waiting_ends() {
    let log = || "the log".into();
    wait_until("pigs fly", Duration::from_millis(10), log, || false);
}

#[test]
fn the_configuration_of_a_bench_is_right() {
    let bench = Bench::new();
    let (platform, _) = platform();
    bench.secret("secret", "0123456789abcdef0123456789abcdef");
    bench.configure(
        &platform,
        "[accounts.shop]\nappid = \"wx0123456789abcdef\"\nsecret_file = \"{dir}/secret\"\n\
         [[accounts.shop.file]]\npath = \"{dir}/run/shop/token.json\"\n",
    );
    let said = common::output_of(&mut bench.wxtokend(&["check"]));
    assert!(said.contains("no fault; accounts: 1, outputs: 1"), "{said}");
}

#[test]
fn a_daemon_that_ends_leaves_its_status_and_log() {
    let bench = Bench::new();
    bench.write_config("[daemon]\nno_such_key = 1\n");
    let mut daemon = bench.spawn();
    assert!(!daemon.wait().success());
    assert!(!daemon.is_running());
    assert!(!daemon.said("READY=1"));
}
