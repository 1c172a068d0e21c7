//! The keys that say where the AppSecret of an account is.

use super::environment::Environment;
use super::source::SourceFile;
use super::table::Table;
use super::value::{self, Checked};
use crate::account::SecretSource;
use crate::secret::Secret;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The keys that may name it: exactly one has to.
pub(super) const KEYS: [&str; 3] = ["secret_file", "secret_credential", "secret"];

/// Files that one look serves: to hand each over to the thread that may hang costs more than to look.
const BATCH: usize = 64;

/// The files of secrets that everybody may read.
#[derive(Default)]
pub(super) struct OpenSecrets(HashSet<PathBuf>);

impl OpenSecrets {
    /// Looks at the files that the accounts of a file name, those of a directory together.
    pub(super) fn of(source: &SourceFile, accounts: &DeTable<'_>, env: &Environment) -> Self {
        let mut directories = BTreeMap::<PathBuf, Vec<PathBuf>>::new();
        for account in accounts
            .values()
            .filter_map(|item| item.get_ref().as_table())
        {
            let value = |key| account.get(key).map(Spanned::get_ref);
            let file = value("secret_file").and_then(|path| secret_path(source, path).ok());
            let credential = value("secret_credential");
            let credential = credential.and_then(|name| credential_path(name, env).ok());
            for path in [file, credential].into_iter().flatten() {
                let directory = path.parent().unwrap_or(&path).to_path_buf();
                directories.entry(directory).or_default().push(path);
            }
        }
        let mut open = HashSet::new();
        for files in directories.values() {
            for batch in files.chunks(BATCH) {
                let files = batch.to_vec();
                let look = move |_: &Path| -> Vec<PathBuf> {
                    files.into_iter().filter(|path| is_open(path)).collect()
                };
                open.extend(env.looks.look(&batch[0], look).unwrap_or_default());
            }
        }
        Self(open)
    }

    /// The path, unless everybody may read what it names.
    fn check(&self, path: PathBuf) -> Checked<PathBuf> {
        if self.0.contains(&path) {
            Err(told_open(&path))
        } else {
            Ok(path)
        }
    }
}

/// The one source of the secret that an account has. A missing file is no fault. Where the host only follows, there may be
/// none.
pub(super) fn secret(
    table: &Table<'_>,
    env: &Environment,
    only_follows: bool,
    open: &OpenSecrets,
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
        let path = secret_path(table.source(), path)?;
        open.check(path).map(SecretSource::File)
    });
    let credential = table.read("secret_credential", |name| {
        open.check(credential_path(name, env)?)
            .map(SecretSource::File)
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

/// The path of a credential of the service, which not everybody may read.
pub(super) fn credential_file(name: &DeValue<'_>, env: &Environment) -> Checked<PathBuf> {
    not_for_others(credential_path(name, env)?, env)
}

fn credential_path(name: &DeValue<'_>, env: &Environment) -> Checked<PathBuf> {
    let name = not_a_secret(name)?;
    if name.contains('/') || matches!(name, "." | "..") {
        return Err("must be the name of a credential, without a directory".into());
    }
    Ok(env.credentials_dir().join(name))
}

/// The path of a file that holds a secret or a key. A missing file is no fault.
pub(super) fn secret_file(
    table: &Table<'_>,
    path: &DeValue<'_>,
    env: &Environment,
) -> Checked<PathBuf> {
    not_for_others(secret_path(table.source(), path)?, env)
}

fn secret_path(source: &SourceFile, path: &DeValue<'_>) -> Checked<PathBuf> {
    Ok(source.directory().join(not_a_secret(path)?))
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

fn not_for_others(path: PathBuf, env: &Environment) -> Checked<PathBuf> {
    match env.looks.look(&path, is_open) {
        Some(true) => Err(told_open(&path)),
        _ => Ok(path),
    }
}

/// Returns whether everybody may read a file. One that is not there, or that cannot be looked at, is for the account to report
/// once it runs.
fn is_open(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o004 != 0)
}

fn told_open(path: &Path) -> Cow<'static, str> {
    let shown = path.display();
    format!("names a file that everybody may read: run `chmod o-r {shown}`").into()
}
