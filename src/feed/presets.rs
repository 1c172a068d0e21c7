//! The keys in which SDKs keep tokens and tickets, and what they expect in them.

use crate::config::{Cache, KeyRule, Kind, Preset};
use crate::statement::unix_now;
use crate::wish::Wish;
use md5::{Digest, Md5};
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use wxtokend::value::ValueName;
use zeroize::Zeroizing;

/// One key and what is to stand in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyEntry {
    /// The key.
    pub key: String,
    /// What is to stand in it; empty when there is no value.
    pub body: Zeroizing<String>,
}

/// A template of a key or of what stands in it.
#[derive(Clone)]
pub struct KeyTemplate {
    text: Arc<str>,
    value: ValueName,
    engine: Arc<Environment<'static>>,
}

/// The engine knows templates by name; there is one in each.
const NAME: &str = "template";
const FUEL: u64 = 20_000;

impl KeyTemplate {
    /// Compiles a template and tries it. Says what is wrong as the rest of a sentence that its key begins.
    pub fn parse(text: &str, value: ValueName) -> Result<Self, Cow<'static, str>> {
        let mut engine = Environment::new();
        engine.set_undefined_behavior(UndefinedBehavior::Strict);
        engine.set_auto_escape_callback(|_| AutoEscape::None);
        engine.set_fuel(Some(FUEL));
        engine.set_debug(true);
        let explain = |error: &minijinja::Error| match error.detail() {
            Some(detail) => format!(
                "is no template that can be used: {detail}; there are account, appid, {value}, expire_time, obtained_time \
                 and expires_in"
            ),
            None => format!("is no template that can be used: {}", error.kind()),
        };
        engine
            .add_template_owned(NAME, text.to_owned())
            .map_err(|error| explain(&error))?;
        let template = Self {
            text: text.into(),
            value,
            engine: Arc::new(engine),
        };
        template
            .run("sample", "wx0123456789abcdef", "sample", 7200, 0)
            .map_err(|error| explain(&error))?;
        Ok(template)
    }

    /// Whether what it says changes with the value.
    pub fn names_more_than_account(&self) -> bool {
        let names = self
            .engine
            .get_template(NAME)
            .map(|template| template.undeclared_variables(false));
        names.is_ok_and(|names| {
            names
                .iter()
                .any(|name| !matches!(name.as_str(), "account" | "appid"))
        })
    }

    fn run(
        &self,
        account: &str,
        appid: &str,
        token: &str,
        expire_time: i64,
        obtained_time: i64,
    ) -> Result<String, minijinja::Error> {
        let context = BTreeMap::from([
            ("account", Value::from(account)),
            ("appid", Value::from(appid)),
            (self.value.as_str(), Value::from(token)),
            ("expire_time", Value::from(expire_time)),
            ("obtained_time", Value::from(obtained_time)),
            ("expires_in", Value::from((expire_time - unix_now()).max(0))),
        ]);
        self.engine.get_template(NAME)?.render(Value::from(context))
    }

    fn render(&self, wish: &Wish) -> Result<Zeroizing<String>, String> {
        let holding = wish.holding.as_ref();
        let rendered = self.run(
            wish.account.as_str(),
            &wish.appid,
            holding.map_or("", |holding| holding.token.expose()),
            holding.map_or(0, |holding| holding.expire_time),
            holding.map_or(0, |holding| holding.obtained_time),
        );
        // What else the engine has to say may quote the value.
        rendered
            .map(Zeroizing::new)
            .map_err(|error| error.kind().to_string())
    }
}

impl PartialEq for KeyTemplate {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text && self.value == other.value
    }
}

impl std::fmt::Debug for KeyTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("KeyTemplate").field(&self.text).finish()
    }
}

impl KeyRule {
    /// The keys of a wish with what is to stand in them.
    pub fn entries(&self, wish: &Wish, value: ValueName) -> Result<Vec<KeyEntry>, String> {
        match self {
            Self::Own(key, body) => {
                let text = body.template.render(wish)?;
                Ok(vec![KeyEntry {
                    key: key.render(wish)?.to_string(),
                    body: match body.cache {
                        Some(_) => php_string(&text),
                        None => text,
                    },
                }])
            }
            Self::Preset {
                preset,
                kind,
                agentid,
                cache,
                prefix,
                app_secret,
            } => {
                let secret = app_secret
                    .as_ref()
                    .map(crate::config::PasswordSource::read)
                    .transpose()?;
                let sdk = Sdk {
                    preset: *preset,
                    kind: kind.unwrap_or(if wish.appid.starts_with("wx") {
                        Kind::OfficialAccount
                    } else {
                        Kind::Work
                    }),
                    agentid: *agentid,
                    cache: *cache,
                    prefix: prefix.as_deref(),
                    secret: secret.as_deref().map_or("", String::as_str),
                    appid: &wish.appid,
                    value,
                };
                Ok(sdk.entries(wish))
            }
        }
    }
}

