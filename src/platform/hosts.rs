//! The hosts of one platform, and which of them failed a moment ago.

use super::Platform;
use crate::config::Host;
use crate::time::Moment;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

/// The time for which a host that failed is asked last.
const AVOID: Duration = Duration::from_secs(60);

/// The hosts of one platform.
#[derive(Debug)]
pub(super) struct Hosts {
    pub(super) platform: &'static Platform,
    pub(super) list: Arc<[Host]>,
    /// The moment until which each is avoided, milliseconds since boot.
    avoid: Box<[AtomicI64]>,
    /// The one that served last.
    serving: AtomicUsize,
}

/// Another host serves than before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Switched {
    /// The host that serves now.
    pub host: Host,
    /// True if it is the preferred one.
    pub preferred: bool,
    /// The key of the hosts in `[platform]`.
    pub key: &'static str,
}

impl Hosts {
    pub(super) fn new(platform: &'static Platform, list: &Arc<[Host]>) -> Self {
        Self {
            platform,
            avoid: list.iter().map(|_| AtomicI64::new(i64::MIN)).collect(),
            list: list.clone(),
            serving: AtomicUsize::new(0),
        }
    }

    /// In order of preference, those that failed a moment ago last.
    pub(super) fn order(&self, now: Moment) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.list.len()).collect();
        order.sort_by_key(|at| self.avoid[*at].load(Ordering::Relaxed) > now.as_millis());
        order
    }

    /// Notes that a host failed.
    pub(super) fn on_failure(&self, at: usize, now: Moment) {
        self.avoid[at].store((now + AVOID).as_millis(), Ordering::Relaxed);
    }

    /// Notes that a host answered. Returns it if another one did before.
    pub(super) fn on_answer(&self, at: usize) -> Option<Switched> {
        self.avoid[at].store(i64::MIN, Ordering::Relaxed);
        let changed = self.serving.swap(at, Ordering::Relaxed) != at;
        changed.then(|| Switched {
            host: self.list[at].clone(),
            preferred: at == 0,
            key: self.platform.hosts_key,
        })
    }
}
