//! Directories of outputs, pinned when they are found: one that takes the place of another is told and not written to.

use super::mounts::Mounts;
use super::node::look_at;
use super::trusted::open_trusted;
use crate::offload::Device;
use parking_lot::Mutex;
use rustix::fs::{AtFlags, CWD, chmod, mkdir, openat2, statx};
use rustix::fs::{Mode, OFlags, ResolveFlags, Statx, StatxFlags};
use rustix::io::Errno;
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Weak};

/// Directories that are held open, so that a file in one that was moved away is removed at its end too. Only where the
/// file system stays mounted as long as the daemon runs: an open directory would keep it from being unmounted.
const MAX_HELD: usize = 256;

/// All directories of outputs.
#[derive(Debug)]
pub struct Directories {
    runtime_dir: Arc<Path>,
    pinned: Mutex<HashMap<Box<Path>, Weak<PinnedDir>>>,
    mounts: Mutex<Arc<Mounts>>,
    /// File systems that stay: that of `/` and that of the runtime directory.
    lasting: Vec<Device>,
}

impl Directories {
    /// Below `runtime_dir`, missing directories are made. Blocks.
    pub fn new(runtime_dir: &Path) -> Arc<Self> {
        let device = |path: &Path| {
            let found = statx(CWD, path, AtFlags::empty(), StatxFlags::BASIC_STATS);
            found.ok().map(|found| device(&found))
        };
        Arc::new(Self {
            lasting: [Path::new("/"), Path::new("/run")]
                .into_iter()
                .filter_map(device)
                .collect(),
            runtime_dir: runtime_dir.into(),
            pinned: Mutex::default(),
            mounts: Mutex::new(Arc::new(Mounts::read())),
        })
    }

    /// The directory at a path. Does not block.
    pub(super) fn directory(self: &Arc<Self>, path: &Path) -> Arc<PinnedDir> {
        let mut pinned = self.pinned.lock();
        if let Some(known) = pinned.get(path).and_then(Weak::upgrade) {
            return known;
        }
        let new = Arc::new(PinnedDir {
            path: path.into(),
            all: self.clone(),
            pin: Mutex::default(),
        });
        pinned.retain(|_, known| known.strong_count() > 0);
        pinned.insert(path.into(), Arc::downgrade(&new));
        new
    }

    /// The file system that a path is on, as far as can be told without asking it.
    pub(crate) fn device_of(&self, path: &Path) -> Device {
        let mounts = self.mounts.lock().clone();
        mounts.device_of(path)
    }

    /// Something was mounted or unmounted.
    pub(crate) fn on_mounts_changed(&self) {
        *self.mounts.lock() = Arc::new(Mounts::read());
    }

    /// Finds all directories anew: an administrator says that they are as they should be.
    pub(crate) fn find_anew(&self) {
        let known = self.pinned.lock();
        for directory in known.values().filter_map(Weak::upgrade) {
            *directory.pin.lock() = Pin::default();
        }
    }

    fn may_hold(&self, device: Device) -> bool {
        self.lasting.contains(&device) && self.pinned.lock().len() <= MAX_HELD
    }
}

/// A directory of outputs.
#[derive(Debug)]
pub(crate) struct PinnedDir {
    path: Box<Path>,
    all: Arc<Directories>,
    pin: Mutex<Pin>,
}

/// The state in which a directory was found.
#[derive(Debug, Default)]
struct Pin {
    found: Option<FoundDirectory>,
    /// It was found without a symbolic link on its path: none is followed later either.
    is_straight: bool,
}

#[derive(Debug)]
struct FoundDirectory {
    device: Device,
    inode: u64,
    held: Option<Arc<OwnedFd>>,
}

/// The reason why a directory cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DirError {
    /// Another directory, or a link, is in its place.
    Swapped,
    /// A symbolic link on its path may be changed by others.
    Link,
    Os(Errno),
}

impl From<Errno> for DirError {
    fn from(errno: Errno) -> Self {
        Self::Os(errno)
    }
}

impl PinnedDir {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The file system that it is on. Does not block.
    pub(super) fn device(&self) -> Device {
        let found = self.pin.lock().found.as_ref().map(|found| found.device);
        found.unwrap_or_else(|| self.all.device_of(&self.path))
    }

    /// The directory that was found last, where it is held open.
    pub(super) fn held(&self) -> Option<Arc<OwnedFd>> {
        self.pin.lock().found.as_ref()?.held.clone()
    }

