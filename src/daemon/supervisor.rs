//! Starts, changes and stops the tasks of accounts, and keeps an eye on them.

use super::desk::Desk;
use super::outputs::Sockets;
use super::prepare::{self, Change, Prepared};
use super::shared::Shared;
use super::worker::Worker;
use crate::account::{Account, AccountName};
use crate::changes::Changes;
use crate::clock;
use crate::event::Event;
use crate::handle::{AccountHandles, Command, Reconfigure};
use crate::logging::Entry;
use crate::offload::Hazard;
use crate::publish::Place;
use crate::schedule::{Part, Schedule};
use crate::store::Kept;
use crate::time::Now;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::error::Elapsed;
use tokio::time::timeout;

/// A task that is so late has hung.
const GRACE: Duration = Duration::from_secs(30);
/// Longest wait of a reload for outputs to be as configured.
const SETTLE: Duration = Duration::from_secs(3);
/// Limit on reading the state directory.
const LOAD_LIMIT: Duration = Duration::from_secs(5);

/// Accounts that are started at a time; then it is the turn of others.
const BATCH: usize = 32;

/// The accounts of a configuration.
pub(super) type Accounts = BTreeMap<AccountName, Arc<Account>>;

/// Owns the tasks of all accounts.
pub(super) struct Supervisor {
    shared: Arc<Shared>,
    running: BTreeMap<AccountName, RunningAccount>,
    directory: watch::Sender<Arc<AccountHandles>>,
}

struct RunningAccount {
    account: Arc<Account>,
    desk: Arc<Desk>,
    task: JoinHandle<()>,
}

