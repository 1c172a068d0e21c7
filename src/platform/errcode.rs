//! Tables of errcodes: each platform has one, and an answer's errcode is looked up in it.

use crate::trouble::Class;
use std::net::IpAddr;

/// The calls that a row of the table is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AskedFor {
    /// Every call.
    Any,
    /// A call for an access token, with the AppSecret.
    Token,
    /// A call that carries an access token.
    WithToken,
    /// The question whether an access token lives.
    Verify,
}

/// One row of the table. In its texts `{ip}` stands for the address that the platform saw, `{errcode}` for the number.
#[derive(Debug, Clone, Copy)]
pub struct ErrcodeRow {
    /// The errcodes; none in the last row, which is for all others.
    pub codes: &'static [i64],
    /// The calls it is for.
    pub asked: AskedFor,
    /// Decides when to try again.
    pub class: Class,
    /// A few words for a status line instead of the errmsg, or empty.
    pub brief: &'static str,
    /// Advice for an administrator.
    pub hint: &'static str,
}

/// A row for every call, without words of its own for a status line.
pub const fn row(codes: &'static [i64], class: Class, hint: &'static str) -> ErrcodeRow {
    ErrcodeRow {
        codes,
        asked: AskedFor::Any,
        class,
        brief: "",
        hint,
    }
}

/// A row for these errcodes on some calls only. It stands before the row for all calls.
pub(crate) const fn row_on(
    asked: AskedFor,
    codes: &'static [i64],
    class: Class,
    hint: &'static str,
) -> ErrcodeRow {
    ErrcodeRow {
        asked,
        ..row(codes, class, hint)
    }
}

impl ErrcodeRow {
    /// The same with words for a status line.
    #[must_use]
    pub const fn brief(self, brief: &'static str) -> Self {
        Self { brief, ..self }
    }

    fn matches(&self, errcode: i64, asked: AskedFor) -> bool {
        let on = match self.asked {
            AskedFor::Any => true,
            AskedFor::WithToken => matches!(asked, AskedFor::WithToken | AskedFor::Verify),
            only => only == asked,
        };
        on && (self.codes.is_empty() || self.codes.contains(&errcode))
    }
}

// Rows that mean the same on 公众号 and 企业微信.

/// The platform is busy.
pub(super) const BUSY: ErrcodeRow = row(
    &[-1, -1000],
    Class::Transient,
    "the platform is busy and is asked again soon; nothing to do here",
);
/// A call was made with a dead token.
pub(super) const DEAD_TOKEN: ErrcodeRow = row_on(
    AskedFor::WithToken,
    &[40001, 40014, 42001],
    Class::DeadToken,
    "the token is dead and is replaced; nothing to do here",
);
/// The account may not ask whether a token lives.
pub(super) const NO_VERDICT: ErrcodeRow = row_on(
    AskedFor::Verify,
    &[48001],
    Class::Operator,
    "the account may not use the interfaces that tell whether a token lives: it is replaced on schedule, and apps that \
     report it dead are not believed",
);
/// The request is not as the daemon sends it.
pub(super) const ALTERED_REQUEST: ErrcodeRow = row(
    &[40002, 43002],
    Class::Operator,
    "this is a defect of wxtokend or of a proxy that changes requests: please report it",
);
/// A parameter is missing that the daemon sends.
pub(super) const LOST_PARAMETER: ErrcodeRow = row(
    &[41002, 41004],
    Class::Operator,
    "the platform says that a parameter is missing although it was sent: look for a proxy that changes requests, else \
     report it as a defect of wxtokend",
);
/// The calls of a minute are used up.
pub(super) const MINUTE_FULL: ErrcodeRow = row(
    &[45011],
    Class::MinuteQuota,
    "too many calls this minute: asked again in the next one; if it lasts, find who else calls for this account",
);

/// An errcode of no table.
const UNKNOWN: ErrcodeRow = row(
    &[],
    Class::Operator,
    "look for errcode {errcode} in the platform's list",
);

/// The first row of a table that is for this errcode and call.
pub fn find(table: &[ErrcodeRow], errcode: i64, asked: AskedFor) -> ErrcodeRow {
    let found = table.iter().find(|row| row.matches(errcode, asked));
    found.copied().unwrap_or(UNKNOWN)
}

/// The text of a row with its placeholders filled in.
pub fn fill(text: &str, errcode: i64, errmsg: &str) -> String {
    let ip = address(errmsg).map_or_else(
        || "this host's public IP address".to_owned(),
        |ip| ip.to_string(),
    );
    text.replace("{errcode}", &errcode.to_string())
        .replace("{ip}", &ip)
}

/// A refusal in a few words, for a status line: `40164 IP 203.0.113.7 is not whitelisted`.
pub fn brief(table: &[ErrcodeRow], errcode: i64, errmsg: &str) -> String {
    let words = find(table, errcode, AskedFor::Token).brief;
    if !words.is_empty() {
        let ip = address(errmsg)
            .map_or_else(|| "the IP of this host".to_owned(), |ip| format!("IP {ip}"));
        return format!("{errcode} {}", words.replace("{ip}", &ip));
    }
    let asides = [" rid: ", ", hint: ["];
    let said = asides.iter().fold(errmsg, |said, aside| {
        said.split(aside).next().unwrap_or(said)
    });
    said.chars().take(80).collect()
}

/// The first IP address in an errmsg, IPv4 in its own form where it came mapped into IPv6.
pub fn address(errmsg: &str) -> Option<IpAddr> {
    errmsg
        .split(|c: char| !(c.is_ascii_hexdigit() || c == '.' || c == ':'))
        .filter(|word| word.contains(['.', ':']))
        .find_map(|word| word.trim_end_matches(['.', ':']).parse::<IpAddr>().ok())
        .map(|ip| ip.to_canonical())
}

/// The request id in an errmsg (`… rid: 6aac005a-01bfdbee-79769285`).
pub fn rid(errmsg: &str) -> Option<&str> {
    let (_, after) = errmsg.rsplit_once("rid: ")?;
    let end = after
        .find(|c: char| !(c.is_ascii_hexdigit() || c == '-'))
        .unwrap_or(after.len());
    (8..=64).contains(&end).then(|| &after[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_request_ids_are_found() {
        for (errmsg, expected) in [
            (
                "invalid ip 203.0.113.7 ipv6 ::ffff:203.0.113.7, not",
                Some("203.0.113.7"),
            ),
            (
                "invalid ip 2001:db8::7, not in whitelist",
                Some("2001:db8::7"),
            ),
            ("from ip: 1.2.3.4, more", Some("1.2.3.4")),
            ("invalid ip ::ffff:203.0.113.7 rid", Some("203.0.113.7")),
            ("deadbeef added: nothing. here", None),
            ("", None),
        ] {
            assert_eq!(
                address(errmsg).map(|ip| ip.to_string()).as_deref(),
                expected,
                "{errmsg}"
            );
        }
        assert_eq!(
            rid("invalid appid rid: 6aac005a-01bfdbee-79769285"),
            Some("6aac005a-01bfdbee-79769285")
        );
        assert_eq!(
            rid("x rid: 6aac005a-01bfdbee-79769285, hint"),
            Some("6aac005a-01bfdbee-79769285")
        );
        assert_eq!(rid("ok"), None);
        assert_eq!(rid("rid: <script>"), None);
    }
}
