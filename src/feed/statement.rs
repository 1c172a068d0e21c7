//! Statements with named parameters, and what the drivers make of them.
//!
//! Text of a parameter never becomes a part of a statement: a name is replaced by the driver's placeholder, and the value
//! is bound to it.

use crate::wish::Wish;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::fmt::Write as _;
use std::time::SystemTime;
use wxtokend::value::ValueName;
use zeroize::Zeroizing;

/// How a database spells placeholders and quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// `MySQL` and `MariaDB`: `?`.
    Mysql,
    /// `PostgreSQL`: `$1`.
    Postgres,
    /// `SQLite`: `?`.
    Sqlite,
    /// SQL Server: `@P1`.
    SqlServer,
}

/// A parameter of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parameter {
    /// The token or ticket.
    Value,
    /// The local name of the account.
    Account,
    /// The appid or corpid.
    AppId,
    /// A point in time of the value's life.
    Time(Point, Form),
    /// The seconds that are left when it is written.
    ExpiresIn,
}

/// A point in time of a value's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// Its end.
    Expire,
    /// When it was obtained.
    Obtained,
    /// 7200 s before its end, for apps that keep only a start.
    Start,
}

/// How a time is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Unix seconds.
    Seconds,
    /// Unix milliseconds.
    Millis,
    /// Local date and time.
    DateTime,
}

/// The life that apps which keep only a start reckon with, seconds.
const NOMINAL_LIFE: i64 = 7200;

impl Parameter {
    /// The parameter of that name, in statements for `value`.
    pub fn parse(name: &str, value: ValueName) -> Option<Self> {
        if name == value.as_str() {
            return Some(Self::Value);
        }
        let (point, form) = match name.strip_suffix("_ms") {
            Some(point) => (point, Form::Millis),
            None => match name.strip_suffix("_datetime") {
                Some(point) => (point, Form::DateTime),
                None => (name, Form::Seconds),
            },
        };
        let point = match point {
            "expire_time" => Point::Expire,
            "obtained_time" => Point::Obtained,
            "start_time" => Point::Start,
            "account" if form == Form::Seconds => return Some(Self::Account),
            "appid" if form == Form::Seconds => return Some(Self::AppId),
            "expires_in" if form == Form::Seconds => return Some(Self::ExpiresIn),
            _ => return None,
        };
        Some(Self::Time(point, form))
    }

    /// Whether it is known without a value.
    pub fn is_of_account(self) -> bool {
        matches!(self, Self::Account | Self::AppId)
    }
}

/// What is bound to a placeholder.
#[derive(Clone)]
pub enum Bound {
    /// A text, which may be a value.
    Text(Zeroizing<String>),
    /// A number.
    Number(i64),
}

impl Bound {
    fn text(text: &str) -> Self {
        Self::Text(Zeroizing::new(text.to_owned()))
    }

    /// As text.
    pub fn to_text(&self) -> Zeroizing<String> {
        match self {
            Self::Text(text) => text.clone(),
            Self::Number(number) => Zeroizing::new(number.to_string()),
        }
    }
}

/// A statement as a driver takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// With the driver's placeholders.
    pub sql: String,
    /// What each placeholder stands for, in order.
    pub parameters: Vec<Parameter>,
    /// The dialect it is written for.
    pub dialect: Dialect,
}

impl Statement {
    /// Reads a statement. Says what is wrong as the rest of a sentence that its key begins.
    pub fn parse(text: &str, dialect: Dialect, value: ValueName) -> Result<Self, String> {
        Parser {
            text,
            dialect,
            value,
            at: 0,
            sql: String::with_capacity(text.len()),
            parameters: Vec::new(),
        }
        .parse()
    }

    /// Whether a parameter of that kind is used.
    pub fn uses(&self, is_it: impl Fn(Parameter) -> bool) -> bool {
        self.parameters.iter().any(|parameter| is_it(*parameter))
    }

