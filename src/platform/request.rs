//! What the platform is asked: pure descriptions of calls, without host or transport.

use crate::account::{Account, Method};
use crate::call::Call;
use crate::secret::Secret;
use crate::value::{Value, ValueName};
use zeroize::Zeroizing;

/// A request without its host. Holds secrets: neither shown nor kept.
pub struct Request {
    /// Path, from the slash.
    pub path: &'static str,
    /// Query parameters, unescaped.
    pub query: Vec<(&'static str, Zeroizing<String>)>,
    /// JSON body; with one the request is a POST.
    pub body: Option<Zeroizing<Vec<u8>>>,
}

/// The path of a call, which is also its name in metrics.
pub const fn endpoint(call: Call, method: Method) -> &'static str {
    match (call, method) {
        (Call::Token | Call::ForceToken, Method::Stable) => "/cgi-bin/stable_token",
        (Call::Token | Call::ForceToken, Method::Classic) => "/cgi-bin/token",
        (Call::Token | Call::ForceToken, Method::Wecom) => "/cgi-bin/gettoken",
        (Call::Ticket(ValueName::AgentTicket), Method::Wecom) => "/cgi-bin/ticket/get",
        (Call::Ticket(_), Method::Wecom) => "/cgi-bin/get_jsapi_ticket",
        (Call::Ticket(_), _) => "/cgi-bin/ticket/getticket",
        (Call::Verify, _) => "/cgi-bin/get_api_domain_ip",
    }
}

/// A call for an access token.
pub fn token(account: &Account, force: bool, secret: &Secret) -> Request {
    let call = if force { Call::ForceToken } else { Call::Token };
    let text = |text: &str| Zeroizing::new(text.to_owned());
    let (query, body) = match account.method {
        Method::Stable => {
            let body = StableBody {
                grant_type: "client_credential",
                appid: &account.id,
                secret: secret.expose(),
                force_refresh: force,
            };
            // Strings and a flag: writing them as JSON into memory cannot fail.
            (
                Vec::new(),
                Some(Zeroizing::new(
                    serde_json::to_vec(&body).unwrap_or_default(),
                )),
            )
        }
        Method::Classic => (
            vec![
                ("grant_type", text("client_credential")),
                ("appid", text(&account.id)),
                ("secret", text(secret.expose())),
            ],
            None,
        ),
        Method::Wecom => (
            vec![
                ("corpid", text(&account.id)),
                ("corpsecret", text(secret.expose())),
            ],
            None,
        ),
    };
    Request {
        path: endpoint(call, account.method),
        query,
        body,
    }
}

#[derive(serde::Serialize)]
struct StableBody<'a> {
    grant_type: &'a str,
    appid: &'a str,
    secret: &'a str,
    force_refresh: bool,
}

/// A call that carries the access token: a ticket or the question whether the token lives.
pub fn with_token(account: &Account, call: Call, token: &Value) -> Request {
    let mut query = vec![("access_token", Zeroizing::new(token.expose().to_owned()))];
    let kind = match (call, account.method) {
        (Call::Ticket(ValueName::AgentTicket), _) => Some("agent_config"),
        (Call::Ticket(ValueName::WxCardTicket), _) => Some("wx_card"),
        (Call::Ticket(_), Method::Stable | Method::Classic) => Some("jsapi"),
        _ => None,
    };
    query.extend(kind.map(|kind| ("type", Zeroizing::new(kind.to_owned()))));
    Request {
        path: endpoint(call, account.method),
        query,
        body: None,
    }
}
