//! New files of the configuration: whole under their name or not there, and never in the place of another.

use super::service;
use crate::config::{self, Environment};
use rustix::fs::{fchmod, fchown};
use rustix::process::{Gid, geteuid};
use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A new file, before it is made.
pub(super) struct NewFile<'a> {
    /// Its path. Nothing may be there.
    pub(super) path: &'a Path,
    /// Its mode.
    pub(super) mode: u32,
    /// Its group, unless the one that it comes with will do.
    pub(super) group: Option<u32>,
}

impl NewFile<'_> {
    /// Makes the file with this content. `AlreadyExists` when something has its name.
    pub(super) fn make(&self, content: &[u8]) -> io::Result<()> {
        let directory = directory_of(self.path);
        // Hidden, so that no pattern finds it.
        let mut file = tempfile::Builder::new()
            .prefix(".wxtokend-")
            .permissions(Permissions::from_mode(0o600))
            .tempfile_in(directory)
            .map_err(|error| io::Error::from(error.kind()))?;
        file.write_all(content)?;
        if let Some(group) = self.group {
            fchown(&file, None, Some(Gid::from_raw(group)))?;
        }
        fchmod(&file, self.mode.into())?;
        file.as_file().sync_all()?;
        file.persist_noclobber(self.path)
            .map_err(|error| error.error)?;
        File::open(directory)?.sync_all()
    }
}

/// The group that lets the daemon read a secret in a directory: that of the directory, else that of the user whom the
/// daemon runs as. Nothing for those who are not root, and where the daemon is.
pub(super) fn group_for(directory: &Path, config: &Path, environment: &Environment) -> Option<u32> {
    if !geteuid().is_root() {
        return None;
    }
    match directory.metadata().map(|directory| directory.gid()) {
        Ok(0) | Err(_) => service::group(&config::state_dir(config, environment)),
        Ok(gid) => Some(gid),
    }
}

/// Says which directory at or above this one lets another user put something else in the place of a file, and how.
pub(super) fn untrusted(directory: &Path) -> io::Result<Option<(PathBuf, &'static str)>> {
    let real = directory.canonicalize()?;
    // The first are those that hold the links on the way.
    for above in directory.ancestors().chain(real.ancestors()) {
        if above == Path::new("") {
            continue;
        }
        let found = above.metadata()?;
        let is_sticky = found.mode() & 0o1000 != 0;
        let by_group = geteuid().is_root() && found.gid() != 0 && found.mode() & 0o020 != 0;
        if ![0, geteuid().as_raw()].contains(&found.uid()) {
            return Ok(Some((above.to_path_buf(), "belongs to another user")));
        }
        if !is_sticky && (by_group || found.mode() & 0o002 != 0) {
            let why = "can be written to by others";
            return Ok(Some((above.to_path_buf(), why)));
        }
    }
    Ok(None)
}

/// The directory that a file is to stand in.
pub(super) fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn make(path: &Path) -> io::Result<()> {
        let file = NewFile {
            path,
            mode: 0o640,
            group: None,
        };
        file.make(b"new")
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_new_file_is_whole_and_has_its_mode() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        make(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(mode(&path), 0o640);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn nothing_is_overwritten_and_no_link_is_followed() {
        let directory = tempfile::tempdir().unwrap();
        let [file, link, target] =
            ["file", "link", "target"].map(|name| directory.path().join(name));
        fs::write(&file, "mine").unwrap();
        symlink(&target, &link).unwrap();
        for path in [&file, &link] {
            let error = make(path).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        }
        assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
        assert!(!target.exists());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
        let missing = make(&directory.path().join("no/such/directory")).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_directory_that_others_can_change_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let (outer, inner) = (directory.path().join("a"), directory.path().join("a/b"));
        fs::create_dir_all(&inner).unwrap();
        assert_eq!(untrusted(&inner).unwrap(), None);
        fs::set_permissions(&outer, Permissions::from_mode(0o777)).unwrap();
        let (named, _) = untrusted(&inner).unwrap().unwrap();
        assert_eq!(named, outer);
        let link = directory.path().join("link");
        symlink(&inner, &link).unwrap();
        assert!(untrusted(&link).unwrap().is_some());
    }
}
