//! Sees at once when somebody else changes an output.

use super::pin::PinnedDir;
use super::place::Place;
use super::temporary::is_temporary;
use crate::offload::Device;
use futures_core::Stream;
use inotify::{EventMask, EventOwned, EventStream, Inotify, WatchDescriptor, WatchMask, Watches};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::future::poll_fn;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

/// Events of the directory itself.
const GONE: EventMask = EventMask::DELETE_SELF
    .union(EventMask::MOVE_SELF)
    .union(EventMask::UNMOUNT)
    .union(EventMask::IGNORED);

/// Between two looks at what happens in directories.
const PAUSE: Duration = Duration::from_millis(10);

/// Events of a directory of outputs.
fn mask() -> WatchMask {
    WatchMask::ATTRIB
        | WatchMask::CLOSE_WRITE
        | WatchMask::CREATE
        | WatchMask::DELETE
        | WatchMask::DELETE_SELF
        | WatchMask::MOVE
        | WatchMask::MOVE_SELF
        | WatchMask::ONLYDIR
}

/// Watches the directories of outputs. A fallback of its own is [`damaged`], for what a watch may miss.
#[derive(Debug)]
pub(crate) struct Watch {
    events: EventStream<Vec<u8>>,
    /// The outputs in each directory, in order of names.
    watched: HashMap<WatchDescriptor, Vec<Arc<Place>>>,
    /// The outputs in directories that are not watched: mostly they are not there.
    unwatched: BTreeMap<Box<Path>, Vec<Arc<Place>>>,
    /// Directories above those, in which they may appear.
    above: HashSet<WatchDescriptor>,
    /// The rename that puts our own successor in the place of an output.
    ours: Option<u32>,
}

/// Changes that were seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Outputs that may have changed by another hand than the daemon's.
    pub(crate) changed: Vec<Arc<Place>>,
    /// True if a directory that was missing may be there.
    pub(crate) is_arming_due: bool,
}

/// The watch over a directory, to be added where the directory may hang.
#[derive(Debug)]
pub(crate) struct Arming {
    watches: Watches,
    home: Arc<PinnedDir>,
}

/// The result of an [`Arming`].
#[derive(Debug)]
pub(crate) struct Armed {
    path: Box<Path>,
    /// The watch over the directory, else that over the nearest one above it.
    watch: Result<WatchDescriptor, Option<WatchDescriptor>>,
}

impl Arming {
    /// The file system that may hang. Does not block.
    pub(crate) fn device(&self) -> Device {
        self.home.device()
    }

    /// Adds the watch. Blocks.
    pub(crate) fn run(mut self) -> Armed {
        let path: Box<Path> = self.home.path().into();
        let watch = self.home.open().ok().and_then(|directory| {
            // The directory that was opened, whatever has its path by now.
            let node = format!("/proc/self/fd/{}", directory.as_raw_fd());
            self.watches.add(node, mask()).ok()
        });
        let above = || {
            let mask =
                WatchMask::CREATE | WatchMask::MOVED_TO | WatchMask::ONLYDIR | WatchMask::MASK_ADD;
            let mut above = path.ancestors().skip(1);
            above.find_map(|directory| self.watches.add(directory, mask).ok())
        };
        let watch = watch.ok_or_else(above);
        Armed { path, watch }
    }
}

