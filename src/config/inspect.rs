//! Looks at what a right configuration refers to, as the daemon's user: what would fail once it runs.

use super::looks::Looks;
use super::places::{Places, Setting};
use super::{Config, Environment, Loaded};
use crate::account::{Account, Output, SecretSource};
use crate::fault::{Fault, reason};
use crate::files::read_secret;
use crate::platform::Platform;
use nix::unistd::{getegid, geteuid, getgroups};
use rustix::fs::{Access, AtFlags, CWD, accessat};
use std::collections::HashMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Faults that would keep the daemon from running, and warnings of what would be one account's trouble, in the order
/// of the files. Blocks on files.
pub fn inspect(loaded: &Loaded, environment: &Environment) -> Vec<Fault> {
    let (config, places) = (&loaded.config, &loaded.places);
    let mut found = Vec::new();
    found.extend(state_dir(config, places));
    let mut directories = WritableChecks {
        runtime: config.daemon.runtime_dir.clone(),
        looks: environment.looks.clone(),
        known: HashMap::new(),
    };
    if let Some(why) = directories.unwritable(&config.api.socket) {
        let message = format!("`socket` {why}");
        found.push(places.fault(&Setting::ApiSocket, message));
    }
    for account in config.accounts.values() {
        found.extend(secret(account, places, environment));
        for output in &account.outputs {
            let troubles = output_troubles(output, &mut directories);
            found.extend(troubles.map(|(key, message)| {
                let subject = match key {
                    "path" => Setting::Output(output.path.clone()),
                    key => Setting::OutputKey(output.path.clone(), key),
                };
                places.warning(&subject, format!("`{key}` {message}"))
            }));
        }
    }
    found.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
    found
}

fn state_dir(config: &Config, places: &Places) -> Option<Fault> {
    let path = &config.daemon.state_dir;
    let why = match path.metadata() {
        // The service manager makes it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => reason(&error),
        Ok(metadata) if !metadata.is_dir() => "it is not a directory".to_owned(),
        Ok(_) => reason(&writable(path).err()?),
    };
    let shown = path.display();
    let message = format!(
        "`state_dir` `{shown}` cannot be written to: {why}; let the user that the daemon runs as own it: chown wxtokend {shown}"
    );
    Some(places.fault(&Setting::StateDir, message))
}

fn secret(account: &Account, places: &Places, environment: &Environment) -> Option<Fault> {
    let SecretSource::File(path) = &account.secret else {
        return None;
    };
    let warning =
        |message: String| Some(places.warning(&Setting::Secret(account.name.clone()), message));
    let is_credential = path.starts_with(environment.credentials_dir());
    let Some(read) = environment.looks.look(path, read_secret) else {
        return warning(format!(
            "secret file `{}` cannot be looked at: its file system does not answer; look at the disk, mount or network below it",
            path.display()
        ));
    };
    match read {
        Ok(secret) => match unusual(
            secret.expose(),
            environment.platforms.of(account.terms.kind),
        ) {
            Some(unusual) => warning(format!(
                "the secret in `{}` {unusual}; compare it with the platform's console",
                path.display()
            )),
            None => None,
        },
        Err(_) if is_credential && environment.credentials_dir.is_none() => {
            let name = path.file_name().unwrap_or_default().display();
            warning(format!(
                "`secret_credential` \"{name}\" cannot be looked at from outside the service; its unit must hand it over: LoadCredential={name}:PATH"
            ))
        }
        Err(error) => warning(format!(
            "{error}; put the AppSecret, and nothing else, into that file and let the daemon's user read it: \
             chown root:wxtokend, chmod 0640"
        )),
    }
}

/// A message about what is unusual in a secret. It tells nothing of the secret but its length.
fn unusual(secret: &str, platform: Option<&Platform>) -> Option<String> {
    let length = secret.len();
    let is_hex = secret.bytes().all(|b| b.is_ascii_hexdigit());
    let is_usual = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    if secret.starts_with(['"', '\'']) {
        return Some("stands in quotes, which are sent as a part of it".to_owned());
    }
    if !secret.bytes().all(is_usual) {
        return Some("holds more than letters, digits, - and _".to_owned());
    }
    if length < 16 {
        return Some(format!("has only {length} characters"));
    }
    let digits = platform?.secret_digits?;
    (is_hex && length != digits)
        .then(|| format!("has {length} characters, and an AppSecret has {digits}"))
}

