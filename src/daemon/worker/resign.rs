//! A leader that cannot fetch leaves its account to the other hosts of the fleet for a while.

use super::Worker;
use crate::daemon::report;
use crate::fleet::Fleet;
use crate::schedule::Outcome;
use crate::time::Now;
use crate::trouble::Class;
use crate::value::ValueName;
use std::time::Duration;

/// A host that cannot fetch leaves the account to the others for so long at first; doubles to the longest.
const REST_FIRST: Duration = Duration::from_secs(15);
const REST_LONGEST: Duration = Duration::from_secs(300);

/// The memory of a task about leaving its account to others.
#[derive(Default)]
pub(super) struct Resigning {
    /// It does so once all is shared.
    pub(super) is_due: bool,
    /// The time for which it did so last.
    rest: Option<Duration>,
}

impl Worker {
    pub(super) fn resign_if_due(&mut self) {
        let (Some(fleet), Some(desk)) = (&self.shared.fleet, &mut self.fleet) else {
            return;
        };
        if let Some(term) = desk.term
            && std::mem::take(&mut desk.resigning.is_due)
        {
            let rest = desk.resigning.rest.map_or(REST_FIRST, |rest| rest * 2);
            let rest = rest.min(REST_LONGEST);
            desk.resigning.rest = Some(rest);
            let account = self.schedule.account();
            report::resigned(account);
            fleet.resign(&account.name, term, rest);
        }
    }

    /// Notes if another host may do better after a failure of this kind.
    pub(super) fn consider_resigning(&mut self, outcome: &Outcome, now: &Now) {
        if self.fleet.is_none() {
            return;
        }
        match outcome {
            Outcome::Granted { .. } => self.fleet_desk().resigning.rest = None,
            Outcome::Failed {
                name: ValueName::AccessToken,
                error,
                times,
            } => {
                let is_of_host = match error.class {
                    Class::Local | Class::Operator | Class::TimedBlock(_) => true,
                    Class::Transient => error.errcode.is_none(),
                    _ => false,
                };
                let is_pressing = *times > 1 || !self.schedule.stands(now.at);
                let fleet = self.shared.fleet.as_ref();
                let has_others = fleet.is_some_and(Fleet::others_may_lead);
                self.fleet_desk().resigning.is_due = is_of_host && is_pressing && has_others;
            }
            _ => {}
        }
    }
}
