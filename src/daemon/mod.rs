//! The daemon: everything is put together here.

mod binding;
mod clocks;
mod desk;
mod left;
mod mirror;
mod output;
mod outputs;
mod prepare;
mod reload;
mod report;
mod resolve;
mod run;
mod shared;
mod sink;
mod status;
mod supervisor;
mod watching;
mod worker;

use crate::account::Principal;
use crate::api::metrics::{Metrics, ReadVia};
use crate::api::{self, ApiState, listener::Listener};
use crate::changes::Reloaded;
use crate::clock;
use crate::config::{Config, Environment, Loaded, Setting};
use crate::fault::Fault;
use crate::fleet::Fleet;
use crate::handle::AccountHandles;
use crate::ledger::TicketLedgers;
use crate::logging::Log;
use crate::offload::{Hazard, Offload};
use crate::platform::client::Client;
use crate::publish::expiry::Expiry;
use crate::publish::{self, Directories};
use crate::store::{Store, StoreError};
use crate::systemd::{KeptSockets, Notifier};
use binding::{
    bind_mirror, enough_files, listen_tcp, open_api, raise_file_limit, unbound, warn_of,
};
use clocks::Clocks;
use mirror::{MirrorBound, MirrorService};
use run::next_signal;
use shared::Shared;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook_tokio::Signals;
use std::sync::Arc;
use std::time::Duration;
use supervisor::{Accounts, Supervisor};
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::{Instant, timeout};
use watching::Watching;

/// Limit on the state directory, on the API socket's directory, and on the certificates at the start.
const START_LIMIT: Duration = Duration::from_secs(20);

/// Accounts that do something at a time. What they do takes files, and memory: thousands want to at the start.
const TURNS: usize = 64;

/// The reason why the daemon does not start.
#[derive(Debug)]
pub enum StartError {
    /// Another instance holds the state directory.
    Locked(StoreError),
    /// The configuration is faulty, or asks for what cannot be had.
    Faults(Vec<Fault>),
    /// It was told to stop before it was ready.
    Stopped,
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
    admins: watch::Sender<Arc<[Principal]>>,
    listener: watch::Sender<Arc<Listener>>,
    stopping: watch::Sender<bool>,
    api_server: JoinHandle<()>,
    metrics_server: Option<AbortHandle>,
    mirror: MirrorService,
    api: ApiState,
    supervisor: Supervisor,
    watching: Watching,
    signals: Signals,
    reloads: mpsc::Receiver<oneshot::Sender<Reloaded>>,
    unready: mpsc::Receiver<()>,
    clocks: Clocks,
    status: String,
    /// The faults of the configuration on disk, if a reload rejected it.
    rejected: watch::Sender<Arc<[Fault]>>,
    reloading: reload::Reloading,
    /// The moment when names are looked up again.
    names_due: Option<Instant>,
    events: mpsc::UnboundedReceiver<DaemonEvent>,
    event_sender: mpsc::UnboundedSender<DaemonEvent>,
}

/// Work that may hang has ended.
enum DaemonEvent {
    Watching(watching::WatchingEvent),
    Reload(Box<reload::ReloadEvent>),
    Names(Box<resolve::NamesEvent>),
}

impl Daemon {
    /// Binds everything, publishes what was stored, and begins to fetch what is missing. Needs a tokio runtime.
    pub async fn start(
        loaded: Loaded,
        environment: Environment,
        log: Log,
    ) -> Result<Self, StartError> {
        let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM, SIGUSR1])
            .map_err(|error| StartError::Other(format!("cannot handle signals: {error}")))?;
        let handle = signals.handle();
        let start = Box::pin(Self::start_unless_stopped(loaded, environment, log));
        let mut wants_reload = false;
        let stopped = async {
            loop {
                match next_signal(&mut signals).await {
                    SIGHUP => wants_reload = true,
                    SIGUSR1 => {}
                    _ => return,
                }
            }
        };
        let started = tokio::select! {
            started = start => started,
            () = stopped => Err(StartError::Stopped),
        };
        if started.is_err() {
            handle.close();
        }
        let start = started?;
        let mut daemon = start(signals);
        daemon.plan_names();
        if wants_reload {
            daemon.begin_reload(None);
        }
        Ok(daemon)
    }

    async fn start_unless_stopped(
        loaded: Loaded,
        environment: Environment,
        log: Log,
    ) -> Result<impl FnOnce(Signals) -> Self, StartError> {
        let Loaded {
            config,
            warnings,
            places,
        } = loaded;
        warn_of(&warnings);
        let kept = KeptSockets::from_process();
        let notifier = Notifier::from_process();
        raise_file_limit();
        let fault = |subject, message| StartError::Faults(vec![places.fault(&subject, message)]);
        let (client, shared) = share(&config, notifier, fault).await?;
        let accounts = config.accounts.clone();
        left::remove_leftovers(&config, &shared).await;
        enough_files(&config).map_err(|message| fault(Setting::Platform, message))?;
        let mut supervisor = Supervisor::new(shared.clone());
        let new = Supervisor::changed(&Accounts::default(), &accounts);
        let bound = prepare::bind(new, &shared, kept).await;
        let (prepared, kept) =
            bound.map_err(|faults| StartError::Faults(unbound(&places, faults)))?;
        let tcp = listen_tcp(config.api.metrics).await;
        let tcp = tcp.map_err(|message| fault(Setting::ApiMetrics, message))?;
        let bind = bind_mirror(&shared, &config, MirrorBound::default());
        let prepared_mirror = limited("the socket of `mirror`", bind).await?;
        let prepared_mirror =
            prepared_mirror.map_err(|(subject, message)| fault(subject, message))?;
        // Last, since it takes its place at once.
        let open = open_api(&shared, &config, kept);
        let listener = limited("the directory of `api.socket`", open).await?;
        let listener = listener.map_err(|message| fault(Setting::ApiSocket, message))?;
        left::take_away(&config, &shared).await;
        let (unready_sender, unready) = mpsc::channel(1);
        supervisor.apply(&accounts, prepared, &unready_sender).await;
        let (admins, admins_receiver) = watch::channel(config.api.admins.clone());
        let (reload, reloads) = mpsc::channel(8);
        let (stopping, stopping_receiver) = watch::channel(false);
        let (rejected, rejected_receiver) = watch::channel([].into());
        let api = ApiState {
            rejected: rejected_receiver,
            stopping: stopping_receiver,
            accounts: supervisor.directory(),
            admins: admins_receiver,
            reload,
            started: clock::now().at,
            subscribers: shared.subscribers.clone(),
            metrics: shared.metrics.clone(),
        };
        shared.metrics.config_loaded(&clock::now());
        let mut mirror = MirrorService::new(environment.platforms);
        mirror
            .apply(
                &config.mirror,
                prepared_mirror,
                supervisor.directory(),
                &shared,
            )
            .await;
        let (listener, listeners) = watch::channel(Arc::new(listener));
        let api_server = tokio::spawn(api::serve(listeners, api.clone()));
        let metrics_server =
            tcp.map(|tcp| tokio::spawn(api::serve_metrics(tcp, api.clone())).abort_handle());
        let (event_sender, events) = mpsc::unbounded_channel();
        let mut watching = Watching::start(shared.clone(), event_sender.clone());
        watching.replace(supervisor.places());
        Ok(move |signals| Self {
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
            watching,
            supervisor,
            signals,
            reloads,
            unready,
            clocks: Clocks::read(),
            status: String::new(),
            rejected,
            reloading: reload::Reloading::default(),
            names_due: None,
            events,
            event_sender,
        })
    }

    /// All accounts, now and after each reload.
    pub fn directory(&self) -> watch::Receiver<Arc<AccountHandles>> {
        self.supervisor.directory()
    }
}

