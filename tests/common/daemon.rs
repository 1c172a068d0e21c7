//! The daemon as a process.

use super::{Bench, call, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value as Json;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// Longest wait for a condition: longer than the daemon's longest wait after a transient failure (60 s), and long for machines
/// that do much else besides.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A daemon that runs. Killed when dropped; what it logged is shown if the test fails.
pub struct RunningDaemon<'a> {
    bench: &'a Bench,
    child: Child,
    /// Messages that the manager got before this daemon started.
    said_before: usize,
    log: PathBuf,
}

impl<'a> RunningDaemon<'a> {
    pub(super) fn spawn(bench: &'a Bench, change: impl FnOnce(&mut Command)) -> Self {
        let log = bench.path("log");
        let open = || -> File {
            let mut options = OpenOptions::new();
            options.append(true).create(true).open(&log).unwrap()
        };
        let said_before = bench.manager.count();
        let mut command = bench.wxtokend(&["run"]);
        command.env("NOTIFY_SOCKET", bench.manager.path());
        change(&mut command);
        command.stdin(Stdio::null()).stdout(open()).stderr(open());
        let child = command.spawn().unwrap();
        Self {
            bench,
            child,
            said_before,
            log,
        }
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// All that daemons of this bench have written to standard output and error.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// The same once it holds all of these. Lines are written a moment after what they tell of.
    pub fn log_with(&self, parts: &[&str]) -> String {
        for part in parts {
            self.wait_until(part, || self.log().contains(part));
        }
        self.log()
    }

    /// Returns whether it has told the manager a line such as `READY=1` since it started.
    pub fn said(&self, line: &str) -> bool {
        self.bench.manager.said_since(self.said_before, line)
    }

    /// Returns whether each account has published its value, or told its trouble.
    pub(super) fn has_settled(&self) -> bool {
        let Ok(answer) = call(&self.bench.socket(), "GET", "/v1/accounts", "") else {
            return false;
        };
        let accounts = answer.json()["accounts"].clone();
        accounts.as_array().into_iter().flatten().all(is_settled)
    }

    /// Waits until a condition holds, for [`PATIENCE`]; panics with the log.
    pub fn wait_until(&self, what: &str, condition: impl FnMut() -> bool) {
        wait_until(what, PATIENCE, || self.log(), condition);
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Reloads by SIGHUP and waits until it has told the manager that it is ready again.
    pub fn reload(&self) {
        let before = self.bench.manager.count();
        self.signal(Signal::HUP);
        // One of before, such as that of the start, may still be on its way.
        self.wait_until("READY=1 after RELOADING=1", || {
            self.bench.manager.with(|messages| {
                let mut since = messages[before..].iter();
                since.any(|message| message.has("RELOADING=1"))
                    && since.any(|message| message.has("READY=1"))
            })
        });
    }

    /// Waits until it ends by itself.
    pub fn wait(&mut self) -> ExitStatus {
        let (child, log) = (&mut self.child, &self.log);
        let mut status = None;
        let show = || fs::read_to_string(log).unwrap();
        wait_until("the end of the daemon", PATIENCE, show, || {
            status = child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// Ends it as systemd does.
    pub fn terminate(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Ends it as a crash does.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

fn is_settled(account: &Json) -> bool {
    let is_late = |output: &Json| {
        let error = output["error"].as_str();
        error.is_some_and(|error| error.contains("its file system does not answer"))
    };
    let mut outputs = account["outputs"].as_array().into_iter().flatten();
    match account["state"].as_str() {
        // It waits for its budget.
        Some("starting") => account["next_refresh_time"]
            .as_u64()
            .is_some_and(|next| next > std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() + 5),
        Some("degraded") => account["last_error"].is_object() || !outputs.any(is_late),
        _ => true,
    }
}

impl Drop for RunningDaemon<'_> {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            let _ = writeln!(std::io::stderr(), "the daemon's log:\n{log}");
        }
    }
}
