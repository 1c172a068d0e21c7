//! The API socket itself.

use rustix::fs::{Mode, chmod};
use rustix::net::{SocketFlags, accept_with};
use std::fmt;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// The API socket, open to all local users. Dropped, it stays in its place for the daemon's successor.
#[derive(Debug)]
pub struct Listener {
    socket: UnixStream,
    path: PathBuf,
    device: u64,
    inode: u64,
}

/// Why the API socket cannot be had.
#[derive(Debug)]
pub struct ListenError {
    path: PathBuf,
    error: io::Error,
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "cannot listen on `{}`: {}",
            self.path.display(),
            self.error
        )
    }
}

impl std::error::Error for ListenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

impl Listener {
    /// Binds the socket under another name, lets everybody connect, and moves it to `path`, over what another instance
    /// left there. Makes the last directory of the path if it is missing. A listener `inherited` from an earlier daemon,
    /// whose socket still is in its place, goes on as it is. Needs a tokio runtime.
    pub fn open(path: &Path, inherited: Option<OwnedFd>) -> Result<Self, ListenError> {
        let opened = match inherited {
            Some(socket) => Self::take_over(path, socket),
            None => Self::bind(path),
        };
        opened.map_err(|error| ListenError {
            path: path.to_owned(),
            error,
        })
    }

    fn bind(path: &Path) -> io::Result<Self> {
        let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        match fs::create_dir(directory) {
            // Whatever the umask says: everybody may connect.
            Ok(()) => chmod(directory, Mode::from_raw_mode(0o755))?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        match fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => {
                return Err(io::Error::new(
                    io::ErrorKind::AlreadyExists,
                    "something that is no socket is there; move it away or set `socket` under [api] to another path",
                ));
            }
            _ => {}
        }
        // As short as can be: the path of a socket has 107 bytes at most.
        let name = tempfile::Builder::new()
            .prefix(".")
            .rand_bytes(6)
            .make_in(directory, |name| UnixListener::bind(name))?;
        chmod(name.path(), Mode::from_raw_mode(0o666))?;
        let metadata = fs::symlink_metadata(name.path())?;
        let socket = name.persist(path).map_err(|error| error.error)?;
        Ok(Self {
            socket: listen(socket)?,
            path: path.to_owned(),
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }

    fn take_over(path: &Path, socket: OwnedFd) -> io::Result<Self> {
        let metadata = fs::symlink_metadata(path)?;
        Ok(Self {
            socket: listen(socket.into())?,
            path: path.to_owned(),
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }

    /// The next connection, which does not block.
    pub(super) async fn accept(&self) -> io::Result<OwnedFd> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let accept = || Ok(accept_with(&self.socket, flags)?);
        self.socket.async_io(Interest::READABLE, accept).await
    }

    /// Takes the socket away, unless something else is in its place by now.
    pub fn retire(&self) {
        let still_ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == (self.device, self.inode));
        if still_ours {
            // Nobody is left to be told.
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl AsFd for Listener {
    /// The listener, for systemd to keep.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn listen(socket: UnixListener) -> io::Result<UnixStream> {
    socket.set_nonblocking(true)?;
    // It knows how to wait for any socket, and this one only accepts.
    UnixStream::from_std(OwnedFd::from(socket).into())
}
