//! `wxtokend watch` from outside, with commands that end, fail, hang, fork and take their time.
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]
#![allow(dead_code, unreachable_pub, reason = "it uses a part of the manager")]

#[path = "../common/manager.rs"]
mod manager;
mod stand_in;

use manager::Manager;
use rustix::process::{Pid, Signal, kill_process};
use stand_in::StandIn;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(240);

/// A directory with a stand-in for the daemon.
struct WatchBench {
    dir: tempfile::TempDir,
    daemon: StandIn,
    manager: Manager,
}

/// A `wxtokend watch` that runs; killed when dropped.
struct WatchProcess(Child);

impl Drop for WatchProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl WatchProcess {
    fn pid(&self) -> Pid {
        Pid::from_child(&self.0)
    }

    fn terminate(&mut self) -> ExitStatus {
        kill_process(self.pid(), Signal::TERM).unwrap();
        self.0.wait().unwrap()
    }
}

impl WatchBench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let daemon = StandIn::start(&dir.path().join("api.sock"));
        let manager = Manager::listen(&dir.path().join("notify.sock"));
        Self {
            dir,
            daemon,
            manager,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let open = |name| {
            let mut options = fs::OpenOptions::new();
            options
                .append(true)
                .create(true)
                .open(self.path(name))
                .unwrap()
        };
        let mut command = Command::new(env!("CARGO_BIN_EXE_wxtokend"));
        command
            .arg("watch")
            .args(arguments)
            .current_dir(self.dir.path())
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", "/nowhere")
            .env("CREDENTIALS_DIRECTORY", "/hidden")
            .env("NOTIFY_SOCKET", self.manager.path())
            .env("WXTOKEND_SOCKET", self.path("api.sock"))
            .stdin(Stdio::null())
            .stdout(open("stdout"))
            .stderr(open("stderr"));
        command
    }

    fn watch(&self, arguments: &[&str]) -> WatchProcess {
        WatchProcess(self.command(arguments).spawn().unwrap())
    }

    fn until(&self, what: &str, mut condition: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition() {
            let said = format!("{}\n{}", self.read("stdout"), self.read("stderr"));
            assert!(
                Instant::now() < deadline,
                "not within {PATIENCE:?}: {what}\n{said}"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn until_file(&self, name: &str, text: &str) {
        self.until(&format!("{name} holds {text:?}"), || {
            self.read(name) == text
        });
    }
}

fn is_running(pid: &str) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/status", pid.trim())).unwrap_or_default();
    !status.is_empty() && !status.contains("State:\tZ")
}

#[test]
fn the_command_runs_once_for_each_value_and_gets_it_on_standard_input_alone() {
    let bench = WatchBench::new();
    bench.daemon.set("shop", "access_token", "CANARY-ONE", 7200);
    bench
        .daemon
        .set("shop", "jsapi_ticket", "CANARY-TICKET", 7200);
    let script = "cat >>$WXTOKEND_VALUE; echo >>$WXTOKEND_VALUE; env >env.new; mv env.new env; \
                  tr '\\0' ' ' </proc/self/cmdline >>arguments";
    let mut watch = bench.watch(&["shop", "--", "sh", "-c", script, "name"]);
    bench.until_file("access_token", "CANARY-ONE\n");
    bench.until_file("jsapi_ticket", "CANARY-TICKET\n");
    bench.until("READY=1", || bench.manager.said_since(0, "READY=1"));
    bench.daemon.set("shop", "access_token", "CANARY-TWO", 7200);
    bench.until_file("access_token", "CANARY-ONE\nCANARY-TWO\n");
    // The same token again is nothing new.
    bench.daemon.set("shop", "access_token", "CANARY-TWO", 7100);
    bench
        .daemon
        .set("shop", "jsapi_ticket", "CANARY-TICKET-2", 7200);
    bench.until_file("jsapi_ticket", "CANARY-TICKET\nCANARY-TICKET-2\n");
    assert_eq!(bench.read("access_token"), "CANARY-ONE\nCANARY-TWO\n");

    let environment = bench.read("env");
    let mut names: Vec<&str> = environment
        .lines()
        .filter_map(|line| Some(line.split_once('=')?.0))
        .filter(|name| !matches!(*name, "PWD" | "OLDPWD" | "SHLVL" | "_"))
        .collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "HOME",
            "PATH",
            "WXTOKEND_ACCOUNT",
            "WXTOKEND_APPID",
            "WXTOKEND_EXPIRE_TIME",
            "WXTOKEND_OBTAINED_TIME",
            "WXTOKEND_VALUE"
        ]
    );
    let proc = |what: &str| {
        let path = format!("/proc/{}/{what}", watch.0.id());
        match fs::read(path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            // It lets nobody but root look into its memory.
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
                assert!(!rustix::process::geteuid().is_root());
                String::new()
            }
        }
    };
    for text in [
        environment.clone(),
        bench.read("arguments"),
        bench.read("stdout"),
        bench.read("stderr"),
        proc("cmdline"),
        proc("environ"),
    ] {
        assert!(!text.contains("CANARY"), "{text}");
    }
    assert_eq!(watch.terminate().code(), Some(0));
}

