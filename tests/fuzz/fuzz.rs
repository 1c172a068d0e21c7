//! One program for all targets: `WXTOKEND_FUZZ` names the one that gets the bytes.

#![no_main]

#[path = "../api/fixture.rs"]
#[allow(dead_code, unreachable_pub, clippy::unwrap_used)]
mod fixture;

use libfuzzer_sys::fuzz_target;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::LazyLock;
use std::time::Duration;
use wxtokend::fuzz;

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = std::env::var("WXTOKEND_FUZZ").expect("WXTOKEND_FUZZ names a target");
    match name.as_str() {
        "configuration" => fuzz::configuration,
        "template" => fuzz::template,
        "platform_answer" => fuzz::platform_answer,
        "state_journal" => fuzz::state_journal,
        "stream" => fuzz::stream,
        "mirror_request" => fuzz::mirror_request,
        "api_request" => api_request,
        _ => panic!("{name} is no target"),
    }
});

static DAEMON: LazyLock<fixture::Daemon> = LazyLock::new(|| {
    let shop = fixture::account("shop", vec![]);
    fixture::Daemon::of_one(&shop)
});

/// Sends the bytes to the API and closes. It must answer in HTTP or not at all, and be there for the next one.
fn api_request(bytes: &[u8]) {
    // An answer may rightly take as long as the request says.
    if bytes.windows(5).any(|window| window == b"wait=" || window == b"watch") {
        return;
    }
    let mut stream = UnixStream::connect(&DAEMON.socket).expect("it accepts");
    let timeout = Some(Duration::from_secs(5));
    stream.set_read_timeout(timeout).expect("a timeout");
    // It may close before it has read everything.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    let ended = stream.read_to_end(&mut answer);
    if let Err(error) = ended {
        let closed = error.kind() == std::io::ErrorKind::ConnectionReset;
        assert!(closed, "{error}");
    }
    let is_http = answer.is_empty() || answer.starts_with(b"HTTP/1.");
    assert!(is_http, "{}", String::from_utf8_lossy(&answer));
}

fuzz_target!(|bytes: &[u8]| TARGET(bytes));
