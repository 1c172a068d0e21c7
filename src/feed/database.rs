//! Writes values to rows of databases: one connection a write, opened and closed under one deadline.

mod mysql;
mod postgres;
pub(crate) mod scrub;
mod sqlite;
mod sqlserver;
mod tds_tls;

use crate::config::Database;
use crate::deadline::within;
use crate::failure::Failure;
use crate::found::LookFinding;
use crate::statement::{BoundParameter, Dialect, Parameter, Statement};
use crate::tls::ClientSettings;
use crate::wish::TargetWish;
use scrub::scrub;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use wxtokend::follow::Holding;
use wxtokend::value::Value;

/// The first column of a row, as text; nothing for NULL.
type Cell = Option<zeroize::Zeroizing<Vec<u8>>>;

/// A connection of one of the drivers.
enum Session {
    Mysql(mysql::MysqlSession),
    Postgres(postgres::PostgresSession),
    Sqlite(sqlite::SqliteSession),
    SqlServer(sqlserver::SqlServerSession),
}

macro_rules! each {
    ($session:expr, $name:ident => $act:expr) => {
        match $session {
            Session::Mysql($name) => $act,
            Session::Postgres($name) => $act,
            Session::Sqlite($name) => $act,
            Session::SqlServer($name) => $act,
        }
    };
}

impl Session {
    async fn begin(&mut self) -> Result<(), Failure> {
        each!(self, session => session.begin().await)
    }

    async fn commit(&mut self) -> Result<(), Failure> {
        each!(self, session => session.commit().await)
    }

    async fn prepare(&mut self, sql: &str) -> Result<(), Failure> {
        each!(self, session => session.prepare(sql).await)
    }

    /// Returns how many rows were found.
    async fn execute(&mut self, sql: &str, bound: Vec<BoundParameter>) -> Result<u64, Failure> {
        each!(self, session => session.execute(sql, bound).await)
    }

    async fn query(&mut self, sql: &str, bound: Vec<BoundParameter>) -> Result<Vec<Cell>, Failure> {
        each!(self, session => session.query(sql, bound).await)
    }

    /// The length of the column that a value was too long for.
    async fn column_length(&mut self, message: &str, sql: &str) -> Option<u64> {
        match self {
            Self::Mysql(session) => session.column_length(message, sql).await,
            _ => None,
        }
    }

    async fn close(self) {
        each!(self, session => session.close().await);
    }
}

/// A database that values are written to.
#[derive(Clone)]
pub struct DatabaseWriter {
    config: Arc<Database>,
    /// A thread of `SQLite` that hangs on a dead disk keeps its permit.
    threads: Arc<Semaphore>,
    tls: Arc<ClientSettings>,
}

impl DatabaseWriter {
    /// A writer that has not connected to anything.
    pub fn new(config: Database) -> Self {
        let tls = match config.dialect {
            Dialect::SqlServer => ClientSettings::of_tls12,
            _ => ClientSettings::new,
        };
        Self {
            tls: Arc::new(tls(config.ca_file.as_deref())),
            config: Arc::new(config),
            threads: Arc::new(Semaphore::new(sqlite::MAX_THREADS)),
        }
    }

    /// Tells whether the cell can be compared with the value.
    pub fn can_check(&self) -> bool {
        self.config.read_back.is_some()
    }

    /// Tells whether there is something to write when there is no valid value.
    pub fn has_on_none(&self) -> bool {
        self.config.on_none.is_some()
    }

    /// Tells whether two values lead to different rows.
    pub fn differ(&self, old: &Holding, new: &Holding) -> bool {
        let names_time =
            |parameter| matches!(parameter, Parameter::Time(..) | Parameter::ExpiresIn);
        old.token != new.token || (old != new && self.config.statement.uses(names_time))
    }

    async fn connect(&self) -> Result<Session, Failure> {
        let connected = self.connect_with(&self.tls).await;
        if connected.is_err() {
            self.tls.forget();
        }
        connected
    }

