//! The AppSecret of an account: in memory only as long as it is needed, and never shown.

use crate::fault::reason;
use rustix::fs::{Mode, OFlags, open};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use zeroize::Zeroizing;

/// An AppSecret (企业微信: corpsecret). It cannot be displayed, debugged or serialised, and is wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<Box<str>>);

/// Why a text cannot be an AppSecret. Says nothing of the text itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretError {
    /// Nothing but white space.
    Empty,
    /// A character that no AppSecret has: white space, control or beyond ASCII.
    BadCharacter,
    /// More than 512 bytes: surely the wrong file.
    TooLong,
}

impl std::fmt::Display for SecretError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Empty => "the secret is empty",
            Self::BadCharacter => "the secret holds a character that no AppSecret has",
            Self::TooLong => "the secret is longer than 512 bytes",
        })
    }
}

impl std::error::Error for SecretError {}

impl Secret {
    /// Takes a secret as found in a file: white space around it is not part of it.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(SecretError::Empty);
        }
        if text.len() > 512 {
            return Err(SecretError::TooLong);
        }
        if !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(SecretError::BadCharacter);
        }
        Ok(Self(Zeroizing::new(text.into())))
    }

    /// Reads a secret from a file. Blocks.
    pub fn read(path: &Path) -> Result<Self, String> {
        let mut text = Zeroizing::new(String::new());
        let cannot = |what: &str| format!("secret file `{}` {what}", path.display());
        let unreadable = |error| cannot(&format!("cannot be read: {}", reason(&error)));
        // A pipe that nobody writes to would keep us waiting for ever.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file =
            File::from(open(path, flags, Mode::empty()).map_err(|errno| unreadable(errno.into()))?);
        if !file.metadata().map_err(unreadable)?.is_file() {
            return Err(cannot("is not a regular file"));
        }
        file.take(4096)
            .read_to_string(&mut text)
            .map_err(unreadable)?;
        Self::parse(&text).map_err(|error| cannot(&format!("is of no use: {error}")))
    }

    /// The secret itself, for the one place that sends it to the platform.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_is_refused_at_once_and_never_shown() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, Mode::RUSR).unwrap();
        for path in [&*pipe, directory.path()] {
            let error = Secret::read(path).unwrap_err();
            assert!(error.ends_with("is not a regular file"), "{error}");
        }
        let file = directory.path().join("file");
        std::fs::write(&file, "CANARY\n").unwrap();
        assert_eq!(Secret::read(&file).unwrap().expose(), "CANARY");
        std::fs::write(&file, "CANARY CANARY").unwrap();
        assert!(!Secret::read(&file).unwrap_err().contains("CANARY"));
    }
}
