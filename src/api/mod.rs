//! The API: HTTP/1.1 and JSON over a Unix socket, and the metrics over TCP.
//!
//! A request goes through four hands: `server` bounds its connection and knows its peer, `route` reads what it asks
//! for, `service` decides whether the peer may have that and finds it, [`body`] is how it is put. Everything is
//! answered from the snapshots that the accounts publish; nothing here holds up an account.

mod asker;
pub mod body;
mod connection;
pub mod error;
mod families;
mod framing;
pub mod listener;
pub mod metrics;
mod progress;
mod quota;
mod response;
mod route;
mod server;
mod service;
mod slots;
mod token;
mod watch_body;
mod watch_line;

pub use listener::Listener;
pub use metrics::Metrics;
pub use server::{serve, serve_metrics};

use crate::account::Principal;
use crate::changes::Reloaded;
use crate::fault::Fault;
use crate::handle::AccountHandles;
use crate::subscribe::Subscribers;
use crate::time::Moment;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot, watch};

/// The state that the API answers from.
#[derive(Debug, Clone)]
pub struct ApiState {
    /// All accounts.
    pub accounts: watch::Receiver<Arc<AccountHandles>>,
    /// The users and groups that may see all accounts, refresh without a bad token, and reload.
    pub admins: watch::Receiver<Arc<[Principal]>>,
    /// The faults of the configuration on disk, if a reload rejected it; else none.
    pub rejected: watch::Receiver<Arc<[Fault]>>,
    /// Takes requests to reload the configuration.
    pub reload: mpsc::Sender<oneshot::Sender<Reloaded>>,
    /// The moment when the daemon started.
    pub started: Moment,
    /// Becomes true when the daemon stops: what was accepted is answered, and nothing more is accepted.
    pub stopping: watch::Receiver<bool>,
    /// Told when an account's values or readers change.
    pub subscribers: Arc<Subscribers>,
    /// Counts of the daemon as a whole.
    pub metrics: Arc<Metrics>,
}
