//! What of an account's state outlives a restart.

use super::Schedule;
use super::slot::Trouble;
use crate::account::Account;
use crate::budget::Budget;
use crate::handle::LastError;
use crate::platform::errcode::Class;
use crate::time::{Moment, Now};
use crate::value::{Grant, ValueName};
use std::sync::Arc;
use std::time::Duration;

/// A value that outlives a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredGrant {
    /// Which value.
    pub name: ValueName,
    /// The value and its life.
    pub grant: Grant,
}

/// A block by the platform that a restart does not end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBlock {
    /// Until when.
    pub until: Moment,
    /// The platform's words, and what to do.
    pub error: LastError,
}

/// What outlives a restart.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    /// appid or corpid of the account; another one makes the values foreign.
    pub id: Box<str>,
    /// 企业微信: which app of the corp.
    pub agentid: Option<u32>,
    /// The values.
    pub grants: Vec<StoredGrant>,
    /// The calls of the day.
    pub budget: Budget,
    /// Forced refreshes: day, count, and the last one.
    pub forced: (i64, u32, Option<Moment>),
    /// A block that lasts.
    pub block: Option<StoredBlock>,
    /// When a call for the access token last succeeded.
    pub last_success: Option<Moment>,
}

/// No value lives longer, whatever a clock that was wrong made of it.
const LONGEST_LIFE: Duration = Duration::from_secs(86_400);

impl Schedule {
    /// What to keep.
    pub fn record(&self) -> Record {
        let block = self
            .token
            .trouble
            .as_ref()
            .filter(|trouble| matches!(trouble.error.class, Class::TimedBlock(_)));
        Record {
            id: self.account.id.clone(),
            agentid: self.account.agentid,
            grants: self
                .grants()
                .into_iter()
                .map(|(name, grant)| StoredGrant { name, grant })
                .collect(),
            budget: self.budget,
            forced: (self.forced.day, self.forced.count, self.forced.last),
            block: block.map(|trouble| StoredBlock {
                until: self.token.due,
                error: (*trouble.error).clone(),
            }),
            last_success: self.last_success,
        }
    }

    /// Goes on from what was kept: values that are still valid need no call.
    pub fn restore(account: Arc<Account>, record: Record, now: &Now, rng: fastrand::Rng) -> Self {
        let mut schedule = Self::new(account, now, rng);
        if record.id != schedule.account.id || record.agentid != schedule.account.agentid {
            return schedule;
        }
        schedule.budget = record.budget;
        (
            schedule.forced.day,
            schedule.forced.count,
            schedule.forced.last,
        ) = record.forced;
        schedule.last_success = record.last_success;
        for StoredGrant { name, mut grant } in record.grants {
            grant.expires = grant.expires.min(now.at + LONGEST_LIFE);
            if !grant.is_valid(now.at) {
                continue;
            }
            if name == ValueName::AccessToken {
                schedule.token.due = schedule.due_after(now, &grant);
                schedule.token.grant = Some(grant);
            } else if let Some(at) = schedule.tickets.iter().position(|slot| slot.name == name) {
                schedule.tickets[at].due =
                    schedule.watchful(now, grant.expires, super::TICKET_EVERY);
                schedule.tickets[at].grant = Some(grant);
            }
        }
        if let Some(StoredBlock { until, error }) =
            record.block.filter(|block| block.until > now.at)
        {
            schedule.token.due = until.min(now.at + LONGEST_LIFE);
            schedule.token.trouble = Some(Box::new(Trouble {
                error: Arc::new(error),
                failures: 1,
                times: 1,
            }));
        }
        schedule
    }
}
