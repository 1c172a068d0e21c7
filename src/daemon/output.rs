//! One output: what it shows, what has to be done so that it shows the right thing, and how it ends.

use super::shared::Shared;
use crate::account::{Account, OnExpiry};
use crate::counters::{Counted, Counters};
use crate::event::Event;
use crate::format::{self, Rendered};
use crate::logging::Entry;
use crate::offload::Offload;
use crate::publish::Place;
use crate::publish::file::{self, Published};
use crate::publish::socket::{Bound, TokenSocket};
use crate::snapshot::OutputState;
use crate::systemd::Notifier;
use crate::time::{Moment, Now};
use crate::value::{Grant, ValueName};
use std::sync::Arc;
use std::time::Duration;

/// What is shown goes so long before its end: to take it away takes a moment, and so does to use it.
pub(super) const EARLY: Duration = Duration::from_millis(250);
const LONGEST_RETRY: Duration = Duration::from_secs(30);
/// How long a socket that was replaced serves those who were about to connect to it.
const SUCCESSION: Duration = Duration::from_secs(1);

/// An output that the daemon keeps up to date.
pub(super) struct LiveOutput {
    pub(super) index: usize,
    pub(super) place: Arc<Place>,
    pub(super) sink: Sink,
    pub(super) state: OutputState,
    /// It shows something else than it should.
    pub(super) stale: bool,
    /// Somebody may have changed it.
    pub(super) doubted: bool,
    /// Until when what it shows is valid; not known before it was first written.
    pub(super) shows_until: Option<Moment>,
    pub(super) failures: u32,
    pub(super) retry_at: Moment,
}

/// How it is reached.
pub(super) enum Sink {
    File(OnExpiry),
    Socket {
        bound: Option<Box<Bound>>,
        serving: Option<Box<TokenSocket>>,
    },
}

impl Sink {
    pub(super) fn is_file(&self) -> bool {
        matches!(self, Self::File(_))
    }

    /// The socket that serves, if it is one that does.
    pub(super) fn into_serving(self) -> Option<Box<TokenSocket>> {
        match self {
            Self::File(_) => None,
            Self::Socket { serving, .. } => serving,
        }
    }
}

/// Why an output ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It is configured no more: its file or socket goes.
    Removed,
    /// Another output has its path now.
    Replaced,
    /// The daemon stops: a file stays, a socket goes.
    Stopped,
    /// The daemon stops and the service manager keeps its sockets.
    Kept,
}

impl LiveOutput {
    pub(super) fn is_failed(&self) -> bool {
        matches!(self.state, OutputState::Failed(_))
    }

    pub(super) async fn attempt(
        &mut self,
        shared: &Arc<Shared>,
        account: &Account,
        shown: &[(ValueName, Grant)],
        now: &Now,
        counters: &Arc<Counters>,
    ) {
        let result = match format::render(account, self.place.output(), shown, now) {
            Ok(rendered) => self.show(rendered, shared, now, counters).await,
            Err(error) => Err(error.to_string()),
        };
        match result {
            Ok((state, wrote)) => self.succeeded(state, wrote, account, counters),
            Err(error) => {
                if self.shows_until.is_none_or(|until| until <= now.at + EARLY) {
                    self.clear(&shared.offload).await;
                }
                self.failed(error, account, now, counters);
            }
        }
    }

    /// Shows a value, or that there is none. Says whether something had to be done for it.
    async fn show(
        &mut self,
        rendered: Option<Rendered>,
        shared: &Arc<Shared>,
        now: &Now,
        counters: &Arc<Counters>,
    ) -> Result<(OutputState, bool), String> {
        let state = if rendered.is_some() {
            OutputState::Published
        } else {
            OutputState::Empty
        };
        let until = rendered.as_ref().map(Rendered::expires);
        let place = self.place.clone();
        let wrote = match &mut self.sink {
            Sink::File(on_expiry) => {
                let (keep, at) = (*on_expiry == OnExpiry::Keep, now.at);
                blocking(&shared.offload, move || {
                    match rendered.as_ref().and_then(|rendered| rendered.at(at)) {
                        Some(bytes) => {
                            file::publish(&place, &bytes).map(|done| done == Published::Written)
                        }
                        None if keep => Ok(false),
                        None => file::remove(&place),
                    }
                })
                .await?
            }
            Sink::Socket {
                serving: Some(serving),
                ..
            } if Arc::ptr_eq(serving.place(), &place)
                && (!self.doubted || is_intact(&shared.offload, place.clone()).await) =>
            {
                serving.set(rendered);
                false
            }
            Sink::Socket { bound, serving } => {
                let (bound, shared, counters) = (bound.take(), shared.clone(), counters.clone());
                let (offload, notifier) = (shared.offload.clone(), shared.notifier.clone());
                let socket = blocking(&offload, move || {
                    let bound =
                        bound.map_or_else(|| Bound::prepare(place, None), |bound| Ok(*bound))?;
                    bound.commit(rendered, &shared.server, counters)
                })
                .await?;
                keep_over_restart(&socket, &notifier);
                if let Some(replaced) = serving.replace(Box::new(socket)) {
                    notifier.drop_kept(&replaced.stored_name());
                    // Its path is the new one's already; but who found it there before is served yet.
                    tokio::spawn(async move {
                        tokio::time::sleep(SUCCESSION).await;
                        drop(replaced);
                    });
                }
                true
            }
        };
        self.shows_until = until;
        Ok((state, wrote))
    }

