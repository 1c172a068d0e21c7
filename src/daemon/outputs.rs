//! The outputs of one account: what each shows, and what has to be done so that it shows the right thing.

use super::shared::Shared;
use crate::account::{Account, OnExpiry, OutputKind};
use crate::event::Event;
use crate::format::{self, Rendered};
use crate::handle::{Counters, OutputState, State};
use crate::logging::Entry;
use crate::publish::socket::{Bound, TokenSocket};
use crate::publish::{Place, file};
use crate::systemd;
use crate::time::{Moment, Now};
use crate::value::{Grant, ValueName};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A wall clock that moved by less has not been set.
const STEP_MILLIS: i64 = 2000;
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// All outputs of one account.
pub(super) struct Outputs {
    shared: Arc<Shared>,
    account: Arc<Account>,
    list: Vec<Out>,
    places: Places,
    /// The valid values that the outputs show, and what the wall clock said of the daemon's clock then.
    shown: Box<[(ValueName, Grant)]>,
    offset: i64,
}

struct Out {
    index: usize,
    place: Arc<Place>,
    sink: Sink,
    state: OutputState,
    /// It shows something else than it should.
    stale: bool,
    /// Somebody changed it.
    tampered: bool,
    /// Until when what it shows is valid; not known before it was first written.
    shows_until: Option<Moment>,
    failures: u32,
    retry_at: Moment,
}

enum Sink {
    File(OnExpiry),
    Socket {
        bound: Option<Bound>,
        serving: Option<TokenSocket>,
    },
}

/// The places of an account's outputs, for the watch over them.
pub(super) type Places = Arc<Mutex<Box<[Arc<Place>]>>>;

impl Sink {
    fn is_file(&self) -> bool {
        matches!(self, Self::File(_))
    }
}

/// Sockets that are bound and wait to take their places, by index of the output.
pub(super) type Sockets = Vec<(usize, Bound)>;

/// Binds the sockets of an account that no task serves yet. Blocks.
pub(super) fn bind(
    account: &Arc<Account>,
    serving: Option<&Account>,
    shared: &Shared,
    mut kept: impl FnMut(&Path) -> Option<OwnedFd>,
) -> (Sockets, Vec<String>) {
    let (mut sockets, mut faults) = (Vec::new(), Vec::new());
    for (index, output) in account.outputs.iter().enumerate() {
        let served = serving
            .is_some_and(|old| old.outputs.contains(output) && old.readers == account.readers);
        if output.kind != OutputKind::Socket || served {
            continue;
        }
        let place = Arc::new(Place::new(
            account.clone(),
            index,
            shared.runtime_dir.clone(),
        ));
        match Bound::prepare(place, kept(&output.path)) {
            Ok(bound) => sockets.push((index, bound)),
            Err(error) => faults.push(format!("accounts.{}.socket: {error}", account.name)),
        }
    }
    (sockets, faults)
}

impl Outputs {
    pub(super) fn new(
        shared: Arc<Shared>,
        account: Arc<Account>,
        sockets: Sockets,
        places: Places,
    ) -> Self {
        let list = Vec::with_capacity(account.outputs.len());
        let mut outputs = Self {
            shared,
            list,
            account,
            places,
            shown: Box::default(),
            offset: 0,
        };
        outputs.lay_out(sockets);
        outputs
    }

    /// Makes the list that of the configuration, and returns what is left of the old one.
    fn lay_out(&mut self, mut sockets: Sockets) -> Vec<Out> {
        let mut old = std::mem::take(&mut self.list);
        for (index, output) in self.account.outputs.iter().enumerate() {
            let is_it = |out: &Out| {
                let was = out.place.output();
                was.path == output.path && out.sink.is_file() == (output.kind != OutputKind::Socket)
            };
            let before = old.iter().position(is_it).map(|at| old.swap_remove(at));
            let bound = sockets
                .iter()
                .position(|(at, _)| *at == index)
                .map(|at| sockets.swap_remove(at).1);
            let new_place = || {
                let runtime_dir = self.shared.runtime_dir.clone();
                Arc::new(Place::new(self.account.clone(), index, runtime_dir))
            };
            let (place, sink, shows_until) = match (output.kind, bound, before) {
                (OutputKind::File(on_expiry), _, before) => (
                    new_place(),
                    Sink::File(on_expiry),
                    before.and_then(|out| out.shows_until),
                ),
                (
                    OutputKind::Socket,
                    None,
                    Some(Out {
                        sink:
                            Sink::Socket {
                                serving: Some(socket),
                                ..
                            },
                        ..
                    }),
                ) => {
                    let place = socket.place().clone();
                    (
                        place,
                        Sink::Socket {
                            bound: None,
                            serving: Some(socket),
                        },
                        None,
                    )
                }
                (OutputKind::Socket, bound, before) => {
                    old.extend(before);
                    (
                        new_place(),
                        Sink::Socket {
                            bound,
                            serving: None,
                        },
                        None,
                    )
                }
            };
            self.list.push(Out {
                index,
                place,
                sink,
                state: OutputState::Empty,
                stale: true,
                tampered: false,
                shows_until,
                failures: 0,
                retry_at: Moment::from_millis(0),
            });
        }
        let places = self.list.iter().map(|out| out.place.clone()).collect();
        *self.places.lock().unwrap_or_else(PoisonError::into_inner) = places;
        old
    }

