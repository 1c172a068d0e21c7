//! The pace of calls: class of the trouble × life that is left × calls that are left of the day.

use crate::budget::Budget;
use crate::time::{Moment, Now};
use crate::trouble::Class;
use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// A value with less life left is about to end.
pub(crate) const WINDOW: Duration = Duration::from_secs(300);
/// The longest wait after a transient failure while a token is about to end.
const LONGEST_URGENT: Duration = Duration::from_secs(10);
/// Full jitter may draw zero; this keeps a run of such draws from becoming a loop.
const SHORTEST: Duration = Duration::from_millis(100);
/// The wait after a first failure, which may be a hiccup; later waits are not shorter.
const SOON: Duration = Duration::from_secs(5);
const LOCAL: Duration = Duration::from_secs(30);
/// Interval between two tries where somebody has to act.
pub(crate) const OPERATOR: Duration = Duration::from_secs(300);
const DAILY_QUOTA: Duration = Duration::from_secs(1800);
const FREQUENCY_LONGEST: Duration = Duration::from_secs(3600);

/// The moment to try again after `failures` (at least 1) in a row, the last of `class`. `left` is the life that is left of the
/// value; nothing if there never was one.
pub(crate) fn retry_at(
    class: Class,
    failures: u32,
    left: Option<Duration>,
    now: &Now,
    rng: &mut fastrand::Rng,
) -> Moment {
    let doubled = |first: Duration, longest: Duration| {
        (first * 2u32.saturating_pow(failures.saturating_sub(1).min(10))).min(longest)
    };
    match class {
        Class::Transient | Class::DeadToken => {
            let urgent = left.unwrap_or_default() < WINDOW;
            let longest = if urgent { LONGEST_URGENT } else { LONGEST };
            let wait = doubled(FIRST, longest).mul_f64(rng.f64());
            now.at + wait.max(SHORTEST)
        }
        Class::MinuteQuota => now.next_minute() + Duration::from_secs_f64(rng.f64() * 2.0),
        Class::DailyQuota => {
            let midnight = now.next_platform_midnight() + Duration::from_secs_f64(rng.f64() * 30.0);
            (now.at + DAILY_QUOTA).min(midnight)
        }
        Class::Frequency => now.at + doubled(LONGEST, FREQUENCY_LONGEST),
        Class::TimedBlock(block) => now.at + block,
        Class::Operator if failures == 1 && left.is_some() => {
            now.at + SOON.mul_f64(0.5 + 0.5 * rng.f64())
        }
        Class::Operator => now.at + within(OPERATOR, left),
        Class::Local => now.at + within(LOCAL, left),
    }
}

/// A wait that does not outlast the life that is left.
fn within(wait: Duration, left: Option<Duration>) -> Duration {
    match left {
        Some(left) if !left.is_zero() => wait.min((left / 2).max(SOON)),
        _ => wait,
    }
}

/// The reason for a call, the dearest first. Each leaves a part of the day's calls to those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Need {
    /// A token that is missing or dead.
    Heal,
    /// A token that stands and is about to end or in trouble, and a ticket that is missing or in trouble.
    Renew,
    /// The question whether a doubted token lives.
    Doubt,
    /// A token that stands and is due.
    Poll,
    /// Whatever may wait: a second look at a ticket, a routine look at the token, a wish.
    Look,
}

impl Need {
    /// The parts of the day's calls that are left to dearer needs: to the end of the day, and spread over it.
    const fn kept(self) -> (f64, f64) {
        match self {
            Self::Heal | Self::Renew => (0.0, 0.1),
            Self::Poll => (0.1, 0.15),
            Self::Doubt | Self::Look => (0.1, 0.4),
        }
    }
}

/// Interval between two calls of an account whose budget is used up, for a token that has expired or is doubted.
const LAST_RESORT: Duration = Duration::from_secs(600);
const DAY: f64 = 86_400.0;

