//! Counts of one account, for metrics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Counts of an account since the daemon started, for metrics. Small when nothing happened.
#[derive(Debug, Default)]
pub struct Counters {
    /// Values handed out over token sockets.
    pub socket_reads: AtomicU64,
    /// Values handed out over the API.
    pub api_reads: AtomicU64,
    /// Tokens that somebody else ended early.
    pub superseded: AtomicU64,
    labelled: Mutex<Vec<(Counted, u64)>>,
}

/// Something that is counted apart from others of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Counted {
    /// A call, by endpoint and result (`ok`, `refused`, `failed`).
    Call(&'static str, &'static str),
    /// A refusal, by errcode.
    Refusal(i64),
    /// A passive refresh, by outcome.
    PassiveRefresh(&'static str),
    /// A failed write, by index of the output.
    OutputError(usize),
    /// A repair of a foreign change, by index of the output.
    OutputRepair(usize),
}

impl Counters {
    /// Counts so many more of something.
    pub fn count(&self, what: Counted, more: u64) {
        let mut counts = self.labelled();
        match counts.binary_search_by_key(&what, |(counted, _)| *counted) {
            Ok(at) => counts[at].1 += more,
            Err(at) => {
                // Most accounts count one thing only, and there are thousands of them.
                counts.reserve_exact(1);
                counts.insert(at, (what, more));
            }
        }
    }

    /// All that was counted apart, in order.
    pub fn counts(&self) -> Vec<(Counted, u64)> {
        self.labelled().clone()
    }

    fn labelled(&self) -> MutexGuard<'_, Vec<(Counted, u64)>> {
        self.labelled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more of `counter`.
    pub fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}
