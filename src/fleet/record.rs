//! The record that the hosts of a fleet share of an account: encrypted, in an envelope that each version can read.

use crate::account::{Account, AccountName};
use crate::schedule::{Record, StoredBlock};
use crate::seal::{FleetKeys, OpenError, SealedFor};
use crate::store;
use crate::time::{End, Now};
use crate::trouble::Class;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The format of the records that this version writes. A host that knows only an older format takes no part.
pub(crate) const VERSION: u32 = 1;

/// The name of a record in the engine.
pub(crate) const RECORD: &str = "record";
/// The name of an answer that came too late to be a record.
pub(crate) const ORPHAN: &str = "orphan";

/// A record as it lies in the engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Envelope {
    pub(crate) version: u32,
    /// The host that wrote it.
    pub(crate) host: String,
    /// The revision of the leader key that it was written under.
    pub(crate) fence: i64,
    /// The writer's clock then, Unix milliseconds.
    pub(crate) written: i64,
    /// Milliseconds by which it was ahead of the engine's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ahead: Option<i64>,
    /// The app that it is of: appid or corpid.
    pub(crate) id: String,
    /// The end of the access token, Unix seconds, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) expire_time: Option<i64>,
    /// A call that was about to be made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) intent: Option<Intent>,
    sealed: String,
}

/// A call that was about to be made when the record was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Intent {
    /// Its beginning, on the writer's clock; Unix milliseconds.
    pub(crate) since: i64,
    /// Limit on it, milliseconds.
    pub(crate) limit: u64,
}

/// The reason why a record of the engine is of no use here. Displays with advice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BadRecord {
    /// A later version wrote it.
    Later(u32),
    /// It was encrypted with another key.
    OtherKey(Box<str>),
    /// It is of another app.
    OtherApp(Box<str>),
    /// It cannot be read.
    Damaged,
    /// The clock of the host that wrote it was not compared with this host's yet: passes in a moment.
    ClockUnknown,
}

impl std::fmt::Display for BadRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Later(version) => write!(
                f,
                "a later version of wxtokend wrote the fleet's record (format {version}, this one knows {VERSION}): upgrade this host"
            ),
            Self::OtherKey(id) => write!(
                f,
                "the fleet's record is encrypted with key {id}, which `key_file` here does not hold: copy the file from a host that has it"
            ),
            Self::OtherApp(id) => write!(
                f,
                "in the fleet this name is that of {id}, another app: give the account the same name and id on all hosts, or each fleet a `prefix` of its own"
            ),
            Self::ClockUnknown => f.write_str("the fleet's record is of a host whose clock is not known yet"),
            Self::Damaged => f.write_str(
                "the fleet's record cannot be read: somebody else wrote below `prefix`; it is replaced when a leader writes next",
            ),
        }
    }
}

/// Everything that a record is written with.
#[derive(Clone, Copy)]
pub(crate) struct RecordWriter<'a> {
    pub(crate) keys: &'a FleetKeys,
    pub(crate) host: &'a str,
    /// Milliseconds by which this host's clock is ahead of the engine's.
    pub(crate) ahead: Option<i64>,
    pub(crate) fence: i64,
}

impl RecordWriter<'_> {
    /// The bytes of an envelope; nothing if the host has no random numbers.
    pub(crate) fn envelope(
        &self,
        account: &Account,
        value: &str,
        record: &Record,
        intent: Option<Duration>,
        now: &Now,
    ) -> Option<Vec<u8>> {
        let shared = shared(record);
        let text = store::encode(&account.name, &shared, "", now);
        let to = SealedFor {
            account: account.name.as_str(),
            value,
            fence: self.fence,
        };
        let token = record.grants.first();
        let envelope = Envelope {
            version: VERSION,
            host: self.host.to_owned(),
            fence: self.fence,
            written: now.unix_millis,
            ahead: self.ahead,
            id: account.id.to_string(),
            expire_time: token.map(|token| token.end.unix_millis().div_euclid(1000)),
            intent: intent.map(|limit| Intent {
                since: now.unix_millis,
                limit: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
            }),
            sealed: self.keys.seal(to, &text)?,
        };
        serde_json::to_vec(&envelope).ok()
    }
}

/// The part of a record that concerns all hosts: without the place of the secret, and without a block of one host's address.
fn shared(record: &Record) -> Record {
    let is_of_account =
        |block: &StoredBlock| matches!(block.error.class, Class::DailyQuota | Class::Frequency);
    Record {
        secret: None,
        block: record.block.clone().filter(is_of_account),
        ..record.clone()
    }
}

impl Envelope {
    /// Reads the envelope of a record that is of this account and of a version that this one knows.
    pub(crate) fn read(bytes: &[u8], account: &Account) -> Result<Self, BadRecord> {
        #[derive(Deserialize)]
        struct VersionedEnvelope {
            version: u32,
        }
        let VersionedEnvelope { version } =
            serde_json::from_slice(bytes).map_err(|_| BadRecord::Damaged)?;
        if version > VERSION {
            return Err(BadRecord::Later(version));
        }
        let envelope: Self = serde_json::from_slice(bytes).map_err(|_| BadRecord::Damaged)?;
        if *envelope.id != *account.id {
            let id = envelope.id.chars().filter(char::is_ascii_graphic).take(64);
            return Err(BadRecord::OtherApp(id.collect()));
        }
        Ok(envelope)
    }

    /// Opens it. `ahead` is by how many milliseconds this host's clock is ahead of the writer's.
    pub(crate) fn open(
        &self,
        name: &AccountName,
        value: &str,
        keys: &FleetKeys,
        ahead: i64,
        now: &Now,
    ) -> Result<Record, BadRecord> {
        let of = SealedFor {
            account: name.as_str(),
            value,
            fence: self.fence,
        };
        let text = keys.open(of, &self.sealed).map_err(|error| match error {
            OpenError::OtherKey(id) => BadRecord::OtherKey(id),
            OpenError::Damaged => BadRecord::Damaged,
        })?;
        // Read as if this host's clock were the writer's; then each end is known on the boot clock.
        let theirs = Now {
            at: now.at,
            unix_millis: now.unix_millis - ahead,
        };
        let mut record = store::decode(&text, "", &theirs).ok_or(BadRecord::Damaged)?;
        for grant in &mut record.grants {
            grant.end = End::of(grant.end.moment(), now);
            grant.told = grant.told.map(|told| End::of(told.moment(), now));
        }
        Ok(record)
    }

    /// True if it is encrypted with one of these keys.
    pub(crate) fn is_for(&self, keys: Option<&FleetKeys>) -> bool {
        let id = self.sealed.split(':').next().unwrap_or_default();
        keys.is_some_and(|keys| keys.has(id))
    }
}
