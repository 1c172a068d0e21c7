//! Reads the files that the configuration names: regular ones of limited size, and nothing else.

use crate::fault::reason;
use crate::secret::Secret;
use crate::text::decode;
use rustix::fs::{Mode, OFlags, open};
use std::fmt;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::Path;
use zeroize::Zeroizing;

/// The longest secret file, bytes: more than enough for any secret and the white space around it.
const MAX_SECRET_FILE: u64 = 4096;

/// The reason why a file cannot be read. Displays as in "cannot read this file: is a directory".
#[derive(Debug)]
pub enum ReadError {
    /// The operating system refuses.
    Io(io::Error),
    /// A directory, pipe, socket or device.
    NotRegular,
    /// It holds more than this many bytes.
    TooLarge(u64),
    /// Its file system does not answer.
    Hangs,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => f.write_str(&reason(error)),
            Self::NotRegular => f.write_str("not a regular file"),
            Self::Hangs => f.write_str("its file system does not answer"),
            Self::TooLarge(limit) if limit % (1 << 20) == 0 => {
                write!(f, "larger than {} MiB", limit >> 20)
            }
            Self::TooLarge(limit) => write!(f, "larger than {} KiB", limit >> 10),
        }
    }
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Reads a regular file of at most `limit` bytes; the bytes are wiped when dropped. Blocks on the disk, and on nothing
/// else: a pipe without a writer and an endless device are refused.
pub fn read_regular(path: &Path, limit: u64) -> Result<(Zeroizing<Vec<u8>>, Metadata), ReadError> {
    // With NONBLOCK a pipe without a writer opens at once.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(open(path, flags, Mode::empty()).map_err(io::Error::from)?);
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(ReadError::NotRegular);
    }
    if metadata.len() > limit {
        return Err(ReadError::TooLarge(limit));
    }
    // Room for all at once: a vector that grows leaves copies behind.
    let expected = usize::try_from(metadata.len().min(limit)).unwrap_or(0);
    let mut bytes = Zeroizing::new(Vec::with_capacity(expected + 1));
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(ReadError::TooLarge(limit));
    }
    Ok((bytes, metadata))
}

/// Reads the AppSecret that a file holds. The error names the file and shows nothing of what it holds. Blocks.
pub(crate) fn read_secret(path: &Path) -> Result<Secret, String> {
    let cannot = |what: &str| format!("secret file `{}` {what}", path.display());
    let (bytes, _) = read_regular(path, MAX_SECRET_FILE).map_err(|error| match error {
        ReadError::Io(error) => cannot(&format!("cannot be read: {}", reason(&error))),
        ReadError::NotRegular => cannot("is not a regular file"),
        ReadError::TooLarge(_) => cannot("is of no use: it is longer than any secret"),
        ReadError::Hangs => cannot("does not answer"),
    })?;
    let text = decode(&bytes).map_err(|error| cannot(&error.to_string()))?;
    Secret::parse(text).map_err(|error| cannot(&format!("is of no use: {error}")))
}

/// Reads the key of an app of the mirror, as [`read_secret`] does. Blocks.
pub(crate) fn read_key(path: &Path) -> Result<Secret, String> {
    read_secret(path).map_err(|wrong| wrong.replacen("secret file", "key file", 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, Mode::RUSR).unwrap();
        for path in [&*pipe, directory.path(), Path::new("/dev/zero")] {
            let error = read_secret(path).unwrap_err();
            assert!(error.ends_with("is not a regular file"), "{error}");
        }
        let file = directory.path().join("file");
        std::fs::write(&file, [b'x'; 100]).unwrap();
        assert!(matches!(
            read_regular(&file, 99),
            Err(ReadError::TooLarge(99))
        ));
        assert_eq!(read_regular(&file, 100).unwrap().0.len(), 100);
    }

    #[test]
    fn secrets_are_read_as_editors_save_them_and_never_shown() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        let read = |bytes: &[u8]| {
            std::fs::write(&file, bytes).unwrap();
            read_secret(&file).map(|secret| secret.expose().to_owned())
        };
        assert_eq!(read(b"CANARY\n").as_deref(), Ok("CANARY"));
        assert_eq!(read(b"\xEF\xBB\xBFCANARY\r\n").as_deref(), Ok("CANARY"));
        for (bytes, expected) in [
            (&b"\xFF\xFEC\0A\0"[..], "is UTF-16"),
            (b"C\0A\0N\0A\0R\0Y\0", "is UTF-16"),
            (b"CANARY\xC5", "is not UTF-8"),
            (b"CANARY CANARY", "holds a character"),
            (b" \r\n", "is empty"),
            (&[b'x'; 5000], "longer than any secret"),
        ] {
            let error = read(bytes).unwrap_err();
            assert!(
                error.contains(expected) && !error.contains("CANARY"),
                "{error}"
            );
        }
    }
}
