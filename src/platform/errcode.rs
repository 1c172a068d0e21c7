//! What each errcode of the platform means, and what an administrator does about it.

use std::time::Duration;

/// What kind of trouble a failure is: decides when to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Passes by itself: the network, a busy platform.
    Transient,
    /// The minute's quota is used up.
    MinuteQuota,
    /// The day's quota is used up.
    DailyQuota,
    /// Nothing changes until somebody acts.
    Operator,
    /// The platform refuses for a fixed time.
    TimedBlock(Duration),
    /// The access token that the call carried is dead.
    DeadToken,
}

impl Class {
    /// The name as API and logs spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::MinuteQuota => "minute_quota",
            Self::DailyQuota => "daily_quota",
            Self::Operator => "operator",
            Self::TimedBlock(_) => "timed_block",
            Self::DeadToken => "dead_token",
        }
    }
}
