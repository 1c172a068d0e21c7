//! What outlives a restart: one small file an account in the state directory, and a lock against a second instance.

use crate::account::AccountName;
use crate::budget::Budget;
use crate::handle::LastError;
use crate::platform::errcode::Class;
use crate::schedule::{Record, StoredBlock, StoredGrant};
use crate::time::{Moment, Now};
use crate::value::{Grant, Value, ValueName};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{error, fmt};
use zeroize::Zeroizing;

/// The state directory, locked for this process.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    boot_id: String,
    _lock: File,
}

/// What a file of the store held.
#[derive(Debug)]
pub enum Loaded {
    /// What was kept.
    Record(Box<Record>),
    /// Nothing was kept yet.
    Nothing,
    /// It cannot be read: set aside under this name, and the account starts anew.
    Damaged(PathBuf),
}

/// Why the store cannot be used.
#[derive(Debug)]
pub enum StoreError {
    /// Another instance holds the state directory.
    Locked(PathBuf),
    /// The operating system refuses.
    Io(&'static str, PathBuf, io::Error),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Locked(dir) => write!(
                f,
                "state directory `{}` is held by another instance: stop that one, or give this one a `state_dir` of its own",
                dir.display()
            ),
            Self::Io(verb, path, error) => {
                write!(
                    f,
                    "cannot {verb} `{}`: {}",
                    path.display(),
                    crate::fault::reason(error)
                )
            }
        }
    }
}

impl error::Error for StoreError {}

/// How long the state of an account that is no longer configured is kept: no value lives longer.
const STALE: Duration = Duration::from_secs(86_400);

impl Store {
    /// Opens and locks a state directory, and makes it (mode 0700) where it is missing.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let io = |verb, path: &Path| {
            let path = path.to_owned();
            move |error| StoreError::Io(verb, path, error)
        };
        match DirBuilder::new().mode(0o700).create(dir) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(io("make", dir)(error));
            }
            _ => {}
        }
        let path = dir.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(io("open", &path))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => return Err(StoreError::Locked(dir.to_owned())),
            result => result.map_err(|errno| io("lock", &path)(errno.into()))?,
        }
        // Without it every restart counts as one after a boot: Unix time decides then.
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Ok(Self {
            dir: dir.to_owned(),
            boot_id: boot_id.trim().to_owned(),
            _lock: lock,
        })
    }

    /// Reads what was kept of an account.
    pub fn load(&self, name: &AccountName, now: &Now) -> Result<Loaded, StoreError> {
        let path = self.path(name);
        let text = match fs::read(&path) {
            Ok(text) => Zeroizing::new(text),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Loaded::Nothing),
            Err(error) => return Err(StoreError::Io("read", path, error)),
        };
        let record = serde_json::from_slice::<Stored<'_>>(&text).ok();
        if let Some(record) = record.and_then(|stored| stored.into_record(&self.boot_id, now)) {
            return Ok(Loaded::Record(Box::new(record)));
        }
        let aside = path.with_extension("json.damaged");
        fs::rename(&path, &aside).map_err(|error| StoreError::Io("set aside", path, error))?;
        Ok(Loaded::Damaged(aside))
    }

    /// Keeps the state of an account. `durable`: also over a power failure, at the price of waiting for the disk.
    pub fn save(
        &self,
        name: &AccountName,
        record: &Record,
        durable: bool,
        now: &Now,
    ) -> Result<(), StoreError> {
        let path = self.path(name);
        let fresh = path.with_extension("json.new");
        let write = || {
            let text = Zeroizing::new(serde_json::to_vec(&Stored::from_record(
                record,
                &self.boot_id,
                now,
            ))?);
            let mut file = OpenOptions::new()
                .create(true)
                .truncate(true)
                .write(true)
                .mode(0o600)
                .open(&fresh)?;
            file.write_all(&text)?;
            if durable {
                file.sync_data()?;
            }
            fs::rename(&fresh, &path)
        };
        write().map_err(|error| {
            // Half a file of secrets is of no use; that it cannot be removed changes nothing.
            let _ = fs::remove_file(&fresh);
            StoreError::Io("write", path.clone(), error)
        })
    }

    /// Removes what is left of accounts that are no longer configured, once no value in it can be alive. Files that
    /// cannot be looked at or removed stay for the next time.
    pub fn forget(&self, is_configured: impl Fn(&str) -> bool) {
        let Ok(entries) = fs::read_dir(&self.dir) else {
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(account) = name.to_str().and_then(|name| name.split_once(".json")) else {
                continue;
            };
            let age = entry
                .metadata()
                .and_then(|meta| meta.modified())
                .ok()
                .and_then(|at| at.elapsed().ok());
            let set_aside = account.1 == ".damaged";
            if (set_aside || !is_configured(account.0)) && age.is_some_and(|age| age > STALE) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    fn path(&self, name: &AccountName) -> PathBuf {
        self.dir.join(format!("{name}.json"))
    }
}

/// The file format. Moments are milliseconds since boot, readable after a reboot by the two clocks noted beside them.
#[derive(Serialize, Deserialize)]
struct Stored<'a> {
    version: u32,
    id: &'a str,
    agentid: Option<u32>,
    clock: StoredClock<'a>,
    values: Vec<StoredValue<'a>>,
    day: i64,
    calls: u32,
    last_call: Option<i64>,
    forced_day: i64,
    forced: u32,
    last_forced: Option<i64>,
    last_success: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    block: Option<StoredBlockLine>,
    #[serde(default)]
    unanswered: u32,
}

