//! Limits on connections: some are kept for administrators, and the rest is shared fairly among uids.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// The connections that may be open at once. A uid may hold no more than it leaves free to others: one gets half of
/// them, the next a quarter, and so on, so that there is room for a newcomer whatever a few others do.
#[derive(Debug)]
pub(super) struct ConnectionSlots {
    total: usize,
    /// The number of them that only administrators get.
    reserved: usize,
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
    pub(super) fn new(total: usize, reserved: usize) -> Arc<Self> {
        Arc::new(Self {
            total,
            reserved,
            taken: Mutex::default(),
        })
    }

    /// A slot for one more connection of this uid, if there may be one.
    pub(super) fn take(self: &Arc<Self>, uid: u32, is_admin: bool) -> Option<ConnectionSlot> {
        let mut taken = self.taken.lock();
        let open_to_it = self.total - if is_admin { 0 } else { self.reserved };
        let free = open_to_it.saturating_sub(taken.total);
        let own = taken.by_uid.entry(uid).or_default();
        if *own >= free {
            if *own == 0 {
                taken.by_uid.remove(&uid);
            }
            return None;
        }
        *own += 1;
        taken.total += 1;
        Some(ConnectionSlot {
            slots: Arc::clone(self),
            uid,
        })
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let mut taken = self.slots.taken.lock();
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

    fn all(slots: &Arc<ConnectionSlots>, uid: u32, is_admin: bool) -> Vec<ConnectionSlot> {
        std::iter::from_fn(|| slots.take(uid, is_admin)).collect()
    }

    #[test]
    fn each_uid_leaves_as_many_as_it_holds() {
        let slots = ConnectionSlots::new(64, 0);
        let mut held: Vec<_> = (1..7).map(|uid| all(&slots, uid, false)).collect();
        let lengths: Vec<_> = held.iter().map(Vec::len).collect();
        assert_eq!(lengths, [32, 16, 8, 4, 2, 1]);
        assert!(slots.take(1, false).is_none());
        held[0].pop();
        assert!(slots.take(1, false).is_none());
        assert_eq!(all(&slots, 7, false).len(), 1);
        drop(held);
        let taken = slots.taken.lock();
        assert!(taken.total == 0 && taken.by_uid.is_empty());
    }

    #[test]
    fn reserved_slots_are_for_administrators() {
        let slots = ConnectionSlots::new(32, 8);
        let held: Vec<_> = (1..20).map(|uid| all(&slots, uid, false)).collect();
        assert_eq!(held.iter().map(Vec::len).sum::<usize>(), 24);
        assert_eq!(all(&slots, 0, true).len(), 4);
        let root: Vec<_> = all(&slots, 0, true);
        assert_eq!(root.len(), 4);
        assert_eq!(all(&slots, 1000, true).len(), 2);
        assert!(slots.take(20, false).is_none());
    }
}