    async fn connect_with(&self, tls: &ClientSettings) -> Result<Session, Failure> {
        let password = match &self.config.password {
            // Small, local and read before anything is held: nothing waits for it but this write.
            Some(source) => Some(source.read().map_err(Failure::Away)?),
            None => None,
        };
        let config = &*self.config;
        Ok(match config.dialect {
            Dialect::Mysql => Session::Mysql(mysql::MysqlSession::connect(config, password).await?),
            Dialect::Postgres => {
                Session::Postgres(postgres::PostgresSession::connect(config, password, tls).await?)
            }
            Dialect::Sqlite => {
                Session::Sqlite(sqlite::SqliteSession::connect(config, &self.threads).await?)
            }
            Dialect::SqlServer => Session::SqlServer(
                sqlserver::SqlServerSession::connect(config, password, tls).await?,
            ),
        })
    }

    /// Writes a value, or that there is none. What fails leaves the row as it was, where the database can do so.
    pub async fn write(&self, wish: &TargetWish) -> Result<(), Failure> {
        let token = wish.holding.as_ref().map(|holding| holding.token.clone());
        let written = self.write_unscrubbed(wish).await;
        written.map_err(|failure| clean(failure, token.as_ref()))
    }

    async fn write_unscrubbed(&self, wish: &TargetWish) -> Result<(), Failure> {
        let mut session = self.connect().await?;
        let Some(holding) = &wish.holding else {
            if let Some(on_none) = &self.config.on_none {
                let bound = self.bind(on_none, wish)?;
                session.execute(&on_none.sql, bound).await?;
            }
            session.close().await;
            return Ok(());
        };
        session.begin().await?;
        let statement = &self.config.statement;
        let bound = self.bind(statement, wish)?;
        let found = match session.execute(&statement.sql, bound).await {
            Ok(found) => found,
            Err(Failure::Refused(message)) => {
                let length = session.column_length(&message, &statement.sql).await;
                return Err(Failure::Refused(match length {
                    Some(length) => too_long(&holding.token, &format!("the column holds {length}")),
                    None => message,
                }));
            }
            Err(away) => return Err(away),
        };
        self.check_rows(found)?;
        if let Some(read_back) = &self.config.read_back {
            let bound = self.bind(read_back, wish)?;
            let cells = session.query(&read_back.sql, bound).await?;
            self.check_rows(cells.len() as u64)
                .map_err(|failure| Failure::Refused(format!("`read_back` {failure}")))?;
            for cell in &cells {
                check_cell(cell, &holding.token)?;
            }
        }
        session.commit().await?;
        session.close().await;
        Ok(())
    }

    fn bind(
        &self,
        statement: &Statement,
        wish: &TargetWish,
    ) -> Result<Vec<BoundParameter>, Failure> {
        let bound = statement.bind(wish, &self.config.time_zone);
        bound.ok_or_else(|| Failure::Refused("there is no valid value".to_owned()))
    }

    fn check_rows(&self, found: u64) -> Result<(), Failure> {
        let Some(wanted) = self.config.rows else {
            return Ok(());
        };
        // An upsert of MySQL counts a row that it changes twice.
        let upserts = self.config.dialect == Dialect::Mysql && {
            let sql = self.config.statement.sql.to_ascii_uppercase();
            sql.contains("ON DUPLICATE KEY") || sql.starts_with("REPLACE")
        };
        if found == wanted || (upserts && (wanted..=wanted * 2).contains(&found)) {
            return Ok(());
        }
        let rows = |count| {
            if count == 1 {
                "1 row".to_owned()
            } else {
                format!("{count} rows")
            }
        };
        Err(Failure::Refused(format!(
            "finds {}, and is to find {}: check its condition, or set `rows`",
            rows(found),
            rows(wanted)
        )))
    }

    /// Says of each wish whether the database holds it. One connection for all, and a deadline for each: a thousand take
    /// longer than one.
    pub async fn check(
        &self,
        wishes: &[TargetWish],
        limit: Duration,
    ) -> Result<Vec<bool>, Failure> {
        let Some(read_back) = &self.config.read_back else {
            return Ok(vec![true; wishes.len()]);
        };
        let mut session = within(limit, self.connect()).await?;
        let mut held = Vec::with_capacity(wishes.len());
        for wish in wishes {
            let Some(holding) = &wish.holding else {
                held.push(true);
                continue;
            };
            let bound = self.bind(read_back, wish)?;
            let cells = within(limit, session.query(&read_back.sql, bound)).await;
            let cells = cells.map_err(|failure| clean(failure, Some(&holding.token)))?;
            let is_there = |cell: &Cell| check_cell(cell, &holding.token).is_ok();
            held.push(self.check_rows(cells.len() as u64).is_ok() && cells.iter().all(is_there));
        }
        session.close().await;
        Ok(held)
    }

