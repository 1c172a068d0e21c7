//! A platform's promises about its values, as plain data. The refresh policy, configuration and reports read them instead of
//! asking which platform an account belongs to.

use crate::value::ValueName;
use std::time::Duration;

/// The terms on which a platform grants the values of one account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// The product, as the API spells it: `wechat`, `wecom`.
    pub kind: &'static str,
    /// The way to fetch a token, as configuration and API spell it: `stable`, `classic`, `gettoken`.
    pub method: &'static str,
    /// The answer to a repeated call for a token.
    pub repeat: Repeat,
    /// True if a call can force a new token while the old one still stands.
    pub can_force: bool,
    /// The configuration's words for the tickets, and the values they name.
    pub tickets: &'static [(&'static str, ValueName)],
    /// True if a new access token makes the tickets due.
    pub tickets_follow_token: bool,
    /// The platform's limits on calls for tickets.
    pub ticket_limits: TicketLimits,
    /// True if several apps share one id, so that the id alone does not name an app.
    pub shares_id: bool,
    /// Calls a day that an account makes unless `daily_budget` says otherwise.
    pub default_budget: u32,
}

/// The answer to a repeated call for a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// The same token, until `window` before its end (zero: until its end). A new token leaves the old one alive to its end.
    Same {
        /// The part of its life, counted from its end, in which a new token comes.
        window: Duration,
        /// The configuration's `poll_every` says how often to ask; otherwise the token is asked for at half-life only.
        polled: bool,
    },
    /// A new token each time. The old one ends so much later, which an answer that is lost does not tell.
    New {
        /// The time that the old token lives on.
        overlap: Duration,
    },
}

/// Limits on calls for tickets in an hour. Beyond them the platform may block every app of the id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TicketLimits {
    /// Calls an hour of one app.
    pub app: u32,
    /// Calls an hour of all apps that share an id, if they share a limit.
    pub id: Option<u32>,
}

impl Terms {
    /// The time that the old token lives on after a call has brought a new one: nothing if it lives to its own end.
    pub const fn overlap(&self) -> Option<Duration> {
        match self.repeat {
            Repeat::New { overlap } => Some(overlap),
            Repeat::Same { .. } => None,
        }
    }
}
