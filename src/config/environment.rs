//! The environment of the configuration: all that it takes from outside its files.

use super::looks::Looks;
use super::name_service::NameService;
use crate::platform::Platforms;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The directories that systemd names in the environment, or what stands for them in a test.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    /// `$STATE_DIRECTORY`
    pub state_dir: Option<PathBuf>,
    /// `$RUNTIME_DIRECTORY`
    pub runtime_dir: Option<PathBuf>,
    /// `$CREDENTIALS_DIRECTORY`
    pub credentials_dir: Option<PathBuf>,
    /// The platforms that an account may be of.
    pub platforms: Platforms,
    /// Looks up users and groups.
    pub names: NameService,
    /// Looks at files that may hang, which are the trouble of an account.
    pub looks: Looks,
    /// Looks at files that may hang, which the configuration is made of.
    pub files: Looks,
}

impl Environment {
    /// The environment of this process. Of several directories in one variable the first counts.
    pub fn from_process() -> Self {
        let directory = |name| std::env::var_os(name).as_deref().and_then(first);
        Self {
            state_dir: directory("STATE_DIRECTORY"),
            runtime_dir: directory("RUNTIME_DIRECTORY"),
            credentials_dir: directory("CREDENTIALS_DIRECTORY"),
            platforms: Platforms::default(),
            names: NameService::default(),
            looks: Looks::default(),
            files: Looks::patient(),
        }
    }

    /// The state directory unless configured.
    pub fn state_dir(&self) -> &Path {
        (self.state_dir.as_deref()).unwrap_or(Path::new("/var/lib/wxtokend"))
    }

    /// The directory of credentials. Outside of the service: the one that it has when it runs, for its user only.
    pub fn credentials_dir(&self) -> &Path {
        let of_service = Path::new("/run/credentials/wxtokend.service");
        (self.credentials_dir.as_deref()).unwrap_or(of_service)
    }

    /// The directory where sockets and outputs live by habit, and below which missing directories are made.
    pub fn runtime_dir(&self) -> &Path {
        (self.runtime_dir.as_deref()).unwrap_or(Path::new("/run/wxtokend"))
    }
}

fn first(list: &OsStr) -> Option<PathBuf> {
    let first = list.as_bytes().split(|byte| *byte == b':').next()?;
    (!first.is_empty()).then(|| Path::new(OsStr::from_bytes(first)).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_a_list_counts_and_nothing_is_no_directory() {
        let check = |list: &str, expected: Option<&str>| {
            assert_eq!(first(OsStr::new(list)), expected.map(PathBuf::from));
        };
        check("/run/a", Some("/run/a"));
        check("/run/a:/run/b", Some("/run/a"));
        check("", None);
        check(":/run/b", None);
    }
}
