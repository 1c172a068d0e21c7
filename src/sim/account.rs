//! An account as the platform treats it.

use super::call::Endpoint;
use super::line::TokenLine;
use super::quota::Quota;
use crate::platform::Platform;
use crate::platform::wechat::{CLASSIC, WECHAT};
use crate::platform::wecom::{GETTOKEN, WECOM};
use crate::terms::Repeat;
use serde::Deserialize;
use serde_json::Value as Json;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

/// The last part of a ticket's life, in which a call brings a new one.
const TICKET_WINDOW: Duration = Duration::from_secs(300);

/// An account of the platform. As JSON, durations are seconds (fractions too) and all but `appid` (or `corpid`) and
/// `secret` may be left out.
#[derive(Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimAccount {
    /// appid, or corpid: what begins with `ww` is 企业微信.
    #[serde(alias = "appid", alias = "corpid")]
    pub id: String,
    /// 企业微信: which app of the corp, where there are several.
    #[serde(default)]
    pub agentid: Option<u32>,
    /// The AppSecret.
    pub secret: String,
    /// Lifetime of a token: 7200 s.
    #[serde(default = "two_hours", with = "seconds")]
    pub lifetime: Duration,
    /// The last part of a life, in which a call brings a new token: 300 s or a quarter of a life, whichever is less;
    /// none for 企业微信, where the same token comes until it ends.
    #[serde(default, with = "optional_seconds")]
    pub window: Option<Duration>,
    /// Time that a replaced token lives on: 300 s or a quarter of a life, whichever is less.
    #[serde(default, with = "optional_seconds")]
    pub overlap: Option<Duration>,
    /// Lifetime of a ticket: that of a token.
    #[serde(default, with = "optional_seconds")]
    pub ticket_lifetime: Option<Duration>,
    /// True if a ticket in mid-life comes with the seconds of a whole life.
    #[serde(default)]
    pub ticket_looks_new: bool,
    /// 企业微信: whether each `gettoken` brings a new token; the ones before live on.
    #[serde(default)]
    pub gettoken_mints: bool,
    /// Time in which a new token is refused with 40001 before it works.
    #[serde(default, with = "seconds")]
    pub settle: Duration,
    /// Minimum interval between forced refreshes: 30 s.
    #[serde(default = "half_a_minute", with = "seconds")]
    pub force_gap: Duration,
    /// The `Content-Type` of its answers.
    #[serde(default)]
    pub content_type: ContentType,
    /// The addresses that may call; all when absent.
    #[serde(default)]
    pub whitelist: Option<Vec<IpAddr>>,
    /// The address that calls seem to come from; the true one when absent.
    #[serde(default)]
    pub seen_as: Option<IpAddr>,
    /// Token calls a day: 2000 classic, 500,000 stable.
    #[serde(default)]
    pub per_day: Option<u32>,
    /// Token calls a minute: 10,000 stable.
    #[serde(default)]
    pub per_minute: Option<u32>,
    /// Ticket calls a day: 1000; 企业微信: 100 an hour and app, 400 a corp.
    #[serde(default)]
    pub tickets_per_day: Option<u32>,
}

/// The `Content-Type` of an answer: the platform is not of one mind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContentType {
    /// `application/json`
    #[default]
    Json,
    /// `application/json; encoding=utf-8`
    Encoding,
    /// `text/plain`
    Text,
}

impl ContentType {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Json => super::reply::JSON,
            Self::Encoding => "application/json; encoding=utf-8",
            Self::Text => "text/plain",
        }
    }
}

const fn two_hours() -> Duration {
    Duration::from_secs(7200)
}

const fn half_a_minute() -> Duration {
    Duration::from_secs(30)
}

impl SimAccount {
    /// An account that is treated as most are.
    pub fn new(id: &str, secret: &str) -> Self {
        Self {
            id: id.into(),
            agentid: None,
            secret: secret.into(),
            lifetime: two_hours(),
            window: None,
            overlap: None,
            ticket_lifetime: None,
            ticket_looks_new: false,
            gettoken_mints: false,
            settle: Duration::ZERO,
            force_gap: half_a_minute(),
            content_type: ContentType::default(),
            whitelist: None,
            seen_as: None,
            per_day: None,
            per_minute: None,
            tickets_per_day: None,
        }
    }

    /// One of many: the appid is `wx` and its number in 16 hex digits, the secret its number in 32.
    pub fn numbered(number: u64) -> Self {
        Self::new(&format!("wx{number:016x}"), &format!("{number:032x}"))
    }

