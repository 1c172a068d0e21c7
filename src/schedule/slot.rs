//! One value of an account on its way round: granted, due, granted again or in trouble.

use super::{Outcome, SPARING};
use crate::backoff;
use crate::call::Refusal;
use crate::time::{Moment, Now};
use crate::trouble::Class;
use crate::trouble::LastError;
use crate::value::{Grant, Value, ValueName};
use std::sync::Arc;
use std::time::Duration;

/// A value's expiry that moves by no more than this has not moved: the platform cuts off parts of a second of what is left,
/// so that each answer tells of a moment a little too early, the first one (of the whole life) of the right one.
const EARLIER: Duration = Duration::from_secs(1);
const LATER: Duration = Duration::from_secs(2);

/// So many failures in a row are a hiccup, for which there is room in any quota.
const HICCUP: u32 = 10;
/// The quota of tickets is small: after a hiccup one is tried the less often the longer its trouble lasts, by so much for
/// each failure, up to 5 minutes.
const TICKET_PAUSE: Duration = Duration::from_secs(6);

/// One value on its way round: granted, due, granted again.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) name: ValueName,
    pub(super) grant: Option<Grant>,
    pub(super) due: Moment,
    /// Whether it is from before a restart, and nothing was heard of it since.
    pub(super) restored: bool,
    pub(super) trouble: Option<Box<Trouble>>,
}

#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) error: Arc<LastError>,
    /// Failures in a row, for the back-off.
    pub(super) failures: u32,
    /// Failures in a row for the same reason, for the log.
    pub(super) times: u32,
}

impl Slot {
    pub(super) fn new(name: ValueName, due: Moment) -> Self {
        Self {
            name,
            grant: None,
            due,
            restored: false,
            trouble: None,
        }
    }

    /// Ends its trouble, and says which it was.
    pub(super) fn recover(&mut self) -> Option<Arc<LastError>> {
        self.restored = false;
        self.trouble.take().map(|trouble| trouble.error)
    }

    pub(super) fn fail(
        &mut self,
        now: &Now,
        refusal: Refusal,
        left: Duration,
        sparing: bool,
        rng: &mut fastrand::Rng,
    ) -> Outcome {
        let (failures, mut times) = self
            .trouble
            .as_ref()
            .map_or((0, 0), |trouble| (trouble.failures, trouble.times));
        if self
            .trouble
            .as_ref()
            .is_some_and(|t| t.error.errcode != refusal.errcode || t.error.class != refusal.class)
        {
            times = 0;
        }
        let error = Arc::new(LastError::new(now.at, refusal));
        self.due = backoff::retry_at(error.class, failures + 1, left, now, rng);
        if failures >= HICCUP {
            let pause = match self.name {
                _ if sparing => SPARING,
                ValueName::AccessToken => Duration::ZERO,
                _ => TICKET_PAUSE * failures.min(50),
            };
            self.due = self.due.max(now.at + pause);
        }
        self.restored = false;
        self.trouble = Some(Box::new(Trouble {
            error: error.clone(),
            failures: failures + 1,
            times: times + 1,
        }));
        Outcome::Failed {
            name: self.name,
            error,
            times: times + 1,
        }
    }

    pub(super) fn expired(&self, now: Moment) -> bool {
        self.grant
            .as_ref()
            .is_some_and(|grant| !grant.is_valid(now))
    }

    /// Whether the platform itself said to wait.
    pub(super) fn is_blocked(&self, now: &Now) -> bool {
        self.is_banned(now) || self.waits_for(now, |class| class == Class::DailyQuota)
    }

    /// Whether the platform refuses for a fixed time, whoever asks and for whatever reason.
    pub(super) fn is_banned(&self, now: &Now) -> bool {
        self.waits_for(now, |class| matches!(class, Class::TimedBlock(_)))
    }

    fn waits_for(&self, now: &Now, what: impl Fn(Class) -> bool) -> bool {
        let trouble = self.trouble.as_ref();
        self.due > now.at && trouble.is_some_and(|trouble| what(trouble.error.class))
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

/// The grant after an answer: the first-seen moment of a value is kept, its expiry is what the platform says now.
pub(super) fn renewed(before: Option<Grant>, value: Value, sent: Moment, life: Duration) -> Grant {
    let expires = sent + life;
    match before {
        Some(before) if before.value == value => {
            let unmoved = expires + EARLIER > before.expires && expires <= before.expires + LATER;
            Grant {
                expires: if unmoved { before.expires } else { expires },
                ..before
            }
        }
        _ => Grant {
            value,
            obtained: sent,
            expires,
        },
    }
}
