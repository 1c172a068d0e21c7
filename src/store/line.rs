//! A line of the journal: what is kept of one account, as JSON.

use crate::account::AccountName;
use crate::budget::Budget;
use crate::schedule::{Belief, Record, StoredBlock, StoredGrant, Why};
use crate::time::{End, Moment, Now};
use crate::trouble::Class;
use crate::trouble::LastError;
use crate::value::{Value, ValueName};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use zeroize::Zeroizing;

/// The line that keeps a record.
pub(crate) fn encode(
    name: &AccountName,
    record: &Record,
    boot_id: &str,
    now: &Now,
) -> Zeroizing<Vec<u8>> {
    // Enough for nearly all, so that no copy of a value is left behind by a line that grows.
    let values = record
        .grants
        .iter()
        .map(|stored| stored.value.expose().len() + 192);
    let mut line = Zeroizing::new(Vec::with_capacity(1024 + values.sum::<usize>()));
    let stored = Stored::from_record(name, record, boot_id, now);
    // Writing numbers and text to memory cannot fail.
    if serde_json::to_writer(&mut *line, &stored).is_ok() {
        line.push(b'\n');
    }
    line
}

/// The record of a line, unless it is damaged or of a version to come.
pub(crate) fn decode(line: &[u8], boot_id: &str, now: &Now) -> Option<Record> {
    serde_json::from_slice::<Stored<'_>>(line)
        .ok()?
        .into_record(boot_id, now)
}

/// The account of a line, and both clocks when it was written. Nothing if it is damaged.
pub(super) fn header(line: &[u8]) -> Option<(&str, Now)> {
    #[derive(Deserialize)]
    struct Header<'a> {
        account: &'a str,
        clock: Written,
    }
    #[derive(Deserialize)]
    struct Written {
        since_boot: i64,
        unix: i64,
    }
    let header: Header<'_> = serde_json::from_slice(line).ok()?;
    let written = Now {
        at: Moment::from_millis(header.clock.since_boot),
        unix_millis: header.clock.unix,
    };
    Some((header.account, written))
}

/// Returns whether a later version of the daemon wrote a line, in a format of its own.
pub(super) fn is_of_later_version(line: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    serde_json::from_slice(line).is_ok_and(|line: Versioned| line.version > VERSION)
}

/// The stored record of an account. Moments are milliseconds since boot, readable after a reboot by the two clocks
/// noted beside them.
#[derive(Serialize, Deserialize)]
struct Stored<'a> {
    version: u32,
    account: &'a str,
    id: &'a str,
    agentid: Option<u32>,
    clock: StoredClock<'a>,
    values: Vec<StoredValue<'a>>,
    day: i64,
    calls: u32,
    #[serde(skip_serializing_if = "is_zero", default)]
    unlisted: u32,
    last_call: Option<i64>,
    forced_day: i64,
    forced: u32,
    last_forced: Option<i64>,
    last_success: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    block: Option<StoredBlockLine>,
    /// Earlier versions counted the calls without an answer.
    #[serde(default, skip_serializing)]
    unanswered: u32,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    lost: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    secret: Option<String>,
    #[serde(skip_serializing_if = "StoredBelief::is_trusted", default)]
    belief: StoredBelief,
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
    /// `None` if it was learnt before the host booted.
    expires: Option<i64>,
    #[serde(default)]
    expires_unix: Option<i64>,
    #[serde(default)]
    life: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    told: Option<(Option<i64>, i64)>,
}

/// The belief about the access token.
#[derive(Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
enum StoredBelief {
    #[default]
    Trusted,
    Suspected(Why, i64),
    CalledDead,
    Withdrawn,
}

impl StoredBelief {
    const fn is_trusted(&self) -> bool {
        matches!(self, Self::Trusted)
    }

    const fn of(belief: Belief) -> Self {
        match belief {
            Belief::Trusted => Self::Trusted,
            Belief::CalledDead => Self::CalledDead,
            Belief::Withdrawn => Self::Withdrawn,
            Belief::Suspected { why, at, .. } => Self::Suspected(why, at.as_millis()),
        }
    }

    fn belief(self, moment: impl Fn(i64) -> Moment) -> Belief {
        match self {
            Self::Trusted => Belief::Trusted,
            Self::CalledDead => Belief::CalledDead,
            Self::Withdrawn => Belief::Withdrawn,
            Self::Suspected(why, at) => Belief::Suspected {
                why,
                at: moment(at),
                tries: 0,
            },
        }
    }
}

#[derive(Serialize, Deserialize)]
struct StoredBlockLine {
    until: i64,
    at: i64,
    seconds: u64,
    /// Earlier versions kept only blocks for a fixed time.
    #[serde(default)]
    class: StoredClass,
    #[serde(default)]
    failures: u32,
    errcode: Option<i64>,
    rid: Option<String>,
    message: String,
    hint: String,
}

