//! The moments when a value that stands is asked for next.

use super::slot::Held;
use super::{MIN_INTERVAL, Schedule};
use crate::terms::{Repeat, Terms};
use crate::time::{Moment, Now};
use std::time::Duration;

/// A value with less life left is about to end.
pub(super) const WINDOW: Duration = Duration::from_secs(300);
/// In the window in which a new value may come, an eighth of what is left passes between two calls: at most so much.
const WINDOW_LONGEST: Duration = Duration::from_secs(20);
/// Interval between two looks at a ticket.
const TICKET_EVERY: Duration = Duration::from_secs(1800);
/// Looks at a ticket in its last minutes.
const TICKET_LAST_LOOKS: u32 = 6;
/// The jitter of `refresh_at`: at the earliest at this part of it.
const EARLIEST: f64 = 0.95;
/// A token that is due and comes back the same is asked for no sooner than this.
const AGAIN_SHORTEST: Duration = Duration::from_secs(60);
/// No value lives longer, whatever a configured time says.
pub(super) const LONGEST_LIFE: Duration = Duration::from_secs(86_400);

/// The part of a token's life, counted from its end, in which a repeated call brings a new one.
pub(super) const fn window(terms: &Terms) -> Duration {
    match terms.repeat {
        Repeat::Same { window, .. } => window,
        Repeat::New { .. } => Duration::ZERO,
    }
}

/// The moment when its life began, as its end tells: a pause of the host, or a set clock, moves it, and the first
/// answer does not.
fn begin(held: &Held) -> Moment {
    held.obtained.min(held.expires() - held.life)
}

impl Schedule {
    /// The moment when a new token is asked for next.
    pub(super) fn due_of(&mut self, now: &Now, held: &Held) -> Moment {
        match self.terms().repeat {
            Repeat::New { .. } => self.part_of_life(held),
            Repeat::Same { .. } => self.due_again(now, held),
        }
    }

    /// The moment when a token that a call did not replace is asked for next.
    pub(super) fn due_again(&mut self, now: &Now, held: &Held) -> Moment {
        let expires = held.expires();
        match self.terms().repeat {
            Repeat::New { .. } => {
                let left = now.at.until(expires);
                now.at + left.mul_f64(self.account.refresh_at).max(AGAIN_SHORTEST)
            }
            Repeat::Same { window, polled } => {
                let opens = expires - window;
                if now.at >= opens {
                    let wait = now.at.until(expires) / 8;
                    return now.at + wait.clamp(MIN_INTERVAL, WINDOW_LONGEST);
                }
                let look = if polled {
                    self.next_poll(now)
                } else {
                    let is_early = now.at
                        < begin(held) + held.life.mul_f64(self.account.refresh_at * EARLIEST);
                    is_early.then(|| self.part_of_life(held))
                };
                look.map_or(opens, |at| at.min(opens))
            }
        }
    }

    fn next_poll(&mut self, now: &Now) -> Option<Moment> {
        let every = self.account.poll_every;
        (!every.is_zero()).then(|| {
            let every = every.clamp(MIN_INTERVAL, LONGEST_LIFE);
            now.at + every.mul_f64(1.0 - 0.1 * self.rng.f64())
        })
    }

    fn part_of_life(&mut self, held: &Held) -> Moment {
        let jitter = EARLIEST + (1.0 - EARLIEST) * self.rng.f64();
        let part = self.account.refresh_at * jitter;
        begin(held) + held.life.mul_f64(part)
    }

    /// The moment when a ticket is looked at next: every half hour, about six times while it is about to end, and at
    /// its end.
    pub(super) fn ticket_due(&mut self, now: &Now, ticket: &Held) -> Moment {
        let expires = ticket.expires();
        let window = WINDOW.min(ticket.life / 4);
        let opens = expires - window;
        if now.at < opens {
            let every = TICKET_EVERY.mul_f64(1.0 - 0.1 * self.rng.f64());
            return (now.at + every).min(opens);
        }
        // The last look but one leaves time for its answer.
        let last = expires - 2 * MIN_INTERVAL;
        let last = if now.at < last { last } else { expires };
        (now.at + window / TICKET_LAST_LOOKS)
            .min(last)
            .max(now.at + MIN_INTERVAL)
    }
}
