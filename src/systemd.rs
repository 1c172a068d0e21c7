//! What the service manager is told, and what it keeps for us over a restart.

use sd_notify::NotifyState;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

/// Tells the service manager that the daemon is ready. Without one, this and all of the below do nothing.
pub fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Tells the service manager that a reload has begun.
pub fn reloading() {
    // The monotonic clock is always there; without its time systemd would not take the message for a reload.
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        notify(&[NotifyState::Reloading, now]);
    }
}

/// Tells the service manager that the daemon is about to end.
pub fn stopping() {
    notify(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
}

/// The line that `systemctl status` shows.
pub fn status(line: &str) {
    notify(&[NotifyState::Status(line)]);
}

/// A sign of life for the watchdog.
pub fn alive() {
    notify(&[NotifyState::Watchdog]);
}

/// How often a sign of life is due: half of what the service manager waits. Nothing when it does not wait for one.
pub fn alive_every() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|interval| interval / 2)
}

/// Whether a service manager listens: only then can it keep sockets.
pub fn is_managed() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

fn notify(states: &[NotifyState<'_>]) {
    // A service manager that does not listen cannot be told so either.
    let _ = sd_notify::notify(states);
}

/// Gives a listening socket to the service manager, which keeps it over a restart of the daemon.
pub fn keep(path: &Path, socket: impl AsFd) -> io::Result<()> {
    let name = name_of(path);
    sd_notify::notify_with_fds(
        &[NotifyState::FdStore, NotifyState::FdName(&name)],
        &[socket.as_fd()],
    )
}

/// Has the service manager drop the socket that it keeps for a path.
pub fn drop_kept(path: &Path) {
    notify(&[
        NotifyState::FdStoreRemove,
        NotifyState::FdName(&name_of(path)),
    ]);
}

/// Listening sockets that the service manager kept, by what they are for.
#[derive(Debug, Default)]
pub struct Kept(HashMap<String, OwnedFd>);

impl Kept {
    /// Takes over what was passed to this process. To be called once, first of all.
    pub fn from_process() -> Self {
        // A malformed environment is as good as none: the sockets are bound anew.
        let passed = sd_listen_fds::get().unwrap_or_default();
        let mut kept = HashMap::new();
        for (name, socket) in passed {
            let socket = socket.into_std();
            let inherit = rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC);
            if let (Some(name), Ok(())) = (name, inherit) {
                kept.insert(name, socket);
            }
        }
        Self(kept)
    }

    /// Takes the socket that serves a path, if there is one.
    pub fn take(&mut self, path: &Path) -> Option<OwnedFd> {
        self.0.remove(&name_of(path))
    }

    /// Drops what nobody took, here and at the service manager: outputs that are configured no more.
    pub fn drop_rest(self) {
        for name in self.0.keys() {
            notify(&[NotifyState::FdStoreRemove, NotifyState::FdName(name)]);
        }
    }
}

/// The name of a path's socket at the service manager: paths may be too long and hold characters that no name may have.
fn name_of(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    let digest = Sha256::digest(path.as_os_str().as_bytes());
    let mut start = [0; 8];
    start.copy_from_slice(&digest[..8]);
    format!("socket-{:016x}", u64::from_be_bytes(start))
}
