//! The daemon: everything is put together here.

mod binding;
mod clocks;
mod desk;
mod left;
mod mirror;
mod output;
mod outputs;
mod reload;
mod report;
mod shared;
mod status;
mod supervisor;
mod worker;

use crate::api::metrics::{Metrics, ReadVia};
use crate::api::{self, ApiState, listener::Listener};
use crate::changes::Reloaded;
use crate::clock;
use crate::config::{Config, Environment, Loaded, Subject};
use crate::event::Event;
use crate::fault::Fault;
use crate::handle::AccountHandles;
use crate::ledger::TicketLedgers;
use crate::logging::{Entry, Log};
use crate::offload::Offload;
use crate::platform::client::Client;
use crate::publish::{
    self, Place,
    socket::stored_name,
    watch::{Watch, damaged},
};
use crate::store::{Store, StoreError};
use crate::systemd::{self, KeptSockets, Notifier};
use crate::time::human;
use binding::{enough_files, listen, listen_tcp, raise_file_limit, unbound};
use clocks::Clocks;
use futures_core::Stream;
use mirror::MirrorService;
use shared::Shared;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook_tokio::Signals;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use supervisor::Supervisor;
use tokio::sync::{Notify, Semaphore, mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::{Instant, MissedTickBehavior};

/// READY waits no longer than this for accounts without a value.
const READY_AFTER: Duration = Duration::from_secs(10);
/// How often outputs and clocks are looked at.
const SWEEP: Duration = Duration::from_secs(30);
/// Status lines follow each other no faster.
const STATUS_PAUSE: Duration = Duration::from_secs(1);
/// SIGTERM to exit, less what the operating system needs.
const PATIENCE: Duration = Duration::from_millis(4500);

/// How long the last messages may take to be read.
const FLUSH: Duration = Duration::from_millis(100);

/// How long a stopping daemon waits for requests that it has accepted and that have not come or are not answered yet.
const ANSWER_LIMIT: Duration = Duration::from_millis(500);

/// So many accounts at most do something at a time. What they do takes files, and memory: thousands want to at the start.
const TURNS: usize = 64;

/// Why the daemon does not start.
#[derive(Debug)]
pub enum StartError {
    /// Another instance holds the state directory.
    Locked(StoreError),
    /// The configuration is faulty, or asks for what cannot be had.
    Faults(Vec<Fault>),
    /// Anything else.
    Other(String),
}

/// The daemon, started.
pub struct Daemon {
    config: Config,
    environment: Environment,
    log: Log,
    shared: Arc<Shared>,
    client: watch::Sender<Arc<Client>>,
    admins: watch::Sender<Arc<[crate::account::Principal]>>,
    listener: watch::Sender<Arc<Listener>>,
    stopping: watch::Sender<bool>,
    api_server: JoinHandle<()>,
    metrics_server: Option<AbortHandle>,
    mirror: MirrorService,
    api: ApiState,
    supervisor: Supervisor,
    watch: Option<Watch>,
    signals: Signals,
    reloads: mpsc::Receiver<oneshot::Sender<Reloaded>>,
    unready: mpsc::Receiver<()>,
    clocks: Clocks,
    said: String,
    rejected: Option<String>,
}

impl Daemon {
    /// Binds everything, publishes what was stored, and begins to fetch what is missing. Needs a tokio runtime.
    pub async fn start(
        loaded: Loaded,
        environment: Environment,
        log: Log,
    ) -> Result<Self, StartError> {
        let Loaded {
            config,
            warnings,
            places,
        } = loaded;
        warn_of(&warnings);
        let signals = Signals::new([SIGHUP, SIGINT, SIGTERM, SIGUSR1])
            .map_err(|error| StartError::Other(format!("cannot handle signals: {error}")))?;
        let kept = KeptSockets::from_process();
        let notifier = Notifier::from_process();
        raise_file_limit();
        let store = Store::open(&config.daemon.state_dir).map_err(|error| match error {
            error @ StoreError::Locked(_) => StartError::Locked(error),
            error => StartError::Other(error.to_string()),
        })?;
        let fault = |subject, message| StartError::Faults(vec![places.fault(&subject, message)]);
        let client = Client::new(&config.platform)
            .map_err(|error| fault(Subject::Platform, error.to_string()))?;
        let (client, client_receiver) = watch::channel(Arc::new(client));
        let metrics = Arc::new(Metrics::new());
        let server = publish::Server::start(metrics.denied(ReadVia::Socket))
            .map_err(|error| StartError::Other(format!("cannot serve sockets: {error}")))?;
        let shared = Arc::new(Shared {
            store,
            notifier: notifier.clone(),
            offload: Offload::default(),
            client: client_receiver,
            metrics: metrics.clone(),
            server,
            runtime_dir: config.daemon.runtime_dir.as_path().into(),
            turns: Semaphore::new(TURNS),
            subscribers: Arc::default(),
            changed: Arc::new(Notify::new()),
            ledgers: TicketLedgers::default(),
        });
        let accounts = config.accounts.clone();
        publish::remove_leftovers(accounts.values().flat_map(|account| account.outputs.iter()));
        enough_files(&config).map_err(|message| fault(Subject::Platform, message))?;
        let mut supervisor = Supervisor::new(shared.clone());
        let (prepared, mut kept) = supervisor
            .prepare(&accounts, kept)
            .await
            .map_err(|faults| StartError::Faults(unbound(&places, faults)))?;
        let tcp = match config.api.metrics {
            Some(address) => {
                let listening = listen_tcp(address).await;
                Some(listening.map_err(|message| fault(Subject::ApiMetrics, message))?)
            }
            None => None,
        };
        let mut mirror = MirrorService::default();
        let prepared_mirror = (mirror.prepare(&config.mirror))
            .map_err(|(subject, message)| fault(subject, message))?;
        // Last, since it takes its place at once.
        let inherited = stored_name(&config.api.socket).and_then(|name| kept.take(&name));
        let listener = listen(&config.api.socket, inherited, &notifier)
            .map_err(|message| fault(Subject::ApiSocket, message))?;
        kept.drop_rest(&notifier);
        left::take_away(&config);
        let (unready_sender, unready) = mpsc::channel(1);
        supervisor.apply(&accounts, prepared, &unready_sender).await;
        let (admins, admins_receiver) = watch::channel(config.api.admins.clone());
        let (reload, reloads) = mpsc::channel(8);
        let (stopping, stopping_receiver) = watch::channel(false);
        let api = ApiState {
            stopping: stopping_receiver,
            accounts: supervisor.directory(),
            admins: admins_receiver,
            reload,
            started: clock::now().at,
            subscribers: shared.subscribers.clone(),
            metrics: metrics.clone(),
        };
        metrics.config_loaded(&clock::now());
        mirror
            .apply(
                &config.mirror,
                prepared_mirror,
                supervisor.directory(),
                &shared.subscribers,
            )
            .await;
        let (listener, listeners) = watch::channel(Arc::new(listener));
        let api_server = tokio::spawn(api::serve(listeners, api.clone()));
        let metrics_server =
            tcp.map(|tcp| tokio::spawn(api::serve_metrics(tcp, api.clone())).abort_handle());
        Ok(Self {
            config,
            environment,
            log,
            shared,
            client,
            admins,
            listener,
            stopping,
            api_server,
            metrics_server,
            mirror,
            api,
            watch: watch_over(&supervisor),
            supervisor,
            signals,
            reloads,
            unready,
            clocks: Clocks::read(),
            said: String::new(),
            rejected: None,
        })
    }

    /// All accounts, now and after each reload.
    pub fn directory(&self) -> watch::Receiver<Arc<AccountHandles>> {
        self.supervisor.directory()
    }

    /// Runs until SIGTERM or SIGINT.
    pub async fn run(mut self) {
        let mut ready = false;
        let ready_at = Instant::now() + READY_AFTER;
        let mut sweep = every(SWEEP);
        let alive_every = systemd::alive_every();
        let mut alive = every(alive_every.unwrap_or(Duration::from_secs(86_400)));
        let mut said_at = Instant::now() - STATUS_PAUSE;
        let mut say_at = None;
        let changed = self.shared.changed.clone();
        loop {
            tokio::select! {
                signal = next_signal(&mut self.signals) => match signal {
                    // Faults are in the log and in the status line.
                    SIGHUP => drop(self.reload().await),
                    SIGUSR1 => self.supervisor.suspect_all(),
                    _ => break,
                },
                Some(reply) = self.reloads.recv() => {
                    let reloaded = self.reload().await;
                    // Whoever asked may have gone; the reload stands all the same.
                    let _ = reply.send(reloaded);
                }
                _ = self.unready.recv(), if !ready => { ready = true; self.ready(); }
                () = tokio::time::sleep_until(ready_at), if !ready => { ready = true; self.ready(); }
                () = changed.notified(), if ready && say_at.is_none() => say_at = Some(said_at + STATUS_PAUSE),
                () = reached(say_at) => {
                    (said_at, say_at) = (Instant::now(), None);
                    if ready {
                        self.say_status();
                    }
                    self.rearm();
                }
                places = changes(&mut self.watch) => {
                    for place in places {
                        self.supervisor.inspect(place.account());
                    }
                    // By then a directory that went is made anew.
                    say_at.get_or_insert(Instant::now() + STATUS_PAUSE);
                }
                _ = sweep.tick() => self.sweep(ready).await,
                _ = alive.tick(), if alive_every.is_some() => self.alive(),
            }
        }
        self.shared.notifier.stopping();
        Entry::new()
            .event(Event::Stopped)
            .info("stopping; files stay where they are");
        if !self.shared.notifier.is_managed() {
            self.listener.borrow().retire();
            self.mirror.retire();
        }
        // Requests that were accepted are answered while the accounts come to their end.
        self.stopping.send_replace(true);
        drop(self.listener);
        let places = self.supervisor.places();
        let answered = tokio::time::timeout(ANSWER_LIMIT, self.api_server);
        let _ = tokio::join!(self.supervisor.stop(PATIENCE), answered);
        left::note(self.config.daemon.state_dir, places).await;
        self.shared.notifier.flush(FLUSH);
    }

    fn ready(&mut self) {
        self.rearm();
        let now = clock::now();
        let line = status::line(
            &self.supervisor.directory().borrow(),
            self.environment.platforms,
            &now,
        );
        self.shared.notifier.ready(&line);
        Entry::new()
            .event(Event::Started)
            .info(format_args!("wxtokend {} is ready: {line}", crate::VERSION));
        self.said = line;
    }

    /// A rejected configuration stands in the status line until the next reload.
    fn status_line(&self) -> String {
        let line = status::line(
            &self.supervisor.directory().borrow(),
            self.environment.platforms,
            &clock::now(),
        );
        match &self.rejected {
            Some(rejected) => format!("{rejected}; {line}"),
            None => line,
        }
    }

    fn say_status(&mut self) {
        let line = self.status_line();
        if line != self.said {
            self.shared.notifier.status(&line);
            self.said = line;
        }
    }

    /// Looks at what no event tells of.
    async fn sweep(&mut self, ready: bool) {
        self.clocks_moved();
        let places = self.supervisor.places();
        let damaged = tokio::task::spawn_blocking(move || damaged(&places)).await;
        for place in damaged.into_iter().flatten() {
            self.supervisor.inspect(place.account());
        }
        self.rearm();
        self.log.tell_left_out();
        if ready {
            self.say_status();
        }
    }

    /// Watches directories that were not there. What happened to the outputs in them meanwhile went unseen.
    fn rearm(&mut self) {
        for place in self.watch.iter_mut().flat_map(Watch::rearm) {
            self.supervisor.inspect(place.account());
        }
    }

    /// Whether a clock was set or the host slept since the last look; everybody is told.
    fn clocks_moved(&mut self) -> bool {
        let clocks = Clocks::read();
        let before = std::mem::replace(&mut self.clocks, clocks);
        let (slept, set) = clocks.since(before);
        if !slept && !set {
            return false;
        }
        let what = if slept {
            "the host was suspended"
        } else {
            "the clock was set"
        };
        Entry::new()
            .event(Event::ClockStep)
            .info(format_args!("{what}: everything is computed anew"));
        if set {
            self.supervisor.on_clock_set();
        } else {
            self.supervisor.wake_all();
        }
        true
    }

    /// A sign of life, but only if every account's task shows one too.
    fn alive(&mut self) {
        let now = clock::now();
        // After a suspend all deadlines are past: the tasks need their turn first.
        if self.clocks_moved() {
            self.shared.notifier.alive();
            return;
        }
        match self.supervisor.hung(&now) {
            None => self.shared.notifier.alive(),
            Some(name) => Entry::of(name).error("the task of this account hangs: no sign of life is given, so that systemd starts the daemon anew"),
        }
    }
}

/// Tells what looks like a mistake in a configuration that is right.
fn warn_of(warnings: &[Fault]) {
    for warning in warnings {
        Entry::new().warn(warning);
    }
}

/// Watches the outputs, so that a foreign change is seen at once. The sweep sees it too, so that it may fail.
fn watch_over(supervisor: &Supervisor) -> Option<Watch> {
    match Watch::new() {
        Ok(mut watch) => {
            watch.replace(supervisor.places());
            Some(watch)
        }
        Err(error) => {
            Entry::new().warn(format_args!(
                "outputs cannot be watched ({}), so that foreign changes are put right only within {}: raise fs.inotify.max_user_instances",
                crate::fault::reason(&error),
                human(SWEEP)
            ));
            None
        }
    }
}

async fn changes(watch: &mut Option<Watch>) -> Vec<Arc<Place>> {
    match watch {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    }
}

fn every(interval: Duration) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval_at(Instant::now() + interval, interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

async fn reached(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

async fn next_signal(signals: &mut Signals) -> i32 {
    let next = std::future::poll_fn(|context| Pin::new(&mut *signals).poll_next(context));
    // The stream ends only when it is closed, which nobody does.
    next.await.unwrap_or(SIGTERM)
}
