//! When to try again after a failure, by its class.

use crate::time::{Moment, Now};
use crate::trouble::Class;
use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// The longest wait while less than [`URGENT`] is left of the token.
const LONGEST_URGENT: Duration = Duration::from_secs(10);
const URGENT: Duration = Duration::from_secs(300);
/// Full jitter may draw zero; this keeps a run of such draws from becoming a loop.
const SHORTEST: Duration = Duration::from_millis(100);
const LOCAL: Duration = Duration::from_secs(30);
const OPERATOR: Duration = Duration::from_secs(300);
const DAILY_QUOTA: Duration = Duration::from_secs(1800);

/// When to try again after `failures` (at least 1) in a row, the last of `class`, with `left` of the valid value's life.
pub fn retry_at(
    class: Class,
    failures: u32,
    left: Duration,
    now: &Now,
    rng: &mut fastrand::Rng,
) -> Moment {
    match class {
        Class::Transient | Class::DeadToken => {
            let longest = if left < URGENT {
                LONGEST_URGENT
            } else {
                LONGEST
            };
            let ceiling =
                (FIRST * 2u32.saturating_pow(failures.saturating_sub(1).min(10))).min(longest);
            now.at + ceiling.mul_f64(rng.f64()).max(SHORTEST)
        }
        Class::MinuteQuota => now.next_minute() + Duration::from_secs_f64(rng.f64() * 2.0),
        Class::DailyQuota => {
            let midnight = now.next_platform_midnight() + Duration::from_secs_f64(rng.f64() * 30.0);
            (now.at + DAILY_QUOTA).min(midnight)
        }
        Class::Local => now.at + LOCAL,
        Class::Operator => now.at + OPERATOR,
        Class::TimedBlock(block) => now.at + block,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_waits_as_it_should() {
        let mut rng = fastrand::Rng::with_seed(7);
        // 10 s into a minute, two hours before midnight UTC+8.
        let now = Now {
            at: Moment::from_millis(0),
            unix_millis: (14 * 3600 + 10) * 1000,
        };
        let plenty = Duration::from_secs(3600);
        let cases = [
            (Class::Transient, 1, plenty, 100, 1_000),
            (Class::Transient, 4, plenty, 100, 8_000),
            (Class::Transient, 400, plenty, 100, 60_000),
            (Class::Transient, 400, Duration::from_secs(299), 100, 10_000),
            (Class::Transient, 400, Duration::ZERO, 100, 10_000),
            (Class::MinuteQuota, 3, plenty, 50_000, 52_000),
            (Class::DailyQuota, 3, plenty, 1_800_000, 1_800_000),
            (Class::Operator, 9, plenty, 300_000, 300_000),
            (
                Class::TimedBlock(Duration::from_secs(3600)),
                1,
                plenty,
                3_600_000,
                3_600_000,
            ),
        ];
        for (class, failures, left, least, most) in cases {
            let mut longest = 0;
            for _ in 0..500 {
                let wait = retry_at(class, failures, left, &now, &mut rng).as_millis();
                assert!((least..=most).contains(&wait), "{class:?}: {wait} ms");
                longest = longest.max(wait);
            }
            assert!(
                longest * 10 >= most * 9,
                "{class:?} uses its range: {longest} ms"
            );
        }
        let late = Now {
            unix_millis: (15 * 3600 + 50 * 60) * 1000,
            ..now
        };
        let wait = retry_at(Class::DailyQuota, 1, plenty, &late, &mut rng).as_millis();
        assert!(
            (600_000..=630_000).contains(&wait),
            "the quota starts anew at midnight UTC+8: {wait} ms"
        );
    }
}
