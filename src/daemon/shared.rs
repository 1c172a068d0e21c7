//! The parts of the daemon that the tasks of all accounts share.

use crate::account::{Account, SecretSource};
use crate::api::metrics::Metrics;
use crate::fleet::Fleet;
use crate::ledger::{TicketLedger, TicketLedgers};
use crate::offload::{Device, Hazard, Lane, Offload};
use crate::platform::client::Client;
use crate::publish::expiry::Expiry;
use crate::publish::{Directories, SocketServer};
use crate::store::Store;
use crate::subscribe::Subscribers;
use crate::systemd::Notifier;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::{Notify, Semaphore, watch};

/// The parts of the daemon that the tasks of all accounts share.
pub(super) struct Shared {
    pub(super) store: Store,
    pub(super) notifier: Notifier,
    pub(super) offload: Offload,
    pub(super) client: watch::Receiver<Arc<Client>>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) server: SocketServer,
    pub(super) directories: Arc<Directories>,
    pub(super) expiry: Expiry,
    /// Held by a task while it does something.
    pub(super) turns: Semaphore,
    /// Told when an account's values or readers change.
    pub(super) subscribers: Arc<Subscribers>,
    /// Told when an account's state changes, for the status line.
    pub(super) changed: Arc<Notify>,
    pub(super) ledgers: TicketLedgers,
    /// The fleet that this host is a member of.
    pub(super) fleet: Option<Fleet>,
}

impl Shared {
    /// The calls for tickets that an account shares a limit on with others.
    pub(super) fn ledger(&self, account: &Account) -> Option<Arc<TicketLedger>> {
        let limit = account.terms.ticket_limits.id?;
        Some(self.ledgers.of(&account.id, limit))
    }

    /// The lane for work on an output at a path.
    pub(super) fn outputs_at(&self, path: &Path) -> Lane {
        let device = self.directories.device_of(path);
        self.offload.lane(Hazard::Outputs(device))
    }

    /// The lane for work in the state directory.
    pub(super) fn state(&self) -> Lane {
        self.offload.lane(Hazard::State)
    }

    /// The lane for reading the secret of an account.
    pub(super) fn secrets(&self, account: &Account) -> Lane {
        let device = match &account.secret {
            SecretSource::File(path) => self.directories.device_of(path),
            SecretSource::Inline(_) | SecretSource::Absent => Device::default(),
        };
        self.offload.lane(Hazard::Secrets(device))
    }
}
