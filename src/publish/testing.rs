//! Fixtures of this floor's tests: places in temporary directories, values, and other users.

use super::pin::Directories;
use super::place::Place;
use crate::account::{
    Access, Account, AccountName, Format, OnExpiry, Output, OutputKind, Principal,
};
use crate::clock;
use crate::format::{Rendered, render};
use crate::platform::wechat::STABLE;
use crate::value::{Grant, Value, ValueName};
use rustix::time::{ClockId, clock_gettime};
use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output as Finished};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

pub(super) const FILE: OutputKind = OutputKind::File(OnExpiry::Remove);

/// A user that is not us and has no name.
pub(super) const STRANGER: u32 = 54321;

/// A directory that everybody may search.
pub(super) fn directory() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
    directory
}

pub(super) fn access(mode: u32) -> Access {
    Access {
        mode,
        owner: None,
        group: None,
        readers: [].into(),
    }
}

pub(super) fn user(uid: u32) -> Principal {
    Principal::User("user".into(), uid)
}

pub(super) fn group(gid: u32) -> Principal {
    Principal::Group("group".into(), gid)
}

pub(super) fn account(outputs: &[(&Path, OutputKind, Access)]) -> Arc<Account> {
    let output = |(path, kind, access): &(&Path, OutputKind, Access)| Output {
        kind: *kind,
        path: (*path).into(),
        value: ValueName::AccessToken,
        format: Format::Raw,
        access: access.clone(),
    };
    let name = AccountName::parse("shop").unwrap();
    Arc::new(Account {
        outputs: outputs.iter().map(output).collect(),
        ..Account::usual(name, "wx0123456789abcdef", STABLE)
    })
}

/// A place whose runtime directory is the one that it is in.
pub(super) fn place(path: &Path, kind: OutputKind, access: Access) -> Arc<Place> {
    let directories = Directories::new(path.parent().unwrap());
    let account = account(&[(path, kind, access)]);
    Arc::new(Place::new(account, 0, &directories))
}

pub(super) fn rendered(value: &str, lasts: Duration) -> Rendered {
    let account = account(&[(Path::new("/x"), FILE, access(0o600))]);
    let now = clock::now();
    let grant = Grant::new(Value::parse(value).unwrap(), now.at, now.at + lasts, &now);
    let grants = [(ValueName::AccessToken, grant)];
    render(&account, &account.outputs[0], &grants, &now)
        .unwrap()
        .unwrap()
}

/// Runs a command as another user, who is in no group but its own.
pub(super) fn run_as(uid: u32, gid: u32, program: &str, arguments: &[&str]) -> Finished {
    Command::new(program)
        .args(arguments)
        .uid(uid)
        .gid(gid)
        .output()
        .unwrap()
}

/// Runs the command, which has to succeed, and returns what it prints.
pub(super) fn run(program: &str, arguments: &[&str]) -> String {
    let finished = Command::new(program).args(arguments).output().unwrap();
    assert!(
        finished.status.success(),
        "{program} {arguments:?}: {finished:?}"
    );
    String::from_utf8(finished.stdout).unwrap()
}

/// Set in a process that runs one test.
const OWN: &str = "IN_OWN_PROCESS";

/// Returns whether this process runs one test only.
pub(super) fn is_own_process() -> bool {
    std::env::var_os(OWN).is_some()
}

/// Runs the test of that name again, in a process of its own: behind `command`, and away from the other tests, whose
/// children have copies of every descriptor until they are started. False when this is that process.
pub(super) fn in_own_process(test: &str, command: &[&str]) -> bool {
    if is_own_process() {
        return false;
    }
    let finished = Command::new("env")
        .args(command)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test])
        .env(OWN, "")
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&finished.stdout);
    assert!(printed.contains("1 passed"), "{printed}");
    true
}

/// A file system of its own, which goes with this.
pub(super) struct TestMount(TempDir);

impl TestMount {
    pub(super) fn new(options: &str) -> Self {
        let mount = Self(directory());
        run(
            "mount",
            &[
                "-t",
                "tmpfs",
                "-o",
                options,
                "tmpfs",
                mount.path().to_str().unwrap(),
            ],
        );
        mount
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for TestMount {
    fn drop(&mut self) {
        run("umount", &["-l", self.path().to_str().unwrap()]);
    }
}

/// Until the clock of file systems, which is a coarse one, has moved on since the file was changed.
pub(super) fn wait_for_tick(path: &Path) {
    let metadata = path.symlink_metadata().unwrap();
    let changed = (metadata.ctime(), metadata.ctime_nsec());
    loop {
        let now = clock_gettime(ClockId::RealtimeCoarse);
        if (now.tv_sec, now.tv_nsec) > changed {
            break;
        }
        std::thread::yield_now();
    }
}
