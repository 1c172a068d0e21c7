//! The refresh policy of one account: state × event × now → what to do next. Knows no I/O and no clock.

mod answer;
mod doubt;
mod record;
mod renew;
mod slot;

pub use record::{Record, StoredBlock, StoredGrant};

use crate::account::Account;
use crate::budget::Budget;
use crate::handle::{LastError, State};
use crate::platform::request::Call;
use crate::platform::response::Refusal;
use crate::time::{Moment, Now};
use crate::value::{Grant, Value, ValueName};
use doubt::{Dead, Doubt, Forced};
use slot::Slot;
use std::sync::Arc;
use std::time::Duration;

const TICKET_EVERY: Duration = Duration::from_secs(1800);

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Call the platform now.
    Call(Call),
    /// Nothing until then.
    Sleep(Moment),
}

/// What an answer changed, for the log.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// A value was granted.
    Granted {
        /// Which.
        name: ValueName,
        /// Whether it is another one than before.
        changed: bool,
        /// The trouble that this ended.
        ended: Option<Arc<LastError>>,
    },
    /// A call for a value failed.
    Failed {
        /// Which value was asked for.
        name: ValueName,
        /// Why.
        error: Arc<LastError>,
        /// How often in a row, for the same reason.
        times: u32,
    },
    /// The platform says that the token lives.
    Alive,
    /// The platform says that the token is dead.
    FoundDead {
        /// Whether somebody else must have fetched one: it died well before its time under classic.
        foreign: bool,
    },
    /// It could not be learnt whether the token lives.
    Unsure(Refusal),
    /// A token seconds old was called dead: asked again in a moment before that is believed.
    AskAgain,
}

/// The refresh policy of one account and all that it remembers.
#[derive(Debug)]
pub struct Schedule {
    account: Arc<Account>,
    token: Slot,
    tickets: Box<[Slot]>,
    budget: Budget,
    doubt: Doubt,
    dead: Option<Dead>,
    forced: Forced,
    /// When the token was last looked at on suspicion.
    looked: Option<Moment>,
    /// When the platform last said that it lives.
    verified: Moment,
    last_success: Option<Moment>,
    last_renewal: Option<Moment>,
    /// 41002 to a correct body happens: once more before it is believed.
    asked_twice: bool,
    rng: fastrand::Rng,
}

impl Schedule {
    /// A policy that knows nothing yet: everything is due.
    pub fn new(account: Arc<Account>, now: &Now, rng: fastrand::Rng) -> Self {
        Self {
            token: Slot::new(ValueName::AccessToken, now.at),
            tickets: account
                .tickets
                .iter()
                .map(|ticket| Slot::new(*ticket, now.at))
                .collect(),
            budget: Budget::default(),
            doubt: Doubt::None,
            dead: None,
            forced: Forced::default(),
            looked: None,
            verified: now.at,
            last_success: None,
            last_renewal: None,
            asked_twice: false,
            account,
            rng,
        }
    }

    /// The account that it is for.
    pub fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// Goes on with a changed configuration. What stands stays, unless it is another app now.
    pub fn reconfigure(&mut self, account: Arc<Account>, now: &Now) {
        if (&account.id, account.agentid) != (&self.account.id, self.account.agentid) {
            *self = Self::new(account, now, self.rng.fork());
            return;
        }
        let mut old = std::mem::take(&mut self.tickets).into_vec();
        self.tickets = account
            .tickets
            .iter()
            .map(|name| {
                let kept = old.iter().position(|slot| slot.name == *name);
                kept.map_or_else(|| Slot::new(*name, now.at), |at| old.swap_remove(at))
            })
            .collect();
        let other_method = account.method != self.account.method;
        self.account = account;
        let blocked = self.token.blocked(now);
        if other_method || (self.token.trouble.is_some() && !blocked) {
            // Whoever edits an account in trouble expects it to be tried with what it says now.
            self.token.due = now.at;
        } else if self.token.trouble.is_none()
            && let Some(grant) = self.token.grant.clone()
        {
            self.token.due = self.due_after(now, &grant);
        }
    }