    /// Connects and prepares every statement, and counts the rows that would change. Changes nothing.
    pub async fn look(&self, wishes: &[TargetWish]) -> Result<Vec<LookFinding>, Failure> {
        let mut session = self.connect().await?;
        let statements = [
            ("statement", Some(&self.config.statement)),
            ("read_back", self.config.read_back.as_ref()),
            ("on_none", self.config.on_none.as_ref()),
        ];
        for (key, statement) in statements {
            if let Some(statement) = statement {
                let prepared = session.prepare(&statement.sql).await;
                prepared.map_err(|failure| match failure {
                    Failure::Refused(message) => {
                        Failure::Refused(format!("`{key}` cannot be prepared: {message}"))
                    }
                    away @ Failure::Away(_) => away,
                })?;
            }
        }
        let count = self.config.statement.count();
        let count = count.filter(|count| !count.uses(|parameter| !parameter.is_of_account()));
        let mut found = Vec::new();
        for wish in wishes {
            let rows = match (&count, &self.config.read_back) {
                (Some(count), _) => {
                    let cells = session.query(&count.sql, self.bind(count, wish)?).await?;
                    let number = cells.first().and_then(Option::as_ref);
                    number.and_then(|number| std::str::from_utf8(number).ok()?.trim().parse().ok())
                }
                (None, Some(read_back)) if wish.holding.is_some() => {
                    let bound = self.bind(read_back, wish)?;
                    Some(session.query(&read_back.sql, bound).await?.len() as u64)
                }
                _ => None,
            };
            found.push(match rows {
                None => LookFinding::Unknown,
                Some(rows) => match self.check_rows(rows) {
                    Ok(()) => LookFinding::Rows(rows),
                    Err(failure) => LookFinding::Wrong(format!("`statement` {failure}")),
                },
            });
        }
        session.close().await;
        Ok(found)
    }
}

/// A message of a server may quote what was sent to it.
fn clean(failure: Failure, token: Option<&Value>) -> Failure {
    match failure {
        Failure::Away(message) => Failure::Away(scrub(&message, token)),
        Failure::Refused(message) => Failure::Refused(scrub(&message, token)),
    }
}

fn too_long(token: &Value, column: &str) -> String {
    format!(
        "the value has {} characters and {column}: make the column at least 512 wide",
        token.expose().len()
    )
}

/// Compares a cell with the value.
fn check_cell(cell: &Cell, token: &Value) -> Result<(), Failure> {
    let token_bytes = token.expose().as_bytes();
    let Some(cell) = cell else {
        return Err(Failure::Refused(
            "`read_back` finds NULL where the value was written".to_owned(),
        ));
    };
    // CHAR columns are filled up with spaces.
    let cell = cell.trim_ascii_end();
    if cell == token_bytes {
        return Ok(());
    }
    Err(Failure::Refused(
        if !cell.is_empty() && token_bytes.starts_with(cell) {
            too_long(
                token,
                &format!(
                    "the server cut it to the {} that the column holds",
                    cell.len()
                ),
            )
        } else {
            "`read_back` finds something else than the value: another program writes there, or it selects another cell"
            .to_owned()
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_says_the_value_or_what_is_wrong_with_it() {
        let token = Value::parse("76_abcdef").unwrap();
        let check = |cell: Option<&str>| {
            let cell = cell.map(|text| zeroize::Zeroizing::new(text.as_bytes().to_vec()));
            check_cell(&cell, &token).map_err(|failure| failure.to_string())
        };
        assert_eq!(check(Some("76_abcdef")), Ok(()));
        assert_eq!(check(Some("76_abcdef   ")), Ok(()));
        for (cell, wrong) in [
            (None, "finds NULL"),
            (
                Some("76_abc"),
                "has 9 characters and the server cut it to the 6",
            ),
            (Some(""), "something else"),
            (Some("76_other"), "something else"),
        ] {
            let said = check(cell).unwrap_err();
            assert!(said.contains(wrong), "{said}");
        }
    }
}
