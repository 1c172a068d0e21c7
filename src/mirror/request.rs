//! From a request to what an app wants. Reads what SDKs send, as the platform does.

use super::reply::Refused;
use crate::value::ValueName;
use hyper::Method;
use serde_json::Value as Json;
use std::borrow::Cow;
use zeroize::Zeroizing;

/// An endpoint of the platform that the mirror answers for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AppCall {
    /// `GET token`
    Token,
    /// `POST stable_token`
    StableToken,
    /// `GET gettoken`, of 企业微信.
    GetToken,
    /// `GET ticket/getticket`
    GetTicket,
    /// `GET get_jsapi_ticket`, of 企业微信.
    GetJsapiTicket,
    /// `GET ticket/get`, of 企业微信.
    AgentTicket,
}

/// An app's request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum AppRequest {
    /// An access token, for the key that was made for the app.
    Token {
        /// appid or corpid.
        id: Box<str>,
        key: Zeroizing<String>,
        /// The app doubts the token that it has.
        doubted: bool,
    },
    /// A ticket, for an access token.
    Ticket {
        value: ValueName,
        token: Zeroizing<String>,
    },
}

impl AppCall {
    /// The endpoint at a path; SDKs put more slashes into it than there should be.
    pub(crate) fn at(path: &str) -> Option<Self> {
        let mut parts = path.split('/').filter(|part| !part.is_empty());
        if parts.next() != Some("cgi-bin") {
            return None;
        }
        Some(match (parts.next()?, parts.next(), parts.next()) {
            ("token", None, None) => Self::Token,
            ("stable_token", None, None) => Self::StableToken,
            ("gettoken", None, None) => Self::GetToken,
            ("ticket", Some("getticket"), None) => Self::GetTicket,
            ("get_jsapi_ticket", None, None) => Self::GetJsapiTicket,
            ("ticket", Some("get"), None) => Self::AgentTicket,
            _ => return None,
        })
    }

    /// Tells whether it is of 企业微信.
    pub(crate) const fn is_wecom(self) -> bool {
        matches!(
            self,
            Self::GetToken | Self::GetJsapiTicket | Self::AgentTicket
        )
    }

    /// Tells whether its parameters are in the body.
    pub(super) const fn has_body(self) -> bool {
        matches!(self, Self::StableToken)
    }

    /// Refuses a method that the platform refuses here.
    pub(super) fn check_method(self, method: &Method) -> Result<(), Refused> {
        match self {
            Self::StableToken if *method != Method::POST => Err(Refused::RequirePost),
            Self::StableToken => Ok(()),
            _ if matches!(*method, Method::GET | Method::HEAD) => Ok(()),
            _ => Err(Refused::RequireGet),
        }
    }
}

impl AppRequest {
    /// Reads the parameters of an endpoint: of its query, or of its body.
    pub(crate) fn parse(endpoint: AppCall, query: &str, body: &[u8]) -> Result<Self, Refused> {
        match endpoint {
            AppCall::Token => Self::token(
                parameter(query, "grant_type").as_deref(),
                (parameter(query, "appid"), parameter(query, "secret")),
                false,
            ),
            AppCall::StableToken => {
                let mut json: Json =
                    serde_json::from_slice(body).map_err(|_| Refused::BadFormat)?;
                let mut text = |key| match json.get_mut(key).map(Json::take) {
                    Some(Json::String(text)) => Some(Cow::Owned(text)),
                    _ => None,
                };
                let grant_type = text("grant_type");
                let credential = (text("appid"), text("secret"));
                let doubted = json.get("force_refresh").is_some_and(is_true);
                Self::token(grant_type.as_deref(), credential, doubted)
            }
            AppCall::GetToken => {
                let id = parameter(query, "corpid").ok_or(Refused::CorpidMissing)?;
                let key = parameter(query, "corpsecret").ok_or(Refused::CorpsecretMissing)?;
                Ok(Self::with(&id, key, false))
            }
            AppCall::GetTicket => Self::ticket(query, |kind| match kind {
                "jsapi" => Some(ValueName::JsapiTicket),
                "wx_card" => Some(ValueName::WxCardTicket),
                _ => None,
            }),
            AppCall::GetJsapiTicket => Self::ticket(query, |_| Some(ValueName::JsapiTicket)),
            AppCall::AgentTicket => Self::ticket(query, |kind| {
                (kind == "agent_config").then_some(ValueName::AgentTicket)
            }),
        }
    }

    fn token(
        grant_type: Option<&str>,
        (id, key): (Option<Cow<'_, str>>, Option<Cow<'_, str>>),
        doubted: bool,
    ) -> Result<Self, Refused> {
        if grant_type != Some("client_credential") {
            return Err(Refused::BadGrantType);
        }
        let filled = |value: Option<Cow<'_, str>>| {
            value.filter(|value| !value.is_empty()).map(Cow::into_owned)
        };
        let id = filled(id).ok_or(Refused::AppidMissing)?;
        let key = filled(key).ok_or(Refused::SecretMissing)?;
        Ok(Self::with(&id, Cow::Owned(key), doubted))
    }

    fn with(id: &str, key: Cow<'_, str>, doubted: bool) -> Self {
        Self::Token {
            id: id.into(),
            key: Zeroizing::new(key.into_owned()),
            doubted,
        }
    }

    fn ticket(query: &str, value: impl Fn(&str) -> Option<ValueName>) -> Result<Self, Refused> {
        let token = parameter(query, "access_token").ok_or(Refused::TokenMissing)?;
        let kind = parameter(query, "type").unwrap_or_default();
        Ok(Self::Ticket {
            value: value(&kind).ok_or(Refused::BadArguments)?,
            token: Zeroizing::new(token.into_owned()),
        })
    }
}

