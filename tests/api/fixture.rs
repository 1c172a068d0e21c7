//! A server whose accounts are made up, and ways to ask it.

use rustix::process::Pid;
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use tempfile::TempDir;
use tokio::runtime::{self, Runtime};
use tokio::sync::{mpsc, oneshot, watch};
use wxtokend::account::{
    Access, Account, AccountName, Format, OnExpiry, Output, OutputKind, Principal, SecretSource,
};
use wxtokend::api::{ApiState, Listener, Metrics, serve, serve_metrics};
use wxtokend::changes::Reloaded;
use wxtokend::clock;
use wxtokend::counters::Counters;
use wxtokend::handle::{
    AccountHandle, AccountHandles, Command as TaskCommand, Inbox, SnapshotCell,
};
use wxtokend::platform::wechat::STABLE;
use wxtokend::secret::Secret;
use wxtokend::snapshot::{OutputState, Snapshot, State, Verdict};
use wxtokend::subscribe::Subscribers;
use wxtokend::value::{Grant, Value, ValueName};

/// Longest wait for anything, on a machine that does much else besides.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A stand-in for an account's task: its answer to a command; `None` keeps the one who asks waiting.
type AccountScript = Box<dyn FnMut(&TaskCommand, &SnapshotCell) -> Option<Verdict> + Send>;

/// Publishes what was published last, but for what `change` changes.
pub(crate) fn modify(published: &SnapshotCell, change: impl FnOnce(&mut Snapshot)) {
    let mut snapshot = Snapshot::clone(&published.latest());
    change(&mut snapshot);
    published.publish(snapshot);
}

thread_local! {
    static SUBSCRIBERS: Arc<Subscribers> = Arc::default();
}

/// Those who follow the accounts of this test.
fn subscribers() -> Arc<Subscribers> {
    SUBSCRIBERS.with(Arc::clone)
}

/// A made-up account.
#[derive(Clone)]
pub(crate) struct Fake {
    pub(crate) snapshot: Arc<SnapshotCell>,
    pub(crate) counters: Arc<Counters>,
    inbox: Arc<Inbox>,
    script: Arc<Mutex<AccountScript>>,
}

impl Fake {
    /// Publishes what it published last, but for what `change` changes.
    pub(crate) fn publish(&self, change: impl FnOnce(&mut Snapshot)) {
        modify(&self.snapshot, change);
    }

    /// Has its task answer requests from now on.
    pub(crate) fn on_request(
        &self,
        script: impl FnMut(&TaskCommand, &SnapshotCell) -> Option<Verdict> + Send + 'static,
    ) {
        *self.script.lock().unwrap() = Box::new(script);
    }

    fn handle(&self) -> AccountHandle {
        AccountHandle {
            snapshot: Arc::clone(&self.snapshot),
            inbox: Arc::clone(&self.inbox),
            counters: Arc::clone(&self.counters),
        }
    }

    async fn run(self) {
        let mut waiting = Vec::new();
        loop {
            self.inbox.arrived().await;
            for request in self.inbox.take() {
                let verdict = self.script.lock().unwrap()(&request, &self.snapshot);
                let reply = match request {
                    TaskCommand::Suspect { reply, .. } => reply,
                    TaskCommand::Renew { reply, .. } => Some(reply),
                    _ => None,
                };
                match (reply, verdict) {
                    (Some(reply), Some(verdict)) => {
                        // Whoever asked may have gone.
                        let _ = reply.send(verdict);
                    }
                    (reply, _) => waiting.push(reply),
                }
            }
        }
    }
}

pub(crate) fn name(name: &str) -> AccountName {
    AccountName::parse(name).unwrap()
}

pub(crate) fn user(uid: u32) -> Principal {
    Principal::User(format!("user{uid}").into(), uid)
}

/// The user that runs the tests.
pub(crate) fn own_uid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

pub(crate) fn group(gid: u32) -> Principal {
    Principal::Group(format!("group{gid}").into(), gid)
}

/// A value that lives so many seconds from now; negative: that ended so many seconds ago.
pub(crate) fn grant(value: &str, seconds: i64) -> Grant {
    let now = clock::now();
    let left = Duration::from_secs(seconds.unsigned_abs());
    // Almost a second more, so that rounding down does not depend on how long the test takes.
    let expires = if seconds < 0 {
        now.at - left
    } else {
        now.at + left + Duration::from_millis(999)
    };
    let obtained = now.at - Duration::from_secs(7200);
    Grant::new(Value::parse(value).unwrap(), obtained, expires, &now)
}

