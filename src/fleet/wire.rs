//! The words of etcd's HTTP gateway: JSON with keys and values in base64 and 64-bit numbers as text.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use std::borrow::Cow;
use zeroize::Zeroizing;

/// A key with its value.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct KeyValue {
    /// The key.
    #[serde(deserialize_with = "text")]
    pub(crate) key: String,
    /// The value; empty in the event of a deletion.
    #[serde(default, deserialize_with = "bytes")]
    pub(crate) value: Vec<u8>,
    /// The revision that made it.
    #[serde(default, deserialize_with = "number")]
    pub(crate) create_revision: i64,
    /// The revision that changed it last.
    #[serde(default, deserialize_with = "number")]
    pub(crate) mod_revision: i64,
    /// The lease that it ends with, or 0.
    #[serde(default, deserialize_with = "number")]
    pub(crate) lease: i64,
}

/// The engine's state when it answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct EngineHeader {
    /// The cluster; another one after it lost all data.
    #[serde(default, deserialize_with = "unsigned")]
    pub(crate) cluster_id: u64,
    /// The last change.
    #[serde(default, deserialize_with = "number")]
    pub(crate) revision: i64,
}

/// A condition of a transaction.
#[derive(Debug, Clone)]
pub(crate) enum Condition {
    /// The key is not there.
    Absent(String),
    /// The key was made by this revision and ends with this lease: revisions alone may come again after a loss of all data.
    Is {
        /// The key.
        key: String,
        /// The revision that made it.
        revision: i64,
        /// Its lease.
        lease: i64,
    },
}

/// A step of a transaction.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    /// Sets a key, with a lease or 0.
    Put(String, Vec<u8>, i64),
    /// Removes a key.
    Delete(String),
    /// Reads a key.
    Get(String),
}

/// A transaction: all conditions hold and `then` is done, or else `otherwise`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Transaction {
    pub(crate) conditions: Vec<Condition>,
    pub(crate) then: Vec<Op>,
    pub(crate) otherwise: Vec<Op>,
}

/// The result of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TransactionDone {
    /// True if all conditions held.
    pub(crate) succeeded: bool,
    pub(crate) header: EngineHeader,
    /// The keys that were read, in order.
    pub(crate) found: Vec<KeyValue>,
}

impl Transaction {
    /// Its JSON; wiped when dropped.
    pub(super) fn body(&self) -> Zeroizing<Vec<u8>> {
        let conditions = self.conditions.iter().flat_map(|condition| match condition {
            Condition::Absent(key) => {
                vec![json!({"key": encode(key), "target": "CREATE", "create_revision": "0"})]
            }
            Condition::Is {
                key,
                revision,
                lease,
            } => vec![
                json!({"key": encode(key), "target": "CREATE", "create_revision": revision.to_string()}),
                json!({"key": encode(key), "target": "LEASE", "lease": lease.to_string()}),
            ],
        });
        let ops = |ops: &[Op]| ops.iter().map(op).collect::<Vec<_>>();
        to_body(&json!({
            "compare": conditions.collect::<Vec<_>>(),
            "success": ops(&self.then),
            "failure": ops(&self.otherwise),
        }))
    }
}

fn op(op: &Op) -> Json {
    match op {
        Op::Put(key, value, lease) => json!({"request_put": {
            "key": encode(key), "value": encode(value), "lease": lease.to_string(),
        }}),
        Op::Delete(key) => json!({"request_delete_range": {"key": encode(key)}}),
        Op::Get(key) => json!({"request_range": {"key": encode(key)}}),
    }
}

/// The end of all keys that begin with a prefix. Ours end with a slash.
pub(super) fn range_end(prefix: &str) -> String {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    encode(end)
}

pub(super) fn encode(bytes: impl AsRef<[u8]>) -> String {
    BASE64.encode(bytes)
}

pub(super) fn to_body(json: &impl Serialize) -> Zeroizing<Vec<u8>> {
    // Text and numbers: writing them to memory cannot fail.
    Zeroizing::new(serde_json::to_vec(json).unwrap_or_default())
}

