//! The changes that an answer of the platform makes.

use super::belief::{Belief, Why};
use super::slot::Held;
use super::told::DOUBTED;
use super::{Flight, Outcome, Schedule};
use crate::call::{Answer, Call, Refusal};
use crate::snapshot::Verdict;
use crate::time::{Moment, Now};
use crate::value::{Value, ValueName};
use std::time::Duration;

/// The errcode that correct bodies are refused with now and then.
const SPURIOUS: i64 = 41002;

impl Schedule {
    /// Takes what came of a call that was sent at `sent`. The verdict, if there is one, is for all who doubted the token.
    pub fn on_answer(
        &mut self,
        now: &Now,
        sent: Moment,
        call: Call,
        answer: Result<Answer, Refusal>,
    ) -> (Outcome, Option<Verdict>) {
        let flight = self.flight.take();
        if flight.as_ref().is_some_and(|flight| flight.is_foreign) {
            return (Outcome::AskAgain, None);
        }
        self.fleet.on_answer();
        let on_sent = flight.as_ref().map_or(now, |flight| &flight.sent);
        let sent = Now {
            at: sent,
            unix_millis: on_sent.unix_millis_of(sent),
        };
        let (outcome, verdict) = self.apply(now, &sent, call, answer, flight.as_deref());
        let verdict = match verdict.or_else(|| self.end_long_wait(now)) {
            // It came too late.
            Some(Verdict::StillValid | Verdict::Refreshed) if !self.stands(now.at) => {
                Some(self.unavailable(now))
            }
            verdict => verdict,
        };
        (outcome, verdict)
    }

    fn apply(
        &mut self,
        now: &Now,
        sent: &Now,
        call: Call,
        answer: Result<Answer, Refusal>,
        flight: Option<&Flight>,
    ) -> (Outcome, Option<Verdict>) {
        match (call, answer) {
            (Call::Verify, answer) => self.on_verified(now, answer),
            (Call::Ticket(name), Ok(Answer::Granted(value, life))) => {
                (self.ticket_granted(now, sent, name, value, life), None)
            }
            (Call::Ticket(name), Err(refusal)) => (self.ticket_failed(now, name, refusal), None),
            (_, Ok(Answer::Granted(value, life))) => {
                self.token_granted(now, sent, call, value, life)
            }
            (_, Err(refusal)) => self.token_failed(now, refusal, flight),
            (_, Ok(Answer::Alive)) => (Outcome::Alive, None),
        }
    }

    fn token_granted(
        &mut self,
        now: &Now,
        sent: &Now,
        call: Call,
        value: Value,
        life: Duration,
    ) -> (Outcome, Option<Verdict>) {
        let stood = self.stands(now.at);
        self.is_asked_again = false;
        self.lost = None;
        let before = self.token.held.take();
        let changed = before.as_ref().is_none_or(|held| held.value != value);
        let held = match before {
            Some(held) if !changed => held.granted_again(sent, life, now),
            _ => Held::granted(value, sent, life, now),
        };
        self.token.due = if changed {
            self.due_of(now, &held)
        } else {
            self.due_again(now, &held)
        };
        let is_doubted = held.end.doubted(now.at) > DOUBTED;
        self.token.held = Some(held);
        match self.belief {
            _ if changed => self.on_new_token(now),
            Belief::CalledDead | Belief::Withdrawn => {
                return self.granted_dead_again(now, call);
            }
            // The platform told how much of its life is left.
            belief if belief.is(Why::Clock) => self.belief = Belief::Trusted,
            _ => {}
        }
        if is_doubted {
            self.belief.suspect(Why::Clock, now.at);
        }
        self.last_success = Some(now.at);
        let ended = self.token.recover();
        self.tell(now);
        let outcome = Outcome::Granted {
            name: ValueName::AccessToken,
            changed,
            ended,
        };
        let is_decided = self.belief == Belief::Trusted && self.asked.end();
        let verdict = if changed || !stood {
            Verdict::Refreshed
        } else {
            Verdict::StillValid
        };
        (outcome, is_decided.then_some(verdict))
    }

    fn on_new_token(&mut self, now: &Now) {
        self.belief = Belief::Trusted;
        self.fleet.on_new_token();
        self.force.at = None;
        self.routine_from = now.at;
        if let Some(look) = &mut self.look {
            look.verified = Some(now.at);
        }
        if self.terms().tickets_follow_token {
            self.tickets
                .slots
                .iter_mut()
                .for_each(|ticket| ticket.due = now.at);
        }
    }

    fn token_failed(
        &mut self,
        now: &Now,
        refusal: Refusal,
        flight: Option<&Flight>,
    ) -> (Outcome, Option<Verdict>) {
        self.force.at = None;
        if refusal.errcode.is_some() {
            // Of this call it is known that it minted nothing; of one before that failed otherwise it is not.
            self.lost = flight.and_then(|flight| flight.lost_before);
        }
        if refusal.errcode == Some(SPURIOUS) && !self.is_asked_again {
            self.is_asked_again = true;
            self.token.due = now.at;
            return (Outcome::Unsure(refusal), None);
        }
        self.is_asked_again = false;
        self.belief.withdraw();
        self.suspect_lost(now);
        let outcome = self.token.fail(now, refusal, &mut self.rng);
        self.tell(now);
        // A question that is still to be asked decides.
        let is_decided = !self.belief.is(Why::Report) || !self.may_live(now.at);
        let verdict = is_decided && self.asked.end();
        (outcome, verdict.then(|| self.unavailable(now)))
    }
}
