//! The receivers of the log, and the form of its lines for each.

use super::{Entry, Level};
use crate::account::AccountName;
use crate::event::Event;
use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use tracing::Dispatch;
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::layer::SubscriberExt;

/// The name of the daemon in the journal.
const IDENTIFIER: &str = "wxtokend";
/// Bytes of a message at most: a datagram has to hold it.
const MAX_MESSAGE: usize = 16_384;

/// A line on its way.
#[derive(Debug, Clone)]
pub(super) struct LogLine {
    pub(super) level: Level,
    pub(super) message: String,
    /// Fields of the journal: names and values.
    fields: Vec<(&'static str, String)>,
    at: jiff::Timestamp,
}

impl LogLine {
    pub(super) fn new(entry: Entry<'_>, level: Level, message: &dyn fmt::Display) -> Self {
        let mut text = String::new();
        if let Some(account) = entry.account {
            let _ = write!(text, "{account}: ");
        }
        let _ = write!(text, "{message}");
        let end = (0..=text.len().min(MAX_MESSAGE)).rev();
        let end = end.into_iter().find(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or(0));
        let fields = [
            (
                "MESSAGE_ID",
                entry.event.map(Event::message_id).map(str::to_owned),
            ),
            (
                "WXTOKEND_EVENT",
                entry.event.map(Event::name).map(str::to_owned),
            ),
            (
                "WXTOKEND_ACCOUNT",
                entry.account.map(AccountName::to_string),
            ),
            (
                "WXTOKEND_ERRCODE",
                entry
                    .error
                    .and_then(|error| Some(error.errcode?.to_string())),
            ),
            (
                "WXTOKEND_RID",
                entry.error.and_then(|error| error.rid.clone()),
            ),
            (
                "WXTOKEND_OUTPUT",
                entry.output.map(Path::display).map(|path| path.to_string()),
            ),
        ];
        Self {
            level,
            message: text,
            fields: fields
                .into_iter()
                .filter_map(|(name, value)| Some((name, value?)))
                .collect(),
            at: jiff::Timestamp::now(),
        }
    }

    /// Says at its end how many lines like it were left out.
    pub(super) fn add_left_out(&mut self, left_out: u64) {
        let _ = write!(
            self.message,
            " ({left_out} more times since it was last told)"
        );
    }

    /// As an event of `tracing`, which the layer for the journal takes.
    fn emit(&self) {
        let field = |name| {
            let mut fields = self.fields.iter();
            fields.find_map(|(field, value)| (*field == name).then_some(&**value))
        };
        // A level is part of what tracing knows of a line at compile time.
        macro_rules! event {
            ($level:expr) => {
                tracing::event!(
                    target: IDENTIFIER,
                    $level,
                    MESSAGE_ID = field("MESSAGE_ID"),
                    WXTOKEND_EVENT = field("WXTOKEND_EVENT"),
                    WXTOKEND_ACCOUNT = field("WXTOKEND_ACCOUNT"),
                    WXTOKEND_ERRCODE = field("WXTOKEND_ERRCODE"),
                    WXTOKEND_RID = field("WXTOKEND_RID"),
                    WXTOKEND_OUTPUT = field("WXTOKEND_OUTPUT"),
                    "{}",
                    self.message,
                )
            };
        }
        match self.level {
            Level::Error => event!(tracing::Level::ERROR),
            Level::Warn => event!(tracing::Level::WARN),
            Level::Info => event!(tracing::Level::INFO),
            Level::Debug => event!(tracing::Level::DEBUG),
        }
    }

    /// For people: time, level, message.
    fn text(&self, is_coloured: bool) -> String {
        let now = self.at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ");
        let (colour, level) = match self.level {
            Level::Error => ("\x1b[31m", "ERROR"),
            Level::Warn => ("\x1b[33m", "WARN "),
            Level::Info => ("\x1b[32m", "INFO "),
            Level::Debug => ("\x1b[34m", "DEBUG"),
        };
        let message = &self.message;
        if is_coloured {
            format!("\x1b[2m{now}\x1b[0m {colour}{level}\x1b[0m {message}\n")
        } else {
            format!("{now} {level} {message}\n")
        }
    }
}

/// The receiver of the log.
#[derive(Debug)]
pub(super) enum LogSink {
    Journal(Dispatch),
    StandardError { is_coloured: bool },
}

impl LogSink {
    /// The journal if standard error is connected to it, else standard error.
    pub(super) fn of_process() -> Self {
        match tracing_journald::layer() {
            Ok(layer) if is_journal() => {
                let layer = layer
                    .with_field_prefix(None)
                    .with_syslog_identifier(IDENTIFIER.to_owned())
                    .with_priority_mappings(PriorityMappings {
                        info: Priority::Informational,
                        debug: Priority::Debug,
                        ..PriorityMappings::new()
                    });
                Self::Journal(Dispatch::new(tracing_subscriber::registry().with(layer)))
            }
            _ => Self::StandardError {
                is_coloured: io::stderr().is_terminal()
                    && std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty()),
            },
        }
    }

    /// Writes a line, and before it how many were dropped. May hang: called by a thread that may.
    pub(super) fn write(&mut self, line: &LogLine, dropped: u64) {
        if dropped > 0 {
            let message =
                format_args!("{dropped} lines of the log were dropped: nobody read them in time");
            self.write_one(&LogLine::new(Entry::new(), Level::Warn, &message));
        }
        self.write_one(line);
    }

    fn write_one(&mut self, line: &LogLine) {
        match self {
            // For this thread only. Lines of libraries may hold secrets, and none passes.
            Self::Journal(journal) => tracing::dispatcher::with_default(journal, || line.emit()),
            // There is nobody left to tell.
            Self::StandardError { is_coloured } => {
                let _ = io::stderr().write_all(line.text(*is_coloured).as_bytes());
            }
        }
    }
}

/// Returns whether standard error is the journal (`$JOURNAL_STREAM` names its device and inode).
pub(crate) fn is_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    let Ok(stderr) = std::fs::metadata("/proc/self/fd/2") else {
        return false;
    };
    stream == format!("{}:{}", stderr.dev(), stderr.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_for_people_has_time_level_and_message() {
        let line = LogLine::new(Entry::new(), Level::Info, &"hello");
        let text = line.text(false);
        assert!(text.ends_with("Z INFO  hello\n"), "{text}");
        assert!(line.text(true).contains("\x1b[32mINFO \x1b[0m hello"));
    }
}
