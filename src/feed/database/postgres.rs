//! `PostgreSQL`.

use super::Cell;
use crate::config::{Address, Database};
use crate::failure::Failure;
use crate::statement::BoundParameter;
use crate::tls::ClientSettings;
use std::error::Error;
use tokio_postgres::config::SslMode;
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{Format, FromSql, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;
use zeroize::Zeroizing;

pub(super) struct PostgresSession(Client);

impl PostgresSession {
    pub(super) async fn connect(
        config: &Database,
        password: Option<Zeroizing<String>>,
        tls: &ClientSettings,
    ) -> Result<Self, Failure> {
        let mut options = Config::new();
        options
            .user(config.url.user.as_deref().unwrap_or_default())
            .dbname(config.url.database().unwrap_or_default())
            .application_name("wxtokend-feed");
        match &config.url.address {
            Address::Tcp(host, port) => options.host(host).port(port.unwrap_or(5432)),
            Address::Unix(path) => {
                // The server names its socket after its port; clients are told its directory.
                let name = path.file_name().and_then(|name| name.to_str());
                let port = name.and_then(|name| name.strip_prefix(".s.PGSQL.")?.parse().ok());
                match (port, path.parent()) {
                    (Some(port), Some(directory)) => options.host_path(directory).port(port),
                    _ => options.host_path(path),
                }
            }
        };
        if let Some(password) = &password {
            options.password(password.as_bytes());
        }
        let away = |error: tokio_postgres::Error| Failure::Away(message(&error));
        let client = if config.is_encrypted() {
            options.ssl_mode(SslMode::Require);
            let tls = tls.get().map_err(Failure::Away)?;
            let (client, connection) = options
                .connect(MakeRustlsConnect::new(tls))
                .await
                .map_err(away)?;
            tokio::spawn(connection);
            client
        } else {
            options.ssl_mode(SslMode::Disable);
            let (client, connection) = options.connect(NoTls).await.map_err(away)?;
            tokio::spawn(connection);
            client
        };
        // A column with a time zone takes a local time as of the session's.
        if let Some(zone) = config.time_zone.iana_name() {
            let set = format!("SET TIME ZONE '{}'", zone.replace('\'', ""));
            client.batch_execute(&set).await?;
        }
        Ok(Self(client))
    }

    pub(super) async fn begin(&mut self) -> Result<(), Failure> {
        Ok(self.0.batch_execute("BEGIN").await?)
    }

    pub(super) async fn commit(&mut self) -> Result<(), Failure> {
        Ok(self.0.batch_execute("COMMIT").await?)
    }

    pub(super) async fn prepare(&mut self, sql: &str) -> Result<(), Failure> {
        self.0.prepare(sql).await?;
        Ok(())
    }

    pub(super) async fn execute(
        &mut self,
        sql: &str,
        bound: Vec<BoundParameter>,
    ) -> Result<u64, Failure> {
        let texts: Vec<Text> = bound.iter().map(|bound| Text(bound.to_text())).collect();
        Ok(self.0.execute_raw(sql, &texts).await?)
    }

    pub(super) async fn query(
        &mut self,
        sql: &str,
        bound: Vec<BoundParameter>,
    ) -> Result<Vec<Cell>, Failure> {
        let texts: Vec<Text> = bound.iter().map(|bound| Text(bound.to_text())).collect();
        let parameters: Vec<&(dyn ToSql + Sync)> = texts.iter().map(|text| text as _).collect();
        let rows = self.0.query(sql, &parameters).await?;
        let cells = rows
            .iter()
            .map(|row| row.try_get::<_, Option<Raw>>(0).ok().flatten());
        Ok(cells.map(|cell| cell.map(|raw| raw.0)).collect())
    }

    #[expect(clippy::unused_async, reason = "as the other drivers")]
    pub(super) async fn close(self) {
        drop(self);
    }
}

/// A parameter in text form: the server reads it as whatever type it stands for.
#[derive(Clone)]
struct Text(Zeroizing<String>);

impl std::fmt::Debug for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Text(…)")
    }
}

impl ToSql for Text {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    to_sql_checked!();
}

/// A cell: of a text its bytes, of a count its digits.
struct Raw(Zeroizing<Vec<u8>>);

impl<'a> FromSql<'a> for Raw {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        let bytes = if *ty == Type::INT8 {
            i64::from_sql(ty, raw)?.to_string().into_bytes()
        } else if *ty == Type::JSONB {
            // A version comes first.
            raw.get(1..).unwrap_or_default().to_vec()
        } else {
            raw.to_vec()
        };
        Ok(Self(Zeroizing::new(bytes)))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(_) if !error.is_closed() => Failure::Refused(message(&error)),
            _ => Failure::Away(message(&error)),
        }
    }
}

fn message(error: &tokio_postgres::Error) -> String {
    if let Some(error) = error.as_db_error() {
        return error.message().to_owned();
    }
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
