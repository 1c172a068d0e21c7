//! One value of an account on its way round: granted, due, granted again or in trouble.

use super::Outcome;
use crate::call::Refusal;
use crate::pace;
use crate::time::{End, Moment, Now};
use crate::trouble::LastError;
use crate::value::{Grant, Value, ValueName};
use std::sync::Arc;
use std::time::Duration;

/// An end that moves by no more than this has not moved: the platform cuts off parts of a second of what is left, so that each
/// answer tells of a moment a little too early, the first one (of the whole life) of the right one.
const EARLIER: Duration = Duration::from_secs(1);
const LATER: Duration = Duration::from_secs(2);

/// One value on its way round: granted, due, granted again.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) name: ValueName,
    pub(super) held: Option<Held>,
    pub(super) due: Moment,
    pub(super) trouble: Option<Box<Trouble>>,
}

/// A value and its true life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) value: Value,
    /// Just before the request was sent that first brought this value.
    pub(super) obtained: Moment,
    /// The life that it had then.
    pub(super) life: Duration,
    pub(super) end: End,
    /// The end that apps are told, where the daemon's own next call ends the value.
    pub(super) told: Option<End>,
    /// From before a restart, with nothing heard of it since.
    pub(super) is_restored: bool,
}

#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) error: Arc<LastError>,
    /// Failures in a row, for the pace.
    pub(super) failures: u32,
    /// Failures in a row for the same reason, for the log.
    pub(super) times: u32,
    /// The end of a block by the platform.
    pub(super) until: Option<End>,
}

impl Slot {
    pub(super) const fn new(name: ValueName, due: Moment) -> Self {
        Self {
            name,
            held: None,
            due,
            trouble: None,
        }
    }

    pub(super) fn is_valid(&self, now: Moment) -> bool {
        self.held.as_ref().is_some_and(|held| now < held.expires())
    }

    pub(super) fn is_expired(&self, now: Moment) -> bool {
        self.held.as_ref().is_some_and(|held| now >= held.expires())
    }

    /// True until an answer for it has come since the start.
    pub(super) fn is_untried(&self) -> bool {
        self.held.as_ref().is_none_or(|held| held.is_restored)
    }

    /// The end that apps are told, if it may be earlier than the true one.
    pub(super) fn told(&self) -> Option<End> {
        self.held.as_ref().and_then(|held| held.told)
    }

    /// Tells apps this end of the value that is held.
    pub(super) fn tell(&mut self, told: Option<End>) {
        if let Some(held) = &mut self.held {
            held.told = told;
        }
    }

    /// The life that is left; nothing if there never was a value.
    pub(super) fn left(&self, now: Moment) -> Option<Duration> {
        self.held.as_ref().map(|held| now.until(held.expires()))
    }

    /// Ends its trouble, and returns it.
    pub(super) fn recover(&mut self) -> Option<Arc<LastError>> {
        self.trouble.take().map(|trouble| trouble.error)
    }

    /// Notes a failure, and when to try again.
    pub(super) fn fail(&mut self, now: &Now, refusal: Refusal, rng: &mut fastrand::Rng) -> Outcome {
        let before = self.trouble.as_ref();
        let failures = before.map_or(0, |trouble| trouble.failures) + 1;
        let is_same =
            |t: &&Trouble| t.error.errcode == refusal.errcode && t.error.class == refusal.class;
        let times = before
            .map(AsRef::as_ref)
            .filter(is_same)
            .map_or(0, |t| t.times)
            + 1;
        self.due = pace::retry_at(refusal.class, failures, self.left(now.at), now, rng);
        let error = Arc::new(LastError::new(now.at, refusal));
        if let Some(held) = &mut self.held {
            held.is_restored = false;
        }
        let is_block = error.class.is_block();
        self.trouble = Some(Box::new(Trouble {
            until: is_block.then(|| End::of(self.due, now)),
            error: error.clone(),
            failures,
            times,
        }));
        Outcome::Failed {
            name: self.name,
            error,
            times,
        }
    }

    /// True while the platform itself said to wait.
    pub(super) fn is_blocked(&self, now: &Now) -> bool {
        let trouble = self.trouble.as_ref();
        self.due > now.at && trouble.is_some_and(|trouble| trouble.error.class.is_block())
    }
}

impl Held {
    /// A value that was just granted.
    pub(super) fn granted(value: Value, sent: &Now, life: Duration, now: &Now) -> Self {
        Self {
            value,
            obtained: sent.at,
            life,
            end: End::granted(sent.at + life, sent, now),
            told: None,
            is_restored: false,
        }
    }

    /// The same value was granted again: the moment it was first seen is kept, and its end is what the platform says now.
    pub(super) fn granted_again(self, sent: &Now, life: Duration, now: &Now) -> Self {
        let (expires, before) = (sent.at + life, self.expires());
        let is_unmoved = self.end.boot() == Some(before)
            && expires + EARLIER > before
            && expires <= before + LATER;
        Self {
            end: if is_unmoved {
                self.end
            } else {
                End::granted(expires, sent, now)
            },
            is_restored: false,
            ..self
        }
    }

    /// The true end.
    pub(super) const fn expires(&self) -> Moment {
        self.end.moment()
    }

    /// The value as apps are told of it: with its own end, or an earlier one.
    pub(super) fn grant(&self) -> Grant {
        let earlier = self.told.filter(|told| told.moment() < self.expires());
        let end = earlier.unwrap_or(self.end);
        Grant {
            value: self.value.clone(),
            obtained: self.obtained,
            expires: end.moment(),
            expires_unix: end.unix_millis(),
        }
    }
}

impl LastError {
    fn new(at: Moment, refusal: Refusal) -> Self {
        let Refusal {
            class,
            errcode,
            rid,
            message,
            hint,
        } = refusal;
        Self {
            at,
            class,
            errcode,
            rid,
            message,
            hint,
        }
    }
}