#[test]
fn changes_during_a_run_coalesce_to_the_newest() {
    let bench = WatchBench::new();
    bench.daemon.set("shop", "access_token", "ONE", 7200);
    bench.daemon.set("blog", "access_token", "OTHER", 7200);
    let script = "cat >>$WXTOKEND_ACCOUNT; echo >>$WXTOKEND_ACCOUNT; echo >started.$WXTOKEND_ACCOUNT; \
                  test $WXTOKEND_ACCOUNT = blog || while ! test -e go; do sleep 0.02; done";
    let _watch = bench.watch(&["--", "sh", "-c", script]);
    bench.until("a run", || bench.path("started.shop").exists());
    for token in ["TWO", "THREE", "FOUR"] {
        bench.daemon.set("shop", "access_token", token, 7200);
        bench.daemon.set("blog", "access_token", token, 7200);
        // Another account does not wait.
        bench.until("the other account", || {
            bench.read("blog").ends_with(&format!("{token}\n"))
        });
    }
    assert_eq!(bench.read("shop"), "ONE\n");
    fs::write(bench.path("go"), "").unwrap();
    bench.until_file("shop", "ONE\nFOUR\n");
}

#[test]
fn a_run_that_hangs_is_killed_with_all_that_it_started_and_tried_again() {
    let bench = WatchBench::new();
    bench.daemon.set("shop", "access_token", "ONE", 7200);
    let script = "echo $$ >>leader; sleep 1000 & echo $! >>child; wait";
    let mut watch = bench.watch(&["shop", "--timeout", "3s", "--", "sh", "-c", script]);
    bench.until("a second run with a child", || {
        bench.read("leader").lines().count() >= 2 && bench.read("child").lines().count() >= 2
    });
    let first = |name: &str| bench.read(name).lines().next().unwrap().to_owned();
    bench.until("the end of the first", || {
        !is_running(&first("leader")) && !is_running(&first("child"))
    });
    bench.until("a line on standard error", || {
        bench
            .read("stderr")
            .contains("shop access_token: COMMAND was killed: it did not end within 3s")
    });
    // The first run has ended, however it did.
    bench.until("READY=1", || bench.manager.said_since(0, "READY=1"));
    // One that runs when we stop is stopped too.
    let before = bench.read("child").lines().count();
    bench.until("another run", || {
        bench.read("child").lines().count() > before
    });
    assert_eq!(watch.terminate().code(), Some(0));
    for pid in bench.read("child").lines() {
        bench.until("the end of all that it started", || !is_running(pid));
    }
}

#[test]
fn failed_runs_are_tried_again_while_their_value_stands() {
    let bench = WatchBench::new();
    bench.daemon.set("shop", "access_token", "ONE", 7200);
    let script = "cat >>runs; echo >>runs; test -e ok && exit 0; test -e die && kill -9 $$; exit 3";
    let _watch = bench.watch(&["shop", "--", "sh", "-c", script]);
    let until_line = |line: &str| bench.until(line, || bench.read("stderr").contains(line));
    until_line("COMMAND ended with exit status: 3; next attempt in 1s");
    fs::write(bench.path("die"), "").unwrap();
    until_line("COMMAND ended with signal: 9");
    // A newer value is tried at once, and the old one no more.
    bench.daemon.set("shop", "access_token", "TWO", 7200);
    bench.until("a run with it", || bench.read("runs").contains("TWO\n"));
    fs::write(bench.path("ok"), "").unwrap();
    until_line("COMMAND succeeded again");
    let runs = bench.read("runs");
    let old = runs.matches("ONE\n").count();
    let new = runs.matches("TWO\n").count();
    assert!(old >= 2, "{runs}");
    assert_eq!(runs, "ONE\n".repeat(old) + &"TWO\n".repeat(new));
    let log = bench.read("stderr");
    assert!(!log.contains("ONE") && !log.contains("TWO"), "{log}");
}

