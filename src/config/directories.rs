//! The directories that outputs stand in.

use super::looks::Looks;
use crate::fault::reason;
use rustix::io::Errno;
use std::collections::HashMap;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// A directory that can hold outputs.
pub(super) struct OutputDirectory {
    /// Its path without symbolic links.
    pub(super) path: PathBuf,
    /// True if its file system has ACLs.
    pub(super) has_acl: bool,
}

/// Looks at each directory once.
pub(super) struct DirectoryChecks {
    runtime: PathBuf,
    looks: Looks,
    known: HashMap<PathBuf, Result<Rc<OutputDirectory>, String>>,
}

impl DirectoryChecks {
    /// Missing directories may be made below `runtime`.
    pub(super) fn new(runtime: &Path, looks: &Looks) -> Self {
        Self {
            runtime: runtime.to_path_buf(),
            looks: looks.clone(),
            known: HashMap::new(),
        }
    }

    /// The directory of an output, or why it cannot hold one.
    pub(super) fn of(&mut self, output: &Path) -> Result<Rc<OutputDirectory>, String> {
        let path = output.parent().unwrap_or(output);
        if let Some(known) = self.known.get(path) {
            return known.clone();
        }
        let (runtime, of) = (self.runtime.clone(), path.to_path_buf());
        let found = self.looks.look(output, move |_| look_at(&of, &runtime));
        // One that does not answer is the trouble of its outputs, not a fault.
        let unknown = || OutputDirectory {
            path: path.to_path_buf(),
            has_acl: true,
        };
        let found = found.unwrap_or_else(|| Ok(unknown())).map(Rc::new);
        self.known.insert(path.to_path_buf(), found.clone());
        found
    }
}

fn look_at(path: &Path, runtime: &Path) -> Result<OutputDirectory, String> {
    let will_be_made = path.starts_with(runtime);
    // One that will be made is as safe as the nearest one that is there.
    for existing in path.ancestors() {
        let shown = existing.display();
        let metadata = match existing.metadata() {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                if will_be_made {
                    continue;
                }
                return Err(format!(
                    "stands in `{shown}`, which does not exist: create that directory, or choose a path \
                     below `{}`, where directories are made",
                    runtime.display()
                ));
            }
            Err(error) => {
                let reason = reason(&error);
                return Err(format!(
                    "stands in `{shown}`, which cannot be examined: {reason}; choose a directory that the \
                     daemon may enter"
                ));
            }
        };
        if !metadata.is_dir() {
            return Err(format!(
                "stands in `{shown}`, which is not a directory: choose another path"
            ));
        }
        let mode = metadata.permissions().mode();
        if mode & 0o002 != 0 && mode & 0o1000 == 0 {
            return Err(format!(
                "stands in `{shown}`, where anybody may replace it: run `chmod o-w {shown}`, or set the sticky \
                 bit with `chmod +t {shown}`"
            ));
        }
        let rest = path.strip_prefix(existing).unwrap_or(Path::new(""));
        let real = existing.canonicalize();
        return Ok(OutputDirectory {
            path: real.map_or_else(|_| path.to_path_buf(), |real| real.join(rest)),
            has_acl: has_acl(existing),
        });
    }
    Err("has no directory".to_owned())
}

fn has_acl(directory: &Path) -> bool {
    let name = "system.posix_acl_access";
    rustix::fs::getxattr(directory, name, &mut [0; 0]) != Err(Errno::NOTSUP)
}
