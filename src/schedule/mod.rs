//! The refresh policy of one account: state × event × now → what to do next. Knows no I/O and no clock.

mod answer;
mod belief;
mod counts;
mod due;
mod force;
mod look;
mod part;
mod record;
mod slot;
#[cfg(test)]
mod tests;
mod tickets;
mod told;
mod wish;

pub use belief::{Belief, Why};
pub use part::Part;
pub use record::{Record, StoredBlock, StoredGrant};

use crate::account::Account;
use crate::budget::Budget;
use crate::call::{Call, Refusal};
use crate::pace::{Need, WINDOW, affordable};
use crate::snapshot::State;
use crate::terms::Terms;
use crate::time::{Moment, Now};
use crate::trouble::LastError;
use crate::value::{Grant, Value, ValueName};
use belief::{AskedBy, Lost};
use force::Force;
use look::LastLook;
use part::InFleet;
use slot::{Held, Slot};
use std::sync::Arc;
use std::time::Duration;
use tickets::Tickets;

/// Minimum interval between two calls that a configured time causes.
const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// The next thing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Call the platform now.
    Call(Call),
    /// Nothing until then.
    Sleep(Moment),
}

/// The change that an answer made, for the log.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// A value was granted.
    Granted {
        /// Its name.
        name: ValueName,
        /// True if it is another one than before.
        changed: bool,
        /// The trouble that this ended.
        ended: Option<Arc<LastError>>,
    },
    /// A call for a value failed.
    Failed {
        /// The value that was asked for.
        name: ValueName,
        /// The reason.
        error: Arc<LastError>,
        /// Failures in a row for the same reason.
        times: u32,
    },
    /// The platform says that the token lives.
    Alive,
    /// The platform says that the token is dead.
    FoundDead {
        /// True if somebody else must have fetched one: it died well before its time under classic.
        foreign: bool,
    },
    /// The answer does not tell whether the token lives.
    Unsure(Refusal),
    /// The answer is not believed yet, as when a token seconds old is called dead: asked again in a moment.
    AskAgain,
}

/// A call under way.
#[derive(Debug)]
struct Flight {
    /// The moment when it was sent, on both clocks: the host may have been paused since.
    sent: Now,
    /// For the app that the account was before a reload: its answer is of no use.
    is_foreign: bool,
    /// The state to go back to if it never reached the platform, or minted nothing.
    budget_before: Budget,
    alone_before: Budget,
    lost_before: Option<Lost>,
}

/// The refresh policy of one account and all that it remembers.
#[derive(Debug)]
pub struct Schedule {
    account: Arc<Account>,
    token: Slot,
    tickets: Tickets,
    /// The belief about the token.
    belief: Belief,
    /// Calls whose answer is missing: each may have ended the token.
    lost: Option<Lost>,
    /// The waiters for a verdict.
    asked: AskedBy,
    /// The last look at the token.
    look: Option<LastLook>,
    force: Force,
    budget: Budget,
    /// From when on the configured looks at the token count.
    routine_from: Moment,
    last_success: Option<Moment>,
    last_wish: Option<Moment>,
    /// 41002 to a correct body happens: once more before it is believed.
    is_asked_again: bool,
    flight: Option<Box<Flight>>,
    fleet: InFleet,
    rng: fastrand::Rng,
}

impl Schedule {
    /// A policy that knows nothing yet: everything is due.
    pub fn new(account: Arc<Account>, now: &Now, rng: fastrand::Rng) -> Self {
        Self {
            token: Slot::new(ValueName::AccessToken, now.at),
            tickets: Tickets::new(&account, now),
            belief: Belief::Trusted,
            lost: None,
            asked: AskedBy::Nobody,
            look: None,
            force: Force::default(),
            budget: Budget::default(),
            routine_from: now.at,
            last_success: None,
            last_wish: None,
            is_asked_again: false,
            flight: None,
            fleet: InFleet::default(),
            account,
            rng,
        }
    }

    /// The account that it is for.
    pub fn account(&self) -> &Arc<Account> {
        &self.account
    }

