//! The log: to the journal with fields under systemd, else as lines on standard error. All that is logged passes through
//! [`Entry`], so that every line has the same form and fields. Logging never waits for whoever reads.

mod repeats;
mod sink;

use crate::account::AccountName;
use crate::config::LogLevel;
use crate::event::Event;
use crate::outbox::Outbox;
use crate::trouble::LastError;
use parking_lot::Mutex;
pub(crate) use sink::is_journal;

use repeats::{LogSource, Repeats, Repetition};
use sink::{LogLine, LogSink};
use std::fmt;
use std::panic::Location;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

/// Lines that wait for a slow reader.
const QUEUE: usize = 1024;

/// The log of this process: the one thing that everything may use without being given it.
static LOG: OnceLock<Logger> = OnceLock::new();

#[derive(Debug)]
struct Logger {
    level: AtomicU8,
    lines: Outbox<LogLine>,
    repeats: Mutex<Repeats>,
}

/// Changes how much is logged, while the log runs.
#[derive(Debug, Clone, Copy)]
pub struct Log(());

impl Log {
    /// Starts the log of this process. A second start in one process only sets the level.
    pub fn start(level: LogLevel) -> Self {
        LOG.get_or_init(|| {
            let mut sink = LogSink::of_process();
            Logger {
                level: AtomicU8::new(0),
                lines: Outbox::new("log", QUEUE, move |line, dropped| {
                    sink.write(&line, dropped);
                }),
                repeats: Mutex::default(),
            }
        });
        let log = Self(());
        log.set_level(level);
        log
    }

    /// Logs as much as `level` from now on.
    pub fn set_level(self, level: LogLevel) {
        let level = match level {
            LogLevel::Error => Level::Error,
            LogLevel::Warn => Level::Warn,
            LogLevel::Info => Level::Info,
            LogLevel::Debug | LogLevel::Trace => Level::Debug,
        };
        if let Some(log) = LOG.get() {
            log.level.store(level as u8, Ordering::Relaxed);
        }
    }

    /// Tells how often lines were left out that do not repeat any more.
    pub fn tell_left_out(self) {
        let Some(log) = LOG.get() else { return };
        for line in log.repeats.lock().ended(Instant::now()) {
            log.lines.send(line, |_| false);
        }
    }

    /// Waits until all lines are written, for so long at most.
    pub fn flush(self, limit: Duration) {
        if let Some(log) = LOG.get() {
            log.lines.flush(limit);
        }
    }
}

impl Logger {}

/// The level of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
enum Level {
    Error = 1,
    Warn,
    Info,
    Debug,
}

/// One line of the log, with what the journal is to index.
#[derive(Debug, Default, Clone, Copy)]
#[must_use]
pub struct Entry<'a> {
    event: Option<Event>,
    account: Option<&'a AccountName>,
    error: Option<&'a LastError>,
    output: Option<&'a Path>,
    by_words: bool,
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
    pub(crate) fn error_of(self, error: &'a LastError) -> Self {
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

    /// It repeats only a line with the same words: one of several faults is no repetition of another.
    pub fn by_words(self) -> Self {
        Self {
            by_words: true,
            ..self
        }
    }

    /// An account has no valid value.
    #[track_caller]
    pub fn error(self, message: impl fmt::Display) {
        self.log(Level::Error, &message);
    }

    /// Someone must act, or a fallback is in use.
    #[track_caller]
    pub fn warn(self, message: impl fmt::Display) {
        self.log(Level::Warn, &message);
    }

    /// A state changed.
    #[track_caller]
    pub fn info(self, message: impl fmt::Display) {
        self.log(Level::Info, &message);
    }

    /// A call, or another detail.
    #[track_caller]
    pub fn debug(self, message: impl fmt::Display) {
        self.log(Level::Debug, &message);
    }

    #[track_caller]
    fn log(self, level: Level, message: &dyn fmt::Display) {
        let Some(log) = LOG.get() else { return };
        if level as u8 > log.level.load(Ordering::Relaxed) {
            return;
        }
        let mut line = LogLine::new(self, level, message);
        if level != Level::Debug {
            let words = self.by_words.then_some(&*line.message);
            let source = LogSource::new(Location::caller(), self.account, self.output, words);
            match log.repeats.lock().see(source, &line, Instant::now()) {
                Repetition::LeftOut => return,
                Repetition::Again(left_out) => line.add_left_out(left_out),
                Repetition::New => {}
            }
        }
        log.lines.send(line, |_| false);
    }
}