    fn succeeded(
        &mut self,
        state: OutputState,
        wrote: bool,
        account: &Account,
        counters: &Counters,
    ) {
        let path = &self.place.output().path;
        let entry = Entry::of(&account.name).output(path);
        if self.doubted && wrote && !self.stale {
            counters.count(Counted::OutputRepair(self.index), 1);
            entry.event(Event::OutputRepaired).warn(format_args!(
                "`{}` was changed or removed by somebody else and is put right; nothing but wxtokend may write it",
                path.display()
            ));
        } else if self.is_failed() {
            entry.info(format_args!("`{}` is published again", path.display()));
        }
        (self.stale, self.doubted, self.failures) = (false, false, 0);
        self.state = state;
    }

    fn failed(&mut self, error: String, account: &Account, now: &Now, counters: &Counters) {
        let path = &self.place.output().path;
        counters.count(Counted::OutputError(self.index), 1);
        let known = matches!(&self.state, OutputState::Failed(known) if **known == *error);
        if !known {
            Entry::of(&account.name)
                .event(Event::OutputFailed)
                .output(path)
                .warn(&error);
        }
        self.state = OutputState::Failed(error.into());
        self.stale = true;
        self.failures += 1;
        let wait = Duration::from_secs(1 << (self.failures - 1).min(5)).min(LONGEST_RETRY);
        self.retry_at = now.at + wait;
        // What it shows meanwhile has to go in time.
        if let Some(end) = self.shows_until.map(|until| until - EARLY)
            && end > now.at
        {
            self.retry_at = self.retry_at.min(end);
        }
    }

    /// Takes away what is expired while nothing better can be written.
    async fn clear(&mut self, offload: &Offload) {
        let place = self.place.clone();
        match &mut self.sink {
            Sink::File(OnExpiry::Remove) => {
                // Why it cannot be written has been said; that it cannot be removed either is likely the same.
                let _ = blocking(offload, move || file::remove(&place)).await;
            }
            Sink::Socket {
                serving: Some(serving),
                ..
            } => serving.set(None),
            _ => {}
        }
    }

    pub(super) async fn end(self, end: End, shared: &Shared) {
        let Shared {
            offload, notifier, ..
        } = shared;
        let place = self.place;
        let gone = match (self.sink, end) {
            (Sink::File(_), End::Removed) => {
                let place = place.clone();
                blocking(offload, move || file::remove(&place).map(|_| ())).await
            }
            (
                Sink::Socket {
                    serving: Some(socket),
                    ..
                },
                End::Removed | End::Stopped,
            ) => {
                notifier.drop_kept(&socket.stored_name());
                blocking(offload, move || socket.retire()).await
            }
            (
                Sink::Socket {
                    serving: Some(socket),
                    ..
                },
                End::Replaced,
            ) => {
                notifier.drop_kept(&socket.stored_name());
                Ok(())
            }
            // A file stays when the daemon stops, and so does a socket that the service manager keeps.
            _ => Ok(()),
        };
        if let Err(error) = gone {
            let path = &place.output().path;
            Entry::of(place.account())
                .event(Event::OutputFailed)
                .output(path)
                .warn(&error);
        }
    }
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
                crate::fault::reason(&error)
            ));
    }
}

async fn is_intact(offload: &Offload, place: Arc<Place>) -> bool {
    offload.run(move || place.is_intact()).await.unwrap_or(true)
}

/// Does something that blocks beside the runtime; an error becomes text that says what to do.
async fn blocking<T: Send + 'static, E: std::fmt::Display + Send + 'static>(
    offload: &Offload,
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, String> {
    match offload.run(work).await {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(stopping) => Err(stopping.to_string()),
    }
}
