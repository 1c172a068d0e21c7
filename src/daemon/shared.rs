//! What the tasks of all accounts have in common.

use crate::account::Account;
use crate::api::metrics::Metrics;
use crate::ledger::{TicketLedger, TicketLedgers};
use crate::offload::Offload;
use crate::platform::client::Client;
use crate::publish::Server;
use crate::store::Store;
use crate::subscribe::Subscribers;
use crate::systemd::Notifier;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::{Notify, Semaphore, watch};

/// What the tasks of all accounts have in common.
pub(super) struct Shared {
    pub(super) store: Store,
    pub(super) notifier: Notifier,
    pub(super) offload: Offload,
    pub(super) client: watch::Receiver<Arc<Client>>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) server: Server,
    pub(super) runtime_dir: Arc<Path>,
    /// Held by a task while it does something.
    pub(super) turns: Semaphore,
    /// Told when an account's values or readers change.
    pub(super) subscribers: Arc<Subscribers>,
    /// Told when an account's state changes, for the status line.
    pub(super) changed: Arc<Notify>,
    pub(super) ledgers: TicketLedgers,
}

impl Shared {
    /// The calls for tickets that an account shares a limit on with others.
    pub(super) fn ledger(&self, account: &Account) -> Option<Arc<TicketLedger>> {
        let limit = account.terms.ticket_limits.id?;
        Some(self.ledgers.of(&account.id, limit))
    }
}
