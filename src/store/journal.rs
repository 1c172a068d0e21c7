//! The file of the store: a journal, in which the last line of an account is what is kept of it. A file for each account
//! would cost a rename for each call: `tests/bench/daemon.rs` prints the start of 10,000 accounts.

use super::line;
use super::{STALE, StoreError};
use crate::time::Now;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

const NAME: &str = "state.jsonl";

/// A journal is rewritten when it is longer than twice what counts in it, and this.
const SLACK: u64 = 256 * 1024;

/// The file, and when it is to be rewritten. All that it does blocks.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    /// Open since the first line was added, and how long it is.
    file: Option<(File, u64)>,
    rewrite_at: u64,
}

/// The lines of a journal that count, by account.
#[derive(Debug)]
pub(super) struct Index<'a> {
    pub(super) lines: BTreeMap<&'a str, JournalLine<'a>>,
    /// Lines that cannot be read.
    pub(super) damaged: usize,
    /// Lines among them that a later version of the daemon wrote.
    pub(super) later: usize,
}

/// The last line of an account that can be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct JournalLine<'a> {
    pub(super) text: &'a [u8],
    /// A line that cannot be read follows: it may have been of the same account, and newer.
    pub(super) doubtful: bool,
}

impl Journal {
    pub(super) fn new(dir: &Path) -> Self {
        Self {
            path: dir.join(NAME),
            file: None,
            rewrite_at: SLACK,
        }
    }

    /// Reads all of it, if it is there.
    pub(super) fn read(&self) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        match fs::read(&self.path) {
            Ok(text) => Ok(Some(Zeroizing::new(text))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::Io("read", self.path.clone(), error)),
        }
    }

    /// Writes the file anew if somebody removed or replaced it: what was added to it is still in the open one.
    pub(super) fn restore(&mut self, now: &Now) -> Result<bool, StoreError> {
        let Some((file, _)) = &self.file else {
            return Ok(false);
        };
        let is_there = file.metadata().is_ok_and(|open| {
            let there = fs::metadata(&self.path);
            there.is_ok_and(|there| (there.dev(), there.ino()) == (open.dev(), open.ino()))
        });
        if !is_there {
            self.compact(now)?;
        }
        Ok(!is_there)
    }

    /// Adds lines. They outlive the process, and after [`sync`] a power failure.
    pub(super) fn append(&mut self, lines: &[u8], now: &Now) -> Result<(), StoreError> {
        if let Some((file, _)) = &self.file
            && file.metadata().is_ok_and(|open| open.nlink() == 0)
        {
            // Whatever fails here is told by what is added.
            let _ = self.compact(now);
        }
        let added = self.add(lines);
        let length = added.map_err(|error| StoreError::Io("write", self.path.clone(), error))?;
        if length > self.rewrite_at {
            // What cannot be rewritten is as good as it was, only longer. Not tried again at once.
            self.rewrite_at = length + SLACK;
            let _ = self.compact(now);
        }
        Ok(())
    }

    /// Adds all of the lines or nothing. Says how long the file is then.
    fn add(&mut self, lines: &[u8]) -> io::Result<u64> {
        let (mut file, before) = match self.file.take() {
            Some(open) => open,
            None => self.open()?,
        };
        if let Err(error) = file.write_all(lines) {
            // Half a line would spoil the next one; if it stays, it is set aside at the next start.
            let _ = match before {
                0 => fs::remove_file(&self.path),
                _ => file.set_len(before),
            };
            return Err(error);
        }
        let length = before + lines.len() as u64;
        self.file = Some((file, length));
        Ok(length)
    }

    fn open(&self) -> io::Result<(File, u64)> {
        let file = OpenOptions::new()
            .create(true)
            .read(true)
            .append(true)
            .mode(0o600)
            .open(&self.path)?;
        let length = file.metadata()?.len();
        Ok((file, length))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps a damaged file under another name, and in its place only the lines that count. Says under which name.
    pub(super) fn set_aside(&mut self, index: &Index<'_>) -> Result<PathBuf, StoreError> {
        let aside = self.aside();
        self.file = None;
        fs::rename(&self.path, &aside)
            .map_err(|error| StoreError::Io("set aside", self.path.clone(), error))?;
        if index.lines.is_empty() {
            return Ok(aside);
        }
        self.rewrite(|new| {
            let lines = index.lines.values();
            lines
                .flat_map(|line| [line.text, b"\n"])
                .try_for_each(|text| new.write_all(text))
        })?;
        Ok(aside)
    }

    /// Removes what a killed daemon had not finished, and a file that was set aside so long ago that no value in it can be
    /// alive.
    pub(super) fn remove_leftovers(&self) {
        // Half a file of secrets is of no use.
        let _ = fs::remove_file(self.fresh());
        let aside = self.aside();
        let age = fs::metadata(&aside).and_then(|meta| meta.modified());
        if age.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > STALE)) {
            let _ = fs::remove_file(aside);
        }
    }

    fn fresh(&self) -> PathBuf {
        self.path.with_extension("jsonl.new")
    }

    fn aside(&self) -> PathBuf {
        self.path.with_extension("jsonl.damaged")
    }

    /// Leaves out what newer lines replace and what is too old to matter. Piece by piece: what is allocated as a whole is
    /// not given back by all allocators.
    fn compact(&mut self, now: &Now) -> Result<(), StoreError> {
        let mut last = HashMap::<Box<str>, u64>::new();
        let old = match &self.file {
            // The one that was added to, whatever has its path by now.
            Some((file, _)) => file.try_clone(),
            None => File::open(&self.path),
        };
        let old = old.map_err(|error| StoreError::Io("read", self.path.clone(), error))?;
        let find = |at, text: &[u8]| {
            if let Some((account, written)) = line::header(text)
                && !is_stale(&written, now)
            {
                match last.get_mut(account) {
                    Some(last) => *last = at,
                    None => drop(last.insert(account.into(), at)),
                }
            }
            Ok(())
        };
        each_line(&old, find).map_err(|error| StoreError::Io("read", self.path.clone(), error))?;
        let last: HashSet<u64> = last.into_values().collect();
        self.rewrite(|new| {
            each_line(&old, |at, text| {
                if last.contains(&at) {
                    new.write_all(text)?;
                }
                Ok(())
            })
        })
    }

    /// Puts a file with other content in the place of the journal.
    fn rewrite(
        &mut self,
        write: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> Result<(), StoreError> {
        let fresh = self.fresh();
        // Whatever fails below: what is added next is added to the file that is there then.
        self.file = None;
        let put = || -> io::Result<u64> {
            let mut file = OpenOptions::new()
                .create(true)
                .truncate(true)
                .write(true)
                .mode(0o600)
                .open(&fresh)?;
            write(&mut file)?;
            file.sync_data()?;
            fs::rename(&fresh, &self.path)?;
            if let Some(directory) = self.path.parent() {
                File::open(directory)?.sync_all()?;
            }
            Ok(file.metadata()?.len())
        };
        let length = put().map_err(|error| {
            // Half a file of secrets is of no use; that it cannot be removed changes nothing.
            let _ = fs::remove_file(&fresh);
            StoreError::Io("write", self.path.clone(), error)
        })?;
        self.rewrite_at = 2 * length + SLACK;
        Ok(())
    }
}

