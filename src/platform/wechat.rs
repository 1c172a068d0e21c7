//! 公众号, 小程序, 小游戏 and 视频号: `api.weixin.qq.com`.
//!
//! Source of paths, errcodes and limits: the platform's documentation of its access-token interfaces and its global return
//! codes.

use super::count_calls::{CountCalls, USUAL_FIELDS};
use super::errcode::{self, ErrcodeRow, row};
use super::mirrored::{self, AppWants, Mirrored, MirroredCall};
use super::request::Request;
use super::{Ask, Fields, Ids, Platform};
use crate::call::Call;
use crate::terms::{Repeat, Terms, TicketLimits};
use crate::trouble::Class;
use crate::value::ValueName;
use std::time::Duration;

/// The platform.
pub const WECHAT: &Platform = &Platform {
    kind: "wechat",
    products: "公众号 and 小程序",
    ids: Ids {
        key: "appid",
        app_key: None,
        check: check_appid,
        twice: "merge the two, or set `method = \"stable\"`",
    },
    hosts_key: "hosts",
    hosts: &["https://api.weixin.qq.com", "https://api2.weixin.qq.com"],
    methods: &[STABLE, CLASSIC],
    endpoint,
    request,
    verify_paths: &["/cgi-bin/get_api_domain_ip", "/cgi-bin/getcallbackip"],
    no_verdict: &[48001],
    counts: Some(COUNTS),
    mirrored: MIRRORED,
    secret_digits: Some(32),
    fields: Fields::USUAL,
    errcodes: ERRCODES,
};

/// `stable_token`: the same token until it nears its end; callers do not disturb each other.
pub const STABLE: &Terms = &Terms {
    kind: "wechat",
    method: "stable",
    repeat: Repeat::Same {
        window: Duration::from_secs(300),
        polled: true,
    },
    can_force: true,
    tickets: &[
        ("jsapi", ValueName::JsapiTicket),
        ("wx_card", ValueName::WxCardTicket),
    ],
    tickets_follow_token: false,
    // The quota of tickets is small and not published.
    ticket_limits: TicketLimits { app: 240, id: None },
    shares_id: false,
    default_budget: 10_000,
};

/// `token`: each call mints a new token and ends the one before five minutes later.
pub const CLASSIC: &Terms = &Terms {
    method: "classic",
    repeat: Repeat::New {
        overlap: Duration::from_secs(300),
    },
    can_force: false,
    default_budget: 1000,
    ..*STABLE
};

const COUNTS: &CountCalls = &CountCalls {
    show_path: "/cgi-bin/openapi/quota/get",
    show: |path, endpoint, token| {
        let body = serde_json::json!({"cgi_path": endpoint});
        Request::post(path, &body).with("access_token", token)
    },
    clear_path: "/cgi-bin/clear_quota/v2",
    clear: |path, id, secret| {
        let body = ClearBody {
            appid: id,
            appsecret: secret,
        };
        Request::post(path, &body)
    },
    fields: USUAL_FIELDS,
};

const MIRRORED: &Mirrored = &Mirrored {
    calls: &[
        MirroredCall {
            path: "/cgi-bin/token",
            is_post: false,
            wants: AppWants::Token {
                grant_type: Some("grant_type"),
                id: "appid",
                key: "secret",
                doubted: None,
            },
        },
        MirroredCall {
            path: "/cgi-bin/stable_token",
            is_post: true,
            wants: AppWants::Token {
                grant_type: Some("grant_type"),
                id: "appid",
                key: "secret",
                doubted: Some("force_refresh"),
            },
        },
        MirroredCall {
            path: "/cgi-bin/ticket/getticket",
            is_post: false,
            wants: AppWants::Ticket(|kind| match kind {
                "jsapi" => Some(ValueName::JsapiTicket),
                "wx_card" => Some(ValueName::WxCardTicket),
                _ => None,
            }),
        },
    ],
    grant: |name, value, expires_in| match name {
        ValueName::AccessToken => {
            format!(r#"{{"access_token":"{value}","expires_in":{expires_in}}}"#)
        }
        _ => mirrored::grant(name, value, expires_in),
    },
    refuse: |refused, sign| {
        let (at, [a, b]) = (sign.at, sign.random);
        let rid = format!(" rid: {at:08x}-{a:08x}-{b:08x}");
        mirrored::refusal(refused.usual(), &rid)
    },
};

#[derive(serde::Serialize)]
struct ClearBody<'a> {
    appid: &'a str,
    appsecret: &'a str,
}

fn endpoint(terms: &Terms, call: Call) -> &'static str {
    match call {
        Call::Token | Call::ForceToken if terms.method == CLASSIC.method => "/cgi-bin/token",
        Call::Token | Call::ForceToken => "/cgi-bin/stable_token",
        Call::Ticket(_) => "/cgi-bin/ticket/getticket",
        Call::Verify => WECHAT.verify_paths[0],
    }
}

