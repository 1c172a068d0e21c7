//! The desk of an account: all that its task and the rest of the daemon share.

use super::outputs::OutputPlaces;
use crate::counters::Counters;
use crate::handle::Inbox;
use crate::time::Moment;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// The promise of a task to show up again, by which the supervisor tells whether it hangs.
#[derive(Debug, Default)]
pub(super) struct Promise(AtomicI64);

impl Promise {
    pub(super) fn make(&self, until: Moment) {
        self.0.store(until.as_millis(), Ordering::Relaxed);
    }

    /// Returns whether the task should have shown up long before `now`.
    pub(super) fn is_broken(&self, now: Moment, grace: Duration) -> bool {
        Moment::from_millis(self.0.load(Ordering::Relaxed)) + grace < now
    }
}

/// All that the task of an account and the rest of the daemon share.
#[derive(Debug, Clone, Default)]
pub(super) struct Desk {
    pub(super) inbox: Arc<Inbox>,
    pub(super) counters: Arc<Counters>,
    pub(super) promise: Arc<Promise>,
    pub(super) places: OutputPlaces,
}
