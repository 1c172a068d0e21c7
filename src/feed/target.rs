//! One target: what is to stand in it, and when it is written, checked and tried again.

mod item;

use crate::config::Target;
use crate::deadline::within;
use crate::failure::Failure;
use crate::report::Reports;
use crate::wish::{TargetWish, WishChange};
use crate::writer::Writer;
use item::{HeldValue, Item, back_off, life};
use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use wxtokend::account::AccountName;
use wxtokend::event::Event;
use wxtokend::logging::Entry;

/// Writes of one target at one time.
const MAX_WRITES: usize = 4;
/// The time that writes have to end when the feed stops.
const STOP_GRACE: Duration = Duration::from_secs(3);

enum Ended {
    Write(TargetWish, Result<(), Failure>),
    Check(Vec<TargetWish>, Result<Vec<bool>, Failure>),
}

/// Keeps one target. Owns all that is known of it.
pub struct TargetTask {
    index: usize,
    target: Arc<Target>,
    writer: Writer,
    changes: UnboundedReceiver<WishChange>,
    reports: Reports,
    items: BTreeMap<AccountName, Item>,
    /// The accounts that may be due for a write.
    due: BTreeSet<AccountName>,
    /// The moments to look at an account again.
    timers: BTreeSet<(Instant, AccountName)>,
    running: JoinSet<Ended>,
    is_checking: bool,
    next_check: Option<Instant>,
    /// The server was away: nothing is tried before this.
    blocked_until: Option<Instant>,
    failures: u32,
    last_away: Option<String>,
}

impl TargetTask {
    /// A task for a target that was told of nothing yet.
    pub fn new(
        index: usize,
        target: Target,
        changes: UnboundedReceiver<WishChange>,
        reports: Reports,
    ) -> Self {
        Self {
            index,
            writer: Writer::new(&target),
            target: Arc::new(target),
            changes,
            reports,
            items: BTreeMap::new(),
            due: BTreeSet::new(),
            timers: BTreeSet::new(),
            running: JoinSet::new(),
            is_checking: false,
            next_check: None,
            blocked_until: None,
            failures: 0,
            last_away: None,
        }
    }

    /// Runs until its changes end.
    pub async fn run(mut self) {
        loop {
            let wake = self.next_wake();
            let wake = async {
                match wake {
                    Some(at) => sleep_until(at).await,
                    None => pending().await,
                }
            };
            let writer = self.writer.clone();
            tokio::select! {
                change = self.changes.recv() => match change {
                    Some(change) => self.on_change(change),
                    None => break,
                },
                Some(ended) = self.running.join_next() => match ended {
                    Ok(Ended::Write(wish, written)) => self.on_written(&wish, written),
                    Ok(Ended::Check(wishes, held)) => self.on_checked(&wishes, held),
                    Err(error) => std::panic::resume_unwind(error.into_panic()),
                },
                () = writer.disturbed() => self.next_check = self.next_check.map(|_| Instant::now()),
                () = wake => self.on_wake(),
            }
            self.start_check();
            self.start_writes();
            self.report();
        }
        // What was begun may end; the database rolls back the rest.
        let _ = timeout(STOP_GRACE, async {
            while self.running.join_next().await.is_some() {}
        })
        .await;
    }

    fn next_wake(&self) -> Option<Instant> {
        let timer = self.timers.first().map(|(at, _)| *at);
        let check = self
            .next_check
            .filter(|_| !self.is_checking && self.blocked_until.is_none());
        [timer, check, self.blocked_until]
            .into_iter()
            .flatten()
            .min()
    }

    fn on_wake(&mut self) {
        let now = Instant::now();
        self.blocked_until = self.blocked_until.filter(|at| *at > now);
        while let Some((at, _)) = self.timers.first()
            && *at <= now
            && let Some((_, account)) = self.timers.pop_first()
        {
            if let Some(item) = self.items.get_mut(&account) {
                // The daemon would have said so, were it there.
                if item
                    .wish
                    .holding
                    .as_ref()
                    .is_some_and(|holding| life(holding).is_zero())
                {
                    item.wish.holding = None;
                }
                self.due.insert(account);
            }
        }
    }

