//! The API as a target: a server in the same thread, asked over its socket.

use super::account::snapshot;
use crate::account::{AccountName, Principal};
use crate::api::{ApiState, Listener, Metrics, serve};
use crate::changes::Reloaded;
use crate::clock;
use crate::handle::{AccountHandle, AccountHandles, Inbox, SnapshotCell};
use crate::subscribe::Subscribers;
use rustix::process::geteuid;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

/// The time that one request gets: what waits or watches takes longer, and rightly.
const LIMIT: Duration = Duration::from_millis(20);

/// A server with one account. Whoever runs it is its administrator.
struct FuzzServer {
    runtime: Runtime,
    directory: TempDir,
}

thread_local! {
    static SERVER: FuzzServer = FuzzServer::start();
}

/// Sends the bytes and says no more. The server must answer in HTTP or not at all, and be there for the next one.
pub(super) fn api_request(bytes: &[u8]) {
    let answer = SERVER.with(|server| server.ask(bytes));
    let is_http = answer.is_empty() || answer.starts_with(b"HTTP/1.");
    assert!(is_http, "{}", String::from_utf8_lossy(&answer));
}

impl FuzzServer {
    fn start() -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("api.sock");
        runtime.spawn(async move {
            let listener = Arc::new(Listener::open(&path, None).unwrap());
            let admin = Principal::User("admin".into(), geteuid().as_raw());
            let (reload, mut reloads) = mpsc::channel::<oneshot::Sender<Reloaded>>(1);
            let (subscribers, inbox) = (Arc::<Subscribers>::default(), Arc::<Inbox>::default());
            let name = AccountName::parse("shop").unwrap();
            let handle = AccountHandle {
                snapshot: Arc::new(SnapshotCell::new(snapshot(&name), subscribers.clone())),
                inbox: inbox.clone(),
                counters: Arc::default(),
            };
            let accounts = Arc::new(AccountHandles::from([(name, handle)]));
            // Each lives as long as its sender does.
            let (_of_accounts, accounts) = watch::channel(accounts);
            let (_of_admins, admins) = watch::channel([admin].into());
            let (_of_rejected, rejected) = watch::channel([].into());
            let (_of_stopping, stopping) = watch::channel(false);
            let state = ApiState {
                accounts,
                admins,
                rejected,
                reload,
                started: clock::now().at,
                stopping,
                subscribers,
                metrics: Arc::new(Metrics::new()),
            };
            let listeners = watch::Sender::new(listener);
            // Nobody does what the account or the daemon is asked to do.
            let refuse = async {
                loop {
                    tokio::select! {
                        () = inbox.arrived() => drop(inbox.take()),
                        asked = reloads.recv() => drop(asked),
                    }
                }
            };
            tokio::join!(serve(listeners.subscribe(), state), refuse)
        });
        Self { runtime, directory }
    }

    /// All that it answers within the limit.
    fn ask(&self, bytes: &[u8]) -> Vec<u8> {
        let mut answer = Vec::new();
        self.runtime.block_on(async {
            let path = self.directory.path().join("api.sock");
            let mut client = loop {
                match UnixStream::connect(&path).await {
                    Ok(client) => break client,
                    // It has not begun yet.
                    Err(_) => tokio::task::yield_now().await,
                }
            };
            let talk = async {
                // It may close before it has read everything.
                let _ = client.write_all(bytes).await;
                let _ = client.shutdown().await;
                let _ = client.read_to_end(&mut answer).await;
            };
            let _ = timeout(LIMIT, talk).await;
        });
        answer
    }
}
