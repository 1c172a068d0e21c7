//! Counts of one account, for metrics.

use crate::value::ValueName;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts of an account since the daemon started, for metrics. Small when nothing happened.
#[derive(Debug, Default)]
pub struct Counters {
    /// Values handed out over token sockets.
    pub socket_reads: AtomicU64,
    /// Values handed out over the API.
    pub api_reads: AtomicU64,
    /// Values handed out by the mirror.
    pub mirror_reads: AtomicU64,
    /// Tokens that somebody else ended early.
    pub superseded: AtomicU64,
    labelled: Mutex<Vec<(Counted, u64)>>,
    by_app: Mutex<Vec<AppReads>>,
}

/// The values that the mirror handed out to one app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppReads {
    /// The name that the app's key has.
    pub name: Arc<str>,
    /// The number of times it got each value, as in [`ValueName::ALL`].
    pub reads: [u64; ValueName::ALL.len()],
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
    /// A request that the mirror refused, by reason.
    MirrorRefusal(&'static str),
}

impl Counters {
    /// Counts so many more of something.
    pub fn count(&self, what: Counted, more: u64) {
        let mut counts = self.labelled.lock();
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
        self.labelled.lock().clone()
    }

    /// Counts a value that the mirror handed out to an app. Returns how often that app got this value before.
    pub(crate) fn count_mirror_read(&self, name: &Arc<str>, value: ValueName) -> u64 {
        let mut apps = self.by_app.lock();
        let known = apps.iter().position(|app| app.name == *name);
        let at = known.unwrap_or_else(|| {
            apps.push(AppReads {
                name: name.clone(),
                reads: Default::default(),
            });
            apps.len() - 1
        });
        let count = &mut apps[at].reads[value as usize];
        *count += 1;
        *count - 1
    }

    /// Values that the mirror handed out, for each app.
    pub(crate) fn app_reads(&self) -> Vec<AppReads> {
        self.by_app.lock().clone()
    }

    /// One more of `counter`.
    pub fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}