/// A fresh account with an access token and a jsapi ticket, for these readers.
pub(crate) fn account(account: &str, readers: Vec<Principal>) -> Fake {
    let readers: Arc<[Principal]> = readers.into();
    let now = clock::now();
    let output = |kind, path: &str| Output {
        kind,
        path: Path::new(path).into(),
        value: ValueName::AccessToken,
        format: Format::Json,
        access: Access {
            mode: 0o600,
            owner: None,
            group: None,
            readers: Arc::clone(&readers),
        },
    };
    let snapshot = Snapshot {
        account: Arc::new(Account {
            secret: SecretSource::Inline(
                Secret::parse("0123456789abcdef0123456789abcdef").unwrap(),
            ),
            readers: Arc::clone(&readers),
            tickets: [ValueName::JsapiTicket].into(),
            outputs: [
                output(
                    OutputKind::File(OnExpiry::Remove),
                    "/run/wxtokend/shop.json",
                ),
                output(OutputKind::Socket, "/run/wxtokend/shop.sock"),
            ]
            .into(),
            ..Account::usual(name(account), "wx0123456789abcdef", STABLE)
        }),
        state: State::Fresh,
        grants: [
            (
                ValueName::AccessToken,
                grant(&format!("TOKEN-{account}-1"), 6720),
            ),
            (
                ValueName::JsapiTicket,
                grant(&format!("TICKET-{account}-1"), 3600),
            ),
        ]
        .into(),
        valid_values: 2,
        next_refresh: Some(now.at + Duration::from_secs(250)),
        last_success: Some(now.at - Duration::from_secs(50)),
        calls_today: 31,
        quota: None,
        calls_day: now.platform_day(),
        last_error: None,
        fleet: None,
        outputs: [OutputState::Published, OutputState::Published].into(),
    };
    Fake {
        snapshot: Arc::new(SnapshotCell::new(snapshot, subscribers())),
        counters: Arc::default(),
        inbox: Arc::default(),
        script: Arc::new(Mutex::new(Box::new(|_, _| None))),
    }
}

/// A server of made-up accounts.
pub(crate) struct ApiDaemon {
    pub(crate) dir: TempDir,
    pub(crate) socket: PathBuf,
    pub(crate) metrics_addr: SocketAddr,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) accounts: watch::Sender<Arc<AccountHandles>>,
    pub(crate) admins: watch::Sender<Arc<[Principal]>>,
    pub(crate) listeners: watch::Sender<Arc<Listener>>,
    pub(crate) stopping: watch::Sender<bool>,
    pub(crate) runtime: runtime::Handle,
    thread_id: Pid,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl ApiDaemon {
    /// Serves these accounts; whoever runs the tests is administrator. Reloads end as `reloaded` says.
    pub(crate) fn start(
        fakes: &[Fake],
        reloaded: impl Fn() -> Option<Reloaded> + Send + 'static,
    ) -> Self {
        let dir = TempDir::new().unwrap();
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let handle = runtime.handle().clone();
        let entered = runtime.enter();
        let socket = dir.path().join("api.sock");
        let listeners = watch::Sender::new(Arc::new(Listener::open(&socket, None).unwrap()));
        let scraped = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        scraped.set_nonblocking(true).unwrap();
        let scraped = tokio::net::TcpListener::from_std(scraped).unwrap();
        let metrics_addr = scraped.local_addr().unwrap();
        drop(entered);

        let accounts = watch::Sender::new(directory(fakes));
        let admins: watch::Sender<Arc<[Principal]>> = watch::Sender::new([user(own_uid())].into());
        let metrics = Arc::new(Metrics::new());
        let stopping = watch::Sender::new(false);
        let (reload, mut reloads) = mpsc::channel::<oneshot::Sender<Reloaded>>(1);
        let state = ApiState {
            accounts: accounts.subscribe(),
            admins: admins.subscribe(),
            rejected: watch::Sender::new([].into()).subscribe(),
            stopping: stopping.subscribe(),
            reload,
            started: clock::now().at - Duration::from_secs(100),
            subscribers: subscribers(),
            metrics: Arc::clone(&metrics),
        };
        let fakes = fakes.to_vec();
        let (stop, stopped) = oneshot::channel::<()>();
        let replacing = listeners.subscribe();
        let (said_id, id) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            said_id.send(rustix::thread::gettid()).unwrap();
            runtime.block_on(async move {
                for fake in fakes {
                    tokio::spawn(fake.run());
                }
                tokio::spawn(async move {
                    while let Some(reply) = reloads.recv().await {
                        if let Some(reloaded) = reloaded() {
                            let _ = reply.send(reloaded);
                        }
                    }
                });
                tokio::spawn(serve(replacing, state.clone()));
                tokio::spawn(serve_metrics(scraped, state));
                // Dropped, or told: the end either way.
                let _ = stopped.await;
            });
            shut_down(runtime);
        });
        Self {
            dir,
            socket,
            metrics_addr,
            metrics,
            accounts,
            admins,
            listeners,
            stopping,
            runtime: handle,
            thread_id: id.recv().unwrap(),
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Serves these accounts; nobody reloads.
    pub(crate) fn of(fakes: &[Fake]) -> Self {
        Self::start(fakes, || None)
    }

    /// Serves this account; nobody reloads.
    pub(crate) fn of_one(fake: &Fake) -> Self {
        Self::of(std::slice::from_ref(fake))
    }

    /// Wake-ups of the server so far.
    pub(crate) fn wake_ups(&self) -> u64 {
        let path = format!("/proc/self/task/{}/status", self.thread_id.as_raw_nonzero());
        let status = std::fs::read_to_string(path).unwrap();
        let mut lines = status.lines();
        let count = lines.find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        count.unwrap().trim().parse().unwrap()
    }

    /// Asks as root.
    pub(crate) fn get(&self, path: &str) -> HttpReply {
        self.ask("GET", path, "")
    }

    /// Asks as root.
    pub(crate) fn post(&self, path: &str, body: &str) -> HttpReply {
        self.ask("POST", path, body)
    }

    /// Asks as root.
    pub(crate) fn ask(&self, method: &str, path: &str, body: &str) -> HttpReply {
        let stream = UnixStream::connect(&self.socket).unwrap();
        ask(stream, method, path, body)
    }

    /// Asks the listener for metrics.
    pub(crate) fn scrape(&self, method: &str, path: &str) -> HttpReply {
        ask(
            TcpStream::connect(self.metrics_addr).unwrap(),
            method,
            path,
            "",
        )
    }

    /// Asks as somebody else.
    pub(crate) fn as_user(&self, who: &Who, method: &str, path: &str, body: &str) -> HttpReply {
        let output = who
            .command("curl")
            .args([
                "-sS",
                "-i",
                "-X",
                method,
                "--data-binary",
                body,
                "--unix-socket",
            ])
            .arg(&self.socket)
            .arg(format!("http://localhost{path}"))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        HttpReply::parse(&output.stdout)
    }
}

