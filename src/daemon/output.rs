//! One output: its value, what has to be done so that it shows it, and how it ends. What is done may hang: nobody waits
//! for it longer than for [`PUBLISH_LIMIT`].

use super::shared::Shared;
use super::sink::{OutputEnd, Shown, Sink};
use crate::account::Account;
use crate::counters::{Counted, Counters};
use crate::event::Event;
use crate::fault::reason;
use crate::format;
use crate::handle::Inbox;
use crate::logging::Entry;
use crate::offload::{Hazard, Lane};
use crate::publish::socket::TokenSocket;
use crate::publish::{Place, PublishError};
use crate::snapshot::OutputState;
use crate::systemd::Notifier;
use crate::time::{Moment, Now};
use crate::value::{Grant, ValueName};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

/// Longest wait of an account for its outputs. What takes longer goes on by itself.
pub(super) const PUBLISH_LIMIT: Duration = Duration::from_secs(1);
/// Longest wait before a failed output is tried again.
const MAX_RETRY: Duration = Duration::from_secs(30);
/// Time that a replaced socket goes on serving those who were about to connect to it.
const SUCCESSION: Duration = Duration::from_secs(1);

/// An output that the daemon keeps up to date.
pub(super) struct LiveOutput {
    pub(super) index: usize,
    pub(super) place: Arc<Place>,
    pub(super) sink: Box<dyn Sink>,
    pub(super) state: OutputState,
    /// It shows something else than it should.
    pub(super) stale: bool,
    /// Somebody may have changed it.
    pub(super) doubted: bool,
    pub(super) failures: u32,
    pub(super) retry_at: Moment,
    pub(super) running: Option<Box<OutputAction>>,
}

/// Work on an output that is under way.
pub(super) struct OutputAction {
    result: oneshot::Receiver<Result<Shown, PublishError>>,
    /// True if the account has stopped to wait, so that it has to be woken at the end.
    is_late: Arc<AtomicBool>,
    /// The state that it leads to.
    state: OutputState,
    is_repair: bool,
}

/// The part of an account that its outputs need.
pub(super) struct Surroundings<'a> {
    pub(super) shared: &'a Arc<Shared>,
    pub(super) account: &'a Account,
    pub(super) inbox: &'a Arc<Inbox>,
    pub(super) counters: &'a Arc<Counters>,
    pub(super) now: &'a Now,
}

impl LiveOutput {
    pub(super) fn is_failed(&self) -> bool {
        self.state.is_failed()
    }

    /// Begins to show what it should, if it does not.
    pub(super) fn begin(&mut self, shown: &[(ValueName, Grant)], around: &Surroundings<'_>) {
        let is_due = (self.stale || self.doubted) && self.retry_at <= around.now.at;
        if !is_due || self.running.is_some() {
            return;
        }
        let output = self.place.output();
        if let Some(name) = output.access.unresolved() {
            let path = output.path.display();
            let error = format!(
                "`{path}` names `{name}`, which could not be looked up; it is looked up again every 10 s"
            );
            return self.on_failed(error, around);
        }
        let rendered = match format::render(around.account, output, shown, around.now) {
            Ok(rendered) => rendered,
            Err(error) => return self.on_failed(error.to_string(), around),
        };
        let state = if rendered.is_some() {
            OutputState::Published
        } else {
            OutputState::Empty
        };
        let is_shown = self.sink.show_at_once(rendered.as_ref(), &self.place);
        if is_shown && !self.doubted {
            self.stale = false;
            return self.on_shown(state, false, around);
        }
        let work = self
            .sink
            .show(rendered, &self.place, around.shared, around.counters);
        let (done, result) = oneshot::channel();
        let is_late = Arc::<AtomicBool>::default();
        let (late, inbox) = (is_late.clone(), around.inbox.clone());
        self.lane(around.shared).begin(move || {
            // The receiver is gone when the account has ended.
            let _ = done.send(work());
            if late.load(Ordering::SeqCst) {
                inbox.wake();
            }
        });
        self.running = Some(Box::new(OutputAction {
            result,
            is_late,
            state,
            is_repair: self.doubted && !self.stale,
        }));
        (self.stale, self.doubted) = (false, false);
    }

