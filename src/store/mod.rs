//! The store of what outlives a restart: a journal in the state directory, and a lock against a second instance.

mod journal;
mod line;

pub(crate) use line::{decode, encode};

use crate::account::AccountName;
use crate::clock;
use crate::logging::Entry;
use crate::offload::Lane;
use crate::schedule::Record;
use crate::time::Now;
use journal::{Journal, index};
use parking_lot::Mutex;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use std::{error, fmt};
use tokio::runtime::Handle;
use zeroize::Zeroizing;

/// No value and no block of a state so old can last.
const STALE: Duration = Duration::from_secs(2 * 86_400);

/// Values are on the disk so long after they were saved: one wait for the disk does for all accounts.
const SYNC_AFTER: Duration = Duration::from_secs(1);

/// The state directory, locked for this process. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Store {
    shared: Arc<StoreShared>,
}

#[derive(Debug)]
struct StoreShared {
    dir: PathBuf,
    boot_id: String,
    /// Held by whoever reads or writes the file, beside the runtime.
    journal: Mutex<Journal>,
    is_sync_due: AtomicBool,
    /// The runtime and the lane in which somebody waits for the disk.
    syncing: OnceLock<(Handle, Lane)>,
    _lock: File,
}

/// The content of the store at the start.
#[derive(Debug)]
pub struct Kept {
    text: Zeroizing<Vec<u8>>,
    boot_id: String,
    /// The part of the text that is of an account, and whether there was something newer that cannot be read.
    lines: BTreeMap<Box<str>, (Range<usize>, bool)>,
    damaged: Option<PathBuf>,
    is_of_later_version: bool,
}

/// The reason why the store cannot be used.
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
        let journal = Journal::new(dir);
        journal.remove_leftovers();
        Ok(Self {
            shared: Arc::new(StoreShared {
                dir: dir.to_owned(),
                boot_id: boot_id.trim().to_owned(),
                journal: Mutex::new(journal),
                is_sync_due: AtomicBool::new(false),
                syncing: OnceLock::new(),
                _lock: lock,
            }),
        })
    }

    /// Reads what was kept. What cannot be read of it is set aside. Blocks.
    pub fn load(&self, now: &Now) -> Result<Kept, StoreError> {
        let mut journal = self.shared.journal.lock();
        let Some(text) = journal.read()? else {
            return Ok(Kept {
                text: Zeroizing::default(),
                boot_id: String::new(),
                lines: BTreeMap::new(),
                damaged: None,
                is_of_later_version: false,
            });
        };
        let found = index(&text, now);
        let damaged = match found.damaged {
            0 => None,
            _ => Some(journal.set_aside(&found)?),
        };
        let is_of_later_version = found.later > 0;
        let range = |line: &[u8]| {
            let start = line.as_ptr().addr() - text.as_ptr().addr();
            start..start + line.len()
        };
        let lines = found.lines.iter();
        let lines = lines
            .map(|(name, line)| ((*name).into(), (range(line.text), line.doubtful)))
            .collect();
        Ok(Kept {
            lines,
            text,
            boot_id: self.shared.boot_id.clone(),
            is_of_later_version,
            damaged,
        })
    }

    /// Keeps the state of an account: over a crash when this returns, and if it is `durable` over a power failure a
    /// moment later. Blocks.
    pub fn save(
        &self,
        name: &AccountName,
        record: &Record,
        durable: bool,
        now: &Now,
    ) -> Result<(), StoreError> {
        let line = encode(name, record, &self.shared.boot_id, now);
        self.shared.journal.lock().append(&line, &clock::now())?;
        if durable
            && let Some((runtime, lane)) = self.shared.syncing.get()
            && !self.shared.is_sync_due.swap(true, Ordering::Relaxed)
        {
            runtime.spawn(self.clone().sync_soon(lane.clone()));
        }
        Ok(())
    }

    /// Writes the file anew if somebody removed or replaced it; true if so. Blocks.
    pub(crate) fn restore(&self) -> Result<bool, StoreError> {
        self.shared.journal.lock().restore(&clock::now())
    }

    /// Has what is durable written to the disk from now on.
    pub(crate) fn sync_with(&self, runtime: Handle, lane: Lane) {
        // The first one stands.
        let _ = self.shared.syncing.set((runtime, lane));
    }

    /// The error of a state directory that does not answer in time.
    pub(crate) fn does_not_answer(&self) -> StoreError {
        let path = self.shared.dir.clone();
        StoreError::Io("read", path, ErrorKind::TimedOut.into())
    }

    /// Waits until all that was saved is on the disk. Blocks.
    fn sync(&self) -> Result<(), StoreError> {
        self.shared.is_sync_due.store(false, Ordering::Relaxed);
        // Unlocked here: others go on writing.
        let path = self.shared.journal.lock().path().to_owned();
        journal::sync(&path)
    }

    async fn sync_soon(self, lane: Lane) {
        tokio::time::sleep(SYNC_AFTER).await;
        let synced = lane.run(move || self.sync()).await;
        if let Ok(Err(error)) = synced {
            Entry::new().warn(format_args!(
                "{error}; what was stored last may not outlive a power failure"
            ));
        }
    }
}

