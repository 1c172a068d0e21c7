//! Serves all token sockets from one thread of its own: a read waits for nothing else that the daemon does.

use super::linger::{Linger, Served};
use super::place::Place;
use crate::clock;
use crate::counters::Counters;
use crate::fault::reason;
use crate::format::Rendered;
use crate::logging::Entry;
use crate::peer::Peer;
use parking_lot::Mutex;
use prometheus::IntCounter;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::io::{Errno, write};
use rustix::net::{SendFlags, Shutdown, SocketFlags, accept_with, send, shutdown};
use rustix::process::geteuid;
use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// Pause when there are no file descriptors left.
const SHORTAGE: Duration = Duration::from_millis(100);
/// The key of the descriptor that tells the thread to end.
const STOP: u64 = 0;

/// The thread that serves token sockets. It ends when this is dropped.
#[derive(Debug)]
pub struct SocketServer(Arc<ServerShared>);

/// The state that the thread and the sockets share.
#[derive(Debug)]
pub(super) struct ServerShared {
    epoll: OwnedFd,
    stop: OwnedFd,
    sockets: Mutex<HashMap<u64, Arc<Serving>>>,
    next_key: AtomicU64,
    denied: IntCounter,
}

impl SocketServer {
    /// Starts the thread. `denied` counts connections that get nothing because their user is no reader. Fails when the
    /// system is short of something.
    pub fn start(denied: IntCounter) -> io::Result<Self> {
        let shared = Arc::new(ServerShared {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            stop: eventfd(0, EventfdFlags::CLOEXEC)?,
            sockets: Mutex::default(),
            next_key: AtomicU64::new(STOP + 1),
            denied,
        });
        let data = EventData::new_u64(STOP);
        epoll::add(&shared.epoll, &shared.stop, data, EventFlags::IN)?;
        let thread = Arc::clone(&shared);
        thread::Builder::new()
            .name("sockets".into())
            .spawn(move || thread.run())?;
        Ok(Self(shared))
    }

    pub(super) fn shared(&self) -> &Arc<ServerShared> {
        &self.0
    }
}

impl Drop for SocketServer {
    fn drop(&mut self) {
        let _ = write(&self.0.stop, &1_u64.to_ne_bytes());
    }
}

impl ServerShared {
    /// Serves a socket from now on. Gives the key to stop it with.
    pub(super) fn add(&self, serving: Arc<Serving>) -> Result<u64, Errno> {
        let key = self.next_key.fetch_add(1, Ordering::Relaxed);
        let data = EventData::new_u64(key);
        epoll::add(&self.epoll, &serving.listener, data, EventFlags::IN)?;
        self.sockets.lock().insert(key, serving);
        Ok(key)
    }

    /// No longer serves a socket.
    pub(super) fn remove(&self, key: u64) {
        if let Some(serving) = self.sockets.lock().remove(&key) {
            // Closing it would not do: systemd may have a copy.
            let _ = epoll::delete(&self.epoll, &serving.listener);
        }
    }

    /// Serves one connection that waits on a socket that was removed. False if there is none.
    pub(super) fn serve_waiting(&self, serving: &Serving) -> bool {
        accept(serving).is_ok_and(|connection| {
            self.serve(serving, connection);
            true
        })
    }

    fn run(&self) {
        let mut linger = Linger::default();
        let mut events: Vec<Event> = Vec::with_capacity(64);
        let mut was_short = false;
        loop {
            let timeout = linger
                .next_end()
                .and_then(|left| Timespec::try_from(left).ok());
            let spare = rustix::buffer::spare_capacity(&mut events);
            // An interruption gives no events.
            let _ = epoll::wait(&self.epoll, spare, timeout.as_ref());
            let mut shortage = None;
            for event in events.drain(..) {
                let key = event.data.u64();
                if key == STOP {
                    return;
                }
                let serving = self.sockets.lock().get(&key).cloned();
                if let Some(serving) = serving {
                    let served = self.serve_next(&serving, &mut linger);
                    shortage = shortage.or(served.err());
                }
            }
            linger.close_ended();
            if let Some(errno) = shortage {
                if !was_short {
                    let cause = reason(&errno.into());
                    Entry::new().warn(format_args!(
                        "token sockets cannot accept connections: {cause}; raise LimitNOFILE= of the service"
                    ));
                }
                thread::sleep(SHORTAGE);
            }
            was_short = shortage.is_some();
        }
    }

    /// Serves the one who has waited longest: the others come up again, in turn with those on other sockets. Fails
    /// when the system is short of something.
    fn serve_next(&self, serving: &Serving, linger: &mut Linger) -> Result<(), Errno> {
        match accept(serving) {
            Ok(connection) => linger.keep(self.serve(serving, connection)),
            Err(Errno::MFILE | Errno::NFILE) if linger.clear() => {}
            Err(Errno::AGAIN | Errno::CONNABORTED | Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        Ok(())
    }

    fn serve(&self, serving: &Serving, connection: OwnedFd) -> Served {
        if serving.may_read(&connection) {
            let value = serving.value.lock().clone();
            if let Some(value) = value
                && let Some(text) = value.at(clock::now().at)
                // A new connection takes it all at once; if not, its client is gone.
                && send(&connection, &text, SendFlags::NOSIGNAL).is_ok()
            {
                Counters::add(&serving.counters.socket_reads);
            }
        } else {
            self.denied.inc();
        }
        let _ = shutdown(&connection, Shutdown::Write);
        Served::new(connection)
    }
}

fn accept(serving: &Serving) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    accept_with(&serving.listener, flags)
}

/// A socket that is being served.
#[derive(Debug)]
pub(super) struct Serving {
    pub(super) place: Arc<Place>,
    pub(super) listener: OwnedFd,
    pub(super) counters: Arc<Counters>,
    value: Mutex<Option<Arc<Rendered>>>,
}

impl Serving {
    pub(super) fn new(
        place: Arc<Place>,
        listener: OwnedFd,
        counters: Arc<Counters>,
        value: Option<Rendered>,
    ) -> Self {
        Self {
            place,
            listener,
            counters,
            value: Mutex::new(value.map(Arc::new)),
        }
    }

    /// Serves another value from now on, or none.
    pub(super) fn set(&self, value: Option<Rendered>) {
        *self.value.lock() = value.map(Arc::new);
    }

    fn may_read(&self, connection: &OwnedFd) -> bool {
        let access = &self.place.output().access;
        access.readers.is_empty()
            || Peer::of(connection).is_ok_and(|peer| {
                peer.uid == 0
                    || peer.uid == geteuid().as_raw()
                    || access.owner == Some(peer.uid)
                    || access.group.is_some_and(|group| peer.is_member_of(group))
                    || peer.is_any_of(&access.readers)
            })
    }
}
