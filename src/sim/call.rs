//! A call: its endpoint, its parameters, and how it is refused.

use crate::platform::Platform;
use crate::platform::wechat::WECHAT;
use crate::platform::wecom::WECOM;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr};

/// A request to the platform, as far as the platform looks at it.
#[derive(Clone, Copy)]
pub struct SimRequest<'a> {
    /// `GET`, `POST`, …
    pub method: &'a str,
    /// The path of the URL.
    pub path: &'a str,
    /// The query of the URL, without its question mark.
    pub query: &'a str,
    /// True if the body came chunked, that is without a `Content-Length`.
    pub chunked: bool,
    /// The body.
    pub body: &'a [u8],
    /// The address that it came from.
    pub remote_ip: IpAddr,
}

impl<'a> SimRequest<'a> {
    /// A GET of a path with its query, from loopback.
    pub fn get(target: &'a str) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Self {
            method: "GET",
            path,
            query,
            chunked: false,
            body: b"",
            remote_ip: Ipv4Addr::LOCALHOST.into(),
        }
    }

    /// A POST of a body with its length, from loopback.
    pub fn post(target: &'a str, body: &'a [u8]) -> Self {
        Self {
            method: "POST",
            body,
            ..Self::get(target)
        }
    }

    /// The first parameter of the query with that name.
    pub(super) fn parameter(&self, name: &str) -> Option<Cow<'a, str>> {
        form_urlencoded::parse(self.query.as_bytes())
            .find_map(|(key, value)| (key == name).then_some(value))
    }
}

/// A call that the platform knows. Named by its path below `/cgi-bin/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Endpoint {
    /// `GET token`: classic.
    Token,
    /// `POST stable_token`.
    StableToken,
    /// `GET gettoken`: 企业微信.
    GetToken,
    /// `GET ticket/getticket`: `type=jsapi` or `type=wx_card`.
    GetTicket,
    /// `GET get_jsapi_ticket`: 企业微信.
    GetJsapiTicket,
    /// `GET ticket/get?type=agent_config`: 企业微信.
    AgentTicket,
    /// `GET get_api_domain_ip`, of either host.
    ApiDomainIp,
    /// `GET menu/get`.
    MenuGet,
    /// `GET getcallbackip`, of either host.
    CallbackIp,
    /// `POST openapi/quota/get`: the platform's own count of the calls at an endpoint.
    QuotaGet,
    /// `POST clear_quota/v2`: clears all counts.
    ClearQuota,
}

impl Endpoint {
    /// Every endpoint; each is at the index of its discriminant.
    pub const ALL: [Self; 11] = [
        Self::Token,
        Self::StableToken,
        Self::GetToken,
        Self::GetTicket,
        Self::GetJsapiTicket,
        Self::AgentTicket,
        Self::ApiDomainIp,
        Self::MenuGet,
        Self::CallbackIp,
        Self::QuotaGet,
        Self::ClearQuota,
    ];

    /// The path below `/cgi-bin/`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::StableToken => "stable_token",
            Self::GetToken => "gettoken",
            Self::GetTicket => "ticket/getticket",
            Self::GetJsapiTicket => "get_jsapi_ticket",
            Self::AgentTicket => "ticket/get",
            Self::ApiDomainIp => "get_api_domain_ip",
            Self::MenuGet => "menu/get",
            Self::CallbackIp => "getcallbackip",
            Self::QuotaGet => "openapi/quota/get",
            Self::ClearQuota => "clear_quota/v2",
        }
    }

    /// The endpoint at a path such as `/cgi-bin/token`.
    pub fn at(path: &str) -> Option<Self> {
        Self::named(path.strip_prefix("/cgi-bin/")?)
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|each| each.name() == name)
    }

    /// Returns whether it grants access tokens for an AppSecret; the others are called with such a token.
    pub const fn grants_tokens(self) -> bool {
        matches!(self, Self::Token | Self::StableToken | Self::GetToken)
    }

    /// Returns whether it is called with the AppSecret; the others are called with an access token.
    pub(super) const fn takes_secret(self) -> bool {
        self.grants_tokens() || matches!(self, Self::ClearQuota)
    }

    /// The platform that it is of; `None` if it is of both.
    pub(super) const fn platform(self) -> Option<&'static Platform> {
        match self {
            Self::GetToken | Self::GetJsapiTicket | Self::AgentTicket => Some(WECOM),
            Self::ApiDomainIp | Self::CallbackIp => None,
            _ => Some(WECHAT),
        }
    }

    const fn method(self) -> &'static str {
        match self {
            Self::StableToken | Self::QuotaGet | Self::ClearQuota => "POST",
            _ => "GET",
        }
    }
}

