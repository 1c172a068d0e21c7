//! Notices that a clock was set or the host slept.

use crate::clock;
use crate::time::Now;
use std::time::Duration;

/// A clock that moved by less has not been set, milliseconds.
const STEP_MILLIS: i64 = 2000;

/// A reading of the clocks, to tell later whether one was set or stood still.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clocks {
    now: Now,
    suspended: Duration,
}

impl Clocks {
    pub(super) fn read() -> Self {
        Self {
            now: clock::now(),
            suspended: clock::suspended(),
        }
    }

    /// True if the host slept, and if the wall clock was set, since an earlier look.
    pub(super) fn since(&self, before: Self) -> (bool, bool) {
        let slept = self.suspended.saturating_sub(before.suspended) >= Duration::from_secs(1);
        let offset = |now: &Now| now.unix_millis - now.at.as_millis();
        (
            slept,
            (offset(&self.now) - offset(&before.now)).abs() >= STEP_MILLIS,
        )
    }
}
