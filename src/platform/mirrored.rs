//! The calls of a platform that the mirror answers in its place, as plain data.

use crate::value::ValueName;
use std::net::IpAddr;

/// The calls that the mirror answers for a platform, and the words of the answers.
#[derive(Debug)]
pub struct Mirrored {
    /// The calls for tokens and tickets.
    pub calls: &'static [MirroredCall],
    /// The JSON that grants a value for a number of seconds. No value has to be escaped.
    pub grant: fn(name: ValueName, value: &str, expires_in: u64) -> String,
    /// The JSON of a refusal.
    pub refuse: fn(refused: Refused, sign: &RefusalSign) -> String,
}

/// A call that apps make.
#[derive(Debug)]
pub struct MirroredCall {
    /// The path, from the slash.
    pub path: &'static str,
    /// True for a POST with its parameters in a JSON body, false for a GET.
    pub is_post: bool,
    /// The parameters it reads.
    pub wants: AppWants,
}

/// The parameters of a call that apps make.
#[derive(Debug)]
pub enum AppWants {
    /// An access token, for an id and the key that stands in the place of the AppSecret.
    Token {
        /// The parameter that must be `client_credential`, if there is one.
        grant_type: Option<&'static str>,
        /// The parameter with the id.
        id: &'static str,
        /// The parameter with the key.
        key: &'static str,
        /// The parameter that says that the app doubts its token, if there is one.
        doubted: Option<&'static str>,
    },
    /// A ticket, for the access token in `access_token`. The function reads the parameter `type`, empty if there is none.
    Ticket(fn(&str) -> Option<ValueName>),
}

/// The reason for a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// There is no value to hand out.
    NoValue,
    /// The access token is none of ours.
    UnknownToken,
    /// The key is wrong.
    WrongKey,
    /// The `grant_type` is not `client_credential`.
    BadGrantType,
    /// No account with keys has this id.
    UnknownId,
    /// The mirror does not answer this path.
    BadPath,
    /// The `type` of ticket is unknown.
    BadArguments,
    /// The access token is missing.
    TokenMissing,
    /// The id is missing.
    IdMissing,
    /// The key is missing.
    KeyMissing,
    /// The request is no GET, and this call takes one.
    RequireGet,
    /// The request is no POST, and this call takes one.
    RequirePost,
    /// The body is not JSON.
    BadFormat,
}

/// The parts that make a refusal unique, as a platform puts them into its message.
#[derive(Debug)]
pub struct RefusalSign {
    /// Unix time, seconds.
    pub at: i64,
    /// Random numbers.
    pub random: [u32; 2],
    /// The address of the app, unless it came over a Unix socket.
    pub from: Option<IpAddr>,
}

impl Refused {
    /// The errcode and the message that most platforms have for it.
    pub(super) const fn usual(self) -> (i32, &'static str) {
        match self {
            Self::NoValue => (-1, "system error"),
            Self::UnknownToken => (
                40001,
                "invalid credential, access_token is invalid or not latest",
            ),
            Self::WrongKey => (40125, "invalid appsecret"),
            Self::BadGrantType => (40002, "invalid grant_type"),
            Self::UnknownId => (40013, "invalid appid"),
            Self::BadPath => (
                40066,
                "invalid url, the mirror of wxtokend answers for tokens and tickets alone: send this to the platform",
            ),
            Self::BadArguments => (40097, "invalid args"),
            Self::TokenMissing => (41001, "access_token missing"),
            Self::IdMissing => (41002, "appid missing"),
            Self::KeyMissing => (41004, "appsecret missing"),
            Self::RequireGet => (43001, "require GET method"),
            Self::RequirePost => (43002, "require POST method"),
            Self::BadFormat => (47001, "data format error"),
        }
    }
}

/// The usual JSON of a refusal. No word of it has to be escaped.
pub(super) fn refusal((errcode, errmsg): (i32, &str), sign: &str) -> String {
    format!(r#"{{"errcode":{errcode},"errmsg":"{errmsg}{sign}"}}"#)
}

/// The usual JSON of a grant.
pub(super) fn grant(name: ValueName, value: &str, expires_in: u64) -> String {
    let field = match name {
        ValueName::AccessToken => "access_token",
        _ => "ticket",
    };
    format!(r#"{{"errcode":0,"errmsg":"ok","{field}":"{value}","expires_in":{expires_in}}}"#)
}
