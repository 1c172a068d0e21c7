//! A look at the access token: an app saw it refused, a clock was set, an answer was lost. One question serves all who
//! wait.

use super::belief::{AskedBy, Belief, Why};
use super::told::LOST_CHECK;
use super::{MIN_INTERVAL, Outcome, Schedule};
use crate::call::{Answer, Call, Refusal};
use crate::pace::{self, Need};
use crate::snapshot::Verdict;
use crate::time::{Moment, Now};
use crate::trouble::Class;
use crate::value::Value;
use std::time::Duration;

/// Minimum interval between two looks at a token on suspicion.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// A younger token may be refused by a part of the platform that has not heard of it: asked about again at this age.
const SETTLED: Duration = Duration::from_secs(10);
/// The platform's errcode for a token that another call replaced.
const REPLACED: i64 = 40001;

/// The last look at the token on suspicion.
#[derive(Debug, Clone, Copy)]
pub(super) struct LastLook {
    pub(super) at: Moment,
    /// The moment when it, or the new token after it, proved the token alive.
    pub(super) verified: Option<Moment>,
}

impl Schedule {
    /// Somebody doubts the token: `bad` failed, or without it the current one is doubted. A verdict is final; without
    /// one, it comes with a later answer.
    pub fn suspect(&mut self, now: &Now, bad: Option<&Value>, admin: bool) -> Option<Verdict> {
        let stands = self.stands(now.at);
        if let (Some(bad), Some(held)) = (bad, self.token.held.as_ref().filter(|_| stands))
            && *bad != held.value
        {
            return Some(Verdict::Superseded);
        }
        if self.asked != AskedBy::Nobody || (stands && self.belief == Belief::CalledDead) {
            self.asked.join(admin);
            return None;
        }
        if !stands {
            return self.suspect_nothing(now, admin);
        }
        let affordable = self.affordable(Need::Doubt, now);
        let earliest = self.next_look(now).max(affordable);
        if earliest > now.at {
            return Some(match self.look {
                Some(LastLook {
                    verified: Some(at), ..
                }) => Verdict::Verified(at),
                _ if affordable > now.at => self.unavailable_at(affordable),
                _ => Verdict::TooSoon { retry_at: earliest },
            });
        }
        if admin {
            self.hurry(now, true);
        }
        self.begin_look(now, admin);
        self.belief.suspect(Why::Report, now.at);
        None
    }

    /// There is no token. An administrator may have healed the cause just now; an app waits for what is due anyway.
    fn suspect_nothing(&mut self, now: &Now, admin: bool) -> Option<Verdict> {
        let due = self.next_attempt(now);
        let earliest = if admin {
            let affordable = self.affordable(Need::Heal, now);
            due.min(self.next_look(now).max(affordable))
        } else {
            due
        };
        if earliest > now.at {
            return Some(self.unavailable_at(earliest));
        }
        if due > now.at {
            self.look = Some(LastLook {
                at: now.at,
                verified: None,
            });
            self.token.due = now.at;
            if let Belief::Suspected { at, .. } = &mut self.belief {
                *at = now.at;
            }
        }
        self.asked = AskedBy::by(admin);
        None
    }

    fn begin_look(&mut self, now: &Now, admin: bool) {
        self.asked = AskedBy::by(admin);
        self.look = Some(LastLook {
            at: now.at,
            verified: None,
        });
    }

    fn next_look(&self, now: &Now) -> Moment {
        self.look
            .map_or(now.at, |look| (look.at + LOOK_EVERY).max(now.at))
    }

    /// The moment when the call is due that decides if there is a token.
    pub(super) fn next_attempt(&self, now: &Now) -> Moment {
        let question = self.question(now).map(|(at, _)| at);
        let in_time = question.filter(|at| self.may_live(*at));
        let next = in_time.or_else(|| self.token_call(now)).or(question);
        next.map_or(now.at, |at| at.max(now.at))
    }

    /// A call was refused because of the token: it is looked at as soon as that can be afforded, unless that was done a
    /// moment ago. No ticket is asked for before.
    pub(super) fn doubt_token(&mut self, now: &Now) {
        let is_open = self.stands(now.at)
            && self.asked == AskedBy::Nobody
            && self.belief != Belief::CalledDead;
        if is_open && self.next_look(now) <= now.at {
            self.begin_look(now, false);
            self.belief.suspect(Why::Report, now.at);
        }
    }

    /// The question that the belief asks, and when.
    pub(super) fn question(&self, now: &Now) -> Option<(Moment, Call)> {
        let (at, need, call) = match (self.belief, self.force.at) {
            (_, Some(at)) => (at, Need::Heal, Call::ForceToken),
            (Belief::Suspected { why, at, .. }, None) => {
                // Apps may report all day; the other reasons are our own.
                let need = if why == Why::Report {
                    Need::Doubt
                } else {
                    Need::Heal
                };
                (at, need, Call::Verify)
            }
            _ => return None,
        };
        let is_open = call == Call::ForceToken || self.may_live(now.at);
        is_open.then(|| (at.max(self.affordable(need, now)), call))
    }

    /// True if it makes sense to ask if the token lives: its end is not past, or a clock has made that doubtful.
    pub(super) fn may_live(&self, now: Moment) -> bool {
        let held = self.token.held.as_ref();
        let ends = held.and_then(|held| held.end.boot().or(Some(held.expires())));
        ends.is_some_and(|ends| now < ends)
    }

