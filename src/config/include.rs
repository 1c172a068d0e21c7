//! The files that `include` finds, and those beside them that it leaves out.

use super::keys::nearest;
use super::looks::Looks;
use super::source::SourceFile;
use super::table::Table;
use super::value::{self, Checked};
use crate::fault::reason;
use glob::{MatchOptions, Pattern};
use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The files that one entry of `include` finds.
struct FoundFiles {
    files: Vec<PathBuf>,
    /// The directory that was searched, if the entry has wildcards.
    searched: Option<PathBuf>,
}

/// The files to include, each once, in the order of `include` and for each pattern in the order of their names.
///
/// A pattern that finds nothing, and a file beside those that are read, may be a typo: that is a warning.
pub(super) fn included(root: &Table<'_>, looks: &Looks) -> Vec<PathBuf> {
    let source = root.source();
    let daemon = root.table("daemon");
    let found = daemon.read_items("include", |pattern| {
        let directory = source.directory().to_owned();
        let pattern = value::text(pattern)?.to_owned();
        let path = directory.join(&pattern);
        let hangs = || {
            let shown = path.parent().unwrap_or(&path).display();
            Err(format!("searches `{shown}`, whose file system does not answer: look at the disk, mount or network below it").into())
        };
        let found = looks.look(&path, move |_| find(&directory, &pattern));
        found.unwrap_or_else(hangs)
    });
    let mut seen = HashSet::from([source.path().to_path_buf()]);
    let mut files = Vec::new();
    let mut searched = Vec::new();
    for (at, found) in found.into_iter().flatten() {
        let Some(found) = found else { continue };
        if let Some(directory) = found.searched {
            if found.files.is_empty() {
                let shown = directory.display();
                let message = format!(
                    "`include` finds no file: put files that end in .toml into `{shown}`, or correct the pattern"
                );
                source.warning(at, message);
            }
            searched.push((at, directory));
        }
        files.extend(
            found
                .files
                .into_iter()
                .filter(|file| seen.insert(file.clone())),
        );
    }
    let mut told = HashSet::new();
    for (at, directory) in searched {
        let read = seen.clone();
        let left_out = looks.look(&directory.join("*"), move |_| beside(&directory, &read));
        for left_out in left_out.unwrap_or_default() {
            if told.insert(left_out.clone()) {
                let shown = left_out.display();
                let message = format!(
                    "`include` leaves out `{shown}` because of its name: rename it so that the pattern finds it (it must end in .toml), or move it elsewhere"
                );
                source.warning(at, message);
            }
        }
    }
    files
}

/// The path where a configuration would include a new file of this name, such as `shop.toml`. Blocks on its file.
pub(crate) fn drop_in_path(config: &Path, name: &str) -> Option<PathBuf> {
    let source = SourceFile::read(&std::path::absolute(config).ok()?, &Looks::patient()).ok()?;
    let tree = source.parse();
    let daemon = Table::root(&source, &tree).table("daemon");
    let patterns = daemon.read_items("include", |pattern| {
        Ok(source.directory().join(value::text(pattern)?))
    });
    let mut patterns = patterns.into_iter().flatten().filter_map(|(_, path)| path);
    let found = patterns.find(|path| {
        let pattern = path.file_name().and_then(|file| file.to_str());
        let pattern = pattern.and_then(|pattern| Pattern::new(pattern).ok());
        pattern.is_some_and(|pattern| pattern.matches(name))
    })?;
    Some(found.with_file_name(name))
}

fn find(directory: &Path, pattern: &str) -> Checked<FoundFiles> {
    let is_wild = |part: &Path| part.to_string_lossy().contains(['*', '?', '[']);
    let pattern = directory.join(pattern);
    let (Some(folder), Some(name)) = (pattern.parent(), pattern.file_name()) else {
        return Err("must name a file".into());
    };
    if is_wild(folder.strip_prefix(directory).unwrap_or(folder)) {
        return Err("must have its wildcards after the last /".into());
    }
    if let Err(error) = fs::read_dir(folder) {
        return Err(missing(folder, &error).into());
    }
    if !is_wild(Path::new(name)) {
        if !pattern.exists() {
            let advice = "create it, or use a pattern such as \"accounts.d/*.toml\"";
            return Err(format!("names a file that is not there: {advice}").into());
        }
        return Ok(FoundFiles {
            files: vec![pattern],
            searched: None,
        });
    }
    let pattern = Path::new(&Pattern::escape(&folder.to_string_lossy())).join(name);
    let options = MatchOptions {
        require_literal_leading_dot: true,
        ..MatchOptions::default()
    };
    let found = glob::glob_with(&pattern.to_string_lossy(), options).map_err(|error| {
        format!(
            "is not a pattern: {}; write one such as \"accounts.d/*.toml\"",
            error.msg
        )
    })?;
    // One that cannot be looked at is reported when it is read.
    let found = found.map(|file| file.unwrap_or_else(|error| error.path().to_path_buf()));
    let is_toml = |file: &PathBuf| {
        file.extension()
            .is_some_and(|extension| extension == "toml")
    };
    Ok(FoundFiles {
        files: found.filter(is_toml).collect(),
        searched: Some(folder.to_path_buf()),
    })
}

/// The reason why the directory of a pattern cannot be searched.
fn missing(folder: &Path, error: &std::io::Error) -> String {
    let shown = folder.display();
    if error.kind() != ErrorKind::NotFound {
        return format!(
            "searches `{shown}`, which cannot be read: {}; let the user that the daemon runs as list and enter it",
            reason(error)
        );
    }
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let siblings = folder.parent().map(directories).unwrap_or_default();
    let siblings: Vec<&str> = siblings.iter().map(String::as_str).collect();
    match nearest(&name, &siblings) {
        Some(sibling) => {
            format!("searches `{shown}`, which does not exist; did you mean \"{sibling}\"?")
        }
        None => format!(
            "searches `{shown}`, which does not exist: create that directory or correct the name"
        ),
    }
}

fn directories(of: &Path) -> Vec<String> {
    let entries = fs::read_dir(of).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.path().is_dir())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

/// The files of a directory that are not read, but for what package managers and editors leave there.
fn beside(directory: &Path, read: &HashSet<PathBuf>) -> BTreeSet<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter(|entry| !is_leftover(&entry.file_name().to_string_lossy()))
        .map(|entry| entry.path())
        .filter(|path| path.is_file() && !read.contains(path))
        .collect()
}

fn is_leftover(name: &str) -> bool {
    name.ends_with('~')
        || name.starts_with("README")
        || name.starts_with(".#")
        || name.starts_with('#') && name.ends_with('#')
        || [".swp", ".swo"].iter().any(|end| name.ends_with(end))
        || [".dpkg-", ".ucf-", ".rpm"]
            .iter()
            .any(|part| name.contains(part))
}