    fn on_change(&mut self, change: WishChange) {
        let mut wish = match change {
            WishChange::Wish(wish) => wish,
            WishChange::Forget(account) => {
                self.items.remove(&account);
                return;
            }
        };
        // One that ended on its way to us is none.
        wish.holding = wish.holding.filter(|holding| !life(holding).is_zero());
        if let Some(holding) = &wish.holding {
            self.timers
                .insert((Instant::now() + life(holding), wish.account.clone()));
        }
        let account = wish.account.clone();
        if let Some(item) = self.items.get_mut(&account) {
            if item.wish != wish {
                item.failures = 0;
                item.retry_at = None;
            }
            item.wish = wish;
        } else {
            self.items.insert(account.clone(), Item::new(wish));
        }
        self.due.insert(account);
        let check = !self.target.check_every.is_zero() && self.writer.can_check();
        if check && self.next_check.is_none() {
            self.next_check = Some(Instant::now() + self.target.check_every);
        }
    }

    fn needs_write(&self, item: &Item) -> bool {
        match (&item.wish.holding, &item.held) {
            (Some(new), HeldValue::Known(Some(old))) => self.writer.differ(old, new),
            (Some(_), _) => true,
            (None, HeldValue::Known(None)) => false,
            (None, _) => self.writer.acts_on_none(),
        }
    }

    fn start_writes(&mut self) {
        let now = Instant::now();
        if self.blocked_until.is_some_and(|until| until > now) {
            return;
        }
        // After a failure one write tries whether the server is back.
        let limit = if self.failures > 0 { 1 } else { MAX_WRITES };
        while self.running.len() < limit
            && let Some(account) = self.due.pop_first()
        {
            let Some(item) = self.items.get(&account) else {
                continue;
            };
            let waits = item.is_running || item.retry_at.is_some_and(|at| at > now);
            let needed = self.needs_write(item);
            let Some(item) = self.items.get_mut(&account) else {
                continue;
            };
            if waits {
                continue;
            }
            if !needed {
                item.was_tried = true;
                continue;
            }
            item.is_running = true;
            let (writer, wish, limit) =
                (self.writer.clone(), item.wish.clone(), self.target.timeout);
            self.running.spawn(async move {
                let written = within(limit, writer.write(&wish)).await;
                Ended::Write(wish, written)
            });
        }
    }

    fn on_written(&mut self, wish: &TargetWish, written: Result<(), Failure>) {
        let output = Path::new(&self.target.place).to_path_buf();
        let (name, place) = (self.target.name.clone(), self.target.place.clone());
        let entry = || Entry::of(&wish.account).output(&output);
        self.reports.count_write(self.index, written.is_ok());
        if !matches!(written, Err(Failure::Away(_))) {
            self.on_back();
        }
        let Some(item) = self.items.get_mut(&wish.account) else {
            return;
        };
        item.is_running = false;
        item.was_tried = true;
        match written {
            Ok(()) => {
                item.held = HeldValue::Known(wish.holding.clone());
                item.failures = 0;
                item.retry_at = None;
                match (&wish.holding, item.last_failure.take()) {
                    (_, Some(_)) => entry().event(Event::FeedRecovered).info(format_args!(
                        "{name} ({place}) holds what it is to hold again"
                    )),
                    (Some(holding), None) => entry().debug(format_args!(
                        "{name} ({place}) holds {} {}",
                        self.target.value,
                        holding.token.fingerprint()
                    )),
                    (None, None) => entry().debug(format_args!(
                        "{name} ({place}) was told that there is no value"
                    )),
                }
            }
            Err(Failure::Away(message)) => {
                item.held = HeldValue::Unknown;
                self.on_away(message);
            }
            Err(Failure::Refused(message)) => {
                item.held = HeldValue::Unknown;
                item.failures += 1;
                let wait = back_off(item.failures);
                item.retry_at = Some(Instant::now() + wait);
                self.timers
                    .insert((Instant::now() + wait, wish.account.clone()));
                entry()
                    .event(Event::FeedFailed)
                    .warn(format_args!("{name} ({place}) was not written: {message}"));
                item.last_failure = Some(message);
            }
        }
        self.due.insert(wish.account.clone());
    }