    /// Waits for what is being done to it, until a moment. What has not ended by then is trouble.
    pub(super) async fn finish(&mut self, deadline: Instant, around: &Surroundings<'_>) {
        let Some(mut running) = self.running.take() else {
            return;
        };
        let was_late = running.is_late.load(Ordering::SeqCst);
        let is_stuck = was_late || self.lane(around.shared).is_stuck();
        let wait = if is_stuck { Instant::now() } else { deadline };
        let mut result = match timeout_at(wait, &mut running.result).await {
            Ok(result) => Some(result.ok()),
            Err(_) => None,
        };
        if result.is_none() {
            running.is_late.store(true, Ordering::SeqCst);
            // It may have ended just before it could learn that it is late.
            result = running.result.try_recv().ok().map(Some);
        }
        match result {
            Some(Some(Ok(shown))) => {
                if let Some(socket) = shown.socket {
                    self.on_bound(socket, around.shared);
                }
                let is_repaired = running.is_repair && shown.is_changed;
                self.on_shown(running.state, is_repaired, around);
            }
            Some(Some(Err(error))) => self.on_failed(error.to_string(), around),
            // The daemon stops.
            Some(None) => {}
            None => {
                if !was_late {
                    let path = self.place.output().path.display();
                    let error = format!(
                        "cannot write `{path}`: its file system does not answer; look at the disk, mount or network below it"
                    );
                    self.tell_trouble(error, around);
                }
                self.running = Some(running);
            }
        }
    }

    fn lane(&self, shared: &Shared) -> Lane {
        shared.offload.lane(Hazard::Outputs(self.place.device()))
    }

    fn on_bound(&mut self, socket: Box<TokenSocket>, shared: &Arc<Shared>) {
        keep_over_restart(&socket, &shared.notifier);
        let Some(replaced) = self.sink.on_bound(Arc::from(socket)) else {
            return;
        };
        shared.notifier.drop_kept(&replaced.stored_name());
        // Its path is the new one's already; but who found it there before is served yet.
        tokio::spawn(async move {
            tokio::time::sleep(SUCCESSION).await;
            drop(replaced);
        });
    }

    fn on_shown(&mut self, state: OutputState, is_repaired: bool, around: &Surroundings<'_>) {
        let path = &self.place.output().path;
        let entry = Entry::of(&around.account.name).output(path);
        if is_repaired {
            around.counters.count(Counted::OutputRepair(self.index), 1);
            entry.event(Event::OutputRepaired).warn(format_args!(
                "`{}` was changed or removed by somebody else and is put right; nothing but wxtokend may write it",
                path.display()
            ));
        } else if self.is_failed() {
            entry.info(format_args!("`{}` is published again", path.display()));
        }
        self.failures = 0;
        self.state = state;
    }

    fn on_failed(&mut self, error: String, around: &Surroundings<'_>) {
        self.tell_trouble(error, around);
        // Doubted too: what a socket shows at once says nothing of its place.
        (self.stale, self.doubted) = (true, true);
        self.failures += 1;
        let wait = Duration::from_secs(1 << (self.failures - 1).min(5)).min(MAX_RETRY);
        self.retry_at = around.now.at + wait;
    }

    fn tell_trouble(&mut self, error: String, around: &Surroundings<'_>) {
        around.counters.count(Counted::OutputError(self.index), 1);
        let is_known = matches!(&self.state, OutputState::Failed(known) if **known == *error);
        if !is_known {
            warn_of_place(&self.place, &error);
        }
        self.state = OutputState::Failed(error.into());
    }

    /// The moment when it has to be looked at again by itself.
    pub(super) fn next_attempt(&self) -> Option<Moment> {
        let is_waiting = self.running.is_none() && (self.stale || self.doubted);
        is_waiting.then_some(self.retry_at)
    }

    /// Begins its end. Gives what has to be waited for.
    pub(super) fn end(
        self,
        end: OutputEnd,
        shared: &Shared,
    ) -> Option<impl Future<Output = ()> + Send + use<>> {
        let lane = self.lane(shared);
        if end != OutputEnd::Kept
            && let Some(socket) = self.sink.serving()
        {
            shared.notifier.drop_kept(&socket.stored_name());
        }
        self.place.give_up();
        let work = self.sink.end(self.place.clone(), end)?;
        let (gone, place) = (lane.run(work), self.place);
        Some(async move {
            if let Ok(Err(error)) = gone.await {
                warn_of_place(&place, &error);
            }
        })
    }
}

fn warn_of_place(place: &Place, error: impl std::fmt::Display) {
    Entry::of(place.account())
        .event(Event::OutputFailed)
        .output(&place.output().path)
        .warn(error);
}

fn keep_over_restart(socket: &TokenSocket, notifier: &Notifier) {
    let name = socket.stored_name();
    // One that was inherited is kept already; the same once more would be kept twice.
    notifier.drop_kept(&name);
    if let Err(error) = notifier.keep(&name, socket) {
        let path = &socket.place().output().path;
        Entry::of(socket.place().account())
            .output(path)
            .warn(format_args!(
                "`{}` cannot be kept open over a restart: {}",
                path.display(),
                reason(&error)
            ));
    }
}