    /// What is bound for a wish. `None` if it names a value and there is none.
    pub fn bind(&self, wish: &Wish, zone: &TimeZone) -> Option<Vec<Bound>> {
        let bind = |parameter: &Parameter| match parameter {
            Parameter::Account => Some(Bound::text(wish.account.as_str())),
            Parameter::AppId => Some(Bound::text(&wish.appid)),
            Parameter::Value => Some(Bound::text(wish.holding.as_ref()?.token.expose())),
            Parameter::ExpiresIn => {
                let left = wish.holding.as_ref()?.expire_time - unix_now();
                Some(Bound::Number(left.max(0)))
            }
            Parameter::Time(point, form) => {
                let holding = wish.holding.as_ref()?;
                let time = match point {
                    Point::Expire => holding.expire_time,
                    Point::Obtained => holding.obtained_time,
                    Point::Start => holding.expire_time - NOMINAL_LIFE,
                };
                Some(match form {
                    Form::Seconds => Bound::Number(time),
                    Form::Millis => Bound::Number(time.saturating_mul(1000)),
                    Form::DateTime => Bound::text(&self.date_time(time, zone)),
                })
            }
        };
        self.parameters.iter().map(bind).collect()
    }

    fn date_time(&self, time: i64, zone: &TimeZone) -> String {
        let local = Timestamp::from_second(time).unwrap_or(Timestamp::MAX);
        let local = local.to_zoned(zone.clone()).datetime();
        let (date, time) = (local.date(), local.time());
        // SQL Server reads a date with a space by the language of the login, one with a T always in the same way.
        let between = if self.dialect == Dialect::SqlServer {
            'T'
        } else {
            ' '
        };
        format!(
            "{date}{between}{:02}:{:02}:{:02}",
            time.hour(),
            time.minute(),
            time.second()
        )
    }

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

/// Unix seconds now.
pub fn unix_now() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX))
}

/// A statement with everything that is quoted or commented blanked out.
struct Skeleton(String);