    /// Sets how long its tokens live; windows not set otherwise shrink with it.
    pub fn lifetime(&mut self, lifetime: Duration) -> &mut Self {
        self.lifetime = lifetime;
        self
    }

    /// Its name in the simulation: its appid or corpid, with `/agentid` if it has one.
    pub fn key(&self) -> String {
        match self.agentid {
            Some(agentid) => format!("{}/{agentid}", self.id),
            None => self.id.clone(),
        }
    }

    /// The platform that it is of.
    pub(super) fn platform(&self) -> &'static Platform {
        if self.id.starts_with("ww") {
            WECOM
        } else {
            WECHAT
        }
    }

    /// The last part of a value's life, in which a call brings a new one.
    pub(super) fn window(&self, line: TokenLine) -> Duration {
        let window = match line.terms().map(|terms| terms.repeat) {
            Some(Repeat::New { .. }) => return Duration::MAX,
            Some(_) if line == TokenLine::Wecom && self.gettoken_mints => return Duration::MAX,
            Some(Repeat::Same { window, .. }) => window,
            None => TICKET_WINDOW,
        };
        self.window.unwrap_or_else(|| self.shortened(window))
    }

    /// Time that a replaced token lives on.
    pub(super) fn overlap(&self) -> Duration {
        let promised = CLASSIC.overlap().unwrap_or_default();
        self.overlap.unwrap_or_else(|| self.shortened(promised))
    }

    /// A part of a life of two hours, in a life that may be shorter.
    fn shortened(&self, part: Duration) -> Duration {
        part.min(self.lifetime / 4)
    }

    pub(super) fn quota(&self, endpoint: Endpoint) -> Quota {
        let (minute, hour, day) = match endpoint {
            Endpoint::Token => (self.per_minute, None, self.per_day.or(Some(2000))),
            Endpoint::StableToken => (
                self.per_minute.or(Some(10_000)),
                None,
                self.per_day.or(Some(500_000)),
            ),
            Endpoint::GetToken => (self.per_minute, None, self.per_day),
            Endpoint::GetTicket => (None, None, self.tickets_per_day.or(Some(1000))),
            Endpoint::GetJsapiTicket | Endpoint::AgentTicket => {
                (None, Some(GETTOKEN.ticket_limits.app), self.tickets_per_day)
            }
            Endpoint::ApiDomainIp
            | Endpoint::MenuGet
            | Endpoint::CallbackIp
            | Endpoint::QuotaGet
            | Endpoint::ClearQuota => (None, None, None),
        };
        Quota { minute, hour, day }
    }
}

impl FromStr for SimAccount {
    type Err = serde_json::Error;

    /// Reads `appid=wx…,secret=…,lifetime=40`: the keys of the JSON form, with JSON values or bare words.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let pair = |pair: &str| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let word = || Json::from(value);
            let value = match key {
                "appid" | "corpid" | "secret" => word(),
                _ => serde_json::from_str(value).unwrap_or_else(|_| word()),
            };
            (key.to_owned(), value)
        };
        serde_json::from_value(Json::Object(text.split(',').map(pair).collect()))
    }
}

/// A duration as a number of seconds.
pub(super) mod seconds {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use std::time::Duration;

    pub(in crate::sim) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Duration, D::Error> {
        Duration::try_from_secs_f64(f64::deserialize(deserializer)?).map_err(Error::custom)
    }

    pub(in crate::sim) fn serialize<S: Serializer>(
        duration: &Duration,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(duration.as_secs_f64())
    }
}

mod optional_seconds {
    use serde::Deserializer;
    use std::time::Duration;

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        super::seconds::deserialize(deserializer).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_in_one_argument() {
        let parse = str::parse::<SimAccount>;
        let account =
            parse("corpid=ww1,agentid=7,secret=123,lifetime=2.5,whitelist=[],content_type=text");
        let account = account.unwrap();
        assert_eq!((account.key(), &*account.secret), ("ww1/7".into(), "123"));
        assert_eq!(account.lifetime, Duration::from_millis(2500));
        assert_eq!(account.overlap(), Duration::from_millis(625));
        assert_eq!(account.whitelist, Some(Vec::new()));
        assert_eq!(account.content_type, ContentType::Text);
        for wrong in [
            "",
            "appid=wx1",
            "appid=wx1,secret=s,lifetme=1",
            "appid=wx1,secret=s,lifetime=-1",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