/// True for a line that is too old by both clocks: a jump of Unix time makes nothing old.
fn is_stale(written: &Now, now: &Now) -> bool {
    let stale = i64::try_from(STALE.as_millis()).unwrap_or(i64::MAX);
    let since_boot = now.at.as_millis() - written.at.as_millis();
    now.unix_millis - written.unix_millis >= stale && !(0..stale).contains(&since_boot)
}

/// Shows each line of a file with its end, and where it begins. An unfinished last one is not shown.
fn each_line(file: &File, mut see: impl FnMut(u64, &[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut buffer = Zeroizing::new(vec![0; 64 * 1024]);
    let (mut at, mut held) = (0, 0);
    loop {
        if held == buffer.len() {
            return Err(ErrorKind::InvalidData.into());
        }
        let read = file.read_at(&mut buffer[held..], at + held as u64)?;
        if read == 0 {
            return Ok(());
        }
        held += read;
        let mut from = 0;
        while let Some(length) = buffer[from..held].iter().position(|byte| *byte == b'\n') {
            let end = from + length + 1;
            see(at + from as u64, &buffer[from..end])?;
            from = end;
        }
        buffer.copy_within(from..held, 0);
        (at, held) = (at + from as u64, held - from);
    }
}

/// Waits until what was added to a journal is on the disk.
pub(super) fn sync(path: &Path) -> Result<(), StoreError> {
    match File::open(path).and_then(|file| file.sync_data()) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(StoreError::Io("sync", path.to_owned(), error))
        }
        _ => Ok(()),
    }
}

/// Finds the lines that count.
pub(super) fn index<'a>(text: &'a [u8], now: &Now) -> Index<'a> {
    // An unfinished line may not be what it was to be, and the next one would be added to it. Nobody leaves a file empty.
    let is_unfinished = !text.ends_with(b"\n");
    let mut index = Index {
        lines: BTreeMap::new(),
        damaged: usize::from(is_unfinished),
        later: 0,
    };
    for text in text.split(|byte| *byte == b'\n').rev() {
        match line::header(text) {
            Some((account, _)) if index.lines.contains_key(account) => {}
            Some((account, _)) if line::decode(text, "", now).is_some() => {
                let doubtful = index.damaged > 0;
                index.lines.insert(account, JournalLine { text, doubtful });
            }
            _ if text.is_empty() => {}
            _ => {
                index.damaged += 1;
                index.later += usize::from(line::is_of_later_version(text));
            }
        }
    }
    index
}
