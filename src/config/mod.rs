//! The configuration: one TOML file and its drop-ins, read with every fault at once, into a [`Config`] that is valid.

mod account;
mod directories;
mod environment;
mod fleet;
mod include;
mod inspect;
pub mod keys;
mod load;
mod looks;
mod mirror;
mod name_service;
mod names;
mod output;
mod places;
mod resolve;
mod secret;
mod sections;
pub mod source;
mod syntax;
pub mod table;
pub mod value;

pub use environment::Environment;
pub use fleet::FleetSection;
pub(crate) use include::drop_in_path;
pub use inspect::inspect;
pub use load::{Loaded, api_socket, load, state_dir};
pub use looks::Looks;
pub use mirror::{Margins, MirrorKey, MirrorSection};
pub use name_service::NameService;
pub(crate) use names::missing_reader;
pub use places::{Places, Setting};
pub(crate) use sections::MAX_CERTIFICATES;

use crate::account::{Account, AccountName, Principal};
use crate::platform::Platform;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The least urgent messages that are logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// An account has no valid value.
    Error,
    /// Someone must act, or a fallback is in use.
    Warn,
    /// A state changed.
    Info,
    /// Each call.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// Every level by its word.
    pub const WORDS: [(&'static str, Self); 5] = [
        ("error", Self::Error),
        ("warn", Self::Warn),
        ("info", Self::Info),
        ("debug", Self::Debug),
        ("trace", Self::Trace),
    ];
}

/// The checked configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The file it was read from, absolute.
    pub path: PathBuf,
    /// `[daemon]`
    pub daemon: DaemonSection,
    /// `[api]`
    pub api: ApiSection,
    /// `[mirror]`, and `[[accounts.*.mirror]]` of all accounts.
    pub mirror: MirrorSection,
    /// `[platform]`
    pub platform: PlatformSection,
    /// `[fleet]`
    pub fleet: Option<FleetSection>,
    /// `[accounts.*]` of this file and all included ones.
    pub accounts: BTreeMap<AccountName, Arc<Account>>,
}

/// `[daemon]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DaemonSection {
    /// The directory where values and counters outlive a restart.
    pub state_dir: PathBuf,
    /// The least urgent messages that are logged.
    pub log_level: LogLevel,
    /// Below it, missing directories of outputs are made (`$RUNTIME_DIRECTORY`, else `/run/wxtokend`).
    pub runtime_dir: PathBuf,
}

/// `[api]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiSection {
    /// The path of the API socket.
    pub socket: PathBuf,
    /// The principals that may see all accounts, refresh without a bad token, and reload.
    pub admins: Arc<[Principal]>,
    /// The TCP address that serves `/metrics` and `/healthz` too; a loopback address.
    pub metrics: Option<SocketAddr>,
}

/// A base URL of the platform: `https://…`, or `http://…` to a loopback address or a host that may be asked so. It may
/// have a path, of a gateway; no query, and no user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host(pub(crate) Arc<str>);

impl Host {
    /// The URL without a slash at its end.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The URL of an HTTP proxy. It may hold a password, so it cannot be displayed or debugged.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyUrl(Arc<str>);

impl ProxyUrl {
    /// The URL itself, for the one place that connects.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for ProxyUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ProxyUrl(…)")
    }
}

/// The hosts of one platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlatformHosts {
    /// The platform.
    pub platform: &'static Platform,
    /// Its hosts, in order of preference; at least one.
    pub hosts: Arc<[Host]>,
}

/// `[platform]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlatformSection {
    /// The hosts of each platform.
    pub hosts: Box<[PlatformHosts]>,
    /// Limit on connecting.
    pub connect_timeout: Duration,
    /// Limit on a whole call.
    pub timeout: Duration,
    /// Calls in flight, all accounts together.
    pub concurrency: usize,
    /// PEM certificates trusted besides the system's.
    pub ca_file: Option<PathBuf>,
    /// The proxy for all calls.
    pub proxy: Option<ProxyUrl>,
}
