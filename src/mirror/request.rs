//! From a request to what an app wants. Reads what SDKs send, as the platform does.

use crate::platform::{AppWants, MirroredCall, Platform, Platforms, Refused};
use crate::value::ValueName;
use hyper::Method;
use serde_json::Value as Json;
use std::borrow::Cow;
use zeroize::Zeroizing;

/// A call of a platform that the mirror answers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AppCall {
    pub(crate) platform: &'static Platform,
    call: &'static MirroredCall,
}

/// An app's request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum AppRequest {
    /// An access token, for the key that was made for the app.
    Token {
        /// The id of the account.
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
    /// The call at a path; SDKs put more slashes into it than there should be.
    pub(crate) fn at(path: &str, platforms: Platforms) -> Option<Self> {
        platforms.0.iter().find_map(|platform| {
            let mut calls = platform.mirrored.calls.iter();
            let call = calls.find(|call| parts(call.path).eq(parts(path)))?;
            Some(Self { platform, call })
        })
    }

    /// Returns whether its parameters are in the body.
    pub(super) const fn has_body(self) -> bool {
        self.call.is_post
    }

    /// Refuses a method that the platform refuses here.
    pub(super) fn check_method(self, method: &Method) -> Result<(), Refused> {
        match (self.call.is_post, method) {
            (true, &Method::POST) | (false, &Method::GET | &Method::HEAD) => Ok(()),
            (true, _) => Err(Refused::RequirePost),
            (false, _) => Err(Refused::RequireGet),
        }
    }

    /// Reads the parameters: of the query, or of the body.
    pub(crate) fn parse(self, query: &str, body: &[u8]) -> Result<AppRequest, Refused> {
        let mut parameters = if self.has_body() {
            Parameters::Body(serde_json::from_slice(body).map_err(|_| Refused::BadFormat)?)
        } else {
            Parameters::Query(query)
        };
        match self.call.wants {
            AppWants::Token {
                grant_type,
                id,
                key,
                doubted,
            } => {
                let is_other = |text: Option<_>| text.as_deref() != Some("client_credential");
                if grant_type.is_some_and(|name| is_other(parameters.text(name))) {
                    return Err(Refused::BadGrantType);
                }
                let id = parameters.text(id).ok_or(Refused::IdMissing)?;
                let key = parameters.text(key).ok_or(Refused::KeyMissing)?;
                Ok(AppRequest::Token {
                    id: id.into(),
                    key: Zeroizing::new(key.into_owned()),
                    doubted: doubted.is_some_and(|name| parameters.is_true(name)),
                })
            }
            AppWants::Ticket(value) => {
                let token = parameters.text("access_token");
                let token = token.ok_or(Refused::TokenMissing)?;
                let kind = parameters.text("type").unwrap_or_default();
                Ok(AppRequest::Ticket {
                    value: value(&kind).ok_or(Refused::BadArguments)?,
                    token: Zeroizing::new(token.into_owned()),
                })
            }
        }
    }
}

/// The parts of a path between its slashes.
fn parts(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|part| !part.is_empty())
}

/// The parameters of a request.
enum Parameters<'q> {
    Query(&'q str),
    Body(Json),
}