impl Skeleton {
    fn of(sql: &str, dialect: Dialect) -> Self {
        let mut blank = String::with_capacity(sql.len());
        let mut at = 0;
        while at < sql.len() {
            if let Some(end) = quoted(sql, at, dialect) {
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

    /// Where a keyword stands first.
    fn keyword(&self, word: &str) -> Option<usize> {
        let is_part =
            |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
        let bytes = self.0.as_bytes();
        self.0.match_indices(word).map(|(at, _)| at).find(|&at| {
            let before = at.checked_sub(1).and_then(|at| bytes.get(at));
            !is_part(before) && !is_part(bytes.get(at + word.len()))
        })
    }

    /// How many placeholders stand before an offset.
    fn placeholders(&self, end: usize) -> usize {
        self.0[..end].matches(['?', '$', '@']).count()
    }
}

/// The end of what is quoted or commented and begins at `at`.
fn quoted(text: &str, at: usize, dialect: Dialect) -> Option<usize> {
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

struct Parser<'a> {
    text: &'a str,
    dialect: Dialect,
    value: ValueName,
    at: usize,
    sql: String,
    parameters: Vec<Parameter>,
}

impl Parser<'_> {
    fn parse(mut self) -> Result<Statement, String> {
        let text = self.text;
        let mut ended = false;
        while let Some(first) = text[self.at..].chars().next() {
            if let Some(end) = quoted(text, self.at, self.dialect) {
                self.no_parameter_in(&text[self.at..end])?;
                self.take(end - self.at);
                continue;
            }
            if ended && !first.is_whitespace() {
                return Err("must be one statement: there is text after the ;".to_owned());
            }
            match first {
                ';' => {
                    ended = true;
                    self.at += 1;
                }
                ':' if text[self.at..].starts_with("::") => self.take(2),
                ':' => self.parameter()?,
                '?' => {
                    return Err(
                        "must name its parameters, such as `:access_token`: it has a `?`"
                            .to_owned(),
                    );
                }
                '$' if self.dialect == Dialect::Postgres && self.next_is_digit(1) => {
                    return Err(
                        "must name its parameters, such as `:access_token`: it has a `$1`"
                            .to_owned(),
                    );
                }
                '@' if self.dialect == Dialect::SqlServer
                    && text[self.at + 1..].starts_with(['P', 'p'])
                    && self.next_is_digit(2) =>
                {
                    return Err(
                        "must name its parameters, such as `:access_token`: it has a `@P1`"
                            .to_owned(),
                    );
                }
                other => self.take(other.len_utf8()),
            }
        }
        Ok(Statement {
            sql: self.sql.trim().to_owned(),
            parameters: self.parameters,
            dialect: self.dialect,
        })
    }

    fn next_is_digit(&self, ahead: usize) -> bool {
        let next = self.text.as_bytes().get(self.at + ahead);
        next.is_some_and(u8::is_ascii_digit)
    }

    fn take(&mut self, length: usize) {
        self.sql.push_str(&self.text[self.at..self.at + length]);
        self.at += length;
    }

    fn parameter(&mut self) -> Result<(), String> {
        let name = name_at(&self.text[self.at + 1..]);
        if name.is_empty() {
            self.take(1);
            return Ok(());
        }
        let Some(parameter) = Parameter::parse(name, self.value) else {
            return Err(unknown(name, self.value));
        };
        self.parameters.push(parameter);
        let number = self.parameters.len();
        // A string never fails to take text.
        let _ = match self.dialect {
            Dialect::Mysql | Dialect::Sqlite => write!(self.sql, "?"),
            Dialect::Postgres => write!(self.sql, "${number}"),
            Dialect::SqlServer => write!(self.sql, "@P{number}"),
        };
        self.at += 1 + name.len();
        Ok(())
    }

    /// In quotes a parameter would be text: surely not what is meant.
    fn no_parameter_in(&self, quoted: &str) -> Result<(), String> {
        if quoted.starts_with(['-', '/', '#']) {
            return Ok(());
        }
        for (at, _) in quoted.match_indices(':') {
            let name = name_at(&quoted[at + 1..]);
            if Parameter::parse(name, self.value).is_some() {
                return Err(format!(
                    "has `:{name}` inside quotes, where it is mere text: remove the quotes"
                ));
            }
        }
        Ok(())
    }
}

fn name_at(text: &str) -> &str {
    let is_part = |(at, b): (usize, u8)| {
        b.is_ascii_alphabetic() || b == b'_' || (at > 0 && b.is_ascii_digit())
    };
    let length = text
        .bytes()
        .enumerate()
        .take_while(|&part| is_part(part))
        .count();
    &text[..length]
}

fn unknown(name: &str, value: ValueName) -> String {
    if ValueName::parse(name).is_some() {
        return format!(
            "names `:{name}`, but this target keeps `{value}`: set `value = \"{name}\"`, or name `:{value}`"
        );
    }
    let shown: String = name.chars().take(40).collect();
    format!(
        "names `:{shown}`, which is none of :{value}, :account, :appid, :expire_time, :obtained_time, :start_time \
         (each time also with _ms or _datetime) and :expires_in"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use wxtokend::account::AccountName;
    use wxtokend::follow::Holding;
    use wxtokend::value::Value;

    const TOKEN: ValueName = ValueName::AccessToken;

    #[test]
    fn names_become_placeholders() {
        use Dialect::{Mysql, Postgres, SqlServer, Sqlite};
        let update = "UPDATE t SET a = :access_token, e = :expire_time WHERE id = :appid";
        for (dialect, text, expected) in [
            (Mysql, update, "UPDATE t SET a = ?, e = ? WHERE id = ?"),
            (Sqlite, update, "UPDATE t SET a = ?, e = ? WHERE id = ?"),
            (
                Postgres,
                update,
                "UPDATE t SET a = $1, e = $2 WHERE id = $3",
            ),
            (
                SqlServer,
                update,
                "UPDATE t SET a = @P1, e = @P2 WHERE id = @P3",
            ),
            (
                Postgres,
                "SELECT '{}'::json, :appid;",
                "SELECT '{}'::json, $1",
            ),
            (
                Postgres,
                "SELECT $x$ :nobody $x$, :appid",
                "SELECT $x$ :nobody $x$, $1",
            ),
            (Postgres, "SELECT E'\\' :x', :appid", "SELECT E'\\' :x', $1"),
            (
                Mysql,
                "SELECT 'it''s :x \\' :y', :appid -- :z",
                "SELECT 'it''s :x \\' :y', ? -- :z",
            ),
            (Mysql, "SET @a := 1 # :b\n", "SET @a := 1 # :b"),
            (
                SqlServer,
                "SELECT [a:b], \"c:d\" /* :e */",
                "SELECT [a:b], \"c:d\" /* :e */",
            ),
        ] {
            let parsed = Statement::parse(text, dialect, TOKEN).map(|statement| statement.sql);
            assert_eq!(parsed.as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_statement_is_said() {
        use Dialect::{Mysql, Postgres, SqlServer};
        for (dialect, text, expected) in [
            (Mysql, "SET a = :token", "names `:token`, which is none of"),
            (Mysql, "SET a = :jsapi_ticket", "keeps `access_token`"),
            (Mysql, "SET a = ':access_token'", "inside quotes"),
            (Mysql, "SET a = ?", "must name its parameters"),
            (Postgres, "SET a = $1", "must name its parameters"),
            (SqlServer, "SET a = @P1", "must name its parameters"),
            (Mysql, "SET a = 1; DROP TABLE t", "must be one statement"),
        ] {
            let wrong = Statement::parse(text, dialect, TOKEN).unwrap_err();
            assert!(wrong.contains(expected), "{text}: {wrong}");
        }
    }

    #[test]
    fn each_parameter_is_bound() {
        let wish = Wish {
            account: AccountName::parse("shop").unwrap(),
            appid: "wx1".into(),
            holding: Some(Holding {
                token: Value::parse("T").unwrap(),
                expire_time: 1_700_007_200,
                obtained_time: 1_700_000_000,
            }),
        };
        let zone = TimeZone::get("Asia/Shanghai").unwrap();
        let bind = |name: &str, dialect| {
            let statement = Statement::parse(&format!("x = :{name}"), dialect, TOKEN).unwrap();
            let bound = statement.bind(&wish, &zone).unwrap();
            bound[0].to_text().to_string()
        };
        for (name, expected) in [
            ("access_token", "T"),
            ("account", "shop"),
            ("appid", "wx1"),
            ("expire_time", "1700007200"),
            ("obtained_time_ms", "1700000000000"),
            ("start_time", "1700000000"),
            ("expire_time_datetime", "2023-11-15 08:13:20"),
            ("expires_in", "0"),
        ] {
            assert_eq!(bind(name, Dialect::Mysql), expected, "{name}");
        }
        assert_eq!(
            bind("start_time_datetime", Dialect::SqlServer),
            "2023-11-15T06:13:20"
        );
        let none = Wish {
            holding: None,
            ..wish
        };
        let statement = |text| Statement::parse(text, Dialect::Mysql, TOKEN).unwrap();
        assert!(statement("a = :access_token").bind(&none, &zone).is_none());
        assert!(statement("a = :appid").bind(&none, &zone).is_some());
    }

    #[test]
    fn rows_are_counted_before_anything_is_changed() {
        let count = |text: &str, dialect| {
            let statement = Statement::parse(text, dialect, TOKEN).unwrap();
            statement.count().map(|count| (count.sql, count.parameters))
        };
        let update =
            "update `t` set a = :access_token, where_ = 'WHERE' where id = :appid and n = :account";
        assert_eq!(
            count(update, Dialect::Mysql),
            Some((
                "SELECT COUNT(*) FROM `t` where id = ? and n = ?".to_owned(),
                vec![Parameter::AppId, Parameter::Account]
            ))
        );
        let update = "UPDATE s.t SET a = :access_token WHERE id = :appid";
        let sql = |dialect| count(update, dialect).unwrap().0;
        assert_eq!(
            sql(Dialect::Postgres),
            "SELECT COUNT(*) FROM s.t WHERE id = $1"
        );
        assert_eq!(
            sql(Dialect::SqlServer),
            "SELECT COUNT(*) FROM s.t WHERE id = @P1"
        );
        for other in [
            "INSERT INTO t VALUES (:access_token)",
            "UPDATE a JOIN b ON x SET c = :access_token WHERE d = 1",
            "UPDATE t SET a = :access_token",
        ] {
            assert_eq!(count(other, Dialect::Mysql), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn no_statement_is_too_strange(text in "\\PC{0,60}|[-'\"`:;$#@/*\\[\\]a-z0-9? \n]{0,60}") {
            for dialect in [Dialect::Mysql, Dialect::Postgres, Dialect::Sqlite, Dialect::SqlServer] {
                if let Ok(statement) = Statement::parse(&text, dialect, TOKEN) {
                    let _ = statement.count();
                }
            }
        }
    }
}
