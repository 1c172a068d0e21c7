//! The names of the keys, as each SDK makes them.

use super::Sdk;
use crate::config::{PhpCache, SdkKind};
use md5::{Digest, Md5};
use std::fmt::Write as _;
use wxtokend::value::ValueName;

impl Sdk<'_> {
    /// `type` as tickets are asked for.
    fn ticket(&self) -> &'static str {
        match self.value {
            ValueName::WxCardTicket => "wx_card",
            ValueName::AgentTicket => "agent_config",
            ValueName::AccessToken | ValueName::JsapiTicket => "jsapi",
        }
    }

    pub(super) fn wxjava(&self) -> String {
        let appid = self.appid;
        if self.kind == SdkKind::Work {
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
    pub(super) fn silenceper(&self) -> Vec<String> {
        let prefix = self.prefix.unwrap_or(match self.kind {
            SdkKind::OfficialAccount => "gowechat_officialaccount_",
            SdkKind::MiniApp => "gowechat_miniprogram_",
            SdkKind::Work => "gowechat_work_",
        });
        let appid = self.appid;
        match self.value {
            ValueName::AccessToken if self.kind == SdkKind::Work => {
                vec![format!("{prefix}_access_token_{appid}")]
            }
            ValueName::AccessToken => vec![
                format!("{prefix}_access_token_{appid}"),
                format!("{prefix}_stable_access_token_{appid}"),
            ],
            _ => vec![format!("{prefix}_{}_ticket_{appid}", self.ticket())],
        }
    }

    pub(super) fn wechatpy(&self) -> String {
        let prefix = self.prefix.unwrap_or("wechatpy");
        let appid = self.appid;
        match (self.value, self.kind) {
            (ValueName::AccessToken, SdkKind::Work) => {
                let secret: String = self.secret.chars().take(10).collect();
                format!("{prefix}:{appid}_{secret}_access_token")
            }
            (ValueName::AccessToken, _) => format!("{prefix}:{appid}_access_token"),
            (ValueName::WxCardTicket, _) => format!("{prefix}:{appid}_jsapi_card_ticket"),
            _ => format!("{prefix}:{appid}_jsapi_ticket"),
        }
    }

    pub(super) fn powerwechat(&self) -> String {
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

    pub(super) fn easywechat5(&self) -> String {
        let appid = self.appid;
        let escaped = |text: &str| {
            text.replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('/', "\\/")
        };
        match (self.value, self.kind) {
            (ValueName::AccessToken, SdkKind::Work) => {
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
            (_, SdkKind::Work) => format!("easywechat.work.jssdk.ticket.config.{appid}"),
            _ => format!(
                "easywechat.basic_service.jssdk.ticket.{}.{appid}",
                self.ticket()
            ),
        }
    }

    /// Its key says too whether the app asks for a stable token: both are kept.
    pub(super) fn easywechat6(&self) -> Vec<String> {
        let (appid, secret) = (self.appid, self.secret);
        let kind = match self.kind {
            SdkKind::OfficialAccount => "official_account",
            SdkKind::MiniApp => "mini_app",
            SdkKind::Work => "work",
        };
        match (self.value, self.kind) {
            (ValueName::AccessToken, SdkKind::Work) => {
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
    pub(super) fn cached(&self, key: &str) -> String {
        match (self.cache, self.prefix) {
            (_, None | Some("")) => key.to_owned(),
            // Its namespace.
            (PhpCache::Symfony, Some(prefix)) => format!("{prefix}:{key}"),
            (PhpCache::Laravel | PhpCache::Thinkphp, Some(prefix)) => format!("{prefix}{key}"),
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