impl<'q> Parameters<'q> {
    /// Takes the text of that name, the first that is not empty.
    fn text(&mut self, name: &str) -> Option<Cow<'q, str>> {
        match self {
            Self::Query(query) => form_urlencoded::parse(query.as_bytes())
                .find_map(|(key, value)| (key == name && !value.is_empty()).then_some(value)),
            Self::Body(json) => match json.get_mut(name).map(Json::take) {
                Some(Json::String(text)) if !text.is_empty() => Some(text.into()),
                _ => None,
            },
        }
    }

    /// Returns whether a flag is set. SDKs of languages without types send it as a number or text too.
    fn is_true(&mut self, name: &str) -> bool {
        if let Self::Body(json) = self
            && let Some(flag @ (Json::Bool(_) | Json::Number(_))) = json.get(name)
        {
            return *flag == true || *flag == 1;
        }
        matches!(self.text(name).as_deref(), Some("true" | "1"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn call(path: &str) -> Option<AppCall> {
        AppCall::at(path, Platforms::default())
    }

    #[test]
    fn paths_are_found_whatever_their_slashes() {
        for (path, found) in [
            ("/cgi-bin/token", Some("/cgi-bin/token")),
            ("//cgi-bin/token", Some("/cgi-bin/token")),
            ("/cgi-bin//stable_token/", Some("/cgi-bin/stable_token")),
            ("/cgi-bin/gettoken", Some("/cgi-bin/gettoken")),
            ("///cgi-bin/ticket//get", Some("/cgi-bin/ticket/get")),
            ("/", None),
            ("*", None),
            ("/cgi-bin", None),
            ("/cgi-bin/ticket", None),
            ("/cgi-bin/token/more", None),
            ("/cgi-bin/ticket/getticket/more", None),
            ("/cgi-bin/menu/get", None),
            ("/token", None),
        ] {
            assert_eq!(call(path).map(|call| call.call.path), found, "{path}");
        }
    }

    #[expect(clippy::unnecessary_wraps, reason = "as it is compared")]
    fn token(doubted: bool) -> Result<AppRequest, Refused> {
        Ok(AppRequest::Token {
            id: "wx1".into(),
            key: Zeroizing::new("k".to_owned()),
            doubted,
        })
    }

    #[test]
    fn queries_are_read_as_sdks_send_them() {
        let get_ticket = "/cgi-bin/ticket/getticket";
        let ticket = |value| {
            let token = Zeroizing::new("t".to_owned());
            Ok(AppRequest::Ticket { value, token })
        };
        for (path, query, wanted) in [
            (
                "/cgi-bin/token",
                "grant_type=client_credential&appid=wx1&secret=k",
                token(false),
            ),
            (
                "/cgi-bin/token",
                "&secret=k&appid=wx1&&grant_type=client_credential",
                token(false),
            ),
            (
                "/cgi-bin/token",
                "grant_type=&appid=wx1&secret=k",
                Err(Refused::BadGrantType),
            ),
            (
                "/cgi-bin/token",
                "appid=wx1&secret=k",
                Err(Refused::BadGrantType),
            ),
            (
                "/cgi-bin/token",
                "grant_type=client_credential&secret=k",
                Err(Refused::IdMissing),
            ),
            (
                "/cgi-bin/token",
                "grant_type=client_credential&appid=wx1&secret=",
                Err(Refused::KeyMissing),
            ),
            ("/cgi-bin/gettoken", "corpid=wx1&corpsecret=k", token(false)),
            ("/cgi-bin/gettoken", "corpsecret=k", Err(Refused::IdMissing)),
            ("/cgi-bin/gettoken", "corpid=wx1", Err(Refused::KeyMissing)),
            (
                get_ticket,
                "&type=jsapi&access_token=t",
                ticket(ValueName::JsapiTicket),
            ),
            (
                get_ticket,
                "access_token=t&type=wx_card",
                ticket(ValueName::WxCardTicket),
            ),
            (
                get_ticket,
                "access_token=t&type=2",
                Err(Refused::BadArguments),
            ),
            (get_ticket, "access_token=t", Err(Refused::BadArguments)),
            (
                get_ticket,
                "access_token=&type=jsapi",
                Err(Refused::TokenMissing),
            ),
            (
                "/cgi-bin/get_jsapi_ticket",
                "access_token=t",
                ticket(ValueName::JsapiTicket),
            ),
            (
                "/cgi-bin/ticket/get",
                "&type=agent_config&access_token=t",
                ticket(ValueName::AgentTicket),
            ),
        ] {
            let read = call(path).unwrap().parse(query, b"");
            assert_eq!(read, wanted, "{query}");
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
                Err(Refused::IdMissing),
            ),
            ("[]", Err(Refused::BadGrantType)),
            ("appid=wx1", Err(Refused::BadFormat)),
            ("", Err(Refused::BadFormat)),
        ] {
            let stable = call("/cgi-bin/stable_token").unwrap();
            let parsed = stable.parse("", body.as_bytes());
            assert_eq!(parsed, wanted, "{body}");
        }
    }

    proptest! {
        #[test]
        fn anything_is_read_or_refused(path in "[/a-z_-]{0,30}", query in "\\PC*", body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = call(&path);
            for platform in Platforms::default().0 {
                for call in platform.mirrored.calls {
                    let _ = AppCall { platform, call }.parse(&query, &body);
                }
            }
        }
    }
}
