//! The tickets of an account, and the limits on calls for them.

use super::due;
use super::slot::{Held, Slot};
use super::{MIN_INTERVAL, Outcome, Schedule};
use crate::account::Account;
use crate::call::Refusal;
use crate::ledger::{HourlyRate, TicketLedger};
use crate::pace::{Need, WINDOW};
use crate::time::{Moment, Now};
use crate::trouble::Class;
use crate::value::{Value, ValueName};
use std::sync::Arc;
use std::time::Duration;

/// Interval between two looks at a ticket.
const EVERY: Duration = Duration::from_secs(1800);
/// Looks at a ticket in its last minutes.
const LAST_LOOKS: u32 = 6;

/// The tickets of an account.
#[derive(Debug)]
pub(super) struct Tickets {
    pub(super) slots: Box<[Slot]>,
    rate: HourlyRate,
    /// The limit that all apps of the id share.
    pub(super) ledger: Option<Arc<TicketLedger>>,
}

impl Tickets {
    /// Those of an account, all due.
    pub(super) fn new(account: &Account, now: &Now) -> Self {
        let slots = account.tickets.iter();
        Self {
            slots: slots.map(|name| Slot::new(*name, now.at)).collect(),
            rate: HourlyRate::below(account.terms().ticket_limits.app),
            ledger: None,
        }
    }

    /// Those that the account names now. The ones that it named before are kept.
    pub(super) fn reconfigure(&mut self, account: &Account, now: &Now) {
        let mut old = std::mem::take(&mut self.slots).into_vec();
        let kept = |name: &ValueName| {
            let kept = old.iter().position(|slot| slot.name == *name);
            kept.map_or_else(|| Slot::new(*name, now.at), |at| old.swap_remove(at))
        };
        self.slots = account.tickets.iter().map(kept).collect();
    }

    /// The moment when the limits allow the next call.
    pub(super) fn allowed(&self, now: &Now) -> Moment {
        let shared = self.ledger.as_ref();
        let shared = shared.map_or(now.at, |ledger| ledger.earliest(now.at));
        self.rate.earliest(now.at).max(shared)
    }

    /// Counts a call.
    pub(super) fn spend(&mut self, now: &Now) {
        self.rate.spend(now.at);
        if let Some(ledger) = &self.ledger {
            ledger.spend(now.at);
        }
    }
}

impl Schedule {
    /// Shares the limit on calls for tickets with the other apps of the id.
    pub fn share(&mut self, ledger: Option<Arc<TicketLedger>>) {
        self.tickets.ledger = ledger;
    }

    /// The moment when a call is to be made for a ticket.
    pub(super) fn ticket_call(&self, ticket: &Slot, now: &Now) -> Moment {
        // Of one from before a restart the end is known from a clock that may have been wrong.
        let is_certain = ticket.trouble.is_none() && !ticket.is_untried();
        let need = if ticket.is_valid(now.at) && is_certain {
            Need::Look
        } else {
            Need::Renew
        };
        let affordable = self.affordable(need, now);
        ticket.due.max(affordable).max(self.tickets.allowed(now))
    }

    /// The moment when a ticket is looked at next: every half hour, about six times while it is about to end, and at
    /// its end.
    pub(super) fn ticket_due(&mut self, now: &Now, ticket: &Held) -> Moment {
        let expires = ticket.expires();
        let window = WINDOW.min(ticket.life / 4);
        let opens = expires - window;
        if now.at < opens {
            return (now.at + due::a_little_less(EVERY, &mut self.rng)).min(opens);
        }
        // The last look but one leaves time for its answer.
        let last = expires - 2 * MIN_INTERVAL;
        let last = if now.at < last { last } else { expires };
        (now.at + window / LAST_LOOKS)
            .min(last)
            .max(now.at + MIN_INTERVAL)
    }

    pub(super) fn ticket_granted(
        &mut self,
        now: &Now,
        sent: &Now,
        name: ValueName,
        value: Value,
        life: Duration,
    ) -> Outcome {
        let Some(slot) = self.slot_mut(name) else {
            return Outcome::Alive;
        };
        let before = slot.held.take();
        let changed = before.as_ref().is_none_or(|held| held.value != value);
        let held = match before {
            Some(before) if !changed => {
                let (end, was_valid) = (before.end, now.at < before.expires());
                let mut held = before.granted_again(sent, life, now);
                // The platform may answer a full life for a ticket in mid-life: the first answer is the one to believe.
                if was_valid && end.moment() < held.expires() {
                    held.end = end;
                }
                held
            }
            _ => Held::granted(value, sent, life, now),
        };
        let ended = slot.recover();
        let due = self.ticket_due(now, &held);
        if let Some(slot) = self.slot_mut(name) {
            slot.due = due;
            slot.held = Some(held);
        }
        Outcome::Granted {
            name,
            changed,
            ended,
        }
    }

    pub(super) fn ticket_failed(
        &mut self,
        now: &Now,
        name: ValueName,
        refusal: Refusal,
    ) -> Outcome {
        if refusal.class == Class::DeadToken {
            self.doubt_token(now);
        }
        let class = refusal.class;
        let slots = self.tickets.slots.iter_mut();
        let Some(slot) = slots.into_iter().find(|slot| slot.name == name) else {
            return Outcome::Unsure(refusal);
        };
        let outcome = slot.fail(now, refusal, &mut self.rng);
        if let (Class::Frequency, Some(ledger)) = (class, &self.tickets.ledger) {
            // All apps of the id are refused.
            ledger.block(slot.due);
        }
        outcome
    }
}
