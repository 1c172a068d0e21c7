//! One connection of an app: HTTP on it, for as long as there is room for it.

use super::guest::Guest;
use super::service::Service;
use crate::local_stream::LocalStream;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use tokio::io::AsyncReadExt;
use tokio::sync::watch;

/// The largest header, in bytes.
const MAX_HEADER: usize = 16 * 1024;
/// Enough for the header of a usual request, in bytes.
const FIRST_READ: usize = 512;

/// Marks the guest as gone when the connection ends, however it does.
struct Open(Arc<Guest>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.on_closed();
    }
}

/// Serves a connection until the app is gone, is idle for one to two ticks, or has to make room for another. One that
/// says nothing costs a small task and none of the buffers.
pub(super) async fn serve(
    mut stream: LocalStream,
    guest: Arc<Guest>,
    service: Arc<Service>,
    mut ticks: watch::Receiver<()>,
) {
    let open = Open(guest);
    let mut first = [0; FIRST_READ];
    let read = tokio::select! {
        biased;
        read = stream.read(&mut first) => read.unwrap_or(0),
        () = open.0.told_to_leave() => 0,
        _ = two_ticks(&mut ticks) => 0,
    };
    if read > 0 {
        stream.unread(&first[..read]);
        Box::pin(serve_http(stream, &open.0, &service, ticks)).await;
    }
}

async fn serve_http(
    stream: LocalStream,
    guest: &Guest,
    service: &Service,
    mut ticks: watch::Receiver<()>,
) {
    let respond = service_fn(|request: Request<Incoming>| async move {
        guest.begin_request();
        let response = service.respond(guest, request).await;
        guest.end_request();
        Ok::<_, Infallible>(response)
    });
    let connection = http1::Builder::new()
        .half_close(true)
        .max_buf_size(MAX_HEADER)
        .serve_connection(TokioIo::new(stream), respond);
    // It is closed by being dropped.
    let mut connection = pin!(connection.without_shutdown());
    loop {
        let before = guest.progress();
        let passed = tokio::select! {
            biased;
            _ = &mut connection => return,
            () = guest.told_to_leave() => return,
            passed = two_ticks(&mut ticks) => passed,
        };
        let after = guest.progress();
        if passed.is_err() || after == before && after.is_multiple_of(2) {
            return;
        }
    }
}

/// At least one whole tick; an error when the server is gone.
async fn two_ticks(ticks: &mut watch::Receiver<()>) -> Result<(), watch::error::RecvError> {
    ticks.changed().await?;
    ticks.changed().await
}
