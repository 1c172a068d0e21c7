//! The outputs of one account: what each shows, and what has to be done so that it shows the right thing.

use super::desk::Desk;
use super::output::{LiveOutput, PUBLISH_LIMIT, Surroundings};
use super::shared::Shared;
use super::sink::{OutputEnd, sink};
use crate::account::Account;
use crate::logging::Entry;
use crate::publish::Place;
use crate::publish::file::EARLY;
use crate::publish::socket::BoundSocket;
use crate::snapshot::OutputState;
use crate::time::{Moment, Now};
use crate::value::{Grant, ValueName};
use std::sync::Arc;
use tokio::time::{Instant, timeout};

/// All outputs of one account.
pub(super) struct Outputs {
    shared: Arc<Shared>,
    account: Arc<Account>,
    desk: Arc<Desk>,
    list: Vec<LiveOutput>,
    /// The valid values that the outputs show. A clock that is set changes their ends.
    shown: Box<[(ValueName, Grant)]>,
}

/// Sockets that are bound and wait to take their places, by index of the output.
pub(super) type Sockets = Vec<(usize, BoundSocket)>;

impl Outputs {
    /// `vacant` are the outputs of which somebody knows that there is nothing in their places. The account is woken
    /// when what took long has ended.
    pub(super) fn new(
        shared: Arc<Shared>,
        account: Arc<Account>,
        sockets: Sockets,
        vacant: &[usize],
        desk: Arc<Desk>,
    ) -> Self {
        let mut outputs = Self {
            shared,
            list: Vec::new(),
            account,
            desk,
            shown: Box::default(),
        };
        outputs.lay_out(sockets);
        for index in vacant {
            let out = &mut outputs.list[*index];
            out.place.set_vacant();
            out.stale = false;
        }
        outputs
    }

    /// Makes the list that of the configuration, and returns what is left of the old one.
    fn lay_out(&mut self, mut sockets: Sockets) -> Vec<LiveOutput> {
        let list = Vec::with_capacity(self.account.outputs.len());
        let mut old = std::mem::replace(&mut self.list, list);
        for (index, output) in self.account.outputs.iter().enumerate() {
            let is_it = |out: &LiveOutput| {
                let was = out.place.output();
                was.path == output.path && was.kind.is_like(output.kind)
            };
            let before = old.iter().position(is_it).map(|at| old.swap_remove(at));
            let bound = sockets
                .iter()
                .position(|(at, _)| *at == index)
                .map(|at| Box::new(sockets.swap_remove(at).1));
            // One that is to be replaced serves until the other is in its place.
            let serving = before.as_ref().and_then(|out| out.sink.serving());
            let place = match (&bound, &serving) {
                (Some(bound), _) => bound.place().clone(),
                (None, Some(serving)) => serving.place().clone(),
                (None, None) => {
                    let directories = &self.shared.directories;
                    Arc::new(Place::new(self.account.clone(), index, directories))
                }
            };
            let mut running = None;
            if let Some(before) = before {
                if Arc::ptr_eq(&before.place, &place) {
                    running = before.running;
                } else {
                    before.place.give_up();
                }
            }
            self.list.push(LiveOutput {
                index,
                place,
                sink: sink(output.kind, bound, serving),
                state: OutputState::Empty,
                stale: true,
                doubted: false,
                failures: 0,
                retry_at: Moment::from_millis(0),
                running,
            });
        }
        *self.desk.places() = self.list.iter().map(|out| out.place.clone()).collect();
        old
    }

    /// Goes on with a changed configuration: new outputs appear, and those that are gone take their files with them.
    pub(super) async fn reconfigure(&mut self, account: Arc<Account>, sockets: Sockets) {
        self.account = account;
        let mut ends = Vec::new();
        for gone in self.lay_out(sockets) {
            let replaced = self
                .account
                .outputs
                .iter()
                .any(|output| output.path == gone.place.output().path);
            let end = if replaced {
                OutputEnd::Replaced
            } else {
                OutputEnd::Removed
            };
            ends.extend(gone.end(end, &self.shared));
        }
        self.wait_for(ends).await;
    }

    /// Waits for ends of outputs, as long as for their publication.
    async fn wait_for(&self, ends: Vec<impl Future<Output = ()> + Send>) {
        let all = async {
            for end in ends {
                end.await;
            }
        };
        if timeout(PUBLISH_LIMIT, all).await.is_err() {
            Entry::of(&self.account.name).warn(
                "not all outputs could be removed in time: their file system does not answer",
            );
        }
    }

    /// Brings every output up to date that is not. Waits for it for a moment; what takes longer goes on beside, and
    /// wakes the account when it has ended.
    pub(super) async fn publish(&mut self, grants: &[(ValueName, Grant)], now: &Now) {
        let valid: Box<[_]> = grants
            .iter()
            .filter(|(_, grant)| grant.is_valid(now.at + EARLY))
            .cloned()
            .collect();
        if valid != self.shown {
            self.shown = valid;
            for out in &mut self.list {
                out.stale = true;
                out.retry_at = now.at;
            }
        }
        let around = Surroundings {
            shared: &self.shared,
            account: &self.account,
            inbox: &self.desk.handle.inbox,
            counters: &self.desk.handle.counters,
            now,
        };
        for out in &mut self.list {
            out.begin(&self.shown, &around);
        }
        let deadline = Instant::now() + PUBLISH_LIMIT;
        for out in self.list.iter_mut().filter(|out| out.running.is_some()) {
            // In a box of its own: small pieces of memory are had faster.
            Box::pin(out.finish(deadline, &around)).await;
        }
    }

    /// Somebody may have changed a file or socket: the next [`Self::publish`] looks, and puts right what was changed.
    /// Tries failed outputs again: the obstacle may be gone.
    pub(super) fn inspect(&mut self) {
        for out in &mut self.list {
            out.doubted |= !out.is_failed() && !out.stale;
            out.retry_at = Moment::from_millis(0);
        }
    }

    /// The moment when a failed output is tried again, or what they show has to go.
    pub(super) fn next_attempt(&self) -> Option<Moment> {
        let waiting = self.list.iter().filter_map(LiveOutput::next_attempt);
        let ends = self.shown.iter().map(|(_, grant)| grant.expires - EARLY);
        waiting.chain(ends).min()
    }

    /// The state of each, in the order of the configuration.
    pub(super) fn states(&self) -> Box<[OutputState]> {
        self.list.iter().map(|out| out.state.clone()).collect()
    }

    /// Ends all of them: files stay when the daemon stops, and go when the account does.
    pub(super) async fn stop(&mut self, remove: bool) {
        let end = match (remove, self.shared.notifier.is_managed()) {
            (true, _) => OutputEnd::Removed,
            (false, true) => OutputEnd::Kept,
            (false, false) => OutputEnd::Stopped,
        };
        let list = std::mem::take(&mut self.list);
        let ends = list
            .into_iter()
            .filter_map(|out| out.end(end, &self.shared));
        self.wait_for(ends.collect()).await;
    }
}
