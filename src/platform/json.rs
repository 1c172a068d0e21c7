//! Reads the platform's JSON as it really comes: with a byte order mark, text in GBK, raw control characters, lone
//! surrogates, and numbers written as text or with a point.

use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::HashMap;
use zeroize::Zeroizing;

/// The body as text that a JSON parser takes, wiped when dropped.
pub(super) fn readable(body: &[u8]) -> Zeroizing<String> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let is_padding = |byte: &u8| byte.is_ascii_whitespace() || *byte == 0;
    let start = body.iter().take_while(|byte| is_padding(byte)).count();
    let end = body.len()
        - body
            .iter()
            .rev()
            .take_while(|byte| is_padding(byte))
            .count();
    let body = body.get(start..end).unwrap_or_default();
    let text = match std::str::from_utf8(body) {
        Ok(text) => Zeroizing::new(text.to_owned()),
        Err(_) => two_byte_text(body),
    };
    mend_strings(&text)
}

/// Text in GBK, or in whatever it is, with a sign in place of each character beyond ASCII. The second byte of one may look
/// like a backslash.
fn two_byte_text(body: &[u8]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(body.len()));
    let mut bytes = body.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        if byte.is_ascii() {
            text.push(char::from(byte));
            continue;
        }
        bytes.next_if(|second| (0x40..=0xfe).contains(second));
        text.push(char::REPLACEMENT_CHARACTER);
    }
    text
}

/// A space in place of each control character in a string, and a sign in place of each surrogate without its pair.
fn mend_strings(text: &str) -> Zeroizing<String> {
    let mut mended = Zeroizing::new(String::with_capacity(text.len()));
    let mut rest = text;
    let mut inside = false;
    while let Some(c) = rest.chars().next() {
        let mut taken = c.len_utf8();
        match c {
            '\\' if inside => {
                if let Some(unit) = escaped_unit(rest) {
                    taken = 6;
                    let low = rest.get(6..).and_then(escaped_unit);
                    match (unit, low) {
                        (0xd800..=0xdbff, Some(0xdc00..=0xdfff)) => taken = 12,
                        (0xd800..=0xdfff, _) => {
                            mended.push(char::REPLACEMENT_CHARACTER);
                            rest = &rest[taken..];
                            continue;
                        }
                        _ => {}
                    }
                } else {
                    taken += rest[1..].chars().next().map_or(0, char::len_utf8);
                }
                mended.push_str(&rest[..taken]);
            }
            c if inside && c.is_control() => mended.push(' '),
            c => {
                inside ^= c == '"';
                mended.push(c);
            }
        }
        rest = &rest[taken..];
    }
    mended
}

/// The number of a `\uXXXX` that the text begins with.
fn escaped_unit(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    u32::from_str_radix(digits, 16).ok()
}

/// The fields of an object, unread.
pub(super) struct Object<'a>(HashMap<Cow<'a, str>, &'a RawValue>);

impl<'a> Object<'a> {
    /// The object that the text is, and nothing else.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        // An array is refused: serde would take it for the fields in their order.
        text.starts_with('{')
            .then(|| serde_json::from_str(text).ok().map(Self))
            .flatten()
    }

    /// A field, also one further in: `quota.daily_limit`. Null is none.
    pub(super) fn get(&self, path: &str) -> Option<&'a str> {
        let (name, rest) = match path.split_once('.') {
            Some((name, rest)) => (name, Some(rest)),
            None => (path, None),
        };
        let raw = self.0.get(name)?.get();
        match rest {
            None => (raw != "null").then_some(raw),
            Some(rest) => Object::parse(raw)?.get(rest),
        }
    }
}

/// An integer: as a number, with a point or an exponent, or as text. Parts of one are cut off.
pub(super) fn integer(raw: &str) -> Option<i64> {
    let text = raw.strip_prefix('"').and_then(|raw| raw.strip_suffix('"'));
    let text = text.unwrap_or(raw).trim();
    if let Ok(integer) = text.parse() {
        return Some(integer);
    }
    if !text
        .bytes()
        .all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b))
    {
        return None;
    }
    let number: f64 = text.parse().ok()?;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "parts are cut off; the rest saturates"
    )]
    number.is_finite().then_some(number as i64)
}

/// A string's text, or whatever stands there instead as it is written.
pub(super) fn text(raw: &str) -> Zeroizing<String> {
    let text = serde_json::from_str::<String>(raw);
    Zeroizing::new(text.unwrap_or_else(|_| raw.to_owned()))
}

/// The number of a field in an object that is broken elsewhere. It counts when it is complete.
pub(super) fn salvage(text: &str, name: &str) -> Option<i64> {
    let after = text.split_once(&format!("\"{name}\""))?.1.trim_start();
    let after = after.strip_prefix(':')?.trim_start();
    let quoted = after.strip_prefix('"');
    let after = quoted.unwrap_or(after);
    let end = after.find(|c: char| !(c.is_ascii_digit() || "+-.".contains(c)))?;
    let (number, rest) = after.split_at(end);
    let ends_well = match quoted {
        Some(_) => rest.starts_with('"'),
        None => rest.trim_start().starts_with([',', '}']),
    };
    ends_well.then(|| integer(number)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn integers_are_read_in_every_form() {
        for (raw, expected) in [
            ("7200", Some(7200)),
            ("7200.0", Some(7200)),
            ("7200.9", Some(7200)),
            ("7.2e3", Some(7200)),
            ("\"7200\"", Some(7200)),
            ("\"7200.0\"", Some(7200)),
            ("-1", Some(-1)),
            ("99999999999999999999", Some(i64::MAX)),
            ("true", None),
            ("\"\"", None),
            ("\"inf\"", None),
            ("{}", None),
        ] {
            assert_eq!(integer(raw), expected, "{raw}");
        }
    }

    #[test]
    fn a_complete_number_is_salvaged() {
        for (text, expected) in [
            (
                r#"{"errcode":40164,"errmsg":"a "quote" in it"}"#,
                Some(40164),
            ),
            (r#"{"errmsg":"x"y","errcode":40164}"#, Some(40164)),
            (r#"{"errcode": "40164" ,"#, Some(40164)),
            (r#"{"errcode":4016"#, None),
            (r#"{"errcode":"40164"#, None),
            (r#"{"errcode""#, None),
            ("", None),
        ] {
            assert_eq!(salvage(text, "errcode"), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_body_breaks_it(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let text = readable(&body);
            let _ = Object::parse(&text);
            let _ = salvage(&text, "errcode");
        }

        #[test]
        fn json_stays_what_it_is(text in ".{0,60}") {
            let json = serde_json::to_string(&[&text]).unwrap();
            let mended = readable(json.as_bytes());
            let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            let read = serde_json::from_str::<[String; 1]>(&mended).unwrap();
            let read: String = read[0].chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            prop_assert_eq!(read, text);
        }
    }
}
