//! What of an account's state outlives a restart.

use super::slot::Trouble;
use super::{Schedule, TICKET_EVERY};
use crate::account::Account;
use crate::budget::Budget;
use crate::time::{Moment, Now};
use crate::trouble::Class;
use crate::trouble::LastError;
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
    /// Classic calls for a token that have no answer: the stored token may have minutes to live.
    pub unanswered: u32,
}

/// When a value is asked for that was due while the daemon did not run.
const SOON: Duration = Duration::from_secs(20);

/// No value lives longer, whatever a clock that was wrong made of it.
pub(super) const LONGEST_LIFE: Duration = Duration::from_secs(86_400);

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
            unanswered: self.unanswered,
        }
    }

    /// Goes on from what was kept: values that are still valid need no call.
    pub fn restore(account: Arc<Account>, record: Record, now: &Now, rng: fastrand::Rng) -> Self {
        let mut schedule = Self::new(account, now, rng);
        if record.id != schedule.account.id || record.agentid != schedule.account.agentid {
            return schedule;
        }
        // What a clock that was ahead put into the future happened now.
        let past = |moment: Option<Moment>| moment.map(|moment| moment.min(now.at));
        schedule.budget = Budget {
            last_call: past(record.budget.last_call),
            ..record.budget
        };
        let (day, count, last) = record.forced;
        (schedule.forced.day, schedule.forced.count) = (day, count);
        schedule.forced.last = past(last);
        schedule.last_success = past(record.last_success);
        for StoredGrant { name, grant } in record.grants {
            schedule.restore_grant(now, name, grant);
        }
        schedule.unanswered = record.unanswered;
        if record.unanswered > 0 {
            schedule.token.due = now.at;
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

    fn restore_grant(&mut self, now: &Now, name: ValueName, mut grant: Grant) {
        let life = grant.obtained.until(grant.expires).min(LONGEST_LIFE);
        let clock_was_ahead = grant.obtained > now.at;
        grant.obtained = grant.obtained.min(now.at);
        grant.expires = grant.expires.min(now.at + life);
        if !grant.is_valid(now.at) {
            return;
        }
        // What is due, and what is worth who knows how much: soon, but a daemon that starts all the time calls no more often.
        let soon = now.at + SOON.min(now.at.until(grant.expires) / 8);
        let due = match name {
            ValueName::AccessToken => self.due_of(now, &grant),
            _ => self.watchful(now, grant.expires, TICKET_EVERY),
        };
        let due = if clock_was_ahead { soon } else { due.max(soon) };
        let slots = std::iter::once(&mut self.token).chain(&mut self.tickets);
        for slot in slots.filter(|slot| slot.name == name) {
            slot.due = due;
            slot.restored = true;
            slot.grant = Some(grant.clone());
        }
    }
}
