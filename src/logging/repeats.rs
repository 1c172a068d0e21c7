//! Lines that repeat: the first few are logged, then one at growing intervals, with how many were left out.

use super::Level;
use super::sink::LogLine;
use crate::account::AccountName;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::Location;
use std::path::Path;
use std::time::{Duration, Instant};

/// Lines of one source that are logged one after the other.
const BURST: u32 = 5;
/// The same for changes of state, which come with each rotation.
const BURST_INFO: u32 = 20;
/// Interval after the burst; it doubles with each line that is logged.
const FIRST_INTERVAL: Duration = Duration::from_secs(1);
const MAX_INTERVAL: Duration = Duration::from_secs(600);
/// A source that was quiet for so long, and for twice its interval, begins anew.
const QUIET: Duration = Duration::from_secs(60);
/// The same for changes of state, which are no trouble and come with each rotation.
const QUIET_INFO: Duration = Duration::from_secs(4);

/// A place in the code that logs, for one account and output, and perhaps only in these words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct LogSource(u64);

impl LogSource {
    pub(super) fn new(
        location: &Location<'_>,
        account: Option<&AccountName>,
        output: Option<&Path>,
        words: Option<&str>,
    ) -> Self {
        let mut hasher = DefaultHasher::new();
        location.hash(&mut hasher);
        account.map(AccountName::as_str).hash(&mut hasher);
        output.hash(&mut hasher);
        words.hash(&mut hasher);
        Self(hasher.finish())
    }
}

/// The way to log a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Repetition {
    New,
    /// Lines like it were left out before: this many.
    Again(u64),
    LeftOut,
}

/// The sources that logged lately.
#[derive(Debug, Default)]
pub(super) struct Repeats(HashMap<LogSource, SourceHistory>);

#[derive(Debug)]
struct SourceHistory {
    burst_left: u32,
    interval: Duration,
    next_at: Instant,
    last_at: Instant,
    level: Level,
    left_out: u64,
    last: Option<Box<LogLine>>,
}

impl SourceHistory {
    fn is_quiet(&self, now: Instant) -> bool {
        let quiet = if self.level == Level::Info {
            QUIET_INFO
        } else {
            QUIET
        };
        now.duration_since(self.last_at) > quiet.max(self.interval * 2)
    }
}

impl Repeats {
    /// Notes a line, and says how to log it.
    pub(super) fn see(&mut self, source: LogSource, line: &LogLine, now: Instant) -> Repetition {
        let fresh = || SourceHistory {
            burst_left: if line.level == Level::Info {
                BURST_INFO
            } else {
                BURST
            },
            interval: FIRST_INTERVAL,
            next_at: now,
            last_at: now,
            level: line.level,
            left_out: 0,
            last: None,
        };
        let history = self.0.entry(source).or_insert_with(fresh);
        if history.is_quiet(now) {
            let left_out = history.left_out;
            *history = fresh();
            history.left_out = left_out;
        }
        history.last_at = now;
        if history.burst_left > 0 {
            history.burst_left -= 1;
            history.next_at = now + history.interval;
        } else if now >= history.next_at {
            history.interval = (history.interval * 2).min(MAX_INTERVAL);
            history.next_at = now + history.interval;
        } else {
            history.left_out += 1;
            history.last = Some(Box::new(line.clone()));
            return Repetition::LeftOut;
        }
        history.last = None;
        match std::mem::take(&mut history.left_out) {
            0 => Repetition::New,
            left_out => Repetition::Again(left_out),
        }
    }

    /// The last line of each source whose next line would be due, if it was left out. Forgets sources that are quiet.
    pub(super) fn ended(&mut self, now: Instant) -> Vec<LogLine> {
        self.0
            .retain(|_, history| history.left_out > 0 || !history.is_quiet(now));
        self.0.shrink_to_fit();
        let due = self
            .0
            .values_mut()
            .filter(|history| history.left_out > 0 && history.next_at <= now);
        due.filter_map(|history| {
            let mut line = *history.last.take()?;
            // The line itself is one of those that were left out.
            match std::mem::take(&mut history.left_out) {
                0 | 1 => {}
                more => line.add_left_out(more - 1),
            }
            history.interval = (history.interval * 2).min(MAX_INTERVAL);
            history.next_at = now + history.interval;
            Some(line)
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Entry;
    use super::*;

    fn line(level: Level) -> LogLine {
        LogLine::new(Entry::new(), level, &"again")
    }

    #[test]
    fn flood_is_told_at_growing_intervals_with_its_count() {
        let (mut repeats, start) = (Repeats::default(), Instant::now());
        let source = LogSource(1);
        let mut told = Vec::new();
        for tenth in 0..200 {
            let now = start + Duration::from_millis(100) * tenth;
            match repeats.see(source, &line(Level::Warn), now) {
                Repetition::LeftOut => {}
                Repetition::New => told.push(0),
                Repetition::Again(left_out) => told.push(left_out),
            }
        }
        assert_eq!(told, [0, 0, 0, 0, 0, 9, 19, 39, 79]);
        let later = start + Duration::from_secs(60);
        let rest = repeats.ended(later);
        assert_eq!(rest.len(), 1);
        assert!(
            rest[0].message.starts_with("again ("),
            "{}",
            rest[0].message
        );
        assert_eq!(repeats.ended(later + Duration::from_secs(3600)).len(), 0);
    }

    #[test]
    fn source_that_was_quiet_begins_anew() {
        let (mut repeats, start) = (Repeats::default(), Instant::now());
        for n in 0..10 {
            let now = start + Duration::from_secs(200) * n;
            let said = repeats.see(LogSource(1), &line(Level::Warn), now);
            assert_eq!(said, Repetition::New);
            let now = start + Duration::from_secs(5) * n;
            let said = repeats.see(LogSource(2), &line(Level::Info), now);
            assert_eq!(said, Repetition::New);
        }
    }

    #[test]
    fn sources_that_are_quiet_are_forgotten() {
        let (mut repeats, start) = (Repeats::default(), Instant::now());
        for source in 0..10_000 {
            repeats.see(LogSource(source), &line(Level::Info), start);
        }
        assert_eq!(repeats.ended(start).len(), 0);
        assert_eq!(repeats.0.len(), 10_000);
        assert_eq!(repeats.ended(start + QUIET_INFO * 2).len(), 0);
        assert_eq!(repeats.0.capacity(), 0);
    }

    #[test]
    fn sources_are_apart_from_each_other() {
        let names = ["shop", "blog"].map(|name| AccountName::parse(name).unwrap());
        let here = Location::caller();
        let sources = names
            .each_ref()
            .map(|name| LogSource::new(here, Some(name), None, None));
        assert_ne!(sources[0], sources[1]);
        let path = LogSource::new(here, Some(&names[0]), Some(Path::new("/a")), None);
        assert_ne!(sources[0], path);
        let [words, others] =
            ["a fault", "another"].map(|words| LogSource::new(here, None, None, Some(words)));
        assert_ne!(words, others);
    }
}
