//! Owner, group, mode and access control list of an output.

use super::error::{PublishError, PublishStep};
use crate::account::{Access, Output, Principal};
use rustix::fs::{AtFlags, CWD, Gid, Mode, Statx, Uid, XattrFlags, chmodat, chownat};
use rustix::fs::{getxattr, removexattr, setxattr};
use rustix::io::Errno;
use rustix::process::{getegid, geteuid};
use std::collections::BTreeSet;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

const ACL: &str = "system.posix_acl_access";

/// Gives a new file or socket the access that its output is configured to have. `node` is a descriptor of it, `O_PATH`
/// will do. Nobody but its present owner may have access so far.
pub(super) fn apply(output: &Output, node: impl AsFd) -> Result<(), PublishError> {
    let access = &output.access;
    let path = path_of(&node);
    let fail = |step| move |errno| PublishError::new(&output.path, step, errno);
    // The owner last: without privileges, what is given away cannot be changed any more.
    if let Some(group) = access.group {
        chownat(
            CWD,
            &path,
            None,
            Some(Gid::from_raw(group)),
            AtFlags::empty(),
        )
        .map_err(fail(PublishStep::Owner))?;
    }
    if let Some(list) = list(output) {
        setxattr(&path, ACL, &list, XattrFlags::empty()).map_err(fail(PublishStep::Readers))?;
    } else {
        // A directory may have given it a default list, which the mode would wake.
        match removexattr(&path, ACL) {
            Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            Err(errno) => return Err(fail(PublishStep::Readers)(errno)),
        }
        chmodat(
            CWD,
            &path,
            Mode::from_raw_mode(access.mode),
            AtFlags::empty(),
        )
        .map_err(fail(PublishStep::Mode))?;
    }
    if let Some(owner) = access.owner {
        chownat(
            CWD,
            &path,
            Some(Uid::from_raw(owner)),
            None,
            AtFlags::empty(),
        )
        .map_err(fail(PublishStep::Owner))?;
    }
    Ok(())
}

/// Returns whether a file or socket that exists has exactly the access that its output is configured to have.
pub(super) fn is_right(output: &Output, directory: &Statx, node: impl AsFd, found: &Statx) -> bool {
    let access = &output.access;
    let owner = access.owner.unwrap_or_else(|| geteuid().as_raw());
    let group = access.group.unwrap_or_else(|| {
        if u32::from(directory.stx_mode) & Mode::SGID.bits() != 0 {
            directory.stx_gid
        } else {
            getegid().as_raw()
        }
    });
    let mode = u32::from(found.stx_mode) & 0o7777;
    if (found.stx_uid, found.stx_gid, mode) != (owner, group, shown_mode(output)) {
        return false;
    }
    let wanted = list(output).unwrap_or_default();
    let mut list = vec![0; wanted.len() + 1];
    match getxattr(path_of(&node), ACL, list.as_mut_slice()) {
        Ok(len) => list[..len] == wanted,
        Err(Errno::NODATA | Errno::OPNOTSUPP) => wanted.is_empty(),
        Err(_) => false,
    }
}

/// The path of an open file: unlike descriptor calls, these take `O_PATH` descriptors, the only ones that sockets have.
fn path_of(node: &impl AsFd) -> PathBuf {
    Path::new("/proc/self/fd").join(node.as_fd().as_raw_fd().to_string())
}

/// The mode that `stat` shows: in place of the group's bits, those of the list's mask.
fn shown_mode(output: &Output) -> u32 {
    let Access { mode, readers, .. } = &output.access;
    if readers.is_empty() {
        *mode
    } else {
        mode | output.kind.reader_bits() << 3
    }
}

/// The list as the kernel takes it, if there are readers: entries of tag, bits and id, in order of tags and ids.
fn list(output: &Output) -> Option<Vec<u8>> {
    const VERSION: u32 = 2;
    const USER_OBJ: u16 = 0x01;
    const USER: u16 = 0x02;
    const GROUP_OBJ: u16 = 0x04;
    const GROUP: u16 = 0x08;
    const MASK: u16 = 0x10;
    const OTHER: u16 = 0x20;
    const NO_ID: u32 = u32::MAX;

    let Access { mode, readers, .. } = &output.access;
    if readers.is_empty() {
        return None;
    }
    let bits = output.kind.reader_bits();
    let mut entries = BTreeSet::from([
        (USER_OBJ, NO_ID, mode >> 6 & 7),
        (GROUP_OBJ, NO_ID, mode >> 3 & 7),
        (MASK, NO_ID, mode >> 3 & 7 | bits),
        (OTHER, NO_ID, mode & 7),
    ]);
    entries.extend(readers.iter().filter_map(|reader| match reader {
        Principal::User(_, uid) => Some((USER, *uid, bits)),
        Principal::Group(_, gid) => Some((GROUP, *gid, bits)),
        Principal::Unresolved(..) => None,
    }));
    let mut list = VERSION.to_le_bytes().to_vec();
    for (tag, id, bits) in entries {
        list.extend(tag.to_le_bytes());
        list.extend(&bits.to_le_bytes()[..2]);
        list.extend(id.to_le_bytes());
    }
    Some(list)
}
