//! The main loop: waits for whatever happens, and for nothing that may hang.

use super::clocks::Clocks;
use super::watching::{SWEEP, WatchingEvent};
use super::{Daemon, DaemonEvent, left, status};
use crate::clock;
use crate::event::Event;
use crate::logging::Entry;
use crate::systemd;
use futures_core::Stream;
use signal_hook::consts::{SIGHUP, SIGTERM, SIGUSR1};
use signal_hook_tokio::Signals;
use std::pin::Pin;
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, timeout};

/// READY waits no longer than this for accounts without a value.
const READY_LIMIT: Duration = Duration::from_secs(10);
/// Minimum interval between two status lines.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);
/// Limit on stopping accounts: SIGTERM to exit, less what comes after.
const STOP_LIMIT: Duration = Duration::from_millis(4200);
/// Limit on leaving the fleet: the end of it since SIGTERM.
const LEAVE_LIMIT: Duration = Duration::from_millis(4600);
/// Limit on removing the API socket.
const RETIRE_LIMIT: Duration = Duration::from_millis(200);
/// Time for which a stopping daemon waits for requests on connections that it has accepted, and for their answers. The
/// accounts come to their end meanwhile.
const ANSWER_LIMIT: Duration = Duration::from_millis(1500);
/// Longest wait until the last messages are read.
const FLUSH_LIMIT: Duration = Duration::from_millis(100);

impl Daemon {
    /// Runs until SIGTERM or SIGINT.
    pub async fn run(mut self) {
        let mut ready = false;
        let ready_at = Instant::now() + READY_LIMIT;
        let mut sweep = every(SWEEP);
        let alive_every = systemd::alive_every();
        let mut alive = every(alive_every.unwrap_or(Duration::from_secs(86_400)));
        let mut told_at = Instant::now() - STATUS_INTERVAL;
        let mut tell_at = None;
        let changed = self.shared.changed.clone();
        loop {
            tokio::select! {
                signal = next_signal(&mut self.signals) => match signal {
                    // Faults are in the log and in the status line.
                    SIGHUP => self.begin_reload(None),
                    SIGUSR1 => self.supervisor.suspect_all(),
                    _ => break,
                },
                Some(reply) = self.reloads.recv() => self.begin_reload(Some(reply)),
                Some(event) = self.events.recv() => match event {
                    DaemonEvent::Watching(event) => self.on_watching_event(event),
                    DaemonEvent::Reload(event) => if self.on_reload_event(*event).await.is_break() {
                        break;
                    }
                    DaemonEvent::Names(event) => if self.on_names_event(*event).await.is_break() {
                        break;
                    }
                },
                () = reached(self.names_due) => self.look_for_names(),
                _ = self.unready.recv(), if !ready => { ready = true; self.on_ready(); }
                () = tokio::time::sleep_until(ready_at), if !ready => { ready = true; self.on_ready(); }
                () = changed.notified(), if ready && tell_at.is_none() => tell_at = Some(told_at + STATUS_INTERVAL),
                () = reached(tell_at) => {
                    (told_at, tell_at) = (Instant::now(), None);
                    if ready {
                        self.tell_status();
                    }
                }
                places = self.watching.changed() => {
                    for place in places {
                        self.supervisor.inspect(place.account());
                    }
                }
                _ = sweep.tick() => self.sweep(ready),
                _ = alive.tick(), if alive_every.is_some() => self.alive(),
            }
        }
        self.stop().await;
    }

