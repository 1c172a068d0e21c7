//! One file of the configuration: its text, and what is wrong where.

use super::looks::Looks;
use super::syntax;
use crate::fault::Fault;
use crate::files::ReadError;
use crate::text::{NotUtf8, decode};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use toml::de::DeTable;
use zeroize::Zeroizing;

/// The largest file that is read.
const MAX_BYTES: u64 = 16 << 20;

/// A place that a message about another place refers to. Displays as `path:line`.
#[derive(Debug, Clone)]
pub struct Position {
    file: Arc<Path>,
    line: usize,
    column: usize,
}

impl Position {
    /// A fault at this place.
    pub fn fault(&self, message: String) -> Fault {
        Fault {
            file: self.file.to_path_buf(),
            line: self.line,
            column: self.column,
            message,
            is_warning: false,
        }
    }
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// A file of the configuration. Faults found in it gather here, behind a shared reference.
pub struct SourceFile {
    path: Arc<Path>,
    /// May hold secrets.
    text: Zeroizing<String>,
    /// The offset at which each line starts.
    lines: Vec<usize>,
    readable_by_others: bool,
    /// Lines that are not TOML: what was made of them says nothing.
    broken: RefCell<BTreeSet<usize>>,
    faults: RefCell<Vec<Fault>>,
}

impl SourceFile {
    /// Reads a file of the configuration. Blocks for a limited time.
    pub fn read(path: &Path, looks: &Looks) -> Result<Self, Fault> {
        let of_file = |message: String| Fault::of_file(path, message);
        let (bytes, metadata) = looks.read(path, MAX_BYTES).map_err(|error| {
            let what_to_do = match &error {
                ReadError::Io(error) => match error.kind() {
                    io::ErrorKind::NotFound => "create it, or name another with --config",
                    io::ErrorKind::PermissionDenied => {
                        "let the user that the daemon runs as read it, and enter the directories above it"
                    }
                    _ => "it must be a text file",
                },
                ReadError::NotRegular => "it must be a text file",
                ReadError::TooLarge(_) => "split it and use `include`",
                ReadError::Hangs => "look at the disk, mount or network below it",
            };
            of_file(format!("cannot read this file: {error}; {what_to_do}"))
        })?;
        match decode(&bytes) {
            Ok(text) => Ok(Self {
                path: path.into(),
                lines: line_starts(text),
                text: Zeroizing::new(text.to_owned()),
                readable_by_others: metadata.permissions().mode() & 0o004 != 0,
                broken: RefCell::default(),
                faults: RefCell::default(),
            }),
            Err(error @ NotUtf8::Utf16) => Err(of_file(format!("this file {error}"))),
            Err(error @ NotUtf8::Other(at)) => {
                let good = String::from_utf8_lossy(&bytes[..at]);
                let (line, column) = position(&good, &line_starts(&good), good.len());
                Err(Fault {
                    line,
                    column,
                    ..of_file(format!("this file {error}"))
                })
            }
        }
    }

    /// The tables of the file. What is not TOML becomes faults, the rest is there all the same.
    pub fn parse(&self) -> DeTable<'_> {
        let text = self.text.as_str();
        let (tree, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let at = error.span().map_or(0, |span| span.start);
            // The error's own Display shows the source, and with it perhaps a secret.
            let line = self.line(at);
            let start = self.lines[line - 1];
            let end = self.lines.get(line).copied().unwrap_or(text.len());
            let (offset, message) = syntax::explain(&text[start..end], error.message());
            self.fault(offset.map_or(at, |offset| start + offset), message);
            // The first error of a line explains the others.
            self.broken.borrow_mut().insert(line);
        }
        tree.into_inner()
    }

    /// The file.
    pub fn path(&self) -> &Arc<Path> {
        &self.path
    }

    /// The directory that relative paths in the file start from.
    pub fn directory(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("/"))
    }

    /// Returns whether users beyond the file's owner and group may read it.
    pub fn readable_by_others(&self) -> bool {
        self.readable_by_others
    }

    /// Returns whether a part of the file was lost, so that what seems to be missing may only be misspelt.
    pub(crate) fn is_broken(&self) -> bool {
        !self.broken.borrow().is_empty()
    }

    /// Notes a fault at an offset.
    pub fn fault(&self, at: usize, message: String) {
        let place = self.place(at);
        if !self.broken.borrow().contains(&place.line) {
            self.faults.borrow_mut().push(place.fault(message));
        }
    }

    /// Notes something at an offset that the daemon can run with.
    pub fn warning(&self, at: usize, message: String) {
        let mut warning = self.place(at).fault(message);
        warning.is_warning = true;
        self.faults.borrow_mut().push(warning);
    }

    /// The place of an offset.
    pub fn place(&self, at: usize) -> Position {
        let (line, column) = position(&self.text, &self.lines, at);
        Position {
            file: Arc::clone(&self.path),
            line,
            column,
        }
    }

    /// The faults and warnings that were found since, in the order of the file.
    pub fn take_faults(&self) -> Vec<Fault> {
        let mut faults = self.faults.take();
        faults.sort_by_key(|fault| (fault.line, fault.column));
        // A table that is none is found to be so by all who look for it.
        faults.dedup();
        faults
    }

    fn line(&self, at: usize) -> usize {
        position(&self.text, &self.lines, at).0
    }
}

fn line_starts(text: &str) -> Vec<usize> {
    let after_newline = text.match_indices('\n').map(|(at, _)| at + 1);
    std::iter::once(0).chain(after_newline).collect()
}

/// Line and column of an offset, both from 1, the column in characters.
fn position(text: &str, lines: &[usize], at: usize) -> (usize, usize) {
    let line = lines.partition_point(|start| *start <= at);
    let start = lines[line - 1];
    let before = text.as_bytes().get(start..at).unwrap_or_default();
    let characters = before.iter().filter(|byte| **byte & 0xC0 != 0x80).count();
    (line, characters + 1)
}
