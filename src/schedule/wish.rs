//! Wishes for a value with more life left.

use super::belief::Why;
use super::due::LONGEST_LIFE;
use super::{MIN_INTERVAL, Schedule};
use crate::pace::Need;
use crate::snapshot::Verdict;
use crate::time::{Moment, Now};
use crate::value::ValueName;
use std::time::Duration;

/// Interval between two calls that wishes may cause: no local app can use up an account's quota with them.
const WISH_EVERY: Duration = Duration::from_secs(300);

impl Schedule {
    /// Somebody wants `value` to last until `until`. A verdict is final; without one, the next call for the value decides.
    pub fn wish(&mut self, now: &Now, value: ValueName, until: Moment) -> Option<Verdict> {
        let is_token = value == ValueName::AccessToken;
        let grants = self.grants();
        let grant = grants.iter().find(|(name, _)| *name == value);
        if grant.is_some_and(|(_, grant)| grant.is_valid(now.at) && grant.expires >= until) {
            return Some(Verdict::StillValid);
        }
        let Some(slot) = self.slot(value) else {
            return Some(Verdict::Unavailable {
                retry_at: now.at,
                error: None,
            });
        };
        let life = grant.and(slot.held.as_ref()).map(|held| held.life);
        let is_possible = until <= now.at + life.unwrap_or(LONGEST_LIFE);
        let is_valid = grant.is_some_and(|(_, grant)| grant.is_valid(now.at));
        let earliest = if !self.stands(now.at) && (!is_token || self.belief.is(Why::Contradiction))
        {
            // Tickets are asked for with a token, and that one only when it is believed.
            self.next_attempt(now).max(now.at + MIN_INTERVAL)
        } else if !is_token && self.belief.is(Why::Report) {
            self.next_attempt(now)
        } else if !is_possible || slot.is_blocked(now) {
            slot.due.max(now.at + MIN_INTERVAL)
        } else if slot.due <= now.at {
            now.at
        } else {
            let again = self.last_wish.map_or(now.at, |last| last + WISH_EVERY);
            let allowed = if is_token {
                self.not_before(now)
            } else {
                now.at
            };
            again.max(allowed).min(slot.due).max(now.at)
        };
        let (need, allowed) = match (is_valid, is_token) {
            (true, true) => (Need::Look, now.at),
            (true, false) => (Need::Look, self.tickets.allowed(now)),
            (false, true) => (Need::Heal, now.at),
            (false, false) => (Need::Renew, self.tickets.allowed(now)),
        };
        let earliest = earliest.max(self.affordable(need, now)).max(allowed);
        if earliest > now.at {
            let trouble = slot.trouble.as_ref();
            return Some(Verdict::Unavailable {
                retry_at: earliest,
                error: trouble.map(|trouble| trouble.error.clone()),
            });
        }
        self.last_wish = Some(now.at);
        if let Some(slot) = self.slot_mut(value) {
            slot.due = now.at;
        }
        self.tell(now);
        None
    }
}
