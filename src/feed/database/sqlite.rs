//! `SQLite`, in a thread of its own for each write: it blocks.

use super::Cell;
use crate::config::Database;
use crate::failure::Failure;
use crate::statement::BoundParameter;
use rusqlite::types::{ToSqlOutput, Value as SqlValue, ValueRef};
use rusqlite::{Connection, InterruptHandle, OpenFlags, ToSql};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tokio::sync::{Semaphore, oneshot};
use zeroize::Zeroizing;

/// Threads of one target. More than one is needed only while one hangs on a dead disk.
pub(super) const MAX_THREADS: usize = 8;
/// The longest wait for a database that another program locks; then the write is tried again.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

type SqliteJob = Box<dyn FnOnce(&Connection) + Send>;

pub(super) struct SqliteSession {
    work: mpsc::Sender<SqliteJob>,
    interrupt: InterruptHandle,
}

impl SqliteSession {
    pub(super) async fn connect(
        config: &Database,
        threads: &Arc<Semaphore>,
    ) -> Result<Self, Failure> {
        let hangs = || Failure::Away("the disk hangs: earlier writes have not ended".to_owned());
        let permit = Arc::clone(threads)
            .try_acquire_owned()
            .map_err(|_| hangs())?;
        let path = config.url.path.clone();
        let (work, jobs) = mpsc::channel::<SqliteJob>();
        let (opened, is_open) = oneshot::channel();
        let run = move || {
            let _permit = permit;
            let connection = match open(Path::new(&path)) {
                Ok(connection) => connection,
                Err(failure) => return drop(opened.send(Err(failure))),
            };
            if opened.send(Ok(connection.get_interrupt_handle())).is_ok() {
                while let Ok(job) = jobs.recv() {
                    job(&connection);
                }
            }
        };
        std::thread::Builder::new()
            .name("sqlite".to_owned())
            .spawn(run)
            .map_err(|error| Failure::Away(format!("no thread can be started: {error}")))?;
        let interrupt = is_open.await.map_err(|_| hangs())??;
        Ok(Self { work, interrupt })
    }

    async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Failure> {
        let (done, is_done) = oneshot::channel();
        let job: SqliteJob = Box::new(move |connection| drop(done.send(job(connection))));
        let ended = || Failure::Away("the thread of the database ended".to_owned());
        self.work.send(job).map_err(|_| ended())?;
        Ok(is_done.await.map_err(|_| ended())??)
    }

    pub(super) async fn begin(&mut self) -> Result<(), Failure> {
        self.run(|connection| connection.execute_batch("BEGIN IMMEDIATE"))
            .await
    }

    pub(super) async fn commit(&mut self) -> Result<(), Failure> {
        self.run(|connection| connection.execute_batch("COMMIT"))
            .await
    }

    pub(super) async fn prepare(&mut self, sql: &str) -> Result<(), Failure> {
        let sql = sql.to_owned();
        self.run(move |connection| connection.prepare(&sql).map(drop))
            .await
    }

    pub(super) async fn execute(
        &mut self,
        sql: &str,
        bound: Vec<BoundParameter>,
    ) -> Result<u64, Failure> {
        let sql = sql.to_owned();
        let found = move |connection: &Connection| {
            connection.execute(
                &sql,
                rusqlite::params_from_iter(bound.into_iter().map(SqliteParameter)),
            )
        };
        self.run(found).await.map(|found| found as u64)
    }

    pub(super) async fn query(
        &mut self,
        sql: &str,
        bound: Vec<BoundParameter>,
    ) -> Result<Vec<Cell>, Failure> {
        let sql = sql.to_owned();
        self.run(move |connection| {
            let mut statement = connection.prepare(&sql)?;
            let parameters = rusqlite::params_from_iter(bound.into_iter().map(SqliteParameter));
            let cells = statement.query_map(parameters, |row| Ok(cell(row.get_ref(0)?)))?;
            cells.collect()
        })
        .await
    }

    #[expect(clippy::unused_async, reason = "as the other drivers")]
    pub(super) async fn close(self) {
        drop(self);
    }
}

impl Drop for SqliteSession {
    fn drop(&mut self) {
        // What still runs is past its deadline: it is rolled back.
        self.interrupt.interrupt();
    }
}

fn open(path: &Path) -> Result<Connection, Failure> {
    let shown = path.display();
    let metadata = path.metadata().map_err(|error| {
        Failure::Away(format!(
            "`{shown}` cannot be opened: {}",
            wxtokend::fault::reason(&error)
        ))
    })?;
    // Another user's -wal and -shm files could not be written by the app.
    let uid = rustix::process::geteuid();
    if !uid.is_root() && uid.as_raw() != metadata.uid() {
        return Err(Failure::Away(format!(
            "`{shown}` belongs to uid {} and this runs as {}: the app could not write to it afterwards; run the feed \
             as its owner (User= of the unit)",
            metadata.uid(),
            uid.as_raw(),
        )));
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    Ok(connection)
}

struct SqliteParameter(BoundParameter);

impl ToSql for SqliteParameter {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match &self.0 {
            BoundParameter::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
            BoundParameter::Number(number) => ToSqlOutput::Owned(SqlValue::Integer(*number)),
        })
    }
}

fn cell(value: ValueRef<'_>) -> Cell {
    let bytes = match value {
        ValueRef::Null => return None,
        ValueRef::Integer(number) => number.to_string().into_bytes(),
        ValueRef::Real(number) => number.to_string().into_bytes(),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.to_vec(),
    };
    Some(Zeroizing::new(bytes))
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode as Code;
        let message = match &error {
            rusqlite::Error::SqliteFailure(_, Some(message)) => message.clone(),
            other => other.to_string(),
        };
        match error.sqlite_error_code() {
            Some(
                Code::CannotOpen
                | Code::ReadOnly
                | Code::DiskFull
                | Code::SystemIoFailure
                | Code::DatabaseBusy
                | Code::DatabaseLocked
                | Code::DatabaseCorrupt
                | Code::NotADatabase
                | Code::PermissionDenied
                | Code::OperationInterrupted,
            ) => Failure::Away(message),
            _ => Failure::Refused(message),
        }
    }
}