fn request(ask: &Ask<'_>) -> Request {
    let get = Request::get(ask.path);
    match ask.call {
        Call::Token | Call::ForceToken if ask.terms.method == CLASSIC.method => get
            .with("grant_type", "client_credential")
            .with("appid", ask.id)
            .with("secret", ask.credential),
        Call::Token | Call::ForceToken => Request::post(
            ask.path,
            &StableBody {
                grant_type: "client_credential",
                appid: ask.id,
                secret: ask.credential,
                force_refresh: ask.call == Call::ForceToken,
            },
        ),
        Call::Ticket(name) => get.with("access_token", ask.credential).with(
            "type",
            if name == ValueName::WxCardTicket {
                "wx_card"
            } else {
                "jsapi"
            },
        ),
        Call::Verify => get.with("access_token", ask.credential),
    }
}

#[derive(serde::Serialize)]
struct StableBody<'a> {
    grant_type: &'a str,
    appid: &'a str,
    secret: &'a str,
    force_refresh: bool,
}

fn check_appid(id: &str) -> Result<Option<&'static str>, &'static str> {
    if id.starts_with("gh_") {
        return Err(
            "is an 原始ID; write the AppID, which begins with wx: 微信公众平台 → 设置与开发 → 基本配置",
        );
    }
    if ["ww", "wp", "wo"].iter().any(|corp| id.starts_with(corp)) {
        return Err("is the id of a 企业微信: name it `corpid`");
    }
    match id.strip_prefix("wx") {
        Some(rest) if rest.len() == 16 && rest.bytes().all(|b| b.is_ascii_hexdigit()) => Ok(None),
        Some(rest) if rest.len() == 16 && rest.bytes().all(|b| b.is_ascii_alphanumeric()) => {
            Ok(Some(
                "is unusual: an AppID is wx and 16 hexadecimal digits; compare it with the console",
            ))
        }
        _ => Err("must be wx and 16 hexadecimal digits"),
    }
}

const HOUR: Duration = Duration::from_secs(3600);

const ERRCODES: &[ErrcodeRow] = &[
    errcode::BUSY,
    errcode::DEAD_TOKEN,
    row(
        &[40001],
        Class::Operator,
        "the AppSecret is wrong: copy it anew from 微信公众平台 → 设置与开发 → 基本配置 → AppSecret into the account's \
         secret file; no reload is needed",
    ),
    errcode::NO_VERDICT,
    errcode::ALTERED_REQUEST,
    row(
        &[40013],
        Class::Operator,
        "no account has this id: compare the account's appid with 微信公众平台 → 设置与开发 → 基本配置 → \
         开发者ID(AppID), and reload",
    ),
    row(
        &[40125],
        Class::Operator,
        "the AppSecret is not this account's, perhaps it was reset: copy the present one from 微信公众平台 → 设置与开发 → \
         基本配置 → AppSecret into the account's secret file; no reload is needed",
    ),
    row(
        &[40164, 61004],
        Class::Operator,
        "add {ip} to the IP whitelist: 微信公众平台 → 设置与开发 → 基本配置 → IP白名单; takes about 5 minutes",
    )
    .brief("{ip} is not whitelisted"),
    row(
        &[40243],
        Class::Operator,
        "the AppSecret is frozen: unfreeze it at 微信公众平台 → 设置与开发 → 基本配置 → AppSecret; takes about 10 minutes",
    ),
    errcode::LOST_PARAMETER,
    row(
        &[45009],
        Class::DailyQuota,
        "the day's quota of this interface is used up: find who else fetches for this account, or clear the quota at \
         微信公众平台 → 设置与开发 → 接口权限 (10 times a month); asked every 30 minutes, at the latest when the quota starts \
         anew at midnight UTC+8",
    ),
    errcode::MINUTE_FULL,
    row(
        &[45033],
        Class::Transient,
        "too many calls at once; asked again soon, nothing to do here",
    ),
    row(
        &[48006],
        Class::Operator,
        "the month's clear_quota calls are used up: wait for the quota to start anew at midnight UTC+8",
    ),
    row(
        &[50004, 50007],
        Class::Operator,
        "the account is frozen or may not use this interface: see the notices in 微信公众平台",
    ),
    row(
        &[61024],
        Class::Operator,
        "the account belongs to a third-party platform, which must fetch its token: it cannot be kept here",
    ),
    row(
        &[89501, 89503],
        Class::Operator,
        "an administrator of the account must confirm {ip} in the WeChat message that the platform sent, or add it at \
         微信公众平台 → 设置与开发 → 基本配置 → IP白名单",
    )
    .brief("{ip} waits for an administrator's confirmation"),
    row(
        &[89506],
        Class::TimedBlock(Duration::from_secs(24 * 3600)),
        "an administrator of the account refused {ip} twice, so the platform blocks it for 24 hours: agree with that \
         person before they are over",
    )
    .brief("{ip} was refused by an administrator"),
    row(
        &[89507],
        Class::TimedBlock(HOUR),
        "an administrator of the account refused {ip}, so the platform blocks it for 1 hour: agree with that person before \
         it is over",
    )
    .brief("{ip} was refused by an administrator"),
    row(
        &[],
        Class::Operator,
        "look for errcode {errcode} in the platform's list (全局返回码)",
    ),
];
