//! The platform's own count of an account's calls, in plain data.

use crate::call::Refusal;
use crate::time::{Moment, Now};

/// The platform's count of the calls at one endpoint today.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointCount {
    /// Path of the endpoint.
    pub path: &'static str,
    /// Calls that it allows a day.
    pub limit: i64,
    /// Calls that it counted today.
    pub used: i64,
    /// Calls that are left today.
    pub left: i64,
}

/// The platform's count beside ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuotaReport {
    /// The moment when the platform was asked.
    pub at: Moment,
    /// The platform's day.
    pub day: i64,
    /// The count of each endpoint that the account calls.
    pub endpoints: Vec<EndpointCount>,
    /// Our count of the same day.
    pub calls_today: u32,
    /// The calls of ours that the platform's count should have.
    pub listed_today: u32,
}

impl QuotaReport {
    /// The platform's count when it differs from ours by more than a tenth and by more than a few calls, whose answers
    /// may have been lost.
    pub(crate) fn foreign_count(&self, now: &Now) -> Option<i64> {
        const FEW: i64 = 2;
        let used: i64 = self.endpoints.iter().map(|endpoint| endpoint.used).sum();
        let ours = i64::from(self.listed_today);
        let differ = (used - ours).abs();
        (self.day == now.platform_day() && differ > FEW && differ * 10 > used.max(ours))
            .then_some(used)
    }
}

/// A count that could not be asked for, or not be cleared.
#[derive(Debug, Clone)]
pub enum NoQuota {
    /// The platform counts for itself.
    NotThere,
    /// This host never calls the platform: other hosts of the fleet do.
    Follower,
    /// There is no access token to ask with.
    NoToken,
    /// It was asked a moment ago.
    TooSoon(Moment),
    /// The platform refuses, or does not answer.
    Refused(Box<Refusal>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_foreign_when_it_differs_by_more_than_a_tenth() {
        let now = Now {
            at: Moment::from_millis(1000),
            unix_millis: 1_772_424_010_000,
        };
        for (used, ours, foreign) in [
            (0, 0, false),
            (3, 1, false),
            (4, 1, true),
            (100, 91, false),
            (100, 89, true),
            (89, 100, true),
            (1000, 1000, false),
        ] {
            let endpoint = EndpointCount {
                path: "/x",
                limit: 2000,
                used,
                left: 2000 - used,
            };
            let mut report = QuotaReport {
                at: now.at,
                day: now.platform_day(),
                endpoints: vec![endpoint],
                calls_today: ours + 5,
                listed_today: ours,
            };
            let found = report.foreign_count(&now);
            assert_eq!(found, foreign.then_some(used), "{used} {ours}");
            report.day -= 1;
            assert_eq!(report.foreign_count(&now), None, "yesterday's");
        }
    }
}