    /// The moment when the token is looked at as the configuration says.
    pub(super) fn routine_look(&self, now: &Now) -> Option<Moment> {
        let every = self.account.verify_every;
        let is_due = !every.is_zero() && self.belief == Belief::Trusted;
        is_due.then(|| {
            let due = self.routine_from + every.max(MIN_INTERVAL);
            due.max(self.affordable(Need::Look, now))
        })
    }

    pub(super) fn on_verified(
        &mut self,
        now: &Now,
        answer: Result<Answer, Refusal>,
    ) -> (Outcome, Option<Verdict>) {
        self.routine_from = now.at;
        match answer {
            Ok(_) => self.found_alive(now),
            Err(refusal) if refusal.class == Class::DeadToken => {
                self.called_dead(now, refusal.errcode)
            }
            Err(refusal) => self.learnt_nothing(now, refusal),
        }
    }

    fn found_alive(&mut self, now: &Now) -> (Outcome, Option<Verdict>) {
        let is_revived = !self.belief.is_shown();
        let is_of_clock = self.belief.is(Why::Clock);
        let is_misread = is_of_clock && !self.token.is_valid(now.at);
        self.look = Some(LastLook {
            at: self.look.map_or(now.at, |look| look.at),
            verified: Some(now.at),
        });
        self.belief = Belief::Trusted;
        self.keep_adopted();
        if let (Some(lost), Some(overlap)) = (self.lost, self.terms().overlap()) {
            self.lost = lost.disproved(now.at, overlap);
            if let Some(lost) = self.lost {
                let over = lost.first + overlap + MIN_INTERVAL;
                let at = over.max(now.at + LOST_CHECK);
                self.belief.suspect(Why::LostAnswer, at);
            }
        }
        if is_of_clock {
            self.settle_ends(now, is_misread);
        }
        if is_revived {
            self.token.trouble = None;
            self.last_success = Some(now.at);
        }
        if (is_revived || is_misread)
            && let Some(held) = self.token.held.clone()
        {
            self.token.due = self.due_again(now, &held).max(self.not_before(now));
        }
        self.tell(now);
        let verdict = if is_revived {
            Verdict::Refreshed
        } else {
            Verdict::StillValid
        };
        (Outcome::Alive, self.asked.end().then_some(verdict))
    }

    fn called_dead(&mut self, now: &Now, errcode: Option<i64>) -> (Outcome, Option<Verdict>) {
        let Some(held) = self.token.held.clone() else {
            self.belief = Belief::Trusted;
            return (Outcome::Alive, None);
        };
        if !self.belief.is_shown() {
            // Dead still. Perhaps the platform grants another one by now.
            self.belief = Belief::Withdrawn;
            self.token.due = now.at;
            return (Outcome::AskAgain, None);
        }
        let settled = held.obtained + SETTLED;
        if now.at < settled {
            self.belief = Belief::Suspected {
                why: Why::Report,
                at: settled,
                tries: 0,
            };
            return (Outcome::AskAgain, None);
        }
        if let Some(adopted) = self.adopt_instead(now) {
            return adopted;
        }
        // A call of ours whose answer was of no use may have replaced it as well.
        let foreign = self.terms().overlap().is_some()
            && errcode == Some(REPLACED)
            && self.token.trouble.is_none()
            && self.lost.is_none()
            && now.at + held.life / 10 < held.expires();
        self.belief = Belief::CalledDead;
        self.lost = None;
        if !self.token.is_blocked(now) {
            self.token.due = now.at;
        }
        (Outcome::FoundDead { foreign }, None)
    }

    fn learnt_nothing(&mut self, now: &Now, refusal: Refusal) -> (Outcome, Option<Verdict>) {
        let left = self.token.left(now.at);
        match &mut self.belief {
            Belief::Suspected { why, .. } if *why == Why::Report => self.belief = Belief::Trusted,
            Belief::Suspected { at, tries, .. } => {
                *tries += 1;
                *at = pace::retry_at(refusal.class, *tries, left, now, &mut self.rng);
            }
            _ => {}
        }
        self.suspect_lost(now);
        self.tell(now);
        let verdict = self.asked.end();
        let verdict = verdict.then(|| self.unavailable_at(now.at + LOOK_EVERY));
        (Outcome::Unsure(refusal), verdict)
    }

    /// Ends a wait whose next call does not come soon: nobody is kept waiting for long, and a dead token is not shown meanwhile.
    pub(super) fn end_long_wait(&mut self, now: &Now) -> Option<Verdict> {
        let next = self.next_attempt(now);
        if next > now.at {
            self.belief.withdraw();
        }
        let is_late = next > now.at + LOOK_EVERY;
        (is_late && self.asked.end()).then(|| self.unavailable_at(next))
    }

    pub(super) fn unavailable(&self, now: &Now) -> Verdict {
        self.unavailable_at(self.next_attempt(now))
    }

    fn unavailable_at(&self, retry_at: Moment) -> Verdict {
        let trouble = self.token.trouble.as_ref();
        Verdict::Unavailable {
            retry_at,
            error: trouble.map(|trouble| trouble.error.clone()),
        }
    }
}
