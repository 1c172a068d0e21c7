//! A connection of an app, as the server and the service see it.

use super::keys::App;
use crate::account::AccountName;
use parking_lot::Mutex;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use tokio::sync::Notify;

/// The other end of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) enum Sender {
    /// Over loopback.
    Address(SocketAddr),
    /// Over the Unix socket.
    Uid(u32),
}

impl fmt::Display for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Uid(uid) => write!(f, "uid {uid}"),
        }
    }
}

/// An open connection, as far as others look at it.
pub(super) struct Guest {
    who: Sender,
    /// Odd while a request is being answered.
    progress: AtomicU32,
    /// It has shown a wrong key.
    guessing: AtomicBool,
    gone: AtomicBool,
    leave: Notify,
    /// The app whose key it showed last.
    app: Mutex<Option<Arc<App>>>,
    /// The number of open connections.
    open: Arc<AtomicUsize>,
}

impl Guest {
    pub(super) fn new(who: Sender, open: Arc<AtomicUsize>) -> Self {
        open.fetch_add(1, Ordering::Relaxed);
        Self {
            who,
            progress: AtomicU32::new(0),
            guessing: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            leave: Notify::new(),
            app: Mutex::new(None),
            open,
        }
    }

    pub(super) fn who(&self) -> Sender {
        self.who
    }

    pub(super) fn ip(&self) -> Option<IpAddr> {
        match self.who {
            Sender::Address(address) => Some(address.ip()),
            Sender::Uid(_) => None,
        }
    }

    /// Notes whose key it showed.
    pub(super) fn on_key(&self, app: &Arc<App>) {
        self.guessing.store(false, Ordering::Relaxed);
        *self.app.lock() = Some(app.clone());
    }

    /// The app whose key it showed last, if that is of this account.
    pub(super) fn app_of(&self, account: &AccountName) -> Option<Arc<App>> {
        let app = self.app.lock();
        app.clone().filter(|app| app.account == *account)
    }

    /// Notes that it showed a wrong key: when there is no room, it is the first to leave.
    pub(super) fn on_wrong_key(&self) {
        self.guessing.store(true, Ordering::Relaxed);
    }

    pub(super) fn shows_wrong_keys(&self) -> bool {
        self.guessing.load(Ordering::Relaxed)
    }

    /// A number that is odd while a request is being answered, and grows with each.
    pub(super) fn progress(&self) -> u32 {
        self.progress.load(Ordering::Relaxed)
    }

    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    /// Has it closed.
    pub(super) fn send_away(&self) {
        self.leave.notify_one();
    }

    /// Waits until it is to be closed.
    pub(super) async fn told_to_leave(&self) {
        self.leave.notified().await;
    }

    /// Notes that a request arrived.
    pub(super) fn begin_request(&self) {
        self.progress.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that a request is answered.
    pub(super) fn end_request(&self) {
        self.progress.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that the connection is closed.
    pub(super) fn on_closed(&self) {
        self.gone.store(true, Ordering::Relaxed);
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}
