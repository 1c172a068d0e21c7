//! The feed as a whole: follows the stream, tells each target what is to stand in it, reloads.

mod reload;

use crate::config::{FeedConfig, Target};
use crate::metrics::{self, FeedMetrics};
use crate::report::{Reports, status_line};
use crate::target::TargetTask;
use crate::wish::{TargetWish, WishChange};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{self, Receiver, UnboundedSender};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};
use wxtokend::account::AccountName;
use wxtokend::event::Event as LogEvent;
use wxtokend::fault::Fault;
use wxtokend::follow::{Holding, StreamEvent, StreamLine, Subject, Wanted, follow};
use wxtokend::logging::{Entry, Log};
use wxtokend::systemd::{Notifier, alive_every};

/// The longest wait of READY=1 for the daemon and the targets.
const READY_AFTER: Duration = Duration::from_secs(10);
/// The shortest time between two changes of the line of `systemctl status`.
const STATUS_EVERY: Duration = Duration::from_millis(250);
/// The time that targets have to end when the feed stops.
const STOP_GRACE: Duration = Duration::from_secs(4);

/// A target that runs.
struct RunningTarget {
    /// Its place among the targets, and in the reports.
    index: usize,
    target: Target,
    changes: UnboundedSender<WishChange>,
    task: JoinHandle<()>,
}

/// Everything that runs.
pub struct Feed {
    config: FeedConfig,
    credentials: Option<PathBuf>,
    log: Log,
    notifier: Notifier,
    metrics: Arc<FeedMetrics>,
    reports: Reports,
    metrics_server: Option<JoinHandle<()>>,
    targets: Vec<RunningTarget>,
    events: Receiver<StreamEvent>,
    /// All that the stream has told of.
    standing: BTreeMap<Subject, (Box<str>, Option<Holding>)>,
    /// The values that the stream has told of since it was asked anew; nothing once it has told all.
    heard: Option<BTreeSet<Subject>>,
    is_ready: bool,
    /// Faults of a reload that was rejected.
    rejected: Option<String>,
}

/// The reason why the feed could not start.
pub enum FeedError {
    /// The configuration is faulty.
    Faults(Vec<Fault>),
    /// Something else.
    Other(String),
}

impl Feed {
    /// Starts to follow and to write.
    pub async fn start(
        config: FeedConfig,
        credentials: Option<PathBuf>,
        log: Log,
    ) -> Result<Self, FeedError> {
        let metrics = Arc::new(FeedMetrics::default());
        let mut feed = Self {
            events: follow(wanted(&config)),
            credentials,
            log,
            notifier: Notifier::from_process(),
            reports: metrics.reports.clone(),
            metrics,
            metrics_server: None,
            targets: Vec::new(),
            standing: BTreeMap::new(),
            heard: Some(BTreeSet::new()),
            is_ready: false,
            rejected: None,
            config,
        };
        feed.serve_metrics()
            .await
            .map_err(|fault| FeedError::Faults(vec![fault]))?;
        feed.start_targets();
        Entry::new().event(LogEvent::Started).info(format_args!(
            "wxtokend-feed {} started with {} targets",
            wxtokend::VERSION,
            feed.targets.len()
        ));
        Ok(feed)
    }

    async fn serve_metrics(&mut self) -> Result<(), Fault> {
        if let Some(address) = self.config.metrics {
            let server = metrics::serve(address, Arc::clone(&self.metrics))
                .await
                .map_err(|error| {
                    let reason = wxtokend::fault::reason(&error);
                    Fault::of_file(
                        &self.config.path,
                        format!("`metrics` cannot listen on {address}: {reason}"),
                    )
                })?;
            self.metrics_server = Some(server);
        }
        Ok(())
    }

    /// Starts every target of the configuration that does not run, and stops the others.
    fn start_targets(&mut self) {
        self.reports.reset(&self.config.targets);
        let mut old = std::mem::take(&mut self.targets);
        for (index, target) in self.config.targets.iter().enumerate() {
            let is_same = |running: &RunningTarget| {
                running.index == index && running.target == *target && !running.task.is_finished()
            };
            if let Some(at) = old.iter().position(is_same) {
                self.targets.push(old.swap_remove(at));
                continue;
            }
            let (changes, receiver) = mpsc::unbounded_channel();
            let task = TargetTask::new(index, target.clone(), receiver, self.reports.clone());
            for (subject, (appid, holding)) in &self.standing {
                if subject.value == target.value {
                    let wish = wish(subject, appid, holding.as_ref());
                    // The task has not ended before it began.
                    let _ = changes.send(WishChange::Wish(wish));
                }
            }
            self.targets.push(RunningTarget {
                index,
                target: target.clone(),
                changes,
                task: tokio::spawn(task.run()),
            });
        }
        // Those that are left end with their channels.
    }

