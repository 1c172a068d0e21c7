//! `[[redis]]`

use super::ca_file;
use super::secret::{PasswordSource, file, password};
use super::url::{Address, Url};
use crate::presets::KeyTemplate;
use std::path::{Path, PathBuf};
use wxtokend::config::table::Table;
use wxtokend::config::value::{self, Checked};
use wxtokend::value::ValueName;

const EXAMPLE: &str = "redis://127.0.0.1:6379/0";
const PRESETS: [(&str, Preset); 6] = [
    ("wxjava", Preset::WxJava),
    ("easywechat-5", Preset::EasyWechat5),
    ("easywechat-6", Preset::EasyWechat6),
    ("silenceper", Preset::Silenceper),
    ("powerwechat", Preset::PowerWechat),
    ("wechatpy", Preset::Wechatpy),
];
const CACHES: [(&str, PhpCache); 3] = [
    ("symfony", PhpCache::Symfony),
    ("laravel", PhpCache::Laravel),
    ("thinkphp", PhpCache::Thinkphp),
];
const KINDS: [(&str, SdkKind); 3] = [
    ("official_account", SdkKind::OfficialAccount),
    ("mini_app", SdkKind::MiniApp),
    ("work", SdkKind::Work),
];

/// Keys of Redis.
#[derive(Debug, Clone, PartialEq)]
pub struct Redis {
    /// Its address; with sentinels the database that is used.
    pub url: Option<Url>,
    /// The servers that know where it is.
    pub sentinels: Option<Sentinels>,
    /// The password; nothing where none is asked for.
    pub password: Option<PasswordSource>,
    /// PEM certificates trusted besides the system's.
    pub ca_file: Option<PathBuf>,
    /// The number of the database.
    pub database: i64,
    /// The keys, and what stands in them.
    pub rule: KeyRule,
}

/// Redis Sentinel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sentinels {
    /// The sentinels.
    pub urls: Vec<Url>,
    /// The name of the service.
    pub service: String,
}

/// The keys, and what stands in them.
#[derive(Debug, Clone, PartialEq)]
pub enum KeyRule {
    /// Those of an SDK.
    Preset {
        /// The SDK.
        preset: Preset,
        /// For which kind of account; by its appid if nothing is said.
        kind: Option<SdkKind>,
        /// The app of a 企业微信.
        agentid: Option<u32>,
        /// The cache that the SDK stands on.
        cache: PhpCache,
        /// The text before the SDK's key.
        prefix: Option<String>,
        /// The AppSecret that the app has, a dummy, where the key is made of it.
        app_secret: Option<PasswordSource>,
    },
    /// As written in the configuration.
    Own(KeyTemplate, KeyBody),
}

/// The content of a key that the configuration names.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyBody {
    /// The text.
    pub template: KeyTemplate,
    /// The cache whose form it takes, if any.
    pub cache: Option<PhpCache>,
}

/// An SDK that keeps tokens in Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// `WxJava` (Java).
    WxJava,
    /// `EasyWeChat` 5 (PHP).
    EasyWechat5,
    /// `EasyWeChat` 6.15 and later (PHP).
    EasyWechat6,
    /// silenceper/wechat v2 (Go).
    Silenceper,
    /// `PowerWeChat` 3 (Go).
    PowerWechat,
    /// wechatpy (Python).
    Wechatpy,
}

/// The kind of account, as an SDK sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SdkKind {
    /// 公众号
    OfficialAccount,
    /// 小程序
    MiniApp,
    /// 企业微信
    Work,
}

/// A cache of PHP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PhpCache {
    /// symfony/cache
    Symfony,
    /// Laravel
    Laravel,
    /// `ThinkPHP`
    Thinkphp,
}

pub(super) fn read(
    table: &Table<'_>,
    credentials: Option<&Path>,
    value: ValueName,
) -> Option<(String, Redis)> {
    let password = password(table, credentials);
    let ca_file = ca_file(table);
    let url = table.read("url", |text| {
        url(value::text(text)?, &["redis", "rediss", "unix"])
    });
    let sentinels = table.read_list("sentinels", |text| url_of_sentinel(value::text(text)?));
    let service = table.read("service", |text| value::text(text).map(str::to_owned));
    match (table.has("sentinels"), table.has("service")) {
        (true, false) => table.fault(
            "sentinels",
            "needs `service`: the name that the sentinels know the server by",
        ),
        (false, true) => table.fault("service", "is for `sentinels`: list those, or remove it"),
        _ => {}
    }
    match (table.has("sentinels"), table.has("url")) {
        (true, true) => table.fault("url", "stands beside `sentinels`: keep one of them"),
        (false, false) => {
            table.fault_of_absence("`url` is missing: say where Redis is, or list `sentinels`");
        }
        _ => {}
    }
    if sentinels.as_ref().is_some_and(Vec::is_empty) {
        table.fault(
            "sentinels",
            "must name at least one, such as [\"redis://10.0.0.1:26379\"]",
        );
    }
    let rule = rule(table, value);
    let sentinels = match (sentinels, service) {
        (Some(urls), Some(service)) => Some(Sentinels { urls, service }),
        _ => None,
    };
    if url.is_none() && sentinels.is_none() {
        return None;
    }
    let place = match (&url, &sentinels) {
        (Some(url), _) => url.shown(),
        (_, Some(sentinels)) => format!("redis sentinel service {}", sentinels.service),
        _ => return None,
    };
    let number = url.as_ref().map_or(Some(0), number);
    let redis = Redis {
        database: number?,
        url,
        sentinels,
        password,
        ca_file,
        rule: rule?,
    };
    Some((place, redis))
}

