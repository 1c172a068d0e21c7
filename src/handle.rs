//! The link between an account's task and the rest of the daemon: commands go in, snapshots come out.

use crate::account::{Account, AccountName};
use crate::counters::Counters;
use crate::publish::socket::BoundSocket;
use crate::quota::{NoQuota, QuotaReport};
use crate::snapshot::{Snapshot, Verdict};
use crate::subscribe::Subscribers;
use crate::time::Moment;
use crate::value::{Value, ValueName};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::{Notify, oneshot};

/// Something that an account is asked to do. The account's own task does it.
#[derive(Debug)]
pub enum Command {
    /// Somebody doubts the token (passive refresh).
    Suspect {
        /// The token that failed; without it, the current one.
        bad: Option<Value>,
        /// True if an administrator asks, who may use `force_refresh`.
        admin: bool,
        /// The receiver of the verdict.
        reply: Option<oneshot::Sender<Verdict>>,
    },
    /// A value with at least so much life is wanted: try a refresh if the standing one has less.
    Renew {
        /// The value.
        value: ValueName,
        /// The moment until which it has to last.
        until: Moment,
        /// The receiver of the verdict: `Refreshed` or `StillValid` when the wish is met, else `Unavailable`.
        reply: oneshot::Sender<Verdict>,
    },
    /// The platform's own count is wanted.
    Quota {
        /// True if it is to be cleared first.
        clear: bool,
        /// True if it is asked for whatever calls are left.
        admin: bool,
        /// The receiver of the report.
        reply: oneshot::Sender<Result<Arc<QuotaReport>, NoQuota>>,
    },
    /// Somebody may have changed its files or sockets.
    Inspect,
    /// Unix time was set, or the daemon's clock stood still.
    ClockSet,
    /// The `[platform]` section changed: whatever failed may work now.
    PlatformChanged,
    /// Its configuration changed.
    Reconfigure(Box<Reconfigure>),
    /// It is to end.
    Stop {
        /// True if it is no longer configured, so that its outputs go too.
        remove_outputs: bool,
    },
}

/// A changed configuration of an account.
#[derive(Debug)]
pub struct Reconfigure {
    /// The new configuration.
    pub account: Arc<Account>,
    /// Sockets that are bound and wait to take their places, by index of the output.
    pub sockets: Vec<(usize, BoundSocket)>,
    /// Told when the outputs are as configured.
    pub done: oneshot::Sender<()>,
}

/// Commands on their way to an account's task. Much smaller than a channel, of which there would be thousands:
/// `tests/bench/daemon.rs` prints the memory of 10,000 accounts.
#[derive(Debug, Default)]
pub struct Inbox {
    requests: Mutex<Vec<Command>>,
    arrived: Notify,
}

impl Inbox {
    /// Puts a request in and wakes the account's task.
    pub fn send(&self, request: Command) {
        self.requests.lock().push(request);
        self.arrived.notify_one();
    }

    /// Wakes the account's task to look at everything anew.
    pub fn wake(&self) {
        self.arrived.notify_one();
    }

    /// Waits until something arrived or somebody woke the task.
    pub async fn arrived(&self) {
        self.arrived.notified().await;
    }

    /// Takes all requests out.
    pub fn take(&self) -> Vec<Command> {
        std::mem::take(&mut *self.requests.lock())
    }
}

/// The latest snapshot of an account. Much smaller than a watch channel, of which there would be thousands:
/// `tests/bench/daemon.rs` prints the memory of 10,000 accounts.
#[derive(Debug)]
pub struct SnapshotCell {
    latest: Mutex<Arc<Snapshot>>,
    changed: Notify,
    ended: AtomicBool,
    is_gone: AtomicBool,
    subscribers: Arc<Subscribers>,
}

impl SnapshotCell {
    /// Begins with a first snapshot. Tells the subscribers when the values or the readers change.
    pub fn new(snapshot: Snapshot, subscribers: Arc<Subscribers>) -> Self {
        Self {
            subscribers,
            latest: Mutex::new(Arc::new(snapshot)),
            changed: Notify::new(),
            ended: AtomicBool::new(false),
            is_gone: AtomicBool::new(false),
        }
    }

    /// The latest snapshot.
    pub fn latest(&self) -> Arc<Snapshot> {
        self.latest.lock().clone()
    }

    /// Replaces the snapshot and wakes whoever waits for another one.
    pub fn publish(&self, snapshot: Snapshot) {
        let snapshot = Arc::new(snapshot);
        let before = std::mem::replace(&mut *self.latest.lock(), snapshot.clone());
        self.changed.notify_waiters();
        if snapshot.shows_other_values_than(&before) {
            self.subscribers.tell(&snapshot.account.name);
        }
    }

    /// There will be no other snapshot: the account is gone, or the daemon stops.
    pub fn end(&self, is_gone: bool) {
        self.is_gone.store(is_gone, Ordering::Relaxed);
        self.ended.store(true, Ordering::Relaxed);
        self.changed.notify_waiters();
    }

    /// True if the account is gone.
    pub(crate) fn is_gone(&self) -> bool {
        self.is_gone.load(Ordering::Relaxed)
    }

    /// Waits for a snapshot that is as wanted, which the latest may be already. Nothing when the account ends before.
    pub async fn when(&self, wanted: impl Fn(&Arc<Snapshot>) -> bool) -> Option<Arc<Snapshot>> {
        loop {
            let mut changed = pin!(self.changed.notified());
            // Before the look, so that no change goes unseen between the two.
            changed.as_mut().enable();
            let latest = self.latest();
            if wanted(&latest) {
                return Some(latest);
            }
            if self.ended.load(Ordering::Relaxed) {
                return None;
            }
            changed.await;
        }
    }
}

/// One account, as the API and the metrics see it.
#[derive(Debug, Clone)]
pub struct AccountHandle {
    /// Its latest snapshot.
    pub snapshot: Arc<SnapshotCell>,
    /// A way to ask it for something.
    pub inbox: Arc<Inbox>,
    /// Its counts.
    pub counters: Arc<Counters>,
}

/// All accounts by name. Replaced as a whole by a reload.
pub type AccountHandles = BTreeMap<AccountName, AccountHandle>;