    /// Goes on with a changed configuration: new outputs appear, and those that are gone take their files with them.
    pub(super) async fn reconfigure(&mut self, account: Arc<Account>, sockets: Sockets) {
        self.account = account;
        for gone in self.lay_out(sockets) {
            let replaced = self
                .account
                .outputs
                .iter()
                .any(|output| output.path == gone.place.output().path);
            gone.end(if replaced {
                End::Replaced
            } else {
                End::Removed
            })
            .await;
        }
    }

    /// Brings every output up to date that is not. Files are written beside the runtime, one after the other.
    pub(super) async fn publish(
        &mut self,
        grants: &[(ValueName, Grant)],
        now: &Now,
        counters: &Arc<Counters>,
    ) {
        let valid: Box<[_]> = grants
            .iter()
            .filter(|(_, grant)| grant.is_valid(now.at))
            .cloned()
            .collect();
        let offset = now.unix_millis - now.at.as_millis();
        if valid != self.shown || (offset - self.offset).abs() >= STEP_MILLIS {
            self.shown = valid;
            self.offset = offset;
            for out in &mut self.list {
                out.stale = true;
                out.retry_at = now.at;
            }
        }
        for out in &mut self.list {
            if (out.stale || out.tampered) && out.retry_at <= now.at {
                out.attempt(&self.shared, &self.account, &self.shown, now, counters)
                    .await;
            }
        }
    }

    /// Looks whether somebody changed a file or socket. What was changed is put right by the next [`Self::publish`].
    pub(super) async fn inspect(&mut self) {
        let places: Vec<_> = self.list.iter().map(|out| out.place.clone()).collect();
        let look = move || {
            places
                .iter()
                .map(|place| place.is_intact())
                .collect::<Vec<_>>()
        };
        let Ok(intact) = tokio::task::spawn_blocking(look).await else {
            return;
        };
        for (out, intact) in self.list.iter_mut().zip(intact) {
            if !intact && !out.is_failed() && !out.stale {
                out.tampered = true;
                out.retry_at = Moment::from_millis(0);
            }
        }
    }

    /// When a failed output is tried again, or what one shows has expired.
    pub(super) fn next_attempt(&self) -> Option<Moment> {
        self.list
            .iter()
            .filter(|out| out.stale || out.tampered)
            .map(|out| out.retry_at)
            .min()
    }

    /// How each is, in the order of the configuration.
    pub(super) fn states(&self) -> Box<[OutputState]> {
        self.list.iter().map(|out| out.state.clone()).collect()
    }

    /// The state of the account, its outputs considered.
    pub(super) fn weaken(&self, state: State) -> State {
        if state == State::Fresh && self.list.iter().any(Out::is_failed) {
            State::Degraded
        } else {
            state
        }
    }

    /// Ends all of them: files stay when the daemon stops, and go when the account does.
    pub(super) async fn stop(&mut self, remove: bool) {
        let end = match (remove, systemd::is_managed()) {
            (true, _) => End::Removed,
            (false, true) => End::Kept,
            (false, false) => End::Stopped,
        };
        for out in std::mem::take(&mut self.list) {
            out.end(end).await;
        }
    }
}

/// Why an output ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It is configured no more: its file or socket goes.
    Removed,
    /// Another output has its path now.
    Replaced,
    /// The daemon stops: a file stays, a socket goes.
    Stopped,
    /// The daemon stops and the service manager keeps its sockets.
    Kept,
}

impl Out {
    fn is_failed(&self) -> bool {
        matches!(self.state, OutputState::Failed(_))
    }

