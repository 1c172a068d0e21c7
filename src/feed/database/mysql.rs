//! `MySQL` and `MariaDB`.

use super::Cell;
use crate::config::{Address, Database};
use crate::failure::Failure;
use crate::statement::BoundParameter;
use sqlx::mysql::{MySqlArguments, MySqlConnectOptions, MySqlConnection, MySqlRow, MySqlSslMode};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Connection, Executor, MySql, Row, SqlSafeStr, ValueRef};
use zeroize::Zeroizing;

pub(super) struct MysqlSession(MySqlConnection);

impl MysqlSession {
    pub(super) async fn connect(
        config: &Database,
        password: Option<Zeroizing<String>>,
    ) -> Result<Self, Failure> {
        let mut options = MySqlConnectOptions::new()
            .username(config.url.user.as_deref().unwrap_or_default())
            .database(config.url.database().unwrap_or_default())
            .statement_cache_capacity(1)
            .timezone(None)
            // The statement is to mean what it means to the server.
            .pipes_as_concat(false)
            .no_engine_substitution(false);
        options = match &config.url.address {
            Address::Unix(path) => options.socket(path),
            Address::Tcp(host, port) => options.host(host).port(port.unwrap_or(3306)),
        };
        options = options.ssl_mode(if config.is_encrypted() {
            MySqlSslMode::VerifyIdentity
        } else {
            MySqlSslMode::Disabled
        });
        if let Some(ca_file) = &config.ca_file {
            options = options.ssl_ca(ca_file);
        }
        if let Some(password) = &password {
            options = options.password(password);
        }
        let connected = MySqlConnection::connect_with(&options).await;
        connected
            .map(Self)
            .map_err(|error| Failure::Away(message(&error)))
    }

    pub(super) async fn begin(&mut self) -> Result<(), Failure> {
        self.0.execute("START TRANSACTION").await?;
        Ok(())
    }

    pub(super) async fn commit(&mut self) -> Result<(), Failure> {
        self.0.execute("COMMIT").await?;
        Ok(())
    }

    pub(super) async fn prepare(&mut self, sql: &str) -> Result<(), Failure> {
        let sql = AssertSqlSafe(sql.to_owned()).into_sql_str();
        (&mut self.0).prepare(sql).await?;
        Ok(())
    }

    pub(super) async fn execute(
        &mut self,
        sql: &str,
        bound: Vec<BoundParameter>,
    ) -> Result<u64, Failure> {
        let done = bind(sql, &bound).execute(&mut self.0).await?;
        self.check_warnings().await?;
        Ok(done.rows_affected())
    }

    /// Outside strict mode a value that is too long is cut, and only a warning says so.
    async fn check_warnings(&mut self) -> Result<(), Failure> {
        for warning in &self.0.fetch_all("SHOW WARNINGS").await? {
            let code = warning.try_get_unchecked::<u32, _>(1).unwrap_or_default();
            let text = warning
                .try_get_unchecked::<String, _>(2)
                .unwrap_or_default();
            if matches!(code, 1264..=1266 | 1292 | 1366 | 1406) {
                return Err(Failure::Refused(text));
            }
        }
        Ok(())
    }

    pub(super) async fn query(
        &mut self,
        sql: &str,
        bound: Vec<BoundParameter>,
    ) -> Result<Vec<Cell>, Failure> {
        let rows = bind(sql, &bound).fetch_all(&mut self.0).await?;
        Ok(rows.iter().map(cell).collect())
    }

    /// The length of the column that a message names, in the first table of that name that the statement names too.
    pub(super) async fn column_length(&mut self, message: &str, sql: &str) -> Option<u64> {
        if !message.contains("too long") && !message.contains("truncated") {
            return None;
        }
        let (_, rest) = message.split_once("for column ")?;
        let column = rest.split(" at row").next()?;
        // MariaDB says `database`.`table`.`column` at times.
        let column = column
            .rsplit('.')
            .next()?
            .trim_matches(['\'', '`', ' '])
            .to_owned();
        let select = "SELECT CAST(table_name AS CHAR), CAST(character_maximum_length AS CHAR) \
                      FROM information_schema.columns WHERE table_schema = DATABASE() AND column_name = ?";
        let rows = sqlx::query(select)
            .bind(column)
            .fetch_all(&mut self.0)
            .await
            .ok()?;
        rows.iter().find_map(|row| {
            let table: String = row.try_get_unchecked(0).ok()?;
            let length: String = row.try_get_unchecked(1).ok()?;
            sql.contains(&table).then(|| length.parse().ok())?
        })
    }

    pub(super) async fn close(self) {
        // The server notices a connection that is merely dropped, too.
        let _ = self.0.close().await;
    }
}

fn bind(sql: &str, bound: &[BoundParameter]) -> Query<'static, MySql, MySqlArguments> {
    let mut query = sqlx::query(AssertSqlSafe(sql.to_owned())).persistent(false);
    for bound in bound {
        query = match bound {
            BoundParameter::Text(text) => query.bind(text.to_string()),
            BoundParameter::Number(number) => query.bind(*number),
        };
    }
    query
}

fn cell(row: &MySqlRow) -> Cell {
    if row.try_get_raw(0).ok()?.is_null() {
        return None;
    }
    // Whole numbers, such as a count, come in binary.
    let bytes = match row.try_get::<i64, _>(0) {
        Ok(number) => number.to_string().into_bytes(),
        Err(_) => row.try_get_unchecked::<Vec<u8>, _>(0).ok()?,
    };
    Some(Zeroizing::new(bytes))
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(_) => Failure::Refused(message(&error)),
            other => Failure::Away(message(other)),
        }
    }
}

fn message(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(error) => error.message().to_owned(),
        sqlx::Error::Io(error) => format!(
            "the server cannot be reached: {}",
            wxtokend::fault::reason(error)
        ),
        sqlx::Error::Tls(error) => format!("TLS failed: {error}"),
        other => other.to_string(),
    }
}