/// The keys of an output that the daemon could not obey, and why.
fn output_troubles(
    output: &Output,
    directories: &mut WritableChecks,
) -> impl Iterator<Item = (&'static str, String)> {
    let shown = output.path.display();
    let may_change = geteuid().is_root();
    let mut troubles = Vec::new();
    if let Some(why) = directories.unwritable(&output.path) {
        troubles.push(("path", why));
    } else if let Ok(there) = output.path.symlink_metadata() {
        if there.is_dir() {
            let why = format!("`{shown}` is a directory: choose another path");
            troubles.push(("path", why));
        } else if !output.kind.listens()
            && !may_change
            && is_sticky(&output.path)
            && there.uid() != geteuid().as_raw()
        {
            troubles.push((
                "path",
                format!("`{shown}` belongs to another user and its directory is sticky: remove that file"),
            ));
        }
    }
    let owner = output
        .access
        .owner
        .filter(|owner| *owner != geteuid().as_raw());
    if owner.is_some() && !may_change {
        troubles.push((
            "owner",
            format!(
                "of `{shown}` cannot be set: only root may give a file away; name the user in `readers` instead"
            ),
        ));
    }
    if let Some(group) = output.access.group
        && !may_change
        && !is_member(group)
    {
        troubles.push((
            "group",
            format!(
                "of `{shown}` cannot be set: the daemon's user is no member of group {group}; name it in `readers` instead, or add the user to the group"
            ),
        ));
    }
    troubles.into_iter()
}

fn is_sticky(path: &Path) -> bool {
    let directory = path
        .parent()
        .and_then(|directory| directory.metadata().ok());
    directory.is_some_and(|directory| {
        directory.mode() & 0o1000 != 0 && directory.uid() != geteuid().as_raw()
    })
}

fn is_member(group: u32) -> bool {
    let groups = getgroups().unwrap_or_default();
    getegid().as_raw() == group || groups.iter().any(|member| member.as_raw() == group)
}

/// Looks at each directory once.
struct WritableChecks {
    runtime: PathBuf,
    looks: Looks,
    known: HashMap<PathBuf, Option<String>>,
}

impl WritableChecks {
    /// The reason why the daemon could not put something at a path.
    fn unwritable(&mut self, path: &Path) -> Option<String> {
        let directory = path.parent().unwrap_or(path);
        if let Some(known) = self.known.get(directory) {
            return known.clone();
        }
        let (runtime, of) = (self.runtime.clone(), directory.to_path_buf());
        let look = move |_: &Path| look_at(&of, &runtime);
        let silent = || {
            Some(format!(
                "stands in `{}`, whose file system does not answer",
                directory.display()
            ))
        };
        let why = self.looks.look(path, look).unwrap_or_else(silent);
        self.known.insert(directory.to_path_buf(), why.clone());
        why
    }
}

fn look_at(directory: &Path, runtime: &Path) -> Option<String> {
    // Missing ones below the runtime directory are made, and that one by the service manager.
    let existing = directory.ancestors().find(|directory| directory.exists())?;
    if runtime.starts_with(existing) && runtime != existing {
        return None;
    }
    let error = writable(existing).err()?;
    let shown = existing.display();
    Some(format!(
        "stands in `{shown}`, where the daemon cannot write: {}; run `chown wxtokend {shown}`, or choose a path below `{}`",
        reason(&error),
        runtime.display()
    ))
}

/// Returns whether this process may make and remove files in a directory.
fn writable(directory: &Path) -> io::Result<()> {
    let access = Access::WRITE_OK | Access::EXEC_OK;
    Ok(accessat(CWD, directory, access, AtFlags::EACCESS)?)
}
