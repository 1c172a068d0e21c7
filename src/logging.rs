//! The log: to the journal with fields under systemd, else as lines on standard error. What is said passes through
//! [`Entry`], so that every line has the same form and fields.

use crate::account::AccountName;
use crate::config::LogLevel;
use crate::event::Event;
use crate::trouble::LastError;
use std::fmt;
use std::io::IsTerminal;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};

const TARGET: &str = "wxtokend";

/// Changes how much is logged, while the log runs.
#[derive(Debug)]
pub struct Log(reload::Handle<Targets, Registry>);

impl Log {
    /// Starts the log of this process. A second start in one process has no effect.
    pub fn start(level: LogLevel) -> Self {
        let (filter, handle) = reload::Layer::new(only_ours(level));
        let journal = is_journal()
            .then(|| tracing_journald::layer().ok())
            .flatten();
        let to_journal = journal.is_some();
        let journal = journal.map(|layer| {
            layer
                .with_field_prefix(None)
                .with_syslog_identifier(TARGET.to_owned())
                .with_priority_mappings(tracing_journald::PriorityMappings {
                    info: tracing_journald::Priority::Informational,
                    debug: tracing_journald::Priority::Debug,
                    ..tracing_journald::PriorityMappings::new()
                })
        });
        let lines = (!to_journal).then(|| {
            let ansi = std::io::stderr().is_terminal()
                && std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty());
            tracing_subscriber::fmt::layer()
                .with_writer(std::io::stderr)
                .with_ansi(ansi)
                .event_format(Line)
        });
        let outputs = journal
            .map(Layer::boxed)
            .or_else(|| lines.map(Layer::boxed));
        // Only tests start a second one.
        let _ = tracing_subscriber::registry()
            .with(outputs.with_filter(filter))
            .try_init();
        Self(handle)
    }

    /// Logs as much as `level` from now on.
    pub fn set_level(&self, level: LogLevel) {
        // Fails only when the log is gone, at the end of the process.
        let _ = self.0.reload(only_ours(level));
    }
}

/// Libraries below us log headers and URLs, which hold secrets: nothing of theirs passes.
fn only_ours(level: LogLevel) -> Targets {
    Targets::new().with_target(
        TARGET,
        match level {
            LogLevel::Error => LevelFilter::ERROR,
            LogLevel::Warn => LevelFilter::WARN,
            LogLevel::Info => LevelFilter::INFO,
            LogLevel::Debug => LevelFilter::DEBUG,
            LogLevel::Trace => LevelFilter::TRACE,
        },
    )
}

/// Whether standard error is the journal (`$JOURNAL_STREAM` names its device and inode).
fn is_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    let Ok(stderr) = std::fs::metadata("/proc/self/fd/2") else {
        return false;
    };
    stream == format!("{}:{}", stderr.dev(), stderr.ino())
}

/// One line of the log, with what the journal is to index.
#[derive(Debug, Default, Clone, Copy)]
#[must_use]
pub struct Entry<'a> {
    event: Option<Event>,
    account: Option<&'a AccountName>,
    error: Option<&'a LastError>,
    output: Option<&'a Path>,
}

impl<'a> Entry<'a> {
    /// A line about the daemon.
    pub fn new() -> Self {
        Self::default()
    }

    /// A line about an account.
    pub fn of(account: &'a AccountName) -> Self {
        Self {
            account: Some(account),
            ..Self::default()
        }
    }

    /// It is of a kind that administrators may want to alert on.
    pub fn event(self, event: Event) -> Self {
        Self {
            event: Some(event),
            ..self
        }
    }

    /// It tells of a failed call.
    pub fn error_of(self, error: &'a LastError) -> Self {
        Self {
            error: Some(error),
            ..self
        }
    }

    /// It concerns one output.
    pub fn output(self, path: &'a Path) -> Self {
        Self {
            output: Some(path),
            ..self
        }
    }

    /// An account has no valid value.
    pub fn error(self, message: impl fmt::Display) {
        self.log(Level::ERROR, &message);
    }

    /// Someone must act, or a fallback is in use.
    pub fn warn(self, message: impl fmt::Display) {
        self.log(Level::WARN, &message);
    }

    /// A state changed.
    pub fn info(self, message: impl fmt::Display) {
        self.log(Level::INFO, &message);
    }

    /// A call, or another detail.
    pub fn debug(self, message: impl fmt::Display) {
        self.log(Level::DEBUG, &message);
    }

    fn log(self, level: Level, message: &dyn fmt::Display) {
        // A level is part of what tracing knows of a line at compile time.
        macro_rules! line {
            ($level:expr) => {
                tracing::event!(
                    target: TARGET,
                    $level,
                    MESSAGE_ID = self.event.map(Event::message_id),
                    WXTOKEND_EVENT = self.event.map(Event::name),
                    WXTOKEND_ACCOUNT = self.account.map(AccountName::as_str),
                    WXTOKEND_ERRCODE = self.error.and_then(|error| error.errcode),
                    WXTOKEND_RID = self.error.and_then(|error| error.rid.as_deref()),
                    WXTOKEND_OUTPUT = self.output.map(|path| tracing::field::display(path.display())),
                    "{}{message}",
                    Prefix(self.account),
                )
            };
        }
        match level {
            Level::ERROR => line!(Level::ERROR),
            Level::WARN => line!(Level::WARN),
            Level::INFO => line!(Level::INFO),
            _ => line!(Level::DEBUG),
        }
    }
}

struct Prefix<'a>(Option<&'a AccountName>);

impl fmt::Display for Prefix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |account| write!(f, "{account}: "))
    }
}

/// A line for people: time, level, message. The fields are for the journal.
struct Line;

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &tracing::Event<'_>,
    ) -> fmt::Result {
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.3fZ");
        let (colour, level) = match *event.metadata().level() {
            Level::ERROR => ("\x1b[31m", "ERROR"),
            Level::WARN => ("\x1b[33m", "WARN "),
            Level::INFO => ("\x1b[32m", "INFO "),
            Level::DEBUG => ("\x1b[34m", "DEBUG"),
            Level::TRACE => ("\x1b[35m", "TRACE"),
        };
        if writer.has_ansi_escapes() {
            write!(writer, "\x1b[2m{now}\x1b[0m {colour}{level}\x1b[0m ")?;
        } else {
            write!(writer, "{now} {level} ")?;
        }
        let mut message = Message(&mut writer, Ok(()));
        event.record(&mut message);
        message.1?;
        writeln!(writer)
    }
}

struct Message<'a, 'w>(&'a mut Writer<'w>, fmt::Result);

impl Visit for Message<'_, '_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.1 = write!(self.0, "{value:?}");
        }
    }
}