impl Drop for ApiDaemon {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            ended.unwrap().unwrap();
        }
    }
}

fn shut_down(runtime: Runtime) {
    runtime.shutdown_background();
}

/// The directory of these accounts.
pub(crate) fn directory(fakes: &[Fake]) -> Arc<AccountHandles> {
    let entry = |fake: &Fake| (fake.snapshot.latest().account.name.clone(), fake.handle());
    Arc::new(fakes.iter().map(entry).collect::<BTreeMap<_, _>>())
}

/// Somebody else.
pub(crate) struct Who {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
}

impl Who {
    /// A command that runs as this user.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let groups: Vec<String> = self.groups.iter().map(u32::to_string).collect();
        let mut command = Command::new("setpriv");
        command.args([
            format!("--reuid={}", self.uid),
            format!("--regid={}", self.gid),
        ]);
        match groups.as_slice() {
            [] => command.arg("--clear-groups"),
            groups => command.arg(format!("--groups={}", groups.join(","))),
        };
        command.arg(program);
        command
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HttpReply {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl HttpReply {
    /// Splits an answer as it came.
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let (head, body) = text
            .split_once("\r\n\r\n")
            .unwrap_or_else(|| panic!("no answer: {text:?}"));
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap();
        Self {
            status: status.parse().unwrap(),
            headers: lines
                .map(|line| line.split_once(": ").unwrap())
                .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
                .collect(),
            body: body.to_owned(),
        }
    }

    /// The body.
    pub(crate) fn json(&self) -> Json {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The machine word of an error.
    pub(crate) fn error(&self) -> String {
        let body = self.json();
        for key in ["message", "hint"] {
            assert!(!body[key].as_str().unwrap().is_empty(), "{self:?}");
        }
        body["error"].as_str().unwrap().to_owned()
    }
}

/// One request on a connection of its own.
pub(crate) fn ask(
    mut stream: impl Read + Write,
    method: &str,
    path: &str,
    body: &str,
) -> HttpReply {
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    HttpReply::parse(&answer)
}

/// Waits until something is so; the test fails if it does not come to be.
pub(crate) fn until(what: &str, so: impl Fn() -> bool) {
    let start = std::time::Instant::now();
    while !so() {
        assert!(
            start.elapsed() < PATIENCE,
            "{what}: not within {PATIENCE:?}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}