/// `POST /v3/kv/range`
#[derive(Deserialize)]
pub(super) struct RangeReply {
    #[serde(default)]
    pub(super) header: EngineHeader,
    #[serde(default)]
    pub(super) kvs: Vec<KeyValue>,
    #[serde(default)]
    pub(super) more: bool,
}

/// `POST /v3/kv/txn`
#[derive(Deserialize)]
pub(super) struct TransactionReply {
    #[serde(default)]
    header: EngineHeader,
    #[serde(default)]
    succeeded: bool,
    #[serde(default)]
    responses: Vec<OpReply>,
}

#[derive(Deserialize)]
struct OpReply {
    response_range: Option<RangeReply>,
}

impl From<TransactionReply> for TransactionDone {
    fn from(reply: TransactionReply) -> Self {
        let ranges = reply
            .responses
            .into_iter()
            .filter_map(|op| op.response_range);
        Self {
            succeeded: reply.succeeded,
            header: reply.header,
            found: ranges.flat_map(|range| range.kvs).collect(),
        }
    }
}

/// `POST /v3/lease/grant`, and the inside of `/v3/lease/keepalive`
#[derive(Deserialize)]
pub(super) struct LeaseReply {
    #[serde(default)]
    pub(super) header: EngineHeader,
    #[serde(rename = "ID", default, deserialize_with = "number")]
    pub(super) id: i64,
    /// Left out when the lease is gone.
    #[serde(rename = "TTL", default, deserialize_with = "number")]
    pub(super) ttl: i64,
}

/// A reply that is streamed.
#[derive(Deserialize)]
pub(super) struct Streamed<T> {
    pub(super) result: Option<T>,
    pub(super) error: Option<StreamedError>,
}

#[derive(Deserialize)]
pub(super) struct StreamedError {
    #[serde(default)]
    pub(super) grpc_code: i64,
    #[serde(default)]
    pub(super) message: String,
}

/// One line of `POST /v3/watch`.
#[derive(Deserialize)]
pub(super) struct WatchReply {
    #[serde(default)]
    pub(super) header: EngineHeader,
    #[serde(default)]
    pub(super) canceled: bool,
    #[serde(default)]
    pub(super) cancel_reason: String,
    #[serde(default, deserialize_with = "number")]
    pub(super) compact_revision: i64,
    #[serde(default)]
    pub(super) events: Vec<WatchEvent>,
}

/// A change of a key.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct WatchEvent {
    /// Left out for a put.
    #[serde(rename = "type", default)]
    kind: String,
    /// The key as it is now.
    pub(crate) kv: KeyValue,
}

impl WatchEvent {
    /// True if the key is gone.
    pub(crate) fn is_deletion(&self) -> bool {
        self.kind == "DELETE"
    }
}

/// An error of the gateway. It holds the same words as `error` once more.
#[derive(Deserialize)]
pub(super) struct ErrorReply {
    #[serde(default)]
    pub(super) code: i64,
    #[serde(default)]
    pub(super) message: String,
}

fn number<'de, D: Deserializer<'de>>(from: D) -> Result<i64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Number<'a> {
        Text(Cow<'a, str>),
        Number(i64),
    }
    match Number::deserialize(from)? {
        Number::Text(text) => text.parse().map_err(D::Error::custom),
        Number::Number(number) => Ok(number),
    }
}

fn unsigned<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    <Cow<'_, str>>::deserialize(from)?
        .parse()
        .map_err(D::Error::custom)
}

fn bytes<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
    BASE64
        .decode(&*<Cow<'_, str>>::deserialize(from)?)
        .map_err(D::Error::custom)
}

fn text<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    String::from_utf8(bytes(from)?).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusal_of_etcd_is_read() {
        // As etcd 3.4.23 writes it.
        let text = r#"{"error":"etcdserver: permission denied","message":"etcdserver: permission denied","code":7}"#;
        let reply: ErrorReply = serde_json::from_str(text).unwrap();
        assert_eq!(
            (reply.code, reply.message.as_str()),
            (7, "etcdserver: permission denied")
        );
    }
}
