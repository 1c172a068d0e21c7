//! Tests that only root can run.

use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

static SKIPPED: AtomicUsize = AtomicUsize::new(0);

/// Returns whether the test may go on as root; if not, it is counted as skipped.
pub(crate) fn may_run() -> bool {
    rustix::process::geteuid().is_root() || skipped("root")
}

/// Returns whether a program is installed; if not, the test is counted as skipped.
#[allow(dead_code, reason = "not every test binary has such a test")]
pub(crate) fn has(program: &str) -> bool {
    ["/usr/bin", "/bin"]
        .iter()
        .any(|bin| Path::new(bin).join(program).exists())
        || skipped(program)
}

/// Prints that the test is skipped for want of something, with the number of tests skipped so far, on the terminal, past
/// the capture of tests. With `CI` set a skip is a failure.
fn skipped(needed: &str) -> bool {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    let count = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
    let message = format!("SKIPPED ({count} so far): {test} needs {needed}\n");
    assert!(std::env::var_os("CI").is_none(), "{message}");
    // If the terminal is gone, there is nobody to tell.
    let _ = std::io::stderr().write_all(message.as_bytes());
    false
}

/// Ends the test here, as skipped, unless root runs it. The first line of a test that becomes other users, mounts, or
/// changes owners.
#[allow(unused_macros, reason = "not every test binary has such a test")]
macro_rules! needs_root {
    () => {
        if !$crate::root::may_run() {
            return;
        }
    };
}
pub(crate) use needs_root;
