//! The queue of runs of the command: when each begins, and for which value.

use super::command::{self, HookRun};
use crate::account::AccountName;
use crate::cli::client::complain;
use crate::follow::{Holding, Subject};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::ffi::OsString;
use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// Runs at one time, all accounts together.
const MAX_RUNS: usize = 64;
/// The first and the longest wait after a failed run.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// The command, and how it stands with each value.
pub(super) struct Runs {
    command: Arc<[OsString]>,
    limit: Duration,
    on_none: bool,
    entries: HashMap<Subject, RunEntry>,
    /// The values that wait for their turn.
    queue: VecDeque<Subject>,
    /// Moments to look at an entry again: to retry, or because its value ends.
    timers: BinaryHeap<Reverse<(Instant, Subject)>>,
    running: JoinSet<(Subject, Result<(), String>)>,
    stopping: watch::Sender<bool>,
    /// Entries whose first run has not ended.
    untried: usize,
}

#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a question of its own"
)]
struct RunEntry {
    appid: Box<str>,
    /// The value that stands.
    holding: Option<Holding>,
    /// A run is due for it.
    due: bool,
    running: bool,
    queued: bool,
    failures: u32,
    last_failure: String,
    retry_at: Option<Instant>,
    /// Its first run has not ended.
    first: bool,
}

/// Waits for the next thing that happens to the runs, and acts on it. Safe to cancel.
pub(super) async fn progress(runs: Option<&mut Runs>) {
    match runs {
        Some(runs) => runs.progress().await,
        None => pending().await,
    }
}

impl Runs {
    pub(super) fn new(command: Vec<OsString>, limit: Duration, on_none: bool) -> Self {
        Self {
            command: command.into(),
            limit,
            on_none,
            entries: HashMap::new(),
            queue: VecDeque::new(),
            timers: BinaryHeap::new(),
            running: JoinSet::new(),
            stopping: watch::channel(false).0,
            untried: 0,
        }
    }

    /// Returns whether the command has run once for all that was told of.
    pub(super) fn first_runs_ended(&self) -> bool {
        self.untried == 0
    }

    /// A value changed, or is told of for the first time.
    pub(super) fn on_value(
        &mut self,
        subject: &Subject,
        appid: Box<str>,
        holding: Option<Holding>,
    ) {
        // One that ended on its way to us is none.
        let holding = holding.filter(|holding| left(holding).is_some());
        let wants_run = holding.is_some() || self.on_none;
        if let Some(left) = holding.as_ref().and_then(left) {
            let end = Reverse((Instant::now() + left, subject.clone()));
            self.timers.push(end);
        }
        let entry = self.entries.entry(subject.clone()).or_insert_with(|| {
            self.untried += usize::from(wants_run);
            RunEntry {
                appid: appid.clone(),
                holding: None,
                due: wants_run,
                running: false,
                queued: false,
                failures: 0,
                last_failure: String::new(),
                retry_at: None,
                first: wants_run,
            }
        });
        let token =
            |holding: &Option<Holding>| holding.as_ref().map(|holding| holding.token.clone());
        let changed = token(&entry.holding) != token(&holding);
        entry.appid = appid;
        entry.holding = holding;
        if changed {
            entry.due = wants_run;
            entry.failures = 0;
            entry.retry_at = None;
            if !wants_run && !entry.running {
                // No command runs for it until there is a value again.
                self.untried -= usize::from(std::mem::take(&mut entry.first));
            }
        }
        self.enqueue(subject);
    }

    /// An account went.
    pub(super) fn on_gone(&mut self, account: &AccountName) {
        let gone = |subject: &Subject| subject.account == *account;
        let subjects: Vec<_> = self
            .entries
            .keys()
            .filter(|key| gone(key))
            .cloned()
            .collect();
        for subject in subjects {
            let appid = self.entries[&subject].appid.clone();
            self.on_value(&subject, appid, None);
        }
        self.forget(account);
    }

    /// Drops the entries of an account for which nothing runs and nothing will.
    fn forget(&mut self, account: &AccountName) {
        let idle = |entry: &RunEntry| !entry.running && !entry.due && entry.holding.is_none();
        (self.entries).retain(|subject, entry| subject.account != *account || !idle(entry));
    }

