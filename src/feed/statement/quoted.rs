//! Quotes and comments of each dialect: a name in one is text.

use super::Dialect;

/// The end of what is quoted or commented and begins at `at`.
pub(super) fn end_of_quoted(text: &str, at: usize, dialect: Dialect) -> Option<usize> {
    let rest = &text[at..];
    let until = |opening: usize, closing: &str| {
        let end = rest[opening..].find(closing);
        at + end.map_or(rest.len(), |end| opening + end + closing.len())
    };
    let first = rest.chars().next()?;
    match first {
        '\'' | '"' | '`' => {
            Some(at + end_of_quote(rest, first, has_backslashes(text, at, first, dialect)))
        }
        '[' if matches!(dialect, Dialect::SqlServer | Dialect::Sqlite) => Some(until(1, "]")),
        '-' if rest.starts_with("--") => Some(until(2, "\n")),
        '#' if dialect == Dialect::Mysql => Some(until(1, "\n")),
        '/' if rest.starts_with("/*") => Some(until(2, "*/")),
        '$' if dialect == Dialect::Postgres => {
            let tag = rest[1..].find('$')?;
            let is_tag = rest[1..=tag]
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_');
            let begins = rest[1..]
                .bytes()
                .next()
                .is_some_and(|b| !b.is_ascii_digit());
            (is_tag && begins).then(|| until(tag + 2, &rest[..tag + 2]))
        }
        _ => None,
    }
}

fn has_backslashes(text: &str, at: usize, quote: char, dialect: Dialect) -> bool {
    match dialect {
        Dialect::Mysql => quote != '`',
        Dialect::Postgres => quote == '\'' && text[..at].ends_with(['e', 'E']),
        Dialect::Sqlite | Dialect::SqlServer => false,
    }
}

/// The length of a quoted text, its quotes included. A doubled quote does not end it.
fn end_of_quote(rest: &str, quote: char, backslashes: bool) -> usize {
    let mut chars = rest.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c == '\\' && backslashes {
            chars.next();
        } else if c == quote {
            if chars.peek().is_some_and(|(_, next)| *next == quote) {
                chars.next();
            } else {
                return at + c.len_utf8();
            }
        }
    }
    rest.len()
}
