//! Accepting connections: who holds how many, and that none is held for nothing.

use super::asker::Asker;
use super::connection::{Visitor, serve as serve_any, serve_local};
use super::error::{ApiError, Reason};
use super::slots::ConnectionSlots;
use super::stream::LocalStream;
use super::{ApiState, Listener};
use crate::logging::Entry;
use crate::peer::Peer;
use rustix::net::SendFlags;
use rustix::process::{Resource, getrlimit};
use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::spawn;
use tokio::time::{Interval, MissedTickBehavior, interval, sleep};

/// Connections at once, where the limit of open files allows that many.
const MAX_CONNECTIONS: usize = 4096;
/// Connections at once to the metrics.
const MAX_SCRAPERS: usize = 64;
/// A connection is closed when for a whole tick, and at most for two, it has not got on: with sending a request, or with
/// reading an answer.
const TICK: Duration = Duration::from_secs(10);
/// How long to wait when the host has no file or memory left for another connection.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// Serves the API on a listener, and on each that replaces it; connections of a replaced one go on. Ends when dropped.
pub async fn serve(mut listeners: watch::Receiver<Arc<Listener>>, state: ApiState) {
    let mut connections = Connections::new(max_connections(), state);
    let mut listener = Arc::clone(&listeners.borrow_and_update());
    let mut replaceable = true;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            never = connections.tend() => match never {},
            changed = listeners.changed(), if replaceable => {
                replaceable = changed.is_ok();
                listener = Arc::clone(&listeners.borrow_and_update());
                continue;
            }
        };
        let socket = match accepted {
            Ok(socket) => socket,
            Err(error) => {
                pause_after(&error).await;
                continue;
            }
        };
        // Without a peer it is gone again.
        if let Ok(peer) = Peer::of(&socket) {
            match connections.admit(peer.uid, Asker::Peer(peer)) {
                Some(visitor) => drop(spawn(serve_local(LocalStream::new(socket), visitor))),
                None => turn_away(&socket),
            }
        }
    }
}

/// Serves metrics and health, and nothing else, to whoever can connect. Ends when dropped.
pub async fn serve_metrics(listener: TcpListener, state: ApiState) {
    // All of them count as one user.
    let mut connections = Connections::new(2 * MAX_SCRAPERS, state);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            never = connections.tend() => match never {},
        };
        match accepted {
            Ok((stream, _)) => {
                if let Some(visitor) = connections.admit(0, Asker::Scraper) {
                    spawn(serve_any(stream, visitor));
                }
            }
            Err(error) => pause_after(&error).await,
        }
    }
}

/// The connections that are open. They end with this.
struct Connections {
    slots: Arc<ConnectionSlots>,
    clock: Interval,
    ticks: watch::Sender<()>,
    state: Arc<ApiState>,
}

impl Connections {
    fn new(total: usize, state: ApiState) -> Self {
        let mut clock = interval(TICK);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            slots: ConnectionSlots::new(total),
            clock,
            ticks: watch::Sender::new(()),
            state: Arc::new(state),
        }
    }

    /// What goes with one more connection, if there may be one.
    fn admit(&self, uid: u32, asker: Asker) -> Option<Visitor> {
        Some(Visitor {
            _slot: self.slots.take(uid)?,
            asker: Arc::new(asker),
            progress: Arc::default(),
            state: Arc::clone(&self.state),
            ticks: self.ticks.subscribe(),
        })
    }

    /// Lets time pass while there are any.
    async fn tend(&mut self) -> Infallible {
        loop {
            if self.slots.are_free() {
                return pending().await;
            }
            self.clock.tick().await;
            self.ticks.send_replace(());
        }
    }
}

/// Tells a client that there are too many, at the price of one system call.
fn turn_away(socket: &OwnedFd) {
    let refusal = ApiError::new(
        Reason::TooManyConnections,
        "you, or all together, hold too many connections",
        "close connections that are not in use",
    );
    let body = serde_json::to_string(&refusal).unwrap_or_default();
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Retry-After: 1\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    // Whoever does not read it notices the end.
    let _ = rustix::net::send(
        socket,
        answer.as_bytes(),
        SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
    );
}

/// A connection that went away before it was accepted is nothing; having no room for it passes with time.
async fn pause_after(error: &io::Error) {
    if error.kind() != io::ErrorKind::ConnectionAborted {
        Entry::new().warn(format_args!(
            "cannot accept a connection to the API: {error}"
        ));
        sleep(EXHAUSTED).await;
    }
}

/// Half of the files that may be open are left for everything else.
fn max_connections() -> usize {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    MAX_CONNECTIONS.min(usize::try_from(files / 2).unwrap_or(usize::MAX))
}
