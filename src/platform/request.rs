//! Requests, without host and transport.

use super::Platform;
use crate::account::Account;
use crate::call::Call;
use crate::terms::Terms;
use zeroize::Zeroizing;

/// One question, as a platform makes a request of it.
#[derive(Clone, Copy)]
pub struct Ask<'a> {
    /// The kind of question.
    pub call: Call,
    /// Its path.
    pub path: &'static str,
    /// The terms of the account.
    pub terms: &'static Terms,
    /// The id of the account: appid or corpid.
    pub id: &'a str,
    /// The AppSecret for a call that brings an access token, otherwise the access token.
    pub credential: &'a str,
}

impl<'a> Ask<'a> {
    /// A question about an account of the platform.
    pub fn of(platform: &Platform, account: &'a Account, call: Call, credential: &'a str) -> Self {
        Self {
            call,
            path: (platform.endpoint)(account.terms, call),
            terms: account.terms,
            id: &account.id,
            credential,
        }
    }
}

/// A request without its host. Holds secrets: neither shown nor kept.
pub struct Request {
    /// Path, from the slash.
    pub path: &'static str,
    /// Query parameters, unescaped.
    pub query: Vec<(&'static str, Zeroizing<String>)>,
    /// Headers besides the usual ones.
    pub headers: Vec<(&'static str, Zeroizing<String>)>,
    /// JSON body; with one the request is a POST.
    pub body: Option<Zeroizing<Vec<u8>>>,
}

impl Request {
    /// A GET.
    pub const fn get(path: &'static str) -> Self {
        Self {
            path,
            query: Vec::new(),
            headers: Vec::new(),
            body: None,
        }
    }

    /// A POST of JSON.
    pub fn post(path: &'static str, body: &impl serde::Serialize) -> Self {
        // Strings, numbers and flags: writing them as JSON into memory cannot fail.
        let body = serde_json::to_vec(body).unwrap_or_default();
        Self {
            body: Some(Zeroizing::new(body)),
            ..Self::get(path)
        }
    }

    /// The same with one more query parameter.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        self.query.push((name, Zeroizing::new(value.to_owned())));
        self
    }

    /// The same with one more header.
    #[must_use]
    pub fn with_header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, Zeroizing::new(value.to_owned())));
        self
    }
}