    fn terms(&self) -> &'static Terms {
        self.account.terms()
    }

    fn slots(&self) -> impl Iterator<Item = &Slot> {
        std::iter::once(&self.token).chain(&self.tickets.slots)
    }

    fn slots_mut(&mut self) -> impl Iterator<Item = &mut Slot> {
        std::iter::once(&mut self.token).chain(&mut self.tickets.slots)
    }

    fn slot(&self, name: ValueName) -> Option<&Slot> {
        self.slots().find(|slot| slot.name == name)
    }

    fn slot_mut(&mut self, name: ValueName) -> Option<&mut Slot> {
        self.slots_mut().find(|slot| slot.name == name)
    }

    /// Goes on with a changed configuration. Values and troubles stay, unless it is another app now.
    pub fn reconfigure(&mut self, account: Arc<Account>, now: &Now) {
        if record::identity(&account) != record::identity(&self.account) {
            let mut other = Self::new(account, now, self.rng.fork());
            other.flight = self.flight.take();
            if let Some(flight) = &mut other.flight {
                flight.is_foreign = true;
            }
            other.asked = self.asked;
            other.tickets.ledger = self.tickets.ledger.take();
            other.fleet.part = self.fleet.part;
            *self = other;
            return;
        }
        self.tickets.reconfigure(&account, now);
        let other_method = account.terms() != self.account.terms();
        self.account = account;
        self.hurry(now, false);
        let is_quiet = self.token.trouble.is_none() && self.belief != Belief::CalledDead;
        match self.token.held.clone() {
            _ if self.token.is_blocked(now) => {}
            Some(held) if is_quiet && !other_method && self.stands(now.at) => {
                let due = self.due_of(now, &held);
                self.token.due = due.max(self.not_before(now));
            }
            _ => self.token.due = now.at,
        }
        if other_method {
            // Calls by the new method do not end the token of the old one.
            self.token.tell(None);
            self.lost = None;
        }
        self.tell(now);
    }

    /// Tries again at once whatever failed: somebody may have mended it just now. What the platform itself said to wait
    /// for is tried only if `blocked` says so, once.
    pub fn hurry(&mut self, now: &Now, blocked: bool) {
        for slot in self.slots_mut() {
            if slot.trouble.is_some() && (blocked || !slot.is_blocked(now)) {
                slot.due = slot.due.min(now.at);
            }
        }
    }

    /// The most urgent thing to do, or until when there is nothing.
    pub fn next(&self, now: &Now) -> Step {
        let stands = self.stands(now.at);
        let mut next: Option<(Moment, Call)> = None;
        let mut offer = |due: Moment, call: Call| {
            let Some(allowed) = self.allowed(call, now) else {
                return;
            };
            let due = due.max(allowed);
            // Calls that are due go in the order of the offers; else the earliest goes.
            if next.is_none_or(|(best, _)| due < best) {
                next = Some((due, call));
            }
        };
        if let Some((due, call)) = self.question(now) {
            offer(due, call);
        }
        if let Some(due) = self.token_call(now) {
            offer(due, Call::Token);
        }
        if stands {
            if let Some(due) = self.routine_look(now) {
                offer(due, Call::Verify);
            }
            // A token that is doubted is asked about first, even if that has to wait: a ticket needs one that lives.
            let tickets = self.tickets.slots.iter();
            for ticket in tickets.filter(|_| !self.belief.is(Why::Report)) {
                offer(self.ticket_call(ticket, now), Call::Ticket(ticket.name));
            }
        }
        match next {
            Some((due, call)) if due <= now.at => Step::Call(call),
            Some((due, _)) => Step::Sleep(due),
            None => Step::Sleep(now.next_platform_midnight()),
        }
    }

    /// The moment when a call is to be made for the token itself.
    fn token_call(&self, now: &Now) -> Option<Moment> {
        if self.belief.is(Why::Contradiction) && self.may_live(now.at) {
            return None;
        }
        let due = self.token.due;
        let at = |need| due.max(self.affordable(need, now));
        let standing = self.token.held.as_ref().filter(|_| self.stands(now.at));
        let Some(held) = standing.filter(|_| self.belief != Belief::CalledDead) else {
            return Some(at(Need::Heal));
        };
        // A renewal that cannot be afforded counts as healing once the value has ended.
        let renew = at(Need::Renew).min(at(Need::Heal).max(held.expires()));
        Some(if self.token.trouble.is_some() {
            renew
        } else {
            at(Need::Poll).min(renew.max(held.expires() - WINDOW))
        })
    }

    fn affordable(&self, need: Need, now: &Now) -> Moment {
        affordable(&self.budget, self.account.daily_budget, need, now)
    }

    /// Counts a call that is about to be made.
    pub fn on_sent(&mut self, now: &Now, call: Call) {
        let flight = Flight {
            sent: *now,
            is_foreign: self.flight.as_ref().is_some_and(|f| f.is_foreign),
            budget_before: self.budget,
            alone_before: self.fleet.alone,
            lost_before: self.lost,
        };
        self.spend(now);
        if matches!(call, Call::Ticket(_)) {
            self.tickets.spend(now);
        }
        if call.is_token() && self.terms().overlap().is_some() && self.token.held.is_some() {
            self.lost = Some(Lost::another(self.lost, now.at));
        }
        self.flight = Some(Box::new(flight));
    }

    /// Counts further requests of the same call: a host failed and another was asked.
    pub fn on_sent_again(&mut self, now: &Now, times: u32) {
        (0..times).for_each(|_| self.spend(now));
    }

    fn spend(&mut self, now: &Now) {
        self.budget.spend(now);
        if matches!(self.fleet.part, Part::Cut { .. }) {
            self.fleet.alone.spend(now);
        }
    }

    /// Takes the count back: the call never reached the platform.
    pub fn on_unsent(&mut self) {
        if let Some(flight) = &self.flight {
            (self.budget, self.fleet.alone) = (flight.budget_before, flight.alone_before);
            self.lost = flight.lost_before;
        }
    }

    /// True if an access token can be handed out: valid in time, and not withdrawn as dead.
    pub fn stands(&self, now: Moment) -> bool {
        self.belief.is_shown() && self.token.is_valid(now)
    }

    /// The access token that is handed out.
    pub fn standing(&self, now: Moment) -> Option<Grant> {
        let held = self.token.held.as_ref().filter(|_| self.stands(now))?;
        Some(held.grant()).filter(|grant| grant.is_valid(now))
    }

    /// The access token that a call carries: also the one that is asked about because it may be dead.
    pub fn token(&self) -> Option<&Value> {
        self.token.held.as_ref().map(|held| &held.value)
    }

    /// Every value to hand out, with the end that apps are told; expired ones are among them, withdrawn ones are not.
    pub fn grants(&self) -> Box<[(ValueName, Grant)]> {
        let token = self.token.held.iter().filter(|_| self.belief.is_shown());
        let token = token.map(|held| (ValueName::AccessToken, held.grant()));
        let tickets = self.tickets.slots.iter();
        let tickets = tickets.filter_map(|slot| Some((slot.name, slot.held.as_ref()?.grant())));
        token.chain(tickets).collect()
    }

    /// The state of the account, its outputs aside.
    pub fn state(&self, now: Moment) -> State {
        if !self.stands(now) {
            let untried = self.token.is_untried() && self.token.trouble.is_none();
            return if untried && self.belief.is_shown() {
                State::Starting
            } else {
                State::Expired
            };
        }
        let is_failed = |slot: &Slot| slot.trouble.is_some() || slot.is_expired(now);
        if self.slots().any(is_failed) {
            return State::Degraded;
        }
        if self.tickets.slots.iter().any(|slot| slot.held.is_none()) {
            State::Starting
        } else {
            State::Fresh
        }
    }

    /// The trouble that lasts: of the token, else of a ticket.
    pub fn last_error(&self) -> Option<Arc<LastError>> {
        self.slots()
            .find_map(|slot| slot.trouble.as_ref().map(|trouble| trouble.error.clone()))
    }

    /// The moment when a call for the access token last succeeded.
    pub fn last_success(&self) -> Option<Moment> {
        self.last_success
    }

    /// The moment when what is handed out changes next without an answer: a value expires, or the end that apps are
    /// told moves on.
    pub fn next_change(&self, now: Moment) -> Option<Moment> {
        let ends = self.slots();
        let ends = ends.filter_map(|slot| slot.held.as_ref().map(Held::expires));
        let told = self.token.told().map(|told| told.moment());
        let told = told.map(|told| [told - told::NEAR, told - told::MOMENT]);
        ends.chain(told.into_iter().flatten())
            .filter(|change| *change > now)
            .min()
    }
}
