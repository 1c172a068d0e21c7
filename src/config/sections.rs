//! `[daemon]`, `[api]` and `[platform]`. After a fault, placeholders are returned; `load` discards them.

use super::environment::Environment;
use super::names::Names;
use super::table::Table;
use super::value::{self, Checked, HttpHost};
use super::{ApiSection, DaemonSection, Host, LogLevel, PlatformHosts, PlatformSection, keys};
use crate::platform::Platform;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The largest `ca_file`, bytes: all public certificates take a quarter of a MiB.
pub(crate) const MAX_CERTIFICATES: u64 = 16 << 20;
const ADMINS: [&str; 2] = ["root", "@wxtokend"];

/// `[daemon]`, but for `include`.
pub(super) fn daemon(root: &Table<'_>, env: &Environment) -> DaemonSection {
    let table = root.table("daemon").known(&keys::DAEMON, env.platforms);
    DaemonSection {
        state_dir: (table.read("state_dir", value::directory))
            .unwrap_or_else(|| env.state_dir().to_path_buf()),
        log_level: (table.read("log_level", |level| value::choice(level, &LogLevel::WORDS)))
            .unwrap_or(LogLevel::Info),
        runtime_dir: env.runtime_dir().to_path_buf(),
    }
}

/// `[api]`
pub(super) fn api(root: &Table<'_>, env: &Environment, names: &mut Names) -> ApiSection {
    let table = root.table("api").known(&keys::API, env.platforms);
    let admins = if table.has("admins") {
        let admins = table.read_list("admins", |name| names.principal(value::text(name)?));
        names.warn(&table, "admins", admins.as_deref().unwrap_or_default());
        admins
    } else {
        // Some hosts have no such group.
        let found = ADMINS.iter().filter_map(|name| names.principal(name).ok());
        Some(found.collect())
    };
    ApiSection {
        socket: api_socket(&table, env),
        admins: names.list(admins.unwrap_or_default()),
        metrics: table.read("metrics", value::loopback),
    }
}

/// The path of the API socket.
pub(super) fn api_socket(table: &Table<'_>, env: &Environment) -> PathBuf {
    (table.read("socket", value::socket)).unwrap_or_else(|| env.runtime_dir().join("api.sock"))
}

/// `[platform]`
pub(super) fn platform(root: &Table<'_>, env: &Environment) -> (PlatformSection, Vec<HttpHost>) {
    let table = root.table("platform").known(&keys::PLATFORM, env.platforms);
    let allow_http = table
        .read_list("allow_http", value::http_host)
        .unwrap_or_default();
    let timeout = |key, default| {
        let configured = table.read(key, value::timeout);
        configured.unwrap_or(Duration::from_secs(default))
    };
    let hosts = |platform: &&'static Platform| PlatformHosts {
        platform,
        hosts: hosts(&table, platform.hosts_key, platform.hosts, &allow_http),
    };
    let section = PlatformSection {
        hosts: env.platforms.0.iter().map(hosts).collect(),
        connect_timeout: timeout("connect_timeout", 3),
        timeout: timeout("timeout", 10),
        concurrency: (table.read("concurrency", |number| value::whole(number, 1..=1024)))
            .map_or(32, |number| number as usize),
        ca_file: ca_file(&table, env),
        proxy: table.read("proxy", value::proxy),
    };
    (section, allow_http)
}

/// A file of certificates that are trusted besides the system's.
pub(super) fn ca_file(table: &Table<'_>, env: &Environment) -> Option<PathBuf> {
    table.read("ca_file", |path| {
        let path = table.source().directory().join(value::text(path)?);
        check_certificates(&path, env).map(|()| path)
    })
}

fn hosts(table: &Table<'_>, key: &str, default: &[&str], allow_http: &[HttpHost]) -> Arc<[Host]> {
    let Some(hosts) = table.read_list(key, |host| value::host(host, allow_http)) else {
        return default.iter().map(|host| Host((*host).into())).collect();
    };
    if hosts.is_empty() {
        table.fault(
            key,
            "must name at least one host: leave the key out to use the platform's own",
        );
    }
    hosts.into()
}

fn check_certificates(path: &Path, env: &Environment) -> Checked<()> {
    let shown = path.display();
    let (pem, _) = (env.files.read(path, MAX_CERTIFICATES)).map_err(|error| {
        format!(
            "names `{shown}`, which cannot be read: {error}; name a PEM file that the daemon may read"
        )
    })?;
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let added = certificate.is_ok_and(|certificate| store.add(certificate).is_ok());
        if !added {
            return Err(format!(
                "names `{shown}`, where a certificate is damaged: export it again as PEM"
            )
            .into());
        }
    }
    if store.is_empty() {
        return Err(format!(
            "names `{shown}`, which holds no certificate: it must be PEM, with BEGIN CERTIFICATE"
        )
        .into());
    }
    Ok(())
}
