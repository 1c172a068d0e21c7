//! Temporaries: how something new takes the place of something old, with nothing in between.

use super::node::{Identity, look};
use rustix::fs::{AtFlags, Dir, Mode, OFlags, fsync, open, openat, renameat, unlinkat};
use rustix::io::Errno;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The first part of the names of all temporaries.
const TEMPORARY: &str = ".wxtokend-";

/// The open directory of an output: nobody can swap it for another one meanwhile.
#[derive(Debug)]
pub(super) struct OpenDirectory {
    fd: OwnedFd,
    /// The name of the output.
    name: Box<OsStr>,
}

impl AsFd for OpenDirectory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl OpenDirectory {
    pub(super) fn new(fd: OwnedFd, name: &OsStr) -> Self {
        Self {
            fd,
            name: name.into(),
        }
    }

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
                // An empty directory may go.
                unlinkat(fd, &**name, AtFlags::REMOVEDIR)?;
                rename()
            }
            renamed => renamed,
        }?;
        self.is_there = false;
        // A rename counts as a change, so the look comes after it.
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
