//! A reload: everything is parsed, checked and bound first, then swapped; on any fault the old configuration goes on.
//! What may hang is done beside the main loop, which the swap alone takes a moment of.

use super::binding::{bind_mirror, enough_files, listen_tcp, open_api, unbound, warn_of};
use super::mirror::{MirrorBound, PreparedMirror};
use super::prepare::{self, Prepared};
use super::run::told_to_stop;
use super::shared::Shared;
use super::supervisor::{Accounts, Supervisor};
use super::{Daemon, DaemonEvent};
use crate::api;
use crate::api::listener::Listener;
use crate::changes::{Changes, Reloaded};
use crate::clock;
use crate::config::{self, Config, Environment, Loaded, Places, Setting};
use crate::event::Event;
use crate::fault::Fault;
use crate::logging::Entry;
use crate::offload::{Hazard, Stopping};
use crate::platform::client::Client;
use crate::publish::stored_name;
use crate::systemd::KeptSockets;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// A reload that loads for so long is told.
const SLOW: Duration = Duration::from_secs(10);
/// Limit on loading. Each file and name has a limit of its own; this is for all together.
const LOAD_LIMIT: Duration = Duration::from_secs(90);
/// Longest wait of an answer for the first attempts of new accounts.
const FIRST_ATTEMPTS_LIMIT: Duration = Duration::from_secs(10);
/// Limit on binding a new API socket.
const LISTEN_LIMIT: Duration = Duration::from_secs(2);

/// Those who wait for a reload.
type Replies = Vec<oneshot::Sender<Reloaded>>;

/// The reload that is under way.
#[derive(Default)]
pub(super) struct Reloading {
    pub(super) is_loading: bool,
    /// Names are put in force: a reload waits for that.
    pub(super) is_held: bool,
    replies: Replies,
    /// Somebody asked for another one meanwhile.
    next: Option<Replies>,
}

/// A step of a reload has ended.
pub(super) enum ReloadEvent {
    /// All that may fail or hang is done.
    Loaded(Box<Result<ToApply, Vec<Fault>>>),
    /// The first attempts of new accounts have ended.
    Settled(Changes, Replies),
}

/// A configuration that is ready to be put in force.
pub(super) struct ToApply {
    config: Config,
    client: Option<Client>,
    tcp: Option<TcpListener>,
    listener: Option<Listener>,
    prepared: Prepared,
    mirror: PreparedMirror,
    warnings: Vec<Fault>,
}

/// The state that a reload starts from.
struct Old {
    config: Config,
    environment: Environment,
    shared: Arc<Shared>,
    accounts: Accounts,
    client: Arc<Client>,
    mirror: MirrorBound,
}

impl Daemon {
    /// Begins to load the configuration anew. While a reload is under way, another one follows it.
    pub(super) fn begin_reload(&mut self, reply: Option<oneshot::Sender<Reloaded>>) {
        if self.reloading.is_loading || self.reloading.is_held {
            self.reloading.next.get_or_insert_default().extend(reply);
            return;
        }
        self.reloading.is_loading = true;
        self.reloading.replies.extend(reply);
        self.shared.notifier.reloading();
        let old = Old {
            config: self.config.clone(),
            environment: self.environment.clone(),
            shared: self.shared.clone(),
            accounts: self.supervisor.accounts(),
            client: self.client.borrow().clone(),
            mirror: self.mirror.bound(),
        };
        let events = self.event_sender.clone();
        tokio::spawn(async move {
            let loaded = ReloadEvent::Loaded(Box::new(old.load().await));
            let _ = events.send(DaemonEvent::Reload(Box::new(loaded)));
        });
    }

    /// Goes on with a reload. Breaks when the daemon is told to stop meanwhile.
    pub(super) async fn on_reload_event(&mut self, event: ReloadEvent) -> ControlFlow<()> {
        match event {
            ReloadEvent::Settled(changes, replies) => self.answer(&Ok(changes), replies),
            ReloadEvent::Loaded(loaded) => {
                self.reloading.is_loading = false;
                let replies = std::mem::take(&mut self.reloading.replies);
                match *loaded {
                    Ok(loaded) => self.put_in_force(loaded, replies).await?,
                    Err(faults) => {
                        self.on_rejected(&faults);
                        self.answer(&Err(faults), replies);
                    }
                }
                self.plan_names();
                self.begin_next_reload();
            }
        }
        ControlFlow::Continue(())
    }

    /// Begins the reload that somebody asked for while the configuration was changed.
    pub(super) fn begin_next_reload(&mut self) {
        if let Some(next) = self.reloading.next.take() {
            self.begin_reload(None);
            self.reloading.replies = next;
        }
    }

