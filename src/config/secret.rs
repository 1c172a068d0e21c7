//! The keys that say where the AppSecret of an account is.

use super::environment::Environment;
use super::table::Table;
use super::value::{self, Checked};
use crate::account::SecretSource;
use crate::secret::Secret;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use toml::de::DeValue;

/// The keys that may name it: exactly one has to.
pub(super) const KEYS: [&str; 3] = ["secret_file", "secret_credential", "secret"];

/// The one source of the secret that an account has. A missing file is no fault. Where the host only follows, there may be
/// none.
pub(super) fn secret(
    table: &Table<'_>,
    env: &Environment,
    only_follows: bool,
) -> Option<SecretSource> {
    let given = KEYS.map(|key| (key, table.has(key)));
    let mut given = given
        .iter()
        .filter(|(_, given)| *given)
        .map(|(key, _)| *key);
    match (given.next(), given.next()) {
        (None, _) if only_follows => return Some(SecretSource::Absent),
        (None, _) => table.fault_of_absence(
            "the secret is missing: give one of `secret_file`, `secret_credential` and `secret`",
        ),
        (Some(one), Some(other)) => table.fault(
            other,
            format_args!("stands beside `{one}`: keep one of them"),
        ),
        (Some(_), None) => {}
    }
    let file = table.read("secret_file", |path| {
        secret_file(table, path, env).map(SecretSource::File)
    });
    let credential = table.read("secret_credential", |name| {
        credential_file(name, env).map(SecretSource::File)
    });
    let inline = table.read("secret", |secret| {
        let secret = secret.as_str().ok_or("must be a text in quotes")?;
        let secret = Secret::parse(secret).map_err(|error| {
            format!("cannot be used, {error}: copy it from the platform's console again")
        })?;
        if table.source().readable_by_others() {
            let path = table.source().path().display();
            return Err(format!(
                "stands in a file that everybody may read: run `chmod o-r {path}`, or use `secret_file`"
            )
            .into());
        }
        Ok(SecretSource::Inline(secret))
    });
    file.or(credential).or(inline)
}

/// The path of a credential of the service.
pub(super) fn credential_file(name: &DeValue<'_>, env: &Environment) -> Checked<PathBuf> {
    let name = not_a_secret(name)?;
    if name.contains('/') || matches!(name, "." | "..") {
        return Err("must be the name of a credential, without a directory".into());
    }
    let path = env.credentials_dir().join(name);
    not_for_others(&path, env).map(|()| path)
}

/// The path of a file that holds a secret or a key. A missing file is no fault.
pub(super) fn secret_file(
    table: &Table<'_>,
    path: &DeValue<'_>,
    env: &Environment,
) -> Checked<PathBuf> {
    let path = table.source().directory().join(not_a_secret(path)?);
    not_for_others(&path, env).map(|()| path)
}

/// The name of a file or credential. One that looks like a secret would be logged when nothing has that name.
fn not_a_secret<'a>(value: &'a DeValue<'a>) -> Checked<&'a str> {
    let name = value::text(value)?;
    let all = |allowed: fn(&u8) -> bool| name.as_bytes().iter().all(allowed);
    let looks_like_secret = match name.len() {
        32 => all(u8::is_ascii_hexdigit),
        // 企业微信
        43 => all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')),
        _ => false,
    };
    if looks_like_secret {
        let advice = "looks like the secret itself: put that into a file, and name the file here";
        return Err(advice.into());
    }
    Ok(name)
}

/// A file that is not there, or that cannot be looked at, is for the account to report once it runs.
fn not_for_others(path: &Path, env: &Environment) -> Checked<()> {
    match env.looks.look(path, Path::metadata) {
        Some(Ok(metadata)) if metadata.is_file() && metadata.permissions().mode() & 0o004 != 0 => {
            let shown = path.display();
            Err(format!("names a file that everybody may read: run `chmod o-r {shown}`").into())
        }
        _ => Ok(()),
    }
}
