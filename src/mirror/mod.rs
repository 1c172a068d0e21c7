//! The mirror: answers token and ticket calls as the platform does, from memory, for apps that can change a base URL and
//! nothing else. Each app shows a key that was made for it in the place of the AppSecret.
//!
//! It runs in a thread of its own, so that no flood of requests delays the daemon. A request goes through three hands:
//! `server` makes room for its connection, `request` reads it, `service` answers it from what the accounts published.

mod connection;
mod guest;
mod keeper;
mod keys;
mod life;
mod request;
mod server;
mod service;
mod tokens;

pub use life::{MarginRange, expires_in};
#[cfg(any(test, fuzzing))]
pub(crate) use request::AppCall;

use crate::config::MirrorKey;
use crate::fault::reason;
use crate::handle::AccountHandles;
use crate::logging::Entry;
use crate::platform::Platforms;
use crate::subscribe::Subscribers;
use keeper::Keeper;
use server::{MirrorDoor, Peers, serve_at};
use service::Service;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread;
use tokens::TokenMemory;
use tokio::runtime::Builder;
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// The listening sockets of the mirror; they do not block.
#[derive(Debug, Clone, Default)]
pub struct MirrorSockets {
    /// On a loopback address.
    pub tcp: Option<Arc<OwnedFd>>,
    /// A Unix socket.
    pub unix: Option<Arc<OwnedFd>>,
}

/// The mirror, which runs in a thread of its own until the process ends.
#[derive(Debug)]
pub struct Mirror {
    sockets: watch::Sender<MirrorSockets>,
    keeper: Keeper,
}

impl Mirror {
    /// Starts the thread. It answers for `accounts`, as they are after each reload, in the place of these platforms.
    pub fn start(
        platforms: Platforms,
        accounts: watch::Receiver<Arc<AccountHandles>>,
        subscribers: &Subscribers,
    ) -> io::Result<Self> {
        let (sockets, sockets_receiver) = watch::channel(MirrorSockets::default());
        let tokens = Arc::new(TokenMemory::default());
        let (keeper, keys, keep) =
            Keeper::new(accounts.clone(), subscribers.subscribe(), tokens.clone());
        let service = Arc::new(Service {
            accounts,
            keys,
            tokens,
            platforms,
        });
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let run = move || {
            runtime.spawn(keep);
            runtime.block_on(serve(sockets_receiver, service));
        };
        thread::Builder::new()
            .name("mirror".to_owned())
            .spawn(run)?;
        Ok(Self { sockets, keeper })
    }

    /// Accepts connections on these sockets, and no more on those before.
    pub(crate) fn listen_on(&self, sockets: MirrorSockets) {
        self.sockets.send_replace(sockets);
    }

    /// Takes the keys away that are configured no more, at once.
    pub(crate) fn withdraw(&self, configured: &[MirrorKey]) {
        self.keeper.withdraw(configured);
    }

    /// Reads the keys that are configured. Waits until that is done, for a few seconds at most.
    pub async fn configure(&self, configured: &[MirrorKey]) {
        self.keeper.configure(configured).await;
    }
}

/// Serves the sockets, and each that replaces one. Ends with the daemon.
async fn serve(mut sockets: watch::Receiver<MirrorSockets>, service: Arc<Service>) {
    let (mut tcp, mut unix) = (None, None);
    loop {
        let wanted = sockets.borrow_and_update().clone();
        replace(&mut tcp, wanted.tcp, Peers::Tcp, &service);
        replace(&mut unix, wanted.unix, Peers::Unix, &service);
        if sockets.changed().await.is_err() {
            return;
        }
    }
}

/// Serves a socket in the place of the one before, unless they are the same.
fn replace(
    serving: &mut Option<(Arc<OwnedFd>, AbortHandle)>,
    wanted: Option<Arc<OwnedFd>>,
    peers: Peers,
    service: &Arc<Service>,
) {
    let served = serving.as_ref().map(|(socket, _)| Arc::as_ptr(socket));
    if served == wanted.as_ref().map(Arc::as_ptr) {
        return;
    }
    if let Some((_, task)) = serving.take() {
        task.abort();
    }
    let Some(socket) = wanted else { return };
    match MirrorDoor::open(&socket, peers) {
        Ok(door) => {
            let task = tokio::spawn(serve_at(door, service.clone()));
            *serving = Some((socket, task.abort_handle()));
        }
        Err(error) => Entry::new().error(format_args!(
            "the mirror cannot serve its socket: {}",
            reason(&error)
        )),
    }
}
