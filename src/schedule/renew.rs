//! Wishes for a value with more life left.

use super::Schedule;
use crate::snapshot::Verdict;
use crate::time::{Moment, Now};
use crate::value::ValueName;
use std::time::Duration;

/// How often a wish for a longer-lived value may cause a call: no local app can use up an account's quota with it.
const RENEW_EVERY: Duration = Duration::from_secs(300);
/// The life that a value is expected to have before one was seen.
const USUAL_LIFE: Duration = Duration::from_secs(7200);
/// When to come again with a wish that cannot be met.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

impl Schedule {
    /// Somebody wants `value` to last until `until`. A verdict is final; without one, the next call for the value decides.
    pub fn renew(&mut self, now: &Now, value: ValueName, until: Moment) -> Option<Verdict> {
        let affordable = self.affordable(now);
        let every = self.sparing(now, RENEW_EVERY);
        let (is_token, stands) = (
            value == ValueName::AccessToken,
            self.standing(now.at).is_some(),
        );
        let token_due = self.token.due;
        let Some(slot) = std::iter::once(&mut self.token)
            .chain(&mut self.tickets)
            .find(|slot| slot.name == value)
        else {
            return Some(Verdict::Unavailable {
                retry_at: affordable,
                error: None,
            });
        };
        let grant = slot.grant.as_ref().filter(|_| stands || !is_token);
        if grant.is_some_and(|grant| grant.is_valid(now.at) && grant.expires >= until) {
            return Some(Verdict::StillValid);
        }
        let possible =
            now.at + grant.map_or(USUAL_LIFE, |grant| grant.obtained.until(grant.expires));
        let earliest = if !is_token && !stands {
            // Tickets are asked for with a token.
            token_due.max(now.at + LOOK_AGAIN)
        } else if until > possible || slot.is_blocked(now) {
            slot.due.max(now.at + LOOK_AGAIN)
        } else if slot.due <= now.at {
            now.at
        } else {
            self.last_renewal
                .map_or(now.at, |last| (last + every).min(slot.due))
        };
        let earliest = earliest.max(affordable);
        if earliest > now.at {
            let error = slot.trouble.as_ref().map(|trouble| trouble.error.clone());
            return Some(Verdict::Unavailable {
                retry_at: earliest,
                error,
            });
        }
        slot.due = now.at;
        self.last_renewal = Some(now.at);
        None
    }
}
