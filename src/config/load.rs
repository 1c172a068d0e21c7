//! From files to a checked configuration.

use super::account::AccountsReader;
use super::environment::Environment;
use super::include::included;
use super::names::Names;
use super::output::OutputsReader;
use super::places::{Places, Setting};
use super::source::SourceFile;
use super::table::Table;
use super::{Config, MirrorSection, fleet, keys, mirror, sections};
use crate::fault::Fault;
use std::path::{Path, PathBuf};

/// A configuration that is right, and what there is to say of it all the same.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Warnings about what is unusual or looks like a mistake, in the order of the files.
    pub warnings: Vec<Fault>,
    /// The positions of keys that may still turn out to be wrong.
    pub places: Places,
}

/// Reads the configuration and all that it refers to. Blocks on files and on the name service, on each for a limited time.
///
/// Faults come in the order of the files, with warnings among them. None of them ever shows a secret, or the line of
/// one.
pub fn load(path: &Path, env: &Environment) -> Result<Loaded, Vec<Fault>> {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let source = SourceFile::read(&path, &env.files).map_err(|fault| vec![fault])?;
    let mut tree = source.parse();
    let root = Table::root(&source, &tree).known(&keys::ROOT, env.platforms);
    let included = included(&root, &env.files);

    let mut names = Names::new(&env.names);
    let daemon = sections::daemon(&root, env);
    let api = sections::api(&root, env, &mut names);
    let (platform, allow_http) = sections::platform(&root, env);
    let (fleet, only_follows) = fleet::fleet(&root, env, &allow_http);
    let mut outputs = OutputsReader::new(&daemon.runtime_dir, env, places(&path, &root));
    outputs.claim(&api.socket, &root.table("api"), "socket");
    let mirror = mirror::mirror(&root, env, &mut outputs);
    let mut accounts = AccountsReader::new(env, names, outputs, only_follows);
    accounts.read(&source, &mut tree);

    let mut faults = source.take_faults();
    for path in included {
        faults.extend(include(&path, &mut accounts, env));
    }
    if !faults.iter().all(|fault| fault.is_warning) {
        return Err(faults);
    }
    let (accounts, keys, places) = accounts.finish();
    if mirror.listen.is_none() && mirror.socket.is_none() && !keys.is_empty() {
        let message = "[[accounts.NAME.mirror]] is set, but no mirror listens: set `listen` or `socket` under [mirror]";
        faults.push(places.warning(&Setting::MirrorListen, message));
    }
    Ok(Loaded {
        config: Config {
            path,
            daemon,
            api,
            mirror: MirrorSection { keys, ..mirror },
            platform,
            fleet,
            accounts,
        },
        warnings: faults,
        places,
    })
}

/// The places of what the daemon itself uses.
fn places(path: &Path, root: &Table<'_>) -> Places {
    let mut places = Places::new(path);
    for (subject, section, key) in [
        (Setting::StateDir, "daemon", "state_dir"),
        (Setting::ApiSocket, "api", "socket"),
        (Setting::ApiMetrics, "api", "metrics"),
        (Setting::MirrorListen, "mirror", "listen"),
        (Setting::MirrorSocket, "mirror", "socket"),
        (Setting::CaFile, "platform", "ca_file"),
    ] {
        let table = root.table(section);
        if table.has(key) {
            places.add(subject, table.place(key));
        }
    }
    for (subject, section) in [(Setting::Platform, "platform"), (Setting::Fleet, "fleet")] {
        if root.has(section) {
            places.add(subject, root.place(section));
        }
    }
    places
}

/// The path of the API socket that a configuration names, for a client that may not be able to read it or what it
/// refers to: then the default.
pub fn api_socket(path: &Path, env: &Environment) -> PathBuf {
    let default = || env.runtime_dir().join("api.sock");
    let Ok(source) = SourceFile::read(path, &env.files) else {
        return default();
    };
    let tree = source.parse();
    let api = Table::root(&source, &tree).table("api");
    sections::api_socket(&api, env)
}

/// The state directory that a configuration names, also when other parts of it are faulty.
pub fn state_dir(path: &Path, env: &Environment) -> PathBuf {
    let Ok(source) = SourceFile::read(path, &env.files) else {
        return env.state_dir().to_path_buf();
    };
    let tree = source.parse();
    sections::daemon(&Table::root(&source, &tree), env).state_dir
}

/// Reads the accounts of one more file.
fn include(path: &Path, accounts: &mut AccountsReader<'_>, env: &Environment) -> Vec<Fault> {
    let source = match SourceFile::read(path, &env.files) {
        Ok(source) => source,
        Err(fault) => return vec![fault],
    };
    let mut tree = source.parse();
    let root = Table::root(&source, &tree).known(&keys::ROOT, env.platforms);
    for key in [
        keys::DAEMON,
        keys::API,
        keys::MIRROR,
        keys::PLATFORM,
        keys::FLEET,
    ] {
        let key = key.table.trim_matches(['[', ']']);
        if root.has(key) {
            root.fault(
                key,
                "may not stand in an included file, which holds only [accounts.*]: move it to the main file",
            );
        }
    }
    accounts.read(&source, &mut tree);
    source.take_faults()
}