/// The result of a step of the start: what it made, or what is wrong with the configuration.
type Made<T> = Result<Result<T, String>, StartError>;

/// Opens and starts all that accounts share: the state, the client, the servers of sockets, the fleet.
async fn share(
    config: &Config,
    notifier: Notifier,
    fault: impl Fn(Setting, String) -> StartError,
) -> Result<(watch::Sender<Arc<Client>>, Arc<Shared>), StartError> {
    let offload = Offload::default();
    let store = open_store(&offload, config).await?;
    let client = make_client(&offload, config).await?;
    let client = client.map_err(|message| fault(Setting::Platform, message))?;
    let (client, client_receiver) = watch::channel(Arc::new(client));
    let metrics = Arc::new(Metrics::new());
    let server = publish::SocketServer::start(metrics.denied(ReadVia::Socket))
        .map_err(|error| StartError::Other(format!("cannot serve sockets: {error}")))?;
    let expiry = Expiry::start(offload.clone()).map_err(|error| {
        StartError::Other(format!("cannot watch over the ends of values: {error}"))
    })?;
    let news = Arc::new(Notify::new());
    let fleet = join_fleet(&offload, config, &metrics, &news).await?;
    let fleet = fleet.map_err(|message| fault(Setting::Fleet, message))?;
    let shared = Arc::new(Shared {
        fleet,
        store,
        notifier,
        offload,
        client: client_receiver,
        metrics,
        server,
        directories: Directories::new(&config.daemon.runtime_dir),
        expiry,
        turns: Semaphore::new(TURNS),
        subscribers: Arc::default(),
        changed: news,
        ledgers: TicketLedgers::default(),
    });
    Ok((client, shared))
}

async fn make_client(offload: &Offload, config: &Config) -> Made<Client> {
    let (platform, runtime) = (config.platform.clone(), Handle::current());
    let make = offload.lane(Hazard::Configuration).run(move || {
        let _runtime = runtime.enter();
        Client::new(&platform).map_err(|error| error.to_string())
    });
    limited("the certificates", make).await
}

async fn join_fleet(
    offload: &Offload,
    config: &Config,
    metrics: &Metrics,
    news: &Arc<Notify>,
) -> Made<Option<Fleet>> {
    let Some(section) = config.fleet.clone() else {
        return Ok(Ok(None));
    };
    let (runtime, of_fleet, news) = (Handle::current(), offload.clone(), news.clone());
    let requests = metrics.fleet_requests();
    let join = offload.lane(Hazard::Configuration).run(move || {
        let _runtime = runtime.enter();
        Fleet::start(&section, &of_fleet, news, requests).map(Some)
    });
    limited("the certificates of etcd", join).await
}

async fn open_store(offload: &Offload, config: &Config) -> Result<Store, StartError> {
    let state_dir = config.daemon.state_dir.clone();
    let (sync, runtime) = (offload.lane(Hazard::StateSync), Handle::current());
    let open = offload
        .lane(Hazard::State)
        .run(move || Store::open(&state_dir).inspect(|store| store.sync_with(runtime, sync)));
    limited("the state directory", open)
        .await?
        .map_err(|error| match error {
            error @ StoreError::Locked(_) => StartError::Locked(error),
            error => StartError::Other(error.to_string()),
        })
}

/// Waits for something without which there is no start.
async fn limited<T, E>(
    what: &str,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, StartError> {
    match timeout(START_LIMIT, work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(_)) => Err(StartError::Stopped),
        Err(_) => Err(StartError::Other(format!(
            "{what} cannot be had: its file system does not answer; look at the disk, mount or network below it"
        ))),
    }
}
