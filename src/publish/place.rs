//! Places of outputs: what the daemon put there, and how something new takes the place of something old.

use super::error::{PublishError, PublishStep};
use super::pin::{self, DirError, Directories, PinnedDir};
use crate::account::{Account, AccountName, Output};
use crate::offload::Device;
use crate::time::Moment;
use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, Statx, StatxFlags};
use rustix::fs::{fsync, open, openat, renameat, statx, unlinkat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The first part of the names of all temporaries.
const TEMPORARY: &str = ".wxtokend-";

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

/// The daemon's knowledge of a place.
#[derive(Debug)]
pub(super) struct Knowledge {
    pub(super) content: Known,
    /// The last attempt to put something there, or to take it away, failed.
    pub(super) has_failed: bool,
    /// The moment when what the daemon put there has to go.
    pub(super) until: Option<Moment>,
    /// The directory that it was put into, where that is held open.
    pub(super) held: Option<Arc<OwnedFd>>,
}

/// The daemon's belief about the content of a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// It has not looked yet.
    Unvisited,
    /// Nothing: it was removed.
    Nothing,
    /// The file or socket that it put there.
    Ours(Identity),
}

/// The place of one output.
#[derive(Debug)]
pub struct Place {
    account: Arc<Account>,
    index: usize,
    home: Arc<PinnedDir>,
    known: Mutex<Knowledge>,
    /// It is configured no more: what is still under way must not put anything there.
    is_given_up: AtomicBool,
}

impl Place {
    /// The place of `account.outputs[index]`.
    ///
    /// # Panics
    /// If there is no such output.
    pub fn new(account: Arc<Account>, index: usize, directories: &Arc<Directories>) -> Self {
        let path = &account.outputs[index].path;
        let home = directories.directory(path.parent().unwrap_or(Path::new("/")));
        Self {
            account,
            index,
            home,
            known: Mutex::new(Knowledge {
                content: Known::Unvisited,
                has_failed: false,
                until: None,
                held: None,
            }),
            is_given_up: AtomicBool::new(false),
        }
    }

    /// The account of the output.
    pub(crate) fn account(&self) -> &AccountName {
        &self.account.name
    }

    /// The index of the output in its account.
    #[cfg(test)]
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// The output.
    pub(crate) fn output(&self) -> &Output {
        &self.account.outputs[self.index]
    }

    /// The file system that it is on. Does not block.
    pub(crate) fn device(&self) -> Device {
        self.home.device()
    }

    /// Returns whether all is as the daemon left it: false when somebody changed, replaced or removed it, or put
    /// something where nothing should be, or when the last attempt to publish failed. Blocks for one look at the file
    /// system.
    ///
    /// A change within the same tick of the file system's clock (4 ms) as the publication may escape it.
    pub(crate) fn is_intact(&self) -> bool {
        let (known, has_failed) = {
            let known = self.known();
            (known.content, known.has_failed)
        };
        match known {
            _ if has_failed => false,
            Known::Unvisited => true,
            Known::Nothing => look(CWD, &self.output().path).is_err(),
            Known::Ours(ours) => {
                look(CWD, &self.output().path).is_ok_and(|found| Identity::of(&found) == ours)
            }
        }
    }

    /// Notes that somebody looked, and there is nothing.
    pub(crate) fn set_vacant(&self) {
        self.known().content = Known::Nothing;
    }

