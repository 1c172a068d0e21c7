//! The engine of a fleet, in memory: the keys of one account, leases, and one revision for all. Times are true Unix milliseconds.

use super::platform::SECOND;
use std::collections::BTreeMap;
use wxtokend::schedule::Record;

/// The life of a lease that nobody keeps.
pub(crate) const LEASE: i64 = 6 * SECOND;

/// The host that leads, and the key that says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct YearLeader {
    pub(crate) host: usize,
    pub(crate) term: YearTerm,
}

/// The time for which a host leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct YearTerm {
    pub(crate) fence: i64,
    pub(crate) lease: i64,
}

/// A record as the hosts share it.
#[derive(Debug, Clone)]
pub(crate) struct SharedRecord {
    pub(crate) revision: i64,
    pub(crate) record: Record,
    /// Until when a call of whoever wrote it may last.
    pub(crate) call_until: Option<i64>,
}

/// All keys, as the engine has them or as a host has last seen them.
#[derive(Debug, Clone, Default)]
pub(crate) struct EngineKeys {
    pub(crate) leader: Option<YearLeader>,
    pub(crate) record: Option<SharedRecord>,
    pub(crate) orphan: Option<Record>,
}

/// A write.
#[derive(Debug, Clone)]
pub(crate) enum YearWrite {
    /// The record, while the term lasts.
    Record {
        term: YearTerm,
        record: Record,
        call_until: Option<i64>,
        drop_orphan: bool,
    },
    /// An answer that came too late.
    Orphan(Record),
    /// Gives up leading.
    Resign(YearTerm),
}

#[derive(Default)]
pub(crate) struct YearEngine {
    pub(crate) keys: EngineKeys,
    revision: i64,
    /// Leases, and since when nobody keeps them alive.
    leases: BTreeMap<i64, Option<i64>>,
    last_lease: i64,
}

impl YearEngine {
    pub(crate) fn grant(&mut self) -> i64 {
        self.last_lease += 1;
        self.leases.insert(self.last_lease, None);
        self.last_lease
    }

    /// A host keeps its lease alive. Returns false if it is gone.
    pub(crate) fn keep(&mut self, lease: i64) -> bool {
        let kept = self.leases.get_mut(&lease);
        kept.map(|since| *since = None).is_some()
    }

    /// Nobody keeps a lease since then.
    pub(crate) fn neglect(&mut self, lease: i64, since: i64) {
        if let Some(neglected) = self.leases.get_mut(&lease) {
            neglected.get_or_insert(since);
        }
    }

    /// The engine was away: no lease ends for that. Returns all that live on.
    pub(crate) fn extend_all(&mut self, now: i64) -> Vec<i64> {
        self.leases
            .values_mut()
            .for_each(|since| *since = Some(now));
        self.leases.keys().copied().collect()
    }

    /// Ends a lease that nobody has kept for long enough. Returns true if a leader went with it.
    pub(crate) fn end_if_due(&mut self, lease: i64, now: i64) -> bool {
        let since = self.leases.get(&lease).copied().flatten();
        since.is_some_and(|since| since + LEASE <= now) && self.revoke(lease)
    }

    pub(crate) fn revoke(&mut self, lease: i64) -> bool {
        self.leases.remove(&lease);
        let is_led = self
            .keys
            .leader
            .is_some_and(|leader| leader.term.lease == lease);
        if is_led {
            self.revision += 1;
            self.keys.leader = None;
        }
        is_led
    }

    /// Leads if nobody does.
    pub(crate) fn campaign(&mut self, host: usize, lease: i64) -> bool {
        if self.keys.leader.is_some() || !self.leases.contains_key(&lease) {
            return false;
        }
        self.revision += 1;
        let term = YearTerm {
            fence: self.revision,
            lease,
        };
        self.keys.leader = Some(YearLeader { host, term });
        true
    }

    /// Does a write. Returns false if its host does not lead.
    pub(crate) fn write(&mut self, write: YearWrite) -> bool {
        let is_led = |term: YearTerm| self.keys.leader.is_some_and(|leader| leader.term == term);
        match write {
            YearWrite::Record {
                term,
                record,
                call_until,
                drop_orphan,
            } => {
                if !is_led(term) {
                    return false;
                }
                self.revision += 1;
                self.keys.record = Some(SharedRecord {
                    revision: self.revision,
                    record,
                    call_until,
                });
                if drop_orphan {
                    self.keys.orphan = None;
                }
            }
            YearWrite::Orphan(record) => self.keys.orphan = Some(record),
            YearWrite::Resign(term) => {
                if !is_led(term) {
                    return false;
                }
                self.keys.leader = None;
            }
        }
        self.revision += 1;
        true
    }

    /// Loses all that it stored. Revisions begin anew, as in a new cluster.
    pub(crate) fn lose_everything(&mut self) {
        *self = Self {
            last_lease: self.last_lease,
            ..Self::default()
        };
    }
}
