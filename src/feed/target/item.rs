//! One account of a target.

use crate::statement::unix_now;
use crate::wish::TargetWish;
use std::time::Duration;
use tokio::time::Instant;
use wxtokend::follow::Holding;

/// The first and the longest wait after a failure.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

/// The value that a target holds for one account.
pub(super) enum HeldValue {
    Unknown,
    /// The one that was written last; none after `on_none`.
    Known(Option<Holding>),
}

/// One account of a target: what is wanted, what is held, and how the writes went.
pub(super) struct Item {
    pub(super) wish: TargetWish,
    pub(super) held: HeldValue,
    pub(super) is_running: bool,
    pub(super) failures: u32,
    pub(super) retry_at: Option<Instant>,
    /// A write for it has ended, well or not.
    pub(super) was_tried: bool,
    pub(super) last_failure: Option<String>,
}

impl Item {
    pub(super) fn new(wish: TargetWish) -> Self {
        Self {
            wish,
            held: HeldValue::Unknown,
            is_running: false,
            failures: 0,
            retry_at: None,
            was_tried: false,
            last_failure: None,
        }
    }

    /// Tells whether the target was written as it is wanted now.
    pub(super) fn stands(&self) -> bool {
        let is_held = matches!(&self.held, HeldValue::Known(held) if *held == self.wish.holding);
        is_held && !self.is_running
    }
}

/// The wait after so many failures.
pub(super) fn back_off(failures: u32) -> Duration {
    let doubled = RETRY.0 * 2u32.saturating_pow(failures.clamp(1, 16) - 1);
    // Feeds of one database do not all come back in the same instant.
    doubled.min(RETRY.1).mul_f64(0.75 + fastrand::f64() / 4.0)
}

/// The rest of a value's life.
pub(super) fn life(holding: &Holding) -> Duration {
    Duration::from_secs(u64::try_from(holding.expire_time - unix_now()).unwrap_or(0))
}
