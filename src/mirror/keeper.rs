//! Keeps the keys as their files are, and notes the tokens of the accounts that have some.

use super::keys::{KeyRing, KeyTrouble};
use super::tokens::{TokenMemory, token};
use crate::account::AccountName;
use crate::clock;
use crate::config::MirrorKey;
use crate::fault::reason;
use crate::handle::AccountHandles;
use crate::logging::Entry;
use crate::subscribe::Subscription;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};

/// The interval at which key files are read again: one that was missing may have been made.
const READ_EVERY: Duration = Duration::from_secs(30);
/// The longest wait of a reload for key files.
const READ_TIME: Duration = Duration::from_secs(5);

/// Told when the keys have been read.
type Done = oneshot::Sender<()>;

/// The keys that are configured, and those that are valid.
#[derive(Debug)]
pub(super) struct Keeper {
    configured: Arc<Mutex<Arc<[MirrorKey]>>>,
    keys: watch::Sender<Arc<KeyRing>>,
    orders: mpsc::UnboundedSender<Done>,
}

impl Keeper {
    /// No keys yet. The future keeps them as their files are; the mirror's thread runs it.
    pub(super) fn new(
        accounts: watch::Receiver<Arc<AccountHandles>>,
        subscription: Arc<Subscription>,
        tokens: Arc<TokenMemory>,
    ) -> (
        Self,
        watch::Receiver<Arc<KeyRing>>,
        impl Future<Output = ()> + Send + use<>,
    ) {
        let configured: Arc<Mutex<Arc<[MirrorKey]>>> = Arc::new(Mutex::new([].into()));
        let (keys, receiver) = watch::channel(Arc::new(KeyRing::default()));
        let (orders, ordered) = mpsc::unbounded_channel();
        let task = KeeperTask {
            configured: configured.clone(),
            keys: keys.clone(),
            said: Vec::new(),
            accounts,
            subscription,
            tokens,
        };
        let keeper = Self {
            configured,
            keys,
            orders,
        };
        (keeper, receiver, task.run(ordered))
    }

    /// Takes the keys away that are configured no more, at once.
    pub(super) fn withdraw(&self, configured: &[MirrorKey]) {
        // Under the lock: what is being read meanwhile is not put in after this.
        let mut before = self.configured.lock();
        self.keys.send_modify(|keys| {
            *keys = Arc::new(keys.without_withdrawn(configured, &before));
        });
        *before = configured.into();
    }

    /// Reads the keys that are configured. Waits until that is done, for a few seconds at most.
    pub(super) async fn configure(&self, configured: &[MirrorKey]) {
        self.withdraw(configured);
        let (done, read) = oneshot::channel();
        // Else the daemon is stopping.
        let _ = self.orders.send(done);
        let _ = timeout(READ_TIME, read).await;
    }
}

struct KeeperTask {
    configured: Arc<Mutex<Arc<[MirrorKey]>>>,
    keys: watch::Sender<Arc<KeyRing>>,
    /// The troubles that stand in the log.
    said: Vec<KeyTrouble>,
    accounts: watch::Receiver<Arc<AccountHandles>>,
    /// Tells which accounts have another token.
    subscription: Arc<Subscription>,
    tokens: Arc<TokenMemory>,
}

impl KeeperTask {
    async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Done>) {
        loop {
            let has_keys = !self.configured.lock().is_empty();
            let done = tokio::select! {
                order = orders.recv() => match order {
                    Some(done) => Some(done),
                    None => return,
                },
                () = self.subscription.arrived() => {
                    self.note(&self.subscription.take());
                    continue;
                }
                () = sleep(READ_EVERY), if has_keys => None,
            };
            self.read().await;
            let named = self.keys.borrow().accounts().cloned().collect();
            self.note(&named);
            if let Some(done) = done {
                // A reload that did not wait so long stands all the same.
                let _ = done.send(());
            }
        }
    }

    async fn read(&mut self) {
        let configured = self.configured.lock().clone();
        let files = configured.clone();
        // A thread for it alone: a disk that hangs delays the keys and nothing else.
        let (done, read) = oneshot::channel();
        let read_all = move || drop(done.send(KeyRing::read(&files)));
        let thread = thread::Builder::new().name("mirror-keys".to_owned());
        if let Err(error) = thread.spawn(read_all) {
            Entry::new().warn(format_args!(
                "the keys of the mirror cannot be read: {}",
                reason(&error)
            ));
            return;
        }
        let Ok((ring, troubles)) = read.await else {
            return;
        };
        let now = self.configured.lock();
        if !Arc::ptr_eq(&now, &configured) {
            // Another reload came between, and has ordered a look of its own.
            return;
        }
        self.keys.send_replace(Arc::new(ring));
        drop(now);
        for trouble in troubles.iter().filter(|new| !self.said.contains(new)) {
            Entry::of(&trouble.account).warn(&trouble.message);
        }
        if troubles.is_empty() && !self.said.is_empty() {
            Entry::new().info("the mirror can use all of its keys again");
        }
        self.said = troubles;
    }

    /// Notes the tokens that accounts with keys have now.
    fn note(&self, names: &BTreeSet<AccountName>) {
        let (keys, accounts) = (self.keys.borrow().clone(), self.accounts.borrow().clone());
        let now = clock::now().at;
        for name in names.iter().filter(|name| !keys.apps(name).is_empty()) {
            let snapshot = accounts.get(name).map(|handle| handle.snapshot.latest());
            if let Some(token) = snapshot.as_deref().and_then(token) {
                self.tokens.note(name, token, now);
            }
        }
    }
}