impl Serialize for Endpoint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = Cow::<str>::deserialize(deserializer)?;
        Self::named(&name)
            .ok_or_else(|| serde::de::Error::custom(format_args!("unknown endpoint `{name}`")))
    }
}

/// The parameters of a call. An empty one counts as missing.
#[derive(Default, Deserialize)]
pub(super) struct Params<'a> {
    pub(super) grant_type: Option<Cow<'a, str>>,
    /// appid or corpid.
    #[serde(rename = "appid")]
    pub(super) id: Option<Cow<'a, str>>,
    #[serde(alias = "appsecret")]
    pub(super) secret: Option<Cow<'a, str>>,
    /// The path whose count is asked for.
    pub(super) cgi_path: Option<Cow<'a, str>>,
    pub(super) access_token: Option<Cow<'a, str>>,
    #[serde(rename = "type")]
    pub(super) ticket: Option<Cow<'a, str>>,
    #[serde(default)]
    pub(super) force_refresh: bool,
}

impl<'a> Params<'a> {
    /// Reads them from where the endpoint has them: the body of `stable_token`, else the query.
    pub(super) fn of(endpoint: Endpoint, request: &SimRequest<'a>) -> Result<Self, Denial> {
        if request.method != endpoint.method() {
            return Err(Denial::of(match endpoint.method() {
                "POST" => 43002,
                _ => 43001,
            }));
        }
        let mut params = if endpoint.method() == "POST" {
            let body: Self = serde_json::from_slice(request.body).map_err(|_| Denial::of(47001))?;
            let access_token = request.parameter("access_token");
            Self {
                access_token: access_token.or(body.access_token),
                ..body
            }
        } else {
            let mut params = Self::default();
            for (key, value) in form_urlencoded::parse(request.query.as_bytes()) {
                let (id, secret) = match endpoint {
                    Endpoint::GetToken => ("corpid", "corpsecret"),
                    _ => ("appid", "secret"),
                };
                match &*key {
                    key if key == id => params.id = Some(value),
                    key if key == secret => params.secret = Some(value),
                    "grant_type" => params.grant_type = Some(value),
                    "access_token" => params.access_token = Some(value),
                    "type" => params.ticket = Some(value),
                    _ => {}
                }
            }
            params
        };
        for param in [&mut params.id, &mut params.secret, &mut params.access_token] {
            param.take_if(|value| value.is_empty());
        }
        Ok(params)
    }
}

/// A refusal: an errcode and what the platform says about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Denial {
    pub(super) errcode: i64,
    pub(super) errmsg: Cow<'static, str>,
}

impl Denial {
    /// The errcode with the platform's usual words.
    pub(super) fn of(errcode: i64) -> Self {
        Self {
            errcode,
            errmsg: Cow::Borrowed(words(errcode)),
        }
    }

    /// The errcode with other words.
    pub(super) fn saying(errcode: i64, errmsg: impl Into<Cow<'static, str>>) -> Self {
        Self {
            errcode,
            errmsg: errmsg.into(),
        }
    }
}

const fn words(errcode: i64) -> &'static str {
    match errcode {
        -1 => "system error",
        -1000 => "system busy",
        40001 => "invalid credential, access_token is invalid or not latest",
        40002 => "invalid grant_type",
        40013 => "invalid appid",
        40014 => "invalid access_token",
        40125 => "invalid appsecret",
        40243 => "AppSecret is frozen, please unfreeze and try again",
        40097 => "invalid args",
        41001 => "access_token missing",
        41002 => "appid missing",
        41004 => "appsecret missing",
        42001 => "access_token expired",
        43001 => "require GET method",
        43002 => "require POST method",
        45009 => "reach max api daily quota limit",
        45011 => "api minute-quota reach limit, must slower, retry next minute",
        45033 => "api concurrent out of limit",
        47001 => "data format error",
        48001 => "api unauthorized",
        76021 => "cgi_path not found, please check",
        48006 => "forbid to clear quota because of reaching the limit",
        50004 => "forbidden to use token interface",
        50007 => "account is frozen",
        61024 => "third party platform account can not call this api",
        89501 => "ip waits for confirmation of administrator",
        89503 => "this ip call needs confirmation of administrator",
        89506 => "ip is rejected twice by administrator, blocked for 24 hours",
        89507 => "ip is rejected by administrator, blocked for 1 hour",
        _ => "error",
    }
}
