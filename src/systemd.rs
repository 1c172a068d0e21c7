//! What the service manager is told, and what it keeps for us over a restart.

use sd_notify::NotifyState;
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
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
pub fn keep(name: &str, socket: impl AsFd) -> io::Result<()> {
    let states = [NotifyState::FdStore, NotifyState::FdName(name)];
    sd_notify::notify_with_fds(&states, &[socket.as_fd()])
}

/// Has the service manager drop a socket that it keeps.
pub fn drop_kept(name: &str) {
    notify(&[NotifyState::FdStoreRemove, NotifyState::FdName(name)]);
}

/// Listening sockets that the service manager kept, by name.
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

    /// Takes the socket of that name, if there is one.
    pub fn take(&mut self, name: &str) -> Option<OwnedFd> {
        self.0.remove(name)
    }

    /// Drops what nobody took, here and at the service manager: outputs that are configured no more.
    pub fn drop_rest(self) {
        for name in self.0.keys() {
            notify(&[NotifyState::FdStoreRemove, NotifyState::FdName(name)]);
        }
    }
}
