//! A bench for the real binary: a directory of its own, a configuration, a service manager that listens, and readers.
//!
//! Each test binary uses a part of it.
#![allow(dead_code, unused_imports, reason = "each test binary uses a part")]
#![allow(unreachable_pub, reason = "a module of a test binary")]
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod api;
mod daemon;
mod fair_time;
mod freshness;
mod manager;
mod program;
pub(crate) mod root;
mod terminal;

pub use api::{ApiReply, call};
pub use daemon::{PATIENCE, RunningDaemon};
pub use fair_time::FairTime;
pub use freshness::{Findings, Freshness, ReadFrom, Reading, json, raw, read_socket};
pub use manager::{Manager, Message};
pub use program::program;
pub use terminal::Terminal;

use rustix::process::{Gid, Uid};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::{Duration, Instant};
use wxtokend::sim::SimPlatform;

/// Waits until a condition holds; panics with `what` and `log` when it does not within `patience`.
pub fn wait_until(
    what: &str,
    patience: Duration,
    log: impl Fn() -> String,
    mut condition: impl FnMut() -> bool,
) {
    let deadline = Instant::now() + patience;
    while !condition() {
        let late = Instant::now() >= deadline;
        assert!(!late, "not within {patience:?}: {what}\n{}", log());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs a closure in a thread that is another Unix user: what it opens or connects to, that user does. As root only.
pub fn as_user<T: Send>(uid: u32, gid: u32, groups: &[u32], f: impl FnOnce() -> T + Send) -> T {
    use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
    let groups: Vec<Gid> = groups.iter().map(|&gid| Gid::from_raw(gid)).collect();
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    let become_and_run = || {
        set_thread_groups(&groups).expect("tests run as root");
        set_thread_res_gid(gid, gid, gid).unwrap();
        set_thread_res_uid(uid, uid, uid).unwrap();
        f()
    };
    std::thread::scope(|scope| scope.spawn(become_and_run).join())
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// A fresh directory: in memory where that serves as well as a disk, which takes seconds for an fsync when it is busy with
/// other things. A test that is about disks mounts one.
pub fn directory() -> tempfile::TempDir {
    static MEMORY: LazyLock<Option<&Path>> =
        LazyLock::new(|| Some(Path::new("/dev/shm")).filter(|memory| serves(memory)));
    let in_memory = MEMORY.map(tempfile::tempdir_in);
    match in_memory {
        Some(Ok(directory)) => directory,
        _ => tempfile::tempdir().unwrap(),
    }
}

/// Returns whether a directory has room, runs programs, keeps lists of access, and may be entered by others.
fn serves(memory: &Path) -> bool {
    const ROOM: u64 = 1 << 30;
    let room = rustix::fs::statvfs(memory).map(|found| found.f_bavail * found.f_frsize);
    let may_enter = fs::metadata(memory).is_ok_and(|found| found.permissions().mode() & 0o1 != 0);
    let Some(directory) = tempfile::tempdir_in(memory)
        .ok()
        .filter(|_| may_enter && room.is_ok_and(|room| room >= ROOM))
    else {
        return false;
    };
    let probe = directory.path().join("probe");
    let succeeds = |command: &mut Command| command.output().is_ok_and(|out| out.status.success());
    fs::copy("/bin/true", &probe).is_ok()
        && succeeds(&mut Command::new(&probe))
        && succeeds(Command::new("setfacl").args(["-m", "u:7:r"]).arg(&probe))
}

/// A fresh directory with all that a daemon needs. Removed when dropped.
pub struct Bench {
    dir: tempfile::TempDir,
    /// The service manager that the daemon is told about.
    pub manager: Manager,
}

impl Bench {
    pub fn new() -> Self {
        Self::within(directory())
    }

    /// The same on the disk that `/` is on: the daemon holds directories open only there, and below `/run`.
    pub fn on_disk() -> Self {
        Self::within(tempfile::tempdir().unwrap())
    }

    fn within(dir: tempfile::TempDir) -> Self {
        // Other users have to get through to the outputs.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for (name, mode) in [("run", 0o755), ("state", 0o700)] {
            fs::create_dir(dir.path().join(name)).unwrap();
            fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        let manager = Manager::listen(&dir.path().join("notify.sock"));
        Self { dir, manager }
    }

    /// A path below the directory: `run/shop.json`.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.dir.path().join(relative)
    }

    /// The API socket.
    pub fn socket(&self) -> PathBuf {
        self.path("run/api.sock")
    }

    /// Writes a file that only root may read; replaces an older one at once.
    pub fn secret(&self, name: &str, text: &str) -> PathBuf {
        let (path, new) = (self.path(name), self.path(&format!("{name}.new")));
        let mut options = fs::OpenOptions::new();
        let options = options.write(true).create(true).truncate(true).mode(0o600);
        std::io::Write::write_all(&mut options.open(&new).unwrap(), text.as_bytes()).unwrap();
        fs::rename(new, &path).unwrap();
        path
    }

    /// Writes a configuration for a platform, with the user that runs the tests as admin. In `rest`, `{dir}` stands for
    /// the directory.
    pub fn configure(&self, platform: &SimPlatform, rest: &str) {
        let url = platform.base_url();
        let admin = rustix::process::geteuid().as_raw();
        let mut text = format!(
            "[daemon]\nstate_dir = \"{{dir}}/state\"\nlog_level = \"debug\"\n\n\
             [api]\nsocket = \"{{dir}}/run/api.sock\"\nadmins = [\"{admin}\"]\n\n\
             [platform]\nhosts = [\"{url}\"]\nwecom_hosts = [\"{url}\"]\n"
        );
        text.write_str(rest).unwrap();
        self.write_config(&text);
    }

    /// Writes a whole configuration. `{dir}` stands for the directory.
    pub fn write_config(&self, text: &str) {
        let dir = self.dir.path().to_str().unwrap();
        self.secret("config.toml", &text.replace("{dir}", dir));
    }

    /// The binary with some arguments and an environment of its own that names this bench.
    pub fn wxtokend(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("RUNTIME_DIRECTORY", self.path("run"))
            .env("WXTOKEND_CONFIG", self.path("config.toml"))
            .env("WXTOKEND_SOCKET", self.socket());
        command
    }

    /// Starts the daemon and waits until it is ready, and each account has published its value or told its trouble: what
    /// takes long on a busy host holds up READY for a while only.
    pub fn start(&self) -> RunningDaemon<'_> {
        self.start_with(|_| {})
    }

    /// The same after a change to its command line, environment or user.
    pub fn start_with(&self, change: impl FnOnce(&mut Command)) -> RunningDaemon<'_> {
        let daemon = self.spawn_with(change);
        daemon.wait_until("READY=1", || daemon.said("READY=1"));
        daemon.wait_until("accounts that have settled", || daemon.has_settled());
        daemon
    }

    /// Starts the daemon.
    pub fn spawn(&self) -> RunningDaemon<'_> {
        self.spawn_with(|_| {})
    }

    /// Starts the daemon after a change to its command line, environment or user.
    pub fn spawn_with(&self, change: impl FnOnce(&mut Command)) -> RunningDaemon<'_> {
        RunningDaemon::spawn(self, change)
    }
}

/// The standard output of a command that has to succeed.
pub fn output_of(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let errors = text(&output.stderr);
    assert!(
        output.status.success(),
        "{command:?}: {:?}: {errors}",
        output.status
    );
    text(&output.stdout)
}

/// The JSON of a file.
pub fn read_json(path: &Path) -> serde_json::Value {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}: {text}", path.display()))
}