/// An SDK and one account.
struct Sdk<'a> {
    preset: Preset,
    kind: Kind,
    agentid: Option<u32>,
    cache: Cache,
    prefix: Option<&'a str>,
    secret: &'a str,
    appid: &'a str,
    value: ValueName,
}

impl Sdk<'_> {
    fn entries(&self, wish: &Wish) -> Vec<KeyEntry> {
        let (token, left, end) = match &wish.holding {
            Some(holding) => (
                holding.token.expose(),
                (holding.expire_time - unix_now()).max(0),
                holding.expire_time,
            ),
            None => ("", 0, 0),
        };
        let plain = || Zeroizing::new(token.to_owned());
        let entry = |key: String, body| KeyEntry { key, body };
        match self.preset {
            Preset::WxJava => vec![entry(self.wxjava(), plain())],
            Preset::Silenceper => (self.silenceper().into_iter())
                .map(|key| entry(key, plain()))
                .collect(),
            Preset::Wechatpy => {
                let key = self.wechatpy();
                let quoted = Zeroizing::new(format!("\"{token}\""));
                let end_key = format!("{key}_expires_at");
                vec![
                    entry(end_key, Zeroizing::new(end.to_string())),
                    entry(key, quoted),
                ]
            }
            Preset::PowerWechat => {
                let body = match self.value {
                    ValueName::AccessToken => {
                        format!(r#"{{"access_token":"{token}","expires_in":{left}}}"#)
                    }
                    _ => format!(
                        r#"{{"errcode":0,"errmsg":"ok","ticket":"{token}","expires_in":{left}}}"#
                    ),
                };
                vec![entry(self.powerwechat(), Zeroizing::new(body))]
            }
            Preset::EasyWechat5 => {
                let body = match self.value {
                    ValueName::AccessToken => {
                        php_array(&[("access_token", Ok(token)), ("expires_in", Err(left))])
                    }
                    _ => php_array(&[
                        ("errcode", Err(0)),
                        ("errmsg", Ok("ok")),
                        ("ticket", Ok(token)),
                        ("expires_in", Err(left)),
                    ]),
                };
                vec![entry(self.cached(&self.easywechat5()), body)]
            }
            Preset::EasyWechat6 => (self.easywechat6().into_iter())
                .map(|key| entry(self.cached(&key), php_string(token)))
                .collect(),
        }
    }

    /// `type` as tickets are asked for.
    fn ticket(&self) -> &'static str {
        match self.value {
            ValueName::WxCardTicket => "wx_card",
            ValueName::AgentTicket => "agent_config",
            ValueName::AccessToken | ValueName::JsapiTicket => "jsapi",
        }
    }

    fn wxjava(&self) -> String {
        let appid = self.appid;
        if self.kind == Kind::Work {
            let prefix = self
                .prefix
                .map_or_else(String::new, |prefix| format!("{prefix}:"));
            let name = match self.value {
                ValueName::AccessToken => "wechat_cp_access_token_key:",
                ValueName::AgentTicket => "wechat_cp_agent_jsapi_ticket_key:",
                _ => "wechat_cp_jsapi_ticket_key:",
            };
            let agent = self
                .agentid
                .map_or_else(String::new, |agentid| format!(":{agentid}"));
            return format!("{prefix}{name}{appid}{agent}");
        }
        let prefix = self.prefix.unwrap_or("wx");
        match self.value {
            ValueName::AccessToken => format!("{prefix}:access_token:{appid}"),
            _ => format!("{prefix}:ticket:key:{appid}:{}", self.ticket()),
        }
    }

    /// Both of its ways to ask for a token keep it, under names of their own.
    fn silenceper(&self) -> Vec<String> {
        let prefix = self.prefix.unwrap_or(match self.kind {
            Kind::OfficialAccount => "gowechat_officialaccount_",
            Kind::MiniApp => "gowechat_miniprogram_",
            Kind::Work => "gowechat_work_",
        });
        let appid = self.appid;
        match self.value {
            ValueName::AccessToken if self.kind == Kind::Work => {
                vec![format!("{prefix}_access_token_{appid}")]
            }
            ValueName::AccessToken => vec![
                format!("{prefix}_access_token_{appid}"),
                format!("{prefix}_stable_access_token_{appid}"),
            ],
            _ => vec![format!("{prefix}_{}_ticket_{appid}", self.ticket())],
        }
    }

    fn wechatpy(&self) -> String {
        let prefix = self.prefix.unwrap_or("wechatpy");
        let appid = self.appid;
        match (self.value, self.kind) {
            (ValueName::AccessToken, Kind::Work) => {
                let secret: String = self.secret.chars().take(10).collect();
                format!("{prefix}:{appid}_{secret}_access_token")
            }
            (ValueName::AccessToken, _) => format!("{prefix}:{appid}_access_token"),
            (ValueName::WxCardTicket, _) => format!("{prefix}:{appid}_jsapi_card_ticket"),
            _ => format!("{prefix}:{appid}_jsapi_ticket"),
        }
    }

    fn powerwechat(&self) -> String {
        let prefix = self.prefix.unwrap_or_default();
        match self.value {
            ValueName::AccessToken => {
                format!(
                    "{prefix}powerwechat.access_token.{}",
                    hex_md5(&format!("{}{}", self.appid, self.secret))
                )
            }
            _ => format!(
                "{prefix}powerwechat.basic_service.jssdk.ticket.{}.{}",
                self.ticket(),
                self.appid
            ),
        }
    }

    fn easywechat5(&self) -> String {
        let appid = self.appid;
        let escaped = |text: &str| {
            text.replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('/', "\\/")
        };
        match (self.value, self.kind) {
            (ValueName::AccessToken, Kind::Work) => {
                let credentials = format!(
                    r#"{{"corpid":"{}","corpsecret":"{}"}}"#,
                    escaped(appid),
                    escaped(self.secret)
                );
                format!("easywechat.kernel.access_token.{}", hex_md5(&credentials))
            }
            (ValueName::AccessToken, _) => {
                let credentials = format!(
                    r#"{{"grant_type":"client_credential","appid":"{}","secret":"{}"}}"#,
                    escaped(appid),
                    escaped(self.secret)
                );
                format!("easywechat.kernel.access_token.{}", hex_md5(&credentials))
            }
            (ValueName::AgentTicket, _) => {
                let agentid = self.agentid.unwrap_or_default();
                format!("easywechat.work.jssdk.ticket.{agentid}.agent_config.{appid}")
            }
            (_, Kind::Work) => format!("easywechat.work.jssdk.ticket.config.{appid}"),
            _ => format!(
                "easywechat.basic_service.jssdk.ticket.{}.{appid}",
                self.ticket()
            ),
        }
    }

    /// Its key says too whether the app asks for a stable token: both are kept.
    fn easywechat6(&self) -> Vec<String> {
        let (appid, secret) = (self.appid, self.secret);
        let kind = match self.kind {
            Kind::OfficialAccount => "official_account",
            Kind::MiniApp => "mini_app",
            Kind::Work => "work",
        };
        match (self.value, self.kind) {
            (ValueName::AccessToken, Kind::Work) => {
                vec![format!("work.access_token.{appid}.{secret}")]
            }
            (ValueName::AccessToken, _) => vec![
                format!("{kind}.access_token.{appid}.{secret}.0"),
                format!("{kind}.access_token.{appid}.{secret}.1"),
            ],
            (ValueName::AgentTicket, _) => {
                vec![format!(
                    "work.jsapi_ticket.{appid}.{}",
                    self.agentid.unwrap_or_default()
                )]
            }
            _ => vec![format!("{kind}.{}_ticket.{appid}", self.ticket())],
        }
    }

    /// The SDK's key as its cache writes it.
    fn cached(&self, key: &str) -> String {
        match (self.cache, self.prefix) {
            (_, None | Some("")) => key.to_owned(),
            // Its namespace.
            (Cache::Symfony, Some(prefix)) => format!("{prefix}:{key}"),
            (Cache::Laravel | Cache::Thinkphp, Some(prefix)) => format!("{prefix}{key}"),
        }
    }
}

