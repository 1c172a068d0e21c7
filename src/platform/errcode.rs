//! What each errcode of the platform means, and what an administrator does about it.
//!
//! Source of codes and meanings: the platform's documentation of the access-token interfaces and its global return codes.

use std::net::IpAddr;
use std::time::Duration;

/// What kind of trouble a failure is: decides when to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Passes by itself: the network, a busy platform.
    Transient,
    /// The minute's quota is used up.
    MinuteQuota,
    /// The day's quota is used up.
    DailyQuota,
    /// Nothing changes until somebody acts.
    Operator,
    /// The platform refuses for a fixed time.
    TimedBlock(Duration),
    /// The access token that the call carried is dead.
    DeadToken,
    /// Something on this host is missing, so no call was made: looked at again soon, since that costs none.
    Local,
}

impl Class {
    /// The name as API and logs spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::MinuteQuota => "minute_quota",
            Self::DailyQuota => "daily_quota",
            Self::Operator => "operator",
            Self::TimedBlock(_) => "timed_block",
            Self::DeadToken => "dead_token",
            Self::Local => "local",
        }
    }
}

/// Which call was refused, as far as that changes the meaning of an errcode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// For an access token, with the AppSecret.
    Token,
    /// Anything that carries an access token.
    WithToken,
}

/// Where an account is administrated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Console {
    /// 微信公众平台
    Wechat,
    /// 企业微信管理后台
    Wecom,
}

impl Console {
    const fn whitelist(self) -> &'static str {
        match self {
            Self::Wechat => "微信公众平台 → 设置与开发 → 基本配置 → IP白名单",
            Self::Wecom => "企业微信管理后台 → 应用管理 → the app → 企业可信IP",
        }
    }

    const fn secret(self) -> &'static str {
        match self {
            Self::Wechat => "微信公众平台 → 设置与开发 → 基本配置 → AppSecret",
            Self::Wecom => "企业微信管理后台 → 应用管理 → the app → Secret",
        }
    }

    const fn id(self) -> &'static str {
        match self {
            Self::Wechat => "appid",
            Self::Wecom => "corpid",
        }
    }
}

/// An errcode's class, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meaning {
    /// Decides when to try again.
    pub class: Class,
    /// What to do and where to click.
    pub hint: String,
}

const HOUR: Duration = Duration::from_secs(3600);

/// What `errcode` means as answer to a call, for an account of `console`. Only the errcode decides; `errmsg` gives the IP
/// address that a hint names.
pub fn meaning(errcode: i64, errmsg: &str, asked: Asked, console: Console) -> Meaning {
    let (class, hint) = match errcode {
        -1 | -1000 => (
            Class::Transient,
            "the platform is busy and is asked again soon; nothing to do here".into(),
        ),
        45033 => (
            Class::Transient,
            "too many calls at once for this corp; asked again soon, nothing to do here".into(),
        ),
        40001 | 40014 | 42001 if asked == Asked::WithToken => (
            Class::DeadToken,
            "the token is dead and is replaced; nothing to do here".into(),
        ),
        40001 => (
            Class::Operator,
            format!(
                "the AppSecret is wrong: copy it anew from {} into the account's secret file; no reload is needed",
                console.secret()
            ),
        ),
        40125 => (
            Class::Operator,
            format!(
                "the AppSecret is not this account's, perhaps it was reset: copy the present one from {} into the account's secret file; no reload is needed",
                console.secret()
            ),
        ),
        40013 => (
            Class::Operator,
            format!(
                "compare the account's {} with the one in the console, and reload",
                console.id()
            ),
        ),
        40164 | 61004 | 60020 => (Class::Operator, whitelist_hint(errmsg, console)),
        89501 | 89503 => (
            Class::Operator,
            format!(
                "an administrator of the account must confirm{} in the WeChat message that the platform sent, or add it at {}",
                address(errmsg).map_or_else(|| " this host's IP address".into(), |ip| format!(" {ip}")),
                console.whitelist()
            ),
        ),
        89506 => (
            Class::TimedBlock(24 * HOUR),
            "an administrator of the account refused this host's IP address twice: the platform blocks it for 24 hours; agree with that person before then".into(),
        ),
        89507 => (
            Class::TimedBlock(HOUR),
            "an administrator of the account refused this host's IP address: the platform blocks it for 1 hour; agree with that person before then".into(),
        ),
        40243 => (
            Class::Operator,
            format!(
                "the AppSecret is frozen: unfreeze it at {}; takes about 10 minutes",
                console.secret()
            ),
        ),
        41002 | 41004 => (
            Class::Operator,
            "the platform says that a parameter is missing although it was sent: look for a proxy that changes requests, else report it as a defect of wxtokend".into(),
        ),
        40002 | 43002 => (
            Class::Operator,
            "this is a defect of wxtokend or of a proxy that changes requests: please report it".into(),
        ),
        45009 => (
            Class::DailyQuota,
            "the day's quota of this interface is used up: find who else fetches for this account, or clear the quota once in the console; asked every 30 minutes until midnight UTC+8".into(),
        ),
        45011 => (
            Class::MinuteQuota,
            "too many calls this minute: asked again in the next one; if it lasts, find who else calls for this account".into(),
        ),
        48006 => (
            Class::Operator,
            "the month's clear_quota calls are used up: wait for the quota to start anew at midnight UTC+8".into(),
        ),
        50004 | 50007 => (
            Class::Operator,
            "the account is frozen or may not use this interface: see the notices in its console".into(),
        ),
        61024 => (
            Class::Operator,
            "the account belongs to a third-party platform, which must fetch its token: it cannot be kept here".into(),
        ),
        _ => (
            Class::Operator,
            format!("see errcode {errcode} in the platform's list of return codes"),
        ),
    };
    Meaning { class, hint }
}

