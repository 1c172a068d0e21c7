//! The bytes of an output: a value, written as the apps on the other side expect it.

use crate::account::{Account, Format, Output};
use crate::template::{self, TemplateError};
use crate::time::{Moment, Now};
use crate::value::{Grant, ValueName};
use std::borrow::Cow;
use std::fmt;
use std::path::Path;
use zeroize::Zeroizing;

/// Old PHP apps cut off just so many bytes; a web server that is asked for the file shows nothing.
const PHP_GUARD: &str = "<?php exit();?>";

/// The bytes of an output, and the end of the values in it. Wiped when dropped, and never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Rendered {
    text: Zeroizing<Vec<u8>>,
    /// The text lacks its end: the seconds that are left, and a brace.
    counts_down: bool,
    expires: Moment,
}

impl Rendered {
    /// The moment when it is to be shown no longer: at the first expiry of a value in it.
    pub fn expires(&self) -> Moment {
        self.expires
    }

    /// The bytes to hand out at `now`; nothing once it has expired.
    pub fn at(&self, now: Moment) -> Option<Cow<'_, Zeroizing<Vec<u8>>>> {
        if now >= self.expires {
            return None;
        }
        if !self.counts_down {
            return Some(Cow::Borrowed(&self.text));
        }
        let left = format!("{}}}", now.until(self.expires).as_secs());
        let mut text = Zeroizing::new(Vec::with_capacity(self.text.len() + left.len()));
        text.extend_from_slice(&self.text);
        text.extend_from_slice(left.as_bytes());
        Some(Cow::Owned(text))
    }
}

impl fmt::Debug for Rendered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rendered({} bytes)", self.text.len())
    }
}

/// The reason why an output's bytes cannot be made. Holds no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FormatError {
    /// The template of that path fails.
    Template(Box<Path>, TemplateError),
    /// It would be longer than [`MAX_LEN`]: the path of the output.
    TooLong(Box<Path>),
}

/// The longest output, bytes: a socket takes it in one write.
pub const MAX_LEN: usize = 65536;

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Template(path, error) => {
                write!(f, "cannot render `{}`: {error}", path.display())
            }
            Self::TooLong(path) => write!(
                f,
                "cannot render `{}`: it would be longer than {MAX_LEN} bytes; shorten its template",
                path.display()
            ),
        }
    }
}

impl std::error::Error for FormatError {}

