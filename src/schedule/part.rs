//! The part of this host in the calls of an account: alone, or in a fleet of hosts of which one calls. An input like the time.

use super::belief::{Belief, Lost, Why};
use super::due::WINDOW;
use super::slot::Held;
use super::{Outcome, Record, Schedule, StoredGrant};
use crate::budget::Budget;
use crate::call::Call;
use crate::snapshot::Verdict;
use crate::time::{Moment, Now};
use crate::value::{Value, ValueName};
use std::time::Duration;

/// A host waits so long for an engine that is away before it fetches for itself.
const WITHOUT_ENGINE: Duration = Duration::from_secs(3);
/// After it began to lead, a host asks within this time if the token lives.
const TAKEOVER_LOOK: Duration = Duration::from_secs(225);
/// The jitter of that: at the earliest at this part of it.
const TAKEOVER_EARLIEST: f64 = 0.8;

/// The part of this host in the calls of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Part {
    /// There is no fleet: it makes all calls.
    #[default]
    Alone,
    /// It makes the calls of the fleet.
    Leads,
    /// Another host makes them, or none yet.
    Follows,
    /// It does not reach the fleet's engine, and nobody knows who leads.
    Cut {
        /// The moment since which it is away.
        since: Moment,
        /// True if it may fetch for itself what ends no token of others.
        may_call: bool,
    },
}

impl Schedule {
    /// The part that this host has.
    pub const fn part(&self) -> Part {
        self.part
    }

    /// This host has another part now.
    pub fn set_part(&mut self, part: Part, now: &Now) {
        if self.part != part {
            self.part = part;
            self.tell(now);
        }
    }

    /// Goes on from what the fleet's leader shares. Who waits for a verdict goes on waiting.
    pub fn follow(&mut self, record: Record, now: &Now) {
        let own_orphan = self.orphan.take();
        let rng = self.rng.fork();
        let mut next = Self::restored(self.account.clone(), record, now, rng, self.part);
        // The calls of a host that had to fetch for itself count too, until others know of them.
        next.alone = self.alone;
        next.budget.add(&self.alone);
        for slot in std::iter::once(&mut next.token).chain(&mut next.tickets) {
            if let Some(held) = &mut slot.held {
                held.is_restored = false;
            }
        }
        // Any call since the first one without an answer may be another one.
        if let (Some(lost), Some(last)) = (&mut next.lost, next.budget.last_call) {
            lost.last = lost.last.max(last);
        }
        // Its own failures keep their pace, until another host has shown that a call may succeed.
        if let Some(trouble) = self.token.trouble.take()
            && next.token.trouble.is_none()
            && next
                .last_success
                .is_none_or(|success| success < trouble.error.at)
        {
            next.token.due = self.token.due;
            next.token.trouble = Some(trouble);
        }
        next.is_shared = true;
        next.orphan = own_orphan;
        next.asked = self.asked;
        next.look = self.look;
        next.flight = self.flight.take();
        next.ledger = self.ledger.take();
        next.last_wish = self.last_wish;
        next.hold = self.hold;
        *self = next;
    }

    /// This host leads from now on, and goes on from what the leader before shared, or from its own where that is newer.
    pub fn begin_term(&mut self, shared: Option<Record>, hold: Option<Moment>, now: &Now) {
        if let Some(shared) = shared {
            let token = shared.grants.first();
            let theirs = token
                .filter(|token| token.name == ValueName::AccessToken)
                .map(|token| token.obtained + Duration::from_secs(1));
            if self.stands(now.at) && self.obtained() > theirs {
                self.budget = shared.budget;
                self.budget.add(&self.alone);
            } else {
                self.follow(shared, now);
            }
        }
        // The others will know of them.
        self.alone = Budget::default();
        self.take_over(hold, now);
    }

    /// This host leads from now on. No call for a token is made before `hold`, while one of the leader before may be under way,
    /// unless the value ends. Where calls end tokens, the one that stands is looked at: the leader before may have made one.
    pub fn take_over(&mut self, hold: Option<Moment>, now: &Now) {
        self.part = Part::Leads;
        self.hold = hold;
        if self.terms().overlap().is_some() && self.stands(now.at) {
            let left = self.token.left(now.at).unwrap_or_default();
            let part = TAKEOVER_EARLIEST + (1.0 - TAKEOVER_EARLIEST) * self.rng.f64();
            let look = TAKEOVER_LOOK.min(left / 4).mul_f64(part);
            self.belief.suspect(Why::LostAnswer, now.at + look);
        }
        self.tell(now);
    }

    /// The record for the other hosts, with the end to tell once they know it.
    pub fn record_to_share(&mut self, now: &Now) -> Record {
        let before = (self.told, self.is_shared, self.is_plan_shared);
        (self.is_shared, self.is_plan_shared) = (true, true);
        self.tell(now);
        let record = self.record();
        (self.told, self.is_shared, self.is_plan_shared) = before;
        record
    }

    /// The fleet's engine has taken what this host knows: others know it too.
    pub fn on_shared(&mut self, now: &Now) {
        if !(self.is_shared && self.is_plan_shared) {
            (self.is_shared, self.is_plan_shared) = (true, true);
            self.tell(now);
        }
    }

    /// The call that was about to be made is not made.
    pub fn on_not_called(&mut self) {
        self.on_unsent();
        self.flight = None;
    }