#[derive(Serialize, Deserialize)]
struct StoredClock<'a> {
    boot_id: &'a str,
    since_boot: i64,
    unix: i64,
}

#[derive(Serialize, Deserialize)]
struct StoredValue<'a> {
    name: ValueName,
    value: &'a str,
    obtained: i64,
    expires: i64,
}

#[derive(Serialize, Deserialize)]
struct StoredBlockLine {
    until: i64,
    at: i64,
    seconds: u64,
    errcode: Option<i64>,
    rid: Option<String>,
    message: String,
    hint: String,
}

const VERSION: u32 = 1;

impl<'a> Stored<'a> {
    fn from_record(record: &'a Record, boot_id: &'a str, now: &Now) -> Self {
        let block = record.block.as_ref().map(|block| StoredBlockLine {
            until: block.until.as_millis(),
            at: block.error.at.as_millis(),
            seconds: match block.error.class {
                Class::TimedBlock(time) => time.as_secs(),
                _ => 0,
            },
            errcode: block.error.errcode,
            rid: block.error.rid.clone(),
            message: block.error.message.clone(),
            hint: block.error.hint.clone(),
        });
        Self {
            version: VERSION,
            id: &record.id,
            agentid: record.agentid,
            clock: StoredClock {
                boot_id,
                since_boot: now.at.as_millis(),
                unix: now.unix_millis,
            },
            values: record
                .grants
                .iter()
                .map(|StoredGrant { name, grant }| StoredValue {
                    name: *name,
                    value: grant.value.expose(),
                    obtained: grant.obtained.as_millis(),
                    expires: grant.expires.as_millis(),
                })
                .collect(),
            day: record.budget.day,
            calls: record.budget.calls,
            last_call: record.budget.last_call.map(Moment::as_millis),
            forced_day: record.forced.0,
            forced: record.forced.1,
            last_forced: record.forced.2.map(Moment::as_millis),
            last_success: record.last_success.map(Moment::as_millis),
            block,
            unanswered: record.unanswered,
        }
    }

