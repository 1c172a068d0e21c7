//! `[[database]]`

use super::secret::{PasswordSource, password};
use super::url::{Address, Url, usual_socket};
use super::{ca_file, time_zone};
use crate::statement::{Dialect, Parameter, Statement};
use jiff::tz::TimeZone;
use std::path::{Path, PathBuf};
use toml::de::DeValue;
use wxtokend::config::table::Table;
use wxtokend::config::value::{self, Checked};
use wxtokend::value::ValueName;

const SCHEMES: [&str; 6] = [
    "mysql",
    "mariadb",
    "postgres",
    "postgresql",
    "sqlite",
    "sqlserver",
];
const EXAMPLE: &str = "mysql://wxfeed@localhost/app";

/// Rows of a database.
#[derive(Debug, Clone, PartialEq)]
pub struct Database {
    /// Its address.
    pub url: Url,
    /// The kind of server.
    pub dialect: Dialect,
    /// The password; nothing for peer identity.
    pub password: Option<PasswordSource>,
    /// PEM certificates trusted besides the system's. Where it is set, TLS is used even on this host.
    pub ca_file: Option<PathBuf>,
    /// Writes a value.
    pub statement: Statement,
    /// Selects the cell that a value was written to.
    pub read_back: Option<Statement>,
    /// Written when there is no valid value.
    pub on_none: Option<Statement>,
    /// The number of rows that a write has to find; nothing for any number.
    pub rows: Option<u64>,
    /// For local date and time.
    pub time_zone: TimeZone,
}

impl Database {
    /// Tells whether the connection is encrypted.
    pub fn is_encrypted(&self) -> bool {
        let is_tcp = matches!(self.url.address, Address::Tcp(..));
        is_tcp && (self.ca_file.is_some() || !self.url.address.is_local())
    }
}

pub(super) fn read(
    table: &Table<'_>,
    credentials: Option<&Path>,
    value: ValueName,
) -> Option<(String, Database)> {
    for (key, what) in [
        ("url", "where the database is"),
        ("statement", "what is to be run for each new value"),
    ] {
        if !table.has(key) {
            table.fault_of_absence(&format!("`{key}` is missing: say {what}"));
        }
    }
    let password = password(table, credentials);
    let has_password = table.has("password_file") || table.has("password_credential");
    let url = table.read("url", |text| url(value::text(text)?, has_password));
    let zone = table.read("time_zone", |name| time_zone(value::text(name)?));
    let rows = table.read("rows", rows);
    let ca_file = ca_file(table);
    let (url, dialect) = url?;
    if dialect == Dialect::Sqlite {
        for key in ["password_file", "password_credential", "ca_file"] {
            if table.has(key) {
                table.fault(key, "is not for sqlite://, which is a file: remove it");
            }
        }
    }
    let statement = |key: &str| {
        table.read(key, |text| {
            Ok(Statement::parse(sql(text)?, dialect, value)?)
        })
    };
    let (write, read_back, on_none) = (
        statement("statement"),
        statement("read_back"),
        statement("on_none"),
    );
    if let Some(write) = &write
        && !write.uses(|parameter| parameter == Parameter::Value)
    {
        table.fault(
            "statement",
            format_args!("never names `:{value}`, the value that it is to write"),
        );
    }
    if let Some(on_none) = &on_none
        && on_none.uses(|parameter| !parameter.is_of_account())
    {
        table.fault(
            "on_none",
            "may name only :account and :appid: there is no value then",
        );
    }
    if let Some(select) = &read_back
        && !is_query(&select.sql)
    {
        table.fault(
            "read_back",
            "must be a SELECT of the cell that the value is written to",
        );
    }
    let database = Database {
        dialect,
        password,
        ca_file,
        statement: write?,
        read_back,
        on_none,
        rows: rows.unwrap_or(Some(1)),
        time_zone: zone.unwrap_or_else(TimeZone::system),
        url,
    };
    Some((database.url.shown(), database))
}

/// A statement may have several lines.
fn sql<'a>(value: &'a DeValue<'a>) -> Checked<&'a str> {
    match value.as_str() {
        Some(text) if text.contains('\0') => Err("must not hold control characters".into()),
        Some(text) if !text.trim().is_empty() => Ok(text),
        _ => Err("must be a statement in quotes".into()),
    }
}

fn is_query(sql: &str) -> bool {
    let word = sql
        .split(|c: char| !c.is_ascii_alphabetic())
        .find(|word| !word.is_empty());
    word.is_some_and(|word| {
        ["SELECT", "WITH", "VALUES", "TABLE"]
            .iter()
            .any(|query| word.eq_ignore_ascii_case(query))
    })
}

fn rows(value: &DeValue<'_>) -> Checked<Option<u64>> {
    if value.as_str() == Some("any") {
        return Ok(None);
    }
    let right = "must be a number from 1, or \"any\"";
    let number = value::whole(value, 1..=1_000_000).map_err(|_| right)?;
    Ok(Some(number.into()))
}

fn url(text: &str, has_password: bool) -> Checked<(Url, Dialect)> {
    let mut url = Url::parse(text, &SCHEMES, EXAMPLE)?;
    let dialect = match &*url.scheme {
        "mysql" | "mariadb" => Dialect::Mysql,
        "postgres" | "postgresql" => Dialect::Postgres,
        "sqlite" => Dialect::Sqlite,
        _ => Dialect::SqlServer,
    };
    if dialect == Dialect::Sqlite {
        if url.address != Address::Tcp(String::new(), None) || url.path.len() < 2 {
            return Err("must name a file by its absolute path, with three slashes: sqlite:///srv/app/app.db".into());
        }
        return Ok((url, dialect));
    }
    if url.database().is_none() {
        return Err(format!("must name a database after the host, as in \"{EXAMPLE}\"").into());
    }
    if url.user.is_none() {
        return Err(format!("must name the user before the host, as in \"{EXAMPLE}\"").into());
    }
    if matches!(&url.address, Address::Tcp(host, _) if host.is_empty()) {
        return Err(format!("must name a host, as in \"{EXAMPLE}\"").into());
    }
    let is_socket = matches!(url.address, Address::Unix(_));
    if is_socket && dialect == Dialect::SqlServer {
        return Err("has a ?socket=, which SQL Server does not know".into());
    }
    // Without a password only the peer's identity is left, and that needs a socket.
    if !is_socket && !has_password {
        let usual = match dialect {
            Dialect::Mysql => {
                usual_socket(&["/run/mysqld/mysqld.sock", "/var/lib/mysql/mysql.sock"])
            }
            Dialect::Postgres => usual_socket(&["/run/postgresql"]),
            Dialect::Sqlite | Dialect::SqlServer => None,
        };
        match usual {
            Some(path) if url.address.is_local() => url.address = Address::Unix(path),
            _ => {
                return Err("needs a password over TCP: set `password_file`, or name a Unix socket with ?socket=".into());
            }
        }
    }
    Ok((url, dialect))
}