impl Supervisor {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let (directory, _) = watch::channel(Arc::default());
        Self {
            shared,
            running: BTreeMap::new(),
            directory,
        }
    }

    /// All accounts, now and after each reload.
    pub(super) fn directory(&self) -> watch::Receiver<Arc<AccountHandles>> {
        self.directory.subscribe()
    }

    /// The accounts as they are served at present.
    pub(super) fn accounts(&self) -> Accounts {
        let running = self.running.iter();
        running
            .map(|(name, running)| (name.clone(), running.account.clone()))
            .collect()
    }

    /// The accounts that are new or changed, and how they are served at present.
    pub(super) fn changed(serving: &Accounts, accounts: &Accounts) -> Vec<Change> {
        let changes = accounts
            .iter()
            .map(|(name, account)| (account.clone(), serving.get(name).cloned()));
        changes
            .filter(|(account, serving)| serving.as_ref() != Some(account))
            .collect()
    }

    /// Makes the accounts those of a configuration: stops, changes and starts tasks. Unchanged ones notice nothing.
    /// `unready` is held by each new task until it has published a value or tried once.
    pub(super) async fn apply(
        &mut self,
        accounts: &Accounts,
        mut prepared: Prepared,
        unready: &mpsc::Sender<()>,
    ) -> Changes {
        let mut changes = Changes::default();
        self.stop_gone(accounts, &mut changes).await;
        let mut settling = Vec::new();
        let mut new = Vec::new();
        for (name, account) in accounts {
            let sockets = prepared.remove(name).unwrap_or_default();
            match self.running.get_mut(name) {
                Some(running) if running.account == *account => {
                    changes.unchanged.push(name.to_string());
                }
                Some(running) => {
                    changes.changed.push(name.to_string());
                    running.account = account.clone();
                    let (done, settled) = oneshot::channel();
                    let reconfigure = Reconfigure {
                        account: account.clone(),
                        sockets,
                        done,
                    };
                    running
                        .desk
                        .handle
                        .inbox
                        .send(Command::Reconfigure(Box::new(reconfigure)));
                    settling.push(settled);
                }
                None => {
                    changes.added.push(name.to_string());
                    new.push((account.clone(), sockets));
                }
            }
        }
        self.start(new, unready).await;
        let _ = settle(settling, SETTLE).await;
        let directory = self
            .running
            .iter()
            .map(|(name, running)| (name.clone(), running.desk.handle.clone()))
            .collect();
        self.directory.send_replace(Arc::new(directory));
        changes
    }

    /// Stops the tasks of accounts that are configured no more.
    async fn stop_gone(&mut self, accounts: &Accounts, changes: &mut Changes) {
        let running = std::mem::take(&mut self.running);
        let (stay, gone): (BTreeMap<_, _>, BTreeMap<_, _>) = running
            .into_iter()
            .partition(|(name, _)| accounts.contains_key(name));
        self.running = stay;
        let mut endings = Vec::new();
        for (name, running) in gone {
            changes.removed.push(name.to_string());
            if let Some(fleet) = &self.shared.fleet {
                fleet.unseat(&name);
            }
            running.desk.handle.inbox.send(Command::Stop {
                remove_outputs: true,
            });
            endings.push(running.task);
        }
        // Their paths may be those of others now. One that hangs must not hold up the others; the watchdog sees it.
        let _ = settle(endings, SETTLE).await;
    }

    /// Starts tasks from what was kept of their accounts.
    async fn start(&mut self, accounts: Vec<(Arc<Account>, Sockets)>, unready: &mpsc::Sender<()>) {
        if accounts.is_empty() {
            return;
        }
        let store = self.shared.store.clone();
        let state = self.shared.offload.lane(Hazard::State);
        let load = state.run(move || store.load(&clock::now()));
        let all = accounts.iter().map(|(account, _)| account.clone());
        let (kept, mut vacant) = tokio::join!(
            timeout(LOAD_LIMIT, load),
            prepare::vacant(all.collect::<Vec<_>>(), &self.shared)
        );
        let kept = match kept {
            Ok(Ok(kept)) => kept,
            // The daemon stops.
            Ok(Err(_)) => return,
            Err(_) => Err(self.shared.store.does_not_answer()),
        };
        let kept = kept.inspect_err(|error| {
            Entry::new()
                .event(Event::StateDamaged)
                .warn(format_args!("{error}; each account fetches a token anew"));
        });
        let kept = kept.ok();
        if let Some(aside) = kept.as_ref().and_then(Kept::damaged) {
            let what = if kept.as_ref().is_some_and(Kept::is_of_later_version) {
                "what a later version of wxtokend stored cannot be read"
            } else {
                "what was stored cannot be read as a whole"
            };
            Entry::new().event(Event::StateDamaged).warn(format_args!(
                "{what} and is set aside as `{}`; what is missing is fetched anew, nothing to do here",
                aside.display()
            ));
        }
        for (number, (account, sockets)) in accounts.into_iter().enumerate() {
            let (now, rng) = (clock::now(), fastrand::Rng::new());
            let record = kept
                .as_ref()
                .and_then(|kept| kept.record(&account.name, &now));
            let part = match self.shared.fleet {
                Some(_) => Part::Follows,
                None => Part::Alone,
            };
            let mut schedule = match record {
                Some(record) => Schedule::restored(account.clone(), record, &now, rng, part),
                None => Schedule::new(account.clone(), &now, rng),
            };
            schedule.share(self.shared.ledger(&account));
            schedule.set_part(part, &now);
            let vacant = vacant.remove(&account.name).unwrap_or_default();
            let (shared, unready) = (self.shared.clone(), unready.clone());
            let (mut worker, desk) = Worker::new(shared, schedule, sockets, &vacant, unready);
            let running = RunningAccount {
                account: account.clone(),
                desk,
                task: tokio::spawn(async move { worker.run().await }),
            };
            self.running.insert(account.name.clone(), running);
            // The first ones begin while others are read, and nobody waits for thousands.
            if number % BATCH == BATCH - 1 {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Tells every task that Unix time was set, or the daemon's clock stood still.
    pub(super) fn on_clock_set(&self) {
        for running in self.running.values() {
            running.desk.handle.inbox.send(Command::ClockSet);
        }
    }

    /// Tells every task that the `[platform]` section changed.
    pub(super) fn on_platform_changed(&self) {
        for running in self.running.values() {
            running.desk.handle.inbox.send(Command::PlatformChanged);
        }
    }

    /// Has every task look at everything anew: the host slept.
    pub(super) fn wake_all(&self) {
        self.running
            .values()
            .for_each(|running| running.desk.handle.inbox.wake());
    }

    /// Has every account looked at, as when an administrator suspects it: nobody else may send the signal for it.
    pub(super) fn suspect_all(&self) {
        for running in self.running.values() {
            running.desk.handle.inbox.send(Command::Suspect {
                bad: None,
                admin: true,
                reply: None,
            });
        }
    }

    /// Has an account look at its outputs.
    pub(super) fn inspect(&self, name: &AccountName) {
        if let Some(running) = self.running.get(name) {
            running.desk.handle.inbox.send(Command::Inspect);
        }
    }

    /// The places of all outputs.
    pub(super) fn places(&self) -> Vec<Arc<Place>> {
        let lists = self.running.values();
        lists
            .flat_map(|running| running.desk.places().to_vec())
            .collect()
    }

    /// A task that has hung, if there is one.
    pub(super) fn hung(&self, now: &Now) -> Option<&AccountName> {
        let hung = self
            .running
            .iter()
            .find(|(_, running)| running.desk.promise.is_broken(now.at, GRACE));
        hung.map(|(name, _)| name)
    }

    /// Stops all tasks; files stay. What has not ended when `patience` is over is dropped.
    pub(super) async fn stop(self, patience: Duration) {
        for running in self.running.values() {
            running.desk.handle.inbox.send(Command::Stop {
                remove_outputs: false,
            });
        }
        let tasks = self.running.into_values().map(|running| running.task);
        if settle(tasks, patience).await.is_err() {
            Entry::new().warn("not all accounts came to an end in time; what they were writing is written anew at the next start");
        }
    }
}

/// The number of file descriptors that the sockets of a configuration need.
pub(super) fn sockets(accounts: &Accounts) -> usize {
    let outputs = accounts.values().flat_map(|account| account.outputs.iter());
    outputs.filter(|output| output.kind.listens()).count()
}

/// Waits for all of them, so long at most.
async fn settle<W: IntoFuture>(
    waits: impl IntoIterator<Item = W>,
    patience: Duration,
) -> Result<(), Elapsed> {
    let all = async {
        for wait in waits {
            // A task that ended has settled too.
            let _ = wait.await;
        }
    };
    timeout(patience, all).await
}
