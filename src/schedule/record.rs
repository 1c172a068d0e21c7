//! The part of an account's state that outlives a restart.

use super::belief::{Belief, Lost, Why};
use super::due::{self, LONGEST_LIFE};
use super::slot::{Held, Trouble};
use super::told::{DOUBTED, LOST_CHECK};
use super::{Part, Schedule};
use crate::account::{Account, SecretSource};
use crate::budget::Budget;
use crate::time::{End, Moment, Now};
use crate::trouble::LastError;
use crate::value::{Value, ValueName};
use std::sync::Arc;
use std::time::Duration;

/// A value that outlives a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredGrant {
    /// The value.
    pub name: ValueName,
    /// The value.
    pub value: Value,
    /// Just before the request was sent that first brought it.
    pub obtained: Moment,
    /// The life that it had then.
    pub life: Duration,
    /// Its true end.
    pub end: End,
    /// The end that apps were told, if it is another one.
    pub told: Option<End>,
}

/// A block by the platform that a restart does not end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBlock {
    /// Until when.
    pub until: Moment,
    /// Failures in a row.
    pub failures: u32,
    /// The platform's words, and what to do.
    pub error: LastError,
}

/// Everything that outlives a restart.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    /// appid or corpid of the account; another one makes the values foreign.
    pub id: Box<str>,
    /// 企业微信: which app of the corp.
    pub agentid: Option<u32>,
    /// The place of the secret, where several apps share an id and no `agentid` tells them apart.
    pub secret: Option<Box<str>>,
    /// The values.
    pub grants: Vec<StoredGrant>,
    /// The belief about the access token.
    pub belief: Belief,
    /// The moment when the first call was sent whose answer is missing and may have ended the token.
    pub lost: Option<Moment>,
    /// The calls of the day.
    pub budget: Budget,
    /// Forced refreshes of the day.
    pub forced: Budget,
    /// A block that lasts.
    pub block: Option<StoredBlock>,
    /// The moment when a call for the access token last succeeded.
    pub last_success: Option<Moment>,
}

impl Record {
    /// Reads the moments of a record that was written before the host booted, `then`, as moments of this boot.
    #[must_use]
    pub fn after_boot(mut self, then: &Now, now: &Now) -> Self {
        let moment = |moment: Moment| now.moment(then.unix_millis_of(moment));
        let end = |end: End| End::stored(None, end.unix_millis(), now);
        for stored in &mut self.grants {
            stored.obtained = moment(stored.obtained);
            stored.end = end(stored.end);
            stored.told = stored.told.map(end);
        }
        if let Belief::Suspected { at, .. } = &mut self.belief {
            *at = moment(*at);
        }
        if let Some(block) = &mut self.block {
            block.until = moment(block.until);
            block.error.at = moment(block.error.at);
        }
        let others = [
            &mut self.lost,
            &mut self.budget.last_call,
            &mut self.forced.last_call,
            &mut self.last_success,
        ];
        for other in others.into_iter().flatten() {
            *other = moment(*other);
        }
        self
    }
}

/// Everything that makes an account another app: id, `agentid`, or else the place of the secret where apps share an id.
pub(super) fn identity(account: &Account) -> (Box<str>, Option<u32>, Option<Box<str>>) {
    let is_ambiguous = account.terms().shares_id && account.agentid.is_none();
    let secret = is_ambiguous.then(|| match &account.secret {
        SecretSource::File(path) => path.to_string_lossy().into(),
        SecretSource::Absent => Box::default(),
        SecretSource::Inline(secret) => match Value::parse(secret.expose()) {
            Some(value) => value.fingerprint().to_string().into(),
            None => Box::default(),
        },
    });
    (account.id.clone(), account.agentid, secret)
}

impl Schedule {
    /// The record to keep.
    pub fn record(&self) -> Record {
        let (id, agentid, secret) = identity(&self.account);
        let stored = |slot: &super::slot::Slot| {
            let held = slot.held.clone()?;
            Some(StoredGrant {
                name: slot.name,
                value: held.value,
                obtained: held.obtained,
                life: held.life,
                end: held.end,
                told: held.told,
            })
        };
        let blocked = self.token.trouble.as_ref();
        let blocked = blocked.filter(|trouble| trouble.error.class.is_block());
        Record {
            id,
            agentid,
            secret,
            grants: self.slots().filter_map(stored).collect(),
            belief: self.belief,
            lost: self.lost.map(|lost| lost.first),
            budget: self.budget,
            forced: self.force.made,
            block: blocked.map(|trouble| StoredBlock {
                until: self.token.due,
                failures: trouble.failures,
                error: (*trouble.error).clone(),
            }),
            last_success: self.last_success,
        }
    }

