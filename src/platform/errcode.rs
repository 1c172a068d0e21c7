//! What each errcode of the platform means, and what an administrator does about it.
//!
//! Source of codes and meanings: the platform's documentation of the access-token interfaces and its global return codes.

use crate::trouble::Class;
use std::net::IpAddr;
use std::time::Duration;

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
            Self::Wechat => "appid with 微信公众平台 → 设置与开发 → 基本配置 → 开发者ID(AppID)",
            Self::Wecom => "corpid with 企业微信管理后台 → 我的企业 → 企业信息 → 企业ID",
        }
    }

    const fn quota(self) -> &'static str {
        match self {
            Self::Wechat => {
                ", or clear the quota at 微信公众平台 → 设置与开发 → 接口权限 (10 times a month)"
            }
            Self::Wecom => "",
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Wechat => "微信公众平台",
            Self::Wecom => "企业微信管理后台",
        }
    }

    const fn errcodes(self) -> &'static str {
        match self {
            Self::Wechat => "全局返回码",
            Self::Wecom => "全局错误码",
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

/// What `errcode` means as answer to a call, for an account of `console`. Only the errcode decides; `errmsg` gives the IP
/// address that a hint names.
pub fn meaning(errcode: i64, errmsg: &str, asked: Asked, console: Console) -> Meaning {
    let class = class(errcode, asked);
    let hint = match class {
        Class::DeadToken => "the token is dead and is replaced; nothing to do here".into(),
        _ => hint(errcode, errmsg, console),
    };
    Meaning { class, hint }
}

const fn class(errcode: i64, asked: Asked) -> Class {
    match (errcode, asked) {
        (-1 | -1000 | 45033, _) => Class::Transient,
        (40001 | 40014 | 42001, Asked::WithToken) => Class::DeadToken,
        (45009, _) => Class::DailyQuota,
        (45011, _) => Class::MinuteQuota,
        (89506, _) => Class::TimedBlock(Duration::from_secs(24 * 3600)),
        (89507, _) => Class::TimedBlock(Duration::from_secs(3600)),
        _ => Class::Operator,
    }
}

fn hint(errcode: i64, errmsg: &str, console: Console) -> String {
    match errcode {
        -1 | -1000 => "the platform is busy and is asked again soon; nothing to do here".into(),
        40001 => format!(
            "the AppSecret is wrong: copy it anew from {} into the account's secret file; no reload is needed",
            console.secret()
        ),
        40002 | 43002 => "this is a defect of wxtokend or of a proxy that changes requests: please report it".into(),
        40013 => format!(
            "no account has this id: compare the account's {}, and reload",
            console.id()
        ),
        40125 => format!(
            "the AppSecret is not this account's, perhaps it was reset: copy the present one from {} into the account's secret file; no reload is needed",
            console.secret()
        ),
        40164 | 61004 | 60020 => whitelist_hint(errmsg, console),
        40243 => format!(
            "the AppSecret is frozen: unfreeze it at {}; takes about 10 minutes",
            console.secret()
        ),
        41002 | 41004 => "the platform says that a parameter is missing although it was sent: look for a proxy that changes requests, else report it as a defect of wxtokend".into(),
        45009 => format!(
            "the day's quota of this interface is used up: find who else fetches for this account{}; asked every 30 minutes, at the latest when the quota starts anew at midnight UTC+8",
            console.quota()
        ),
        45011 => "too many calls this minute: asked again in the next one; if it lasts, find who else calls for this account".into(),
        45033 => "too many calls at once for this corp; asked again soon, nothing to do here".into(),
        48006 => "the month's clear_quota calls are used up: wait for the quota to start anew at midnight UTC+8".into(),
        50004 | 50007 => format!(
            "the account is frozen or may not use this interface: see the notices in {}",
            console.name()
        ),
        61024 => "the account belongs to a third-party platform, which must fetch its token: it cannot be kept here".into(),
        89501 | 89503 => format!(
            "an administrator of the account must confirm {} in the WeChat message that the platform sent, or add it at {}",
            host(errmsg),
            console.whitelist()
        ),
        89506 => format!(
            "an administrator of the account refused {} twice, so the platform blocks it for 24 hours: agree with that person before they are over",
            host(errmsg)
        ),
        89507 => format!(
            "an administrator of the account refused {}, so the platform blocks it for 1 hour: agree with that person before it is over",
            host(errmsg)
        ),
        _ => format!(
            "look for errcode {errcode} in the platform's list ({})",
            console.errcodes()
        ),
    }
}

fn whitelist_hint(errmsg: &str, console: Console) -> String {
    let list = match console {
        Console::Wechat => "the IP whitelist",
        Console::Wecom => "the trusted IP addresses",
    };
    let (host, place) = (host(errmsg), console.whitelist());
    format!("add {host} to {list}: {place}; takes about 5 minutes")
}

/// This host, by the address that the platform sees.
fn host(errmsg: &str) -> String {
    address(errmsg).map_or_else(
        || "this host's public IP address".to_owned(),
        |ip| ip.to_string(),
    )
}

/// A refusal in a few words, for a status line: `40164 IP 203.0.113.7 is not whitelisted`.
pub fn brief(errcode: i64, errmsg: &str) -> String {
    let ip =
        address(errmsg).map_or_else(|| "the IP of this host".to_owned(), |ip| format!("IP {ip}"));
    match errcode {
        40164 | 61004 | 60020 => format!("{errcode} {ip} is not whitelisted"),
        89501 | 89503 => format!("{errcode} {ip} waits for an administrator's confirmation"),
        89506 | 89507 => format!("{errcode} {ip} was refused by an administrator"),
        _ => {
            let asides = [" rid: ", ", hint: ["];
            let said = asides.iter().fold(errmsg, |said, aside| {
                said.split(aside).next().unwrap_or(said)
            });
            said.chars().take(80).collect()
        }
    }
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
        const HOUR: Duration = Duration::from_secs(3600);
        let ip = "invalid ip 203.0.113.7 ipv6 ::ffff:203.0.113.7, not in whitelist rid: 6aac005a-01bfdbee-79769285";
        let cases = [
            (-1, Transient, "asked again soon"),
            (-1000, Transient, "asked again soon"),
            (40001, Operator, "AppSecret is wrong"),
            (40002, Operator, "defect"),
            (43002, Operator, "defect"),
            (41002, Operator, "proxy"),
            (41004, Operator, "proxy"),
            (
                40013,
                Operator,
                "compare the account's appid with 微信公众平台 → ",
            ),
            (40125, Operator, "no reload is needed"),
            (
                40164,
                Operator,
                "add 203.0.113.7 to the IP whitelist: 微信公众平台 → 设置与开发 → 基本配置 → IP白名单",
            ),
            (61004, Operator, "203.0.113.7"),
            (40243, Operator, "unfreeze"),
            (45009, DailyQuota, "接口权限"),
            (45011, MinuteQuota, "minute"),
            (45033, Transient, "asked again soon"),
            (48006, Operator, "midnight UTC+8"),
            (50004, Operator, "notices in 微信公众平台"),
            (50007, Operator, "notices in 微信公众平台"),
            (61024, Operator, "third-party"),
            (89501, Operator, "must confirm 203.0.113.7"),
            (89503, Operator, "must confirm 203.0.113.7"),
            (
                89507,
                TimedBlock(HOUR),
                "refused 203.0.113.7, so the platform blocks it for 1 hour",
            ),
            (89506, TimedBlock(24 * HOUR), "24 hours"),
            (
                12345,
                Operator,
                "errcode 12345 in the platform's list (全局返回码)",
            ),
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
    fn a_status_line_has_the_errcode_and_what_matters() {
        let ip = "invalid ip 203.0.113.7 ipv6 ::ffff:203.0.113.7, not in whitelist rid: 6aac005a-01bfdbee-79769285";
        for (errcode, message, said) in [
            (40164, ip, "40164 IP 203.0.113.7 is not whitelisted"),
            (40164, "", "40164 the IP of this host is not whitelisted"),
            (
                89501,
                ip,
                "89501 IP 203.0.113.7 waits for an administrator's confirmation",
            ),
            (
                89507,
                "89507 rejected",
                "89507 the IP of this host was refused by an administrator",
            ),
            (
                40125,
                "40125 invalid appsecret rid: 6aac005a-01bfdbee-79769285",
                "40125 invalid appsecret",
            ),
            (
                40001,
                "40001 invalid credential, hint: [1], from ip: 1.2.3.4, more info at https://x",
                "40001 invalid credential",
            ),
        ] {
            assert_eq!(brief(errcode, message), said);
        }
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
