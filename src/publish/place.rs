//! Where outputs are, what the daemon put there, and how something new takes the place of something old.

use super::error::{PublishError, Step};
use crate::account::{Account, AccountName, Output};
use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, Statx, StatxFlags};
use rustix::fs::{chmod, fsync, mkdir, open, openat, renameat, statx, unlinkat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What all temporaries are called first.
const TEMPORARY: &str = ".wxtokend-";

/// What tells one state of a file or socket from every other.
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

    /// Whether it is the same file or socket, changed or not.
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

/// What the daemon believes is in a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// It has not looked yet.
    Unvisited,
    /// Nothing: it was removed.
    Nothing,
    /// What it put there.
    Ours(Identity),
    /// It failed to put something there, or to take it away.
    Failed,
}

/// The place of one output.
#[derive(Debug)]
pub struct Place {
    account: Arc<Account>,
    index: usize,
    runtime_dir: Arc<Path>,
    known: Mutex<Known>,
}

impl Place {
    /// The place of `account.outputs[index]`. Below `runtime_dir`, missing directories are made.
    ///
    /// # Panics
    /// If there is no such output.
    pub fn new(account: Arc<Account>, index: usize, runtime_dir: Arc<Path>) -> Self {
        assert!(index < account.outputs.len(), "an output of the account");
        Self {
            account,
            index,
            runtime_dir,
            known: Mutex::new(Known::Unvisited),
        }
    }

    /// Whose output it is.
    pub fn account(&self) -> &AccountName {
        &self.account.name
    }

    /// Which of the account's outputs it is.
    pub fn index(&self) -> usize {
        self.index
    }

    /// The output.
    pub fn output(&self) -> &Output {
        &self.account.outputs[self.index]
    }

    /// Whether all is as the daemon left it: false when somebody changed, replaced or removed it, or put something
    /// where nothing should be, or when the last attempt to publish failed. Blocks for one look at the file system.
    ///
    /// A change within the same tick of the file system's clock (4 ms) as the publication may escape it.
    pub fn is_intact(&self) -> bool {
        match *self.known() {
            Known::Unvisited => true,
            Known::Failed => false,
            Known::Nothing => look(CWD, &self.output().path).is_err(),
            Known::Ours(ours) => {
                look(CWD, &self.output().path).is_ok_and(|found| Identity::of(&found) == ours)
            }
        }
    }

    /// Somebody looked, and there is nothing.
    pub fn set_vacant(&self) {
        *self.known() = Known::Nothing;
    }

    /// What is known of the place. Whoever publishes holds on to it, so that publications do not overtake each other.
    pub(super) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the daemon put there; nothing while somebody publishes.
    pub(super) fn ours(&self) -> Option<Identity> {
        match self.known.try_lock().map(|known| *known) {
            Ok(Known::Ours(identity)) => Some(identity),
            _ => None,
        }
    }

    pub(super) fn error(&self, step: Step) -> impl Fn(Errno) -> PublishError {
        move |errno| PublishError::new(&self.output().path, step, errno)
    }

    /// Opens its directory, which is made first when it is missing below the runtime directory.
    pub(super) fn directory(&self) -> Result<Directory, PublishError> {
        let made = match self.existing_directory() {
            Err(Errno::NOENT) if self.parent().starts_with(&self.runtime_dir) => {
                make_directory(self.parent(), &self.runtime_dir)
                    .and_then(|()| self.existing_directory())
            }
            opened => opened,
        };
        made.map_err(self.error(Step::Directory))
    }

    /// Opens its directory.
    pub(super) fn existing_directory(&self) -> Result<Directory, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Directory {
            fd: open(self.parent(), flags, Mode::empty())?,
            name: self.file_name().into(),
        })
    }

    pub(super) fn parent(&self) -> &Path {
        self.output().path.parent().unwrap_or(Path::new("/"))
    }

    pub(super) fn file_name(&self) -> &OsStr {
        file_name(self.output())
    }
}

