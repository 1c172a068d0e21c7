//! Faults: all that goes wrong on purpose.

use super::call::{Endpoint, SimRequest};
use super::reply::{Body, Reply};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use std::time::Duration;

/// A fault that strikes calls until it is healed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimFault {
    /// The account whose calls it strikes: an appid, a corpid, or `corpid/agentid`; any when absent.
    #[serde(default)]
    pub account: Option<String>,
    /// The endpoint that it strikes; any when absent.
    #[serde(default)]
    pub endpoint: Option<Endpoint>,
    /// Calls that it strikes before it heals by itself; never when absent.
    #[serde(default)]
    pub times: Option<u32>,
    /// Delay of the answer; in JSON, seconds.
    #[serde(default, with = "super::account::seconds")]
    pub delay: Duration,
    /// True if the platform has done its work (counted, minted) before the fault strikes.
    #[serde(default)]
    pub works: bool,
    /// Its effect.
    #[serde(default)]
    pub effect: Effect,
}

/// The effect of a fault.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// The delay alone.
    #[default]
    None,
    /// Refuses with an errcode, with other words than the platform's if given.
    Refuse {
        /// The errcode.
        errcode: i64,
        /// The words; a rid is added.
        #[serde(default)]
        errmsg: Option<String>,
    },
    /// Another HTTP status, with a web page.
    Status(u16),
    /// No answer ever; the connection stays open.
    Hang,
    /// The connection is reset.
    Reset,
    /// The true answer, cut in half.
    HalfBody,
    /// An answer without an end, as fast as it is read.
    Endless,
    /// An answer without an end, a byte each 100 ms.
    Drip,
    /// The true answer behind 10 MB of white space.
    Huge,
    /// The login page of a proxy, with status 200.
    LoginPage,
    /// A redirect to `/redirected`, where following is counted and a dead token handed out.
    Redirect,
    /// Status 200 and nothing.
    Empty,
    /// The true answer with another token or ticket in it.
    Value(String),
    /// The true answer with another `expires_in`: any JSON.
    ExpiresIn(Json),
    /// Any text with status 200.
    Body(String),
    /// Any bytes with status 200.
    Bytes(Vec<u8>),
    /// Refuses with -1 and puts the URL and the body of the request into `errmsg`, secret and all.
    Echo,
}

impl Effect {
    /// Refuses with an errcode and the platform's words.
    pub const fn errcode(errcode: i64) -> Self {
        Self::Refuse {
            errcode,
            errmsg: None,
        }
    }

    /// Returns whether it only alters the true answer.
    pub(super) const fn alters(&self) -> bool {
        matches!(
            self,
            Self::None | Self::HalfBody | Self::Huge | Self::Value(_) | Self::ExpiresIn(_)
        )
    }

    /// One word for the log.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::None => "delay",
            Self::Refuse { .. } => "refuse",
            Self::Status(_) => "status",
            Self::Hang => "hang",
            Self::Reset => "reset",
            Self::HalfBody => "half_body",
            Self::Endless => "endless",
            Self::Drip => "drip",
            Self::Huge => "huge",
            Self::LoginPage => "login_page",
            Self::Redirect => "redirect",
            Self::Empty => "empty",
            Self::Value(_) => "value",
            Self::ExpiresIn(_) => "expires_in",
            Self::Body(_) | Self::Bytes(_) => "body",
            Self::Echo => "echo",
        }
    }
}

impl From<Effect> for SimFault {
    /// A fault that strikes every call of everybody.
    fn from(effect: Effect) -> Self {
        Self {
            account: None,
            endpoint: None,
            times: None,
            delay: Duration::ZERO,
            works: false,
            effect,
        }
    }
}

impl SimFault {
    /// Makes every call slow.
    pub fn delay(delay: Duration) -> Self {
        Self {
            delay,
            ..Effect::None.into()
        }
    }

    /// Only the calls of an account: an appid, a corpid, or `corpid/agentid`.
    #[must_use]
    pub fn of(self, account: &str) -> Self {
        Self {
            account: Some(account.into()),
            ..self
        }
    }

    /// Only calls of an endpoint.
    #[must_use]
    pub fn at(self, endpoint: Endpoint) -> Self {
        Self {
            endpoint: Some(endpoint),
            ..self
        }
    }

    /// Heals after that many calls.
    #[must_use]
    pub fn times(self, times: u32) -> Self {
        Self {
            times: Some(times),
            ..self
        }
    }

    /// Strikes after the platform has done its work.
    #[must_use]
    pub fn after_work(self) -> Self {
        Self {
            works: true,
            ..self
        }
    }
}

impl SimFault {
    /// Turns the true answer to a request into the faulty one.
    pub(super) fn strike(self, request: &SimRequest<'_>, truth: Reply) -> Reply {
        let reply = match self.effect {
            Effect::None | Effect::Refuse { .. } => truth,
            Effect::Status(status) => Reply::page(status, "<html><h1>Sorry</h1></html>"),
            Effect::Hang => truth.with(Body::Never),
            Effect::Reset => truth.with(Body::Reset),
            Effect::Endless => truth.with(Body::Endless),
            Effect::Drip => truth.with(Body::Drip),
            Effect::Empty => truth.with(Body::Whole(Vec::new())),
            Effect::Bytes(bytes) => truth.with(Body::Whole(bytes)),
            Effect::Body(text) => truth.with(Body::Whole(text.into())),
            Effect::HalfBody => {
                let mut bytes = truth.to_json().to_string().into_bytes();
                bytes.truncate(bytes.len() / 2);
                truth.with(Body::Half(bytes))
            }
            Effect::Huge => {
                let mut bytes = vec![b' '; 10_000_000];
                bytes.extend(truth.text().unwrap_or_default().bytes());
                truth.with(Body::Whole(bytes))
            }
            Effect::LoginPage => Reply::page(200, LOGIN_PAGE),
            Effect::Redirect => Reply {
                location: Some("/redirected".into()),
                ..Reply::page(302, "")
            },
            Effect::Value(value) => truth.altered(["access_token", "ticket"], &value.into()),
            Effect::ExpiresIn(value) => truth.altered(["expires_in"], &value),
            Effect::Echo => {
                let SimRequest { path, query, .. } = request;
                let body = String::from_utf8_lossy(request.body);
                let errmsg = format!("bad gateway: {path}?{query} {body}");
                Reply::json(&serde_json::json!({"errcode": -1, "errmsg": errmsg}))
            }
        };
        Reply {
            delay: self.delay,
            ..reply
        }
    }
}

const LOGIN_PAGE: &str = "<!DOCTYPE html><html><head><title>Login</title></head><body><form method=post \
    action=/login><input name=user><input name=password type=password></form></body></html>";
