//! Statements with named parameters, and what the drivers make of them.
//!
//! Text of a parameter never becomes a part of a statement: a name is replaced by the driver's placeholder, and the value
//! is bound to it.

mod count;
mod parser;
mod quoted;

use crate::wish::TargetWish;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use parser::StatementParser;
use std::time::SystemTime;
use wxtokend::value::ValueName;
use zeroize::Zeroizing;

/// The spelling of placeholders and quotes.
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
    /// The moment when it was obtained.
    Obtained,
    /// 7200 s before its end, for apps that keep only a start.
    Start,
}

/// The form in which a time is written.
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

    /// Tells whether it is known without a value.
    pub fn is_of_account(self) -> bool {
        matches!(self, Self::Account | Self::AppId)
    }
}

/// A text or number that is bound to a placeholder.
#[derive(Clone)]
pub enum BoundParameter {
    /// A text, which may be a value.
    Text(Zeroizing<String>),
    /// A number.
    Number(i64),
}

impl BoundParameter {
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
    /// The parameters that the placeholders stand for, in order.
    pub parameters: Vec<Parameter>,
    /// The dialect it is written for.
    pub dialect: Dialect,
}

impl Statement {
    /// Reads a statement. Says what is wrong as the rest of a sentence that its key begins.
    pub fn parse(text: &str, dialect: Dialect, value: ValueName) -> Result<Self, String> {
        StatementParser::new(text, dialect, value).parse()
    }

    /// Tells whether a parameter of that kind is used.
    pub fn uses(&self, is_it: impl Fn(Parameter) -> bool) -> bool {
        self.parameters.iter().any(|parameter| is_it(*parameter))
    }

    /// Binds its parameters. `None` if it names a value and there is none.
    pub fn bind(&self, wish: &TargetWish, zone: &TimeZone) -> Option<Vec<BoundParameter>> {
        let bind = |parameter: &Parameter| match parameter {
            Parameter::Account => Some(BoundParameter::text(wish.account.as_str())),
            Parameter::AppId => Some(BoundParameter::text(&wish.appid)),
            Parameter::Value => Some(BoundParameter::text(wish.holding.as_ref()?.token.expose())),
            Parameter::ExpiresIn => {
                let left = wish.holding.as_ref()?.expire_time - unix_now();
                Some(BoundParameter::Number(left.max(0)))
            }
            Parameter::Time(point, form) => {
                let holding = wish.holding.as_ref()?;
                let time = match point {
                    Point::Expire => holding.expire_time,
                    Point::Obtained => holding.obtained_time,
                    Point::Start => holding.expire_time - NOMINAL_LIFE,
                };
                Some(match form {
                    Form::Seconds => BoundParameter::Number(time),
                    Form::Millis => BoundParameter::Number(time.saturating_mul(1000)),
                    Form::DateTime => BoundParameter::text(&self.date_time(time, zone)),
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
}

/// Unix seconds now.
pub fn unix_now() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX))
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
        let wish = TargetWish {
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
        let none = TargetWish {
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
