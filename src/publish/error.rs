//! The reasons why an output cannot be published, and what an administrator does about them.

use crate::fault::reason;
use rustix::io::Errno;
use rustix::process::geteuid;
use std::fmt;
use std::path::Path;

/// A step of publishing an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PublishStep {
    /// Opening its directory, or making a missing one.
    Directory,
    /// Finding the directory that was there before.
    Swapped,
    /// Making, filling and renaming its successor.
    Write,
    /// Giving it owner and group.
    Owner,
    /// Setting its permission bits.
    Mode,
    /// Letting its readers in.
    Readers,
    /// Taking it away.
    Remove,
    /// Listening on it.
    Listen,
}

/// The reason why an output cannot be published. Displays as ``cannot write `/run/wxtokend/shop.json`: permission
/// denied; …``, with what to do at its end. Holds no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishError {
    path: Box<Path>,
    step: PublishStep,
    errno: Errno,
}

impl PublishError {
    pub(super) fn new(path: &Path, step: PublishStep, errno: Errno) -> Self {
        Self {
            path: path.into(),
            step,
            errno,
        }
    }

    /// Returns whether it says that there is nothing.
    pub(super) fn is_absence(&self) -> bool {
        self.step == PublishStep::Directory && self.errno == Errno::NOENT
    }

    /// The same, of the removal of an output.
    pub(super) fn at_removal(self) -> Self {
        match self.step {
            PublishStep::Directory => Self {
                step: PublishStep::Remove,
                ..self
            },
            _ => self,
        }
    }

    /// Advice on it.
    fn hint(&self) -> Option<String> {
        let directory = self.path.parent().unwrap_or(&self.path).display();
        let hint = match (self.step, self.errno) {
            (PublishStep::Swapped, _) => format!(
                "put the directory back that `{directory}` was, or reload if the present one is right"
            ),
            (_, Errno::LOOP) => {
                "others may change a symbolic link on its path: name the path without links".into()
            }
            (PublishStep::Readers, Errno::OPNOTSUPP) => "its file system has no access control lists: \
                use owner, group and mode instead of readers"
                .into(),
            (PublishStep::Owner, Errno::PERM) => "without privileges the daemon can only give its files to groups that it is \
                a member of: add the group to SupplementaryGroups= of the service, or name the app's user in readers instead"
                .into(),
            (PublishStep::Owner | PublishStep::Readers, Errno::INVAL) => {
                "its user or group has no meaning here (a user namespace?): see user, group and readers".into()
            }
            (_, Errno::ACCESS | Errno::PERM) => format!(
                "uid {} must be able to write to the directory `{directory}`",
                geteuid().as_raw()
            ),
            (_, Errno::ROFS) => format!(
                "make `{directory}` writable for the daemon: in its service, ReadWritePaths={directory}"
            ),
            (_, Errno::NOSPC | Errno::DQUOT) => {
                format!("free some space (or inodes, or quota) in `{directory}`")
            }
            (PublishStep::Directory, Errno::NOENT | Errno::NOTDIR) => {
                format!("make the directory `{directory}`")
            }
            (_, Errno::ISDIR | Errno::NOTEMPTY | Errno::EXIST) => {
                "a directory is in its place: move that away".into()
            }
            (_, Errno::BUSY | Errno::XDEV) => "something is mounted on it: mount its directory instead".into(),
            (_, Errno::MFILE | Errno::NFILE) => "raise LimitNOFILE= of the service".into(),
            (_, Errno::NOENT) => "its directory went away meanwhile, or /proc is not mounted".into(),
            _ => return None,
        };
        Some(hint)
    }
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match self.step {
            PublishStep::Swapped => {
                let directory = self.path.parent().unwrap_or(&self.path).display();
                let hint = self.hint().unwrap_or_default();
                return write!(
                    f,
                    "cannot write `{path}`: `{directory}` is no longer the directory that it was, somebody put another one or a link in its place; {hint}"
                );
            }
            PublishStep::Directory | PublishStep::Write => write!(f, "cannot write `{path}`"),
            PublishStep::Owner => write!(f, "cannot set owner and group of `{path}`"),
            PublishStep::Mode => write!(f, "cannot set the mode of `{path}`"),
            PublishStep::Readers => write!(f, "cannot set the readers of `{path}`"),
            PublishStep::Remove => write!(f, "cannot remove `{path}`"),
            PublishStep::Listen => write!(f, "cannot listen on `{path}`"),
        }?;
        write!(f, ": {}", reason(&self.errno.into()))?;
        if let Some(hint) = self.hint() {
            write!(f, "; {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for PublishError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_what_to_do() {
        for (step, errno, expected) in [
            (
                PublishStep::Write,
                Errno::ROFS,
                "cannot write `/var/w/a.json`: read-only file system; make `/var/w` writable for the daemon: in its service, ReadWritePaths=/var/w",
            ),
            (
                PublishStep::Directory,
                Errno::NOENT,
                "cannot write `/var/w/a.json`: no such file or directory; make the directory `/var/w`",
            ),
            (
                PublishStep::Readers,
                Errno::OPNOTSUPP,
                "cannot set the readers of `/var/w/a.json`: operation not supported; its file system has no access control lists: use owner, group and mode instead of readers",
            ),
            (
                PublishStep::Write,
                Errno::IO,
                "cannot write `/var/w/a.json`: input/output error",
            ),
        ] {
            let error = PublishError::new(Path::new("/var/w/a.json"), step, errno);
            assert_eq!(error.to_string(), expected);
        }
    }
}