impl Watch {
    /// Watches nothing yet. Needs the runtime; fails when the user has no inotify instance left.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            events: Inotify::init()?.into_event_stream(vec![0; 4096])?,
            watched: HashMap::new(),
            unwatched: BTreeMap::new(),
            above: HashSet::new(),
            ours: None,
        })
    }

    /// Watches these from now on, and no others, once they are armed.
    pub(crate) fn replace(&mut self, places: impl IntoIterator<Item = Arc<Place>>) {
        let mut directories: BTreeMap<Box<Path>, Vec<Arc<Place>>> = BTreeMap::new();
        for place in places {
            directories
                .entry(place.parent().into())
                .or_default()
                .push(place);
        }
        for places in directories.values_mut() {
            places.sort_by(|a, b| a.file_name().cmp(b.file_name()));
        }
        for (descriptor, before) in std::mem::take(&mut self.watched) {
            if let Some(places) = directories.remove(before[0].parent()) {
                self.watched.insert(descriptor, places);
            } else {
                // Its directory may be gone, and the watch with it.
                let _ = self.events.watches().remove(descriptor);
            }
        }
        self.unwatched = directories;
    }

    /// The watches that are missing, to be tried again.
    pub(crate) fn missing(&self) -> Vec<Arming> {
        let missing = self.unwatched.values().map(|places| Arming {
            watches: self.events.watches(),
            home: places[0].home().clone(),
        });
        missing.collect()
    }

    /// Notes a watch. Gives the outputs that are watched from now on: what happened to them before went unseen.
    pub(crate) fn on_armed(&mut self, armed: Armed) -> Vec<Arc<Place>> {
        let rearmed = match armed.watch {
            Ok(descriptor) => match self.unwatched.remove(&armed.path) {
                Some(places) => {
                    let known = self.watched.entry(descriptor).or_default();
                    known.extend_from_slice(&places);
                    known.sort_by(|a, b| a.file_name().cmp(b.file_name()));
                    places
                }
                None => Vec::new(),
            },
            Err(above) => {
                self.above.extend(above);
                Vec::new()
            }
        };
        if self.unwatched.is_empty() {
            for descriptor in self.above.drain() {
                if !self.watched.contains_key(&descriptor) {
                    let _ = self.events.watches().remove(descriptor);
                }
            }
        }
        rearmed
    }

    /// Waits until outputs may have changed by another hand than the daemon's: to publish them again is right, and
    /// does nothing to those that are as they should be. Resolves for nothing else, save a removal by the daemon
    /// itself. May be dropped and called again.
    pub(crate) async fn changed(&mut self) -> Seen {
        loop {
            let mut seen = self.seen().await;
            if !seen.changed.is_empty() || seen.is_arming_due {
                seen.changed.sort_by_key(Arc::as_ptr);
                seen.changed.dedup_by(|a, b| Arc::ptr_eq(a, b));
                return seen;
            }
            // It was the daemon's own doing, of which there is more when there are many accounts.
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Waits until something happened, and gives the outputs that somebody else may have changed.
    async fn seen(&mut self) -> Seen {
        poll_fn(|context| {
            let (mut seen, mut is_over) = (Seen::default(), Poll::Pending);
            while let Poll::Ready(Some(event)) = Pin::new(&mut self.events).poll_next(context) {
                is_over = Poll::Ready(());
                if let Ok(event) = event {
                    self.note(event, &mut seen);
                }
            }
            is_over.map(|()| seen)
        })
        .await
    }

    fn note(&mut self, event: EventOwned, seen: &mut Seen) {
        let appeared = EventMask::CREATE | EventMask::MOVED_TO | EventMask::Q_OVERFLOW;
        if event.mask.intersects(appeared)
            && self.above.contains(&event.wd)
            && !event.name.as_deref().is_some_and(is_temporary)
        {
            seen.is_arming_due = true;
        }
        let changed = &mut seen.changed;
        if event.mask.contains(EventMask::Q_OVERFLOW) {
            changed.extend(self.watched.values().flatten().cloned());
        } else if event.mask.intersects(GONE) {
            if let Some(places) = self.watched.remove(&event.wd) {
                changed.extend_from_slice(&places);
                self.unwatched.insert(places[0].parent().into(), places);
                seen.is_arming_due = true;
                // One that was moved away would still be watched.
                let _ = self.events.watches().remove(event.wd);
            }
        } else if let Some(name) = &event.name {
            if event.mask.contains(EventMask::MOVED_FROM) && is_temporary(name) {
                self.ours = Some(event.cookie);
            } else if !(event.mask.contains(EventMask::MOVED_TO) && self.ours == Some(event.cookie))
                && let Some(places) = self.watched.get(&event.wd)
            {
                let first = places.partition_point(|place| place.file_name() < &**name);
                let named = |place: &&Arc<Place>| place.file_name() == &**name;
                changed.extend(places[first..].iter().take_while(named).cloned());
            }
        }
    }
}

/// Those of the places that are not as the daemon left them. Blocks for one look at each.
pub(crate) fn damaged(places: &[Arc<Place>]) -> Vec<Arc<Place>> {
    let mut damaged = places.to_vec();
    damaged.retain(|place| !place.is_intact());
    damaged
}

#[cfg(test)]
mod tests {
    use super::super::file::{publish, remove};
    use super::super::pin::Directories;
    use super::super::testing::{FILE, access, account, directory, in_own_process};
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;
    use tokio::time::timeout;

    fn places(paths: &[&Path]) -> Vec<Arc<Place>> {
        let outputs: Vec<_> = paths
            .iter()
            .map(|path| (*path, FILE, access(0o600)))
            .collect();
        let account = account(&outputs);
        let directories = Directories::new(paths[0].parent().unwrap());
        (0..paths.len())
            .map(|index| Arc::new(Place::new(account.clone(), index, &directories)))
            .collect()
    }

    fn arm(watch: &mut Watch) -> Vec<Arc<Place>> {
        let missing = watch.missing().into_iter();
        missing
            .flat_map(|arming| watch.on_armed(arming.run()))
            .collect()
    }

    async fn changed(watch: &mut Watch) -> Vec<usize> {
        let changed = timeout(Duration::from_secs(120), watch.changed());
        let mut indices: Vec<_> = changed
            .await
            .unwrap()
            .changed
            .iter()
            .map(|p| p.index())
            .collect();
        indices.sort_unstable();
        indices
    }

    #[tokio::test]
    async fn foreign_changes_are_seen_and_our_own_are_not() {
        const TEST: &str = "publish::watch::tests::foreign_changes_are_seen_and_our_own_are_not";
        if in_own_process(TEST, &[]) {
            return;
        }
        let directory = directory();
        let (a, b) = (directory.path().join("a"), directory.path().join("b"));
        let places = places(&[&b, &a]);
        for place in &places {
            publish(place, b"75_token", None).unwrap();
        }
        let mut watch = Watch::new().unwrap();
        watch.replace(places.clone());
        arm(&mut watch);
        let changes: [&dyn Fn(); 6] = [
            &|| fs::set_permissions(&a, Permissions::from_mode(0o644)).unwrap(),
            &|| fs::write(&a, b"x").unwrap(),
            &|| fs::rename(&a, directory.path().join("c")).unwrap(),
            &|| fs::rename(directory.path().join("c"), &a).unwrap(),
            &|| fs::remove_file(&a).unwrap(),
            &|| fs::create_dir(&a).unwrap(),
        ];
        for (n, change) in changes.iter().enumerate() {
            publish(&places[0], format!("{n}_token").as_bytes(), None).unwrap();
            fs::write(directory.path().join("somebody else's"), b"").unwrap();
            change();
            assert_eq!(changed(&mut watch).await, [1], "change {n}");
        }
        publish(&places[1], b"75_token", None).unwrap();
        remove(&places[0]).unwrap();
        assert_eq!(
            changed(&mut watch).await,
            [0, 1],
            "a removed directory, a removed file"
        );
        assert_eq!(damaged(&places).len(), 0);
        fs::remove_file(&a).unwrap();
        assert_eq!(damaged(&places)[0].index(), 1);
    }

    #[tokio::test]
    async fn a_directory_that_comes_back_is_watched_again() {
        let directory = directory();
        let path = directory.path().join("apps/shop/token");
        let other = directory.path().join("other/token");
        let places = places(&[&path, &other]);
        let mut watch = Watch::new().unwrap();
        watch.replace(places.clone());
        arm(&mut watch);
        assert_eq!(arm(&mut watch).len(), 0);
        for remove in [
            &|| fs::remove_dir_all(path.parent().unwrap()).unwrap(),
            &|| fs::rename(path.parent().unwrap(), directory.path().join("moved")).unwrap(),
        ] as [&dyn Fn(); 2]
        {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, b"75_token").unwrap();
            let rearmed = arm(&mut watch);
            assert_eq!(rearmed.len(), 1);
            assert_eq!(rearmed[0].index(), 0);
            remove();
            assert_eq!(changed(&mut watch).await, [0]);
            // The publisher sees that it is not there.
            assert!(places[0].existing_directory().is_err());
            while watch.missing().len() < 2 {
                changed(&mut watch).await;
            }
        }
        assert_eq!(arm(&mut watch).len(), 0);
    }

    #[tokio::test]
    async fn replaced_output_is_watched_no_longer() {
        let directory = directory();
        let (a, b) = (directory.path().join("a/x"), directory.path().join("b/x"));
        let both = places(&[&a, &b]);
        for path in [&a, &b] {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
        }
        let mut watch = Watch::new().unwrap();
        watch.replace(both.clone());
        arm(&mut watch);
        watch.replace([both[1].clone()]);
        arm(&mut watch);
        fs::write(&a, b"").unwrap();
        fs::write(&b, b"").unwrap();
        assert_eq!(changed(&mut watch).await, [1]);
        watch.replace(both);
        arm(&mut watch);
        fs::write(&a, b"").unwrap();
        assert_eq!(changed(&mut watch).await, [0]);
    }
}
