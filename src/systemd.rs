//! The service manager: messages to it, and sockets that it keeps over a restart.

use crate::outbox::Outbox;
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, sendmsg_addr, socket_with,
};
use sd_notify::NotifyState;
use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

/// Messages that wait for a service manager that is slow: one for each of thousands of sockets, and some.
const QUEUE: usize = 16_384;

/// Tells the service manager how the daemon is. Never waits for it. Without one, all of this does nothing.
#[derive(Debug, Clone, Default)]
pub struct Notifier(Option<Outbox<Notice>>);

/// One datagram for the service manager.
#[derive(Debug)]
struct Notice {
    text: String,
    socket: Option<OwnedFd>,
}

impl Notifier {
    /// Reads `$NOTIFY_SOCKET`: a path, or an abstract name that begins with `@`.
    pub fn from_process() -> Self {
        let Some(name) = std::env::var_os("NOTIFY_SOCKET") else {
            return Self(None);
        };
        let name = name.as_bytes().strip_prefix(b"@").map(Vec::from);
        // A message that was dropped is told by no other: there is nobody else to tell.
        Self(Some(Outbox::new(
            "notify",
            QUEUE,
            move |notice: Notice, _dropped| {
                // A service manager that does not listen cannot be told so either.
                let _ = match &name {
                    None => notice.send(),
                    Some(name) => notice.send_abstract(name),
                };
            },
        )))
    }

    /// Tells that the daemon is ready.
    pub fn ready(&self, status: &str) {
        self.tell(format!("READY=1\nSTATUS={status}"), |_| false);
    }

    /// Tells that a reload has begun.
    pub fn reloading(&self) {
        // The monotonic clock is always there; without its time systemd would not take the message for a reload.
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            self.tell(format!("RELOADING=1\n{now}"), |_| false);
        }
    }

    /// Tells that the daemon is about to end.
    pub fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=stopping".to_owned(), |_| false);
    }

    /// Sets the line that `systemctl status` shows.
    pub fn status(&self, line: &str) {
        self.tell(format!("STATUS={line}"), |text| text.starts_with("STATUS="));
    }

    /// Gives a sign of life for the watchdog.
    pub fn alive(&self) {
        self.tell("WATCHDOG=1".to_owned(), |text| text == "WATCHDOG=1");
    }

    /// Returns whether a service manager listens: only then can it keep sockets.
    pub(crate) fn is_managed(&self) -> bool {
        self.0.is_some()
    }

    /// Gives a listening socket to the service manager, which keeps it over a restart of the daemon.
    pub fn keep(&self, name: &str, socket: impl AsFd) -> io::Result<()> {
        if let Some(outbox) = &self.0 {
            let notice = Notice {
                text: format!("FDSTORE=1\nFDNAME={name}"),
                socket: Some(socket.as_fd().try_clone_to_owned()?),
            };
            outbox.send(notice, |_| false);
        }
        Ok(())
    }

    /// Has the service manager drop a socket that it keeps.
    pub(crate) fn drop_kept(&self, name: &str) {
        self.tell(format!("FDSTOREREMOVE=1\nFDNAME={name}"), |_| false);
    }

    /// Waits until the service manager has all messages, for so long at most.
    pub fn flush(&self, limit: Duration) {
        if let Some(outbox) = &self.0 {
            outbox.flush(limit);
        }
    }

    fn tell(&self, text: String, replaces: impl Fn(&str) -> bool) {
        if let Some(outbox) = &self.0 {
            outbox.send(Notice { text, socket: None }, |waiting| {
                waiting.socket.is_none() && replaces(&waiting.text)
            });
        }
    }
}

impl Notice {
    fn send(&self) -> io::Result<()> {
        let state = [NotifyState::Custom(&self.text)];
        match &self.socket {
            None => sd_notify::notify(&state),
            Some(socket) => sd_notify::notify_with_fds(&state, &[socket.as_fd()]),
        }
    }

    /// Sends it to an abstract name, which `sd_notify` does not know.
    fn send_abstract(&self, name: &[u8]) -> io::Result<()> {
        let address = SocketAddrUnix::new_abstract_name(name)?;
        let flags = SocketFlags::CLOEXEC;
        let manager = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
        let sockets: Vec<_> = self.socket.iter().map(AsFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !sockets.is_empty() {
            ancillary.push(SendAncillaryMessage::ScmRights(&sockets));
        }
        let text = [IoSlice::new(self.text.as_bytes())];
        sendmsg_addr(
            &manager,
            &address,
            &text,
            &mut ancillary,
            SendFlags::NOSIGNAL,
        )?;
        Ok(())
    }
}

/// Interval of signs of life: half of what the service manager waits. `None` when it does not wait for one.
pub fn alive_every() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|interval| interval / 2)
}

/// Listening sockets that the service manager kept, by name.
#[derive(Debug, Default)]
pub(crate) struct KeptSockets(HashMap<String, OwnedFd>);

impl KeptSockets {
    /// Takes over what was passed to this process. To be called once, first of all.
    pub(crate) fn from_process() -> Self {
        // A malformed environment is as good as none: the sockets are bound anew.
        let passed = sd_listen_fds::get().unwrap_or_default();
        let mut kept = HashMap::new();
        for (name, socket) in passed {
            let socket = socket.into_std();
            let inherit = fcntl_setfd(&socket, FdFlags::CLOEXEC);
            if let (Some(name), Ok(())) = (name, inherit) {
                kept.insert(name, socket);
            }
        }
        Self(kept)
    }

    /// Takes the socket of that name, if there is one.
    pub(crate) fn take(&mut self, name: &str) -> Option<OwnedFd> {
        self.0.remove(name)
    }

    /// Drops what nobody took, here and at the service manager: outputs that are configured no more.
    pub(crate) fn drop_rest(self, notifier: &Notifier) {
        self.0.keys().for_each(|name| notifier.drop_kept(name));
    }
}
