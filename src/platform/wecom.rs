//! 企业微信: `qyapi.weixin.qq.com`, or a server of one's own.
//!
//! Source of paths, errcodes and limits: the platform's documentation of gettoken and its global error codes.

use super::errcode::{self, ErrcodeRow, row};
use super::mirrored::{self, AppWants, Mirrored, MirroredCall, Refused};
use super::request::Request;
use super::{Ask, Fields, Ids, Platform};
use crate::call::Call;
use crate::terms::{Repeat, Terms, TicketLimits};
use crate::trouble::Class;
use crate::value::ValueName;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::time::Duration;

/// The platform.
pub const WECOM: &Platform = &Platform {
    kind: "wecom",
    products: "企业微信",
    ids: Ids {
        key: "corpid",
        app_key: Some("agentid"),
        check: check_corpid,
        twice: "merge the two, or give each app its `agentid`",
    },
    hosts_key: "wecom_hosts",
    hosts: &["https://qyapi.weixin.qq.com"],
    methods: &[GETTOKEN],
    endpoint,
    request,
    verify_paths: &["/cgi-bin/get_api_domain_ip", "/cgi-bin/getcallbackip"],
    no_verdict: &[48001],
    counts: None,
    mirrored: MIRRORED,
    secret_digits: None,
    fields: Fields::USUAL,
    errcodes: ERRCODES,
};

/// `gettoken`: the same token until its end.
pub const GETTOKEN: &Terms = &Terms {
    kind: "wecom",
    method: "gettoken",
    repeat: Repeat::Same {
        window: Duration::ZERO,
        polled: false,
    },
    can_force: false,
    tickets: &[
        ("jsapi", ValueName::JsapiTicket),
        ("agent", ValueName::AgentTicket),
    ],
    tickets_follow_token: true,
    ticket_limits: TicketLimits {
        app: 100,
        id: Some(400),
    },
    shares_id: true,
    default_budget: 5000,
};

const MIRRORED: &Mirrored = &Mirrored {
    calls: &[
        MirroredCall {
            path: "/cgi-bin/gettoken",
            is_post: false,
            wants: AppWants::Token {
                grant_type: None,
                id: "corpid",
                key: "corpsecret",
                doubted: None,
            },
        },
        MirroredCall {
            path: "/cgi-bin/get_jsapi_ticket",
            is_post: false,
            wants: AppWants::Ticket(|_| Some(ValueName::JsapiTicket)),
        },
        MirroredCall {
            path: "/cgi-bin/ticket/get",
            is_post: false,
            wants: AppWants::Ticket(|kind| {
                (kind == "agent_config").then_some(ValueName::AgentTicket)
            }),
        },
    ],
    grant: mirrored::grant,
    refuse: |refused, sign| {
        let (errcode, errmsg) = match refused {
            Refused::WrongKey => (40001, "invalid credential"),
            Refused::UnknownId => (40013, "invalid corpid"),
            Refused::IdMissing => (41002, "corpid missing"),
            Refused::KeyMissing => (41004, "corpsecret missing"),
            other => other.usual(),
        };
        let (at, [unique, _]) = (sign.at, sign.random);
        let from = sign.from.unwrap_or(Ipv4Addr::LOCALHOST.into());
        let hint = format!(
            ", hint: [{at}{unique:010}], from ip: {from}, more info at https://open.work.weixin.qq.com/devtool/query?e={errcode}"
        );
        mirrored::refusal((errcode, errmsg), &hint)
    },
};

fn endpoint(_terms: &Terms, call: Call) -> &'static str {
    match call {
        Call::Token | Call::ForceToken => "/cgi-bin/gettoken",
        Call::Ticket(ValueName::AgentTicket) => "/cgi-bin/ticket/get",
        Call::Ticket(_) => "/cgi-bin/get_jsapi_ticket",
        Call::Verify => WECOM.verify_paths[0],
    }
}

fn request(ask: &Ask<'_>) -> Request {
    let get = Request::get(ask.path);
    match ask.call {
        Call::Token | Call::ForceToken => get
            .with("corpid", ask.id)
            .with("corpsecret", ask.credential),
        Call::Ticket(ValueName::AgentTicket) => get
            .with("access_token", ask.credential)
            .with("type", "agent_config"),
        Call::Ticket(_) | Call::Verify => get.with("access_token", ask.credential),
    }
}

fn check_corpid(id: &str) -> Result<Option<&'static str>, &'static str> {
    if id.starts_with("gh_") {
        return Err(
            "is an 原始ID; write the corpid, which begins with ww: 企业微信管理后台 → 我的企业 → 企业信息 → 企业ID",
        );
    }
    let form = |prefixes: &[&str], lengths: RangeInclusive<usize>, allowed: fn(u8) -> bool| {
        prefixes.iter().any(|prefix| id.starts_with(prefix))
            && lengths.contains(&id.len())
            && id.bytes().all(allowed)
    };
    let word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    // The corpid of a 代开发 app is encrypted.
    let usual = form(&["ww", "wx"], 18..=18, |b| b.is_ascii_alphanumeric())
        || form(&["wp", "wo"], 32..=32, word);
    if usual {
        Ok(None)
    } else if form(&["ww", "wx", "wp", "wo"], 18..=64, word) {
        Ok(Some(
            "is unusual: a corpid is ww and 16 letters or digits, that of a 代开发 app wp (or wo) and 32 characters in all; compare it with the console",
        ))
    } else {
        Err(
            "must be ww (or wx) and 16 letters or digits, or for 代开发 wp (or wo) and 32 characters in all",
        )
    }
}

const ERRCODES: &[ErrcodeRow] = &[
    errcode::BUSY,
    errcode::DEAD_TOKEN,
    row(
        &[40001],
        Class::Operator,
        "the AppSecret is wrong: copy it anew from 企业微信管理后台 → 应用管理 → the app → Secret into the account's secret \
         file; no reload is needed",
    ),
    errcode::NO_VERDICT,
    errcode::ALTERED_REQUEST,
    row(
        &[40013],
        Class::Operator,
        "no account has this id: compare the account's corpid with 企业微信管理后台 → 我的企业 → 企业信息 → 企业ID, and \
         reload",
    ),
    row(
        &[40125],
        Class::Operator,
        "the AppSecret is not this account's, perhaps it was reset: copy the present one from 企业微信管理后台 → 应用管理 → \
         the app → Secret into the account's secret file; no reload is needed",
    ),
    row(
        &[60020, 40164, 61004],
        Class::Operator,
        "add {ip} to the trusted IP addresses: 企业微信管理后台 → 应用管理 → the app → 企业可信IP; takes about 5 minutes",
    )
    .brief("{ip} is not whitelisted"),
    errcode::LOST_PARAMETER,
    row(
        &[45009],
        Class::Frequency,
        "called too often: the platform blocks the calls of this corp for a minute, up to an hour if they go on; find who else \
         fetches for this app; asked again after 1 minute, then ever more seldom up to once an hour",
    ),
    errcode::MINUTE_FULL,
    row(
        &[45033],
        Class::Transient,
        "too many calls at once for this corp; asked again soon, nothing to do here",
    ),
    row(
        &[50004, 50007],
        Class::Operator,
        "the account is frozen or may not use this interface: see the notices in 企业微信管理后台",
    ),
    row(
        &[],
        Class::Operator,
        "look for errcode {errcode} in the platform's list (全局错误码)",
    ),
];