    /// Stops everything, whatever hangs.
    async fn stop(mut self) {
        let (notifier, began) = (self.shared.notifier.clone(), Instant::now());
        notifier.stopping();
        Entry::new()
            .event(Event::Stopped)
            .info("stopping; files stay where they are");
        if !notifier.is_managed() {
            let listener = self.listener.borrow().clone();
            let lane = self.shared.outputs_at(&self.config.api.socket);
            self.mirror.retire(&self.shared);
            // The next start replaces a socket that is not removed in time.
            let _ = timeout(RETIRE_LIMIT, lane.run(move || listener.retire())).await;
        }
        // Requests that were accepted are answered while the accounts come to their end.
        self.stopping.send_replace(true);
        drop(self.listener);
        let (places, shared) = (self.supervisor.places(), self.shared.clone());
        let answered = timeout(ANSWER_LIMIT, self.api_server);
        let _ = tokio::join!(self.supervisor.stop(STOP_LIMIT), answered);
        if let Some(fleet) = &shared.fleet {
            fleet
                .leave(LEAVE_LIMIT.saturating_sub(began.elapsed()))
                .await;
        }
        left::note(&shared, self.config.daemon.state_dir, places).await;
        notifier.flush(FLUSH_LIMIT);
    }

    fn on_ready(&mut self) {
        self.status = self.status_line();
        self.shared.notifier.ready(&self.status);
        Entry::new().event(Event::Started).info(format_args!(
            "wxtokend {} is ready: {}",
            crate::VERSION,
            self.status
        ));
    }

    /// A rejected configuration stands in the status line until the next reload.
    pub(super) fn status_line(&self) -> String {
        let platforms = self.environment.platforms;
        let now = clock::now();
        let mut line = status::line(&self.supervisor.directory().borrow(), platforms, &now);
        if let Some(fleet) = &self.shared.fleet {
            line = format!("{line}; {}", status::fleet(&fleet.summary(now.at), &now));
        }
        let rejected = self.rejected.borrow();
        let more = match rejected.len() {
            0 => return line,
            1 => String::new(),
            count => format!(" (and {} more)", count - 1),
        };
        let first = &rejected[0];
        format!("configuration rejected, the old one goes on: {first}{more}; {line}")
    }

    fn tell_status(&mut self) {
        let line = self.status_line();
        if line != self.status {
            self.shared.notifier.status(&line);
            self.status = line;
        }
    }

    /// Looks at what no event tells of.
    fn sweep(&mut self, ready: bool) {
        self.look_at_clocks();
        self.watching.sweep(&self.supervisor.places());
        let store = self.shared.store.clone();
        self.shared.state().begin(move || match store.restore() {
            Ok(false) => {}
            Ok(true) => Entry::new().event(Event::StateDamaged).warn(
                "the file of what outlives a restart was removed or replaced by somebody else and is written again",
            ),
            Err(error) => Entry::new().warn(error),
        });
        self.log.tell_left_out();
        if ready {
            self.tell_status();
        }
    }

    fn on_watching_event(&mut self, event: WatchingEvent) {
        for place in self.watching.on_event(event) {
            self.supervisor.inspect(place.account());
        }
    }

    /// Tells every account if a clock was set or the host slept since the last look. Returns whether that is so.
    fn look_at_clocks(&mut self) -> bool {
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

    /// Gives a sign of life, but only if every account's task shows one too.
    fn alive(&mut self) {
        let now = clock::now();
        // After a suspend all deadlines are past: the tasks need their turn first.
        if self.look_at_clocks() {
            self.shared.notifier.alive();
            return;
        }
        match self.supervisor.hung(&now) {
            None => self.shared.notifier.alive(),
            Some(name) => Entry::of(name).error("the task of this account hangs: no sign of life is given, so that systemd starts the daemon anew"),
        }
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

/// Waits for the next signal.
pub(super) async fn next_signal(signals: &mut Signals) -> i32 {
    let next = std::future::poll_fn(|context| Pin::new(&mut *signals).poll_next(context));
    // The stream ends only when it is closed, which nobody does.
    next.await.unwrap_or(SIGTERM)
}

/// Waits until the daemon is told to stop; other signals are dropped.
pub(super) async fn told_to_stop(signals: &mut Signals) {
    while matches!(next_signal(signals).await, SIGHUP | SIGUSR1) {}
}
