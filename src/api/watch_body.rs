//! `GET /v1/watch`: the values of many accounts as they change, one JSON object a line.

use super::ApiState;
use super::asker::{Asker, find};
use super::error::{ApiError, Reason};
use super::progress::Busy;
use super::route::WatchWish;
use super::watch_line::{GoneLine, HeartbeatLine, SyncedLine, ValueLine, write_line};
use crate::account::{AccountName, Principal};
use crate::clock;
use crate::counters::Counters;
use crate::handle::AccountHandles;
use crate::local_stream::LocalSocket;
use crate::subscribe::Subscription;
use crate::time::Now;
use crate::value::{Fingerprint, Grant, ValueName};
use hyper::body::{Body, Bytes, Frame};
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// Time between two heartbeats.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(30);
/// Size from which a chunk is sent before more lines are written, bytes.
const CHUNK_SIZE: usize = 16 * 1024;
/// The smallest change of a published end that is worth a line, seconds. Smaller ones are the clock being slewed.
const MIN_END_CHANGE: u64 = 2;

/// The next chunk of the body, and who makes the one after it.
type NextChunk = Pin<Box<dyn Future<Output = Option<(Bytes, Watcher)>> + Send>>;

/// The body of the answer. It holds at most one chunk, and what was last sent of each value.
pub(super) struct WatchBody {
    next: NextChunk,
    /// Completes when the follower has gone.
    gone: Pin<Box<dyn Future<Output = ()> + Send>>,
    busy: Option<Busy>,
}

impl WatchBody {
    /// Begins to follow the accounts of the wish. Fails if one that is named is not there for the peer.
    pub(super) fn start(
        state: &Arc<ApiState>,
        asker: &Arc<Asker>,
        wish: WatchWish,
    ) -> Result<Self, ApiError> {
        for name in &wish.accounts {
            let handle = find(state, asker, name)?;
            let account = &handle.snapshot.latest().account;
            if !account.values().any(|value| wish.wants(value)) {
                return Err(ApiError::new(
                    Reason::NoSuchValue,
                    format!("the account `{name}` keeps none of these values"),
                    "an administrator adds tickets to the account's `tickets`",
                ));
            }
        }
        let watcher = Watcher::new(state.clone(), asker.clone(), wish);
        Ok(Self {
            next: Box::pin(watcher.next()),
            gone: Box::pin(pending()),
            busy: None,
        })
    }

    /// Ends with the follower's connection. Until then it is being answered: a follower waits as long as it likes.
    pub(super) fn hold(&mut self, busy: Busy, socket: Arc<LocalSocket>) {
        self.busy = Some(busy);
        self.gone = Box::pin(async move { socket.closed().await });
    }
}

impl Body for WatchBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Poll::Ready(next) = self.next.as_mut().poll(context) else {
            return self.gone.as_mut().poll(context).map(|()| None);
        };
        Poll::Ready(next.map(|(chunk, watcher)| {
            self.next = Box::pin(watcher.next());
            Ok(Frame::data(chunk))
        }))
    }
}

/// One follower, and what it was last sent.
struct Watcher {
    state: Arc<ApiState>,
    asker: Arc<Asker>,
    wish: WatchWish,
    accounts: watch::Receiver<Arc<AccountHandles>>,
    admins: watch::Receiver<Arc<[Principal]>>,
    stopping: watch::Receiver<bool>,
    subscription: Arc<Subscription>,
    sent: BTreeMap<AccountName, Vec<(ValueName, Option<SentValue>)>>,
    /// Accounts to be compared with what was sent.
    pending: BTreeSet<AccountName>,
    is_synced: bool,
    heartbeat_at: Instant,
}

/// A value as it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct SentValue {
    fingerprint: Fingerprint,
    expire_time: i64,
}

impl SentValue {
    fn of(grant: &Grant) -> Self {
        Self {
            fingerprint: grant.value.fingerprint(),
            expire_time: grant.expire_time(),
        }
    }

    /// True if the second needs no line after the first.
    fn are_alike(sent: Option<Self>, current: Option<Self>) -> bool {
        match (sent, current) {
            (Some(sent), Some(current)) => {
                sent.fingerprint == current.fingerprint
                    && sent.expire_time.abs_diff(current.expire_time) < MIN_END_CHANGE
            }
            (sent, current) => sent.is_none() && current.is_none(),
        }
    }
}

