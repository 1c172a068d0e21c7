//! The platform calls the token dead and grants the same one again: forced where that is allowed, else looked at now and then.

use super::belief::{AskedBy, Belief, Why};
use super::{Outcome, Schedule};
use crate::budget::Budget;
use crate::call::{Call, Refusal};
use crate::pace::{Need, OPERATOR};
use crate::snapshot::Verdict;
use crate::time::{Moment, Now};
use std::time::Duration;

/// The platform allows 20 forced refreshes a day, 30 s apart; some are left for people.
const FORCED_A_DAY: u32 = 10;
const FORCED_EVERY: Duration = Duration::from_secs(30);

/// Tokens that are forced.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Force {
    /// The moment when the next one is.
    pub(super) at: Option<Moment>,
    /// Those of the day.
    pub(super) made: Budget,
}

impl Schedule {
    /// A call for a new token brought the one that was called dead.
    pub(super) fn granted_dead_again(
        &mut self,
        now: &Now,
        call: Call,
    ) -> (Outcome, Option<Verdict>) {
        if self.force.at.is_some() && call == Call::Token {
            // Its turn comes.
            return (Outcome::AskAgain, None);
        }
        self.force.at = None;
        if call == Call::Token
            && self.may_force(now)
            && let Some(at) = self.next_force(now)
        {
            self.force.made.spend(&Now { at, ..*now });
            self.force.at = Some(at);
            return (Outcome::AskAgain, None);
        }
        self.belief = Belief::Suspected {
            why: Why::Contradiction,
            at: now.at + OPERATOR,
            tries: 0,
        };
        let hint = if self.terms().can_force {
            format!(
                "run `wxtokend refresh {}` as an administrator, which forces a new one, or set `force_on_dead = true` for the account",
                self.account.name
            )
        } else {
            "the platform contradicts itself and is asked again every 5 minutes; if it lasts, reset the secret in its console".into()
        };
        let refusal = Refusal::operator(
            "the platform says that the token is dead, and hands out the same one again",
            hint,
        );
        let outcome = self.token.fail(now, refusal, &mut self.rng);
        (outcome, self.asked.end().then(|| self.unavailable(now)))
    }

    fn may_force(&self, now: &Now) -> bool {
        self.terms().can_force
            && (self.asked == AskedBy::Admin || self.account.force_on_dead)
            && self.affordable(Need::Heal, now) <= now.at
    }

    fn next_force(&self, now: &Now) -> Option<Moment> {
        let last = self.force.made.last_call;
        (self.force.made.calls_today(now) < FORCED_A_DAY)
            .then(|| last.map_or(now.at, |last| (last + FORCED_EVERY).max(now.at)))
    }
}
