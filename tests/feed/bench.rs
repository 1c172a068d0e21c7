//! A directory with a stand-in for the daemon, a configuration, and a feed that runs.

use crate::manager::Manager;
use crate::stand_in::StandIn;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Longest wait for a condition. A target that was away is left alone for up to a minute, and on a machine that does much else
/// it may be away again then.
pub const PATIENCE: Duration = Duration::from_mins(6);
/// A user that owns nothing.
pub const NOBODY: u32 = 65534;
/// The appid of every account of the stand-in.
pub const APPID: &str = "wx0123456789abcdef";

pub struct FeedBench {
    pub dir: tempfile::TempDir,
    pub daemon: StandIn,
    pub manager: Manager,
}

/// A feed that runs; killed when dropped.
pub struct FeedProcess(Child);

impl Drop for FeedProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl FeedProcess {
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.0)
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.0.wait().unwrap()
    }

    /// Has it stand still. When this returns none of its threads runs any more.
    pub fn stop(&self) {
        self.signal(Signal::STOP);
        let threads = format!("/proc/{}/task", self.0.id());
        crate::servers::until("the feed stands still", || {
            fs::read_dir(&threads).unwrap().all(|thread| {
                let stat = fs::read_to_string(thread.unwrap().path().join("stat"));
                // One that has just ended is not in the next list.
                stat.is_ok_and(|stat| stat.rsplit(") ").next().unwrap().starts_with('T'))
            })
        });
    }

    pub fn go_on(&self) {
        self.signal(Signal::CONT);
    }
}

impl FeedBench {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let daemon = StandIn::start(&dir.path().join("api.sock"));
        fs::set_permissions(
            dir.path().join("api.sock"),
            fs::Permissions::from_mode(0o666),
        )
        .unwrap();
        let manager = Manager::listen(&dir.path().join("notify.sock"));
        Self {
            dir,
            daemon,
            manager,
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file that only its owner may read. `{dir}` stands for the directory.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        let mut options = fs::OpenOptions::new();
        let options = options.write(true).create(true).truncate(true).mode(0o640);
        let text = text.replace("{dir}", self.dir.path().to_str().unwrap());
        std::io::Write::write_all(&mut options.open(&path).unwrap(), text.as_bytes()).unwrap();
        path
    }

    pub fn configure(&self, targets: &str) {
        self.write(
            "feed.toml",
            &format!("socket = \"{{dir}}/api.sock\"\nlog_level = \"debug\"\n{targets}"),
        );
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wxtokend-feed"));
        command
            .args(arguments)
            .current_dir(self.dir.path())
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("NOTIFY_SOCKET", self.manager.path())
            .stdin(Stdio::null());
        command
    }

    pub fn feed(&self) -> FeedProcess {
        self.feed_with(|_| {})
    }

    pub fn feed_with(&self, change: impl FnOnce(&mut Command)) -> FeedProcess {
        let open = || {
            let mut options = fs::OpenOptions::new();
            options
                .append(true)
                .create(true)
                .open(self.path("log"))
                .unwrap()
        };
        let mut command = self.command(&["run", "feed.toml"]);
        command.stdout(open()).stderr(open());
        change(&mut command);
        FeedProcess(command.spawn().unwrap())
    }

    /// A feed as the user that servers run as.
    pub fn feed_as_nobody(&self) -> FeedProcess {
        let program = self.path("wxtokend-feed");
        // By another process: what a thread of ours has open for writing could not be run.
        let copied = Command::new("cp")
            .arg(env!("CARGO_BIN_EXE_wxtokend-feed"))
            .arg(&program)
            .status();
        assert!(copied.unwrap().success());
        fs::set_permissions(self.path("feed.toml"), fs::Permissions::from_mode(0o644)).unwrap();
        self.feed_with(|command| {
            let log = fs::OpenOptions::new()
                .append(true)
                .create(true)
                .open(self.path("log"))
                .unwrap();
            *command = Command::new(&program);
            command
                .args(["run", "feed.toml"])
                .current_dir(self.dir.path())
                .env_clear()
                .env("NOTIFY_SOCKET", self.manager.path())
                .stdin(Stdio::null())
                .stdout(log.try_clone().unwrap())
                .stderr(log);
            if is_root() {
                command.uid(NOBODY).gid(NOBODY);
            }
        })
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    pub fn until(&self, what: &str, mut condition: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition() {
            assert!(
                Instant::now() < deadline,
                "not within {PATIENCE:?}: {what}\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn until_log(&self, text: &str) {
        self.until_log_after(0, text);
    }

    /// Waits until the log says something after it had so many bytes.
    pub fn until_log_after(&self, bytes: usize, text: &str) {
        self.until(&format!("the log says {text:?}"), || {
            let log = self.log();
            log.get(bytes..).is_some_and(|new| new.contains(text))
        });
    }

    /// Waits until a target has been written.
    pub fn until_written(&self) {
        self.until_log(" holds access_token ");
    }

    pub fn until_ready(&self) {
        self.until("READY=1", || self.manager.said_since(0, "READY=1"));
    }
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
