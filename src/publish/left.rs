//! A note of the files and sockets that stay when the daemon stops, so that its successor removes what is configured no
//! more.

use super::node::{Identity, look};
use super::place::Place;
use rustix::fs::{AtFlags, Mode, OFlags, open, unlinkat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

/// In the state directory, between a stop and the next start.
const NOTE: &str = "outputs";

/// A file or socket, as it was left.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Left {
    path: Box<Path>,
    identity: Identity,
}

/// Notes in the state directory what the daemon put into these places and nobody took away. Blocks.
pub(crate) fn note(state_dir: &Path, places: &[Arc<Place>]) -> io::Result<()> {
    let left = places.iter().filter_map(|place| {
        Some(Left {
            identity: place.ours()?,
            path: place.output().path.clone(),
        })
    });
    let text = serde_json::to_vec(&left.collect::<Vec<_>>())?;
    let mut options = OpenOptions::new();
    let options = options.create(true).truncate(true).write(true).mode(0o600);
    options.open(state_dir.join(NOTE))?.write_all(&text)
}

/// Reads the note of the daemon before; empty when it did not stop in good order. Removes the note: what is published
/// from now on makes it wrong. Blocks.
pub(crate) fn take_note(state_dir: &Path) -> Vec<Left> {
    let path = state_dir.join(NOTE);
    let Ok(text) = fs::read(&path) else {
        return Vec::new();
    };
    // If it stays, that is of no harm: each file is looked at before it is removed.
    let _ = fs::remove_file(&path);
    serde_json::from_slice(&text).unwrap_or_default()
}

impl Left {
    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it, if it is what was left there, untouched since. False if it is not. Blocks.
    pub(crate) fn remove(&self) -> io::Result<bool> {
        let (Some(parent), Some(name)) = (self.path.parent(), self.path.file_name()) else {
            return Ok(false);
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let removed = open(parent, flags, Mode::empty()).and_then(|directory| {
            let is_it = Identity::of(&look(&directory, Path::new(name))?) == self.identity;
            if is_it {
                unlinkat(&directory, name, AtFlags::empty())?;
            }
            Ok(is_it)
        });
        match removed {
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(false),
            removed => Ok(removed?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::file::{publish, remove};
    use super::super::testing::{FILE, access, directory, place};
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    const CONTENT: &[u8] = b"75_token";

    /// The rest of one file, as the next daemon reads it.
    fn left(place: &Arc<Place>) -> Vec<Left> {
        let state_dir = directory();
        note(state_dir.path(), std::slice::from_ref(place)).unwrap();
        let left = take_note(state_dir.path());
        assert_eq!(fs::read_dir(state_dir.path()).unwrap().count(), 0);
        left
    }

    #[test]
    fn a_note_that_cannot_be_read_says_nothing() {
        let state_dir = directory();
        assert_eq!(take_note(state_dir.path()).len(), 0);
        for text in ["", "{", "[1]", "[{\"path\":\"/x\"}]"] {
            fs::write(state_dir.path().join(NOTE), text).unwrap();
            assert_eq!(take_note(state_dir.path()).len(), 0, "{text}");
        }
    }

    #[test]
    fn note_names_existing_files_only() {
        let directory = directory();
        let place = place(&directory.path().join("token"), FILE, access(0o600));
        assert_eq!(left(&place).len(), 0);
        publish(&place, CONTENT, None).unwrap();
        assert_eq!(left(&place).len(), 1);
        remove(&place).unwrap();
        assert_eq!(left(&place).len(), 0);
    }

    #[test]
    fn leftovers_go_and_nothing_else() {
        let directory = directory();
        let path = directory.path().join("token");
        let other = directory.path().join("other");
        let changes: [(&str, bool, &dyn Fn()); 8] = [
            ("nothing", true, &|| {}),
            ("removed", false, &|| fs::remove_file(&path).unwrap()),
            ("written", false, &|| fs::write(&path, CONTENT).unwrap()),
            ("replaced", false, &|| {
                fs::copy(&path, &other).unwrap();
                fs::rename(&other, &path).unwrap();
            }),
            ("another mode", false, &|| {
                fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
            }),
            ("a link", false, &|| {
                fs::rename(&path, &other).unwrap();
                std::os::unix::fs::symlink(&other, &path).unwrap();
            }),
            ("a directory", false, &|| {
                fs::remove_file(&path).unwrap();
                fs::create_dir(&path).unwrap();
            }),
            ("no directory", false, &|| {
                fs::remove_dir_all(directory.path()).unwrap();
                fs::write(directory.path(), b"").unwrap();
            }),
        ];
        for (what, goes, change) in changes {
            let place = place(&path, FILE, access(0o600));
            publish(&place, CONTENT, None).unwrap();
            let left = left(&place);
            super::super::testing::wait_for_tick(&path);
            change();
            let before = path.symlink_metadata().is_ok();
            assert_eq!(left[0].remove().unwrap(), goes, "{what}");
            assert_eq!(path.symlink_metadata().is_ok(), before && !goes, "{what}");
            let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir(&path));
            let _ = fs::remove_file(&other);
        }
    }
}
