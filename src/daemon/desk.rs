//! The desk of an account: all that its task and the rest of the daemon share.

use crate::handle::{AccountHandle, SnapshotCell};
use crate::publish::Place;
use crate::time::Moment;
use parking_lot::{Mutex, MutexGuard};
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
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) handle: AccountHandle,
    pub(super) promise: Promise,
    /// The places of its outputs, for the watch over them.
    places: Mutex<Box<[Arc<Place>]>>,
}

impl Desk {
    /// Begins with a first snapshot.
    pub(super) fn new(snapshot: SnapshotCell) -> Arc<Self> {
        Arc::new(Self {
            handle: AccountHandle {
                snapshot: Arc::new(snapshot),
                inbox: Arc::default(),
                counters: Arc::default(),
            },
            promise: Promise::default(),
            places: Mutex::default(),
        })
    }

    /// The places of the outputs.
    pub(super) fn places(&self) -> MutexGuard<'_, Box<[Arc<Place>]>> {
        self.places.lock()
    }
}
