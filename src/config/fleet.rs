//! `[fleet]`

use super::environment::Environment;
use super::keys;
use super::secret::{credential_file, secret_file};
use super::table::Table;
use super::value::{self, Checked, HttpHost};
use super::{Host, sections};
use crate::seal::{FleetKeys, KeyError};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use toml::de::DeValue;

/// The longest name of a host and the longest prefix, in bytes.
const MAX_NAME: usize = 128;
/// Advice for whoever has no key yet.
const MAKE_KEY: &str = "make one on one host with `head -c 32 /dev/urandom`, copy it to all, and let the daemon's user read it: chown root:wxtokend, chmod 0640";

/// `[fleet]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FleetSection {
    /// The members of the etcd cluster; at least one.
    pub endpoints: Arc<[Host]>,
    /// The prefix of the fleet's keys in etcd; ends with a slash.
    pub prefix: Box<str>,
    /// PEM certificates trusted besides the system's.
    pub ca_file: Option<PathBuf>,
    /// The client certificate and its key, both PEM.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// The user of etcd, and the file of the password.
    pub user: Option<(Box<str>, PathBuf)>,
    /// The file of the key, or of both keys, that values are encrypted with.
    pub key_file: PathBuf,
    /// True if this host may call the platform.
    pub may_lead: bool,
    /// The life of the lease that a leader holds, whole seconds.
    pub lease: Duration,
    /// The name of this host, for people.
    pub host: Box<str>,
}

/// `[fleet]`, if it is there, and whether it says that this host only follows, so that no account needs a secret.
pub(super) fn fleet(
    root: &Table<'_>,
    env: &Environment,
    allow_http: &[HttpHost],
) -> (Option<FleetSection>, bool) {
    if !root.has("fleet") {
        return (None, false);
    }
    let table = root.table("fleet").known(&keys::FLEET, env.platforms);
    let _ = table.read("engine", |engine| value::choice(engine, &[("etcd", ())]));
    let endpoints = endpoints(&table, allow_http);
    let key_file = either(&table, env, "key_file", "key_credential");
    if key_file.is_none() && !table.has("key_file") && !table.has("key_credential") {
        table.fault_of_absence(&format!(
            "`key_file` is missing: values are encrypted before they leave the host; {MAKE_KEY}"
        ));
    }
    let role = |role| value::choice(role, &[("any", true), ("follower", false)]);
    let may_lead = table.read("role", role).unwrap_or(true);
    let section = endpoints
        .zip(key_file)
        .map(|(endpoints, key_file)| FleetSection {
            endpoints,
            prefix: (table.read("prefix", prefix)).unwrap_or_else(|| "/wxtokend/".into()),
            ca_file: sections::ca_file(&table, env),
            certificate: certificate(&table, env),
            user: user(&table, env),
            key_file,
            may_lead,
            lease: (table.read("lease", lease)).unwrap_or(Duration::from_secs(6)),
            host: (table.read("host", host)).unwrap_or_else(kernel_name),
        });
    (section, !may_lead)
}

fn endpoints(table: &Table<'_>, allow_http: &[HttpHost]) -> Option<Arc<[Host]>> {
    if !table.has("endpoints") {
        table.fault_of_absence(
            "`endpoints` is missing: name the members of the etcd cluster, such as [\"https://etcd1:2379\", \"https://etcd2:2379\", \"https://etcd3:2379\"]",
        );
        return None;
    }
    let endpoints = table.read_list("endpoints", |endpoint| endpoint_of(endpoint, allow_http))?;
    if endpoints.is_empty() {
        table.fault("endpoints", "must name at least one member of the cluster");
        return None;
    }
    Some(endpoints.into())
}

fn endpoint_of(value: &DeValue<'_>, allow_http: &[HttpHost]) -> Checked<Host> {
    let written = value::text(value)?;
    if let Some((_, rest)) = written.split_once("://") {
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let after_address = authority.rsplit(']').next().unwrap_or_default();
        if !after_address.contains(':') {
            return Err("must name a port: etcd listens for clients at 2379".into());
        }
        if !path.is_empty() {
            return Err("must end after the port: the paths below are etcd's own".into());
        }
    }
    value::host(value, allow_http).map_err(|wrong| {
        if wrong.starts_with("must be a URL") {
            "must be a URL such as \"https://etcd1:2379\"".into()
        } else {
            wrong
        }
    })
}

