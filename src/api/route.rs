//! From a request line to what is asked for.

use super::error::{ApiError, Reason, no_such_account};
use crate::account::AccountName;
use crate::value::ValueName;
use hyper::Method;
use std::collections::BTreeSet;
use std::time::Duration;

/// The longest that a client may wait for another value.
const MAX_WAIT: u64 = 300;

/// The longest life that a value may be wanted to have: the platform grants none that is longer.
const MAX_MIN_VALID: u64 = 86_400;

/// The thing that a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    Accounts,
    Account(AccountName),
    Token(AccountName, TokenWish),
    Refresh(AccountName),
    Quota(AccountName, QuotaWish),
    Reload,
    Watch(WatchWish),
    Metrics,
    Health,
}

/// A wish about the platform's own count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum QuotaWish {
    Show,
    Clear,
}

/// The value that a client wants, and when it is good enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TokenWish {
    pub(super) value: ValueName,
    /// Try a refresh if less is left of its life.
    pub(super) min_valid: Duration,
    /// Time to wait for another one.
    pub(super) wait: Duration,
    /// The fingerprint of the one that is not wanted; empty for any.
    pub(super) after: String,
}

/// The accounts and values that a follower wants.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct WatchWish {
    /// Empty for every account.
    pub(super) accounts: BTreeSet<AccountName>,
    /// Empty for every value.
    values: Vec<ValueName>,
}

impl Default for TokenWish {
    fn default() -> Self {
        Self {
            value: ValueName::AccessToken,
            min_valid: Duration::ZERO,
            wait: Duration::ZERO,
            after: String::new(),
        }
    }
}

impl Route {
    /// Reads a request line. Says the same of an account's name that cannot be as of one that is not there.
    pub(super) fn parse(method: &Method, path: &str, query: &str) -> Result<Self, ApiError> {
        let segments: Vec<&str> = path.split('/').skip(1).collect();
        match segments.as_slice() {
            ["v1", "accounts"] => get(method).map(|()| Self::Accounts),
            ["v1", "accounts", name] => {
                get(method).and_then(|()| Ok(Self::Account(account(name)?)))
            }
            ["v1", "accounts", name, "token"] => {
                get(method).and_then(|()| Ok(Self::Token(account(name)?, TokenWish::parse(query)?)))
            }
            ["v1", "accounts", name, "refresh"] => {
                post(method).and_then(|()| Ok(Self::Refresh(account(name)?)))
            }
            ["v1", "accounts", name, "quota"] => {
                get(method).and_then(|()| Ok(Self::Quota(account(name)?, QuotaWish::Show)))
            }
            ["v1", "accounts", name, "quota", "clear"] => {
                post(method).and_then(|()| Ok(Self::Quota(account(name)?, QuotaWish::Clear)))
            }
            ["v1", "watch"] => get(method).and_then(|()| Ok(Self::Watch(WatchWish::parse(query)?))),
            ["v1", "reload"] => post(method).map(|()| Self::Reload),
            ["metrics"] => get(method).map(|()| Self::Metrics),
            ["healthz"] => get(method).map(|()| Self::Health),
            _ => Err(no_such_path(
                "/v1/accounts, /v1/accounts/ACCOUNT, /v1/accounts/ACCOUNT/token, \
                 /v1/accounts/ACCOUNT/refresh, /v1/accounts/ACCOUNT/quota, \
                 /v1/accounts/ACCOUNT/quota/clear, /v1/reload, /v1/watch, /metrics and /healthz",
            )),
        }
    }
}

impl TokenWish {
    fn parse(query: &str) -> Result<Self, ApiError> {
        let mut wish = Self::default();
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*key {
                "value" => wish.value = value_name(&value)?,
                "min_valid" => wish.min_valid = seconds("min_valid", &value, MAX_MIN_VALID)?,
                "wait" => wish.wait = seconds("wait", &value, MAX_WAIT)?,
                "after" => {
                    let hex = value.bytes().all(|b| b.is_ascii_hexdigit());
                    if !hex || !matches!(value.len(), 0 | 8) {
                        return Err(bad_query(
                            "`after` must be a fingerprint: the first 8 hex digits of a value's SHA-256".to_owned(),
                        ));
                    }
                    wish.after = value.to_ascii_lowercase();
                }
                _ => {
                    return Err(bad_query(
                        "the query may have value, min_valid, wait and after, and nothing else"
                            .to_owned(),
                    ));
                }
            }
        }
        Ok(wish)
    }
}

impl WatchWish {
    fn parse(query: &str) -> Result<Self, ApiError> {
        let mut wish = Self::default();
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*key {
                "account" => {
                    wish.accounts.insert(account(&value)?);
                }
                "value" => wish.values.push(value_name(&value)?),
                _ => {
                    return Err(bad_query(
                        "the query may have account and value, each as often as you like, and nothing else".to_owned(),
                    ));
                }
            }
        }
        Ok(wish)
    }

    /// True if it is about this account.
    pub(super) fn names(&self, account: &AccountName) -> bool {
        self.accounts.is_empty() || self.accounts.contains(account)
    }

    /// True if it is about this value.
    pub(super) fn wants(&self, value: ValueName) -> bool {
        self.values.is_empty() || self.values.contains(&value)
    }
}

fn value_name(name: &str) -> Result<ValueName, ApiError> {
    ValueName::parse(name).ok_or_else(|| {
        bad_query(format!(
            "`value` must be one of {}",
            ValueName::ALL.map(ValueName::as_str).join(", ")
        ))
    })
}

