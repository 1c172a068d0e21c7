//! The API socket itself.

use crate::fault::reason;
use crate::publish::{OpenSocket, foreign_owner};
use rustix::fs::Mode;
use rustix::net::{SocketFlags, accept_with};
use std::fmt;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt};
use std::path::{Path, PathBuf};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// The API socket, open to all local users. Dropped, it stays in its place for the daemon's successor.
#[derive(Debug)]
pub struct Listener {
    /// Knows how to wait for any socket; this one only accepts.
    listener: UnixStream,
    socket: OpenSocket,
}

/// The reason why the API socket cannot be had.
#[derive(Debug)]
pub struct ListenError {
    path: PathBuf,
    reason: String,
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "cannot listen on `{}`: {}",
            self.path.display(),
            self.reason
        )
    }
}

impl std::error::Error for ListenError {}

impl Listener {
    /// Binds the socket under another name, lets everybody connect, and moves it to `path`, over what another instance
    /// left there. Makes the last directory of the path if it is missing. A listener `inherited` from an earlier
    /// daemon, whose socket still is in its place, goes on as it is. Needs a tokio runtime. Blocks.
    pub fn open(path: &Path, inherited: Option<OwnedFd>) -> Result<Self, ListenError> {
        let opened = match inherited {
            Some(listener) => OpenSocket::take_over(path, &listener)
                .map(|socket| (socket, listener))
                .map_err(|errno| reason(&errno.into())),
            None => bind(path),
        };
        let fail = |reason| ListenError {
            path: path.to_owned(),
            reason,
        };
        let (socket, listener) = opened.map_err(fail)?;
        let listener = UnixStream::from_std(listener.into());
        Ok(Self {
            listener: listener.map_err(|error| fail(reason(&error)))?,
            socket,
        })
    }

    /// Accepts the next connection, which does not block.
    pub(super) async fn accept(&self) -> io::Result<OwnedFd> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let accept = || Ok(accept_with(&self.listener, flags)?);
        self.listener.async_io(Interest::READABLE, accept).await
    }

    /// Takes the socket away, unless something else is in its place by now. Blocks.
    pub fn retire(&self) {
        // There is nobody left to tell.
        let _ = self.socket.remove();
    }
}

impl AsFd for Listener {
    /// The listener, for systemd to keep.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

fn bind(path: &Path) -> Result<(OpenSocket, OwnedFd), String> {
    let directory = path.parent().ok_or("it has no directory")?;
    make_directory(directory).map_err(|error| reason(&error))?;
    if let Some(uid) = foreign_owner(directory) {
        return Err(format!(
            "its directory belongs to uid {uid}, who could put something else in its place: use one of root or of the daemon's user"
        ));
    }
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err("something that is no socket is there; move it away or set `socket` under [api] to another path".to_owned());
        }
        _ => {}
    }
    OpenSocket::bind(path).map_err(|errno| reason(&errno.into()))
}

fn make_directory(directory: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o755).create(directory) {
        // Whatever the umask says: everybody may connect.
        Ok(()) => Ok(rustix::fs::chmod(directory, Mode::from_raw_mode(0o755))?),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}
