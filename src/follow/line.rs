//! The lines of the stream.

use crate::account::AccountName;
use crate::value::{Value, ValueName};
use serde::Deserialize;
use std::borrow::Cow;

/// One value of one account.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject {
    /// The account.
    pub account: AccountName,
    /// The value of it.
    pub value: ValueName,
}

/// A valid value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    /// The value itself.
    pub token: Value,
    /// Its end, Unix seconds.
    pub expire_time: i64,
    /// The moment when it was obtained, Unix seconds.
    pub obtained_time: i64,
}

/// One line of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamLine {
    /// A value as it stands now; nothing when there is no valid one.
    Value {
        /// The account and the name of the value.
        subject: Subject,
        /// The appid or corpid of the account.
        appid: Box<str>,
        /// The value, if a valid one stands.
        holding: Option<Holding>,
    },
    /// The account is no more, or not for us.
    Gone(AccountName),
    /// All that stands has been told.
    Synced,
    /// A sign of life.
    Heartbeat,
    /// Something that only a newer version knows.
    Unknown,
}

/// A line that the stream never holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadLine;

#[derive(Deserialize)]
struct RawLine<'a> {
    #[serde(borrow)]
    account: Option<Cow<'a, str>>,
    #[serde(borrow)]
    appid: Option<Cow<'a, str>>,
    #[serde(borrow)]
    value: Option<Cow<'a, str>>,
    #[serde(borrow)]
    access_token: Option<Cow<'a, str>>,
    #[serde(borrow)]
    jsapi_ticket: Option<Cow<'a, str>>,
    #[serde(borrow)]
    wx_card_ticket: Option<Cow<'a, str>>,
    #[serde(borrow)]
    agent_ticket: Option<Cow<'a, str>>,
    expire_time: Option<i64>,
    obtained_time: Option<i64>,
    #[serde(default)]
    none: bool,
    #[serde(default)]
    gone: bool,
    #[serde(default)]
    synced: bool,
    heartbeat: Option<i64>,
}

impl StreamLine {
    /// Reads one line, without its newline.
    pub fn parse(text: &[u8]) -> Result<Self, BadLine> {
        let raw: RawLine<'_> = serde_json::from_slice(text).map_err(|_| BadLine)?;
        let Some(account) = &raw.account else {
            return Ok(match raw.heartbeat {
                _ if raw.synced => Self::Synced,
                Some(_) => Self::Heartbeat,
                None => Self::Unknown,
            });
        };
        let account = AccountName::parse(account).ok_or(BadLine)?;
        if raw.gone {
            return Ok(Self::Gone(account));
        }
        let Some(value) = raw.value.as_deref() else {
            return Ok(Self::Unknown);
        };
        let Some(value) = ValueName::parse(value) else {
            return Ok(Self::Unknown);
        };
        let appid = raw.appid.as_deref().filter(|id| is_id(id)).ok_or(BadLine)?;
        let holding = if raw.none {
            None
        } else {
            Some(raw.holding(value).ok_or(BadLine)?)
        };
        Ok(Self::Value {
            subject: Subject { account, value },
            appid: appid.into(),
            holding,
        })
    }
}

impl RawLine<'_> {
    fn holding(&self, value: ValueName) -> Option<Holding> {
        let token = match value {
            ValueName::AccessToken => &self.access_token,
            ValueName::JsapiTicket => &self.jsapi_ticket,
            ValueName::WxCardTicket => &self.wx_card_ticket,
            ValueName::AgentTicket => &self.agent_ticket,
        };
        Some(Holding {
            token: Value::parse(token.as_deref()?)?,
            expire_time: self.expire_time.filter(|time| is_time(*time))?,
            obtained_time: self.obtained_time.filter(|time| is_time(*time))?,
        })
    }
}

fn is_id(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    (1..=128).contains(&text.len()) && text.bytes().all(allowed)
}

/// Returns whether it can be a Unix time: from 1970 to the year 2286.
fn is_time(seconds: i64) -> bool {
    (0..10_000_000_000).contains(&seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(text: &str) -> AccountName {
        AccountName::parse(text).unwrap()
    }

    fn value(value: ValueName, token: Option<&str>) -> StreamLine {
        StreamLine::Value {
            subject: Subject {
                account: name("shop"),
                value,
            },
            appid: "wx0123456789abcdef".into(),
            holding: token.map(|token| Holding {
                token: Value::parse(token).unwrap(),
                expire_time: 7200,
                obtained_time: 0,
            }),
        }
    }

    #[test]
    fn lines_are_read() {
        let head = r#"{"account":"shop","appid":"wx0123456789abcdef""#;
        let times = r#""expire_time":7200,"obtained_time":0}"#;
        for (text, expected) in [
            (
                format!(r#"{head},"value":"access_token","access_token":"T",{times}"#),
                Ok(value(ValueName::AccessToken, Some("T"))),
            ),
            (
                format!(r#"{head},"value":"jsapi_ticket","jsapi_ticket":"T","new":[1],{times}"#),
                Ok(value(ValueName::JsapiTicket, Some("T"))),
            ),
            (
                format!(r#"{head},"value":"access_token","none":true}}"#),
                Ok(value(ValueName::AccessToken, None)),
            ),
            (
                r#"{"account":"shop","gone":true}"#.to_owned(),
                Ok(StreamLine::Gone(name("shop"))),
            ),
            (r#"{"synced":true}"#.to_owned(), Ok(StreamLine::Synced)),
            (
                r#"{"heartbeat":1700000000}"#.to_owned(),
                Ok(StreamLine::Heartbeat),
            ),
            (r#"{"news":1}"#.to_owned(), Ok(StreamLine::Unknown)),
            (
                format!(r#"{head},"value":"new_ticket","new_ticket":"T",{times}"#),
                Ok(StreamLine::Unknown),
            ),
            // A value that is not named, not acceptable, or without its end.
            (
                format!(r#"{head},"value":"jsapi_ticket","access_token":"T",{times}"#),
                Err(BadLine),
            ),
            (
                format!(r#"{head},"value":"access_token","access_token":"a b",{times}"#),
                Err(BadLine),
            ),
            (
                format!(r#"{head},"value":"access_token","access_token":"T"}}"#),
                Err(BadLine),
            ),
            (r#"{"account":"../x","gone":true}"#.to_owned(), Err(BadLine)),
            (
                r#"{"account":"shop","appid":"a'b","value":"access_token","none":true}"#.to_owned(),
                Err(BadLine),
            ),
            ("[]".to_owned(), Err(BadLine)),
            (String::new(), Err(BadLine)),
        ] {
            assert_eq!(StreamLine::parse(text.as_bytes()), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_line_is_too_strange(text in "\\PC{0,60}|[{}:,\"a-z0-9\\\\]{0,60}") {
            let _ = StreamLine::parse(text.as_bytes());
        }
    }
}