    /// Answers those who wait for a reload, the service manager among them.
    fn answer(&mut self, reloaded: &Reloaded, replies: Replies) {
        for reply in replies {
            // The client may have gone; the reload stands all the same.
            let _ = reply.send(reloaded.clone());
        }
        if !self.reloading.is_loading {
            self.status = self.status_line();
            self.shared.notifier.ready(&self.status);
        }
    }

    fn on_rejected(&mut self, faults: &[Fault]) {
        self.shared.metrics.config_reloaded(false, &clock::now());
        for fault in faults {
            Entry::new().by_words().warn(fault);
        }
        // Explained once, however many faults there are.
        Entry::new().event(Event::ConfigRejected).warn(
            "configuration rejected: the old one goes on; correct the faults above and reload",
        );
        self.rejected.send_replace(faults.into());
    }

    /// Swaps the configuration. Nothing can fail here.
    async fn put_in_force(&mut self, new: ToApply, replies: Replies) -> ControlFlow<()> {
        let ToApply {
            config: new,
            client,
            tcp,
            listener,
            prepared,
            mirror,
            warnings,
        } = new;
        if let Some(client) = client {
            self.client.send_replace(Arc::new(client));
            self.supervisor.on_platform_changed();
        }
        if let Some(listener) = listener {
            self.replace_listener(listener);
        }
        if new.api.metrics != self.config.api.metrics {
            if let Some(server) = self.metrics_server.take() {
                server.abort();
            }
            let serve =
                |tcp| tokio::spawn(api::serve_metrics(tcp, self.api.clone())).abort_handle();
            self.metrics_server = tcp.map(serve);
        }
        self.admins.send_replace(new.api.admins.clone());
        self.log.set_level(new.daemon.log_level);
        // An administrator says that all directories are as they should be.
        self.shared.directories.find_anew();
        if let Some(fleet) = &self.shared.fleet {
            fleet.rejoin();
        }
        self.mirror.withdraw(&new.mirror);
        let (unready_sender, mut unready) = mpsc::channel(1);
        let mut changes = tokio::select! {
            changes = self.supervisor.apply(&new.accounts, prepared, &unready_sender) => changes,
            () = told_to_stop(&mut self.signals) => return ControlFlow::Break(()),
        };
        let accounts = self.supervisor.directory();
        self.mirror
            .apply(&new.mirror, mirror, accounts, &self.shared)
            .await;
        changes.warnings = warnings;
        changes.sections = changed_sections(&self.config, &new);
        drop(unready_sender);
        self.config = new;
        self.rejected.send_replace([].into());
        self.watching.replace(self.supervisor.places());
        self.shared.metrics.config_reloaded(true, &clock::now());
        tell_changes(&changes);
        let events = self.event_sender.clone();
        tokio::spawn(async move {
            // Nothing is ever sent: it ends when each new account has dropped its end.
            let _ = timeout(FIRST_ATTEMPTS_LIMIT, unready.recv()).await;
            let settled = ReloadEvent::Settled(changes, replies);
            let _ = events.send(DaemonEvent::Reload(Box::new(settled)));
        });
        ControlFlow::Continue(())
    }

    fn replace_listener(&mut self, new: Listener) {
        let old = self.listener.send_replace(Arc::new(new));
        let (path, notifier) = (self.config.api.socket.clone(), self.shared.notifier.clone());
        let lane = self.shared.outputs_at(&path);
        lane.begin(move || {
            if let Some(name) = stored_name(&path) {
                notifier.drop_kept(&name);
            }
            old.retire();
        });
    }
}

impl Old {
    /// Does all that may fail or hang, and changes nothing.
    async fn load(self) -> Result<ToApply, Vec<Fault>> {
        let (loaded, client) = self.read().await?;
        let Loaded {
            config: new,
            warnings,
            places,
        } = loaded;
        let fault = |subject, message: String| vec![places.fault(&subject, message)];
        self.look_for_frozen(&new, &places)?;
        enough_files(&new).map_err(|message| fault(Setting::Platform, message))?;
        let is_other = |address: &SocketAddr| self.config.api.metrics != Some(*address);
        let tcp = listen_tcp(new.api.metrics.filter(is_other)).await;
        let tcp = tcp.map_err(|message| fault(Setting::ApiMetrics, message))?;
        let changes = Supervisor::changed(&self.accounts, &new.accounts);
        let prepared = prepare::bind(changes, &self.shared, KeptSockets::default()).await;
        let (prepared, _) = prepared.map_err(|faults| unbound(&places, faults))?;
        let mirror = self.bind_mirror(&new).await;
        let mirror = mirror.map_err(|(subject, message)| fault(subject, message))?;
        // Last, since it takes its place at once.
        let listener = if new.api.socket == self.config.api.socket {
            None
        } else {
            let listening = self.listen(&new).await;
            Some(listening.map_err(|message| fault(Setting::ApiSocket, message))?)
        };
        Ok(ToApply {
            config: new,
            client,
            tcp,
            listener,
            prepared,
            mirror,
            warnings,
        })
    }

