//! The host that the daemon runs on: its clocks, and what it stored.

use wxtokend::schedule::Record;
use wxtokend::time::{Moment, Now};

/// The host. `truth` is Unix time, milliseconds; what the host believes is another matter.
pub(crate) struct YearHost {
    pub(crate) truth: i64,
    /// The lead of the clock of the day, milliseconds.
    pub(crate) clock_error: i64,
    /// The true moment at which the boot clock would have said zero.
    booted: i64,
    boots: u32,
    saved: Option<(Record, Now, u32)>,
    clock_error_saved: i64,
}

impl YearHost {
    pub(crate) fn new(truth: i64) -> Self {
        Self {
            truth,
            clock_error: 0,
            booted: truth - 60_000,
            boots: 0,
            saved: None,
            clock_error_saved: 0,
        }
    }

    pub(crate) fn now(&self) -> Now {
        Now {
            at: Moment::from_millis(self.truth - self.booted),
            unix_millis: self.truth + self.clock_error,
        }
    }

    /// The true time of a moment.
    pub(crate) fn truth_of(&self, moment: Moment) -> i64 {
        moment.as_millis().saturating_add(self.booted)
    }

    /// The moment of a true time.
    pub(crate) fn moment_of(&self, truth: i64) -> Moment {
        Moment::from_millis(truth - self.booted)
    }

    /// The virtual machine is paused: the boot clock stands still.
    pub(crate) fn pause(&mut self, millis: i64) {
        self.truth += millis;
        self.booted += millis;
    }

    pub(crate) fn reboot(&mut self) {
        self.booted = self.truth;
        self.boots += 1;
    }

    pub(crate) fn save(&mut self, record: Record) {
        self.saved = Some((record, self.now(), self.boots));
        self.clock_error_saved = self.clock_error;
    }

    /// Returns whether the host takes the time since it saved for longer than it was: it booted, and only the clock of the day tells.
    pub(crate) fn overrates_downtime(&self) -> bool {
        let booted = self
            .saved
            .as_ref()
            .is_some_and(|(.., boot)| *boot != self.boots);
        booted && self.clock_error > self.clock_error_saved
    }

    /// The record that was saved, with its moments as they are in this boot.
    pub(crate) fn load(&self) -> Record {
        let (record, then, boot) = self.saved.clone().unwrap_or_else(|| {
            let now = self.now();
            (Record::default(), now, self.boots)
        });
        if boot == self.boots {
            record
        } else {
            record.after_boot(&then, &self.now())
        }
    }
}