    /// Goes on from what was kept: values that are still valid need no call.
    pub fn restore(account: Arc<Account>, record: Record, now: &Now, rng: fastrand::Rng) -> Self {
        Self::restored(account, record, now, rng, Part::Alone)
    }

    /// The same for a host with this part in the calls. One that does not plan them tells no later end than it told before.
    pub fn restored(
        account: Arc<Account>,
        record: Record,
        now: &Now,
        rng: fastrand::Rng,
        of_host: Part,
    ) -> Self {
        let mut schedule = Self::new(account, now, rng);
        schedule.fleet.part = of_host;
        let (id, agentid, secret) = identity(&schedule.account);
        // Records of earlier versions do not name the place of the secret.
        let is_other_secret = record.secret.is_some() && record.secret != secret;
        if (&record.id, record.agentid) != (&id, agentid) || is_other_secret {
            return schedule;
        }
        // A clock that was ahead put it into the future: it happened now.
        let by_now = |moment: Option<Moment>| moment.map(|moment| moment.min(now.at));
        let spent = |budget: Budget| Budget {
            last_call: by_now(budget.last_call),
            ..budget
        };
        schedule.budget = spent(record.budget);
        schedule.force.made = spent(record.forced);
        schedule.last_success = by_now(record.last_success);
        schedule.belief = restored_belief(record.belief, now);
        for grant in record.grants {
            schedule.restore_grant(now, grant);
        }
        schedule.restore_lost(now, by_now(record.lost));
        if let Some(block) = record.block.filter(|block| block.until > now.at) {
            schedule.token.due = block.until.min(now.at + LONGEST_LIFE);
            // Its Unix end counts: the clock may be wrong yet.
            let until = End::stored(None, now.unix_millis_of(schedule.token.due), now);
            schedule.token.trouble = Some(Box::new(Trouble {
                until: Some(until),
                error: Arc::new(block.error),
                failures: block.failures,
                times: 1,
            }));
        }
        if !schedule.belief.is_shown() && schedule.token.trouble.is_none() {
            schedule.token.due = now.at;
        }
        schedule.tell(now);
        schedule
    }

    fn restore_lost(&mut self, now: &Now, lost: Option<Moment>) {
        if let (Some(first), Some(_), Some(_)) = (lost, &self.token.held, self.terms().overlap()) {
            self.lost = Some(Lost { first, last: first });
            self.token.due = now.at;
            self.suspect_lost(now);
        }
    }

    fn restore_grant(&mut self, now: &Now, stored: StoredGrant) {
        let StoredGrant {
            name,
            value,
            obtained,
            life,
            end,
            told,
        } = stored;
        let read = |end: End| End::stored(end.boot(), end.unix_millis(), now);
        let (mut end, told) = (read(end), told.map(read));
        let life = life.min(LONGEST_LIFE);
        end.limit(now.at + life);
        let clock_was_ahead = obtained > now.at;
        let held = Held {
            value,
            obtained: obtained.min(now.at),
            life,
            end,
            told,
            is_restored: true,
        };
        let (expires, is_token) = (held.expires(), name == ValueName::AccessToken);
        if let Some(slot) = self.slot_mut(name) {
            slot.held = Some(held.clone());
        }
        // What is due, and what is worth who knows how much: soon, but a daemon that starts all the time calls no more often.
        let soon = now.at + due::an_eighth(now.at.until(expires));
        let due = if expires <= now.at {
            now.at
        } else if is_token {
            self.due_of(now, &held).max(self.not_before(now)).max(soon)
        } else {
            self.ticket_due(now, &held).max(soon)
        };
        if is_token && (clock_was_ahead || end.doubted(now.at) > DOUBTED) {
            self.belief.suspect(Why::Clock, now.at);
        }
        if let Some(slot) = self.slot_mut(name) {
            slot.due = due;
        }
    }
}

/// A token that was called dead is handed out no more after a restart, and a question waits no longer than before.
fn restored_belief(belief: Belief, now: &Now) -> Belief {
    match belief {
        Belief::CalledDead => Belief::Withdrawn,
        Belief::Suspected { why, at, .. } => Belief::Suspected {
            why,
            at: at.min(now.at + LOST_CHECK * 5),
            tries: 0,
        },
        belief => belief,
    }
}