impl StoredBlockLine {
    fn of(block: &StoredBlock) -> Self {
        Self {
            until: block.until.as_millis(),
            at: block.error.at.as_millis(),
            seconds: match block.error.class {
                Class::TimedBlock(time) => time.as_secs(),
                _ => 0,
            },
            class: match block.error.class {
                Class::DailyQuota => StoredClass::DailyQuota,
                Class::Frequency => StoredClass::Frequency,
                _ => StoredClass::TimedBlock,
            },
            failures: block.failures,
            errcode: block.error.errcode,
            rid: block.error.rid.clone(),
            message: block.error.message.clone(),
            hint: block.error.hint.clone(),
        }
    }

    fn into_block(self) -> StoredBlock {
        StoredBlock {
            until: Moment::from_millis(self.until),
            failures: self.failures.max(1),
            error: LastError {
                at: Moment::from_millis(self.at),
                class: match self.class {
                    StoredClass::TimedBlock => Class::TimedBlock(Duration::from_secs(self.seconds)),
                    StoredClass::DailyQuota => Class::DailyQuota,
                    StoredClass::Frequency => Class::Frequency,
                },
                errcode: self.errcode,
                rid: self.rid,
                message: self.message,
                hint: self.hint,
            },
        }
    }
}

#[derive(Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
enum StoredClass {
    #[default]
    TimedBlock,
    DailyQuota,
    Frequency,
}

const VERSION: u32 = 1;

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl<'a> Stored<'a> {
    fn from_record(name: &'a AccountName, record: &'a Record, boot_id: &'a str, now: &Now) -> Self {
        Self {
            version: VERSION,
            account: name.as_str(),
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
                .map(|stored| StoredValue {
                    name: stored.name,
                    value: stored.value.expose(),
                    obtained: stored.obtained.as_millis(),
                    expires: stored.end.boot().map(Moment::as_millis),
                    expires_unix: Some(stored.end.unix_millis()),
                    life: u64::try_from(stored.life.as_millis()).ok(),
                    told: stored
                        .told
                        .map(|told| (told.boot().map(Moment::as_millis), told.unix_millis())),
                })
                .collect(),
            day: record.budget.day,
            calls: record.budget.calls,
            unlisted: record.budget.unlisted,
            last_call: record.budget.last_call.map(Moment::as_millis),
            forced_day: record.forced.day,
            forced: record.forced.calls,
            last_forced: record.forced.last_call.map(Moment::as_millis),
            last_success: record.last_success.map(Moment::as_millis),
            block: record.block.as_ref().map(StoredBlockLine::of),
            unanswered: 0,
            lost: record.lost.map(Moment::as_millis),
            secret: record.secret.as_deref().map(str::to_owned),
            belief: StoredBelief::of(record.belief),
        }
    }

    /// `None` if a value in it is not valid, or a later version wrote it.
    fn into_record(self, boot_id: &str, now: &Now) -> Option<Record> {
        if self.version != VERSION {
            return None;
        }
        let written = Now {
            at: Moment::from_millis(self.clock.since_boot),
            unix_millis: self.clock.unix,
        };
        let is_same_boot = self.clock.boot_id == boot_id && !boot_id.is_empty();
        let moment = Moment::from_millis;
        let end = |boot: Option<i64>, unix: i64| End::stored(boot.map(moment), unix, &written);
        let unix = |millis: i64| written.unix_millis_of(moment(millis));
        let grant = |stored: &StoredValue<'_>| {
            let expires_unix = stored.expires_unix.or(stored.expires.map(unix))?;
            let life = expires_unix.saturating_sub(unix(stored.obtained));
            let life = stored.life.or(u64::try_from(life).ok())?;
            Some(StoredGrant {
                name: stored.name,
                value: Value::parse(stored.value)?,
                obtained: moment(stored.obtained),
                life: Duration::from_millis(life),
                end: end(stored.expires, expires_unix),
                told: stored.told.map(|(boot, unix)| end(boot, unix)),
            })
        };
        let grants = self.values.iter().map(grant).collect::<Option<Vec<_>>>()?;
        let lost = self
            .lost
            .or(self.last_call.filter(|_| self.unanswered > 0))
            .map(moment);
        let record = Record {
            id: self.id.into(),
            agentid: self.agentid,
            grants,
            budget: Budget {
                day: self.day,
                calls: self.calls,
                unlisted: self.unlisted,
                last_call: self.last_call.map(moment),
            },
            forced: Budget {
                day: self.forced_day,
                calls: self.forced,
                unlisted: 0,
                last_call: self.last_forced.map(moment),
            },
            block: self.block.map(StoredBlockLine::into_block),
            last_success: self.last_success.map(moment),
            secret: self.secret.map(Into::into),
            belief: self.belief.belief(moment),
            lost,
        };
        Some(if is_same_boot {
            record
        } else {
            record.after_boot(&written, now)
        })
    }
}
