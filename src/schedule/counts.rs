//! The count of the day's calls, beside the platform's own.

use super::Schedule;
use crate::pace::Need;
use crate::time::Now;

impl Schedule {
    /// The calls of the platform's day, and that day.
    pub fn calls(&self) -> (u32, i64) {
        (self.budget.calls, self.budget.day)
    }

    /// The calls of today.
    pub fn calls_today(&self, now: &Now) -> u32 {
        self.budget.calls_today(now)
    }

    /// The calls of the platform's day that its own count should have too.
    pub fn calls_listed(&self, now: &Now) -> u32 {
        self.budget.listed_today(now)
    }

    /// True if the calls that are left allow to ask for the platform's own count.
    pub fn may_ask_counts(&self, now: &Now) -> bool {
        self.affordable(Need::Look, now) <= now.at
    }

    /// Counts questions for the platform's own count that are about to be asked.
    pub fn on_counts_asked(&mut self, now: &Now, questions: u32) {
        self.budget.spend_unlisted(now, questions);
    }

    /// The questions for the platform's own count have ended: so many were planned, and so many reached the platform.
    pub fn on_counts_answered(&mut self, now: &Now, planned: u32, reached: u32, cleared: bool) {
        let more = reached.saturating_sub(planned);
        self.budget.spend_unlisted(now, more);
        self.budget
            .take_back_unlisted(planned.saturating_sub(reached));
        if cleared {
            self.budget.clear_listed(now);
            // Calls that the quota held back may be made again.
            self.hurry(now, true);
        }
    }

    /// True if the day's calls are used up.
    pub fn is_spent(&self, now: &Now) -> bool {
        self.budget.calls_today(now) >= self.account.daily_budget
    }
}
