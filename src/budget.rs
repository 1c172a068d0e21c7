//! How many calls an account may still make today.

use crate::time::{Moment, Now};
use std::time::Duration;

/// Calls of one account in the platform's current day (UTC+8). Kept over restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Budget {
    /// The platform's day that `calls` counts.
    pub day: i64,
    /// Calls made in that day.
    pub calls: u32,
    /// When the last one was made.
    pub last_call: Option<Moment>,
}

/// How often an account whose budget is used up may still ask when it has no valid token.
const LAST_RESORT: Duration = Duration::from_secs(600);

impl Budget {
    /// Calls made today.
    pub fn calls_today(&self, now: &Now) -> u32 {
        if self.day == now.platform_day() {
            self.calls
        } else {
            0
        }
    }

    /// Counts a call that is about to be made.
    pub fn spend(&mut self, now: &Now) {
        self.calls = self.calls_today(now).saturating_add(1);
        self.day = now.platform_day();
        self.last_call = Some(now.at);
    }

    /// The earliest moment for the next call of an account that may make `limit` a day and whose token expires at
    /// `expires` (or has none).
    pub fn earliest(&self, limit: u32, now: &Now, expires: Option<Moment>) -> Moment {
        if self.calls_today(now) < limit {
            return now.at;
        }
        let last_resort = self
            .last_call
            .map_or(now.at, |last| (last + LAST_RESORT).max(now.at));
        last_resort
            .max(expires.unwrap_or(now.at))
            .min(now.next_platform_midnight())
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
    fn a_used_up_budget_leaves_a_call_each_ten_minutes_for_an_expired_token() {
        let mut budget = Budget::default();
        budget.spend(&at(1000));
        assert_eq!(
            budget.earliest(2, &at(1001), None),
            at(1001).at,
            "one is left"
        );
        budget.spend(&at(1100));
        assert_eq!(
            budget.earliest(2, &at(1101), None),
            at(1700).at,
            "ten minutes after the last"
        );
        assert_eq!(
            budget.earliest(2, &at(1101), Some(at(5000).at)),
            at(5000).at,
            "not while a token is valid"
        );
        assert_eq!(budget.earliest(2, &at(9000), None), at(9000).at);
    }

    #[test]
    fn the_day_ends_at_midnight_utc_8() {
        let mut budget = Budget::default();
        budget.spend(&at(57_590));
        assert_eq!(budget.calls_today(&at(57_599)), 1);
        assert_eq!(
            budget.earliest(1, &at(57_599), Some(at(90_000).at)),
            at(57_600).at
        );
        assert_eq!(budget.calls_today(&at(57_600)), 0);
        assert_eq!(budget.earliest(1, &at(57_600), None), at(57_600).at);
    }
}
