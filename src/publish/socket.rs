//! Token sockets: whoever may connect reads the value to its end, or nothing when there is none.

use super::access;
use super::error::{PublishError, Step};
use super::place::{Directory, Identity, Known, Place, Temporary, look, open_node};
use super::server::{Server, Serving, Shared};
use crate::format::Rendered;
use crate::handle::Counters;
use rustix::fs::{CWD, FileType, Mode, fchmod};
use rustix::io::{Errno, FdFlags, fcntl_setfd, ioctl_fionbio};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with,
};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

/// Connections that wait to be accepted; the kernel allows no more than `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// A socket that listens, with its final access, but is not in its place yet. Dropped, it leaves no trace.
#[derive(Debug)]
pub struct Bound {
    place: Arc<Place>,
    listener: OwnedFd,
    identity: Identity,
    /// Without one, it is in its place already.
    temporary: Option<Temporary>,
}

impl Bound {
    /// Makes the socket under a hidden name. Blocks.
    ///
    /// `inherited` may be the listener of an earlier daemon, known by [`stored_name`]: it goes on as it is, with all
    /// who wait to be accepted, unless its access has to change.
    pub fn prepare(place: Arc<Place>, inherited: Option<OwnedFd>) -> Result<Self, PublishError> {
        let directory = place.directory()?;
        if let Some(listener) = inherited
            && let Ok(Some(identity)) = take_over(&place, &directory, &listener)
        {
            return Ok(Self {
                place,
                listener,
                identity,
                temporary: None,
            });
        }
        let fail = place.error(Step::Listen);
        let (listener, temporary) = bound(directory).map_err(&fail)?;
        let node = temporary.node().map_err(&fail)?;
        access::apply(place.output(), &node)?;
        listen(&listener, BACKLOG).map_err(&fail)?;
        let identity = Identity::of(&look(&node, Path::new("")).map_err(&fail)?);
        drop(fail);
        Ok(Self {
            place,
            listener,
            identity,
            temporary: Some(temporary),
        })
    }

    /// Puts it in its place, and serves `value` from then on. Blocks.
    pub fn commit(
        self,
        value: Option<Rendered>,
        server: &Server,
        counters: Arc<Counters>,
    ) -> Result<TokenSocket, PublishError> {
        let place = Arc::clone(&self.place);
        let mut known = place.known();
        *known = Known::Failed;
        let fail = place.error(Step::Listen);
        let serving = Arc::new(Serving::new(self.place, self.listener, counters, value));
        let shared = Arc::clone(server.shared());
        let socket = TokenSocket {
            key: shared.add(Arc::clone(&serving)).map_err(&fail)?,
            shared,
            serving,
            identity: self.identity,
        };
        let identity = match self.temporary {
            Some(temporary) => temporary.node().and_then(|node| temporary.replace(node)),
            None => look(CWD, &place.output().path).map(|found| Identity::of(&found)),
        };
        *known = Known::Ours(identity.map_err(&fail)?);
        Ok(socket)
    }
}

/// The name under which systemd keeps the listener of the socket at `path` over a restart. Nothing if there is none.
pub fn stored_name(path: &Path) -> Option<String> {
    let found = look(CWD, path).ok()?;
    let is_socket = FileType::from_raw_mode(found.stx_mode.into()) == FileType::Socket;
    is_socket.then(|| store_name(&Identity::of(&found)))
}

fn store_name(identity: &Identity) -> String {
    format!("socket-{identity}")
}

fn bound(directory: Directory) -> Result<(OwnedFd, Temporary), Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let listener = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // The mode that it is born with. Besides, nobody can connect before it listens.
    fchmod(&listener, Mode::RUSR | Mode::WUSR)?;
    let ((), temporary) = directory.temporary(|directory, name| {
        // Relative to the open directory, and short: the kernel takes 107 bytes.
        let path = format!("/proc/self/fd/{}/{name}", directory.as_fd().as_raw_fd());
        match bind(&listener, &SocketAddrUnix::new(path)?) {
            Err(Errno::ADDRINUSE) => Err(Errno::EXIST),
            bound => bound,
        }
    })?;
    Ok((listener, temporary))
}

/// Makes use of an inherited listener, if the socket in the place has the right access.
fn take_over(
    place: &Place,
    directory: &Directory,
    listener: &OwnedFd,
) -> Result<Option<Identity>, Errno> {
    let node = open_node(directory, directory.name())?;
    let found = look(&node, Path::new(""))?;
    let around = look(directory, Path::new(""))?;
    if !access::is_right(place.output(), &around, &node, &found) {
        return Ok(None);
    }
    fcntl_setfd(listener, FdFlags::CLOEXEC)?;
    ioctl_fionbio(listener, true)?;
    listen(listener, BACKLOG)?;
    Ok(Some(Identity::of(&found)))
}

/// A socket that serves a value. Dropped, it no longer does, and stays in its place for the daemon's successor.
#[derive(Debug)]
pub struct TokenSocket {
    serving: Arc<Serving>,
    identity: Identity,
    shared: Arc<Shared>,
    key: u64,
}

impl TokenSocket {
    /// Serves another value from now on, or none.
    pub fn set(&self, value: Option<Rendered>) {
        self.serving.set(value);
    }

    /// Where it is.
    pub fn place(&self) -> &Arc<Place> {
        &self.serving.place
    }

    /// The name under which systemd is to keep its listener; see [`stored_name`].
    pub fn stored_name(&self) -> String {
        store_name(&self.identity)
    }

    /// Takes it away, unless something else is in its place by now, and serves those who wait already. Blocks.
    pub fn retire(self) -> Result<(), PublishError> {
        let place = self.place();
        let mut known = place.known();
        let removed = place.existing_directory().and_then(|directory| {
            let found = Identity::of(&look(&directory, directory.name())?);
            if found.is_same_node(&self.identity) {
                directory.remove()?;
                *known = Known::Nothing;
            }
            Ok(())
        });
        self.shared.remove(self.key);
        while self.shared.serve_waiting(&self.serving) {}
        match removed {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(place.error(Step::Remove)(errno)),
        }
    }
}

impl AsFd for TokenSocket {
    /// The listener, for systemd to keep.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.serving.listener.as_fd()
    }
}

impl Drop for TokenSocket {
    fn drop(&mut self) {
        self.shared.remove(self.key);
    }
}