    async fn attempt(
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
            Ok(state) => self.succeeded(state, account, counters),
            Err(error) => {
                if self.shows_until.is_none_or(|until| until <= now.at) {
                    self.clear().await;
                }
                self.failed(error, account, now, counters);
            }
        }
    }

    /// Shows a value, or that there is none.
    async fn show(
        &mut self,
        rendered: Option<Rendered>,
        shared: &Arc<Shared>,
        now: &Now,
        counters: &Arc<Counters>,
    ) -> Result<OutputState, String> {
        let state = if rendered.is_some() {
            OutputState::Published
        } else {
            OutputState::Empty
        };
        let until = rendered.as_ref().map(Rendered::expires);
        let place = self.place.clone();
        match &mut self.sink {
            Sink::File(on_expiry) => {
                let (keep, at) = (*on_expiry == OnExpiry::Keep, now.at);
                blocking(
                    move || match rendered.as_ref().and_then(|rendered| rendered.at(at)) {
                        Some(bytes) => file::publish(&place, &bytes).map(|_| ()),
                        None if keep => Ok(()),
                        None => file::remove(&place).map(|_| ()),
                    },
                )
                .await?;
            }
            Sink::Socket {
                serving: Some(serving),
                ..
            } if !self.tampered => serving.set(rendered),
            Sink::Socket { bound, serving } => {
                let (bound, shared, counters) = (bound.take(), shared.clone(), counters.clone());
                let socket = blocking(move || {
                    let bound = bound.map_or_else(|| Bound::prepare(place, None), Ok)?;
                    bound.commit(rendered, &shared.server, counters)
                })
                .await?;
                keep_over_restart(&socket);
                if let Some(replaced) = serving.replace(socket) {
                    // Its path is the new one's already.
                    systemd::drop_kept(&replaced.stored_name());
                }
            }
        }
        self.shows_until = until;
        Ok(state)
    }

    fn succeeded(&mut self, state: OutputState, account: &Account, counters: &Counters) {
        let path = &self.place.output().path;
        let entry = Entry::of(&account.name).output(path);
        if self.tampered {
            counters.count(|rare| *rare.output_repairs.entry(self.index).or_default() += 1);
            entry.event(Event::OutputRepaired).warn(format_args!(
                "`{}` was changed or removed by somebody else and is put right; nothing but wxtokend may write it",
                path.display()
            ));
        } else if self.is_failed() {
            entry.info(format_args!("`{}` is published again", path.display()));
        }
        (self.stale, self.tampered, self.failures) = (false, false, 0);
        self.state = state;
    }

    fn failed(&mut self, error: String, account: &Account, now: &Now, counters: &Counters) {
        let path = &self.place.output().path;
        counters.count(|rare| *rare.output_errors.entry(self.index).or_default() += 1);
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
        self.retry_at =
            now.at + Duration::from_secs(1 << (self.failures - 1).min(5)).min(LONGEST_RETRY);
    }

    /// Takes away what is expired while nothing better can be written.
    async fn clear(&mut self) {
        let place = self.place.clone();
        match &mut self.sink {
            Sink::File(OnExpiry::Remove) => {
                // Why it cannot be written has been said; that it cannot be removed either is likely the same.
                let _ = blocking(move || file::remove(&place)).await;
            }
            Sink::Socket {
                serving: Some(serving),
                ..
            } => serving.set(None),
            _ => {}
        }
    }

    async fn end(self, end: End) {
        let place = self.place;
        let gone = match (self.sink, end) {
            (Sink::File(_), End::Removed) => {
                let place = place.clone();
                blocking(move || file::remove(&place).map(|_| ())).await
            }
            (
                Sink::Socket {
                    serving: Some(socket),
                    ..
                },
                End::Removed | End::Stopped,
            ) => {
                systemd::drop_kept(&socket.stored_name());
                blocking(move || socket.retire()).await
            }
            (
                Sink::Socket {
                    serving: Some(socket),
                    ..
                },
                End::Replaced,
            ) => {
                systemd::drop_kept(&socket.stored_name());
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

fn keep_over_restart(socket: &TokenSocket) {
    let name = socket.stored_name();
    // One that was inherited is kept already; the same once more would be kept twice.
    systemd::drop_kept(&name);
    if let Err(error) = systemd::keep(&name, socket) {
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

/// Does something that blocks beside the runtime; an error becomes text that says what to do.
async fn blocking<T: Send + 'static, E: std::fmt::Display + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, String> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err("the daemon is stopping".to_owned()),
    }
}
