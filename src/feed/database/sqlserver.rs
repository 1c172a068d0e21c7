//! SQL Server.

use super::{Cell, tds_tls};
use crate::config::{Address, Database};
use crate::failure::Failure;
use crate::statement::BoundParameter;
use crate::tls::ClientSettings;
use futures_util::{AsyncRead, AsyncWrite};
use tiberius::error::Error;
use tiberius::{AuthMethod, Client, ColumnData, Config, EncryptionLevel, Query, Row};
use tokio::net::TcpStream;
use tokio_util::compat::TokioAsyncWriteCompatExt;
use zeroize::Zeroizing;

/// A connection in the clear, or the near end of an encrypted one.
trait TdsStream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> TdsStream for T {}

pub(super) struct SqlServerSession(Client<Box<dyn TdsStream>>);

impl SqlServerSession {
    pub(super) async fn connect(
        config: &Database,
        password: Option<Zeroizing<String>>,
        tls: &ClientSettings,
    ) -> Result<Self, Failure> {
        let Address::Tcp(host, port) = &config.url.address else {
            return Err(Failure::Away(
                "SQL Server is reached over TCP only".to_owned(),
            ));
        };
        let port = port.unwrap_or(1433);
        let mut options = Config::new();
        options.host(host);
        options.port(port);
        options.database(config.url.database().unwrap_or_default());
        options.application_name("wxtokend-feed");
        options.encryption(EncryptionLevel::NotSupported);
        options.authentication(AuthMethod::sql_server(
            config.url.user.as_deref().unwrap_or_default(),
            password.as_deref().map_or("", String::as_str),
        ));
        let io = |error: std::io::Error| {
            Failure::Away(format!(
                "the server cannot be reached: {}",
                wxtokend::fault::reason(&error)
            ))
        };
        let tcp = TcpStream::connect((host.as_str(), port))
            .await
            .map_err(io)?;
        tcp.set_nodelay(true).map_err(io)?;
        let stream: Box<dyn TdsStream> = if config.is_encrypted() {
            let tls = tls.get().map_err(Failure::Away)?;
            Box::new(
                tds_tls::encrypt(tcp, host, tls)
                    .await
                    .map_err(io)?
                    .compat_write(),
            )
        } else {
            Box::new(tcp.compat_write())
        };
        let client = Client::connect(options, stream).await;
        client
            .map(Self)
            .map_err(|error| Failure::Away(message(&error)))
    }

    pub(super) async fn begin(&mut self) -> Result<(), Failure> {
        self.batch("BEGIN TRANSACTION").await
    }

    pub(super) async fn commit(&mut self) -> Result<(), Failure> {
        self.batch("COMMIT").await
    }

    async fn batch(&mut self, sql: &str) -> Result<(), Failure> {
        let stream = self.0.simple_query(sql).await?;
        stream.into_results().await?;
        Ok(())
    }

    /// Compiles the statement without running it.
    pub(super) async fn prepare(&mut self, sql: &str) -> Result<(), Failure> {
        // Each parameter is declared as the text that it may be.
        let count = sql.matches("@P").count();
        let declared: Vec<String> = (1..=count)
            .map(|n| format!("@P{n} nvarchar(4000)"))
            .collect();
        let mut query = Query::new(
            "DECLARE @handle int; EXEC sp_prepare @handle OUTPUT, @P1, @P2; EXEC sp_unprepare @handle",
        );
        query.bind(declared.join(", "));
        query.bind(sql.to_owned());
        query.execute(&mut self.0).await?;
        Ok(())
    }

    pub(super) async fn execute(
        &mut self,
        sql: &str,
        bound: Vec<BoundParameter>,
    ) -> Result<u64, Failure> {
        Ok(bind(sql, bound).execute(&mut self.0).await?.total())
    }

    pub(super) async fn query(
        &mut self,
        sql: &str,
        bound: Vec<BoundParameter>,
    ) -> Result<Vec<Cell>, Failure> {
        let stream = bind(sql, bound).query(&mut self.0).await?;
        let rows = stream.into_first_result().await?;
        Ok(rows.into_iter().map(cell).collect())
    }

    pub(super) async fn close(self) {
        // The server notices a connection that is merely dropped, too.
        let _ = self.0.close().await;
    }
}

fn bind(sql: &str, bound: Vec<BoundParameter>) -> Query<'static> {
    let mut query = Query::new(sql.to_owned());
    for bound in bound {
        match bound {
            BoundParameter::Text(text) => query.bind(text.to_string()),
            BoundParameter::Number(number) => query.bind(number),
        }
    }
    query
}

fn cell(row: Row) -> Cell {
    let bytes = match row.into_iter().next()? {
        ColumnData::String(text) => text?.into_owned().into_bytes(),
        ColumnData::Binary(bytes) => bytes?.into_owned(),
        ColumnData::I32(number) => number?.to_string().into_bytes(),
        ColumnData::I64(number) => number?.to_string().into_bytes(),
        _ => return None,
    };
    Some(Zeroizing::new(bytes))
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match &error {
            Error::Server(_) => Failure::Refused(message(&error)),
            other => Failure::Away(message(other)),
        }
    }
}

fn message(error: &Error) -> String {
    match error {
        Error::Server(error) => format!("{} (error {})", error.message(), error.code()),
        other => other.to_string(),
    }
}