#[test]
fn a_command_that_cannot_be_run_is_told_and_a_child_that_stays_is_not_waited_for() {
    let bench = WatchBench::new();
    bench.daemon.set("shop", "access_token", "ONE", 7200);
    let _missing = bench.watch(&["shop", "--", "/no/such/program"]);
    bench.until("the reason", || {
        bench
            .read("stderr")
            .contains("cannot run `/no/such/program`: no such file or directory")
    });
    let _forks = bench.watch(&["shop", "--", "sh", "-c", "sleep 1000 & echo $! >child"]);
    bench.until("READY=1", || {
        bench.read("child").ends_with('\n') && bench.manager.said_since(0, "READY=1")
    });
    let child = bench.read("child");
    assert!(is_running(&child));
    kill_process(
        Pid::from_raw(child.trim().parse().unwrap()).unwrap(),
        Signal::KILL,
    )
    .unwrap();
}

#[test]
fn with_on_none_the_command_runs_with_nothing_on_its_input() {
    let bench = WatchBench::new();
    bench.daemon.set_none("shop", "access_token");
    let script = "printf '%s:%s\\n' \"$(cat)\" \"$WXTOKEND_EXPIRE_TIME\" >>runs";
    let _watch = bench.watch(&["shop", "--on-none", "--", "sh", "-c", script]);
    bench.until_file("runs", ":\n");
    // Once more if it has ended before it was told.
    let mut set_at: Option<Instant> = None;
    bench.until("a run with the value", || {
        if set_at.is_none_or(|at| at.elapsed() > Duration::from_secs(5)) {
            bench.daemon.set("shop", "access_token", "ONE", 4);
            set_at = Some(Instant::now());
        }
        bench.read("runs").contains("\nONE:")
    });
    // Its end is noticed without a word of the daemon.
    bench.until("a run at its end", || bench.read("runs").ends_with("\n:\n"));
    bench.daemon.set("shop", "access_token", "TWO", 7200);
    bench.until("a run with the value", || {
        bench.read("runs").contains("\nTWO:")
    });
    bench.daemon.remove("shop");
    bench.until("a run for an account that went", || {
        bench.read("runs").ends_with("\n:\n")
    });
}

#[test]
fn a_daemon_that_restarts_is_followed_and_what_stands_does_not_run_again() {
    let mut bench = WatchBench::new();
    bench.daemon.set("shop", "access_token", "ONE", 7200);
    bench.daemon.set("blog", "access_token", "OTHER", 7200);
    let mut watch = bench.watch(&["--", "sh", "-c", "cat >>$WXTOKEND_ACCOUNT"]);
    bench.until_file("shop", "ONE");
    bench.until_file("blog", "OTHER");
    let lines = |count| {
        bench.until("the lines of the runs", || {
            bench.read("stdout").lines().count() == count
        });
    };
    lines(2);
    let stdout = bench.read("stdout");
    assert!(
        stdout.contains("shop access_token ") && stdout.contains(" until 20"),
        "{stdout}"
    );
    bench.daemon = bench.daemon.restart(Duration::from_millis(300));
    bench.until("a word of it", || {
        let log = bench.read("stderr");
        log.contains("the daemon is away: the daemon stopped") && log.contains("the daemon is back")
    });
    bench.daemon.set("shop", "access_token", "TWO", 7200);
    bench.until_file("shop", "ONETWO");
    assert_eq!(bench.read("blog"), "OTHER");
    bench.until("the line of the run", || {
        bench.read("stdout").lines().count() == 3
    });
    assert_eq!(watch.terminate().code(), Some(0));
}

