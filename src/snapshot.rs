//! The state of an account at one moment, as everybody but its own task sees it. Plain data.

use crate::account::Account;
use crate::quota::QuotaReport;
use crate::time::{Moment, Now};
use crate::trouble::LastError;
use crate::value::{Grant, ValueName};
use std::sync::Arc;

/// The state of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// No attempt has ended yet.
    Starting,
    /// Every value is valid and nothing is wrong.
    Fresh,
    /// A valid access token stands, but the last attempt or an output failed.
    Degraded,
    /// No valid access token.
    Expired,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Starting, Self::Fresh, Self::Degraded, Self::Expired];

    /// The name as API and metrics spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Fresh => "fresh",
            Self::Degraded => "degraded",
            Self::Expired => "expired",
        }
    }
}

/// The state of an output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutputState {
    /// It holds the current value.
    Published,
    /// There is no valid value, and it holds none (a file kept by `on_expiry` may hold a dead one).
    Empty,
    /// It could not be written; what to do.
    Failed(Arc<str>),
}

impl OutputState {
    /// True if it could not be written.
    pub(crate) const fn is_failed(&self) -> bool {
        matches!(self, Self::Failed(_))
    }
}

/// An account's place in a fleet, as one host sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FleetView {
    /// True if this host leads.
    pub leads: bool,
    /// The host that leads, and since when in Unix seconds.
    pub leader: Option<(Arc<str>, i64)>,
    /// True until the engine has answered once, or failed to.
    pub is_joining: bool,
    /// True while the engine is away.
    pub is_away: bool,
}

/// Everything that an account publishes of itself. It contains the values: show it only to readers of the account.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// Its configuration.
    pub account: Arc<Account>,
    /// Its state.
    pub state: State,
    /// The values that it has; an expired one may still be among them.
    pub grants: Box<[(ValueName, Grant)]>,
    /// The number of values that were valid when this was taken: the end of one is a change too.
    pub valid_values: usize,
    /// The moment when it calls the platform next.
    pub next_refresh: Option<Moment>,
    /// The moment when a call for the access token last succeeded.
    pub last_success: Option<Moment>,
    /// Calls made in the platform's current day.
    pub calls_today: u32,
    /// The platform's own count of a day, when somebody asked for it.
    pub quota: Option<Arc<QuotaReport>>,
    /// The platform's day that `calls_today` counts.
    pub calls_day: i64,
    /// The failure of the last attempt, while none has succeeded since.
    pub last_error: Option<Arc<LastError>>,
    /// Its place in the fleet, if there is one.
    pub fleet: Option<FleetView>,
    /// As `account.outputs`, in the same order.
    pub outputs: Box<[OutputState]>,
}

impl Snapshot {
    /// The value that stands at `now`, if it is valid.
    pub fn valid(&self, value: ValueName, now: Moment) -> Option<&Grant> {
        self.grants
            .iter()
            .find(|(name, grant)| *name == value && grant.is_valid(now))
            .map(|(_, grant)| grant)
    }

    /// True if somebody who follows its values has to look again after `before`.
    pub(crate) fn shows_other_values_than(&self, before: &Self) -> bool {
        !Arc::ptr_eq(&self.account, &before.account)
            || self.valid_values != before.valid_values
            || self.grants != before.grants
    }

    /// The state at `now`: a snapshot does not notice by itself that its value has expired.
    pub(crate) fn state_at(&self, now: Moment) -> State {
        match self.state {
            State::Fresh | State::Degraded if self.valid(ValueName::AccessToken, now).is_none() => {
                State::Expired
            }
            state => state,
        }
    }

    /// Calls made today, by the platform's calendar.
    pub(crate) fn calls_today_at(&self, now: &Now) -> u32 {
        if self.calls_day == now.platform_day() {
            self.calls_today
        } else {
            0
        }
    }
}

/// The result of a look at the token that somebody asked for.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// The token in question had been replaced already; the current one is in the snapshot.
    Superseded,
    /// The platform says that it still lives.
    StillValid,
    /// The platform said so at this moment, a short time ago.
    Verified(Moment),
    /// A new one stands.
    Refreshed,
    /// It was looked at too recently.
    TooSoon {
        /// Earliest moment at which asking again makes sense.
        retry_at: Moment,
    },
    /// No valid value could be had, or none with the life that was asked for.
    Unavailable {
        /// Earliest moment at which asking again makes sense.
        retry_at: Moment,
        /// The failure.
        error: Option<Arc<LastError>>,
    },
}