/// A file named by one of two keys: by its path, or as a credential of the service.
fn either(table: &Table<'_>, env: &Environment, file: &str, credential: &str) -> Option<PathBuf> {
    if table.has(file) && table.has(credential) {
        table.fault(
            credential,
            format_args!("stands beside `{file}`: keep one of them"),
        );
    }
    let path = table.read(file, |path| secret_file(table, path, env));
    let of_credential = table.read(credential, |name| credential_file(name, env));
    let (key, path) = match (path, of_credential) {
        (Some(path), _) => (file, path),
        (None, Some(path)) => (credential, path),
        (None, None) => return None,
    };
    if file == "key_file" {
        let silent = || {
            Err(KeyError::Unreadable(
                "its file system does not answer".to_owned(),
            ))
        };
        let read = env.looks.look(&path, FleetKeys::read);
        match read.unwrap_or_else(silent) {
            Err(KeyError::Unreadable(_)) if key == credential && env.credentials_dir.is_none() => {
                // It is there only for the service itself.
            }
            Err(KeyError::Unreadable(why)) => table.warning(
                key,
                format_args!("cannot be read: {why}; until it can, this host takes no part in the fleet; {MAKE_KEY}"),
            ),
            Err(KeyError::Malformed(why)) => {
                table.fault(key, format_args!("names `{}`, {why}; {MAKE_KEY}", path.display()));
            }
            Ok(_) => {}
        }
    }
    Some(path)
}

fn certificate(table: &Table<'_>, env: &Environment) -> Option<(PathBuf, PathBuf)> {
    let certificate = table.read("cert_file", |path| {
        Ok(table.source().directory().join(value::text(path)?))
    });
    let key = table.read("cert_key_file", |path| secret_file(table, path, env));
    for (one, other) in [
        ("cert_file", "cert_key_file"),
        ("cert_key_file", "cert_file"),
    ] {
        if table.has(one) && !table.has(other) {
            table.fault(
                one,
                format_args!(
                    "needs `{other}` beside it: a client certificate and its key are two files"
                ),
            );
        }
    }
    certificate.zip(key)
}

fn user(table: &Table<'_>, env: &Environment) -> Option<(Box<str>, PathBuf)> {
    let name = table.read("username", |name| Ok(value::text(name)?.into()));
    let password = either(table, env, "password_file", "password_credential");
    let has_password = table.has("password_file") || table.has("password_credential");
    if table.has("username") && !has_password {
        table.fault(
            "username",
            "needs `password_file` beside it, or `password_credential`",
        );
    }
    for key in ["password_file", "password_credential"] {
        if table.has(key) && !table.has("username") {
            table.fault(key, "needs `username` beside it");
        }
    }
    name.zip(password)
}

/// The prefix of keys. The slash at its end may be left out.
fn prefix(value: &DeValue<'_>) -> Checked<Box<str>> {
    let text = value::text(value)?;
    if !text.starts_with('/') || text.len() > MAX_NAME || text.trim_matches('/').is_empty() {
        return Err(format!(
            "must begin with / and a name, such as \"/wxtokend/\", and have at most {MAX_NAME} bytes"
        )
        .into());
    }
    Ok(format!("{}/", text.trim_end_matches('/')).into())
}

fn lease(value: &DeValue<'_>) -> Checked<Duration> {
    let right =
        "must be whole seconds from 3s to 60s: another host leads so long after a leader is lost";
    let lease = value::timeout(value).map_err(|_| right)?;
    let is_whole = lease.subsec_nanos() == 0 && (3..=60).contains(&lease.as_secs());
    is_whole.then_some(lease).ok_or_else(|| right.into())
}

fn host(value: &DeValue<'_>) -> Checked<Box<str>> {
    match value::text(value)? {
        name if name.len() <= MAX_NAME => Ok(name.into()),
        _ => Err(format!("must have at most {MAX_NAME} bytes").into()),
    }
}

fn kernel_name() -> Box<str> {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "unknown".into(),
        name => name.into(),
    }
}