    fn enqueue(&mut self, subject: &Subject) {
        let Some(entry) = self.entries.get_mut(subject) else {
            return;
        };
        let waits = entry.retry_at.is_some_and(|at| at > Instant::now());
        if entry.due && !entry.running && !entry.queued && !waits {
            entry.queued = true;
            self.queue.push_back(subject.clone());
        }
        self.start();
    }

    fn start(&mut self) {
        while self.running.len() < MAX_RUNS
            && let Some(subject) = self.queue.pop_front()
        {
            let Some(entry) = self.entries.get_mut(&subject) else {
                continue;
            };
            entry.queued = false;
            if !entry.due || entry.running {
                continue;
            }
            entry.due = false;
            entry.running = true;
            let job = HookRun {
                subject: subject.clone(),
                appid: entry.appid.clone(),
                holding: entry.holding.clone(),
            };
            let (command, limit) = (Arc::clone(&self.command), self.limit);
            let mut stopping = self.stopping.subscribe();
            self.running.spawn(async move {
                let ended = command::run(&command, &job, limit, &mut stopping).await;
                (subject, ended)
            });
        }
    }

    async fn progress(&mut self) {
        let timer = self.timers.peek().map(|Reverse((at, _))| *at);
        let timer = async {
            match timer {
                Some(at) => sleep_until(at).await,
                None => pending().await,
            }
        };
        tokio::select! {
            Some(ended) = self.running.join_next() => match ended {
                Ok((subject, ended)) => self.on_ended(&subject, ended),
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            },
            () = timer => self.on_timer(),
        }
    }

    fn on_timer(&mut self) {
        let Some(Reverse((_, subject))) = self.timers.pop() else {
            return;
        };
        let Some(entry) = self.entries.get(&subject) else {
            return;
        };
        match &entry.holding {
            // The daemon would have said so, were it there.
            Some(holding) if left(holding).is_none() => {
                let appid = entry.appid.clone();
                self.on_value(&subject, appid, None);
            }
            _ => self.enqueue(&subject),
        }
    }

    fn on_ended(&mut self, subject: &Subject, ended: Result<(), String>) {
        let Some(entry) = self.entries.get_mut(subject) else {
            return;
        };
        entry.running = false;
        self.untried -= usize::from(std::mem::take(&mut entry.first));
        match ended {
            Ok(()) => {
                if entry.failures > 0 {
                    complain(&format!(
                        "wxtokend: {}: COMMAND succeeded again",
                        named(subject)
                    ));
                }
                entry.failures = 0;
            }
            // A newer value is due: that run is the next attempt.
            Err(failure) if entry.due => complain_of(subject, &failure, None),
            Err(failure) if entry.holding.is_some() || self.on_none => {
                entry.failures += 1;
                let doubled = RETRY.0 * 2u32.saturating_pow(entry.failures.min(16) - 1);
                let wait = doubled.min(RETRY.1);
                if entry.failures.is_power_of_two() || failure != entry.last_failure {
                    complain_of(subject, &failure, Some(wait));
                }
                entry.last_failure = failure;
                entry.due = true;
                let at = Instant::now() + wait;
                entry.retry_at = Some(at);
                self.timers.push(Reverse((at, subject.clone())));
            }
            Err(failure) => complain_of(subject, &failure, None),
        }
        self.enqueue(subject);
        self.start();
    }

    /// Stops what runs: SIGTERM, and SIGKILL after a grace.
    pub(super) async fn stop(mut self) {
        self.stopping.send_replace(true);
        while self.running.join_next().await.is_some() {}
    }
}

fn named(subject: &Subject) -> String {
    format!("{} {}", subject.account, subject.value)
}

fn complain_of(subject: &Subject, failure: &str, wait: Option<Duration>) {
    let next = wait.map_or_else(String::new, |wait| format!("; next attempt in {wait:?}"));
    complain(&format!("wxtokend: {}: {failure}{next}", named(subject)));
}

/// The rest of a value's life; `None` when it has ended.
fn left(holding: &Holding) -> Option<Duration> {
    let end = Duration::from_secs(u64::try_from(holding.expire_time).unwrap_or(0));
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .ok()?;
    end.checked_sub(now).filter(|left| !left.is_zero())
}
