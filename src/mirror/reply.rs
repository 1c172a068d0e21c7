//! The JSON that the mirror answers with: the platform's.

use crate::clock;
use crate::value::{Value, ValueName};
use std::borrow::Cow;
use std::net::IpAddr;

/// A refusal, in the platform's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// There is no value to hand out.
    NoValue,
    /// The access token is none of ours.
    UnknownToken,
    /// 企业微信: the key is wrong.
    WrongCorpKey,
    /// The key is wrong.
    WrongKey,
    BadGrantType,
    UnknownAppid,
    UnknownCorpid,
    BadPath,
    BadArguments,
    TokenMissing,
    AppidMissing,
    CorpidMissing,
    SecretMissing,
    CorpsecretMissing,
    RequireGet,
    RequirePost,
    BadFormat,
}

impl Refused {
    /// The errcode, and what the platform says about it.
    const fn row(self) -> (i32, &'static str) {
        match self {
            Self::NoValue => (-1, "system error"),
            Self::UnknownToken => (
                40001,
                "invalid credential, access_token is invalid or not latest",
            ),
            Self::WrongCorpKey => (40001, "invalid credential"),
            Self::WrongKey => (40125, "invalid appsecret"),
            Self::BadGrantType => (40002, "invalid grant_type"),
            Self::UnknownAppid => (40013, "invalid appid"),
            Self::UnknownCorpid => (40013, "invalid corpid"),
            Self::BadPath => (
                40066,
                "invalid url, the mirror of wxtokend answers for tokens and tickets alone: send this to the platform",
            ),
            Self::BadArguments => (40097, "invalid args"),
            Self::TokenMissing => (41001, "access_token missing"),
            Self::AppidMissing => (41002, "appid missing"),
            Self::CorpidMissing => (41002, "corpid missing"),
            Self::SecretMissing => (41004, "appsecret missing"),
            Self::CorpsecretMissing => (41004, "corpsecret missing"),
            Self::RequireGet => (43001, "require GET method"),
            Self::RequirePost => (43002, "require POST method"),
            Self::BadFormat => (47001, "data format error"),
        }
    }

    /// The body, as 公众号 or 企业微信 has it.
    pub(crate) fn body(self, is_wecom: bool, from: Option<IpAddr>) -> String {
        let (errcode, errmsg) = self.row();
        let now = clock::now();
        let seconds = now.unix(now.at);
        let mark = if is_wecom {
            let from = from.map_or(Cow::Borrowed("127.0.0.1"), |ip| ip.to_string().into());
            let unique = fastrand::u32(..);
            format!(
                ", hint: [{seconds}{unique:010}], from ip: {from}, more info at https://open.work.weixin.qq.com/devtool/query?e={errcode}"
            )
        } else {
            let (a, b) = (fastrand::u32(..), fastrand::u32(..));
            format!(" rid: {seconds:08x}-{a:08x}-{b:08x}")
        };
        // No word of these has to be escaped.
        format!(r#"{{"errcode":{errcode},"errmsg":"{errmsg}{mark}"}}"#)
    }
}

/// The body with a value. No value has to be escaped.
pub(super) fn granted(name: ValueName, value: &Value, expires_in: u64, is_wecom: bool) -> String {
    let value = value.expose();
    match name {
        ValueName::AccessToken if !is_wecom => {
            format!(r#"{{"access_token":"{value}","expires_in":{expires_in}}}"#)
        }
        ValueName::AccessToken => format!(
            r#"{{"errcode":0,"errmsg":"ok","access_token":"{value}","expires_in":{expires_in}}}"#
        ),
        _ => {
            format!(r#"{{"errcode":0,"errmsg":"ok","ticket":"{value}","expires_in":{expires_in}}}"#)
        }
    }
}
