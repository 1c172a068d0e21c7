//! Watches the outputs, so that a foreign change is seen at once, and looks at them where no event tells of one.

use super::DaemonEvent;
use super::shared::Shared;
use crate::fault::reason;
use crate::logging::Entry;
use crate::offload::Hazard;
use crate::publish::watch::{Armed, Arming, Seen, Watch, damaged};
use crate::publish::{MountWatch, Place};
use crate::time::human;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Interval between two looks at outputs and clocks.
pub(super) const SWEEP: Duration = Duration::from_secs(30);
/// Minimum interval between two looks because something was mounted or unmounted.
const MOUNT_INTERVAL: Duration = Duration::from_millis(200);

/// Work that may hang has ended.
pub(super) enum WatchingEvent {
    /// Watches were added.
    Armed(Hazard, Vec<Armed>),
    /// Places of one file system were looked at; these are not as the daemon left them.
    Looked(Hazard, Vec<Arc<Place>>),
}

/// The watch over all outputs.
pub(super) struct Watching {
    shared: Arc<Shared>,
    events: mpsc::UnboundedSender<DaemonEvent>,
    watch: Option<Watch>,
    mounts: Option<MountWatch>,
    mounts_at: Instant,
    places: Vec<Arc<Place>>,
    /// File systems that are being looked at.
    busy: HashSet<Hazard>,
    /// File systems to which watches are being added, and whether that is due again.
    arming: HashMap<Hazard, bool>,
    /// Something was mounted or unmounted, and not looked at yet.
    is_look_due: bool,
}

impl Watching {
    /// Watches nothing yet. The sweep sees what a watch would, so that one may be missing.
    pub(super) fn start(shared: Arc<Shared>, events: mpsc::UnboundedSender<DaemonEvent>) -> Self {
        let watch = Watch::new().inspect_err(|error| {
            Entry::new().warn(format_args!(
                "outputs cannot be watched ({}), so that foreign changes are put right only within {}: raise fs.inotify.max_user_instances",
                reason(error),
                human(SWEEP)
            ));
        });
        Self {
            shared,
            events,
            watch: watch.ok(),
            mounts: MountWatch::new().ok(),
            mounts_at: Instant::now(),
            places: Vec::new(),
            busy: HashSet::new(),
            arming: HashMap::new(),
            is_look_due: false,
        }
    }

    /// Watches these from now on, and no others.
    pub(super) fn replace(&mut self, places: Vec<Arc<Place>>) {
        if let Some(watch) = &mut self.watch {
            watch.replace(places.iter().cloned());
        }
        self.places = places;
        self.arm();
    }

    /// Waits until outputs may have been changed by others. May be dropped and called again.
    pub(super) async fn changed(&mut self) -> Vec<Arc<Place>> {
        loop {
            let (watch, mounts, is_look_due) =
                (&mut self.watch, &mut self.mounts, &mut self.is_look_due);
            let seen = async {
                match watch {
                    Some(watch) => watch.changed().await,
                    None => std::future::pending().await,
                }
            };
            let mounted = async {
                match mounts {
                    _ if *is_look_due => {}
                    Some(mounts) => mounts.changed().await,
                    None => std::future::pending().await,
                }
                *is_look_due = true;
                tokio::time::sleep_until(self.mounts_at).await;
            };
            let Seen {
                changed,
                is_arming_due,
            } = tokio::select! {
                seen = seen => seen,
                () = mounted => {
                    self.is_look_due = false;
                    self.mounts_at = Instant::now() + MOUNT_INTERVAL;
                    self.shared.directories.on_mounts_changed();
                    self.look();
                    Seen { changed: Vec::new(), is_arming_due: true }
                }
            };
            if is_arming_due {
                self.arm();
            }
            if !changed.is_empty() {
                return changed;
            }
        }
    }

    /// Looks at all outputs, and at what the lanes need.
    pub(super) fn sweep(&mut self, places: &[Arc<Place>]) {
        let devices: HashSet<_> = places.iter().map(|place| place.device()).collect();
        self.shared.offload.tend(|hazard| match hazard {
            Hazard::State | Hazard::StateSync | Hazard::Configuration | Hazard::Secrets(_) => true,
            Hazard::Outputs(device) | Hazard::Removal(device) => devices.contains(&device),
        });
        self.look();
        self.arm();
    }

    /// Has all outputs looked at, but for those on file systems that have not answered yet.
    fn look(&mut self) {
        let mut groups = HashMap::<Hazard, Vec<Arc<Place>>>::new();
        for place in &self.places {
            let hazard = Hazard::Outputs(place.device());
            groups.entry(hazard).or_default().push(place.clone());
        }
        for (hazard, places) in groups {
            if self.busy.insert(hazard) {
                let events = self.events.clone();
                self.shared.offload.lane(hazard).begin(move || {
                    let looked = WatchingEvent::Looked(hazard, damaged(&places));
                    let _ = events.send(DaemonEvent::Watching(looked));
                });
            }
        }
    }

    /// Adds the watches that are missing.
    fn arm(&mut self) {
        let mut groups = HashMap::<Hazard, Vec<_>>::new();
        for arming in self.watch.iter().flat_map(Watch::missing) {
            let hazard = Hazard::Outputs(arming.device());
            groups.entry(hazard).or_default().push(arming);
        }
        for (hazard, armings) in groups {
            if let Some(again) = self.arming.get_mut(&hazard) {
                *again = true;
                continue;
            }
            self.arming.insert(hazard, false);
            let events = self.events.clone();
            self.shared.offload.lane(hazard).begin(move || {
                let armed = armings.into_iter().map(Arming::run);
                let armed = WatchingEvent::Armed(hazard, armed.collect());
                let _ = events.send(DaemonEvent::Watching(armed));
            });
        }
    }

    /// Notes what was done. Gives the outputs that may have been changed by others.
    pub(super) fn on_event(&mut self, event: WatchingEvent) -> Vec<Arc<Place>> {
        match event {
            WatchingEvent::Armed(hazard, armed) => {
                if self.arming.remove(&hazard) == Some(true) {
                    self.arm();
                }
                let watch = &mut self.watch;
                let on_armed = |armed| watch.as_mut().map(|watch| watch.on_armed(armed));
                armed.into_iter().filter_map(on_armed).flatten().collect()
            }
            WatchingEvent::Looked(hazard, damaged) => {
                self.busy.remove(&hazard);
                damaged
            }
        }
    }
}
