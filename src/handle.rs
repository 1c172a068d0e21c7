//! What the rest of the daemon holds of one account: what it published last, and a way to ask it for something.

use crate::account::{Account, AccountName};
use crate::fault::Fault;
use crate::platform::errcode::Class;
use crate::publish::socket::Bound;
use crate::time::{Moment, Now};
use crate::value::{Grant, Value, ValueName};
use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, oneshot};

/// How an account is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// No attempt has ended yet.
    Starting,
    /// Every value is valid and nothing is wrong.
    Fresh,
    /// A valid access token stands, but the last attempt or an output failed.
    Degraded,
    /// No valid access token.
    Expired,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Starting, Self::Fresh, Self::Degraded, Self::Expired];

    /// The name as API and metrics spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Fresh => "fresh",
            Self::Degraded => "degraded",
            Self::Expired => "expired",
        }
    }
}

/// Why the last attempt failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastError {
    /// When it failed.
    pub at: Moment,
    /// What kind of trouble it is.
    pub class: Class,
    /// The platform's errcode, if it answered with one.
    pub errcode: Option<i64>,
    /// The platform's request id, if it gave one.
    pub rid: Option<String>,
    /// What happened, for people.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

/// How an output is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutputState {
    /// It holds the current value.
    Published,
    /// There is no valid value, and it holds none (a file kept by `on_expiry` may hold a dead one).
    Empty,
    /// It could not be written; what to do.
    Failed(Arc<str>),
}

/// What an account publishes of itself. Values are inside: never shown but to those who may have them.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Its configuration.
    pub account: Arc<Account>,
    /// How it is.
    pub state: State,
    /// The values that it has; an expired one may still be among them.
    pub grants: Box<[(ValueName, Grant)]>,
    /// When it calls the platform next.
    pub next_refresh: Option<Moment>,
    /// When a call for the access token last succeeded.
    pub last_success: Option<Moment>,
    /// Calls made in the platform's current day.
    pub calls_today: u32,
    /// The platform's day that `calls_today` counts.
    pub calls_day: i64,
    /// Why the last attempt failed, while it has not succeeded since.
    pub last_error: Option<Arc<LastError>>,
    /// As `account.outputs`, in the same order.
    pub outputs: Box<[OutputState]>,
}

impl Snapshot {
    /// The value that stands at `now`, if it is valid.
    pub fn valid(&self, value: ValueName, now: Moment) -> Option<&Grant> {
        self.grants
            .iter()
            .find(|(name, grant)| *name == value && grant.is_valid(now))
            .map(|(_, grant)| grant)
    }

    /// The state at `now`: a snapshot does not notice by itself that its value has expired.
    pub fn state_at(&self, now: Moment) -> State {
        match self.state {
            State::Fresh | State::Degraded if self.valid(ValueName::AccessToken, now).is_none() => {
                State::Expired
            }
            state => state,
        }
    }

    /// Whether it says the same as another one.
    pub fn is_like(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.account, &other.account)
            && self.state == other.state
            && self.grants == other.grants
            && self.next_refresh == other.next_refresh
            && self.last_success == other.last_success
            && (self.calls_today, self.calls_day) == (other.calls_today, other.calls_day)
            && self.last_error == other.last_error
            && self.outputs == other.outputs
    }

    /// Calls made today, by the platform's calendar.
    pub fn calls_today_at(&self, now: &Now) -> u32 {
        if self.calls_day == now.platform_day() {
            self.calls_today
        } else {
            0
        }
    }
}

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

/// How a request to look at the token ended.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// The token in question had been replaced already; the current one is in the snapshot.
    Superseded,
    /// The platform says that it still lives.
    StillValid,
    /// A new one stands.
    Refreshed,
    /// It was looked at too recently.
    TooSoon {
        /// Earliest moment at which asking again makes sense.
        retry_at: Moment,
    },
    /// No valid value could be had, or none with the life that was asked for.
    Unavailable {
        /// Earliest moment at which asking again makes sense.
        retry_at: Moment,
        /// Why.
        error: Option<Arc<LastError>>,
    },
}

