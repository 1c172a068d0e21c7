//! The password of a target.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use wxtokend::config::table::Table;
use wxtokend::config::value::{self, Checked};
use wxtokend::files::read_regular;
use wxtokend::text::decode;
use zeroize::Zeroizing;

/// The longest password that is read, bytes.
const MAX_LENGTH: u64 = 4096;

/// The file of a password. It is read anew for each connection, so that a changed password needs no reload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PasswordSource(PathBuf);

impl PasswordSource {
    /// Reads the password. A newline at its end is not part of it.
    pub fn read(&self) -> Result<Zeroizing<String>, String> {
        let cannot = |what: &str| format!("the password file `{}` {what}", self.0.display());
        let (bytes, _) = read_regular(&self.0, MAX_LENGTH)
            .map_err(|error| cannot(&format!("cannot be read: {error}")))?;
        let text = decode(&bytes).map_err(|error| cannot(&error.to_string()))?;
        let text = text.trim_end_matches(['\r', '\n']);
        if text.is_empty() {
            return Err(cannot("is empty"));
        }
        Ok(Zeroizing::new(text.to_owned()))
    }
}

/// The password of a target, if it has one. A missing file is the target's trouble once the feed runs.
pub(super) fn password(table: &Table<'_>, credentials: Option<&Path>) -> Option<PasswordSource> {
    if table.has("password_file") && table.has("password_credential") {
        table.fault(
            "password_credential",
            "stands beside `password_file`: keep one of them",
        );
    }
    let file = file(table, "password_file");
    let credential = table.read("password_credential", |name| {
        let name = value::text(name)?;
        if name.contains('/') || matches!(name, "." | "..") {
            return Err("must be the name of a credential, without a directory".into());
        }
        let directory = credentials.ok_or(
            "needs $CREDENTIALS_DIRECTORY, which systemd sets for a unit with LoadCredential=: \
             elsewhere use `password_file`",
        )?;
        Ok(PasswordSource(directory.join(name)))
    });
    file.or(credential)
}

/// A file that holds something secret.
pub(super) fn file(table: &Table<'_>, key: &str) -> Option<PasswordSource> {
    table.read(key, |path| {
        let path = table.source().directory().join(value::text(path)?);
        not_for_others(&path).map(|()| PasswordSource(path))
    })
}

fn not_for_others(path: &Path) -> Checked<()> {
    match path.metadata() {
        Ok(metadata) if metadata.is_file() && metadata.permissions().mode() & 0o004 != 0 => {
            let shown = path.display();
            Err(format!("names a file that everybody may read: run `chmod o-r {shown}`").into())
        }
        _ => Ok(()),
    }
}
