//! Platforms: each is one value in a file of its own, and one entry in [`ALL`].

pub mod answer;
mod bad_section;
pub(crate) mod certificates;
pub mod client;
mod count_calls;
pub mod counts;
pub mod errcode;
mod exchange;
pub(crate) mod failure;
mod hosts;
mod json;
mod limits;
mod mirrored;
pub mod request;
pub(crate) mod resolver;
mod route;
mod scrub;
pub mod wechat;
pub mod wecom;

pub use answer::Fields;
pub use count_calls::CountCalls;
pub(crate) use exchange::try_account;
pub use exchange::{Credential, Exchange, credential, exchange};
pub use hosts::Switched;
pub use mirrored::{AppWants, Mirrored, MirroredCall, RefusalSign, Refused};
pub use request::{Ask, Request};

use crate::call::Call;
use crate::terms::{Repeat, Terms};
use errcode::ErrcodeRow;

/// Every platform that is built in.
pub const ALL: &[&Platform] = &[wechat::WECHAT, wecom::WECOM];

/// A platform: its requests, its answers, its errcodes and its words in the configuration.
#[derive(Debug)]
pub struct Platform {
    /// The product, as the API spells it; `Terms::kind` of its accounts.
    pub kind: &'static str,
    /// The products, for people.
    pub products: &'static str,
    /// The ids of its accounts.
    pub ids: Ids,
    /// The key of its hosts in `[platform]`.
    pub hosts_key: &'static str,
    /// Its hosts unless configured, in order of preference.
    pub hosts: &'static [&'static str],
    /// Its ways to fetch a token, the usual one first.
    pub methods: &'static [&'static Terms],
    /// The path of a call, which is also its name in metrics.
    pub endpoint: fn(&Terms, Call) -> &'static str,
    /// Makes a request.
    pub request: fn(&Ask<'_>) -> Request,
    /// Calls that tell whether a token lives and change nothing. When an account may not use one, the next is asked.
    pub verify_paths: &'static [&'static str],
    /// Errcodes of those calls that say nothing about the token.
    pub no_verdict: &'static [i64],
    /// The calls that show and clear its own counts, if it has such.
    pub counts: Option<&'static CountCalls>,
    /// The calls that the mirror answers in its place.
    pub mirrored: &'static Mirrored,
    /// The number of hexadecimal digits of an AppSecret, if it has a usual one.
    pub secret_digits: Option<usize>,
    /// The names of the fields in its answers.
    pub fields: Fields,
    /// Its errcodes. The last row is for all that are in no other.
    pub errcodes: &'static [ErrcodeRow],
}

/// The ids of a platform's accounts.
#[derive(Debug)]
pub struct Ids {
    /// The key of the id in the configuration.
    pub key: &'static str,
    /// The key that tells apps with one id apart, if there is one.
    pub app_key: Option<&'static str>,
    /// Checks the form of an id, and says what is unusual about it. Both are the rest of a sentence that the key begins.
    pub check: fn(&str) -> Result<Option<&'static str>, &'static str>,
    /// Advice when two accounts with one id would end each other's tokens.
    pub twice: &'static str,
}

impl Platform {
    /// The way to fetch a token that ends no token in use.
    pub fn harmless(&self, terms: &'static Terms) -> &'static Terms {
        let is_harmless = |terms: &&&Terms| matches!(terms.repeat, Repeat::Same { .. });
        [&terms]
            .into_iter()
            .chain(self.methods)
            .find(is_harmless)
            .copied()
            .unwrap_or(terms)
    }
}

impl PartialEq for Platform {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind
    }
}

impl Eq for Platform {}

/// The platforms that a daemon knows: those that are built in, unless a test says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Platforms(pub &'static [&'static Platform]);

impl Default for Platforms {
    fn default() -> Self {
        Self(ALL)
    }
}

impl Platforms {
    /// The platform of this kind.
    pub fn of(self, kind: &str) -> Option<&'static Platform> {
        self.0
            .iter()
            .copied()
            .find(|platform| platform.kind == kind)
    }

    /// The errcodes of the platform of this kind.
    pub(crate) fn errcodes_of(self, kind: &str) -> &'static [ErrcodeRow] {
        self.of(kind).map_or(&[], |platform| platform.errcodes)
    }
}
