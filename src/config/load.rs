//! From files to a checked configuration.

use super::account::Accounts;
use super::environment::Environment;
use super::names::Names;
use super::output::Outputs;
use super::source::Source;
use super::table::Table;
use super::{Config, keys, sections, value};
use crate::fault::Fault;
use glob::{MatchOptions, Pattern};
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// Reads the configuration and all that it refers to. Blocks on files and on the name service.
///
/// Faults come in the order of the files. None of them ever shows a secret, or the line of one.
pub fn load(path: &Path, env: &Environment) -> Result<Config, Vec<Fault>> {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let source = Source::read(&path).map_err(|fault| vec![fault])?;
    let tree = source.parse();
    let root = Table::root(&source, &tree).known(&keys::ROOT, env.platforms);

    let mut names = Names::default();
    let daemon = sections::daemon(&root, env);
    let api = sections::api(&root, env, &mut names);
    let platform = sections::platform(&root, env);
    let mut outputs = Outputs::new(&daemon.runtime_dir);
    outputs.claim(&api.socket, &root.table("api"), "socket");
    let mut accounts = Accounts::new(env, names, outputs);
    accounts.read(&root);
    let included = included(&root);

    let mut faults = source.take_faults();
    for path in included {
        faults.extend(include(&path, &mut accounts, env));
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    Ok(Config {
        path,
        daemon,
        api,
        platform,
        accounts: accounts.finish(),
    })
}

/// The path of the API socket that a configuration names, for a client that may not be able to read it or what it
/// refers to: then the default.
pub fn api_socket(path: &Path, env: &Environment) -> PathBuf {
    let default = || env.runtime_dir().join("api.sock");
    let Ok(source) = Source::read(path) else {
        return default();
    };
    let tree = source.parse();
    let api = Table::root(&source, &tree).table("api");
    sections::api_socket(&api, env)
}

/// Reads the accounts of one more file.
fn include(path: &Path, accounts: &mut Accounts<'_>, env: &Environment) -> Vec<Fault> {
    let source = match Source::read(path) {
        Ok(source) => source,
        Err(fault) => return vec![fault],
    };
    let tree = source.parse();
    let root = Table::root(&source, &tree).known(&keys::ROOT, env.platforms);
    for key in [keys::DAEMON, keys::API, keys::PLATFORM] {
        let key = key.table.trim_matches(['[', ']']);
        if root.has(key) {
            root.fault(
                key,
                "may not stand in an included file, which holds only [accounts.*]: move it to the main file",
            );
        }
    }
    accounts.read(&root);
    source.take_faults()
}

/// The files to include, each once, in the order of `include` and for each pattern in the order of their names.
fn included(root: &Table<'_>) -> Vec<PathBuf> {
    let daemon = root.table("daemon");
    let main = root.source().path();
    let found = daemon.read_items("include", |pattern| {
        find(root.source().directory(), value::text(pattern)?)
    });
    let mut seen = HashSet::from([main.to_path_buf()]);
    let mut files: Vec<PathBuf> = (found.into_iter().flatten().flatten().flatten()).collect();
    files.retain(|file| seen.insert(file.clone()));
    files
}

fn find(directory: &Path, pattern: &str) -> value::Checked<Vec<PathBuf>> {
    let is_wild = |part: &Path| part.to_string_lossy().contains(['*', '?', '[']);
    let pattern = directory.join(pattern);
    let (Some(folder), Some(name)) = (pattern.parent(), pattern.file_name()) else {
        return Err("must name a file".into());
    };
    if is_wild(folder.strip_prefix(directory).unwrap_or(folder)) {
        return Err("must have its wildcards after the last /".into());
    }
    if !is_wild(Path::new(name)) {
        if !pattern.exists() {
            let advice = "create it, or use a pattern such as \"accounts.d/*.toml\"";
            return Err(format!("names a file that is not there: {advice}").into());
        }
        return Ok(vec![pattern]);
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
    Ok(found
        .filter(|file| {
            file.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .collect())
}
