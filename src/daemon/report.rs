//! The log's lines about an account: changes, and lasting trouble at growing intervals.

use crate::account::{Account, AccountName};
use crate::event::Event;
use crate::fleet::BadRecord;
use crate::logging::Entry;
use crate::platform::Switched;
use crate::schedule::{Outcome, Schedule, Step};
use crate::snapshot::{Snapshot, State};
use crate::store::StoreError;
use crate::time::{Moment, Now, human};
use crate::trouble::Class;
use crate::trouble::LastError;
use crate::value::{Fingerprint, Grant, Value, ValueName};
use std::time::Duration;

/// Remembers what was said of an account.
pub(super) struct Reporter {
    state: State,
    /// True if the trouble was worth a line, so that its end is too.
    in_trouble: bool,
    /// True once it had a valid token.
    was_served: bool,
    not_stored: bool,
    spent_day: Option<i64>,
}

impl Reporter {
    pub(super) const fn new() -> Self {
        Self {
            state: State::Starting,
            in_trouble: false,
            was_served: false,
            not_stored: false,
            spent_day: None,
        }
    }

    /// Tells what an answer changed. `before` names the token that stood until then.
    pub(super) fn on_outcome(
        &mut self,
        schedule: &Schedule,
        outcome: &Outcome,
        before: Option<Fingerprint>,
        now: &Now,
    ) {
        let account = schedule.account();
        let entry = Entry::of(&account.name);
        match outcome {
            Outcome::Granted {
                name: ValueName::AccessToken,
                changed: true,
                ..
            } => {
                let (Some(token), Some(grant)) = (schedule.token(), schedule.standing(now.at))
                else {
                    return;
                };
                let life = human(now.at.until(grant.expires));
                entry.info(format_args!(
                    "access_token {} is fresh for {life}",
                    token.fingerprint()
                ));
            }
            Outcome::Granted {
                name,
                changed: true,
                ..
            } => entry.info(format_args!("{name} is renewed")),
            Outcome::Granted { name, .. } => entry.debug(format_args!("{name} is the same")),
            Outcome::Failed { name, error, times } => {
                self.in_trouble = true;
                if times.is_power_of_two() {
                    failure(schedule, *name, error, now);
                }
            }
            Outcome::Alive => entry.debug("the platform says that access_token lives"),
            Outcome::FoundDead { foreign } => {
                let token = before.map(|token| token.to_string()).unwrap_or_default();
                if *foreign {
                    entry.event(Event::ForeignFetcher).warn(format_args!(
                        "access_token {token} was ended early: somebody else fetches tokens for {} with the classic method; \
                         find and stop that, or set `method = \"stable\"`",
                        account.id
                    ));
                } else {
                    entry.warn(format_args!(
                        "access_token {token} is dead before its time and is replaced"
                    ));
                }
            }
            Outcome::Unsure(refusal) => {
                entry.info(format_args!(
                    "no clear answer from the platform, asking again: {}",
                    refusal.message
                ));
            }
            Outcome::AskAgain => {
                entry.debug("access_token is looked at again before it is called dead");
            }
        }
    }

    /// Tells that the day's budget is used up, once a day.
    pub(super) fn spent(&mut self, account: &Account, day: i64) {
        if self.spent_day.replace(day) != Some(day) {
            Entry::of(&account.name).event(Event::BudgetUsedUp).warn(format_args!(
                "`daily_budget` of {} calls is used up: until midnight UTC+8 only an expired token is asked for, every 10 minutes; \
                 see why so many were needed before raising it",
                account.daily_budget
            ));
        }
    }

    /// Tells a change of state. Returns whether there is one.
    pub(super) fn state(&mut self, snapshot: &Snapshot, now: &Now) -> bool {
        let old = std::mem::replace(&mut self.state, snapshot.state);
        if old == snapshot.state {
            return false;
        }
        let entry = Entry::of(&snapshot.account.name);
        match snapshot.state {
            State::Expired => {
                self.in_trouble = true;
                let entry = entry.event(Event::AccountExpired);
                match &snapshot.last_error {
                    Some(error) => entry.error_of(error).error(format_args!(
                        "no valid access_token: {}; {}{}",
                        error.message,
                        error.hint,
                        when(snapshot.next_refresh, now)
                    )),
                    None => entry.error(format_args!(
                        "no valid access_token{}",
                        when(snapshot.next_refresh, now)
                    )),
                }
            }
            State::Fresh if self.in_trouble => {
                self.in_trouble = false;
                let words = if self.was_served {
                    "fresh again"
                } else {
                    "fresh now"
                };
                entry.event(Event::AccountRecovered).info(words);
            }
            // Also trouble from before a restart, which this daemon has written no line about.
            State::Degraded => self.in_trouble |= snapshot.last_error.is_some(),
            State::Fresh | State::Starting => {}
        }
        self.was_served |= matches!(snapshot.state, State::Fresh | State::Degraded);
        true
    }

