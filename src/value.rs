//! Values: the short-lived strings that the platform grants an account, and what is known of each.

use crate::time::{Moment, Now};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;
use std::sync::Arc;
use zeroize::Zeroizing;

/// The name of a value of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ValueName {
    /// Carried by every call to the platform's API.
    AccessToken,
    /// Signs pages that use the JS-SDK.
    JsapiTicket,
    /// Signs cards and coupons (公众号 only).
    WxCardTicket,
    /// Signs pages that act for one app (企业微信 only).
    AgentTicket,
}

impl ValueName {
    /// Every value there is, the access token first.
    pub const ALL: [Self; 4] = [
        Self::AccessToken,
        Self::JsapiTicket,
        Self::WxCardTicket,
        Self::AgentTicket,
    ];

    /// Every name and its value, for the configuration.
    pub const WORDS: [(&'static str, Self); 4] = {
        let [a, b, c, d] = Self::ALL;
        [
            (a.as_str(), a),
            (b.as_str(), b),
            (c.as_str(), c),
            (d.as_str(), d),
        ]
    };

    /// The name as configuration, files and API spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AccessToken => "access_token",
            Self::JsapiTicket => "jsapi_ticket",
            Self::WxCardTicket => "wx_card_ticket",
            Self::AgentTicket => "agent_ticket",
        }
    }

    /// The value of that name, if there is one.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|value| value.as_str() == name)
    }
}

impl fmt::Display for ValueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An access token or ticket. It cannot be displayed, debugged or serialised, is cheap to clone, and is wiped when the
/// last clone goes.
#[derive(Clone, PartialEq, Eq)]
pub struct Value(Arc<NamedText>);

#[derive(PartialEq, Eq)]
struct NamedText {
    text: Zeroizing<Box<str>>,
    /// Computed once: each answer of the API names its value.
    fingerprint: Fingerprint,
}

impl Value {
    /// The longest value that is accepted, bytes. The platform asks callers to reserve 512.
    pub const MAX_LEN: usize = 2048;

    /// Accepts printable ASCII without space, quotes, backslash, `<`, `>`, `&`, `$` and backtick, 1–2048 of them: no
    /// output format needs to escape it and none can be injected into.
    pub fn parse(text: &str) -> Option<Self> {
        let acceptable = |b: u8| {
            b.is_ascii_graphic()
                && !matches!(b, b'"' | b'\'' | b'\\' | b'<' | b'>' | b'&' | b'$' | b'`')
        };
        ((1..=Self::MAX_LEN).contains(&text.len()) && text.bytes().all(acceptable)).then(|| {
            Self(Arc::new(NamedText {
                text: Zeroizing::new(text.into()),
                fingerprint: Fingerprint::of(text),
            }))
        })
    }

    /// The value itself, for outputs, authorised API answers and calls to the platform.
    pub fn expose(&self) -> &str {
        &self.0.text
    }

    /// The name that a log may use.
    pub fn fingerprint(&self) -> Fingerprint {
        self.0.fingerprint
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Value({})", self.fingerprint())
    }
}

/// The first four bytes of a value's SHA-256: names it without giving it away. Displays as 8 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 4]);

impl Fingerprint {
    fn of(text: &str) -> Self {
        let digest = Sha256::digest(text);
        Self([digest[0], digest[1], digest[2], digest[3]])
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", u32::from_be_bytes(self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A value with its life, as apps are told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The value.
    pub value: Value,
    /// Just before the request was sent that first brought this value.
    pub obtained: Moment,
    /// The end of its life on the daemon's clock: no later than the moment from which the value may be dead.
    pub expires: Moment,
    /// The same end in Unix milliseconds. A clock that is set does not move it by itself.
    pub expires_unix: i64,
}

impl Grant {
    /// A value whose end is known on the daemon's clock.
    pub fn new(value: Value, obtained: Moment, expires: Moment, now: &Now) -> Self {
        Self {
            value,
            obtained,
            expires,
            expires_unix: now.unix_millis_of(expires),
        }
    }

    /// True if the value is valid at `now`.
    pub fn is_valid(&self, now: Moment) -> bool {
        now < self.expires
    }

    /// The end in Unix seconds, rounded down: it never looks later than it is.
    pub const fn expire_time(&self) -> i64 {
        self.expires_unix.div_euclid(1000)
    }

    /// The moment when it was obtained, Unix seconds. It follows from the end, not from two clocks that are read now, so
    /// that the same grant always looks the same.
    pub fn obtained_time(&self) -> i64 {
        let life = self.expires.as_millis() - self.obtained.as_millis();
        (self.expires_unix - life).div_euclid(1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn value_needs_no_escaping_in_any_format() {
        let longest = "a".repeat(Value::MAX_LEN);
        for good in ["a", "61_Ab-9.~+/=:;,!?#%*()[]{}|^@", &longest] {
            assert_eq!(Value::parse(good).unwrap().expose(), good);
        }
        let too_long = "a".repeat(Value::MAX_LEN + 1);
        for bad in ["", " ", "a b", "a\n", "a\0", "\u{e9}", "\u{7f}", &too_long] {
            assert!(Value::parse(bad).is_none(), "{bad:?}");
        }
        for c in "\"'\\<>&$`".chars() {
            assert!(Value::parse(&format!("a{c}b")).is_none(), "{c}");
        }
    }

    #[test]
    fn a_value_is_named_without_giving_it_away() {
        let value = Value::parse("abc").unwrap();
        // The SHA-256 of "abc" begins so.
        assert_eq!(value.fingerprint().to_string(), "ba7816bf");
        assert_eq!(format!("{value:?}"), "Value(ba7816bf)");
    }

    #[test]
    fn names_are_read_as_they_are_spelt() {
        for name in ValueName::ALL {
            assert_eq!(ValueName::parse(name.as_str()), Some(name));
            let json = serde_json::to_string(&name).unwrap();
            assert_eq!(json, format!("\"{name}\""));
        }
        assert_eq!(ValueName::parse("ticket"), None);
    }

    proptest! {
        #[test]
        fn accepted_value_needs_no_escaping(text in "\\PC{0,40}|[ -~]{0,40}") {
            if let Some(value) = Value::parse(&text) {
                prop_assert_eq!(value.expose(), &text);
                let json = serde_json::to_string(&text).unwrap();
                prop_assert_eq!(json, format!("\"{}\"", text));
                let plain = text.bytes().all(|b| b.is_ascii_graphic());
                prop_assert!(plain && !text.contains(['<', '>', '&', '$', '`', '\'']));
            }
        }
    }
}