/// The earliest moment for a call of an account that may make `limit` a day: now, as long as the calls that are left are more
/// than the part that dearer needs keep for the rest of the day.
pub(crate) fn affordable(budget: &Budget, limit: u32, need: Need, now: &Now) -> Moment {
    let limit = f64::from(limit);
    let (kept, spread) = need.kept();
    let left = limit - f64::from(budget.calls_today(now)) - limit * kept;
    let midnight = now.next_platform_midnight();
    let enough_for =
        Duration::from_secs_f64((DAY * left / (limit.max(1.0) * spread)).clamp(0.0, DAY));
    let spread = (midnight - enough_for).max(now.at);
    match (need, budget.last_call) {
        (Need::Heal | Need::Doubt, Some(last)) => spread.min((last + LAST_RESORT).max(now.at)),
        (Need::Heal | Need::Doubt, None) => now.at,
        (Need::Renew | Need::Poll | Need::Look, _) => spread,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 10 s into a minute, two hours before midnight UTC+8.
    const EVENING: Now = Now {
        at: Moment::from_millis(0),
        unix_millis: (14 * 3600 + 10) * 1000,
    };

    fn waits(class: Class, failures: u32, left: Option<u64>) -> (i64, i64) {
        let mut rng = fastrand::Rng::with_seed(7);
        let left = left.map(Duration::from_secs);
        let wait = |_| retry_at(class, failures, left, &EVENING, &mut rng).as_millis();
        let waits: Vec<_> = (0..500).map(wait).collect();
        (*waits.iter().min().unwrap(), *waits.iter().max().unwrap())
    }

    #[test]
    fn each_class_waits_in_its_range_and_uses_it() {
        let plenty = Some(3600);
        let hour = Class::TimedBlock(Duration::from_secs(3600));
        for (class, failures, left, least, most) in [
            (Class::Transient, 1, plenty, 100, 1_000),
            (Class::Transient, 4, plenty, 100, 8_000),
            (Class::Transient, 400, plenty, 100, 60_000),
            (Class::Transient, 400, Some(299), 100, 10_000),
            (Class::Transient, 400, Some(0), 100, 10_000),
            (Class::MinuteQuota, 3, plenty, 50_000, 52_000),
            (Class::DailyQuota, 3, plenty, 1_800_000, 1_800_000),
            (Class::Frequency, 1, plenty, 60_000, 60_000),
            (Class::Frequency, 3, plenty, 240_000, 240_000),
            (Class::Frequency, 30, plenty, 3_600_000, 3_600_000),
            (Class::Operator, 1, None, 300_000, 300_000),
            (Class::Operator, 9, plenty, 300_000, 300_000),
            (hour, 1, plenty, 3_600_000, 3_600_000),
        ] {
            let (shortest, longest) = waits(class, failures, left);
            assert!(least <= shortest && longest <= most, "{class:?}");
            assert!(longest * 10 >= most * 9, "{class:?}: {longest} ms");
        }
    }

    #[test]
    fn first_failure_after_success_is_retried_within_seconds() {
        for left in [0, 121, 7000] {
            let (shortest, longest) = waits(Class::Operator, 1, Some(left));
            assert!(shortest >= 2_000 && longest <= 5_000, "{left} s left");
        }
    }

    #[test]
    fn waits_do_not_outlast_the_life_that_is_left() {
        for (left, longest) in [(121, 60_500), (20, 10_000), (3, 5_000), (0, 300_000)] {
            assert_eq!(waits(Class::Operator, 2, Some(left)).1, longest);
        }
        assert_eq!(waits(Class::Local, 2, Some(20)).1, 10_000);
    }

    #[test]
    fn daily_quota_starts_anew_at_midnight_in_utc_8() {
        let late = Now {
            unix_millis: (15 * 3600 + 50 * 60) * 1000,
            ..EVENING
        };
        let mut rng = fastrand::Rng::with_seed(7);
        let wait = retry_at(Class::DailyQuota, 1, None, &late, &mut rng).as_millis();
        assert!((600_000..=630_000).contains(&wait), "{wait} ms");
    }

    fn spent(calls: u32) -> Budget {
        Budget {
            day: EVENING.platform_day(),
            calls,
            unlisted: 0,
            last_call: Some(EVENING.at),
        }
    }

    fn wait(calls: u32, limit: u32, need: Need) -> u64 {
        let at = affordable(&spent(calls), limit, need, &EVENING);
        EVENING.at.until(at).as_secs()
    }

    #[test]
    fn calls_that_are_left_are_spread_over_the_rest_of_the_day() {
        // Two hours are left: a twelfth of the day, and of what dearer needs keep.
        for (need, free) in [
            (Need::Heal, 991),
            (Need::Renew, 991),
            (Need::Poll, 887),
            (Need::Doubt, 866),
            (Need::Look, 866),
        ] {
            assert_eq!(wait(free, 1000, need), 0, "{need:?} is free");
            assert!(wait(free + 1, 1000, need) > 0, "{need:?} is spread");
        }
    }

    #[test]
    fn used_up_budget_leaves_a_call_each_ten_minutes_for_expired_and_doubted_tokens() {
        for (need, seconds) in [(Need::Heal, 600), (Need::Doubt, 600), (Need::Renew, 7190)] {
            assert_eq!(wait(1000, 1000, need), seconds, "{need:?}");
        }
        let unspent = Budget {
            last_call: None,
            ..spent(0)
        };
        assert_eq!(affordable(&unspent, 0, Need::Heal, &EVENING), EVENING.at);
    }
}