    /// Reads and checks the configuration, and makes a client for its platforms if those differ.
    async fn read(&self) -> Result<(Loaded, Option<Client>), Vec<Fault>> {
        let (path, environment) = (self.config.path.clone(), self.environment.clone());
        let (platform, runtime) = (self.config.platform.clone(), Handle::current());
        let client = self.client.clone();

        let configuration = self.shared.offload.lane(Hazard::Configuration);
        let mut load = Box::pin(configuration.run(move || {
            let new = config::load(&path, &environment)?;
            // The content of a `ca_file` may be new although its name is not.
            if new.config.platform == platform && new.config.platform.ca_file.is_none() {
                return Ok((new, None));
            }
            let _runtime = runtime.enter();
            match client.renewed(&new.config.platform) {
                Ok(client) => Ok((new, Some(client))),
                Err(error) => Err(vec![
                    new.places.fault(&Setting::Platform, error.to_string()),
                ]),
            }
        }));
        let loaded = if let Ok(loaded) = timeout(SLOW, &mut load).await {
            loaded
        } else {
            Entry::new().warn("the configuration takes long to load: the name service or a disk does not answer; the old one goes on");
            let message =
                "the configuration does not load: the name service or a disk does not answer";
            let given_up = |_| {
                Ok(Err(vec![Fault::of_file(
                    &self.config.path,
                    message.to_owned(),
                )]))
            };
            timeout(LOAD_LIMIT, load).await.unwrap_or_else(given_up)
        };
        let loaded = loaded.unwrap_or_else(|_| Err(Vec::new()));
        loaded.map_err(|mut faults| {
            faults.retain(|fault| !fault.is_warning);
            faults
        })
    }

    /// The settings that cannot change while the daemon runs.
    fn look_for_frozen(&self, new: &Config, places: &Places) -> Result<(), Vec<Fault>> {
        let fault = |subject, message: &str| vec![places.fault(&subject, message.to_owned())];
        if new.daemon.state_dir != self.config.daemon.state_dir {
            return Err(fault(
                Setting::StateDir,
                "`state_dir` cannot change while the daemon runs: restart it",
            ));
        }
        if new.fleet != self.config.fleet {
            return Err(fault(
                Setting::Fleet,
                "[fleet] cannot change while the daemon runs: restart it",
            ));
        }
        Ok(())
    }

    async fn bind_mirror(&self, new: &Config) -> Result<PreparedMirror, (Setting, String)> {
        let bind = bind_mirror(&self.shared, new, self.mirror.clone());
        let fail = |what| (Setting::MirrorSocket, what);
        in_time(bind).await.map_err(fail)?
    }

    async fn listen(&self, new: &Config) -> Result<Listener, String> {
        in_time(open_api(&self.shared, new, KeptSockets::default())).await?
    }
}

/// Waits for the socket of a table for [`LISTEN_LIMIT`].
async fn in_time<T>(bind: impl Future<Output = Result<T, Stopping>>) -> Result<T, String> {
    match timeout(LISTEN_LIMIT, bind).await {
        Ok(Ok(bound)) => Ok(bound),
        Ok(Err(stopping)) => Err(format!("`socket` cannot be had: {stopping}")),
        Err(_) => Err("`socket` cannot be had: its file system does not answer".to_owned()),
    }
}

fn tell_changes(changes: &Changes) {
    warn_of(&changes.warnings);
    let list = |names: &[String]| {
        if names.is_empty() {
            "none".to_owned()
        } else {
            names.join(", ")
        }
    };
    let sections = match changes.sections.as_slice() {
        [] => String::new(),
        sections => format!("[{}] changed; accounts: ", sections.join("], [")),
    };
    Entry::new().event(Event::ConfigReloaded).info(format_args!(
        "configuration reloaded: {sections}added {}; changed {}; removed {}; {} unchanged",
        list(&changes.added),
        list(&changes.changed),
        list(&changes.removed),
        changes.unchanged.len()
    ));
}

/// The sections besides the accounts that differ, by name.
fn changed_sections(old: &Config, new: &Config) -> Vec<String> {
    let sections = [
        ("daemon", old.daemon == new.daemon),
        ("api", old.api == new.api),
        ("platform", old.platform == new.platform),
        ("mirror", old.mirror == new.mirror),
    ];
    let changed = sections.into_iter().filter(|(_, is_equal)| !is_equal);
    changed.map(|(name, _)| name.to_owned()).collect()
}
