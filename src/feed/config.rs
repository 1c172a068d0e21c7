//! The configuration of a feed: one TOML file, read with every fault at once, into a [`FeedConfig`] that is valid.

mod database;
mod keys;
mod redis;
mod secret;
mod url;

use jiff::tz::TimeZone;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use wxtokend::account::AccountName;
use wxtokend::config::source::{Position, SourceFile};
use wxtokend::config::table::Table;
use wxtokend::config::value::{self, Checked};
use wxtokend::config::{LogLevel, Looks};
use wxtokend::fault::Fault;
use wxtokend::value::ValueName;

pub use database::Database;
pub use redis::{KeyBody, KeyRule, PhpCache, Preset, Redis, SdkKind, Sentinels};
pub use secret::PasswordSource;
pub use url::{Address, Url};

/// The daemon's API socket unless configured.
const DEFAULT_SOCKET: &str = "/run/wxtokend/api.sock";

/// The checked configuration.
#[derive(Debug, Clone)]
pub struct FeedConfig {
    /// The file it was read from.
    pub path: PathBuf,
    /// The daemon's API socket.
    pub socket: PathBuf,
    /// The accounts to follow; empty for all that this user may read.
    pub accounts: Vec<AccountName>,
    /// The least severe lines that are logged.
    pub log_level: LogLevel,
    /// The loopback address that serves `/metrics` and `/healthz` over TCP.
    pub metrics: Option<SocketAddr>,
    /// The targets, in the order of the file.
    pub targets: Vec<Target>,
    /// The place of each target in the file.
    pub places: Vec<Position>,
}

/// A place where values are kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// Its name in logs and metrics: `database 1`.
    pub name: String,
    /// Its address for people, without a password.
    pub place: String,
    /// The value that it keeps.
    pub value: ValueName,
    /// The interval at which it is compared with what it is to hold; zero for never.
    pub check_every: Duration,
    /// The longest time of one write, connecting included.
    pub timeout: Duration,
    /// Its kind.
    pub kind: TargetKind,
}

/// A database or Redis.
#[derive(Debug, Clone, PartialEq)]
pub enum TargetKind {
    /// Rows of a database.
    Database(Database),
    /// Keys of Redis.
    Redis(Redis),
}

/// The keys that every kind of target has.
struct TargetKeys {
    value: ValueName,
    check_every: Duration,
    timeout: Duration,
}

impl FeedConfig {
    /// Reads a configuration and all that it refers to. Faults come in the order of the file; none shows a secret.
    pub fn load(
        path: &Path,
        credentials: Option<&Path>,
        looks: &Looks,
    ) -> Result<Self, Vec<Fault>> {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
        let source = SourceFile::read(&path, looks).map_err(|fault| vec![fault])?;
        let tree = source.parse();
        let root = keys::known(Table::root(&source, &tree), &keys::ROOT);
        let accounts = root.read_list("accounts", |name| {
            AccountName::parse(value::text(name)?)
                .ok_or_else(|| "must hold names of accounts: a-z, 0-9, - and _".into())
        });
        if accounts.as_ref().is_some_and(Vec::is_empty) {
            root.fault(
                "accounts",
                "is empty: leave it out for all accounts that this user may read",
            );
        }
        let (mut targets, mut places) = (Vec::new(), Vec::new());
        for (index, table) in root.tables("database").enumerate() {
            let table = keys::known(table, &keys::DATABASE);
            places.push(table.place("url"));
            let common = common(&table, "60s");
            targets.extend(target(
                format!("database {}", index + 1),
                &common,
                |common| {
                    let (place, database) = database::read(&table, credentials, common.value)?;
                    Some((place, TargetKind::Database(database)))
                },
            ));
        }
        for (index, table) in root.tables("redis").enumerate() {
            let table = keys::known(table, &keys::REDIS);
            places.push(table.place("url"));
            let common = common(&table, "2s");
            targets.extend(target(format!("redis {}", index + 1), &common, |common| {
                let (place, redis) = redis::read(&table, credentials, common.value)?;
                Some((place, TargetKind::Redis(redis)))
            }));
        }
        if !root.has("database") && !root.has("redis") {
            root.fault_of_absence("there is no target: add a [[database]] or a [[redis]]");
        }
        let config = Self {
            socket: (root.read("socket", value::socket)).unwrap_or_else(|| DEFAULT_SOCKET.into()),
            accounts: accounts.unwrap_or_default(),
            log_level: (root.read("log_level", |word| value::choice(word, &LogLevel::WORDS)))
                .unwrap_or(LogLevel::Info),
            metrics: root.read("metrics", value::loopback),
            targets,
            places,
            path,
        };
        let faults = source.take_faults();
        if faults.is_empty() {
            Ok(config)
        } else {
            Err(faults)
        }
    }

    /// Every value that some target keeps.
    pub fn values(&self) -> Vec<ValueName> {
        let kept = |value: &ValueName| self.targets.iter().any(|target| target.value == *value);
        ValueName::ALL.into_iter().filter(kept).collect()
    }
}

fn common(table: &Table<'_>, check_every: &str) -> TargetKeys {
    let default = match check_every {
        "2s" => Duration::from_secs(2),
        _ => Duration::from_mins(1),
    };
    TargetKeys {
        value: (table.read("value", |name| value::choice(name, &ValueName::WORDS)))
            .unwrap_or(ValueName::AccessToken),
        check_every: table
            .read("check_every", value::interval)
            .unwrap_or(default),
        timeout: (table.read("timeout", value::timeout)).unwrap_or(Duration::from_secs(10)),
    }
}

fn target(
    name: String,
    common: &TargetKeys,
    kind: impl FnOnce(&TargetKeys) -> Option<(String, TargetKind)>,
) -> Option<Target> {
    let (place, kind) = kind(common)?;
    Some(Target {
        name,
        place,
        value: common.value,
        check_every: common.check_every,
        timeout: common.timeout,
        kind,
    })
}

/// The time zone of that name in the host's database.
fn time_zone(name: &str) -> Checked<TimeZone> {
    TimeZone::get(name).map_err(|_| {
        "must be the name of a time zone that this host knows, such as \"Asia/Shanghai\" (package tzdata)".into()
    })
}

/// A file of PEM certificates, checked to hold some.
fn ca_file(table: &Table<'_>) -> Option<PathBuf> {
    table.read("ca_file", |path| {
        let path = table.source().directory().join(value::text(path)?);
        crate::tls::read_certificates(&path)
            .map_err(|wrong| format!("names `{}`, {wrong}", path.display()))?;
        Ok(path)
    })
}
