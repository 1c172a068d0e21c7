//! The end that apps are told, and what a clock does to it. Where the daemon's own next call ends the token, that end
//! is earlier than the platform's.

use super::belief::{Belief, Why};
use super::{Part, Schedule, due};
use crate::time::{End, Moment, Now};
use std::time::Duration;

/// The time between the look at a token and the moment when a lost answer can do harm.
pub(super) const LOST_CHECK: Duration = Duration::from_secs(60);
/// An end that is so near is moved on, however little.
pub(super) const NEAR: Duration = Duration::from_secs(30);
/// Readers lose a value a moment before its end; this is the time to move that end on.
pub(super) const MOMENT: Duration = Duration::from_secs(1);
/// An end that Unix time and the daemon's clock tell so differently is in doubt.
pub(super) const DOUBTED: Duration = Duration::from_secs(15);

impl Schedule {
    /// Tells apps the end that follows from what is planned. It moves at once when it comes earlier; later only by a
    /// good part of the overlap, so that an outage rewrites no file at each attempt.
    pub fn tell(&mut self, now: &Now) {
        let told = self.end_to_tell(now, self.fleet.is_known());
        self.token.tell(told);
    }

    /// The end to tell apps. `is_known` says that the other hosts of the fleet know the token and what is planned.
    pub(super) fn end_to_tell(&self, now: &Now, is_known: bool) -> Option<End> {
        let (overlap, held) = (self.terms().overlap()?, self.token.held.as_ref()?);
        let before = held.told.map(|told| told.moment());
        let mut safe = if self.plans() {
            let call = self.token_call(now).unwrap_or(held.expires());
            let next = call.max(now.at) + overlap;
            // If this host fails now, another one that does not know the plan may call at once.
            if self.fleet.part == Part::Alone || is_known {
                next
            } else {
                next.min(before.unwrap_or(now.at).max(now.at + overlap))
            }
        } else {
            // Whoever leads plans the calls, and says so.
            before.unwrap_or(held.expires())
        };
        if let Some(lost) = self.lost {
            let may_be_dead = lost.first + overlap;
            let looked = match self.belief {
                Belief::Suspected { at, .. } => at.max(now.at),
                _ => now.at,
            };
            // Nothing is told beyond that until it has come. From then on the token is handed out until the next look.
            safe = safe.min(if now.at < may_be_dead {
                may_be_dead + MOMENT
            } else {
                looked + LOST_CHECK
            });
        }
        let safe = safe.min(held.expires());
        // While a clock is in doubt nothing moves on.
        let is_certain = !self.belief.is(Why::Clock);
        let moves = before.is_none_or(|told| {
            let is_near = told <= now.at + NEAR && told < safe;
            safe < told || (is_certain && (is_near || told + overlap / 2 <= safe))
        });
        match held.told {
            told if !moves => told,
            _ if safe == held.expires() => Some(held.end),
            _ => Some(End::of(safe, now)),
        }
    }

    /// The earliest moment at which a call for a living token breaks no promise: where the call ends the token, apps
    /// were told that it lives on.
    pub(super) fn not_before(&self, now: &Now) -> Moment {
        match (self.token.told(), self.terms().overlap()) {
            (Some(told), Some(overlap)) if self.belief.is_shown() => {
                (told.moment() - overlap).max(now.at)
            }
            _ => now.at,
        }
    }

    /// Plans the look that a lost answer makes necessary. Once it is time, questions without an answer keep their pace.
    pub(super) fn suspect_lost(&mut self, now: &Now) {
        if let (Some(lost), Some(overlap)) = (self.lost, self.terms().overlap()) {
            let at = lost.first + overlap - LOST_CHECK;
            let is_asked = matches!(self.belief, Belief::Suspected { tries: 1.., .. });
            if now.at < at || !is_asked {
                self.belief.suspect(Why::LostAnswer, at.max(now.at));
            }
        }
    }

    /// Unix time was set, or the daemon's clock stood still while the host was paused. No life gets longer than apps
    /// were told, and what is in doubt is verified at once.
    pub fn on_clock_set(&mut self, now: &Now) {
        for slot in self.slots_mut() {
            if let Some(held) = &mut slot.held {
                let before = held.expires();
                held.end.reread(now);
                held.end.limit(now.at + held.life);
                if let Some(told) = &mut held.told {
                    told.reread(now);
                }
                let after = held.expires();
                // Only Unix time tells its end, and was wrong then or is now: the platform is asked.
                let moved = before.until(after).max(after.until(before));
                if held.end.boot().is_none() && moved > DOUBTED && slot.trouble.is_none() {
                    slot.due = slot.due.min(now.at);
                }
                if slot.trouble.is_none() {
                    slot.due = slot.due.min(held.expires());
                }
            }
            if let Some(until) = slot.trouble.as_mut().and_then(|t| t.until.as_mut()) {
                until.reread(now);
                slot.due = slot.due.min(until.moment());
            }
        }
        if let Some(held) = self.token.held.clone() {
            if held.end.doubted(now.at) > DOUBTED {
                self.belief.suspect(Why::Clock, now.at);
            }
            if self.token.trouble.is_none() {
                self.token.due = self.token.due.min(self.latest_due(&held));
            }
        }
        self.tell(now);
    }

    /// The token lives. Its end is the earlier one, and later changes of a clock begin from there; but where Unix time said that it
    /// had ended (`is_misread`), the daemon's clock was right.
    pub(super) fn settle_ends(&mut self, now: &Now, is_misread: bool) {
        let Some(held) = &mut self.token.held else {
            return;
        };
        for end in std::iter::once(&mut held.end).chain(&mut held.told) {
            if let Some(boot) = end.boot() {
                let right = if is_misread { boot } else { end.moment() };
                *end = End::of(right, now);
            }
        }
    }

    /// The moment at which a token that stands has to be asked for at the latest.
    fn latest_due(&self, held: &super::slot::Held) -> Moment {
        match (held.told, self.terms().overlap()) {
            (Some(told), Some(overlap)) => told.moment() - overlap,
            _ => held.expires() - due::window(self.terms()),
        }
    }
}