    fn start_check(&mut self) {
        let now = Instant::now();
        let is_due = self.next_check.is_some_and(|at| at <= now) && self.blocked_until.is_none();
        if !is_due || self.is_checking {
            return;
        }
        self.next_check = Some(now + self.target.check_every);
        let wishes: Vec<TargetWish> = self
            .items
            .values()
            .filter(|item| item.stands())
            .map(|item| item.wish.clone())
            .collect();
        if wishes.is_empty() {
            return;
        }
        self.is_checking = true;
        let (writer, limit) = (self.writer.clone(), self.target.timeout);
        self.running.spawn(async move {
            let held = writer.check(&wishes, limit).await;
            Ended::Check(wishes, held)
        });
    }

    fn on_checked(&mut self, wishes: &[TargetWish], held: Result<Vec<bool>, Failure>) {
        self.is_checking = false;
        let held = match held {
            Ok(held) => held,
            Err(Failure::Away(message)) => return self.on_away(message),
            Err(Failure::Refused(message)) => {
                Entry::new()
                    .output(Path::new(&self.target.place))
                    .event(Event::FeedFailed)
                    .warn(format_args!(
                        "{} ({}) cannot be checked: {message}",
                        self.target.name, self.target.place
                    ));
                return;
            }
        };
        self.on_back();
        for (wish, _) in wishes.iter().zip(held).filter(|(_, held)| !held) {
            let Some(item) = self.items.get_mut(&wish.account) else {
                continue;
            };
            // It may have been written meanwhile.
            if item.is_running || item.wish != *wish {
                continue;
            }
            item.held = HeldValue::Unknown;
            self.due.insert(wish.account.clone());
            self.reports.count_repair(self.index);
            Entry::of(&wish.account)
                .output(Path::new(&self.target.place))
                .event(Event::FeedRepaired)
                .warn(format_args!(
                    "{} ({}) held something else than {}: somebody else changed it; written again",
                    self.target.name, self.target.place, self.target.value
                ));
        }
    }

    fn on_away(&mut self, message: String) {
        self.failures += 1;
        self.blocked_until = Some(Instant::now() + back_off(self.failures));
        Entry::new()
            .output(Path::new(&self.target.place))
            .event(Event::FeedFailed)
            .warn(format_args!(
                "{} ({}) cannot be used: {message}",
                self.target.name, self.target.place
            ));
        self.last_away = Some(message);
    }

    fn on_back(&mut self) {
        self.failures = 0;
        self.blocked_until = None;
        if self.last_away.take().is_some() {
            Entry::new()
                .output(Path::new(&self.target.place))
                .event(Event::FeedRecovered)
                .info(format_args!(
                    "{} ({}) can be used again",
                    self.target.name, self.target.place
                ));
        }
    }

    fn report(&self) {
        let behind = self
            .items
            .values()
            .filter(|item| item.is_running || self.needs_write(item))
            .count();
        let untried = self.items.values().any(|item| !item.was_tried) && self.last_away.is_none();
        let failure = self.last_away.clone().or_else(|| {
            let failed = |(name, item): (&AccountName, &Item)| {
                Some(format!("{name}: {}", item.last_failure.as_ref()?))
            };
            self.items.iter().find_map(failed)
        });
        self.reports
            .set(self.index, self.items.len(), behind, untried, failure);
    }
}