    /// The most urgent thing to do, or until when there is nothing.
    pub fn next(&self, now: &Now) -> Step {
        let affordable = self.affordable(now);
        let standing = self.standing(now.at).is_some();
        let mut next: Option<(Moment, Call)> = None;
        let mut offer = |due: Moment, call: Call| {
            // What is due already goes in the order of the offers; else the earliest.
            if next.is_none_or(|(best, _)| due.max(now.at) < best.max(now.at)) {
                next = Some((due, call));
            }
        };
        if let Some((due, call)) = self.doubt.wants() {
            offer(due, call);
        }
        offer(self.token.due, Call::Token);
        if standing {
            if !self.account.verify_every.is_zero() && !self.half_spent(now) {
                offer(self.verified + self.account.verify_every, Call::Verify);
            }
            for ticket in &self.tickets {
                offer(ticket.due, Call::Ticket(ticket.name));
            }
        }
        match next {
            Some((due, call)) if due.max(affordable) <= now.at => Step::Call(call),
            Some((due, _)) => Step::Sleep(due.max(affordable)),
            None => Step::Sleep(affordable),
        }
    }

    /// Counts a call that is about to be made.
    pub fn sent(&mut self, now: &Now) {
        self.budget.spend(now);
    }

    /// Takes the count back: the call never reached the platform.
    pub fn not_sent(&mut self) {
        self.budget.refund();
    }

    /// Half of the budget is kept for what must be done.
    fn half_spent(&self, now: &Now) -> bool {
        self.budget.calls_today(now) >= self.account.daily_budget / 2
    }

    fn affordable(&self, now: &Now) -> Moment {
        let expires = self.standing(now.at).map(|grant| grant.expires);
        self.budget
            .earliest(self.account.daily_budget, now, expires)
    }

    /// The access token to hand out: valid in time, and not withdrawn as dead.
    pub fn standing(&self, now: Moment) -> Option<&Grant> {
        self.token
            .grant
            .as_ref()
            .filter(|grant| grant.is_valid(now) && !self.is_withdrawn(grant))
    }

    /// The access token that a call carries: also the one that is asked about because it may be dead.
    pub fn token(&self) -> Option<&Value> {
        self.token.grant.as_ref().map(|grant| &grant.value)
    }

    /// Every value to hand out; expired ones are among them, withdrawn ones are not.
    pub fn grants(&self) -> Box<[(ValueName, Grant)]> {
        let token = self
            .token
            .grant
            .iter()
            .filter(|grant| !self.is_withdrawn(grant));
        let token = token.map(|grant| (ValueName::AccessToken, grant.clone()));
        let tickets = self
            .tickets
            .iter()
            .filter_map(|slot| Some((slot.name, slot.grant.clone()?)));
        token.chain(tickets).collect()
    }

    /// How the account is, its outputs aside.
    pub fn state(&self, now: Moment) -> State {
        if self.standing(now).is_none() {
            let untried = self.token.grant.is_none() && self.token.trouble.is_none();
            return if untried {
                State::Starting
            } else {
                State::Expired
            };
        }
        let failed = self
            .tickets
            .iter()
            .any(|slot| slot.trouble.is_some() || slot.expired(now));
        if failed || self.token.trouble.is_some() {
            return State::Degraded;
        }
        if self.tickets.iter().any(|slot| slot.grant.is_none()) {
            State::Starting
        } else {
            State::Fresh
        }
    }

    /// The trouble that lasts: of the token, else of a ticket.
    pub fn last_error(&self) -> Option<Arc<LastError>> {
        let slots = std::iter::once(&self.token).chain(&self.tickets);
        slots
            .filter_map(|slot| slot.trouble.as_ref())
            .map(|trouble| trouble.error.clone())
            .next()
    }

    /// When a call for the access token last succeeded.
    pub fn last_success(&self) -> Option<Moment> {
        self.last_success
    }

    /// The calls of the platform's day, and that day.
    pub fn calls(&self) -> (u32, i64) {
        (self.budget.calls, self.budget.day)
    }

    /// Whether the day's calls are used up.
    pub fn is_spent(&self, now: &Now) -> bool {
        self.budget.calls_today(now) >= self.account.daily_budget
    }

    /// When the next of the values that stand expires.
    pub fn next_expiry(&self, now: Moment) -> Option<Moment> {
        let slots = std::iter::once(&self.token).chain(&self.tickets);
        slots
            .filter_map(|slot| slot.grant.as_ref())
            .map(|grant| grant.expires)
            .filter(|expires| *expires > now)
            .min()
    }
}
