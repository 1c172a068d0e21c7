//! The lines of the stream, as JSON.

use crate::account::AccountName;
use crate::snapshot::Snapshot;
use crate::value::{Grant, ValueName};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

/// A value as it stands: `{"account":…,"appid":…,"value":"access_token","access_token":…,"expire_time":…,"obtained_time":…}`,
/// or with `"none":true` in place of the value and its times.
pub(super) struct ValueLine<'a> {
    account: &'a str,
    appid: &'a str,
    name: ValueName,
    grant: Option<&'a Grant>,
}

/// An account that the follower may not read any more, or that is not there any more.
#[derive(Serialize)]
pub(super) struct GoneLine<'a> {
    account: &'a str,
    gone: bool,
}

/// Every value that stood at the start has been sent.
#[derive(Serialize)]
pub(super) struct SyncedLine {
    pub(super) synced: bool,
}

/// The stream is alive.
#[derive(Serialize)]
pub(super) struct HeartbeatLine {
    /// Unix time, seconds.
    pub(super) heartbeat: i64,
}

impl<'a> ValueLine<'a> {
    pub(super) fn of(snapshot: &'a Snapshot, name: ValueName, grant: Option<&'a Grant>) -> Self {
        Self {
            account: snapshot.account.name.as_str(),
            appid: &snapshot.account.id,
            name,
            grant,
        }
    }
}

impl Serialize for ValueLine<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("account", self.account)?;
        map.serialize_entry("appid", self.appid)?;
        map.serialize_entry("value", self.name.as_str())?;
        match self.grant {
            Some(grant) => {
                map.serialize_entry(self.name.as_str(), grant.value.expose())?;
                map.serialize_entry("expire_time", &grant.expire_time())?;
                map.serialize_entry("obtained_time", &grant.obtained_time())?;
            }
            None => map.serialize_entry("none", &true)?,
        }
        map.end()
    }
}

impl<'a> GoneLine<'a> {
    pub(super) fn of(account: &'a AccountName) -> Self {
        Self {
            account: account.as_str(),
            gone: true,
        }
    }
}

/// Appends one line.
pub(super) fn write_line(lines: &mut Vec<u8>, line: &impl Serialize) {
    // All of this is JSON, and a write into memory cannot fail.
    let _ = serde_json::to_writer(&mut *lines, line);
    lines.push(b'\n');
}
