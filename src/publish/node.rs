//! Files and sockets as the file system knows them.

use rustix::fs::{AtFlags, Statx, StatxFlags, statx};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::os::fd::AsFd;
use std::path::Path;

/// One state of a file or socket, which no other state equals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    device: (u32, u32),
    inode: u64,
    /// Any change of content, owner, mode or list moves it. Seconds and nanoseconds.
    changed: (i64, u32),
    size: u64,
}

impl Identity {
    pub(super) fn of(found: &Statx) -> Self {
        Self {
            device: (found.stx_dev_major, found.stx_dev_minor),
            inode: found.stx_ino,
            changed: (found.stx_ctime.tv_sec, found.stx_ctime.tv_nsec),
            size: found.stx_size,
        }
    }

    /// Returns whether it is the same file or socket, changed or not.
    pub(super) fn is_same_node(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor) = self.device;
        write!(f, "{major:x}.{minor:x}-{:x}", self.inode)
    }
}

/// Looks at a path, or, without one, at a descriptor. Does not follow a symbolic link.
pub(super) fn look(from: impl AsFd, path: &Path) -> Result<Statx, Errno> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH;
    statx(from, path, flags, StatxFlags::BASIC_STATS)
}

/// Looks at a descriptor.
pub(super) fn look_at(node: impl AsFd) -> Result<Statx, Errno> {
    look(node, Path::new(""))
}
