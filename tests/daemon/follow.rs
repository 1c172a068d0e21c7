//! Clients of the built daemon's API that stay connected: a follower of the stream, and readers at the moment of a stop.

use crate::common::{PATIENCE, call};
use crate::fixture::{SHOP, bench, in_file, platform, shop};
use rustix::process::Signal;
use serde_json::Value as Json;
use std::io::{BufRead, BufReader, ErrorKind, Lines, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use wxtokend::sim::Kill;

/// The lines of the stream. Over HTTP/1.0 they come as they are, without chunks.
fn follow(socket: &Path, query: &str) -> Lines<BufReader<UnixStream>> {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET /v1/watch{query} HTTP/1.0\r\n\r\n").unwrap();
    let mut lines = BufReader::new(stream).lines();
    while !lines.next().unwrap().unwrap().is_empty() {}
    lines
}

/// The next line that is no heartbeat; nothing at the end.
fn next(lines: &mut Lines<BufReader<UnixStream>>) -> Option<Json> {
    loop {
        let line: Json = serde_json::from_str(&lines.next()?.unwrap()).unwrap();
        if line.get("heartbeat").is_none() {
            return Some(line);
        }
    }
}

#[test]
fn follower_sees_replacement_reload_removal_and_stop() {
    let (bench, platform) = (bench(), platform(|_| ()));
    bench.configure(&platform, &shop(""));
    let daemon = bench.start();
    let first = in_file(&bench, "shop").unwrap();
    let mut lines = follow(&bench.socket(), "");
    let line = next(&mut lines).unwrap();
    assert_eq!(line["access_token"], *first, "{line}");
    assert_eq!(line["appid"], SHOP);
    assert_eq!(next(&mut lines).unwrap()["synced"], true);

    platform.with(|world, now| world.kill(now, SHOP, "access_token", Kill::End));
    let answer = call(&bench.socket(), "POST", "/v1/accounts/shop/refresh", "").unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    let second = answer.json()["access_token"].clone();
    assert_ne!(second, *first);
    // Between the two, the dead one may have been taken back.
    let line = loop {
        let line = next(&mut lines).unwrap();
        if line["none"] != true {
            break line;
        }
    };
    assert_eq!(line["access_token"], second);

    bench.configure(&platform, "");
    let answer = call(&bench.socket(), "POST", "/v1/reload", "").unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    let line = next(&mut lines).unwrap();
    assert_eq!(
        (&line["account"], &line["gone"]),
        (&"shop".into(), &true.into())
    );

    bench.configure(&platform, &shop(""));
    let answer = call(&bench.socket(), "POST", "/v1/reload", "").unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    let line = loop {
        let line = next(&mut lines).unwrap();
        if line["none"] != true {
            break line;
        }
    };
    assert_eq!(line["account"], "shop");

    let stop = thread::scope(|scope| {
        let end = scope.spawn(move || next(&mut lines));
        let code = daemon.terminate().code();
        assert_eq!(end.join().unwrap(), None, "the stream ends");
        code
    });
    assert_eq!(stop, Some(0));
}

#[test]
fn readers_that_connected_before_a_stop_are_answered() {
    let (bench, platform) = (bench(), platform(|_| ()));
    bench.configure(&platform, &shop(""));
    let mut daemon = bench.spawn_with(|command| {
        command.env_remove("NOTIFY_SOCKET");
    });
    daemon.wait_until("a token", || in_file(&bench, "shop").is_some());
    let socket = bench.socket();
    daemon.wait_until("an answer", || {
        call(&socket, "GET", "/v1/accounts/shop/token", "").is_ok_and(|answer| answer.status == 200)
    });
    let (is_over, answered) = (AtomicBool::new(false), AtomicU32::new(0));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let mut stream = match UnixStream::connect(&socket) {
                        Ok(stream) => stream,
                        Err(error) => {
                            // It went, perhaps between the look at the path and the listener.
                            let gone = [ErrorKind::NotFound, ErrorKind::ConnectionRefused];
                            assert!(gone.contains(&error.kind()), "{error}");
                            return;
                        }
                    };
                    let request = "GET /v1/accounts/shop/token HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
                    stream.write_all(request.as_bytes()).expect("it is connected");
                    let mut answer = String::new();
                    stream.read_to_string(&mut answer).expect("it is answered");
                    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        daemon.wait_until("readers at work", || answered.load(Ordering::Relaxed) > 200);
        daemon.signal(Signal::TERM);
        let code = daemon.wait().code();
        is_over.store(true, Ordering::Relaxed);
        assert_eq!(code, Some(0));
    });
}
