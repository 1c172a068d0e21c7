//! Quotas: how often something may be called.

/// Calls that one account may make at one endpoint; `None` for as many as it likes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Quota {
    /// In a minute of the clock: beyond it, 45011.
    pub(super) minute: Option<u32>,
    /// In an hour of the clock: beyond it, 45009.
    pub(super) hour: Option<u32>,
    /// In a day that begins at midnight in UTC+8: beyond it, 45009.
    pub(super) day: Option<u32>,
}

/// Calls made in the current minute, hour and day.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Usage([Window; 3]);

#[derive(Debug, Clone, Copy, Default)]
struct Window {
    number: i64,
    used: u32,
}

impl Window {
    fn used(self, number: i64) -> u32 {
        if self.number == number { self.used } else { 0 }
    }
}

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

/// The number of the platform's day, which begins at midnight in UTC+8.
pub(super) fn day(now: i64) -> i64 {
    (now + 8 * HOUR).div_euclid(24 * HOUR)
}

fn numbers(now: i64) -> [i64; 3] {
    [now.div_euclid(MINUTE), now.div_euclid(HOUR), day(now)]
}

impl Usage {
    /// The errcode for a call at `now`, if there is no room for it.
    pub(super) fn refusal(&self, now: i64, quota: Quota) -> Option<i64> {
        let limits = [quota.minute, quota.hour, quota.day];
        let full =
            |i: usize| limits[i].is_some_and(|limit| self.0[i].used(numbers(now)[i]) >= limit);
        match (full(0), full(1) || full(2)) {
            (_, true) => Some(45009),
            (true, _) => Some(45011),
            _ => None,
        }
    }

    /// Calls in the current day.
    pub(super) fn today(&self, now: i64) -> u32 {
        self.0[2].used(numbers(now)[2])
    }

    /// Calls in the current hour.
    pub(super) fn this_hour(&self, now: i64) -> u32 {
        self.0[1].used(numbers(now)[1])
    }

    /// Counts a call.
    pub(super) fn count(&mut self, now: i64) {
        for (window, number) in self.0.iter_mut().zip(numbers(now)) {
            *window = Window {
                number,
                used: window.used(number) + 1,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2023-11-14 15:59:00 UTC, a minute before midnight in UTC+8.
    const LATE: i64 = 1_699_977_540_000;

    #[test]
    fn windows_end_with_the_clock() {
        let quota = Quota {
            minute: Some(2),
            hour: None,
            day: Some(3),
        };
        let mut usage = Usage::default();
        for (now, refused) in [
            (LATE, None),
            (LATE + 1, None),
            (LATE + 2, Some(45011)),
            (LATE + MINUTE - 1, Some(45011)),
            (LATE + MINUTE, None),
            (LATE + 2 * MINUTE, None),
            (LATE + 3 * MINUTE, None),
            (LATE + 4 * MINUTE, Some(45009)),
            (LATE + 24 * HOUR + MINUTE - 1, Some(45009)),
            (LATE + 24 * HOUR + MINUTE, None),
        ] {
            assert_eq!(usage.refusal(now, quota), refused, "at {}", now - LATE);
            if refused.is_none() {
                usage.count(now);
            }
        }
    }
}
