//! The refresh policy of one account: state × event × now → what to do next. Knows no I/O and no clock.

mod answer;
mod doubt;
mod record;
mod renew;
mod slot;
#[cfg(test)]
mod tests;

pub use record::{Record, StoredBlock, StoredGrant};

use crate::account::Account;
use crate::budget::Budget;
use crate::call::Call;
use crate::call::Refusal;
use crate::snapshot::State;
use crate::time::{Moment, Now};
use crate::trouble::LastError;
use crate::value::{Grant, Value, ValueName};
use doubt::{Dead, Doubt, Forced};
use slot::Slot;
use std::sync::Arc;
use std::time::Duration;

const TICKET_EVERY: Duration = Duration::from_secs(1800);
/// How often whatever may wait is asked once half of the day's budget is spent.
const SPARING: Duration = Duration::from_secs(600);
/// No configured time makes calls that are closer.
const CLOSEST: Duration = Duration::from_secs(1);
/// A clock that was set by more than this was wrong before.
const STEP_MILLIS: u64 = 15_000;

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
    /// The answer is not believed yet, as when a token seconds old is called dead: asked again in a moment.
    AskAgain,
}

/// Whether a call is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flight {
    None,
    /// One for this app.
    Ours,
    /// One for the app that the account was before a reload: its answer is of no use.
    AnotherApps,
}

impl Flight {
    fn for_another_app(self) -> Self {
        match self {
            Self::None => Self::None,
            Self::Ours | Self::AnotherApps => Self::AnotherApps,
        }
    }
}

/// The refresh policy of one account and all that it remembers.
#[derive(Debug)]
pub struct Schedule {
    account: Arc<Account>,
    token: Slot,
    tickets: Box<[Slot]>,
    budget: Budget,
    /// The budget before the last call.
    unspent: Budget,
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
    flight: Flight,
    /// Classic calls for a token that have no answer: each may have minted one, which ends ours five minutes later.
    unanswered: u32,
    /// Unix time of the moment zero, milliseconds, by which restored values were read.
    epoch: i64,
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
            unspent: Budget::default(),
            doubt: Doubt::None,
            dead: None,
            forced: Forced::default(),
            looked: None,
            verified: now.at,
            last_success: None,
            last_renewal: None,
            asked_twice: false,
            flight: Flight::None,
            unanswered: 0,
            epoch: now.unix_millis_of(Moment::from_millis(0)),
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
            *self = Self {
                flight: self.flight.for_another_app(),
                doubt: self.doubt.about_another(),
                ..Self::new(account, now, self.rng.fork())
            };
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
        let other_method = account.terms != self.account.terms;
        self.account = account;
        self.hurry(now);
        match self.standing(now.at).cloned() {
            _ if self.token.is_banned(now) => {}
            Some(grant) if self.token.trouble.is_none() && !other_method && !self.is_fetching() => {
                self.token.due = self.due_of(now, &grant);
            }
            _ => self.token.due = now.at,
        }
    }

    /// Tries again at once whatever failed: somebody may have mended it just now. Not what the platform refuses for a
    /// fixed time.
    fn hurry(&mut self, now: &Now) {
        for slot in std::iter::once(&mut self.token).chain(&mut self.tickets) {
            if slot.trouble.is_some() && !slot.is_banned(now) {
                slot.due = now.at;
            }
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
        offer(self.due(&self.token, now), Call::Token);
        if standing {
            if !self.account.verify_every.is_zero() && !self.half_spent(now) {
                let every = self.account.verify_every.max(CLOSEST);
                offer(self.verified + every, Call::Verify);
            }
            for ticket in &self.tickets {
                offer(self.due(ticket, now), Call::Ticket(ticket.name));
            }
        }
        match next {
            Some((due, call)) if due.max(affordable) <= now.at => Step::Call(call),
            Some((due, _)) => Step::Sleep(due.max(affordable)),
            None => Step::Sleep(affordable),
        }
    }

    /// Whether the expiry of a value is not known: it was stored, and the clock that it was read by was wrong.
    fn is_misread(&self, slot: &Slot, now: &Now) -> bool {
        let epoch = now.unix_millis_of(Moment::from_millis(0));
        slot.restored && epoch.abs_diff(self.epoch) > STEP_MILLIS
    }

    /// When a value is due.
    fn due(&self, slot: &Slot, now: &Now) -> Moment {
        if self.is_misread(slot, now) && !slot.is_blocked(now) {
            slot.due.min(now.at)
        } else {
            slot.due
        }
    }

    /// Counts a call that is about to be made.
    pub fn sent(&mut self, now: &Now, call: Call) {
        self.unspent = self.budget;
        self.budget.spend(now);
        if self.may_mint(call) {
            self.unanswered = self.unanswered.saturating_add(1);
        }
        if self.flight == Flight::None {
            self.flight = Flight::Ours;
        }
    }

    /// Takes the count back: the call never reached the platform.
    pub fn not_sent(&mut self, call: Call) {
        self.budget = self.unspent;
        if self.may_mint(call) {
            self.unanswered = self.unanswered.saturating_sub(1);
        }
    }

    /// Whether a call may end the token that stands without a word of it reaching us.
    fn may_mint(&self, call: Call) -> bool {
        call.is_token() && self.account.terms.overlap().is_some()
    }

    /// Half of the budget is kept for what must be done.
    fn half_spent(&self, now: &Now) -> bool {
        self.budget.calls_today(now) >= self.account.daily_budget / 2
    }

    /// Whether a failure has to be sparing with calls. One that never reached the platform cost none.
    fn is_sparing(&self, now: &Now) -> bool {
        self.half_spent(now) && self.budget != self.unspent
    }

    /// How often to ask for what usually may be asked `every` so often.
    fn sparing(&self, now: &Now, every: Duration) -> Duration {
        if self.half_spent(now) {
            every.max(SPARING)
        } else {
            every
        }
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
