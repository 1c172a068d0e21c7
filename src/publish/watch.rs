//! Sees at once when somebody else changes an output.

use super::place::{Place, is_temporary};
use futures_core::Stream;
use inotify::{EventMask, EventOwned, EventStream, Inotify, WatchDescriptor, WatchMask};
use std::collections::{BTreeMap, HashMap};
use std::future::poll_fn;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

/// What happens to the directory itself.
const GONE: EventMask = EventMask::DELETE_SELF
    .union(EventMask::MOVE_SELF)
    .union(EventMask::UNMOUNT)
    .union(EventMask::IGNORED);

/// Between two looks at what happens in directories.
const PAUSE: Duration = Duration::from_millis(10);

/// Watches the directories of outputs. A fallback of its own is [`damaged`], for what a watch may miss.
#[derive(Debug)]
pub struct Watch {
    events: EventStream<Vec<u8>>,
    /// The outputs in each directory, in order of names.
    watched: HashMap<WatchDescriptor, Vec<Arc<Place>>>,
    /// The outputs in directories that cannot be watched, mostly since they are not there.
    unwatched: Vec<Vec<Arc<Place>>>,
    /// The rename that puts our own successor in the place of an output.
    ours: Option<u32>,
}

impl Watch {
    /// Watches nothing yet. Needs the runtime; fails when the user has no inotify instance left.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            events: Inotify::init()?.into_event_stream(vec![0; 4096])?,
            watched: HashMap::new(),
            unwatched: Vec::new(),
            ours: None,
        })
    }

    /// Watches these from now on, and no others.
    pub fn replace(&mut self, places: impl IntoIterator<Item = Arc<Place>>) {
        let mut directories: BTreeMap<Box<Path>, Vec<Arc<Place>>> = BTreeMap::new();
        for place in places {
            directories
                .entry(place.parent().into())
                .or_default()
                .push(place);
        }
        let before = std::mem::take(&mut self.watched);
        self.unwatched = directories.into_values().collect();
        self.rearm();
        for descriptor in before.into_keys() {
            if !self.watched.contains_key(&descriptor) {
                // Its directory may be gone, and the watch with it.
                let _ = self.events.watches().remove(descriptor);
            }
        }
    }

    /// Tries again to watch the directories that could not be watched. Gives the outputs in those that can be now:
    /// what happened to them meanwhile went unseen.
    pub fn rearm(&mut self) -> Vec<Arc<Place>> {
        let mask = WatchMask::ATTRIB
            | WatchMask::CLOSE_WRITE
            | WatchMask::CREATE
            | WatchMask::DELETE
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE
            | WatchMask::MOVE_SELF
            | WatchMask::ONLYDIR;
        let mut watches = self.events.watches();
        let mut rearmed = Vec::new();
        self.unwatched
            .retain(|places| match watches.add(places[0].parent(), mask) {
                Err(_) => true,
                Ok(descriptor) => {
                    rearmed.extend_from_slice(places);
                    let known = self.watched.entry(descriptor).or_default();
                    known.extend_from_slice(places);
                    known.sort_by(|a, b| a.file_name().cmp(b.file_name()));
                    false
                }
            });
        rearmed
    }

    /// Waits until outputs may have changed by another hand than the daemon's: to publish them again is right, and
    /// does nothing to those that are as they should be. Resolves for nothing else, save a removal by the daemon
    /// itself. May be dropped and called again.
    pub async fn changed(&mut self) -> Vec<Arc<Place>> {
        loop {
            let mut changed = self.seen().await;
            if !changed.is_empty() {
                changed.sort_by_key(Arc::as_ptr);
                changed.dedup_by(|a, b| Arc::ptr_eq(a, b));
                return changed;
            }
            // It was the daemon's own doing, of which there is more when there are many accounts.
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Waits until something happened, and gives the outputs that somebody else may have changed.
    async fn seen(&mut self) -> Vec<Arc<Place>> {
        poll_fn(|context| {
            let (mut changed, mut is_over) = (Vec::new(), Poll::Pending);
            while let Poll::Ready(Some(event)) = Pin::new(&mut self.events).poll_next(context) {
                is_over = Poll::Ready(());
                if let Ok(event) = event {
                    self.note(event, &mut changed);
                }
            }
            is_over.map(|()| changed)
        })
        .await
    }

    fn note(&mut self, event: EventOwned, changed: &mut Vec<Arc<Place>>) {
        if event.mask.contains(EventMask::Q_OVERFLOW) {
            changed.extend(self.watched.values().flatten().cloned());
        } else if event.mask.intersects(GONE) {
            if let Some(places) = self.watched.remove(&event.wd) {
                changed.extend_from_slice(&places);
                self.unwatched.push(places);
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
pub fn damaged(places: &[Arc<Place>]) -> Vec<Arc<Place>> {
    let mut damaged = places.to_vec();
    damaged.retain(|place| !place.is_intact());
    damaged
}

#[cfg(test)]
mod tests {
    use super::super::file::{publish, remove};
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
        let runtime_dir: Arc<Path> = paths[0].parent().unwrap().into();
        (0..paths.len())
            .map(|index| Arc::new(Place::new(account.clone(), index, runtime_dir.clone())))
            .collect()
    }

    async fn changed(watch: &mut Watch) -> Vec<usize> {
        let changed = timeout(Duration::from_secs(10), watch.changed());
        let mut indices: Vec<_> = changed.await.unwrap().iter().map(|p| p.index()).collect();
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
            publish(place, b"75_token").unwrap();
        }
        let mut watch = Watch::new().unwrap();
        watch.replace(places.clone());
        let changes: [&dyn Fn(); 6] = [
            &|| fs::set_permissions(&a, Permissions::from_mode(0o644)).unwrap(),
            &|| fs::write(&a, b"x").unwrap(),
            &|| fs::rename(&a, directory.path().join("c")).unwrap(),
            &|| fs::rename(directory.path().join("c"), &a).unwrap(),
            &|| fs::remove_file(&a).unwrap(),
            &|| fs::create_dir(&a).unwrap(),
        ];
        for (n, change) in changes.iter().enumerate() {
            publish(&places[0], format!("{n}_token").as_bytes()).unwrap();
            fs::write(directory.path().join("somebody else's"), b"").unwrap();
            change();
            assert_eq!(changed(&mut watch).await, [1], "change {n}");
        }
        publish(&places[1], b"75_token").unwrap();
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
        assert_eq!(watch.rearm().len(), 0);
        for remove in [
            &|| fs::remove_dir_all(path.parent().unwrap()).unwrap(),
            &|| fs::rename(path.parent().unwrap(), directory.path().join("moved")).unwrap(),
        ] as [&dyn Fn(); 2]
        {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, b"75_token").unwrap();
            let rearmed = watch.rearm();
            assert_eq!(rearmed.len(), 1);
            assert_eq!(rearmed[0].index(), 0);
            remove();
            assert_eq!(changed(&mut watch).await, [0]);
        }
        assert_eq!(watch.rearm().len(), 0);
    }

    #[tokio::test]
    async fn what_was_replaced_is_watched_no_longer() {
        let directory = directory();
        let (a, b) = (directory.path().join("a/x"), directory.path().join("b/x"));
        let both = places(&[&a, &b]);
        for path in [&a, &b] {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
        }
        let mut watch = Watch::new().unwrap();
        watch.replace(both.clone());
        watch.replace([both[1].clone()]);
        fs::write(&a, b"").unwrap();
        fs::write(&b, b"").unwrap();
        assert_eq!(changed(&mut watch).await, [1]);
        watch.replace(both);
        fs::write(&a, b"").unwrap();
        assert_eq!(changed(&mut watch).await, [0]);
    }
}
