//! What an answer of the platform changes.

use super::record::LONGEST_LIFE;
use super::slot::renewed;
use super::{CLOSEST, Flight, Outcome, Schedule, TICKET_EVERY};
use crate::call::Call;
use crate::call::{Answer, Refusal};
use crate::snapshot::Verdict;
use crate::terms::Repeat;
use crate::time::{Moment, Now};
use crate::trouble::Class;
use crate::value::{Grant, Value, ValueName};
use std::time::Duration;

/// From so long before its expiry a value is asked for often, until it changes.
const WINDOW: Duration = Duration::from_secs(300);
const WINDOW_LONGEST: Duration = Duration::from_secs(20);
const WINDOW_SHORTEST: Duration = CLOSEST;
/// A token that is due and comes back the same is asked for no sooner than this, its last minutes aside.
const AGAIN_SHORTEST: Duration = Duration::from_secs(60);

impl Schedule {
    /// Takes what came of a call that was sent at `sent`. The verdict, if there is one, is for all who doubted the token.
    pub fn answered(
        &mut self,
        now: &Now,
        sent: Moment,
        call: Call,
        answer: Result<Answer, Refusal>,
    ) -> (Outcome, Option<Verdict>) {
        let flight = std::mem::replace(&mut self.flight, Flight::None);
        if flight == Flight::AnotherApps {
            return (Outcome::AskAgain, None);
        }
        let (outcome, verdict) = self.taken(now, sent, call, answer);
        let verdict = match verdict.or_else(|| self.unaffordable(now)) {
            // It came too late.
            Some(Verdict::StillValid | Verdict::Refreshed) if self.standing(now.at).is_none() => {
                Some(self.unavailable(now))
            }
            verdict => verdict,
        };
        (outcome, verdict)
    }

    fn taken(
        &mut self,
        now: &Now,
        sent: Moment,
        call: Call,
        answer: Result<Answer, Refusal>,
    ) -> (Outcome, Option<Verdict>) {
        match (call, answer) {
            (Call::Verify, answer) => self.verified(now, answer),
            (Call::Ticket(name), Ok(Answer::Granted(value, life))) => {
                (self.ticket_granted(now, sent, name, value, life), None)
            }
            (Call::Ticket(name), Err(refusal)) => (self.ticket_failed(now, name, refusal), None),
            (_, Ok(Answer::Granted(value, life))) => {
                self.token_granted(now, sent, call, value, life)
            }
            (_, Err(refusal)) => self.token_failed(now, refusal),
            (_, Ok(Answer::Alive)) => (Outcome::Alive, None),
        }
    }

    fn token_granted(
        &mut self,
        now: &Now,
        sent: Moment,
        call: Call,
        value: Value,
        life: Duration,
    ) -> (Outcome, Option<Verdict>) {
        self.asked_twice = false;
        self.unanswered = 0;
        let before = self.token.grant.take();
        let changed = before.as_ref().is_none_or(|grant| grant.value != value);
        let grant = renewed(before, value, sent, life);
        self.token.restored = false;
        self.token.due = if changed {
            self.due_of(now, &grant)
        } else {
            self.due_again(now, grant.expires)
        };
        self.token.grant = Some(grant);
        if self.is_dead_again() {
            return self.granted_dead_again(now, call);
        }
        self.dead = None;
        self.last_success = Some(now.at);
        if changed {
            self.verified = now.at;
            if self.account.terms.tickets_follow_token {
                self.tickets
                    .iter_mut()
                    .for_each(|ticket| ticket.due = now.at);
            }
        }
        let ended = self.token.recover();
        let outcome = Outcome::Granted {
            name: ValueName::AccessToken,
            changed,
            ended,
        };
        let verdict = self.doubt.end(changed).then_some(if changed {
            Verdict::Refreshed
        } else {
            Verdict::StillValid
        });
        (outcome, verdict)
    }