/// Something that an account is asked to do. The account's own task does it.
#[derive(Debug)]
pub enum Request {
    /// Somebody doubts the token (passive refresh).
    Suspect {
        /// The token that failed; without it, the current one.
        bad: Option<Value>,
        /// Whether an administrator asks: may use `force_refresh`.
        admin: bool,
        /// Where the verdict goes.
        reply: Option<oneshot::Sender<Verdict>>,
    },
    /// A value with at least so much life is wanted: try a refresh if the standing one has less.
    Renew {
        /// Which value.
        value: ValueName,
        /// Until when it has to last.
        until: Moment,
        /// Where the verdict goes: `Refreshed` or `StillValid` when the wish is met, else `Unavailable`.
        reply: oneshot::Sender<Verdict>,
    },
    /// Somebody may have changed its files or sockets.
    Inspect,
    /// Its configuration changed.
    Reconfigure(Box<Reconfigure>),
    /// It is to end.
    Stop {
        /// Whether it is configured no more, so that its outputs go too.
        remove_outputs: bool,
    },
}

/// A changed configuration of an account.
#[derive(Debug)]
pub struct Reconfigure {
    /// What it is now.
    pub account: Arc<Account>,
    /// Sockets that are bound and wait to take their places, by index of the output.
    pub sockets: Vec<(usize, Bound)>,
    /// Told when the outputs are as configured.
    pub done: oneshot::Sender<()>,
}

/// Requests on their way to an account's task. Much smaller than a channel, of which there would be thousands.
#[derive(Debug, Default)]
pub struct Inbox {
    requests: Mutex<Vec<Request>>,
    arrived: Notify,
}

impl Inbox {
    /// Puts a request in and wakes the account's task.
    pub fn send(&self, request: Request) {
        self.requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(request);
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
    pub fn take(&self) -> Vec<Request> {
        std::mem::take(&mut *self.requests.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What an account published last. Much smaller than a watch channel, of which there would be thousands.
#[derive(Debug)]
pub struct Published {
    latest: Mutex<Arc<Snapshot>>,
    changed: Notify,
    ended: AtomicBool,
    is_gone: AtomicBool,
}

impl Published {
    /// Begins with a first snapshot.
    pub fn new(snapshot: Snapshot) -> Self {
        Self {
            latest: Mutex::new(Arc::new(snapshot)),
            changed: Notify::new(),
            ended: AtomicBool::new(false),
            is_gone: AtomicBool::new(false),
        }
    }

    /// The latest snapshot.
    pub fn latest(&self) -> Arc<Snapshot> {
        self.lock().clone()
    }

    /// Replaces the snapshot and wakes whoever waits for another one.
    pub fn publish(&self, snapshot: Snapshot) {
        *self.lock() = Arc::new(snapshot);
        self.changed.notify_waiters();
    }

    /// There will be no other snapshot: the account is gone, or the daemon stops.
    pub fn end(&self, is_gone: bool) {
        self.is_gone.store(is_gone, Ordering::Relaxed);
        self.ended.store(true, Ordering::Relaxed);
        self.changed.notify_waiters();
    }

    /// Whether the account is gone.
    pub fn is_gone(&self) -> bool {
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

    fn lock(&self) -> MutexGuard<'_, Arc<Snapshot>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One account, as the API and the metrics see it.
#[derive(Debug, Clone)]
pub struct Handle {
    /// What it published last; changes wake whoever waits.
    pub snapshot: Arc<Published>,
    /// A way to ask it for something.
    pub inbox: Arc<Inbox>,
    /// What it counted.
    pub counters: Arc<Counters>,
}

/// All accounts by name. Replaced as a whole by a reload.
pub type Directory = BTreeMap<AccountName, Handle>;

/// What a reload changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Changes {
    /// Accounts that are new.
    pub added: Vec<String>,
    /// Accounts whose configuration differs; they keep their values.
    pub changed: Vec<String>,
    /// Accounts that are gone, with their outputs.
    pub removed: Vec<String>,
    /// Accounts that noticed nothing.
    pub unchanged: Vec<String>,
}

/// How a reload ended: what it changed, or every fault that kept the old configuration running.
pub type Reloaded = Result<Changes, Vec<Fault>>;
