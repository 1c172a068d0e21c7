//! What the platform answered: bytes become a grant, a sign of life, or a refusal that says what to do.

use super::errcode::{self, Asked, Console};
use crate::account::Method;
use crate::call::{Answer, Call, Refusal};
use crate::value::Value;
use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};
use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(default, deserialize_with = "integer")]
    errcode: Option<i64>,
    #[serde(borrow, default)]
    errmsg: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    access_token: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    ticket: Option<Cow<'a, str>>,
    #[serde(default, deserialize_with = "integer")]
    expires_in: Option<i64>,
    #[serde(default)]
    ip_list: Option<de::IgnoredAny>,
}

/// An integer, or a string of digits.
fn integer<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    struct Integer;
    impl Visitor<'_> for Integer {
        type Value = Option<i64>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an integer")
        }
        fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
            Ok(Some(number))
        }
        fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
            Ok(Some(i64::try_from(number).unwrap_or(i64::MAX)))
        }
        fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
            text.parse()
                .map(Some)
                .map_err(|_| E::custom("not an integer"))
        }
        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }
    }
    deserializer.deserialize_any(Integer)
}

/// The longest life that is believed, seconds.
const MAX_LIFE: i64 = 86_400;

/// Reads an answer. `secrets` are the strings that the call carried: they are cut out of anything that is said.
pub fn interpret(
    call: Call,
    method: Method,
    status: u16,
    body: &[u8],
    secrets: &[&str],
) -> Result<Answer, Refusal> {
    if status != 200 {
        return Err(refused_by_status(status));
    }
    // Only an object: serde would take an array for the fields in their order.
    let object = body.trim_ascii_start().starts_with(b"{");
    let Some(body) = object
        .then(|| serde_json::from_slice::<Body<'_>>(body).ok())
        .flatten()
    else {
        return Err(Refusal::transient(
            "the answer is not the platform's JSON",
            "something between here and the platform answered instead: look for a proxy's login page, or cut-off answers",
        ));
    };
    match body.errcode {
        Some(errcode) if errcode != 0 => Err(refused(
            errcode,
            body.errmsg.as_deref().unwrap_or(""),
            call,
            method,
            secrets,
        )),
        _ => granted(call, &body),
    }
}

fn granted(call: Call, body: &Body<'_>) -> Result<Answer, Refusal> {
    let (name, value) = match call {
        Call::Verify => {
            return if body.ip_list.is_some() || body.errcode == Some(0) {
                Ok(Answer::Alive)
            } else {
                Err(incomplete("ip_list"))
            };
        }
        Call::Ticket(_) => ("ticket", body.ticket.as_deref()),
        Call::Token | Call::ForceToken => ("access_token", body.access_token.as_deref()),
    };
    let value = value.ok_or_else(|| incomplete(name))?;
    let value = Value::parse(value).ok_or_else(|| {
        Refusal::transient(
            format!("the {name} in the answer is not one: empty, too long, or with characters that none has"),
            "the value that stands is kept; if it lasts, look for a proxy that changes answers",
        )
    })?;
    match body.expires_in {
        Some(life @ 1..=MAX_LIFE) => Ok(Answer::Granted(
            value,
            Duration::from_secs(life.unsigned_abs()),
        )),
        Some(life) => Err(Refusal::transient(
            format!("the answer's expires_in is {life}, not between 1 and {MAX_LIFE}"),
            "the value that stands is kept; if it lasts, look for a proxy that changes answers",
        )),
        None => Err(incomplete("expires_in")),
    }
}

fn incomplete(name: &str) -> Refusal {
    Refusal::transient(
        format!("the answer has no {name}"),
        "the value that stands is kept; if it lasts, look for a proxy that changes answers",
    )
}

fn refused_by_status(status: u16) -> Refusal {
    let message = format!("the answer is HTTP status {status}");
    let hint = match status {
        300..=399 => {
            "the platform never redirects and none is followed: look for a proxy or captive portal in between"
        }
        407 => "the proxy wants a login: put it into `proxy` of [platform]",
        429 | 500..=599 => "the platform or a proxy is in trouble: asked again soon",
        412 => {
            "the platform or a proxy took the request for a chunked one: look for a proxy that changes requests"
        }
        _ => "the platform answers with 200: look at `hosts` and `proxy` of [platform]",
    };
    Refusal::transient(message, hint)
}

fn refused(errcode: i64, errmsg: &str, call: Call, method: Method, secrets: &[&str]) -> Refusal {
    let asked = if call.is_token() {
        Asked::Token
    } else {
        Asked::WithToken
    };
    let console = if method == Method::Wecom {
        Console::Wecom
    } else {
        Console::Wechat
    };
    let errmsg = scrub(errmsg, secrets);
    let meaning = errcode::meaning(errcode, &errmsg, asked, console);
    Refusal {
        class: meaning.class,
        errcode: Some(errcode),
        rid: errcode::rid(&errmsg).map(str::to_owned),
        message: if errmsg.is_empty() {
            format!("errcode {errcode}")
        } else {
            format!("{errcode} {errmsg}")
        },
        hint: meaning.hint,
    }
}

/// Longest errmsg that is passed on, characters.
const MAX_ERRMSG: usize = 300;

/// What may be said of an errmsg: one line of bounded length, without the strings that the call carried and without
/// anything that looks like a secret or token (a proxy may echo the request).
pub fn scrub(errmsg: &str, secrets: &[&str]) -> String {
    let mut text: String = errmsg.to_owned();
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        for form in [(*secret).to_owned(), percent_encoded(secret)] {
            text = text.replace(&form, "…");
        }
    }
    let mut clean = String::new();
    for word in text.split_inclusive(|c: char| !(c.is_ascii_alphanumeric() || "_-%+".contains(c))) {
        let run = word
            .trim_end_matches(|c: char| !(c.is_ascii_alphanumeric() || "_-%+".contains(c)))
            .len();
        let tail = &word[run..];
        // An AppSecret has 32 characters, a token over 100; a request id has 26.
        clean.push_str(if run >= 32 { "…" } else { &word[..run] });
        clean.push_str(tail);
    }
    clean
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MAX_ERRMSG)
        .collect::<String>()
        .trim()
        .to_owned()
}

