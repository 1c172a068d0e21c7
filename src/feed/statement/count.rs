//! The rows that an UPDATE would change, counted without changing them.

use super::quoted::end_of_quoted;
use super::{Dialect, Statement};

impl Statement {
    /// A statement that counts the rows that an UPDATE would change, where that can be made of it.
    pub fn count(&self) -> Option<Self> {
        let skeleton = Skeleton::of(&self.sql, self.dialect);
        let (update, set, condition) = (
            skeleton.keyword("UPDATE")?,
            skeleton.keyword("SET")?,
            skeleton.keyword("WHERE")?,
        );
        if update != 0 || set > condition {
            return None;
        }
        let table = self.sql[6..set].trim();
        // `UPDATE a JOIN b`, `UPDATE TOP (1) a`: not for us.
        if table.is_empty() || table.contains([' ', ',', '(']) || skeleton.keyword("FROM").is_some()
        {
            return None;
        }
        let before = skeleton.placeholders(condition);
        let mut rest = self.sql[condition..].to_owned();
        if matches!(self.dialect, Dialect::Postgres | Dialect::SqlServer) {
            // They are numbered from 1 again, in order.
            for (new, old) in (before + 1..=self.parameters.len()).enumerate() {
                let sign = if self.dialect == Dialect::Postgres {
                    "$"
                } else {
                    "@P"
                };
                rest = rest.replacen(&format!("{sign}{old}"), &format!("{sign}{}", new + 1), 1);
            }
        }
        Some(Self {
            sql: format!("SELECT COUNT(*) FROM {table} {rest}"),
            parameters: self.parameters.get(before..)?.to_vec(),
            dialect: self.dialect,
        })
    }
}

/// A statement with everything that is quoted or commented blanked out.
struct Skeleton(String);

impl Skeleton {
    fn of(sql: &str, dialect: Dialect) -> Self {
        let mut blank = String::with_capacity(sql.len());
        let mut at = 0;
        while at < sql.len() {
            if let Some(end) = end_of_quoted(sql, at, dialect) {
                blank.extend(std::iter::repeat_n(' ', end - at));
                at = end;
            } else {
                let length = sql[at..].chars().next().map_or(1, char::len_utf8);
                match length {
                    1 => blank.push_str(&sql[at..=at]),
                    _ => blank.extend(std::iter::repeat_n('_', length)),
                }
                at += length;
            }
        }
        Self(blank.to_ascii_uppercase())
    }

    /// The offset of a keyword.
    fn keyword(&self, word: &str) -> Option<usize> {
        let is_part =
            |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
        let bytes = self.0.as_bytes();
        self.0.match_indices(word).map(|(at, _)| at).find(|&at| {
            let before = at.checked_sub(1).and_then(|at| bytes.get(at));
            !is_part(before) && !is_part(bytes.get(at + word.len()))
        })
    }

    /// The number of placeholders before an offset.
    fn placeholders(&self, end: usize) -> usize {
        self.0[..end].matches(['?', '$', '@']).count()
    }
}
