//! From a statement with names to one with the driver's placeholders.

use super::quoted::end_of_quoted;
use super::{Dialect, Parameter, Statement};
use std::fmt::Write as _;
use wxtokend::value::ValueName;

/// Reads a statement from its beginning to its end.
pub(super) struct StatementParser<'a> {
    text: &'a str,
    dialect: Dialect,
    value: ValueName,
    at: usize,
    sql: String,
    parameters: Vec<Parameter>,
}

impl<'a> StatementParser<'a> {
    pub(super) fn new(text: &'a str, dialect: Dialect, value: ValueName) -> Self {
        Self {
            text,
            dialect,
            value,
            at: 0,
            sql: String::with_capacity(text.len()),
            parameters: Vec::new(),
        }
    }

    pub(super) fn parse(mut self) -> Result<Statement, String> {
        let text = self.text;
        let mut ended = false;
        while let Some(first) = text[self.at..].chars().next() {
            if let Some(end) = end_of_quoted(text, self.at, self.dialect) {
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