    /// A leader before had an answer that came too late to be shared. Its call ended each token that was granted before, so it
    /// is the one to hold if it lives; of a token that was granted since, only the platform can tell.
    pub fn on_orphan(&mut self, orphan: StoredGrant, now: &Now) {
        let orphan = Held {
            value: orphan.value,
            obtained: orphan.obtained.min(now.at),
            life: orphan.life,
            end: orphan.end,
            is_restored: false,
        };
        if orphan.expires() <= now.at || self.token() == Some(&orphan.value) {
            return;
        }
        let is_later = self.obtained().is_none_or(|held| held < orphan.obtained);
        if is_later || self.stands(now.at) {
            self.orphan = Some(Box::new(orphan));
        }
        if is_later {
            self.adopt(now);
        } else if self.orphan.is_some() {
            self.belief.suspect(Why::Report, now.at);
        }
    }

    /// Holds the orphan in the place of the token, which becomes the orphan, and asks whether it lives. True if there was one.
    pub(super) fn adopt(&mut self, now: &Now) -> bool {
        let Some(orphan) = self.orphan.take_if(|orphan| now.at < orphan.expires()) else {
            self.orphan = None;
            return false;
        };
        // The orphan's call ends the token that it replaced. One that was sent later may have ended the orphan.
        let later = self.lost.map(|lost| lost.last);
        let later = later.filter(|last| orphan.obtained < *last);
        self.lost = (self.terms().overlap().is_some()).then_some(Lost {
            first: orphan.obtained,
            last: later.unwrap_or(orphan.obtained),
        });
        self.token.due = match later {
            Some(_) => now.at,
            None => self.due_of(now, &orphan),
        };
        self.orphan = self.token.held.replace(*orphan).map(Box::new);
        self.told = None;
        self.is_shared = false;
        self.belief = Belief::Suspected {
            why: Why::Report,
            at: now.at,
            tries: 0,
        };
        self.tell(now);
        true
    }

    /// The adopted token lives: the other one is of no use any more.
    pub(super) fn keep_adopted(&mut self) {
        if self.orphan.take().is_some() {
            self.lost = self.lost.filter(|lost| lost.first < lost.last);
        }
    }

    /// The token is dead. An orphan may live.
    pub(super) fn adopt_instead(&mut self, now: &Now) -> Option<(Outcome, Option<Verdict>)> {
        let is_adopted = self.adopt(now);
        // The dead one is of no use any more.
        self.orphan = None;
        is_adopted.then_some((Outcome::AskAgain, None))
    }

    /// The earliest moment at which this host's part allows a call; nothing if it does not.
    pub(super) fn allowed(&self, call: Call, now: &Now) -> Option<Moment> {
        match self.part {
            Part::Alone => Some(now.at),
            Part::Leads => {
                let hold = self.hold.filter(|_| call.is_token()).unwrap_or(now.at);
                let ends = self.token.held.as_ref().map(Held::expires);
                Some(ends.map_or(hold, |ends| hold.min(ends)))
            }
            Part::Follows => None,
            Part::Cut { since, may_call } => {
                if !may_call || self.terms().overlap().is_some() {
                    return None;
                }
                let slots = std::iter::once(&self.token).chain(&self.tickets);
                let name = match call {
                    Call::Ticket(name) => name,
                    Call::Verify => return Some(since + WITHOUT_ENGINE),
                    Call::Token | Call::ForceToken => ValueName::AccessToken,
                };
                let held = slots
                    .filter(|slot| slot.name == name)
                    .find_map(|slot| slot.held.as_ref());
                // Only a value in need: the others are fetched by whoever leads.
                let is_shown = name != ValueName::AccessToken || self.stands(now.at);
                let needed = held.filter(|_| is_shown).map_or(now.at, |held| {
                    held.expires() - (WINDOW / 2).min(held.life / 16)
                });
                Some(needed.max(since + WITHOUT_ENGINE))
            }
        }
    }

    /// True if this host plans the calls that end tokens.
    pub(super) const fn plans(&self) -> bool {
        matches!(self.part, Part::Alone | Part::Leads)
    }

    /// Somebody wants `value` to last until `until`, and this host makes no calls.
    pub fn leave_wish(&self, now: &Now, value: ValueName, until: Moment) -> Verdict {
        let grants = self.grants();
        let grant = grants.iter().find(|(name, _)| *name == value);
        if grant.is_some_and(|(_, grant)| grant.is_valid(now.at) && grant.expires >= until) {
            Verdict::StillValid
        } else {
            self.unavailable_soon(now)
        }
    }

    /// A call was answered after this host had ceased to lead.
    pub fn on_late(&mut self) {
        self.flight = None;
    }

    /// True if the other hosts do not know the token.
    pub const fn is_unshared(&self) -> bool {
        !self.is_shared
    }

    /// No leader can be asked just now.
    pub fn unavailable_soon(&self, now: &Now) -> Verdict {
        Verdict::Unavailable {
            retry_at: now.at + WITHOUT_ENGINE,
            error: self.last_error(),
        }
    }

    /// The fingerprint that names a token in the fleet matches the one that is held.
    pub fn holds(&self, fingerprint: &str) -> bool {
        self.token()
            .is_some_and(|token| token.fingerprint().to_string() == fingerprint)
    }

    /// The moment when the token that is held was first seen.
    fn obtained(&self) -> Option<Moment> {
        self.token.held.as_ref().map(|held| held.obtained)
    }

    /// A follower's apps doubt the token: what can be said at once. `None`: the leader has to look.
    pub fn doubt(&self, now: &Now, bad: Option<&Value>) -> Option<Verdict> {
        let held = self.token.held.as_ref().filter(|_| self.stands(now.at))?;
        (bad.is_some_and(|bad| *bad != held.value)).then_some(Verdict::Superseded)
    }
}
