//! Answers of classic calls that came too late to be shared: left to whoever leads, and taken from a leader before.

use super::Worker;
use crate::call::Answer;
use crate::daemon::report;
use crate::fleet::{Fleet, Term};
use crate::platform::Exchange;
use crate::schedule::{Outcome, Record, StoredGrant};
use crate::time::{End, Now};
use crate::value::ValueName;

impl Worker {
    /// Takes an answer that a leader before left, and has the next write remove it. Each is told once.
    pub(super) fn take_orphan(&mut self, fleet: &Fleet, now: &Now) {
        let account = self.schedule.account().clone();
        let Some(left) = fleet.orphan(&account, now) else {
            self.fleet_desk().orphan = None;
            return;
        };
        self.fleet_desk().drop_orphan = true;
        self.fleet_desk().unshared = true;
        let is_token = |grant: &StoredGrant| grant.name == ValueName::AccessToken;
        if let Some(orphan) = left.grants.into_iter().find(is_token)
            && self.fleet_desk().orphan.as_ref() != Some(&orphan.value)
        {
            self.fleet_desk().orphan = Some(orphan.value.clone());
            report::orphan(&account, &orphan.value);
            self.schedule.on_orphan(orphan, now);
        }
    }

    /// An answer of a call that was begun in a term that has ended: it is left to whoever leads.
    pub(super) fn on_late(&mut self, ended: &Exchange, term: Term, now: &Now) {
        self.schedule.on_late();
        if let Ok(Answer::Granted(value, life)) = &ended.answer
            && ended.call.is_token()
            && self.schedule.account().terms().overlap().is_some()
        {
            let grant = StoredGrant {
                name: ValueName::AccessToken,
                value: value.clone(),
                obtained: ended.sent,
                life: *life,
                end: End::of(ended.sent + *life, now),
                told: None,
            };
            let record = Record {
                grants: vec![grant],
                ..self.schedule.record()
            };
            self.fleet_desk().late = Some((term, Box::new(record)));
        }
        let verdict = self.schedule.unavailable_soon(now);
        self.waiting().on_outcome(Outcome::AskAgain, Some(verdict));
    }
}
