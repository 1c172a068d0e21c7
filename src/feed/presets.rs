//! The keys in which SDKs keep tokens and tickets, and what they expect in them.

mod names;
mod php;
mod template;

pub use template::KeyTemplate;

use crate::config::{KeyRule, PhpCache, Preset, SdkKind};
use crate::statement::unix_now;
use crate::wish::TargetWish;
use php::{php_array, php_string};
use wxtokend::value::ValueName;
use zeroize::Zeroizing;

/// One key and what is to stand in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyEntry {
    /// The key.
    pub key: String,
    /// The content that it is to have; empty when there is no value.
    pub body: Zeroizing<String>,
}

impl KeyRule {
    /// The keys of a wish with what is to stand in them.
    pub fn entries(&self, wish: &TargetWish, value: ValueName) -> Result<Vec<KeyEntry>, String> {
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
                        SdkKind::OfficialAccount
                    } else {
                        SdkKind::Work
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
    kind: SdkKind,
    agentid: Option<u32>,
    cache: PhpCache,
    prefix: Option<&'a str>,
    secret: &'a str,
    appid: &'a str,
    value: ValueName,
}

impl Sdk<'_> {
    fn entries(&self, wish: &TargetWish) -> Vec<KeyEntry> {
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use wxtokend::account::AccountName;
    use wxtokend::follow::Holding;

    fn sdk(preset: Preset, kind: SdkKind, value: ValueName) -> Sdk<'static> {
        Sdk {
            preset,
            kind,
            agentid: None,
            cache: PhpCache::Symfony,
            prefix: None,
            secret: "SECRET",
            appid: "APPID",
            value,
        }
    }

    fn entries(sdk: &Sdk<'_>) -> Vec<(String, String)> {
        let wish = TargetWish {
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
        use SdkKind::{MiniApp, OfficialAccount, Work};
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
                ..sdk(Preset::EasyWechat6, SdkKind::Work, ValueName::AccessToken)
            };
            entries(&sdk)[0].0.clone()
        };
        assert_eq!(
            key(PhpCache::Symfony, "app"),
            "app:work.access_token.APPID.SECRET"
        );
        assert_eq!(
            key(PhpCache::Laravel, "app_database_app_cache_"),
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