impl Kept {
    /// The record of an account.
    pub fn record(&self, name: &AccountName, now: &Now) -> Option<Record> {
        let (range, doubtful) = self.lines.get(name.as_str())?;
        let mut record = decode(self.text.get(range.clone())?, &self.boot_id, now)?;
        if *doubtful {
            // As if the newer line had told of a call that has no answer.
            record.lost = record.lost.or(Some(now.at));
        }
        Some(record)
    }

    /// Returns whether a later version of the daemon wrote what cannot be read.
    pub fn is_of_later_version(&self) -> bool {
        self.is_of_later_version
    }

    /// The name under which a file was set aside that cannot be read as a whole.
    pub fn damaged(&self) -> Option<&Path> {
        self.damaged.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;
    use crate::schedule::{Belief, StoredBlock, StoredGrant, Why};
    use crate::time::{End, Moment};
    use crate::trouble::Class;
    use crate::trouble::LastError;
    use crate::value::{Value, ValueName};
    use std::os::unix::fs::PermissionsExt;

    const NOW: Now = Now {
        at: Moment::from_millis(5_000_000),
        unix_millis: 1_700_000_000_000,
    };

    fn name(name: &str) -> AccountName {
        AccountName::parse(name).unwrap()
    }

    fn record() -> Record {
        let at = |seconds: i64| Moment::from_millis(NOW.at.as_millis() + seconds * 1000);
        Record {
            id: "wx0123456789abcdef".into(),
            agentid: None,
            grants: vec![StoredGrant {
                name: ValueName::AccessToken,
                value: Value::parse("CANARY").unwrap(),
                obtained: at(-100),
                life: Duration::from_secs(7200),
                end: End::of(at(7100), &NOW),
                told: Some(End::of(at(3800), &NOW)),
            }],
            secret: Some("/secret".into()),
            belief: Belief::Suspected {
                why: Why::LostAnswer,
                at: at(200),
                tries: 0,
            },
            lost: Some(at(-40)),
            budget: Budget {
                day: 19_675,
                calls: 7,
                unlisted: 3,
                last_call: Some(at(-100)),
            },
            forced: Budget {
                day: 19_675,
                calls: 2,
                unlisted: 0,
                last_call: Some(at(-90)),
            },
            block: Some(StoredBlock {
                until: at(3500),
                failures: 2,
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
        }
    }

    fn later(calls: u32) -> Record {
        let mut record = record();
        record.budget.calls = calls;
        record
    }

    /// A store in a directory of its own.
    struct StoreBench {
        dir: tempfile::TempDir,
        store: Store,
    }

    impl StoreBench {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let store = Store::open(dir.path()).unwrap();
            Self { dir, store }
        }

        fn reopen(&mut self) {
            let elsewhere = tempfile::tempdir().unwrap();
            self.store = Store::open(elsewhere.path()).unwrap();
            self.store = Store::open(self.dir.path()).unwrap();
        }

        fn path(&self) -> PathBuf {
            self.dir.path().join("state.jsonl")
        }

        fn text(&self) -> String {
            fs::read_to_string(self.path()).unwrap()
        }

        fn save(&self, account: &str, record: &Record, now: &Now) -> Result<(), StoreError> {
            self.store.save(&name(account), record, false, now)
        }

        fn kept(&self, account: &str) -> Option<Record> {
            let kept = self.store.load(&NOW).unwrap();
            assert_eq!(kept.damaged(), None);
            kept.record(&name(account), &NOW)
        }
    }

    #[test]
    fn the_last_of_each_account_comes_back() {
        let bench = StoreBench::new();
        assert_eq!(bench.kept("shop"), None);
        bench.save("shop", &record(), &NOW).unwrap();
        bench.save("blog", &later(1), &NOW).unwrap();
        bench.save("shop", &later(8), &NOW).unwrap();
        assert_eq!(bench.kept("shop"), Some(later(8)));
        assert_eq!(bench.kept("blog"), Some(later(1)));
        let mode = fs::metadata(bench.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        bench.store.sync().unwrap();
    }

    #[test]
    fn the_same_boot_ignores_clock_steps_and_another_boot_goes_by_unix_time() {
        let bench = StoreBench::new();
        bench.save("shop", &record(), &NOW).unwrap();
        let mut kept = bench.store.load(&NOW).unwrap();
        let stepped = Now {
            unix_millis: NOW.unix_millis + 86_400_000,
            ..NOW
        };
        let grants = |kept: &Kept, now| kept.record(&name("shop"), now).unwrap().grants;
        assert_eq!(grants(&kept, &stepped), record().grants);
        kept.boot_id = "another".into();
        let rebooted = Now {
            at: Moment::from_millis(10_000),
            unix_millis: NOW.unix_millis + 60_000,
        };
        let end = grants(&kept, &rebooted)[0].end;
        assert_eq!(rebooted.unix(end.moment()), NOW.unix_millis / 1000 + 7100);
        assert_eq!(end.boot(), None);
    }

    #[test]
    fn unreadable_lines_are_set_aside_and_the_rest_stays() {
        let bench = StoreBench::new();
        bench.save("blog", &record(), &NOW).unwrap();
        bench.save("shop", &record(), &NOW).unwrap();
        let good = bench.text();
        let (blog, shop) = good.split_once('\n').unwrap();
        for bad in [
            "{".to_owned(),
            "\0\0\0\0".to_owned(),
            "[]".to_owned(),
            shop[..shop.len() / 2].to_owned(),
            shop.replace("CANARY", "a b"),
            shop.replace("\"version\":1", "\"version\":9"),
        ] {
            let whole = format!("{blog}\n{bad}");
            fs::write(bench.path(), &whole).unwrap();
            let kept = bench.store.load(&NOW).unwrap();
            let aside = kept.damaged().unwrap();
            assert_eq!(fs::read_to_string(aside).unwrap(), whole);
            assert_eq!(bench.text(), format!("{blog}\n"), "{bad}");
            assert_eq!(kept.record(&name("shop"), &NOW), None);
            let doubted = kept.record(&name("blog"), &NOW).unwrap();
            assert!(doubted.lost.is_some(), "it may not be the last: {bad}");
            assert_eq!(doubted.grants, record().grants);
            let whole = format!("{bad}\n{blog}\n");
            fs::write(bench.path(), &whole).unwrap();
            let kept = bench.store.load(&NOW).unwrap();
            assert_eq!(kept.record(&name("blog"), &NOW), Some(record()), "{bad}");
        }
    }

    #[test]
    fn an_emptied_file_is_set_aside_once() {
        let bench = StoreBench::new();
        fs::write(bench.path(), "").unwrap();
        assert!(bench.store.load(&NOW).unwrap().damaged().is_some());
        assert_eq!(bench.kept("shop"), None);
    }

    #[test]
    fn a_line_without_its_end_is_not_added_to() {
        let mut bench = StoreBench::new();
        bench.save("shop", &record(), &NOW).unwrap();
        fs::write(bench.path(), bench.text().trim_end()).unwrap();
        bench.reopen();
        let kept = bench.store.load(&NOW).unwrap();
        assert!(kept.damaged().is_some());
        assert!(kept.record(&name("shop"), &NOW).unwrap().lost.is_some());
        bench.save("blog", &later(1), &NOW).unwrap();
        assert_eq!(bench.kept("shop"), Some(record()));
        assert_eq!(bench.kept("blog"), Some(later(1)));
    }

    #[test]
    fn journal_is_rewritten_and_forgets_old_accounts() {
        let bench = StoreBench::new();
        let now = clock::now();
        let old = Now {
            // Of a boot that lasted longer than this one.
            at: now.at + STALE,
            unix_millis: now.unix_millis - 3 * 86_400_000,
        };
        let jumped = Now {
            unix_millis: old.unix_millis,
            ..now
        };
        bench.save("other", &record(), &jumped).unwrap();
        bench.save("gone", &record(), &old).unwrap();
        bench.save("blog", &record(), &now).unwrap();
        for calls in 0..2000 {
            bench.save("shop", &later(calls), &now).unwrap();
        }
        let text = bench.text();
        assert!(text.len() < 300 * 1024, "{}", text.len());
        assert!(!text.contains("gone"));
        assert!(text.contains("other"), "the clock jumped, no time passed");
        let kept = bench.store.load(&now).unwrap();
        let calls = |of: &str| kept.record(&name(of), &now).unwrap().budget.calls;
        assert_eq!((calls("blog"), calls("shop")), (7, 1999));
    }

    #[test]
    fn a_full_disk_loses_nothing_and_says_so() {
        let mut bench = StoreBench::new();
        bench.save("shop", &record(), &NOW).unwrap();
        let before = bench.text();
        bench.reopen();
        fs::rename(bench.path(), bench.dir.path().join("elsewhere")).unwrap();
        std::os::unix::fs::symlink("/dev/full", bench.path()).unwrap();
        let error = bench.save("shop", &later(8), &NOW).unwrap_err().to_string();
        assert!(error.contains("state.jsonl`: no space left"), "{error}");
        fs::rename(bench.dir.path().join("elsewhere"), bench.path()).unwrap();
        assert_eq!(bench.text(), before);
        bench.save("shop", &later(8), &NOW).unwrap();
        assert_eq!(bench.kept("shop"), Some(later(8)));
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
    fn damaged_file_goes_when_no_value_in_it_lives() {
        let bench = StoreBench::new();
        fs::write(bench.path(), "{").unwrap();
        let aside = bench
            .store
            .load(&NOW)
            .unwrap()
            .damaged()
            .unwrap()
            .to_owned();
        let (dir, store) = (bench.dir, bench.store);
        drop(store);
        drop(Store::open(dir.path()).unwrap());
        assert!(aside.exists(), "somebody may want to look at it");
        let old = std::time::SystemTime::now() - STALE - Duration::from_secs(1);
        File::open(&aside).unwrap().set_modified(old).unwrap();
        Store::open(dir.path()).unwrap();
        assert!(!aside.exists());
    }
}
