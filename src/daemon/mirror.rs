//! The mirror as a configuration asks for it: its sockets, its thread and its keys.

use super::shared::Shared;
use crate::api::Listener;
use crate::config::{MirrorSection, Setting};
use crate::fault::reason;
use crate::handle::AccountHandles;
use crate::logging::Entry;
use crate::mirror::{Mirror, MirrorSockets};
use crate::platform::Platforms;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::watch;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;

/// The mirror that runs, if one is configured.
pub(super) struct MirrorService {
    platforms: Platforms,
    mirror: Option<Mirror>,
    tcp: Option<(SocketAddr, Arc<OwnedFd>)>,
    unix: Option<(PathBuf, Listener, Arc<OwnedFd>)>,
}

/// Sockets that are bound and wait to take their places; those that stay are not among them.
pub(super) struct PreparedMirror {
    tcp: Option<OwnedFd>,
    unix: Option<Listener>,
}

/// The sockets that a mirror listens on.
#[derive(Default, Clone)]
pub(super) struct MirrorBound {
    tcp: Option<SocketAddr>,
    unix: Option<PathBuf>,
}

impl MirrorBound {
    /// Binds the sockets of a configuration that are not bound yet. A Unix socket takes its place at once. Needs a
    /// tokio runtime. Blocks.
    pub(super) fn prepare(&self, new: &MirrorSection) -> Result<PreparedMirror, (Setting, String)> {
        let bound = self.tcp;
        let tcp = match new.listen {
            Some(address) if bound != Some(address) => {
                let socket = bind_tcp(address).map_err(|error| {
                    let reason = reason(&error);
                    let message = format!("`listen` cannot listen on {address}: {reason}; choose a free port or stop what uses it");
                    (Setting::MirrorListen, message)
                })?;
                Some(socket)
            }
            _ => None,
        };
        let bound = self.unix.as_ref();
        let unix = match &new.socket {
            Some(path) if bound != Some(path) => {
                let listener = Listener::open(path, None);
                let wrong = |error| (Setting::MirrorSocket, format!("`socket` {error}"));
                Some(listener.map_err(wrong)?)
            }
            _ => None,
        };
        Ok(PreparedMirror { tcp, unix })
    }
}

impl MirrorService {
    /// No mirror yet. It will answer in the place of these platforms.
    pub(super) fn new(platforms: Platforms) -> Self {
        Self {
            platforms,
            mirror: None,
            tcp: None,
            unix: None,
        }
    }

    /// The sockets that it listens on at present.
    pub(super) fn bound(&self) -> MirrorBound {
        MirrorBound {
            tcp: self.tcp.as_ref().map(|(address, _)| *address),
            unix: self.unix.as_ref().map(|(path, ..)| path.clone()),
        }
    }

    /// Takes the keys away that are configured no more, at once.
    pub(super) fn withdraw(&self, new: &MirrorSection) {
        if let Some(mirror) = &self.mirror {
            mirror.withdraw(&new.keys);
        }
    }

    /// Serves what a configuration asks for, and nothing else.
    pub(super) async fn apply(
        &mut self,
        new: &MirrorSection,
        prepared: PreparedMirror,
        accounts: watch::Receiver<Arc<AccountHandles>>,
        shared: &Shared,
    ) {
        let PreparedMirror { tcp, unix } = prepared;
        let tcp = new.listen.zip(tcp.map(Arc::new));
        self.tcp = tcp.or(self.tcp.take()).filter(|_| new.listen.is_some());
        if unix.is_some() || new.socket.is_none() {
            if let Some((path, old, _)) = self.unix.take() {
                shared.outputs_at(&path).begin(move || old.retire());
            }
            let served = |listener: Listener| {
                let socket = listener.as_fd().try_clone_to_owned().ok()?;
                Some((new.socket.clone()?, listener, Arc::new(socket)))
            };
            self.unix = unix.and_then(served);
        }
        let sockets = MirrorSockets {
            tcp: self.tcp.as_ref().map(|(_, socket)| socket.clone()),
            unix: self.unix.as_ref().map(|(.., socket)| socket.clone()),
        };
        let is_wanted = sockets.tcp.is_some() || sockets.unix.is_some();
        if self.mirror.is_none() && is_wanted {
            match Mirror::start(self.platforms, accounts, &shared.subscribers) {
                Ok(mirror) => self.mirror = Some(mirror),
                Err(error) => Entry::new().error(format_args!(
                    "the mirror cannot start: {}; reload the configuration to try again",
                    reason(&error)
                )),
            }
        }
        if let Some(mirror) = &self.mirror {
            mirror.configure(&new.keys).await;
            mirror.listen_on(sockets);
        }
    }

    /// Takes the Unix socket away, beside the main loop.
    pub(super) fn retire(&mut self, shared: &Shared) {
        if let Some((path, listener, _)) = self.unix.take() {
            shared.outputs_at(&path).begin(move || listener.retire());
        }
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    // Else a restart would have to wait for the connections of the daemon before.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &address)?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}
