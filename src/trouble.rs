//! Failures as policy, API and logs share them: a class, and the last error of an account.

use crate::time::Moment;
use std::time::Duration;

/// The kind of a failure; it decides when to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Passes by itself: the network, a busy platform.
    Transient,
    /// The minute's quota is used up.
    MinuteQuota,
    /// The day's quota is used up.
    DailyQuota,
    /// Called too often: the platform refuses for a minute or more, the longer the oftener it is asked.
    Frequency,
    /// Nothing changes until somebody acts.
    Operator,
    /// The platform refuses for a fixed time.
    TimedBlock(Duration),
    /// The access token that the call carried is dead.
    DeadToken,
    /// Something on this host is missing, so no call was made: looked at again soon, since that costs none.
    Local,
}

impl Class {
    /// Returns whether the platform itself said to wait. Such a wait outlives a restart.
    pub(crate) const fn is_block(self) -> bool {
        matches!(
            self,
            Self::DailyQuota | Self::Frequency | Self::TimedBlock(_)
        )
    }

    /// The name as API and logs spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::MinuteQuota => "minute_quota",
            Self::DailyQuota => "daily_quota",
            Self::Frequency => "frequency",
            Self::Operator => "operator",
            Self::TimedBlock(_) => "timed_block",
            Self::DeadToken => "dead_token",
            Self::Local => "local",
        }
    }
}

/// The failure of the last attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastError {
    /// The moment when it failed.
    pub at: Moment,
    /// Its class.
    pub class: Class,
    /// The platform's errcode, if it answered with one.
    pub errcode: Option<i64>,
    /// The platform's request id, if it gave one.
    pub rid: Option<String>,
    /// The failure, for people.
    pub message: String,
    /// Advice for an administrator.
    pub hint: String,
}
