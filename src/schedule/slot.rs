//! One value of an account on its way round: granted, due, granted again or in trouble.

use super::Outcome;
use crate::backoff;
use crate::handle::LastError;
use crate::platform::errcode::Class;
use crate::platform::response::Refusal;
use crate::time::{Moment, Now};
use crate::value::{Grant, Value, ValueName};
use std::sync::Arc;
use std::time::Duration;

/// A value's expiry that moves later by no more than this has not moved: the platform rounds to seconds.
const ROUNDING: Duration = Duration::from_secs(2);

/// One value on its way round: granted, due, granted again.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) name: ValueName,
    pub(super) grant: Option<Grant>,
    pub(super) due: Moment,
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
            trouble: None,
        }
    }

    pub(super) fn fail(
        &mut self,
        now: &Now,
        refusal: Refusal,
        left: Duration,
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
    pub(super) fn blocked(&self, now: &Now) -> bool {
        let waits = |class| matches!(class, Class::TimedBlock(_) | Class::DailyQuota);
        self.due > now.at
            && self
                .trouble
                .as_ref()
                .is_some_and(|trouble| waits(trouble.error.class))
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
            let unmoved = expires > before.expires && expires <= before.expires + ROUNDING;
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
