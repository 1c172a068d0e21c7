//! `wxtokend mirror-key`

use super::Exit;
use crate::fault::reason;
use nix::unistd::{Group, geteuid};
use rustix::fs::{CWD, Mode, OFlags, fchmod, fchown, fsync, openat, unlinkat};
use rustix::io::Errno;
use rustix::process::Gid;
use rustix::rand::{GetRandomFlags, getrandom};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The random bytes of a key: as many as an AppSecret has hexadecimal digits for.
const KEY_BYTES: usize = 16;

/// Make a key for an app that uses the mirror
///
/// Writes 32 random hexadecimal digits, which look like an AppSecret, into a new file. The app gets them as its
/// AppSecret, and the account names the file: [[accounts.NAME.mirror]] with `name` and `key_file`. Overwrites nothing.
///
/// The file has mode 0640. Run as root, it belongs to root and to the group of its directory, or to the group wxtokend
/// where that is root's, so that the daemon can read it.
#[derive(Debug, clap::Args)]
#[command(after_long_help = AFTER_HELP)]
pub struct MirrorKeyArgs {
    /// The file to make
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
}

const AFTER_HELP: &str = "\
Exit status:
   0  Done.
   1  The file is there already, or cannot be made.
  77  You are not allowed to make it.";

/// Makes the file, and says what to do with it. Never shows the key.
#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the command's output"
)]
pub fn run(args: &MirrorKeyArgs) -> Exit {
    let path = args.path.display();
    match make(&args.path) {
        Ok(()) => {
            println!(
                "{path}: a new key; name this file as `key_file`, and give its content to the app as its AppSecret"
            );
            Exit::Success
        }
        Err(Errno::EXIST) => {
            eprintln!(
                "wxtokend: `{path}` is there already and is left as it is: choose another path, or remove it first"
            );
            Exit::Failure
        }
        Err(errno) => {
            let error = io::Error::from(errno);
            eprintln!("wxtokend: cannot make `{path}`: {}", reason(&error));
            match error.kind() {
                io::ErrorKind::PermissionDenied => Exit::NotAllowed,
                _ => Exit::Failure,
            }
        }
    }
}

/// Makes the file under its own name at once: nobody else can read it before it has its owner and mode.
fn make(path: &Path) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(CWD, path, flags, Mode::RUSR | Mode::WUSR)?;
    fill(&file, path).inspect_err(|_| {
        // Half a key is of no use.
        let _ = unlinkat(CWD, path, rustix::fs::AtFlags::empty());
    })
}

fn fill(file: impl AsFd, path: &Path) -> Result<(), Errno> {
    let mut random = Zeroizing::new([0_u8; KEY_BYTES]);
    getrandom(&mut random[..], GetRandomFlags::empty())?;
    let mut key = Zeroizing::new(Vec::with_capacity(2 * KEY_BYTES));
    for byte in random.iter() {
        // Memory does not run out of room for what was reserved.
        let _ = write!(&mut *key, "{byte:02x}");
    }
    if geteuid().is_root()
        && let Some(group) = group_for(path)
    {
        fchown(&file, None, Some(Gid::from_raw(group)))?;
    }
    fchmod(&file, Mode::RUSR | Mode::WUSR | Mode::RGRP)?;
    let mut rest = key.as_slice();
    while !rest.is_empty() {
        let written = rustix::io::write(&file, rest)?;
        rest = &rest[written..];
    }
    fsync(&file)
}

/// The group of the directory, which lets the daemon in; else that of the service, if the host has it.
fn group_for(path: &Path) -> Option<u32> {
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    match directory.metadata().map(|directory| directory.gid()) {
        Ok(0) | Err(_) => {
            let group = Group::from_name("wxtokend").ok().flatten()?;
            Some(group.gid.as_raw())
        }
        Ok(gid) => Some(gid),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn keys_look_like_app_secrets_and_differ() {
        let directory = tempfile::tempdir().unwrap();
        let paths = ["a", "b"].map(|name| directory.path().join(name));
        let keys = paths.each_ref().map(|path| {
            make(path).unwrap();
            assert_eq!(
                fs::metadata(path).unwrap().permissions().mode() & 0o777,
                0o640
            );
            fs::read_to_string(path).unwrap()
        });
        for key in &keys {
            assert_eq!(key.len(), 32);
            assert!(key.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')));
        }
        assert_ne!(keys[0], keys[1]);
    }

    #[test]
    fn nothing_is_overwritten_and_no_link_is_followed() {
        let directory = tempfile::tempdir().unwrap();
        let [file, link, target] =
            ["file", "link", "target"].map(|name| directory.path().join(name));
        fs::write(&file, "mine").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        for path in [&file, &link] {
            assert_eq!(make(path), Err(Errno::EXIST));
        }
        assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
        assert!(!target.exists());
        let missing = directory.path().join("no/such/directory");
        assert_eq!(make(&missing), Err(Errno::NOENT));
    }
}
