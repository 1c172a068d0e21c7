//! Accepting connections, and their end.

use super::asker::Asker;
use super::connection::{Visitor, serve as serve_any, serve_local};
use super::error::{ApiError, Reason};
use super::progress::ConnectionClock;
use super::slots::{ConnectionSlot, ConnectionSlots};
use super::{ApiState, Listener};
use crate::local_stream::{LocalSocket, LocalStream};
use crate::logging::Entry;
use crate::peer::Peer;
use rustix::net::SendFlags;
use rustix::process::{Resource, getrlimit};
use std::convert::Infallible;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::spawn;
use tokio::time::{sleep, timeout};

/// Connections at once, where the limit of open files allows that many. Memory that an attack on all of them takes is not
/// given back, so that it must not be much: each takes up to 12 KB.
const MAX_CONNECTIONS: usize = 2048;
/// The part of the connections that is kept for administrators: one in so many.
const RESERVED_PART: usize = 8;
/// Connections at once to the metrics. One host may hold no more than it leaves free.
const MAX_SCRAPERS: usize = 128;
/// Time for which a stopping server still accepts clients that have found its socket.
const LATE_CLIENT_LIMIT: Duration = Duration::from_millis(20);
/// Pause when the host has no file or memory left for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the API on a listener, and on each that replaces it; connections of a replaced one go on. Ends when the daemon
/// stops and every request that was accepted is answered.
pub async fn serve(mut listeners: watch::Receiver<Arc<Listener>>, state: ApiState) {
    let mut stopping = state.stopping.clone();
    let total = max_connections();
    let connections = Connections::new(total, total / RESERVED_PART, state);
    let mut listener = Arc::clone(&listeners.borrow_and_update());
    let mut replaceable = true;
    loop {
        let accepted = tokio::select! {
            biased;
            accepted = listener.accept() => accepted,
            never = connections.clock.run() => never,
            changed = listeners.changed(), if replaceable => {
                replaceable = changed.is_ok();
                listener = Arc::clone(&listeners.borrow_and_update());
                continue;
            }
            // After all that could be accepted.
            _ = stopping.wait_for(|stopping| *stopping) => break,
        };
        match accepted {
            Ok(socket) => connections.open_local(socket),
            Err(error) => pause_after(&error).await,
        }
    }
    // Clients that found the socket before it went.
    let accept_late = async {
        while let Ok(socket) = listener.accept().await {
            connections.open_local(socket);
        }
    };
    let _ = timeout(LATE_CLIENT_LIMIT, accept_late).await;
    drop(listener);
    connections.all_ended().await;
}

/// Serves metrics and health, and nothing else, to whoever can connect. Ends when dropped.
pub async fn serve_metrics(listener: TcpListener, state: ApiState) {
    let connections = Connections::new(MAX_SCRAPERS, 0, state);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            never = connections.clock.run() => never,
        };
        match accepted {
            Ok((stream, _)) => {
                // All of them count as one user.
                if let Some(slot) = connections.slots.take(0, false) {
                    spawn(serve_any(
                        stream,
                        connections.visitor(slot, Asker::Scraper, None),
                    ));
                }
            }
            Err(error) => pause_after(&error).await,
        }
    }
}

/// The connections that are open.
struct Connections {
    slots: Arc<ConnectionSlots>,
    clock: ConnectionClock,
    state: Arc<ApiState>,
    open: mpsc::Sender<Infallible>,
    ended: mpsc::Receiver<Infallible>,
}

impl Connections {
    fn new(total: usize, reserved: usize, state: ApiState) -> Self {
        let (open, ended) = mpsc::channel(1);
        Self {
            slots: ConnectionSlots::new(total, reserved),
            clock: ConnectionClock::new(),
            state: Arc::new(state),
            open,
            ended,
        }
    }

    /// Serves a local process, or turns it away.
    fn open_local(&self, socket: OwnedFd) {
        // Without a peer it is gone again.
        let Ok(peer) = Peer::of(&socket) else { return };
        let (uid, asker) = (peer.uid, Asker::Peer(peer));
        let Some(slot) = self.slots.take(uid, asker.is_admin(&self.state)) else {
            return turn_away(&socket);
        };
        let stream = LocalStream::new(socket);
        let visitor = self.visitor(slot, asker, Some(stream.socket()));
        spawn(serve_local(stream, visitor));
    }

    fn visitor(
        &self,
        slot: ConnectionSlot,
        asker: Asker,
        socket: Option<Arc<LocalSocket>>,
    ) -> Visitor {
        Visitor {
            asker: Arc::new(asker),
            socket,
            progress: self.clock.start(),
            state: Arc::clone(&self.state),
            _slot: slot,
            _open: self.open.clone(),
        }
    }

    /// Waits until every connection has ended. They time out as ever.
    async fn all_ended(self) {
        let Self {
            clock,
            open,
            mut ended,
            ..
        } = self;
        drop(open);
        tokio::select! {
            _ = ended.recv() => {}
            never = clock.run() => never,
        }
    }
}

/// Tells a client that there are too many, at the price of one system call.
fn turn_away(socket: &OwnedFd) {
    let error = ApiError::new(
        Reason::TooManyConnections,
        "you, or all together, hold too many connections",
        "close connections that are not in use",
    )
    .retry_after(Duration::from_secs(1));
    // A client that does not read it notices the end.
    let _ = rustix::net::send(
        socket,
        &error.to_http(),
        SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
    );
}

/// A connection that went away before it was accepted is nothing; having no room for it passes with time.
async fn pause_after(error: &io::Error) {
    if error.kind() != io::ErrorKind::ConnectionAborted {
        Entry::new().warn(format_args!(
            "cannot accept a connection to the API: {error}"
        ));
        sleep(ACCEPT_PAUSE).await;
    }
}

/// Half of the files that may be open are left for everything else.
fn max_connections() -> usize {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    MAX_CONNECTIONS.min(usize::try_from(files / 2).unwrap_or(usize::MAX))
}
