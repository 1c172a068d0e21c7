//! One connection: HTTP on it, and the limits of the patience with it.

use super::ApiState;
use super::asker::Asker;
use super::framing::WithErrorBodies;
use super::progress::Progress;
use super::response::{AnswerBody, HttpAnswer, refuse, stopping};
use super::service::respond;
use super::slots::ConnectionSlot;
use crate::local_stream::{LocalSocket, LocalStream};
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::sync::mpsc;

/// The largest header, bytes: the least that hyper allows, since each connection may make it take that much memory.
const MAX_HEADER: usize = 8 * 1024;
/// Size of the first read, bytes: enough for the header of a usual request.
const FIRST_READ_SIZE: usize = 512;

/// The other end of a connection, and all that goes with it.
pub(super) struct Visitor {
    pub(super) asker: Arc<Asker>,
    /// The connection, where its end can be told from a client that only has no more to say.
    pub(super) socket: Option<Arc<LocalSocket>>,
    pub(super) progress: Arc<Progress>,
    pub(super) state: Arc<ApiState>,
    /// Freed with the visitor.
    pub(super) _slot: ConnectionSlot,
    /// Closed when the last visitor has gone.
    pub(super) _open: mpsc::Sender<Infallible>,
}

/// Serves a local process. One that says nothing costs a small task and none of the buffers.
pub(super) async fn serve_local(mut stream: LocalStream, visitor: Visitor) {
    let mut first = [0; FIRST_READ_SIZE];
    let read = tokio::select! {
        biased;
        read = stream.read(&mut first) => read.unwrap_or(0),
        () = visitor.progress.stalled() => 0,
    };
    if read > 0 {
        stream.unread(&first[..read]);
        Box::pin(serve(stream, visitor)).await;
    }
}

/// Serves until the client is gone, takes too long for a request or for reading the answer, or speaks no HTTP.
pub(super) async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, visitor: Visitor) {
    let visitor = &visitor;
    let service =
        service_fn(|request| async move { Ok::<_, Infallible>(answer(visitor, request).await) });
    let connection = http1::Builder::new()
        // Like `socat`: a client may have no more to say and still want the answer.
        .half_close(true)
        .max_buf_size(MAX_HEADER)
        .serve_connection(TokioIo::new(WithErrorBodies::new(stream)), service);
    let mut connection = pin!(connection);
    let mut stopping = visitor.state.stopping.clone();
    tokio::select! {
        biased;
        _ = &mut connection => return,
        () = visitor.progress.stalled() => return,
        _ = stopping.wait_for(|stopping| *stopping) => {}
    }
    // Answers the requests that came, and takes no more.
    connection.as_mut().graceful_shutdown();
    tokio::select! {
        biased;
        _ = connection => {}
        () = visitor.progress.stalled() => {}
    }
}

/// Answers one request, unless the client goes away before.
async fn answer(visitor: &Visitor, request: Request<Incoming>) -> HttpAnswer {
    let busy = visitor.progress.begin();
    let answer = respond(&visitor.state, &visitor.asker, request);
    let Some(socket) = &visitor.socket else {
        return answer.await;
    };
    let mut answer = tokio::select! {
        biased;
        answer = answer => answer,
        // The connection ends with this answer; nobody reads it.
        () = socket.closed() => return refuse(&stopping()),
    };
    if let AnswerBody::Watch(body) = answer.body_mut() {
        body.hold(busy, socket.clone());
    }
    answer
}