fn seconds(key: &str, value: &str, max: u64) -> Result<Duration, ApiError> {
    value
        .parse()
        .ok()
        .filter(|seconds| *seconds <= max)
        .map(Duration::from_secs)
        .ok_or_else(|| bad_query(format!("`{key}` must be whole seconds from 0 to {max}")))
}

fn bad_query(message: String) -> ApiError {
    ApiError::new(
        Reason::BadRequest,
        message,
        "for example ?value=jsapi_ticket&min_valid=300, or ?wait=60&after=0123abcd",
    )
}

fn account(name: &str) -> Result<AccountName, ApiError> {
    AccountName::parse(name).ok_or_else(|| no_such_account(name))
}

pub(super) fn no_such_path(paths: &str) -> ApiError {
    ApiError::new(
        Reason::NoSuchPath,
        "nothing is at this path",
        format!("there are {paths}"),
    )
}

fn get(method: &Method) -> Result<(), ApiError> {
    only(matches!(*method, Method::GET | Method::HEAD), "GET, HEAD")
}

fn post(method: &Method) -> Result<(), ApiError> {
    only(*method == Method::POST, "POST")
}

fn only(right: bool, allow: &'static str) -> Result<(), ApiError> {
    if right {
        return Ok(());
    }
    Err(ApiError {
        allow: Some(allow),
        ..ApiError::new(
            Reason::MethodNotAllowed,
            "this path does not know that method",
            format!("use {allow}"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(name: &str) -> AccountName {
        AccountName::parse(name).unwrap()
    }

    #[test]
    fn paths() {
        for (method, path, expected) in [
            (Method::GET, "/v1/accounts", Ok(Route::Accounts)),
            (Method::HEAD, "/v1/accounts", Ok(Route::Accounts)),
            (
                Method::GET,
                "/v1/accounts/shop",
                Ok(Route::Account(name("shop"))),
            ),
            (
                Method::POST,
                "/v1/accounts/shop/refresh",
                Ok(Route::Refresh(name("shop"))),
            ),
            (Method::POST, "/v1/reload", Ok(Route::Reload)),
            (Method::GET, "/metrics", Ok(Route::Metrics)),
            (Method::GET, "/healthz", Ok(Route::Health)),
            (Method::GET, "/", Err(404)),
            (Method::GET, "", Err(404)),
            (Method::GET, "*", Err(404)),
            (Method::GET, "/v1/accounts/", Err(404)),
            (Method::GET, "/v1/accounts/Shop", Err(404)),
            (Method::GET, "/v1/accounts/..", Err(404)),
            (Method::GET, "/v1/accounts/shop/tokens", Err(404)),
            (Method::GET, "/v1/accounts/shop/token/", Err(404)),
            (Method::GET, "//v1/accounts", Err(404)),
            (Method::POST, "/v1/accounts", Err(405)),
            (Method::DELETE, "/v1/accounts/shop", Err(405)),
            (Method::GET, "/v1/accounts/shop/refresh", Err(405)),
            (Method::GET, "/v1/reload", Err(405)),
            (Method::POST, "/metrics", Err(405)),
        ] {
            let route =
                Route::parse(&method, path, "").map_err(|refusal| refusal.error.status().as_u16());
            assert_eq!(route, expected, "{method} {path}");
        }
    }

    #[test]
    fn a_wrong_method_names_the_right_ones() {
        let allow = |path| Route::parse(&Method::PUT, path, "").unwrap_err().allow;
        assert_eq!(allow("/v1/accounts/shop/token"), Some("GET, HEAD"));
        assert_eq!(allow("/v1/reload"), Some("POST"));
    }

    #[test]
    fn queries() {
        let wish = TokenWish::default;
        let seconds = Duration::from_secs;
        for (query, expected) in [
            ("", Some(wish())),
            ("value=access_token", Some(wish())),
            (
                "value=jsapi_ticket",
                Some(TokenWish {
                    value: ValueName::JsapiTicket,
                    ..wish()
                }),
            ),
            (
                "value=jsapi%5Fticket",
                Some(TokenWish {
                    value: ValueName::JsapiTicket,
                    ..wish()
                }),
            ),
            (
                "min_valid=600",
                Some(TokenWish {
                    min_valid: seconds(600),
                    ..wish()
                }),
            ),
            (
                "wait=300&after=0123ABcd",
                Some(TokenWish {
                    wait: seconds(300),
                    after: "0123abcd".into(),
                    ..wish()
                }),
            ),
            (
                "wait=5&after=",
                Some(TokenWish {
                    wait: seconds(5),
                    ..wish()
                }),
            ),
            ("value=", None),
            ("value=jsapi", None),
            ("min_valid=-1", None),
            ("min_valid=1.5", None),
            ("min_valid=5m", None),
            ("min_valid=86401", None),
            ("wait=301", None),
            ("wait=99999999999999999999", None),
            ("after=0123abc", None),
            ("after=0123abcg", None),
            ("min-valid=600", None),
            ("token", None),
        ] {
            assert_eq!(TokenWish::parse(query).ok(), expected, "{query}");
        }
    }

    proptest! {
        #[test]
        fn anything_is_read_or_refused(path in "\\PC*", query in "\\PC*") {
            for path in [path.clone(), format!("/v1/accounts/{path}")] {
                if let Err(refusal) = Route::parse(&Method::GET, &path, &query) {
                    prop_assert!(refusal.error.status().is_client_error());
                    prop_assert!(!refusal.hint.is_empty());
                }
            }
        }
    }
}