/// The first parameter of that name which is not empty.
fn parameter<'a>(query: &'a str, name: &str) -> Option<Cow<'a, str>> {
    form_urlencoded::parse(query.as_bytes())
        .find_map(|(key, value)| (key == name && !value.is_empty()).then_some(value))
}

/// SDKs of languages without types send a flag as a number or text too.
fn is_true(flag: &Json) -> bool {
    match flag {
        Json::Bool(flag) => *flag,
        Json::Number(number) => number.as_i64() == Some(1),
        Json::String(text) => text == "true" || text == "1",
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_are_found_whatever_their_slashes() {
        for (path, endpoint) in [
            ("/cgi-bin/token", Some(AppCall::Token)),
            ("//cgi-bin/token", Some(AppCall::Token)),
            ("/cgi-bin//stable_token/", Some(AppCall::StableToken)),
            ("/cgi-bin/gettoken", Some(AppCall::GetToken)),
            ("/cgi-bin/ticket/getticket", Some(AppCall::GetTicket)),
            ("/cgi-bin/get_jsapi_ticket", Some(AppCall::GetJsapiTicket)),
            ("///cgi-bin/ticket//get", Some(AppCall::AgentTicket)),
            ("/", None),
            ("*", None),
            ("/cgi-bin", None),
            ("/cgi-bin/ticket", None),
            ("/cgi-bin/token/more", None),
            ("/cgi-bin/ticket/getticket/more", None),
            ("/cgi-bin/menu/get", None),
            ("/token", None),
        ] {
            assert_eq!(AppCall::at(path), endpoint, "{path}");
        }
    }

    #[expect(clippy::unnecessary_wraps, reason = "as it is compared")]
    fn token(doubted: bool) -> Result<AppRequest, Refused> {
        Ok(AppRequest::with("wx1", Cow::Borrowed("k"), doubted))
    }

    #[test]
    fn queries_are_read_as_sdks_send_them() {
        use AppCall::{AgentTicket, GetJsapiTicket, GetTicket, GetToken, Token};
        let ticket = |value| {
            let token = Zeroizing::new("t".to_owned());
            Ok(AppRequest::Ticket { value, token })
        };
        for (endpoint, query, wanted) in [
            (
                Token,
                "grant_type=client_credential&appid=wx1&secret=k",
                token(false),
            ),
            (
                Token,
                "&secret=k&appid=wx1&&grant_type=client_credential",
                token(false),
            ),
            (
                Token,
                "grant_type=&appid=wx1&secret=k",
                Err(Refused::BadGrantType),
            ),
            (Token, "appid=wx1&secret=k", Err(Refused::BadGrantType)),
            (
                Token,
                "grant_type=client_credential&secret=k",
                Err(Refused::AppidMissing),
            ),
            (
                Token,
                "grant_type=client_credential&appid=wx1&secret=",
                Err(Refused::SecretMissing),
            ),
            (GetToken, "corpid=wx1&corpsecret=k", token(false)),
            (GetToken, "corpsecret=k", Err(Refused::CorpidMissing)),
            (GetToken, "corpid=wx1", Err(Refused::CorpsecretMissing)),
            (
                GetTicket,
                "&type=jsapi&access_token=t",
                ticket(ValueName::JsapiTicket),
            ),
            (
                GetTicket,
                "access_token=t&type=wx_card",
                ticket(ValueName::WxCardTicket),
            ),
            (
                GetTicket,
                "access_token=t&type=2",
                Err(Refused::BadArguments),
            ),
            (GetTicket, "access_token=t", Err(Refused::BadArguments)),
            (
                GetTicket,
                "access_token=&type=jsapi",
                Err(Refused::TokenMissing),
            ),
            (
                GetJsapiTicket,
                "access_token=t",
                ticket(ValueName::JsapiTicket),
            ),
            (
                AgentTicket,
                "&type=agent_config&access_token=t",
                ticket(ValueName::AgentTicket),
            ),
        ] {
            assert_eq!(AppRequest::parse(endpoint, query, b""), wanted, "{query}");
        }
    }

    #[test]
    fn bodies_are_read_as_sdks_send_them() {
        for (body, wanted) in [
            (
                r#"{"grant_type":"client_credential","appid":"wx1","secret":"k"}"#,
                token(false),
            ),
            (
                r#"{"grant_type":"client_credential","appid":"wx1","secret":"k","force_refresh":false}"#,
                token(false),
            ),
            (
                r#"{"grant_type":"client_credential","appid":"wx1","secret":"k","force_refresh":true}"#,
                token(true),
            ),
            (
                r#"{"grant_type":"client_credential","appid":"wx1","secret":"k","force_refresh":"true"}"#,
                token(true),
            ),
            (
                r#"{"grant_type":"client_credential","appid":"wx1","secret":"k","force_refresh":1,"x":[]}"#,
                token(true),
            ),
            (
                r#"{"grant_type":"client_credential","appid":7,"secret":"k"}"#,
                Err(Refused::AppidMissing),
            ),
            ("[]", Err(Refused::BadGrantType)),
            ("appid=wx1", Err(Refused::BadFormat)),
            ("", Err(Refused::BadFormat)),
        ] {
            let parsed = AppRequest::parse(AppCall::StableToken, "", body.as_bytes());
            assert_eq!(parsed, wanted, "{body}");
        }
    }

    proptest! {
        #[test]
        fn anything_is_read_or_refused(path in "[/a-z_-]{0,30}", query in "\\PC*", body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = AppCall::at(&path);
            for endpoint in [AppCall::Token, AppCall::StableToken, AppCall::GetToken, AppCall::GetTicket, AppCall::AgentTicket] {
                let _ = AppRequest::parse(endpoint, &query, &body);
            }
        }
    }
}
