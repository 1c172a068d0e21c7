//! The calls of one account in the platform's current day.

use crate::time::{Moment, Now};

/// Calls of one account in the platform's current day (UTC+8). Kept over restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Budget {
    /// The platform's day that `calls` counts.
    pub(crate) day: i64,
    /// Calls made in that day.
    pub(crate) calls: u32,
    /// Those of them that the platform's own count does not have: questions for it, and all that were made before it was
    /// cleared.
    pub(crate) unlisted: u32,
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

    /// Adds the calls that somebody else has made, if they are of the same day or of a later one.
    pub(crate) fn add(&mut self, others: &Self) {
        if others.day > self.day {
            *self = *others;
        } else if others.day == self.day {
            self.calls = self.calls.saturating_add(others.calls);
            self.last_call = self.last_call.max(others.last_call);
        }
    }

    /// Counts a call that is about to be made.
    pub(crate) fn spend(&mut self, now: &Now) {
        self.count(now, 1);
        self.last_call = Some(now.at);
    }

    /// Counts questions for the platform's own count. Healing does not wait for them.
    pub(crate) fn spend_unlisted(&mut self, now: &Now, questions: u32) {
        self.count(now, questions);
        self.unlisted = self.unlisted.saturating_add(questions);
    }

    /// Takes back questions that never reached the platform.
    pub(crate) fn take_back_unlisted(&mut self, questions: u32) {
        self.calls = self.calls.saturating_sub(questions);
        self.unlisted = self.unlisted.saturating_sub(questions);
    }

    /// The platform's own count begins anew.
    pub(crate) fn clear_listed(&mut self, now: &Now) {
        self.count(now, 0);
        self.unlisted = self.calls;
    }

    /// Calls of today that the platform's own count has too.
    pub(crate) fn listed_today(&self, now: &Now) -> u32 {
        self.calls_today(now).saturating_sub(self.unlisted)
    }

    fn count(&mut self, now: &Now, calls: u32) {
        let today = now.platform_day();
        if today > self.day {
            (self.calls, self.unlisted) = (0, 0);
        }
        self.calls = self.calls.saturating_add(calls);
        // A day further ahead than tomorrow comes from a clock that was wrong.
        if today > self.day || self.day > today + 1 {
            self.day = today;
        }
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
    fn platforms_count_has_neither_questions_for_it_nor_what_was_made_before_it_was_cleared() {
        let mut budget = Budget::default();
        budget.spend(&at(57_601));
        budget.spend_unlisted(&at(57_602), 3);
        budget.take_back_unlisted(1);
        let counts = |budget: &Budget, now| (budget.calls_today(&now), budget.listed_today(&now));
        assert_eq!(counts(&budget, at(57_603)), (3, 1));
        assert_eq!(budget.last_call, Some(at(57_601).at));
        budget.clear_listed(&at(57_604));
        budget.spend(&at(57_605));
        assert_eq!(counts(&budget, at(57_606)), (4, 1));
        let tomorrow = at(57_600 + 86_400);
        assert_eq!(counts(&budget, tomorrow), (0, 0));
        budget.spend(&tomorrow);
        assert_eq!(counts(&budget, tomorrow), (1, 1));
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
