//! Connections: who holds how many, how long each may take for what, and how little memory it needs meanwhile.

use super::refusal::{Reason, Refusal};
use super::service::{Asker, respond};
use super::slots::Slots;
use super::{ApiState, Listener};
use crate::peer::Peer;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::SendFlags;
use rustix::process::{Resource, getrlimit};
use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Connections at once, where the limit of open files allows that many.
const MAX_CONNECTIONS: usize = 4096;
/// Connections at once to the metrics.
const MAX_SCRAPERS: usize = 64;
/// How long a client may take for a request's header, and how long it may be silent between two requests.
const HEADER_TIME: Duration = Duration::from_secs(10);
/// How large a header may be, bytes.
const MAX_HEADER: usize = 16 * 1024;
/// How long a connection may last, so that nobody holds one by reading answers slowly. Longer than any request takes.
const LIFETIME: Duration = Duration::from_secs(600);
/// How long a request in progress may go on after that.
const GRACE: Duration = Duration::from_secs(5);
/// How long to wait when the host has no file or memory left for another connection.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// Serves the API on a listener, and on each that replaces it; connections of a replaced one go on. Ends when dropped.
pub async fn serve(mut listeners: watch::Receiver<Arc<Listener>>, state: ApiState) {
    let state = Arc::new(state);
    let slots = Slots::new(max_connections());
    let mut connections = JoinSet::new();
    let mut listener = Arc::clone(&listeners.borrow_and_update());
    let mut replaceable = true;
    loop {
        let accepted = tokio::select! {
            accepted = listener.socket.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            changed = listeners.changed(), if replaceable => {
                replaceable = changed.is_ok();
                listener = Arc::clone(&listeners.borrow_and_update());
                continue;
            }
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                pause_after(&error).await;
                continue;
            }
        };
        // Without a peer it is gone again.
        let Ok(peer) = Peer::of(&stream) else {
            continue;
        };
        let Some(slot) = slots.take(peer.uid) else {
            turn_away(&stream);
            continue;
        };
        let asker = Asker::Peer(peer);
        let state = Arc::clone(&state);
        connections.spawn(async move {
            if timeout(HEADER_TIME, stream.readable()).await.is_ok() {
                // Boxed: a client that says nothing costs a small task and none of the buffers.
                Box::pin(converse(stream, asker, state)).await;
            }
            drop(slot);
        });
    }
}

/// Serves metrics and health, and nothing else, to whoever can connect. Ends when dropped.
pub async fn serve_metrics(listener: TcpListener, state: ApiState) {
    let state = Arc::new(state);
    let slots = Slots::new(2 * MAX_SCRAPERS);
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, _)) => {
                let Some(slot) = slots.take(0) else { continue };
                let state = Arc::clone(&state);
                connections.spawn(async move {
                    Box::pin(converse(stream, Asker::Scraper, state)).await;
                    drop(slot);
                });
            }
            Err(error) => pause_after(&error).await,
        }
    }
}

/// One connection, to its end.
async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin, asker: Asker, state: Arc<ApiState>) {
    let service = service_fn(|request: Request<Incoming>| {
        let (state, asker) = (&state, &asker);
        async move { Ok::<_, Infallible>(respond(state, asker, request).await) }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIME)
            .max_buf_size(MAX_HEADER)
            .serve_connection(TokioIo::new(stream), service)
    );
    // How it ends is the client's affair: gone, silent, or not speaking HTTP.
    if timeout(LIFETIME, connection.as_mut()).await.is_err() {
        connection.as_mut().graceful_shutdown();
        let _ = timeout(GRACE, connection).await;
    }
}

/// Tells a client that there are too many, at the price of one system call.
fn turn_away(stream: &UnixStream) {
    let refusal = Refusal::new(
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
        stream,
        answer.as_bytes(),
        SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
    );
}

/// A connection that went away before it was accepted is nothing; having no room for it passes with time.
async fn pause_after(error: &io::Error) {
    if error.kind() != io::ErrorKind::ConnectionAborted {
        tracing::warn!("cannot accept a connection to the API: {error}");
        sleep(EXHAUSTED).await;
    }
}

/// Half of the files that may be open are left for everything else.
fn max_connections() -> usize {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    MAX_CONNECTIONS.min(usize::try_from(files / 2).unwrap_or(usize::MAX))
}