impl Watcher {
    fn new(state: Arc<ApiState>, asker: Arc<Asker>, wish: WatchWish) -> Self {
        let mut watcher = Self {
            accounts: state.accounts.clone(),
            admins: state.admins.clone(),
            stopping: state.stopping.clone(),
            // Before the first look, so that no change goes unseen.
            subscription: state.subscribers.subscribe(),
            sent: BTreeMap::new(),
            pending: BTreeSet::new(),
            is_synced: false,
            heartbeat_at: Instant::now() + HEARTBEAT_INTERVAL,
            state,
            asker,
            wish,
        };
        watcher.check_all();
        watcher
    }

    /// Waits for lines. None when the daemon stops.
    async fn next(mut self) -> Option<(Bytes, Self)> {
        let mut lines = Vec::new();
        loop {
            self.write_changes(&mut lines);
            if !lines.is_empty() {
                return Some((lines.into(), self));
            }
            self.wait(&mut lines).await?;
        }
    }

    /// Writes what changed, as much as fits into a chunk.
    fn write_changes(&mut self, lines: &mut Vec<u8>) {
        let changed = self.subscription.take().into_iter();
        self.pending
            .extend(changed.filter(|name| self.wish.names(name)));
        let now = clock::now();
        while lines.len() < CHUNK_SIZE {
            let Some(name) = self.pending.pop_first() else {
                if !self.is_synced {
                    self.is_synced = true;
                    write_line(lines, &SyncedLine { synced: true });
                }
                return;
            };
            self.write_account(lines, &name, &now);
        }
    }

    /// Writes what differs between an account and what was sent of it.
    fn write_account(&mut self, lines: &mut Vec<u8>, name: &AccountName, now: &Now) {
        let before = self.sent.remove(name);
        let handle = self.accounts.borrow().get(name).cloned();
        let visible = handle
            .map(|handle| (handle.snapshot.latest(), handle))
            .filter(|(snapshot, _)| self.asker.may_read(&snapshot.account, &self.state));
        let Some((snapshot, handle)) = visible else {
            if before.is_some() {
                write_line(lines, &GoneLine::of(name));
            }
            return;
        };
        let mut before = before.unwrap_or_default();
        let mut sent = Vec::new();
        for value in snapshot.account.values() {
            if !self.wish.wants(value) {
                continue;
            }
            let grant = snapshot.valid(value, now.at);
            let mut current = grant.map(SentValue::of);
            let was = before.iter().position(|(other, _)| *other == value);
            match was.map(|at| before.swap_remove(at).1) {
                // Kept as it was sent, so that many small changes of the end become one that is told.
                Some(was) if SentValue::are_alike(was, current) => current = was,
                _ => {
                    if grant.is_some() {
                        Counters::add(&handle.counters.api_reads);
                    }
                    write_line(lines, &ValueLine::of(&snapshot, value, grant));
                }
            }
            sent.push((value, current));
        }
        // Tickets that are no longer configured.
        for (value, _) in before.into_iter().filter(|(_, was)| was.is_some()) {
            write_line(lines, &ValueLine::of(&snapshot, value, None));
        }
        sent.shrink_to_fit();
        self.sent.insert(name.clone(), sent);
    }

    /// Waits until there may be something to write, or a heartbeat is due. None when the daemon stops.
    async fn wait(&mut self, lines: &mut Vec<u8>) -> Option<()> {
        tokio::select! {
            () = self.subscription.arrived() => {}
            changed = self.accounts.changed() => {
                changed.ok()?;
                self.check_all();
            }
            changed = self.admins.changed() => {
                changed.ok()?;
                self.check_all();
            }
            () = is_true(&mut self.stopping) => return None,
            () = sleep_until(self.heartbeat_at) => {
                self.heartbeat_at = Instant::now() + HEARTBEAT_INTERVAL;
                let now = clock::now();
                write_line(lines, &HeartbeatLine { heartbeat: now.unix(now.at) });
            }
        }
        Some(())
    }

    /// Has every account compared with what was sent of it.
    fn check_all(&mut self) {
        let accounts = self.accounts.borrow_and_update();
        self.admins.mark_unchanged();
        self.pending.extend(self.sent.keys().cloned());
        if self.wish.accounts.is_empty() {
            self.pending.extend(accounts.keys().cloned());
        } else {
            self.pending.extend(self.wish.accounts.iter().cloned());
        }
    }
}

/// Waits until a flag is set, or nobody is left to set it.
async fn is_true(flag: &mut watch::Receiver<bool>) {
    let _ = flag.wait_for(|set| *set).await;
}