    /// Runs until it is told to stop.
    pub async fn run(mut self) -> std::io::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hang_up = signal(SignalKind::hangup())?;
        let ready_at = Instant::now() + READY_AFTER;
        let mut status_at = None;
        let mut alive_at = alive_every().map(|every| Instant::now() + every);
        let reports = self.reports.clone();
        loop {
            tokio::select! {
                Some(event) = self.events.recv() => {
                    self.on_event(event);
                    status_at = status_at.or(Some(Instant::now() + STATUS_EVERY));
                }
                () = reports.changed() => status_at = status_at.or(Some(Instant::now() + STATUS_EVERY)),
                () = next(&mut terminate) => break,
                () = next(&mut interrupt) => break,
                () = next(&mut hang_up) => self.reload().await,
                () = sleep_until(ready_at), if !self.is_ready => self.tell_ready(),
                () = at(status_at) => {
                    status_at = None;
                    self.tell_status();
                }
                () = at(alive_at) => {
                    self.notifier.alive();
                    alive_at = alive_every().map(|every| Instant::now() + every);
                }
            }
        }
        self.stop().await;
        Ok(())
    }

    async fn stop(self) {
        self.notifier.stopping();
        let tasks: Vec<_> = self
            .targets
            .into_iter()
            .map(|running| running.task)
            .collect();
        // Their channels are closed: outstanding writes end.
        let _ = timeout(STOP_GRACE, async {
            for task in tasks {
                let _ = task.await;
            }
        })
        .await;
        Entry::new()
            .event(LogEvent::Stopped)
            .info("wxtokend-feed stopped");
        self.log.flush(Duration::from_millis(500));
        self.notifier.flush(Duration::from_millis(500));
    }

    fn on_event(&mut self, event: StreamEvent) {
        match event {
            StreamEvent::Away(error) => {
                if self.metrics.is_connected.swap(false, Ordering::Relaxed) || !self.is_ready {
                    Entry::new().warn(format_args!(
                        "the daemon is away: {error} (`{}`); what is valid stays",
                        self.config.socket.display()
                    ));
                }
            }
            StreamEvent::Line(line, _) => self.on_line(line),
        }
    }

    fn on_line(&mut self, line: StreamLine) {
        match line {
            StreamLine::Value {
                subject,
                appid,
                holding,
            } => {
                if let Some(heard) = &mut self.heard {
                    heard.insert(subject.clone());
                }
                self.tell(&wish(&subject, &appid, holding.as_ref()), subject.value);
                self.standing.insert(subject, (appid, holding));
            }
            StreamLine::Gone(account) => self.on_gone(&account),
            StreamLine::Synced => {
                if let Some(heard) = self.heard.take() {
                    let is_missing = |subject: &&Subject| !heard.contains(subject);
                    let missing: BTreeSet<AccountName> = self
                        .standing
                        .keys()
                        .filter(is_missing)
                        .map(|subject| subject.account.clone())
                        .collect();
                    for account in &missing {
                        self.on_gone(account);
                    }
                }
                if !self.metrics.is_connected.swap(true, Ordering::Relaxed) {
                    Entry::new().info("the daemon is followed");
                }
                if self.standing.is_empty() {
                    Entry::new().warn(
                        "there is no account that this user may read: add it to the `readers` of one (wxtokend.toml)",
                    );
                }
            }
            StreamLine::Heartbeat | StreamLine::Unknown => {}
        }
    }

    /// The account is no more, or not for us: what it left is treated as having ended.
    fn on_gone(&mut self, account: &AccountName) {
        let gone: Vec<Subject> = self
            .standing
            .keys()
            .filter(|subject| subject.account == *account)
            .cloned()
            .collect();
        for subject in gone {
            if let Some((appid, _)) = self.standing.remove(&subject) {
                self.tell(&wish(&subject, &appid, None), subject.value);
            }
        }
    }

    fn tell(&self, wish: &TargetWish, value: wxtokend::value::ValueName) {
        for running in self
            .targets
            .iter()
            .filter(|running| running.target.value == value)
        {
            // A task that ended is seen by a reload.
            let _ = running.changes.send(WishChange::Wish(wish.clone()));
        }
    }

    fn tell_status(&mut self) {
        let reports = self.reports.all();
        let is_synced = self.metrics.is_connected.load(Ordering::Relaxed);
        if !self.is_ready && is_synced && reports.iter().all(|report| !report.is_untried) {
            self.tell_ready();
        }
        let mut line = status_line(&reports, is_synced);
        if let Some(rejected) = &self.rejected {
            line.push_str("; reload rejected: ");
            line.push_str(rejected);
        }
        self.notifier.status(&line);
    }

    fn tell_ready(&mut self) {
        self.is_ready = true;
        let is_connected = self.metrics.is_connected.load(Ordering::Relaxed);
        self.notifier
            .ready(&status_line(&self.reports.all(), is_connected));
    }
}

/// The accounts and values that a configuration asks for.
pub fn wanted(config: &FeedConfig) -> Wanted {
    Wanted {
        socket: config.socket.clone(),
        accounts: config.accounts.clone(),
        values: config.values(),
    }
}

fn wish(subject: &Subject, appid: &str, holding: Option<&Holding>) -> TargetWish {
    TargetWish {
        account: subject.account.clone(),
        appid: appid.into(),
        holding: holding.cloned(),
    }
}

async fn next(signal: &mut Signal) {
    signal.recv().await;
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}