#[test]
fn json_is_the_stream_itself() {
    let bench = WatchBench::new();
    bench.daemon.set("shop", "access_token", "ONE", 7200);
    let mut watch = bench.watch(&["shop", "--json", "--value", "access_token"]);
    bench.until("the first lines", || {
        bench.read("stdout").ends_with("{\"synced\":true}\n")
    });
    bench
        .daemon
        .set("shop", "jsapi_ticket", "NOT-ASKED-FOR", 7200);
    bench.daemon.remove("shop");
    bench.until("the last line", || {
        bench.read("stdout").contains("\"gone\":true")
    });
    let lines: Vec<serde_json::Value> = (bench.read("stdout").lines())
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines[0]["access_token"], "ONE");
    assert_eq!(lines.len(), 3);
    bench.until("READY=1", || bench.manager.said_since(0, "READY=1"));
    assert_eq!(watch.terminate().code(), Some(0));
}

#[test]
fn fault_at_the_start_is_an_exit_status() {
    let bench = WatchBench::new();
    let ends = |arguments: &[&str]| bench.command(arguments).status().unwrap().code();
    assert_eq!(ends(&["nobody"]), Some(66));
    assert_eq!(ends(&["No Such Name"]), Some(66));
    assert_eq!(ends(&["shop", "--on-none"]), Some(2));
    let path = bench.path("api.sock");
    drop(bench.daemon);
    let mut command = Command::new(env!("CARGO_BIN_EXE_wxtokend"));
    command.args(["watch", "shop", "--socket"]).arg(path);
    assert_eq!(command.output().unwrap().status.code(), Some(69));
}

/// A shipped example with its paths below the directory of the bench.
fn example(bench: &WatchBench, name: &str, path: &str, below: &str) {
    let shipped = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("packaging/examples/watch")
        .join(name);
    let text = fs::read_to_string(shipped).unwrap();
    assert!(text.contains(path), "{text}");
    let there = bench.path(below);
    fs::create_dir(&there).unwrap();
    executable(bench, name, &text.replace(path, there.to_str().unwrap()));
}

/// Writes a script that can be run at once: by another process, since what a thread of ours has open for writing cannot.
fn executable(bench: &WatchBench, name: &str, text: &str) {
    let mut tee = Command::new("sh")
        .args([
            "-c",
            r#"cat >"$0.new" && chmod 755 "$0.new" && mv "$0.new" "$0""#,
        ])
        .arg(bench.path(name))
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut tee.stdin.take().unwrap(), text.as_bytes()).unwrap();
    assert!(tee.wait().unwrap().success());
}

/// A watch that finds programs of the bench first.
fn watch_example(bench: &WatchBench, name: &str) -> WatchProcess {
    let mut command = bench.command(&["--", bench.path(name).to_str().unwrap()]);
    let path = format!("{}:/usr/bin:/bin", bench.dir.path().display());
    WatchProcess(command.env("PATH", path).spawn().unwrap())
}

#[test]
fn shipped_commands_reload_a_service_and_copy_to_another_host() {
    let bench = WatchBench::new();
    example(
        &bench,
        "watch-reload-service",
        "/srv/shop/secrets",
        "secrets",
    );
    example(&bench, "watch-copy-to-host", "/run/shop", "host");
    // They note their arguments; the other host is a shell that runs what comes last.
    let note = "#!/bin/sh\ncd \"${0%/*}\"\necho \"${0##*/} $*\" >>arguments\n";
    executable(&bench, "systemctl", note);
    let host = format!("{note}while [ $# -gt 1 ]; do shift; done\nexec sh -c \"$1\"\n");
    executable(&bench, "ssh", &host);

    bench.daemon.set("shop", "access_token", "CANARY-ONE", 7200);
    let mut reload = watch_example(&bench, "watch-reload-service");
    let mut copy = watch_example(&bench, "watch-copy-to-host");
    for token in ["CANARY-ONE", "CANARY-TWO"] {
        bench.daemon.set("shop", "access_token", token, 7200);
        bench.until_file("secrets/shop.access_token", token);
        bench.until_file("host/access_token", token);
    }
    bench.until("two reloads", || {
        bench
            .read("arguments")
            .matches("systemctl reload shop-server.service\n")
            .count()
            == 2
    });
    let arguments = bench.read("arguments");
    assert!(arguments.contains("ssh -T -o BatchMode=yes deploy@app.example "));
    assert!(!arguments.contains("CANARY"), "{arguments}");
    assert_eq!(reload.terminate().code(), Some(0));
    assert_eq!(copy.terminate().code(), Some(0));
}
