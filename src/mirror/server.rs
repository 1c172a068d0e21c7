//! Accepting connections over loopback and over the Unix socket. When there is no room, the longest idle one makes some.

use super::connection::serve;
use super::guest::{Guest, Sender};
use super::service::Service;
use crate::fault::reason;
use crate::local_stream::LocalStream;
use crate::logging::Entry;
use crate::peer::Peer;
use rustix::net::{SocketFlags, acceptfrom_with};
use rustix::process::{Resource, getrlimit};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep};

/// Connections at once of each listener, where the limit of open files allows that many.
const MAX_CONNECTIONS: usize = 4096;
/// An idle connection is closed after one to two of these: SDKs keep one for a minute or less.
const TICK: Duration = Duration::from_secs(45);
/// The pause when the host has no file or memory left for another connection.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// The kind of socket that apps connect to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peers {
    Tcp,
    Unix,
}

/// A place to accept connections at.
pub(super) struct MirrorDoor {
    socket: UnixStream,
    peers: Peers,
}

impl MirrorDoor {
    /// Of a listening socket that does not block. Needs the runtime of the mirror.
    pub(super) fn open(listener: &OwnedFd, peers: Peers) -> io::Result<Self> {
        // It knows how to wait for any socket, and this one only accepts.
        let socket = UnixStream::from_std(listener.try_clone()?.into())?;
        Ok(Self { socket, peers })
    }

    /// The next connection; nothing if it is gone again.
    async fn accept(&self) -> io::Result<Option<(OwnedFd, Sender)>> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let accept = || Ok(acceptfrom_with(&self.socket, flags)?);
        let (socket, from) = self.socket.async_io(Interest::READABLE, accept).await?;
        let who = match self.peers {
            Peers::Unix => Peer::of(&socket).ok().map(|peer| Sender::Uid(peer.uid)),
            Peers::Tcp => from
                .and_then(|from| SocketAddr::try_from(from).ok())
                .map(Sender::Address),
        };
        Ok(who.map(|who| (socket, who)))
    }
}

/// Serves the mirror at one place. Ends when dropped; connections end with it.
pub(super) async fn serve_at(door: MirrorDoor, service: Arc<Service>) {
    let mut guests = Guests::new(max_connections());
    let ticks = watch::Sender::new(());
    let mut clock = interval(TICK);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let accepted = tokio::select! {
            accepted = door.accept() => accepted,
            _ = clock.tick(), if guests.are_open() => {
                ticks.send_replace(());
                continue;
            }
        };
        match accepted {
            Ok(Some((socket, who))) => {
                if let Some(guest) = guests.admit(who) {
                    let (service, ticks) = (service.clone(), ticks.subscribe());
                    tokio::spawn(serve(LocalStream::new(socket), guest, service, ticks));
                }
            }
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                Entry::new().warn(format_args!(
                    "cannot accept a connection to the mirror: {}",
                    reason(&error)
                ));
                sleep(EXHAUSTED).await;
            }
        }
    }
}

/// The connections that are open, those that have been idle for longest first.
struct Guests {
    most: usize,
    open: Arc<AtomicUsize>,
    /// With what each had done when it was last looked at.
    queue: VecDeque<(Arc<Guest>, u32)>,
}

impl Guests {
    fn new(most: usize) -> Self {
        Self {
            most,
            open: Arc::default(),
            queue: VecDeque::new(),
        }
    }

    fn are_open(&self) -> bool {
        self.open.load(Ordering::Relaxed) > 0
    }

    /// Takes one more connection in, if there is room or can be made.
    fn admit(&mut self, who: Sender) -> Option<Arc<Guest>> {
        let open = self.open.load(Ordering::Relaxed);
        if self.queue.len() > 2 * open + 64 {
            self.queue.retain(|(guest, _)| !guest.is_gone());
        }
        if open >= self.most && !self.make_room() {
            return None;
        }
        let guest = Arc::new(Guest::new(who, self.open.clone()));
        self.queue.push_back((guest.clone(), guest.progress()));
        Some(guest)
    }

    /// Sends away the first that shows wrong keys or has done nothing since the last look.
    fn make_room(&mut self) -> bool {
        for _ in 0..self.queue.len() {
            let Some((guest, before)) = self.queue.pop_front() else {
                return false;
            };
            if guest.is_gone() {
                continue;
            }
            let progress = guest.progress();
            let is_idle = progress == before && progress.is_multiple_of(2);
            if is_idle || guest.shows_wrong_keys() {
                guest.send_away();
                return true;
            }
            self.queue.push_back((guest, progress));
        }
        false
    }
}

/// A quarter of the files that may be open: as many are left for the API, and half for everything else.
fn max_connections() -> usize {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    MAX_CONNECTIONS.min(usize::try_from(files / 4).unwrap_or(usize::MAX))
}