    /// Nothing when a value in it is none, or it is of a version to come.
    fn into_record(self, boot_id: &str, now: &Now) -> Option<Record> {
        if self.version != VERSION {
            return None;
        }
        let same_boot = self.clock.boot_id == boot_id && !boot_id.is_empty();
        let moment = |millis: i64| {
            if same_boot {
                Moment::from_millis(millis)
            } else {
                let since = millis.saturating_sub(self.clock.since_boot);
                now.moment(self.clock.unix.saturating_add(since))
            }
        };
        let grants = self
            .values
            .iter()
            .map(|stored| {
                Some(StoredGrant {
                    name: stored.name,
                    grant: Grant {
                        value: Value::parse(stored.value)?,
                        obtained: moment(stored.obtained),
                        expires: moment(stored.expires),
                    },
                })
            })
            .collect::<Option<Vec<_>>>()?;
        Some(Record {
            id: self.id.into(),
            agentid: self.agentid,
            grants,
            budget: Budget {
                day: self.day,
                calls: self.calls,
                last_call: self.last_call.map(moment),
            },
            forced: (self.forced_day, self.forced, self.last_forced.map(moment)),
            block: self.block.map(|block| StoredBlock {
                until: moment(block.until),
                error: LastError {
                    at: moment(block.at),
                    class: Class::TimedBlock(Duration::from_secs(block.seconds)),
                    errcode: block.errcode,
                    rid: block.rid,
                    message: block.message,
                    hint: block.hint,
                },
            }),
            last_success: self.last_success.map(moment),
            unanswered: self.unanswered,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const NOW: Now = Now {
        at: Moment::from_millis(5_000_000),
        unix_millis: 1_700_000_000_000,
    };

    fn name() -> AccountName {
        AccountName::parse("shop").unwrap()
    }

    fn record() -> Record {
        let at = |seconds: i64| Moment::from_millis(NOW.at.as_millis() + seconds * 1000);
        Record {
            id: "wx0123456789abcdef".into(),
            agentid: None,
            grants: vec![StoredGrant {
                name: ValueName::AccessToken,
                grant: Grant {
                    value: Value::parse("CANARY").unwrap(),
                    obtained: at(-100),
                    expires: at(7100),
                },
            }],
            budget: Budget {
                day: 19_675,
                calls: 7,
                last_call: Some(at(-100)),
            },
            forced: (19_675, 2, Some(at(-90))),
            block: Some(StoredBlock {
                until: at(3500),
                error: LastError {
                    at: at(-100),
                    class: Class::TimedBlock(Duration::from_secs(3600)),
                    errcode: Some(89507),
                    rid: Some("r".into()),
                    message: "m".into(),
                    hint: "h".into(),
                },
            }),
            last_success: Some(at(-100)),
            unanswered: 1,
        }
    }

    fn load(store: &Store, now: &Now) -> Record {
        match store.load(&name(), now).unwrap() {
            Loaded::Record(record) => *record,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_kept_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        assert!(matches!(
            store.load(&name(), &NOW).unwrap(),
            Loaded::Nothing
        ));
        for durable in [true, false] {
            store.save(&name(), &record(), durable, &NOW).unwrap();
            assert_eq!(load(&store, &NOW), record());
        }
        let mode = fs::metadata(dir.path().join("shop.json"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn the_same_boot_ignores_clock_steps_and_another_boot_goes_by_unix_time() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path()).unwrap();
        store.save(&name(), &record(), true, &NOW).unwrap();
        let stepped = Now {
            unix_millis: NOW.unix_millis + 86_400_000,
            ..NOW
        };
        assert_eq!(load(&store, &stepped).grants, record().grants);
        store.boot_id = "another".into();
        let rebooted = Now {
            at: Moment::from_millis(10_000),
            unix_millis: NOW.unix_millis + 60_000,
        };
        let grant = &load(&store, &rebooted).grants[0].grant;
        assert_eq!(rebooted.unix(grant.expires), NOW.unix_millis / 1000 + 7100);
    }

    #[test]
    fn a_damaged_file_is_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        store.save(&name(), &record(), false, &NOW).unwrap();
        let path = dir.path().join("shop.json");
        let good = fs::read_to_string(&path).unwrap();
        for bad in [
            "",
            "{",
            "\0\0\0\0",
            "[]",
            &good[..good.len() / 2],
            &good.replace("CANARY", "a b"),
            &good.replace("\"version\":1", "\"version\":9"),
        ] {
            fs::write(&path, bad).unwrap();
            let loaded = store.load(&name(), &NOW).unwrap();
            let Loaded::Damaged(aside) = loaded else {
                panic!("{bad}: {loaded:?}")
            };
            assert_eq!(fs::read_to_string(aside).unwrap(), bad);
            assert!(!path.exists());
        }
    }

    #[test]
    fn a_second_instance_is_told_who_holds_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let error = Store::open(dir.path()).unwrap_err();
        assert!(matches!(error, StoreError::Locked(_)));
        assert!(
            error.to_string().contains("stop that one"),
            "says what to do: {error}"
        );
        drop(store);
        Store::open(dir.path()).unwrap();
    }

    #[test]
    fn accounts_that_are_gone_are_forgotten_after_a_day() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        store.save(&name(), &record(), false, &NOW).unwrap();
        let path = dir.path().join("shop.json");
        store.forget(|_| false);
        assert!(path.exists(), "it may come back today");
        let old = std::time::SystemTime::now() - STALE - Duration::from_secs(1);
        File::open(&path).unwrap().set_modified(old).unwrap();
        store.forget(|name| name == "shop");
        assert!(path.exists(), "it is configured");
        store.forget(|_| false);
        assert!(!path.exists());
    }
}
