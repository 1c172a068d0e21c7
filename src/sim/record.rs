//! The platform's record of the calls it got. Never a token or a secret.

use super::call::Endpoint;
use serde::Serialize;
use std::collections::VecDeque;

/// A call that was answered, or struck by a fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CallRecord {
    /// The time of its arrival, Unix milliseconds.
    pub at: i64,
    /// The account that called: an appid, or corpid, with `/agentid` if there is one; `None` for a stranger.
    pub account: Option<String>,
    /// The endpoint that was called.
    pub endpoint: Endpoint,
    /// `ok`, `errcode 40001`, `fault hang`.
    pub outcome: String,
}

/// Calls that are not answered yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct InFlight {
    /// At this moment.
    pub now: u32,
    /// At most, ever.
    pub peak: u32,
}

impl InFlight {
    pub(super) fn began(&mut self) {
        self.now += 1;
        self.peak = self.peak.max(self.now);
    }
}

/// The last thousand calls, and what is counted besides the calls of each account.
#[derive(Debug, Clone, Default, Serialize)]
pub struct CallLog {
    /// Connections accepted.
    pub connections: u64,
    /// Calls that could be put to no account.
    pub strangers: u64,
    /// Redirects that a caller followed, and should not have.
    pub followed_redirects: u64,
    /// Calls of all accounts that are not answered yet.
    pub in_flight: InFlight,
    /// The last calls, the newest last.
    pub calls: VecDeque<CallRecord>,
    /// Connections up to this one get no answers.
    #[serde(skip)]
    pub(super) frozen: u64,
}

impl CallLog {
    /// Counts a connection; says its number.
    pub(super) fn connected(&mut self) -> u64 {
        self.connections += 1;
        self.connections
    }

    /// Returns whether a connection gets no more answers.
    pub(super) fn is_frozen(&self, connection: u64) -> bool {
        connection <= self.frozen
    }

    pub(super) fn push(&mut self, call: CallRecord) {
        if self.calls.len() == 1000 {
            self.calls.pop_front();
        }
        self.calls.push_back(call);
    }
}
