//! The clocks of the operating system.

use crate::time::{Moment, Now};
use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// Reads both clocks: the one that counts suspend and never steps, and Unix time.
pub fn now() -> Now {
    Now {
        at: Moment::from_millis(millis(ClockId::Boottime)),
        unix_millis: millis(ClockId::Realtime),
    }
}

/// The time that the host has been suspended since it booted.
pub(crate) fn suspended() -> Duration {
    let millis = millis(ClockId::Boottime) - millis(ClockId::Monotonic);
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

fn millis(clock: ClockId) -> i64 {
    let time = clock_gettime(clock);
    time.tv_sec * 1000 + time.tv_nsec / 1_000_000
}
