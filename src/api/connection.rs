//! One connection: HTTP on it, and the patience to have with it.

use super::ApiState;
use super::asker::Asker;
use super::response::AnswerBody;
use super::service::respond;
use super::slots::ConnectionSlot;
use super::stream::LocalStream;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::sync::watch::{self, error::RecvError};

/// How large a header may be, bytes.
const MAX_HEADER: usize = 16 * 1024;
/// Enough for the header of a usual request, bytes.
const FIRST_READ: usize = 512;

/// Who is at the other end, and all that goes with them.
pub(super) struct Visitor {
    pub(super) asker: Arc<Asker>,
    /// Odd while a request is being answered: that takes the time it takes, and has limits of its own.
    pub(super) progress: Arc<AtomicU32>,
    pub(super) state: Arc<ApiState>,
    /// Time passes in ticks, the same for all: a timer for each connection would cost more than the connection.
    pub(super) ticks: watch::Receiver<()>,
    /// Freed with the visitor.
    pub(super) _slot: ConnectionSlot,
}

/// Serves a local process. One that says nothing costs a small task and none of the buffers.
pub(super) async fn serve_local(mut stream: LocalStream, mut visitor: Visitor) {
    let mut first = [0; FIRST_READ];
    let read = tokio::select! {
        biased;
        read = stream.read(&mut first) => read.unwrap_or(0),
        _ = two_ticks(&mut visitor.ticks) => 0,
    };
    if read > 0 {
        stream.unread(&first[..read]);
        Box::pin(serve(stream, visitor)).await;
    }
}

/// Serves until the client is gone, takes too long for a request or for reading the answer, or speaks no HTTP.
pub(super) async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, mut visitor: Visitor) {
    let (asker, state, progress) = (&visitor.asker, &visitor.state, &visitor.progress);
    let service = service_fn(|request: Request<Incoming>| async move {
        let busy = Busy::begin(progress);
        let mut answer = respond(state, asker, request).await;
        if let AnswerBody::Watch(body) = answer.body_mut() {
            body.hold(busy);
        }
        Ok::<_, Infallible>(answer)
    });
    let connection = http1::Builder::new()
        // Like `socat`: a client may have no more to say and still want the answer.
        .half_close(true)
        .max_buf_size(MAX_HEADER)
        .serve_connection(TokioIo::new(stream), service);
    // It is closed by being dropped.
    let mut connection = pin!(connection.without_shutdown());
    loop {
        let before = visitor.progress.load(Ordering::Relaxed);
        let passed = tokio::select! {
            biased;
            _ = &mut connection => return,
            passed = two_ticks(&mut visitor.ticks) => passed,
        };
        let after = visitor.progress.load(Ordering::Relaxed);
        if passed.is_err() || after == before && after.is_multiple_of(2) {
            return;
        }
    }
}

/// A request that is being answered.
pub(super) struct Busy(Arc<AtomicU32>);

impl Busy {
    fn begin(progress: &Arc<AtomicU32>) -> Self {
        progress.fetch_add(1, Ordering::Relaxed);
        Self(progress.clone())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// At least one whole tick; an error when the server is gone.
async fn two_ticks(ticks: &mut watch::Receiver<()>) -> Result<(), RecvError> {
    ticks.changed().await?;
    ticks.changed().await
}
