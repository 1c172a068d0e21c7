//! Users and groups that the name service could not tell are looked up again, and what it tells is put in force.

use super::prepare::{self, Prepared};
use super::run::told_to_stop;
use super::supervisor::Supervisor;
use super::{Daemon, DaemonEvent};
use crate::config::Config;
use crate::logging::Entry;
use crate::offload::Hazard;
use crate::systemd::KeptSockets;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Interval of looking up names that could not be before.
const INTERVAL: Duration = Duration::from_secs(10);

/// A step of a look-up has ended.
#[expect(clippy::large_enum_variant, reason = "it travels in a box")]
pub(super) enum NamesEvent {
    /// The configuration that was looked at, and the same with more names known.
    Found(Option<(Config, Config)>),
    /// The sockets that are needed now.
    Bound(Config, Result<Prepared, Vec<(Box<Path>, String)>>),
}

impl Daemon {
    /// The time of the next look-up, if a name is missing.
    pub(super) fn plan_names(&mut self) {
        let is_needed = self.config.has_unresolved();
        self.names_due = is_needed.then(|| Instant::now() + INTERVAL);
    }

    /// Begins to look the missing names up.
    pub(super) fn look_for_names(&mut self) {
        // Planned again when this one has ended.
        self.names_due = None;
        let (config, names) = (self.config.clone(), self.environment.names.clone());
        let events = self.event_sender.clone();
        let look = move || {
            let found = config.resolve_again(&names).map(|new| (config, new));
            let _ = events.send(DaemonEvent::Names(Box::new(NamesEvent::Found(found))));
        };
        self.shared.offload.lane(Hazard::Configuration).begin(look);
    }

    /// Goes on with a look-up. Breaks when the daemon is told to stop meanwhile.
    pub(super) async fn on_names_event(&mut self, event: NamesEvent) -> ControlFlow<()> {
        match event {
            // A reload looks all names up itself.
            NamesEvent::Found(Some((old, new)))
                if !self.reloading.is_loading && old == self.config =>
            {
                self.bind_for_names(new);
                return ControlFlow::Continue(());
            }
            NamesEvent::Found(_) => self.plan_names(),
            NamesEvent::Bound(new, bound) => {
                self.reloading.is_held = false;
                match bound {
                    Ok(prepared) => self.put_names_in_force(new, prepared).await?,
                    Err(faults) => warn_of_unbound(&faults),
                }
                self.plan_names();
                self.begin_next_reload();
            }
        }
        ControlFlow::Continue(())
    }

    /// Binds what the names allow. A reload waits until that has ended.
    fn bind_for_names(&mut self, new: Config) {
        self.reloading.is_held = true;
        let changes = Supervisor::changed(&self.supervisor.accounts(), &new.accounts);
        let (shared, events) = (self.shared.clone(), self.event_sender.clone());
        tokio::spawn(async move {
            let bound = prepare::bind(changes, &shared, KeptSockets::default()).await;
            let bound = NamesEvent::Bound(new, bound.map(|(prepared, _)| prepared));
            let _ = events.send(DaemonEvent::Names(Box::new(bound)));
        });
    }

    async fn put_names_in_force(&mut self, new: Config, prepared: Prepared) -> ControlFlow<()> {
        self.admins.send_replace(new.api.admins.clone());
        let (unready, _) = mpsc::channel(1);
        let changes = tokio::select! {
            changes = self.supervisor.apply(&new.accounts, prepared, &unready) => changes,
            () = told_to_stop(&mut self.signals) => return ControlFlow::Break(()),
        };
        self.config = new;
        self.watching.replace(self.supervisor.places());
        let accounts = if changes.changed.is_empty() {
            "the API".to_owned()
        } else {
            changes.changed.join(", ")
        };
        Entry::new().info(format_args!(
            "the name service answers: users and groups that could not be looked up are known now, for {accounts}"
        ));
        ControlFlow::Continue(())
    }
}

fn warn_of_unbound(faults: &[(Box<Path>, String)]) {
    for (path, message) in faults {
        Entry::new().warn(format_args!("`{}` {message}", path.display()));
    }
}