    fn token_failed(&mut self, now: &Now, refusal: Refusal) -> (Outcome, Option<Verdict>) {
        if refusal.errcode.is_some() {
            // Of this call it is known that it minted nothing; of one before that failed otherwise it is not.
            self.unanswered = self.unanswered.saturating_sub(1);
        }
        if refusal.errcode == Some(41002) && !self.asked_twice {
            self.asked_twice = true;
            self.token.due = now.at;
            return (Outcome::Unsure(refusal), None);
        }
        self.asked_twice = false;
        self.withdraw_dead();
        let outcome = self.fail(now, refusal);
        let verdict = self.doubt.end(false).then(|| self.unavailable(now));
        (outcome, verdict)
    }

    pub(super) fn fail(&mut self, now: &Now, refusal: Refusal) -> Outcome {
        let left = self
            .standing(now.at)
            .map_or(Duration::ZERO, |grant| now.at.until(grant.expires));
        let sparing = self.is_sparing(now);
        self.token.fail(now, refusal, left, sparing, &mut self.rng)
    }

    fn ticket_granted(
        &mut self,
        now: &Now,
        sent: Moment,
        name: ValueName,
        value: Value,
        life: Duration,
    ) -> Outcome {
        let Some(at) = self.tickets.iter().position(|slot| slot.name == name) else {
            return Outcome::Alive;
        };
        let misread = self.is_misread(&self.tickets[at], now);
        let before = self.tickets[at].grant.take();
        let changed = before.as_ref().is_none_or(|grant| grant.value != value);
        let mut grant = renewed(before.clone(), value, sent, life);
        if let Some(before) =
            before.filter(|before| !changed && !misread && before.is_valid(now.at))
        {
            // The platform may answer a full life for a ticket in mid-life: the first answer is the one to believe.
            grant.expires = grant.expires.min(before.expires);
        }
        let due = self.watchful(now, grant.expires, TICKET_EVERY);
        let slot = &mut self.tickets[at];
        slot.due = due;
        slot.grant = Some(grant);
        let ended = slot.recover();
        Outcome::Granted {
            name,
            changed,
            ended,
        }
    }

    fn ticket_failed(&mut self, now: &Now, name: ValueName, refusal: Refusal) -> Outcome {
        if refusal.class == Class::DeadToken {
            self.doubt_token(now);
        }
        let sparing = self.is_sparing(now);
        let Some(slot) = self.tickets.iter_mut().find(|slot| slot.name == name) else {
            return Outcome::Unsure(refusal);
        };
        let left = slot
            .grant
            .as_ref()
            .map_or(Duration::ZERO, |grant| now.at.until(grant.expires));
        slot.fail(now, refusal, left, sparing, &mut self.rng)
    }

    /// When a token is asked for next.
    pub(super) fn due_of(&mut self, now: &Now, grant: &Grant) -> Moment {
        match self.account.terms.repeat {
            Repeat::Same { polled: true, .. } => self.due_again(now, grant.expires),
            Repeat::Same { .. } | Repeat::New { .. } => {
                let life = grant.obtained.until(grant.expires);
                grant.obtained
                    + life.mul_f64(self.account.refresh_at * (1.0 - 0.05 * self.rng.f64()))
            }
        }
    }

    /// When a token that the platform did not replace is asked for next.
    pub(super) fn due_again(&mut self, now: &Now, expires: Moment) -> Moment {
        let every = match self.account.terms.repeat {
            Repeat::Same { polled: true, .. } if self.half_spent(now) => Duration::ZERO,
            Repeat::Same { polled: true, .. } => self.account.poll_every,
            Repeat::Same { .. } | Repeat::New { .. } => {
                let left = now.at.until(expires);
                left.mul_f64(self.account.refresh_at).max(AGAIN_SHORTEST)
            }
        };
        self.watchful(now, expires, every)
    }

    /// When a value that the platform replaces by itself is looked at next: every now and then (or not, if that is zero),
    /// and often near its end.
    pub(super) fn watchful(&mut self, now: &Now, expires: Moment, every: Duration) -> Moment {
        let window = expires - WINDOW;
        if now.at >= window {
            let wait = (now.at.until(expires) / 8).clamp(WINDOW_SHORTEST, WINDOW_LONGEST);
            return now.at + wait;
        }
        if every.is_zero() {
            return window;
        }
        let every = every.clamp(CLOSEST, LONGEST_LIFE);
        (now.at + every.mul_f64(1.0 - 0.1 * self.rng.f64())).min(window)
    }
}
