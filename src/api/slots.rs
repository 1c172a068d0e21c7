//! How many connections there may be, and how many of one user.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The connections that may be open at once. No uid gets more than half of them.
#[derive(Debug)]
pub(super) struct ConnectionSlots {
    total: usize,
    taken: Mutex<TakenSlots>,
}

#[derive(Debug, Default)]
struct TakenSlots {
    total: usize,
    by_uid: HashMap<u32, usize>,
}

/// Leave to hold one connection, until it is dropped.
#[derive(Debug)]
pub(super) struct ConnectionSlot {
    slots: Arc<ConnectionSlots>,
    uid: u32,
}

impl ConnectionSlots {
    pub(super) fn new(total: usize) -> Arc<Self> {
        Arc::new(Self {
            total,
            taken: Mutex::default(),
        })
    }

    /// Whether nobody holds any.
    pub(super) fn are_free(&self) -> bool {
        self.lock().total == 0
    }

    /// A slot for one more connection of this uid, if there may be one.
    pub(super) fn take(self: &Arc<Self>, uid: u32) -> Option<ConnectionSlot> {
        let mut taken = self.lock();
        if taken.total >= self.total {
            return None;
        }
        let own = taken.by_uid.entry(uid).or_default();
        if *own >= self.total / 2 {
            return None;
        }
        *own += 1;
        taken.total += 1;
        Some(ConnectionSlot {
            slots: Arc::clone(self),
            uid,
        })
    }

    fn lock(&self) -> MutexGuard<'_, TakenSlots> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let mut taken = self.slots.lock();
        taken.total -= 1;
        if let Some(own) = taken.by_uid.get_mut(&self.uid) {
            *own -= 1;
            if *own == 0 {
                taken.by_uid.remove(&self.uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_uid_gets_half_and_all_together_no_more_than_all() {
        let slots = ConnectionSlots::new(10);
        let mut first: Vec<_> = std::iter::from_fn(|| slots.take(1)).collect();
        assert_eq!(first.len(), 5);
        let second: Vec<_> = std::iter::from_fn(|| slots.take(2)).collect();
        assert_eq!(second.len(), 5);
        assert!(slots.take(3).is_none());
        first.pop();
        assert!(slots.take(2).is_none());
        assert!(slots.take(3).is_some(), "and dropped at once");
        assert!(slots.take(1).is_some());
        drop((first, second));
        assert!(slots.are_free() && slots.lock().by_uid.is_empty());
    }
}
