//! A line of the journal: what is kept of one account, as JSON.

use crate::account::AccountName;
use crate::budget::Budget;
use crate::schedule::{Record, StoredBlock, StoredGrant};
use crate::time::{Moment, Now};
use crate::trouble::Class;
use crate::trouble::LastError;
use crate::value::{Grant, Value, ValueName};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use zeroize::Zeroizing;

/// The line that keeps a record.
pub(super) fn encode(
    name: &AccountName,
    record: &Record,
    boot_id: &str,
    now: &Now,
) -> Zeroizing<Vec<u8>> {
    // Enough for nearly all, so that no copy of a value is left behind by a line that grows.
    let values = record
        .grants
        .iter()
        .map(|stored| stored.grant.value.expose().len() + 128);
    let mut line = Zeroizing::new(Vec::with_capacity(1024 + values.sum::<usize>()));
    let stored = Stored::from_record(name, record, boot_id, now);
    // Writing numbers and text to memory cannot fail.
    if serde_json::to_writer(&mut *line, &stored).is_ok() {
        line.push(b'\n');
    }
    line
}

/// What a line keeps, unless it is damaged or of a version to come.
pub(super) fn decode(line: &[u8], boot_id: &str, now: &Now) -> Option<Record> {
    serde_json::from_slice::<Stored<'_>>(line)
        .ok()?
        .into_record(boot_id, now)
}

/// Whose line it is, and when it was written, in Unix milliseconds. Nothing if it is damaged.
pub(super) fn header(line: &[u8]) -> Option<(&str, i64)> {
    #[derive(Deserialize)]
    struct Header<'a> {
        account: &'a str,
        clock: Written,
    }
    #[derive(Deserialize)]
    struct Written {
        unix: i64,
    }
    let header: Header<'_> = serde_json::from_slice(line).ok()?;
    Some((header.account, header.clock.unix))
}

/// What is kept of an account. Moments are milliseconds since boot, readable after a reboot by the two clocks noted beside them.
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
    fn from_record(name: &'a AccountName, record: &'a Record, boot_id: &'a str, now: &Now) -> Self {
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
