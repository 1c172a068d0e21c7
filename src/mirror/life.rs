//! The `expires_in` that the mirror tells, so that no cache of an app outlives the token.

use std::time::Duration;

/// A cache ends so long before the value, in milliseconds.
const SLACK_MILLIS: u128 = 10_000;
/// The longest that a cache may keep a value, in seconds: a replaced one reaches every app in this time.
const CAP: u64 = 120;
/// A value with less left than this is not handed out, in milliseconds: the shortest cache would outlive it.
const LEAST_MILLIS: u128 = 3000;

/// The smallest and the largest margin, in seconds, of the apps that may have asked. The same where it is known which did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MarginRange {
    /// The smallest.
    pub least: u32,
    /// The largest.
    pub most: u32,
}

impl MarginRange {
    /// The margin of the one app that asks.
    pub const fn exactly(margin: u32) -> Self {
        Self {
            least: margin,
            most: margin,
        }
    }
}

/// The `expires_in` of a value with so much `left`, in seconds. Nothing when too little is left to be handed out.
///
/// An SDK caches a value for `expires_in` less its margin: that is at most `CAP`, and ends `SLACK_MILLIS` before the
/// value does. In the last seconds it is one second, since some SDKs take 0 for a whole life.
pub fn expires_in(left: Duration, margin: MarginRange) -> Option<u64> {
    let left = left.as_millis();
    if left < LEAST_MILLIS {
        return None;
    }
    let safe = left.saturating_sub(SLACK_MILLIS) / 1000;
    let safe = u64::try_from(safe).unwrap_or(u64::MAX).max(1);
    let capped = u64::from(margin.most) + CAP;
    Some(capped.min(u64::from(margin.least).saturating_add(safe)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_cache_lives_two_minutes_and_ends_before_the_value() {
        for (left, margin, told) in [
            (7_200_000, 0, Some(120)),
            (7_200_000, 1500, Some(1620)),
            (130_000, 0, Some(120)),
            (129_999, 0, Some(119)),
            (129_999, 500, Some(619)),
            (12_000, 200, Some(202)),
            (11_000, 0, Some(1)),
            (10_000, 0, Some(1)),
            (3000, 500, Some(501)),
            (2999, 0, None),
            (0, 1500, None),
        ] {
            let left = Duration::from_millis(left);
            assert_eq!(expires_in(left, MarginRange::exactly(margin)), told);
        }
    }

    #[test]
    fn apps_with_different_margins_are_both_served_while_there_is_time() {
        let both = MarginRange {
            least: 0,
            most: 500,
        };
        let told = |seconds| expires_in(Duration::from_secs(seconds), both);
        assert_eq!(told(7200), Some(620), "both may cache it");
        assert_eq!(told(400), Some(390), "no cache outlives it");
    }

    proptest! {
        #[test]
        fn no_cache_of_any_app_outlives_the_value(left in 0_u64..100_000_000, a in 0_u32..7200, b in 0_u32..7200) {
            let range = MarginRange { least: a.min(b), most: a.max(b) };
            if let Some(told) = expires_in(Duration::from_millis(left), range) {
                for margin in [a, b] {
                    let cached = told.saturating_sub(margin.into()) * 1000;
                    prop_assert!(cached < left);
                }
                prop_assert!(told <= u64::from(range.most) + CAP);
                prop_assert!(told > u64::from(range.least));
            }
        }
    }
}