fn percent_encoded(text: &str) -> String {
    use fmt::Write as _;
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._*".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trouble::Class;
    use proptest::prelude::*;

    fn token(status: u16, body: &str) -> Result<Answer, Refusal> {
        interpret(
            Call::Token,
            Method::Stable,
            status,
            body.as_bytes(),
            &["s3cr3t"],
        )
    }

    #[test]
    fn grants_are_read() {
        let answer = Answer::Granted(Value::parse("T0k").unwrap(), Duration::from_secs(7200));
        for body in [
            r#"{"access_token":"T0k","expires_in":7200}"#,
            r#"{"access_token":"T0k","expires_in":"7200"}"#,
            r#"{"errcode":0,"errmsg":"ok","access_token":"T0k","expires_in":7200,"new":{"a":[1]}}"#,
        ] {
            assert_eq!(token(200, body).as_ref(), Ok(&answer), "{body}");
        }
        let ticket = br#"{"errcode":0,"errmsg":"ok","ticket":"T0k","expires_in":7200}"#;
        let name = crate::value::ValueName::JsapiTicket;
        assert_eq!(
            interpret(Call::Ticket(name), Method::Wecom, 200, ticket, &[]),
            Ok(answer)
        );
        assert_eq!(
            interpret(
                Call::Verify,
                Method::Stable,
                200,
                br#"{"ip_list":["1.2.3.4"]}"#,
                &[]
            ),
            Ok(Answer::Alive)
        );
    }

    #[test]
    fn failures_say_what_they_are() {
        for (status, body, message) in [
            (200, "", "not the platform's JSON"),
            (200, "<html>login</html>", "not the platform's JSON"),
            (
                200,
                r#"{"access_token":"T0k","expires_i"#,
                "not the platform's JSON",
            ),
            (200, "[]", "not the platform's JSON"),
            (200, "{}", "no access_token"),
            (200, r#"{"access_token":"T0k"}"#, "no expires_in"),
            (
                200,
                r#"{"access_token":"T0k","expires_in":0}"#,
                "expires_in is 0",
            ),
            (
                200,
                r#"{"access_token":"T0k","expires_in":86401}"#,
                "expires_in is 86401",
            ),
            (
                200,
                r#"{"access_token":"T0k","expires_in":-5}"#,
                "expires_in is -5",
            ),
            (
                200,
                r#"{"access_token":"a b","expires_in":7200}"#,
                "is not one",
            ),
            (
                200,
                r#"{"access_token":"","expires_in":7200}"#,
                "is not one",
            ),
            (500, "", "HTTP status 500"),
            (302, "", "HTTP status 302"),
            (
                412,
                r#"{"access_token":"T0k","expires_in":7200}"#,
                "HTTP status 412",
            ),
        ] {
            let refusal = token(status, body).unwrap_err();
            assert!(
                refusal.message.contains(message),
                "{body}: {}",
                refusal.message
            );
            assert_eq!(refusal.class, Class::Transient, "{body}");
            assert!(!refusal.hint.is_empty());
        }
    }

    #[test]
    fn refusals_carry_errcode_and_rid_and_no_secret() {
        let body = r#"{"errcode":40125,"errmsg":"invalid appsecret s3cr3t at https://x/?secret=s3cr3t&k=0123456789abcdef0123456789abcdef rid: 6aac005a-01bfdbee-79769285"}"#;
        let refusal = token(200, body).unwrap_err();
        assert_eq!(
            (refusal.errcode, refusal.rid.as_deref()),
            (Some(40125), Some("6aac005a-01bfdbee-79769285"))
        );
        assert_eq!(refusal.class, Class::Operator);
        assert_eq!(
            refusal.message,
            "40125 invalid appsecret … at https://x/?secret=…&k=… rid: 6aac005a-01bfdbee-79769285"
        );
    }

    proptest! {
        #[test]
        fn no_answer_breaks_it(status in 100u16..600, body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = interpret(Call::Token, Method::Classic, status, &body, &["x"]);
        }

        #[test]
        fn secrets_are_cut_out(before in ".{0,40}", secret in "[!-~]{6,40}", after in ".{0,40}") {
            let said = scrub(&format!("{before}{secret}{after}"), &[&secret]);
            prop_assert!(!said.contains(&secret));
        }
    }
}
