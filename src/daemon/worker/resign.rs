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
    /// Calls in a row that failed.
    failures: u32,
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
        let Some(desk) = &mut self.fleet else {
            return;
        };
        let is_of_host = match outcome {
            Outcome::Granted { .. } | Outcome::Alive | Outcome::FoundDead { .. } => {
                desk.resigning = Resigning::default();
                return;
            }
            Outcome::AskAgain => return,
            Outcome::Failed { name, error, .. } => {
                is_of_host(*name == ValueName::AccessToken, error.class, error.errcode)
            }
            Outcome::Unsure(refusal) => is_of_host(false, refusal.class, refusal.errcode),
        };
        desk.resigning.failures += 1;
        let is_pressing = desk.resigning.failures > 1 || !self.schedule.stands(now.at);
        let fleet = self.shared.fleet.as_ref();
        let has_others = fleet.is_some_and(Fleet::others_may_lead);
        desk.resigning.is_due = is_of_host && is_pressing && has_others;
    }
}

/// True for a failure that another host may not have. The platform's word on a ticket or a question is the same for all.
const fn is_of_host(is_token: bool, class: Class, errcode: Option<i64>) -> bool {
    match class {
        Class::Transient => errcode.is_none(),
        Class::Local | Class::Operator | Class::TimedBlock(_) => is_token,
        _ => false,
    }
}
