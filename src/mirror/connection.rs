//! One connection of an app: HTTP on it, for as long as there is room for it.

use super::keys::App;
use super::service::Service;
use crate::account::AccountName;
use crate::local_stream::LocalStream;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::fmt;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::AsyncReadExt;
use tokio::sync::{Notify, watch};

/// How large a header may be, in bytes.
const MAX_HEADER: usize = 16 * 1024;
/// Enough for the header of a usual request, in bytes.
const FIRST_READ: usize = 512;

/// The other end of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) enum Who {
    /// Over loopback.
    Address(SocketAddr),
    /// Over the Unix socket.
    Uid(u32),
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Uid(uid) => write!(f, "uid {uid}"),
        }
    }
}

/// What is known of an open connection.
pub(super) struct Guest {
    who: Who,
    /// Odd while a request is being answered.
    progress: AtomicU32,
    /// Whether it has shown a wrong key.
    guessing: AtomicBool,
    gone: AtomicBool,
    leave: Notify,
    /// The app whose key it showed last.
    app: Mutex<Option<Arc<App>>>,
    /// How many connections are open.
    open: Arc<AtomicUsize>,
}

impl Guest {
    pub(super) fn new(who: Who, open: Arc<AtomicUsize>) -> Self {
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

    pub(super) fn who(&self) -> Who {
        self.who
    }

    pub(super) fn ip(&self) -> Option<IpAddr> {
        match self.who {
            Who::Address(address) => Some(address.ip()),
            Who::Uid(_) => None,
        }
    }

    /// Notes whose key it showed.
    pub(super) fn asked_as(&self, app: &Arc<App>) {
        self.guessing.store(false, Ordering::Relaxed);
        *self.app.lock().unwrap_or_else(PoisonError::into_inner) = Some(app.clone());
    }

    /// The app whose key it showed last, if that is of this account.
    pub(super) fn app_of(&self, account: &AccountName) -> Option<Arc<App>> {
        let app = self.app.lock().unwrap_or_else(PoisonError::into_inner);
        app.clone().filter(|app| app.account == *account)
    }

    /// Notes that it showed a wrong key: when there is no room, it is the first to leave.
    pub(super) fn is_guessing(&self) {
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
}

/// Marks the guest as gone when the connection ends, however it does.
struct Open(Arc<Guest>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.gone.store(true, Ordering::Relaxed);
        self.0.open.fetch_sub(1, Ordering::Relaxed);
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
        () = open.0.leave.notified() => 0,
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
        guest.progress.fetch_add(1, Ordering::Relaxed);
        let response = service.respond(guest, request).await;
        guest.progress.fetch_add(1, Ordering::Relaxed);
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
            () = guest.leave.notified() => return,
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