/// The number of the database: of `redis://host/1` it is 1. A Unix socket is all path.
fn number(url: &Url) -> Option<i64> {
    match (&*url.scheme, url.path.trim_matches('/')) {
        ("unix", _) | (_, "") => Some(0),
        (_, number) => number.parse().ok(),
    }
}

fn url(text: &str, schemes: &[&str]) -> Checked<Url> {
    let mut url = Url::parse(text, schemes, EXAMPLE)?;
    if url.scheme == "unix" {
        if url.path.len() < 2 {
            return Err(
                "must name the path of a socket, as in \"unix:///run/redis/redis-server.sock\""
                    .into(),
            );
        }
        url.address = Address::Unix(url.path.clone().into());
        url.path = String::new();
        return Ok(url);
    }
    if matches!(&url.address, Address::Tcp(host, _) if host.is_empty()) {
        return Err(format!("must name a host, as in \"{EXAMPLE}\"").into());
    }
    if number(&url).is_none_or(|number| number < 0) {
        return Err(format!("must end in the number of a database, as in \"{EXAMPLE}\"").into());
    }
    Ok(url)
}

fn url_of_sentinel(text: &str) -> Checked<Url> {
    url(text, &["redis", "rediss"])
}

fn rule(table: &Table<'_>, value: ValueName) -> Option<KeyRule> {
    let cache = table.read("cache", |word| value::choice(word, &CACHES));
    if table.has("preset") {
        preset_rule(table, value, cache)
    } else {
        own_rule(table, value, cache)
    }
}

/// The keys of an SDK.
fn preset_rule(table: &Table<'_>, value: ValueName, cache: Option<PhpCache>) -> Option<KeyRule> {
    let preset = table.read("preset", |word| value::choice(word, &PRESETS));
    let kind = table.read("kind", |word| value::choice(word, &KINDS));
    let agentid = table.read("agentid", |number| value::whole(number, 0..=u32::MAX));
    let prefix = table.read("prefix", |text| {
        let text = text.as_str().ok_or("must be a text in quotes")?;
        Ok(text.to_owned())
    });
    let app_secret = file(table, "app_secret_file");
    if let Some(key) = ["key", "body"].into_iter().find(|key| table.has(key)) {
        table.fault(key, "stands beside `preset`: keep one of them");
        return None;
    }
    let preset = preset?;
    let is_php = matches!(preset, Preset::EasyWechat5 | Preset::EasyWechat6);
    if table.has("cache") && !is_php {
        table.fault("cache", "is for the presets of EasyWeChat: remove it");
    }
    // Others' keys hold none, or only for 企业微信.
    let needs_secret = match preset {
        Preset::EasyWechat5 | Preset::EasyWechat6 | Preset::PowerWechat => {
            value == ValueName::AccessToken
        }
        Preset::WxJava | Preset::Silenceper | Preset::Wechatpy => false,
    };
    if needs_secret && !table.has("app_secret_file") {
        table.fault(
            "preset",
            "makes its key of the secret that the app has: put that (a dummy, where the app has a dummy) into a \
             file and name it with `app_secret_file`",
        );
    }
    Some(KeyRule::Preset {
        preset,
        kind,
        agentid,
        cache: cache.unwrap_or(PhpCache::Symfony),
        prefix,
        app_secret,
    })
}

/// The key as written in the configuration.
fn own_rule(table: &Table<'_>, value: ValueName, cache: Option<PhpCache>) -> Option<KeyRule> {
    let template = |key: &str| {
        table.read(key, |text| {
            let text = text
                .as_str()
                .filter(|text| !text.is_empty())
                .ok_or("must be a text in quotes")?;
            KeyTemplate::parse(text, value)
        })
    };
    let (key, body) = (template("key"), template("body"));
    for only in ["kind", "agentid", "prefix", "app_secret_file"] {
        if table.has(only) {
            table.fault(only, "is for a `preset`: name one, or remove it");
        }
    }
    match (table.has("key"), table.has("body")) {
        (true, true) => {}
        (true, false) => table.fault("key", "needs `body`: what is to stand in it"),
        (false, true) => table.fault("body", "needs `key`: where it is to stand"),
        (false, false) => {
            table.fault_of_absence("`preset` is missing: name one, or give `key` and `body`");
        }
    }
    let (key, body) = (key?, body?);
    if key.names_more_than_account() {
        table.fault(
            "key",
            "may name only account and appid: a key that changes with the value is found by nobody",
        );
    }
    Some(KeyRule::Own(
        key,
        KeyBody {
            template: body,
            cache,
        },
    ))
}