/// Makes a directory that everybody may search, whatever the umask, and those above it up to `top`.
fn make_directory(path: &Path, top: &Path) -> Result<(), Errno> {
    let mode = Mode::from_raw_mode(0o755);
    let result = mkdir(path, mode).or_else(|errno| match path.parent() {
        Some(parent) if errno == Errno::NOENT && path != top => {
            make_directory(parent, top)?;
            mkdir(path, mode)
        }
        _ => Err(errno),
    });
    match result {
        Ok(()) => chmod(path, mode),
        // Another output of the directory was faster.
        Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// The open directory of an output: nobody can swap it for another one meanwhile.
#[derive(Debug)]
pub(super) struct Directory {
    fd: OwnedFd,
    /// Of the output.
    name: Box<OsStr>,
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Directory {
    /// The name of the output in it.
    pub(super) fn name(&self) -> &Path {
        Path::new(&self.name)
    }

    /// Removes the output. False if there was none.
    pub(super) fn remove(&self) -> Result<bool, Errno> {
        match unlinkat(&self.fd, self.name(), AtFlags::empty()) {
            Ok(()) => self.sync().map(|()| true),
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
    fn sync(&self) -> Result<(), Errno> {
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
    directory: Directory,
    name: String,
    is_there: bool,
}

impl Temporary {
    /// Opens it, whatever it is, as something to look at and to give access to.
    pub(super) fn node(&self) -> Result<OwnedFd, Errno> {
        open_node(&self.directory, Path::new(&self.name))
    }

    /// Puts it in the place of the output, and makes that last.
    pub(super) fn replace(mut self) -> Result<Identity, Errno> {
        let Directory { fd, name } = &self.directory;
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
        let identity = Identity::of(&look(node, Path::new(""))?);
        self.directory.sync()?;
        Ok(identity)
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
pub(super) fn open_node(directory: &Directory, name: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(directory, name, flags, Mode::empty())
}

/// What is at a path, or, without one, behind a descriptor. A symbolic link is looked at itself.
pub(super) fn look(from: impl AsFd, path: &Path) -> Result<Statx, Errno> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH;
    statx(from, path, flags, StatxFlags::BASIC_STATS)
}

fn file_name(output: &Output) -> &OsStr {
    output.path.file_name().unwrap_or_default()
}

/// What the names of an output's temporaries begin with. Short, so that an output may have any name.
fn temporary_prefix(name: &OsStr) -> String {
    let digest = Sha256::digest(name.as_bytes());
    let hash = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
    format!("{TEMPORARY}{hash:08x}-")
}

/// Whether something of that name is a temporary of some output.
pub(super) fn is_temporary(name: &OsStr) -> bool {
    name.as_bytes().starts_with(TEMPORARY.as_bytes())
}

/// Removes the temporaries that a killed daemon left beside these outputs, and nothing else. For the start, before
/// anything is published. Blocks.
pub fn remove_leftovers<'a>(outputs: impl IntoIterator<Item = &'a Output>) {
    let mut directories: BTreeMap<&Path, BTreeSet<String>> = BTreeMap::new();
    for output in outputs {
        if let Some(directory) = output.path.parent() {
            let prefix = temporary_prefix(file_name(output));
            directories.entry(directory).or_default().insert(prefix);
        }
    }
    for (path, prefixes) in directories {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let Ok(directory) = open(path, flags, Mode::empty()) else {
            continue;
        };
        let Ok(entries) = Dir::read_from(&directory) else {
            continue;
        };
        for entry in entries.flatten() {
            let name = entry.file_name().to_bytes();
            let is_leftover = name.len() > 8
                && str::from_utf8(&name[..name.len() - 8]).is_ok_and(|p| prefixes.contains(p));
            if is_leftover {
                let _ = unlinkat(&directory, entry.file_name(), AtFlags::empty());
            }
        }
    }
}