fn hex_md5(text: &str) -> String {
    let mut hex = String::with_capacity(32);
    for byte in Md5::digest(text.as_bytes()) {
        // A string never fails to take text.
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

/// As PHP's `serialize` writes a string. Its length counts bytes.
fn php_string(text: &str) -> Zeroizing<String> {
    Zeroizing::new(format!("s:{}:\"{text}\";", text.len()))
}

/// As PHP's `serialize` writes an array of strings and numbers.
fn php_array(fields: &[(&str, Result<&str, i64>)]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(format!("a:{}:{{", fields.len()));
    for (name, value) in fields {
        text.push_str(&php_string(name));
        match value {
            Ok(string) => text.push_str(&php_string(string)),
            Err(number) => {
                let _ = write!(text, "i:{number};");
            }
        }
    }
    text.push('}');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use wxtokend::account::AccountName;
    use wxtokend::follow::Holding;

    fn sdk(preset: Preset, kind: Kind, value: ValueName) -> Sdk<'static> {
        Sdk {
            preset,
            kind,
            agentid: None,
            cache: Cache::Symfony,
            prefix: None,
            secret: "SECRET",
            appid: "APPID",
            value,
        }
    }

    fn entries(sdk: &Sdk<'_>) -> Vec<(String, String)> {
        let wish = Wish {
            account: AccountName::parse("shop").unwrap(),
            appid: "APPID".into(),
            holding: Some(Holding {
                token: wxtokend::value::Value::parse("TOKEN").unwrap(),
                expire_time: 1_700_007_200,
                obtained_time: 1_700_000_000,
            }),
        };
        let pair = |entry: KeyEntry| (entry.key, entry.body.to_string());
        sdk.entries(&wish).into_iter().map(pair).collect()
    }

    #[test]
    fn each_sdk_finds_its_key() {
        use Kind::{MiniApp, OfficialAccount, Work};
        use ValueName::{AccessToken, JsapiTicket, WxCardTicket};
        let check = |preset, kind, value, expected: &[(&str, &str)]| {
            let found = entries(&sdk(preset, kind, value));
            let found: Vec<_> = found
                .iter()
                .map(|(key, body)| (key.as_str(), body.as_str()))
                .collect();
            assert_eq!(found, expected);
        };
        check(
            Preset::WxJava,
            OfficialAccount,
            AccessToken,
            &[("wx:access_token:APPID", "TOKEN")],
        );
        check(
            Preset::WxJava,
            OfficialAccount,
            WxCardTicket,
            &[("wx:ticket:key:APPID:wx_card", "TOKEN")],
        );
        check(
            Preset::WxJava,
            Work,
            AccessToken,
            &[("wechat_cp_access_token_key:APPID", "TOKEN")],
        );
        check(
            Preset::EasyWechat5,
            OfficialAccount,
            AccessToken,
            &[(
                // echo -n '{"grant_type":"client_credential","appid":"APPID","secret":"SECRET"}' | md5sum
                "easywechat.kernel.access_token.db215e8f058f60fdb7b51dcf6a48f19a",
                "a:2:{s:12:\"access_token\";s:5:\"TOKEN\";s:10:\"expires_in\";i:0;}",
            )],
        );
        check(
            Preset::EasyWechat6,
            MiniApp,
            AccessToken,
            &[
                ("mini_app.access_token.APPID.SECRET.0", "s:5:\"TOKEN\";"),
                ("mini_app.access_token.APPID.SECRET.1", "s:5:\"TOKEN\";"),
            ],
        );
        check(
            Preset::EasyWechat6,
            OfficialAccount,
            JsapiTicket,
            &[("official_account.jsapi_ticket.APPID", "s:5:\"TOKEN\";")],
        );
        check(
            Preset::Silenceper,
            OfficialAccount,
            AccessToken,
            &[
                ("gowechat_officialaccount__access_token_APPID", "TOKEN"),
                (
                    "gowechat_officialaccount__stable_access_token_APPID",
                    "TOKEN",
                ),
            ],
        );
        check(
            Preset::Silenceper,
            MiniApp,
            JsapiTicket,
            &[("gowechat_miniprogram__jsapi_ticket_APPID", "TOKEN")],
        );
        check(
            Preset::Wechatpy,
            OfficialAccount,
            AccessToken,
            &[
                ("wechatpy:APPID_access_token_expires_at", "1700007200"),
                ("wechatpy:APPID_access_token", "\"TOKEN\""),
            ],
        );
        check(
            Preset::PowerWechat,
            OfficialAccount,
            AccessToken,
            &[(
                "powerwechat.access_token.cecbec97cfe0c1ec0d204521e6d6dff0",
                r#"{"access_token":"TOKEN","expires_in":0}"#,
            )],
        );
    }

    #[test]
    fn caches_put_their_prefix_before_the_key() {
        let key = |cache, prefix| {
            let sdk = Sdk {
                cache,
                prefix: Some(prefix),
                ..sdk(Preset::EasyWechat6, Kind::Work, ValueName::AccessToken)
            };
            entries(&sdk)[0].0.clone()
        };
        assert_eq!(
            key(Cache::Symfony, "app"),
            "app:work.access_token.APPID.SECRET"
        );
        assert_eq!(
            key(Cache::Laravel, "app_database_app_cache_"),
            "app_database_app_cache_work.access_token.APPID.SECRET"
        );
    }

    #[test]
    fn a_template_says_what_is_wrong_with_it() {
        let parse = |text: &str| KeyTemplate::parse(text, ValueName::AccessToken).err();
        assert_eq!(parse("app:{{ appid }}:{{ access_token }}"), None);
        for text in ["{{ token }}", "{{ appid", "{{ jsapi_ticket }}"] {
            assert!(
                parse(text)
                    .unwrap()
                    .contains("is no template that can be used"),
                "{text}"
            );
        }
        assert!(
            !KeyTemplate::parse("{{ appid }}", ValueName::AccessToken)
                .unwrap()
                .names_more_than_account()
        );
        assert!(
            KeyTemplate::parse("{{ expires_in }}", ValueName::AccessToken)
                .unwrap()
                .names_more_than_account()
        );
    }
}
