//! A listening Unix socket that appears under its name with everything right about it: token sockets and the API's.

use super::node::{Identity, look};
use super::temporary::{OpenDirectory, Temporary};
use rustix::fs::{AtFlags, CWD, FileType, Mode, chmodat, fchmod};
use rustix::io::{Errno, FdFlags, fcntl_setfd, ioctl_fionbio};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with,
};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Connections that wait to be accepted; the kernel allows no more than `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// A socket under a hidden name, which nobody else may connect to yet. Dropped, it leaves no trace.
#[derive(Debug)]
pub(crate) struct HiddenSocket {
    listener: OwnedFd,
    temporary: Temporary,
}

impl HiddenSocket {
    /// Binds it beside its place, with mode 0600, and does not listen yet. Blocks.
    pub(super) fn bind(directory: OpenDirectory) -> Result<Self, Errno> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let listener = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        // The mode that it is made with. Besides, nobody can connect before it listens.
        fchmod(&listener, Mode::RUSR | Mode::WUSR)?;
        let ((), temporary) = directory.temporary(|directory, name| {
            // Relative to the open directory, and short: the kernel takes 107 bytes.
            let path = format!("/proc/self/fd/{}/{name}", directory.as_fd().as_raw_fd());
            match bind(&listener, &SocketAddrUnix::new(path)?) {
                Err(Errno::ADDRINUSE) => Err(Errno::EXIST),
                bound => bound,
            }
        })?;
        Ok(Self {
            listener,
            temporary,
        })
    }

    /// Opens its node, to give access to it.
    pub(super) fn node(&self) -> Result<OwnedFd, Errno> {
        self.temporary.node()
    }

    /// Listens. Gives what tells it from every other socket.
    pub(super) fn listen(&self) -> Result<Identity, Errno> {
        listen(&self.listener, BACKLOG)?;
        Ok(Identity::of(&look(self.node()?, Path::new(""))?))
    }

    /// Puts it in its place.
    pub(super) fn put(mut self) -> Result<(OwnedFd, Identity), Errno> {
        let identity = self.temporary.replace()?;
        Ok((self.listener, identity))
    }

    pub(super) fn listener(&self) -> &OwnedFd {
        &self.listener
    }
}

/// A socket at its path that everybody may connect to.
#[derive(Debug)]
pub(crate) struct OpenSocket {
    path: PathBuf,
    identity: Identity,
}

impl OpenSocket {
    /// Binds one. What is at its path already has to be a socket. Blocks.
    pub(crate) fn bind(path: &Path) -> Result<(Self, OwnedFd), Errno> {
        let hidden = HiddenSocket::bind(OpenDirectory::of(path)?)?;
        // By its descriptor: somebody may have put a link in its place.
        let node = hidden.node()?;
        let path_of_node = format!("/proc/self/fd/{}", node.as_raw_fd());
        chmodat(
            CWD,
            path_of_node,
            Mode::from_raw_mode(0o666),
            AtFlags::empty(),
        )?;
        hidden.listen()?;
        let (listener, identity) = hidden.put()?;
        Ok((
            Self {
                path: path.to_owned(),
                identity,
            },
            listener,
        ))
    }

    /// Goes on with the listener of an earlier daemon, whose socket is at the path. Blocks.
    pub(crate) fn take_over(path: &Path, listener: &OwnedFd) -> Result<Self, Errno> {
        take_over(listener)?;
        Ok(Self {
            path: path.to_owned(),
            identity: Identity::of(&look(CWD, path)?),
        })
    }

    /// Removes it, unless something else is in its place by now. Blocks.
    pub(crate) fn remove(&self) -> Result<(), Errno> {
        remove(&OpenDirectory::of(&self.path)?, &self.identity).map(drop)
    }
}

/// Makes use of an inherited listener.
pub(super) fn take_over(listener: &OwnedFd) -> Result<(), Errno> {
    fcntl_setfd(listener, FdFlags::CLOEXEC)?;
    ioctl_fionbio(listener, true)?;
    listen(listener, BACKLOG)
}

/// Removes a socket from its place. False if something else is there.
pub(super) fn remove(directory: &OpenDirectory, identity: &Identity) -> Result<bool, Errno> {
    match look(directory, directory.name()) {
        Ok(found) if Identity::of(&found).is_same_node(identity) => directory.remove(),
        Ok(_) | Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// The name under which systemd keeps the listener of the socket at `path` over a restart. Nothing if there is none.
pub(crate) fn stored_name(path: &Path) -> Option<String> {
    let found = look(CWD, path).ok()?;
    let is_socket = FileType::from_raw_mode(found.stx_mode.into()) == FileType::Socket;
    is_socket.then(|| store_name(&Identity::of(&found)))
}

pub(super) fn store_name(identity: &Identity) -> String {
    format!("socket-{identity}")
}