    /// Opens it, and makes it first when it is missing below the runtime directory. Blocks.
    pub(super) fn open_or_make(&self) -> Result<OwnedFd, DirError> {
        match self.open() {
            Err(DirError::Os(Errno::NOENT)) if self.path.starts_with(&self.all.runtime_dir) => {
                make_directory(&self.path, &self.all.runtime_dir)?;
                self.open()
            }
            opened => opened,
        }
    }

    /// Opens it, if it is the one that was found first. Blocks.
    pub(super) fn open(&self) -> Result<OwnedFd, DirError> {
        let opened = open_straight(&self.path);
        let (directory, is_straight) = match opened {
            Ok(directory) => (directory, true),
            Err(Errno::LOOP) if self.pin.lock().is_straight => return Err(DirError::Swapped),
            Err(Errno::LOOP | Errno::NOSYS) => {
                let opened = open_trusted(&self.path);
                (opened.map_err(link_or)?, false)
            }
            Err(errno) => {
                if errno == Errno::NOENT {
                    // A directory that is made in its place later is found anew.
                    self.pin.lock().found = None;
                }
                return Err(errno.into());
            }
        };
        let now = look_at(&directory)?;
        let mut pin = self.pin.lock();
        if pin.found.as_ref().is_some_and(|found| found.is(&now)) {
            return Ok(directory);
        }
        if pin.found.as_ref().is_some_and(|found| !found.is_gone(&now)) {
            return Err(DirError::Swapped);
        }
        let held = self.all.may_hold(device(&now));
        let held = held.then(|| directory.try_clone().map(Arc::new).ok());
        pin.is_straight |= is_straight;
        pin.found = Some(FoundDirectory {
            device: device(&now),
            inode: now.stx_ino,
            held: held.flatten(),
        });
        Ok(directory)
    }
}

impl FoundDirectory {
    fn is(&self, now: &Statx) -> bool {
        (self.device, self.inode) == (device(now), now.stx_ino)
    }

    /// Returns whether it is no longer there to be found: it was removed, or something was mounted or unmounted.
    fn is_gone(&self, now: &Statx) -> bool {
        self.device != device(now) || self.held.as_deref().is_some_and(was_removed)
    }
}

/// Returns whether a directory that is held open was removed.
pub(super) fn was_removed(held: &OwnedFd) -> bool {
    look_at(held).is_ok_and(|held| held.stx_nlink == 0)
}

fn link_or(errno: Errno) -> DirError {
    match errno {
        Errno::LOOP => DirError::Link,
        errno => DirError::Os(errno),
    }
}

/// Opens a directory on whose path there is no symbolic link.
fn open_straight(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS)
}

fn device(found: &Statx) -> Device {
    (found.stx_dev_major, found.stx_dev_minor)
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

#[cfg(test)]
mod tests {
    use super::super::testing::directory;
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn directory_that_took_the_place_of_another_is_refused() {
        let dir = directory();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("tokens")).unwrap();
        fs::create_dir(at("other")).unwrap();
        let pinned = Directories::new(&at("run")).directory(&at("tokens"));
        pinned.open().unwrap();
        fs::rename(at("tokens"), at("aside")).unwrap();
        symlink(at("other"), at("tokens")).unwrap();
        assert_eq!(pinned.open().unwrap_err(), DirError::Swapped);
        fs::remove_file(at("tokens")).unwrap();
        fs::rename(at("other"), at("tokens")).unwrap();
        assert_eq!(pinned.open().unwrap_err(), DirError::Swapped);
        fs::rename(at("tokens"), at("other")).unwrap();
        fs::rename(at("aside"), at("tokens")).unwrap();
        pinned.open().unwrap();
    }

    #[test]
    fn directory_that_was_removed_is_found_anew_and_a_reload_accepts_any() {
        let dir = directory();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("tokens")).unwrap();
        fs::create_dir(at("other")).unwrap();
        let directories = Directories::new(&at("run"));
        let pinned = directories.directory(&at("tokens"));
        pinned.open().unwrap();
        fs::remove_dir(at("tokens")).unwrap();
        assert_eq!(pinned.open().unwrap_err(), DirError::Os(Errno::NOENT));
        fs::create_dir(at("tokens")).unwrap();
        pinned.open().unwrap();
        fs::rename(at("tokens"), at("aside")).unwrap();
        symlink(at("other"), at("tokens")).unwrap();
        assert_eq!(pinned.open().unwrap_err(), DirError::Swapped);
        directories.find_anew();
        pinned.open().unwrap();
    }
}
