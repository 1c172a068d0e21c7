//! The calls of one account in the platform's current day.

use crate::time::{Moment, Now};

/// Calls of one account in the platform's current day (UTC+8). Kept over restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Budget {
    /// The platform's day that `calls` counts.
    pub(crate) day: i64,
    /// Calls made in that day.
    pub(crate) calls: u32,
    /// The moment when the last one was made.
    pub(crate) last_call: Option<Moment>,
}

impl Budget {
    /// Calls made today. A clock that is set back over midnight starts no new day.
    pub(crate) fn calls_today(&self, now: &Now) -> u32 {
        if now.platform_day() > self.day {
            0
        } else {
            self.calls
        }
    }

    /// Counts a call that is about to be made.
    pub(crate) fn spend(&mut self, now: &Now) {
        let today = now.platform_day();
        self.calls = self.calls_today(now).saturating_add(1);
        // A day further ahead than tomorrow comes from a clock that was wrong.
        if today > self.day || self.day > today + 1 {
            self.day = today;
        }
        self.last_call = Some(now.at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Now {
        // Midnight UTC+8 is at 16:00 UTC: 57,600 s into the day.
        Now {
            at: Moment::from_millis(seconds * 1000),
            unix_millis: seconds * 1000,
        }
    }

    #[test]
    fn day_ends_at_midnight_in_utc_8() {
        let mut budget = Budget::default();
        budget.spend(&at(57_590));
        assert_eq!(budget.calls_today(&at(57_599)), 1);
        assert_eq!(budget.calls_today(&at(57_600)), 0);
    }

    #[test]
    fn clock_set_back_over_midnight_starts_no_new_day() {
        let mut budget = Budget::default();
        budget.spend(&at(57_601));
        budget.spend(&at(57_602));
        assert_eq!(budget.calls_today(&at(57_590)), 2);
        budget.spend(&at(57_591));
        assert_eq!(budget.calls_today(&at(57_601)), 3, "counted on");
    }

    #[test]
    fn clock_that_was_years_ahead_does_not_hold_the_count_for_years() {
        let mut budget = Budget::default();
        budget.spend(&at(86_400 * 3650));
        budget.spend(&at(57_601));
        assert_eq!(budget.calls_today(&at(57_602)), 2);
        assert_eq!(budget.calls_today(&at(57_600 + 86_400)), 0);
    }
}
