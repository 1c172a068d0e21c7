//! One file of the configuration: its text, and what is wrong where.

use crate::fault::{Fault, reason};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::rc::Rc;
use std::thread;
use toml::de::DeTable;
use zeroize::Zeroizing;

/// The largest file that is read.
const MAX_BYTES: u64 = 16 << 20;

/// A place that a message about another place refers to. Displays as `path:line`.
#[derive(Debug, Clone)]
pub(super) struct Place {
    file: Rc<Path>,
    line: usize,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// A file of the configuration. Faults found in it gather here, behind a shared reference.
pub(super) struct Source {
    path: Rc<Path>,
    /// May hold secrets.
    text: Zeroizing<String>,
    /// The offset at which each line starts.
    lines: Vec<usize>,
    readable_by_others: bool,
    /// Lines that are not TOML: what was made of them says nothing.
    broken: RefCell<BTreeSet<usize>>,
    faults: RefCell<Vec<Fault>>,
}

impl Source {
    /// Reads a file of the configuration.
    pub(super) fn read(path: &Path) -> Result<Self, Fault> {
        let fault = |line, column, message| Fault {
            file: path.to_path_buf(),
            line,
            column,
            message,
        };
        let (bytes, readable_by_others) = read(path).map_err(|error| {
            let what_to_do = match error.kind() {
                io::ErrorKind::NotFound => "create it, or name another with --config",
                io::ErrorKind::PermissionDenied => "run as a user who may read it",
                _ => "it must be a text file",
            };
            let message = format!("cannot read this file: {}; {what_to_do}", reason(&error));
            fault(1, 1, message)
        })?;
        if bytes.len() as u64 > MAX_BYTES {
            let message = "the file is larger than 16 MiB; split it and use `include`";
            return Err(fault(1, 1, message.to_owned()));
        }
        match std::str::from_utf8(&bytes) {
            Ok(text) => Ok(Self {
                path: path.into(),
                lines: line_starts(text),
                text: Zeroizing::new(text.to_owned()),
                readable_by_others,
                broken: RefCell::default(),
                faults: RefCell::default(),
            }),
            Err(error) => {
                let good = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
                let (line, column) = position(&good, &line_starts(&good), good.len());
                let message = "the file is not UTF-8 here; save it as UTF-8";
                Err(fault(line, column, message.to_owned()))
            }
        }
    }

    /// The tables of the file. What is not TOML becomes faults, the rest is there all the same.
    pub(super) fn parse(&self) -> DeTable<'_> {
        let text = self.text.as_str();
        let (tree, errors) = apart(|| DeTable::parse_recoverable(text));
        for error in errors {
            let at = error.span().map_or(0, |span| span.start);
            // Only the message: the rest shows the source. A word without quotes is taken for what its first letter
            // suggests.
            let wrong = error.message();
            let hint = match wrong {
                "duplicate key" => "; keep one of the two",
                _ if wrong.starts_with("invalid ") => "; put a text in quotes",
                _ => "",
            };
            let message = format!("this is not valid TOML: {wrong}{hint}");
            // The first error of a line explains the others.
            self.fault(at, message);
            self.broken.borrow_mut().insert(self.line(at));
        }
        tree.into_inner()
    }

    /// The file.
    pub(super) fn path(&self) -> &Rc<Path> {
        &self.path
    }

    /// The directory that relative paths in the file start from.
    pub(super) fn directory(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("/"))
    }

    /// Whether users beyond the file's owner and group may read it.
    pub(super) fn readable_by_others(&self) -> bool {
        self.readable_by_others
    }

    /// Whether a part of the file was lost, so that what seems to be missing may only be misspelt.
    pub(super) fn is_broken(&self) -> bool {
        !self.broken.borrow().is_empty()
    }

    /// Notes a fault at an offset.
    pub(super) fn fault(&self, at: usize, message: String) {
        let (line, column) = position(&self.text, &self.lines, at);
        if !self.broken.borrow().contains(&line) {
            self.faults.borrow_mut().push(Fault {
                file: self.path.to_path_buf(),
                line,
                column,
                message,
            });
        }
    }

    /// The place of an offset.
    pub(super) fn place(&self, at: usize) -> Place {
        Place {
            file: Rc::clone(&self.path),
            line: self.line(at),
        }
    }

    /// The faults that were found since, in the order of the file.
    pub(super) fn take_faults(&self) -> Vec<Fault> {
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

/// Does something in a thread of its own. What it makes does not stand among what stays: the memory of a large tree, when
/// that is dropped, goes back as a whole.
fn apart<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| scope.spawn(work).join())
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Reads at most one byte more than is allowed; says whether others may read the file too.
fn read(path: &Path) -> io::Result<(Zeroizing<Vec<u8>>, bool)> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    // Room for all at once: a vector that grows leaves copies behind.
    let expected = usize::try_from(metadata.len().min(MAX_BYTES)).unwrap_or(0);
    let mut bytes = Zeroizing::new(Vec::with_capacity(expected + 1));
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    Ok((bytes, metadata.permissions().mode() & 0o004 != 0))
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
