//! Wishes for a value with more life left.

use super::Schedule;
use crate::handle::Verdict;
use crate::time::{Moment, Now};
use crate::value::ValueName;
use std::time::Duration;

/// How often a wish for a longer-lived value may cause a call: no local app can use up an account's quota with it.
const RENEW_EVERY: Duration = Duration::from_secs(300);

impl Schedule {
    /// Somebody wants `value` to last until `until`. A verdict is final; without one, the next call for the value decides.
    pub fn renew(&mut self, now: &Now, value: ValueName, until: Moment) -> Option<Verdict> {
        let affordable = self.affordable(now);
        let blocked = value == ValueName::AccessToken && self.token.blocked(now);
        let Some(slot) = std::iter::once(&mut self.token)
            .chain(&mut self.tickets)
            .find(|slot| slot.name == value)
        else {
            return Some(Verdict::Unavailable {
                retry_at: affordable,
                error: None,
            });
        };
        let life = match &slot.grant {
            Some(grant) if grant.is_valid(now.at) && grant.expires >= until => {
                return Some(Verdict::StillValid);
            }
            Some(grant) => grant.obtained.until(grant.expires),
            None => Duration::from_secs(7200),
        };
        let soon = self
            .last_renewal
            .map_or(now.at, |last| last + RENEW_EVERY)
            .max(affordable);
        let due_now = slot.due <= now.at;
        if until > now.at + life || blocked || (soon > now.at && !due_now) {
            let retry_at = if due_now {
                affordable
            } else {
                slot.due.max(now.at).min(soon.max(now.at))
            };
            let error = slot.trouble.as_ref().map(|trouble| trouble.error.clone());
            return Some(Verdict::Unavailable { retry_at, error });
        }
        slot.due = now.at;
        self.last_renewal = Some(now.at);
        None
    }
}
