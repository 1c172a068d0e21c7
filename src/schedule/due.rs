//! The moments when a value that stands is asked for next.

use super::slot::Held;
use super::{MIN_INTERVAL, Schedule};
use crate::terms::{Repeat, Terms};
use crate::time::{Moment, Now};
use std::time::Duration;

/// The longest of the waits that are an eighth of the life that is left.
const LONGEST_EIGHTH: Duration = Duration::from_secs(20);
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

/// The wait for a value that may come any time: an eighth of the life that is left.
pub(super) fn an_eighth(left: Duration) -> Duration {
    (left / 8).clamp(MIN_INTERVAL, LONGEST_EIGHTH)
}

/// An interval less up to a tenth, so that what began together does not go on together.
pub(super) fn a_little_less(interval: Duration, rng: &mut fastrand::Rng) -> Duration {
    interval.mul_f64(1.0 - 0.1 * rng.f64())
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
                    return now.at + an_eighth(now.at.until(expires));
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
            now.at + a_little_less(every, &mut self.rng)
        })
    }

    fn part_of_life(&mut self, held: &Held) -> Moment {
        let jitter = EARLIEST + (1.0 - EARLIEST) * self.rng.f64();
        let part = self.account.refresh_at * jitter;
        begin(held) + held.life.mul_f64(part)
    }
}