fn whitelist_hint(errmsg: &str, console: Console) -> String {
    let what = address(errmsg).map_or_else(
        || "this host's public IP address".to_owned(),
        |ip| ip.to_string(),
    );
    match console {
        Console::Wechat => {
            format!(
                "add {what} to the IP whitelist: {}; takes about 5 minutes",
                console.whitelist()
            )
        }
        Console::Wecom => {
            format!(
                "add {what} to the trusted IP addresses: {}; takes about 5 minutes",
                console.whitelist()
            )
        }
    }
}

/// A refusal in a few words, for a status line: `40164 IP 203.0.113.7 is not whitelisted`.
pub fn brief(errcode: i64, errmsg: &str) -> String {
    if let (40164 | 61004 | 60020, Some(ip)) = (errcode, address(errmsg)) {
        return format!("{errcode} IP {ip} is not whitelisted");
    }
    let said = errmsg.split(" rid: ").next().unwrap_or(errmsg);
    said.chars().take(80).collect()
}

/// The first IP address in an errmsg, IPv4 in its own form where it came mapped into IPv6.
pub fn address(errmsg: &str) -> Option<IpAddr> {
    errmsg
        .split(|c: char| !(c.is_ascii_hexdigit() || c == '.' || c == ':'))
        .filter(|word| word.contains(['.', ':']))
        .find_map(|word| word.trim_end_matches(['.', ':']).parse::<IpAddr>().ok())
        .map(|ip| ip.to_canonical())
}

/// The request id in an errmsg (`… rid: 6aac005a-01bfdbee-79769285`).
pub fn rid(errmsg: &str) -> Option<&str> {
    let (_, after) = errmsg.rsplit_once("rid: ")?;
    let end = after
        .find(|c: char| !(c.is_ascii_hexdigit() || c == '-'))
        .unwrap_or(after.len());
    (8..=64).contains(&end).then(|| &after[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_errcode_has_its_class_and_hint() {
        use Class::{DailyQuota, DeadToken, MinuteQuota, Operator, TimedBlock, Transient};
        let ip = "invalid ip 203.0.113.7 ipv6 ::ffff:203.0.113.7, not in whitelist rid: 6aac005a-01bfdbee-79769285";
        let cases = [
            (-1, Transient, "asked again soon"),
            (-1000, Transient, "asked again soon"),
            (40001, Operator, "AppSecret is wrong"),
            (40002, Operator, "defect"),
            (43002, Operator, "defect"),
            (41002, Operator, "proxy"),
            (41004, Operator, "proxy"),
            (40013, Operator, "compare the account's appid"),
            (40125, Operator, "no reload is needed"),
            (
                40164,
                Operator,
                "add 203.0.113.7 to the IP whitelist: 微信公众平台 → 设置与开发 → 基本配置 → IP白名单",
            ),
            (61004, Operator, "203.0.113.7"),
            (40243, Operator, "unfreeze"),
            (45009, DailyQuota, "quota"),
            (45011, MinuteQuota, "minute"),
            (45033, Transient, "asked again soon"),
            (48006, Operator, "midnight UTC+8"),
            (50004, Operator, "frozen"),
            (50007, Operator, "frozen"),
            (61024, Operator, "third-party"),
            (89501, Operator, "must confirm 203.0.113.7"),
            (89503, Operator, "must confirm 203.0.113.7"),
            (89507, TimedBlock(HOUR), "1 hour"),
            (89506, TimedBlock(24 * HOUR), "24 hours"),
            (12345, Operator, "errcode 12345"),
        ];
        for (errcode, class, hint) in cases {
            let meaning = meaning(errcode, ip, Asked::Token, Console::Wechat);
            assert_eq!(meaning.class, class, "{errcode}");
            assert!(meaning.hint.contains(hint), "{errcode}: {}", meaning.hint);
        }
        for errcode in [40001, 40014, 42001] {
            assert_eq!(
                meaning(errcode, "", Asked::WithToken, Console::Wecom).class,
                DeadToken
            );
        }
        let errmsg = "not allow to access from your ip, hint: [1], from ip: 198.51.100.4, more info at https://open.work.weixin.qq.com";
        let meaning = meaning(60020, errmsg, Asked::Token, Console::Wecom);
        assert_eq!(meaning.class, Operator);
        assert!(
            meaning.hint.contains("add 198.51.100.4 ") && meaning.hint.contains("企业可信IP"),
            "{}",
            meaning.hint
        );
    }

    #[test]
    fn addresses_and_request_ids_are_found() {
        for (errmsg, expected) in [
            (
                "invalid ip 203.0.113.7 ipv6 ::ffff:203.0.113.7, not",
                Some("203.0.113.7"),
            ),
            (
                "invalid ip 2001:db8::7, not in whitelist",
                Some("2001:db8::7"),
            ),
            ("from ip: 1.2.3.4, more", Some("1.2.3.4")),
            ("invalid ip ::ffff:203.0.113.7 rid", Some("203.0.113.7")),
            ("deadbeef added: nothing. here", None),
            ("", None),
        ] {
            assert_eq!(
                address(errmsg).map(|ip| ip.to_string()).as_deref(),
                expected,
                "{errmsg}"
            );
        }
        assert_eq!(
            rid("invalid appid rid: 6aac005a-01bfdbee-79769285"),
            Some("6aac005a-01bfdbee-79769285")
        );
        assert_eq!(
            rid("x rid: 6aac005a-01bfdbee-79769285, hint"),
            Some("6aac005a-01bfdbee-79769285")
        );
        assert_eq!(rid("ok"), None);
        assert_eq!(rid("rid: <script>"), None);
    }
}