    /// Notes that it is configured no more, or that another account has its path: nothing is put there any more.
    pub(crate) fn give_up(&self) {
        self.is_given_up.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_given_up(&self) -> bool {
        self.is_given_up.load(Ordering::Relaxed)
    }

    /// The knowledge of the place. Whoever puts something there or takes it away holds on to it meanwhile, so that a
    /// value that expires is not mistaken for its successor.
    pub(super) fn known(&self) -> MutexGuard<'_, Knowledge> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes whether something failed: then the place has to be looked at again.
    pub(super) fn failed<T>(&self, result: Result<T, PublishError>) -> Result<T, PublishError> {
        self.known().has_failed = result.is_err();
        result
    }

    /// The file or socket that the daemon put there; `None` while somebody changes it.
    pub(super) fn ours(&self) -> Option<Identity> {
        match self.known.try_lock().map(|known| known.content) {
            Ok(Known::Ours(identity)) => Some(identity),
            _ => None,
        }
    }

    pub(super) fn error(&self, step: PublishStep) -> impl Fn(Errno) -> PublishError {
        move |errno| PublishError::new(&self.output().path, step, errno)
    }

    /// Opens its directory, which is made first when it is missing below the runtime directory.
    pub(super) fn directory(&self) -> Result<OpenDirectory, PublishError> {
        self.opened(self.home.open_or_make())
    }

    /// Opens its directory.
    pub(super) fn existing_directory(&self) -> Result<OpenDirectory, PublishError> {
        self.opened(self.home.open())
    }

    fn opened(&self, opened: Result<OwnedFd, DirError>) -> Result<OpenDirectory, PublishError> {
        if opened.is_err() {
            // One that was removed goes only when nobody holds it, and only then its watch tells.
            let mut known = self.known();
            known.held.take_if(|held| pin::was_removed(held));
        }
        let path = &self.output().path;
        match opened {
            Ok(fd) => Ok(OpenDirectory {
                fd,
                name: self.file_name().into(),
            }),
            Err(DirError::Swapped) => {
                Err(PublishError::new(path, PublishStep::Swapped, Errno::STALE))
            }
            Err(DirError::Link) => {
                Err(PublishError::new(path, PublishStep::Directory, Errno::LOOP))
            }
            Err(DirError::Os(errno)) => Err(PublishError::new(path, PublishStep::Directory, errno)),
        }
    }

    pub(super) fn home(&self) -> &Arc<PinnedDir> {
        &self.home
    }

    pub(super) fn parent(&self) -> &Path {
        self.home.path()
    }

    pub(super) fn file_name(&self) -> &OsStr {
        file_name(self.output())
    }
}

/// The open directory of an output: nobody can swap it for another one meanwhile.
#[derive(Debug)]
pub(super) struct OpenDirectory {
    fd: OwnedFd,
    /// Of the output.
    name: Box<OsStr>,
}

impl AsFd for OpenDirectory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl OpenDirectory {
    /// The directory of something that is no output.
    pub(super) fn of(path: &Path) -> Result<Self, Errno> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Errno::INVAL);
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self {
            fd: open(parent, flags, Mode::empty())?,
            name: name.into(),
        })
    }

    /// The name of the output in it.
    pub(super) fn name(&self) -> &Path {
        Path::new(&self.name)
    }

    /// Removes the output. False if there was none.
    pub(super) fn remove(&self) -> Result<bool, Errno> {
        match unlinkat(&self.fd, self.name(), AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    /// Makes something under a name that nobody has: `make` gets the name, and says `EXIST` when somebody has.
    pub(super) fn temporary<T>(
        self,
        make: impl Fn(&Self, &str) -> Result<T, Errno>,
    ) -> Result<(T, Temporary), Errno> {
        let prefix = temporary_prefix(&self.name);
        loop {
            let name = format!("{prefix}{:08x}", fastrand::u32(..));
            match make(&self, &name) {
                Err(Errno::EXIST) => {}
                result => {
                    let directory = self;
                    return Ok((
                        result?,
                        Temporary {
                            directory,
                            name,
                            is_there: true,
                        },
                    ));
                }
            }
        }
    }

    /// Makes what happened in the directory outlive a crash.
    pub(super) fn sync(&self) -> Result<(), Errno> {
        match fsync(&self.fd) {
            // Some network and FUSE file systems know no such thing.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => Ok(()),
            synced => synced,
        }
    }
}

/// Something under a hidden name. It is removed when this is dropped, unless it took the place of the output.
#[derive(Debug)]
pub(super) struct Temporary {
    directory: OpenDirectory,
    name: String,
    is_there: bool,
}

impl Temporary {
    /// Opens it, whatever it is, as something to look at and to give access to.
    pub(super) fn node(&self) -> Result<OwnedFd, Errno> {
        open_node(&self.directory, Path::new(&self.name))
    }

    /// Puts it in the place of the output; [`OpenDirectory::sync`] makes that last.
    pub(super) fn replace(&mut self) -> Result<Identity, Errno> {
        let OpenDirectory { fd, name } = &self.directory;
        let node = self.node()?;
        let rename = || renameat(fd, &*self.name, fd, &**name);
        match rename() {
            Err(Errno::ISDIR) => {
                // Nothing is lost with an empty one.
                unlinkat(fd, &**name, AtFlags::REMOVEDIR)?;
                rename()
            }
            renamed => renamed,
        }?;
        self.is_there = false;
        // Only now: to be renamed counts as a change.
        Ok(Identity::of(&look(node, Path::new(""))?))
    }

    pub(super) fn directory(&self) -> &OpenDirectory {
        &self.directory
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if self.is_there {
            let _ = unlinkat(&self.directory, &*self.name, AtFlags::empty());
        }
    }
}

/// Opens what is in a directory, whatever it is, as something to look at and to give access to.
pub(super) fn open_node(directory: &OpenDirectory, name: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(directory, name, flags, Mode::empty())
}

/// Looks at a path, or, without one, at a descriptor. Does not follow a symbolic link.
pub(super) fn look(from: impl AsFd, path: &Path) -> Result<Statx, Errno> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH;
    statx(from, path, flags, StatxFlags::BASIC_STATS)
}

fn file_name(output: &Output) -> &OsStr {
    output.path.file_name().unwrap_or_default()
}

/// The prefix of the names of an output's temporaries. Short, so that an output may have any name.
fn temporary_prefix(name: &OsStr) -> String {
    let digest = Sha256::digest(name.as_bytes());
    let hash = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
    format!("{TEMPORARY}{hash:08x}-")
}

/// Returns whether something of that name is a temporary of some output.
pub(super) fn is_temporary(name: &OsStr) -> bool {
    name.as_bytes().starts_with(TEMPORARY.as_bytes())
}

/// The temporaries that a killed daemon left in one directory.
#[derive(Debug)]
pub(crate) struct Leftovers {
    directory: Box<Path>,
    /// The prefixes of the names of those of its outputs.
    prefixes: BTreeSet<String>,
}

impl Leftovers {
    /// Those beside outputs or other sockets, by directory.
    pub(crate) fn beside<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Vec<Self> {
        let mut directories: BTreeMap<&Path, BTreeSet<String>> = BTreeMap::new();
        for path in paths {
            if let (Some(directory), Some(name)) = (path.parent(), path.file_name()) {
                let prefixes = directories.entry(directory).or_default();
                prefixes.insert(temporary_prefix(name));
            }
        }
        let all = directories.into_iter().map(|(directory, prefixes)| Self {
            directory: directory.into(),
            prefixes,
        });
        all.collect()
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Removes them, and nothing else. For the start, before anything is published. Blocks.
    pub(crate) fn remove(&self) {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let Ok(directory) = open(&*self.directory, flags, Mode::empty()) else {
            return;
        };
        let Ok(entries) = Dir::read_from(&directory) else {
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name().to_bytes();
            let is_leftover = name.len() > 8
                && str::from_utf8(&name[..name.len() - 8]).is_ok_and(|p| self.prefixes.contains(p));
            if is_leftover {
                let _ = unlinkat(&directory, entry.file_name(), AtFlags::empty());
            }
        }
    }
}
