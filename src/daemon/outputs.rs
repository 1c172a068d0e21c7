//! The outputs of one account: what each shows, and what has to be done so that it shows the right thing.

use super::output::{EARLY, End, LiveOutput, Sink};
use super::shared::Shared;
use crate::account::{Account, OutputKind};
use crate::clock;
use crate::counters::Counters;
use crate::publish::Place;
use crate::publish::socket::Bound;
use crate::snapshot::{OutputState, State};
use crate::time::{Moment, Now};
use crate::value::{Grant, ValueName};
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// A wall clock that moved by less has not been set.
const STEP_MILLIS: i64 = 2000;

/// All outputs of one account.
pub(super) struct Outputs {
    shared: Arc<Shared>,
    account: Arc<Account>,
    list: Vec<LiveOutput>,
    places: Places,
    /// The valid values that the outputs show, and what the wall clock said of the daemon's clock then.
    shown: Box<[(ValueName, Grant)]>,
    offset: i64,
}

/// The places of an account's outputs, for the watch over them.
pub(super) type Places = Arc<Mutex<Box<[Arc<Place>]>>>;

/// Sockets that are bound and wait to take their places, by index of the output.
pub(super) type Sockets = Vec<(usize, Bound)>;

/// Binds the sockets of an account that no task serves yet. Blocks.
pub(super) fn bind(
    account: &Arc<Account>,
    serving: Option<&Account>,
    shared: &Shared,
    mut kept: impl FnMut(&Path) -> Option<OwnedFd>,
) -> (Sockets, Vec<(Box<Path>, String)>) {
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
            Err(error) => faults.push((output.path.clone(), error.to_string())),
        }
    }
    (sockets, faults)
}

/// Whether none of an account's files is there, so that nothing has to be done while there is no value. Blocks.
pub(super) fn is_vacant(account: &Account) -> bool {
    let files = account
        .outputs
        .iter()
        .filter(|output| output.kind != OutputKind::Socket);
    files.into_iter().all(|output| {
        let found = output.path.symlink_metadata();
        found.is_err_and(|error| error.kind() == ErrorKind::NotFound)
    })
}

/// What the wall clock says beyond the daemon's clock, milliseconds.
fn offset(now: &Now) -> i64 {
    now.unix_millis - now.at.as_millis()
}

impl Outputs {
    /// `vacant`: none of the account's files is there.
    pub(super) fn new(
        shared: Arc<Shared>,
        account: Arc<Account>,
        sockets: Sockets,
        vacant: bool,
    ) -> Self {
        let list = Vec::with_capacity(account.outputs.len());
        let mut outputs = Self {
            shared,
            list,
            account,
            places: Places::default(),
            shown: Box::default(),
            offset: offset(&clock::now()),
        };
        outputs.lay_out(sockets);
        for out in outputs
            .list
            .iter_mut()
            .filter(|out| vacant && out.sink.is_file())
        {
            out.place.set_vacant();
            out.stale = false;
        }
        outputs
    }

    /// Where the outputs are, for the watch over them.
    pub(super) fn places(&self) -> Places {
        self.places.clone()
    }

    /// Makes the list that of the configuration, and returns what is left of the old one.
    fn lay_out(&mut self, mut sockets: Sockets) -> Vec<LiveOutput> {
        let mut old = std::mem::take(&mut self.list);
        for (index, output) in self.account.outputs.iter().enumerate() {
            let is_it = |out: &LiveOutput| {
                let was = out.place.output();
                was.path == output.path && out.sink.is_file() == (output.kind != OutputKind::Socket)
            };
            let before = old.iter().position(is_it).map(|at| old.swap_remove(at));
            let bound = sockets
                .iter()
                .position(|(at, _)| *at == index)
                .map(|at| Box::new(sockets.swap_remove(at).1));
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
                    Some(LiveOutput {
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
                // One that is to be replaced serves until the other is in its place.
                (OutputKind::Socket, bound, before) => {
                    let place = bound
                        .as_ref()
                        .map_or_else(new_place, |bound| bound.place().clone());
                    let serving = before.and_then(|out| out.sink.into_serving());
                    (place, Sink::Socket { bound, serving }, None)
                }
            };
            self.list.push(LiveOutput {
                index,
                place,
                sink,
                state: OutputState::Empty,
                stale: true,
                doubted: false,
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
            let end = if replaced {
                End::Replaced
            } else {
                End::Removed
            };
            gone.end(end, &self.shared).await;
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
            .filter(|(_, grant)| grant.is_valid(now.at + EARLY))
            .cloned()
            .collect();
        let offset = offset(now);
        if valid != self.shown || (offset - self.offset).abs() >= STEP_MILLIS {
            self.shown = valid;
            self.offset = offset;
            for out in &mut self.list {
                out.stale = true;
                out.retry_at = now.at;
            }
        }
        for out in &mut self.list {
            if (out.stale || out.doubted) && out.retry_at <= now.at {
                // In a box of its own: small pieces of memory are had faster.
                Box::pin(out.attempt(&self.shared, &self.account, &self.shown, now, counters))
                    .await;
            }
        }
    }

    /// Somebody may have changed a file or socket: the next [`Self::publish`] looks, and puts right what was changed.
    /// What could not be written is tried again: what was in its way may be gone.
    pub(super) fn inspect(&mut self) {
        for out in &mut self.list {
            out.doubted |= !out.is_failed() && !out.stale;
            out.retry_at = Moment::from_millis(0);
        }
    }

    /// When a failed output is tried again, or what they show has to go.
    pub(super) fn next_attempt(&self) -> Option<Moment> {
        let waiting = self.list.iter().filter(|out| out.stale || out.doubted);
        let ends = self.shown.iter().map(|(_, grant)| grant.expires - EARLY);
        waiting.map(|out| out.retry_at).chain(ends).min()
    }

    /// How each is, in the order of the configuration.
    pub(super) fn states(&self) -> Box<[OutputState]> {
        self.list.iter().map(|out| out.state.clone()).collect()
    }

    /// The state of the account, its outputs considered.
    pub(super) fn weaken(&self, state: State) -> State {
        if state == State::Fresh && self.list.iter().any(LiveOutput::is_failed) {
            State::Degraded
        } else {
            state
        }
    }

    /// Ends all of them: files stay when the daemon stops, and go when the account does.
    pub(super) async fn stop(&mut self, remove: bool) {
        let end = match (remove, self.shared.notifier.is_managed()) {
            (true, _) => End::Removed,
            (false, true) => End::Kept,
            (false, false) => End::Stopped,
        };
        for out in std::mem::take(&mut self.list) {
            out.end(end, &self.shared).await;
        }
    }
}
