//! The part of this host in the calls of an account: alone, or in a fleet of hosts of which one calls. An input like the time.

use super::belief::{Belief, Lost, Why};
use super::slot::Held;
use super::{Outcome, Record, Schedule, StoredGrant};
use crate::budget::Budget;
use crate::call::Call;
use crate::pace::WINDOW;
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

/// The knowledge of the account that the other hosts of the fleet have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
enum OthersKnow {
    /// Not even the token.
    Nothing,
    /// The token, but not what the last answer changed.
    Token,
    /// All that this host knows.
    #[default]
    All,
}

/// This host in its fleet.
#[derive(Debug, Default)]
pub(super) struct InFleet {
    pub(super) part: Part,
    /// No call for a token before: one of the leader before may be under way.
    hold: Option<Moment>,
    /// A token that a leader before could not share.
    orphan: Option<Box<Held>>,
    /// The calls that were made while this host did not reach the fleet.
    pub(super) alone: Budget,
    others_know: OthersKnow,
}

impl InFleet {
    /// True if the other hosts know the token and what is planned.
    pub(super) fn is_known(&self) -> bool {
        self.others_know == OthersKnow::All
    }

    /// An answer changes what is planned.
    pub(super) fn on_answer(&mut self) {
        self.others_know = self.others_know.min(OthersKnow::Token);
    }

    /// There is a token that nobody else has.
    pub(super) fn on_new_token(&mut self) {
        self.others_know = OthersKnow::Nothing;
        self.orphan = None;
    }
}

impl Schedule {
    /// The part that this host has.
    pub const fn part(&self) -> Part {
        self.fleet.part
    }

    /// This host has another part now.
    pub fn set_part(&mut self, part: Part, now: &Now) {
        if self.fleet.part != part {
            self.fleet.part = part;
            self.tell(now);
        }
    }

    /// Goes on from what the fleet's leader shares. Who waits for a verdict goes on waiting.
    pub fn follow(&mut self, record: Record, now: &Now) {
        let rng = self.rng.fork();
        let mut next = Self::restored(self.account.clone(), record, now, rng, self.fleet.part);
        next.fleet = InFleet {
            others_know: OthersKnow::All,
            ..std::mem::take(&mut self.fleet)
        };
        // The calls of a host that had to fetch for itself count too, until others know of them.
        next.budget.add(&next.fleet.alone);
        for slot in next.slots_mut() {
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
        next.asked = self.asked;
        next.look = self.look;
        next.flight = self.flight.take();
        next.tickets.ledger = self.tickets.ledger.take();
        next.last_wish = self.last_wish;
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
                self.budget.add(&self.fleet.alone);
            } else {
                self.follow(shared, now);
            }
        }
        // The others will know of them.
        self.fleet.alone = Budget::default();
        self.take_over(hold, now);
    }

    /// This host leads from now on. No call for a token is made before `hold`, while one of the leader before may be under way,
    /// unless the value ends. Where calls end tokens, the one that stands is looked at: the leader before may have made one.
    pub fn take_over(&mut self, hold: Option<Moment>, now: &Now) {
        self.fleet.part = Part::Leads;
        self.fleet.hold = hold;
        if self.terms().overlap().is_some() && self.stands(now.at) {
            let left = self.token.left(now.at).unwrap_or_default();
            let part = TAKEOVER_EARLIEST + (1.0 - TAKEOVER_EARLIEST) * self.rng.f64();
            let look = TAKEOVER_LOOK.min(left / 4).mul_f64(part);
            self.belief.suspect(Why::LostAnswer, now.at + look);
        }
        self.tell(now);
    }

    /// The record for the other hosts, with the end to tell once they know it.
    pub fn record_to_share(&self, now: &Now) -> Record {
        let mut record = self.record();
        let mut grants = record.grants.iter_mut();
        if let Some(token) = grants.find(|grant| grant.name == ValueName::AccessToken) {
            token.told = self.end_to_tell(now, true);
        }
        record
    }

    /// The fleet's engine has taken what this host knows: others know it too.
    pub fn on_shared(&mut self, now: &Now) {
        if !self.fleet.is_known() {
            self.fleet.others_know = OthersKnow::All;
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
            told: None,
            is_restored: false,
        };
        if orphan.expires() <= now.at || self.token() == Some(&orphan.value) {
            return;
        }
        let is_later = self.obtained().is_none_or(|held| held < orphan.obtained);
        if is_later || self.stands(now.at) {
            self.fleet.orphan = Some(Box::new(orphan));
        }
        if is_later {
            self.adopt(now);
        } else if self.fleet.orphan.is_some() {
            self.belief.suspect(Why::Report, now.at);
        }
    }

    /// Holds the orphan in the place of the token, which becomes the orphan, and asks whether it lives. True if there was one.
    pub(super) fn adopt(&mut self, now: &Now) -> bool {
        let orphan = self.fleet.orphan.take();
        let Some(orphan) = orphan.filter(|orphan| now.at < orphan.expires()) else {
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
        let orphan = Held {
            told: None,
            ..*orphan
        };
        self.fleet.orphan = self.token.held.replace(orphan).map(Box::new);
        self.fleet.others_know = OthersKnow::Nothing;
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
        if self.fleet.orphan.take().is_some() {
            self.lost = self.lost.filter(|lost| lost.first < lost.last);
        }
    }

    /// The token is dead. An orphan may live.
    pub(super) fn adopt_instead(&mut self, now: &Now) -> Option<(Outcome, Option<Verdict>)> {
        let is_adopted = self.adopt(now);
        // The dead one is of no use any more.
        self.fleet.orphan = None;
        is_adopted.then_some((Outcome::AskAgain, None))
    }

    /// The earliest moment at which this host's part allows a call; nothing if it does not.
    pub(super) fn allowed(&self, call: Call, now: &Now) -> Option<Moment> {
        match self.fleet.part {
            Part::Alone => Some(now.at),
            Part::Leads => {
                let hold = self
                    .fleet
                    .hold
                    .filter(|_| call.is_token())
                    .unwrap_or(now.at);
                let ends = self.token.held.as_ref().map(Held::expires);
                Some(ends.map_or(hold, |ends| hold.min(ends)))
            }
            Part::Follows => None,
            Part::Cut { since, may_call } => {
                if !may_call || self.terms().overlap().is_some() {
                    return None;
                }
                let name = match call {
                    Call::Ticket(name) => name,
                    Call::Verify => return Some(since + WITHOUT_ENGINE),
                    Call::Token | Call::ForceToken => ValueName::AccessToken,
                };
                let held = self.slot(name).and_then(|slot| slot.held.as_ref());
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
        matches!(self.fleet.part, Part::Alone | Part::Leads)
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
    pub fn is_unshared(&self) -> bool {
        self.fleet.others_know == OthersKnow::Nothing
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
