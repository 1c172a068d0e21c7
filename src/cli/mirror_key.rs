//! `wxtokend mirror-key`

use super::new_file::{NewFile, directory_of, group_for};
use super::{CommonArgs, Exit};
use crate::config::Environment;
use crate::fault::reason;
use rustix::rand::{GetRandomFlags, getrandom};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The random bytes of a key: as many as an AppSecret has hexadecimal digits for.
const KEY_BYTES: usize = 16;

/// Make a key for an app that uses the mirror
///
/// Writes 32 random hexadecimal digits, which look like an AppSecret, into a new file. The app gets them as its
/// AppSecret, and the account names the file: [[accounts.NAME.mirror]] with `name` and `key_file`. Overwrites nothing.
///
/// The file has mode 0640. Run as root, it belongs to root and to the group of its directory, or to that of the daemon's
/// user where that is root's, so that the daemon can read it.
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
pub fn run(common: &CommonArgs, args: &MirrorKeyArgs) -> Exit {
    let path = args.path.display();
    let directory = directory_of(&args.path);
    let group = group_for(directory, &common.config, &Environment::from_process());
    match make(&args.path, group) {
        Ok(()) => {
            println!(
                "{path}: a new key; name this file as `key_file`, and give its content to the app as its AppSecret"
            );
            Exit::Success
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            eprintln!(
                "wxtokend: `{path}` is there already and is left as it is: choose another path, or remove it first"
            );
            Exit::Failure
        }
        Err(error) => {
            eprintln!("wxtokend: cannot make `{path}`: {}", reason(&error));
            match error.kind() {
                io::ErrorKind::PermissionDenied => Exit::NotAllowed,
                _ => Exit::Failure,
            }
        }
    }
}

fn make(path: &Path, group: Option<u32>) -> io::Result<()> {
    let mut random = Zeroizing::new([0_u8; KEY_BYTES]);
    getrandom(&mut random[..], GetRandomFlags::empty())?;
    let mut key = Zeroizing::new(Vec::with_capacity(2 * KEY_BYTES));
    for byte in random.iter() {
        write!(&mut *key, "{byte:02x}")?;
    }
    let mode = 0o640;
    NewFile { path, mode, group }.make(&key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn keys_look_like_app_secrets_and_differ() {
        let directory = tempfile::tempdir().unwrap();
        let paths = ["a", "b"].map(|name| directory.path().join(name));
        let keys = paths.each_ref().map(|path| {
            make(path, None).unwrap();
            fs::read_to_string(path).unwrap()
        });
        for key in &keys {
            assert_eq!(key.len(), 32);
            assert!(key.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')));
        }
        assert_ne!(keys[0], keys[1]);
    }
}
