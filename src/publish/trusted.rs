//! Paths with symbolic links: followed only where nobody but root and the daemon can change them.

use super::node::look_at;
use rustix::fs::{CWD, FileType, Mode, OFlags, Statx, open, openat, readlinkat};
use rustix::io::Errno;
use rustix::process::geteuid;
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path};

/// Links on one path; the kernel follows as many.
const MAX_LINKS: usize = 40;

/// Opens a directory step by step. `LOOP` when a link on the way is in a directory that others may write to.
pub(super) fn open_trusted(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let root = || open("/", flags | OFlags::DIRECTORY, Mode::empty());
    let (mut directory, mut links) = (root()?, 0);
    let mut rest = components(path);
    while let Some(name) = rest.pop_front() {
        let node = openat(&directory, &name, flags | OFlags::NOFOLLOW, Mode::empty())?;
        let found = look_at(&node)?;
        if FileType::from_raw_mode(found.stx_mode.into()) != FileType::Symlink {
            directory = node;
            continue;
        }
        links += 1;
        if links > MAX_LINKS || !is_trusted(&look_at(&directory)?, &found) {
            return Err(Errno::LOOP);
        }
        let target = OsString::from_vec(readlinkat(&node, "", Vec::new())?.into_bytes());
        if target.as_bytes().starts_with(b"/") {
            directory = root()?;
        }
        let mut target = components(Path::new(&target));
        target.append(&mut rest);
        rest = target;
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(&directory, ".", flags, Mode::empty())
}

fn components(path: &Path) -> VecDeque<OsString> {
    let names = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name),
        Component::ParentDir => Some(OsStr::new("..")),
        _ => None,
    });
    names.map(OsStr::to_owned).collect()
}

/// Returns whether nobody but root and the daemon can put something else in the place of a link in a directory.
fn is_trusted(directory: &Statx, link: &Statx) -> bool {
    let is_ours = |uid| uid == 0 || uid == geteuid().as_raw();
    let mode = u32::from(directory.stx_mode);
    let is_writable = mode & (Mode::WGRP | Mode::WOTH).bits() != 0;
    let is_sticky = mode & Mode::SVTX.bits() != 0;
    is_ours(directory.stx_uid) && (!is_writable || is_sticky && is_ours(link.stx_uid))
}

/// The user who owns a directory, unless it is root or the daemon's own user.
pub(crate) fn foreign_owner(directory: &Path) -> Option<u32> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let owner = openat(CWD, directory, flags, Mode::empty()).and_then(look_at);
    let owner = owner.ok()?.stx_uid;
    (owner != 0 && owner != geteuid().as_raw()).then_some(owner)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{STRANGER, directory};
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    #[test]
    fn links_are_followed_only_where_nobody_else_can_change_them() {
        let dir = directory();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("real/below")).unwrap();
        fs::create_dir(at("home")).unwrap();
        symlink("../real", at("home/link")).unwrap();
        symlink(at("home/link"), at("outer")).unwrap();
        let paths = [at("home/link/below"), at("outer/below")];
        for path in &paths {
            open_trusted(path).unwrap();
        }
        fs::set_permissions(at("home"), Permissions::from_mode(0o777)).unwrap();
        for path in &paths {
            assert_eq!(open_trusted(path).unwrap_err(), Errno::LOOP);
        }
        fs::set_permissions(at("home"), Permissions::from_mode(0o1777)).unwrap();
        open_trusted(&paths[0]).unwrap();
        if geteuid().is_root() {
            fs::set_permissions(at("home"), Permissions::from_mode(0o755)).unwrap();
            chown(at("home"), Some(STRANGER), None).unwrap();
            assert_eq!(open_trusted(&paths[0]).unwrap_err(), Errno::LOOP);
        }
    }

    #[test]
    fn loops_end() {
        let dir = directory();
        symlink("b", dir.path().join("a")).unwrap();
        symlink("a", dir.path().join("b")).unwrap();
        let error = open_trusted(&dir.path().join("a/x")).unwrap_err();
        assert_eq!(error, Errno::LOOP);
    }
}
