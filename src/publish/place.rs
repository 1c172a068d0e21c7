//! Places of outputs, and what the daemon put there.

use super::error::{PublishError, PublishStep};
use super::node::{Identity, look};
use super::pin::{DirError, Directories, PinnedDir, was_removed};
use super::temporary::OpenDirectory;
use crate::account::{Account, AccountName, Output};
use crate::offload::Device;
use crate::time::Moment;
use parking_lot::{Mutex, MutexGuard};
use rustix::fs::CWD;
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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
        self.known.lock()
    }

    /// Notes whether something failed: then the place has to be looked at again.
    pub(super) fn failed<T>(&self, result: Result<T, PublishError>) -> Result<T, PublishError> {
        self.known().has_failed = result.is_err();
        result
    }

    /// The file or socket that the daemon put there; `None` while somebody changes it.
    pub(super) fn ours(&self) -> Option<Identity> {
        match self.known.try_lock().map(|known| known.content) {
            Some(Known::Ours(identity)) => Some(identity),
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
            known.held.take_if(|held| was_removed(held));
        }
        let path = &self.output().path;
        match opened {
            Ok(fd) => Ok(OpenDirectory::new(fd, self.file_name())),
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
        self.output().path.file_name().unwrap_or_default()
    }
}