/// Writes the value of an output; nothing if the value, or one that its template names, is not valid now.
pub fn render(
    account: &Account,
    output: &Output,
    grants: &[(ValueName, Grant)],
    now: &Now,
) -> Result<Option<Rendered>, FormatError> {
    let valid = |wanted| {
        let is_it = |(name, grant): &&(ValueName, Grant)| *name == wanted && grant.is_valid(now.at);
        grants.iter().find(is_it).map(|(_, grant)| grant)
    };
    let Some(grant) = valid(output.value) else {
        return Ok(None);
    };
    // A value has no character that any of these would have to escape.
    let (name, value) = (output.value.as_str(), grant.value.expose());
    let (expires, obtained) = (grant.expire_time(), grant.obtained_time());
    let json = |guard| {
        let life = format!(r#"","expire_time":{expires},"obtained_time":{obtained},"account":""#);
        let account = account.name.as_str();
        joined(&[guard, "{\"", name, "\":\"", value, &life, account, "\"}"])
    };
    let mut rendered = Rendered {
        text: Zeroizing::default(),
        counts_down: false,
        expires: grant.expires,
    };
    rendered.text = match &output.format {
        Format::Json => json(""),
        Format::Php => json(PHP_GUARD),
        Format::Raw => joined(&[value]),
        Format::Api => {
            rendered.counts_down = true;
            let start = match output.value {
                ValueName::AccessToken => r#"{"access_token":""#,
                _ => r#"{"errcode":0,"errmsg":"ok","ticket":""#,
            };
            joined(&[start, value, r#"","expires_in":"#])
        }
        Format::Env => {
            let key = name.to_ascii_uppercase();
            let quote = if is_shell_word(value) { "" } else { "'" };
            let expiry = format!("\nEXPIRE_TIME={expires}\n");
            joined(&[&key, "=", quote, value, quote, &expiry])
        }
        Format::Template(template) => {
            let mut values = Vec::with_capacity(ValueName::ALL.len());
            for kept in account.values() {
                let is_named = template.values().contains(&kept);
                match valid(kept) {
                    Some(grant) => {
                        values.push((kept, grant.value.expose()));
                        if is_named {
                            rendered.expires = rendered.expires.min(grant.expires);
                        }
                    }
                    None if is_named => return Ok(None),
                    None => {}
                }
            }
            let facts = template::Facts {
                account: account.name.as_str(),
                appid: &account.id,
                values: &values,
                expire_time: expires,
                obtained_time: obtained,
                expires_in: now.at.until(grant.expires).as_secs(),
            };
            template
                .render(facts)
                .map_err(|error| FormatError::Template(template.path().into(), error))?
        }
    };
    if rendered.text.len() > MAX_LEN {
        return Err(FormatError::TooLong(output.path.clone()));
    }
    Ok(Some(rendered))
}

/// The parts in one piece, allocated once: a vector that grows leaves copies that are not wiped.
fn joined(parts: &[&str]) -> Zeroizing<Vec<u8>> {
    let mut text = Zeroizing::new(Vec::with_capacity(parts.iter().map(|p| p.len()).sum()));
    for part in parts {
        text.extend_from_slice(part.as_bytes());
    }
    text
}

/// Returns whether a shell that sources it takes it as it is. Every value seen so far is; a `;` would start a command.
fn is_shell_word(value: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-+=./:,@%^".contains(&b);
    value.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::{Access, AccountName, OnExpiry, OutputKind};
    use crate::platform::wechat::STABLE;
    use crate::value::Value;
    use std::sync::Arc;
    use std::time::Duration;

    const NOW: Now = Now {
        at: Moment::from_millis(50_000),
        unix_millis: 1_700_000_050_500,
    };

    fn account() -> Account {
        let name = AccountName::parse("shop").unwrap();
        Account {
            tickets: [ValueName::JsapiTicket].into(),
            ..Account::usual(name, "wx0123456789abcdef", STABLE)
        }
    }

    fn output(value: ValueName, format: Format) -> Output {
        Output {
            kind: OutputKind::File(OnExpiry::Remove),
            path: Path::new("/run/x").into(),
            value,
            format,
            access: Access {
                mode: 0o600,
                owner: None,
                group: None,
                readers: [].into(),
            },
        }
    }

    fn grant(value: &str, lasts: u64) -> Grant {
        let obtained = NOW.at - Duration::from_secs(50);
        let expires = NOW.at + Duration::from_secs(lasts);
        Grant::new(Value::parse(value).unwrap(), obtained, expires, &NOW)
    }

    fn grants() -> Vec<(ValueName, Grant)> {
        vec![
            (ValueName::AccessToken, grant("75_tok-EN", 7150)),
            (ValueName::JsapiTicket, grant("tick_ET", 3000)),
        ]
    }

    fn template(source: &str) -> Format {
        let template = template::Template::parse(Path::new("x.j2"), source);
        Format::Template(Arc::new(template.unwrap()))
    }

    fn text(value: ValueName, format: Format, grants: &[(ValueName, Grant)]) -> Option<String> {
        let rendered = render(&account(), &output(value, format), grants, &NOW).unwrap()?;
        let bytes = rendered.at(NOW.at).unwrap();
        Some(String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[test]
    fn the_same_grant_looks_the_same_whenever_it_is_rendered() {
        // The two clocks are read one after the other, so their distance differs a little from look to look.
        let late = Now {
            at: NOW.at + Duration::from_millis(1),
            ..NOW
        };
        let output = output(ValueName::AccessToken, Format::Json);
        let text = |now| {
            let rendered = render(&account(), &output, &grants(), now).unwrap();
            rendered.unwrap().at(NOW.at).unwrap().to_vec()
        };
        assert_eq!(text(&NOW), text(&late));
    }

    #[test]
    fn every_format_to_the_byte() {
        let token = ValueName::AccessToken;
        let ticket = ValueName::JsapiTicket;
        let json = r#"{"access_token":"75_tok-EN","expire_time":1700007200,"obtained_time":1700000000,"account":"shop"}"#;
        for (value, format, expected) in [
            (token, Format::Json, json.to_owned()),
            (
                ticket,
                Format::Json,
                r#"{"jsapi_ticket":"tick_ET","expire_time":1700003050,"obtained_time":1700000000,"account":"shop"}"#.to_owned(),
            ),
            (token, Format::Php, format!("<?php exit();?>{json}")),
            (token, Format::Raw, "75_tok-EN".to_owned()),
            (
                token,
                Format::Api,
                r#"{"access_token":"75_tok-EN","expires_in":7150}"#.to_owned(),
            ),
            (
                ticket,
                Format::Api,
                r#"{"errcode":0,"errmsg":"ok","ticket":"tick_ET","expires_in":3000}"#.to_owned(),
            ),
            (
                token,
                Format::Env,
                "ACCESS_TOKEN=75_tok-EN\nEXPIRE_TIME=1700007200\n".to_owned(),
            ),
            (
                ticket,
                Format::Env,
                "JSAPI_TICKET=tick_ET\nEXPIRE_TIME=1700003050\n".to_owned(),
            ),
            (
                token,
                template("{{ account }} {{ appid }} {{ access_token }} {{ jsapi_ticket }} {{ expire_time }} {{ obtained_time }}"),
                "shop wx0123456789abcdef 75_tok-EN tick_ET 1700007200 1700000000".to_owned(),
            ),
        ] {
            assert_eq!(text(value, format, &grants()).unwrap(), expected);
        }
    }

    #[test]
    fn missing_or_expired_value_renders_nothing() {
        let both = template("{{ access_token }} {{ jsapi_ticket }}");
        let token_only = [(ValueName::AccessToken, grant("t", 1))];
        let dead_ticket = [
            token_only[0].clone(),
            (ValueName::JsapiTicket, grant("j", 0)),
        ];
        for grants in [&token_only[..], &dead_ticket] {
            assert!(text(ValueName::AccessToken, Format::Raw, grants).is_some());
            assert_eq!(text(ValueName::JsapiTicket, Format::Raw, grants), None);
            assert_eq!(text(ValueName::AccessToken, both.clone(), grants), None);
        }
    }

    #[test]
    fn rendered_text_ends_with_its_first_value() {
        let output = output(
            ValueName::AccessToken,
            template("{{ access_token }} {{ jsapi_ticket }}"),
        );
        let rendered = render(&account(), &output, &grants(), &NOW)
            .unwrap()
            .unwrap();
        let end = NOW.at + Duration::from_secs(3000);
        assert_eq!(rendered.expires(), end);
        assert!(rendered.at(end - Duration::from_millis(1)).is_some());
        assert!(rendered.at(end).is_none());
    }

    #[test]
    fn the_answer_of_the_platform_counts_down() {
        let output = output(ValueName::AccessToken, Format::Api);
        let rendered = render(&account(), &output, &grants(), &NOW)
            .unwrap()
            .unwrap();
        let later = NOW.at + Duration::from_millis(7_149_001);
        assert_eq!(
            rendered.at(later).unwrap().as_slice(),
            br#"{"access_token":"75_tok-EN","expires_in":0}"#
        );
    }

    #[test]
    fn a_shell_takes_every_value_as_it_is() {
        let acceptable: String = ('!'..='~')
            .filter(|c| Value::parse(&c.to_string()).is_some())
            .collect();
        for value in ["75_tok-EN", "~root", "a;exit", "#a", &acceptable] {
            let grants = [(ValueName::AccessToken, grant(value, 10))];
            let script = text(ValueName::AccessToken, Format::Env, &grants).unwrap();
            let output = std::process::Command::new("sh")
                .args(["-c", &format!("{script}printf %s \"$ACCESS_TOKEN\"")])
                .output()
                .unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), value);
        }
    }

    #[test]
    fn neither_errors_nor_debug_show_a_value() {
        let long = template("{% for i in range(50) %}{{ access_token }}{% endfor %}");
        let output = output(ValueName::AccessToken, long);
        let value = format!("75_{}", "x".repeat(2000));
        let grants = [(ValueName::AccessToken, grant(&value, 10))];
        let error = render(&account(), &output, &grants, &NOW).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("75_"), "{error}");
        let rendered = render(
            &account(),
            &self::output(ValueName::AccessToken, Format::Raw),
            &grants,
            &NOW,
        );
        assert_eq!(format!("{rendered:?}"), "Ok(Some(Rendered(2003 bytes)))");
    }
}