    /// Tells when what outlives a restart cannot be stored, and when it can again.
    pub(super) fn on_saved(&mut self, account: &AccountName, result: Result<(), StoreError>) {
        match result {
            Ok(()) if self.not_stored => Entry::of(account).info("its state is stored again"),
            Err(error) if !self.not_stored => {
                Entry::of(account).warn(format_args!(
                    "{error}; until that works, a restart costs a call"
                ));
                self.not_stored = true;
                return;
            }
            Ok(()) => {}
            Err(_) => return,
        }
        self.not_stored = false;
    }
}

fn failure(schedule: &Schedule, name: ValueName, error: &LastError, now: &Now) {
    let event = match error.class {
        Class::Operator | Class::Local => Event::OperatorActionNeeded,
        Class::DailyQuota | Class::MinuteQuota | Class::Frequency => Event::QuotaExhausted,
        Class::TimedBlock(_) => Event::TimedBlock,
        Class::Transient | Class::DeadToken => Event::RefreshFailing,
    };
    Entry::of(&schedule.account().name)
        .event(event)
        .error_of(error)
        .warn(format_args!(
            "cannot refresh {name}: {}; {}{}{}",
            error.message,
            error.hint,
            when(next_call(schedule, now), now),
            meanwhile(schedule, name, now)
        ));
}

/// The value that apps have in the meantime.
fn meanwhile(schedule: &Schedule, name: ValueName, now: &Now) -> String {
    let grants = schedule.grants();
    let standing = |(of, grant): &&(ValueName, Grant)| *of == name && grant.is_valid(now.at);
    grants
        .iter()
        .find(standing)
        .map_or_else(String::new, |(_, grant)| {
            let left = human(now.at.until(grant.expires));
            format!("; the present one is valid for {left}")
        })
}

fn next_call(schedule: &Schedule, now: &Now) -> Option<Moment> {
    match schedule.next(now) {
        Step::Sleep(until) => Some(until),
        Step::Call(_) => None,
    }
}

fn when(next: Option<Moment>, now: &Now) -> String {
    let wait = next.map_or(Duration::ZERO, |next| now.at.until(next));
    match wait.as_millis() {
        0 => String::new(),
        1..1000 => "; next try in a moment".to_owned(),
        _ => format!("; next try in {}", human(wait)),
    }
}

/// Tells which host of the fleet leads.
pub(super) fn leader(account: &Account, host: &str, is_here: bool) {
    let entry = Entry::of(&account.name).event(Event::FleetLeader);
    if is_here {
        entry.info("this host leads: it fetches for the fleet");
    } else {
        entry.info(format_args!(
            "{host} leads: this host publishes what that one fetches"
        ));
    }
}

/// Tells that this host leaves an account to the other hosts of the fleet.
pub(super) fn resigned(account: &Account) {
    Entry::of(&account.name).event(Event::FleetLeader).warn(
        "this host cannot fetch and leaves the account to the other hosts of the fleet for a while: see the failure above",
    );
}

/// Tells that an answer of a leader before, which came too late, is looked at.
pub(super) fn orphan(account: &Account, value: &Value) {
    Entry::of(&account.name).warn(format_args!(
        "a leader before had access_token {} granted too late to share it: looked at, and adopted if it lives",
        value.fingerprint()
    ));
}

/// Tells that the fleet's record is of no use on this host.
pub(super) fn bad_record(account: &Account, bad: &BadRecord) {
    Entry::of(&account.name)
        .event(Event::FleetRefused)
        .error(format_args!(
            "{bad}; meanwhile the account is served from what this host has"
        ));
}

/// Tells that another host of the platform serves now.
pub(super) fn host_switched(switched: &Switched) {
    let (host, key) = (switched.host.as_str(), switched.key);
    if switched.preferred {
        Entry::new().info(format_args!("{host}, the preferred host, serves again"));
    } else {
        Entry::new().event(Event::FallbackHost).warn(format_args!(
            "{host} serves, since hosts before it in `{key}` fail: look at this host's network and DNS if it lasts"
        ));
    }
}
