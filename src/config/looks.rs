//! Looks at files and directories where that may hang: on a dead disk or network mount.

use crate::files::{ReadError, read_regular};
use parking_lot::Mutex;
use std::collections::HashSet;
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;
use zeroize::Zeroizing;

/// Limits on looks: on the first, and on one while another one hangs.
const LIMITS: [Duration; 2] = [Duration::from_secs(2), Duration::from_millis(100)];
/// Limits where a configuration is of no use without what is looked at.
const LONG_LIMITS: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(2)];
/// Looks that may hang at a time.
const MAX_HUNG: usize = 16;

type LookJob = Box<dyn FnOnce() + Send>;

/// Looks at paths, each for a limited time. Clones share what hangs.
#[derive(Debug, Clone)]
pub struct Looks {
    limits: [Duration; 2],
    state: Arc<Mutex<LooksState>>,
}

#[derive(Debug, Default)]
struct LooksState {
    /// A thread that waits for the next look.
    thread: Option<Sender<LookJob>>,
    /// Directories in which a look has not ended.
    hung: HashSet<PathBuf>,
    /// True if a look took too long, whether it has ended since or not.
    has_hung: bool,
}

impl Default for Looks {
    fn default() -> Self {
        Self {
            limits: LIMITS,
            state: Arc::default(),
        }
    }
}

/// There is one for each purpose in a process, so that all are equal.
impl PartialEq for Looks {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Looks {}

impl Looks {
    /// For what a configuration is of no use without: looks that take longer until they are given up.
    pub fn patient() -> Self {
        Self {
            limits: LONG_LIMITS,
            state: Arc::default(),
        }
    }

    /// Reads a regular file of at most `limit` bytes. Blocks for ten seconds at most.
    pub(super) fn read(
        &self,
        path: &Path,
        limit: u64,
    ) -> Result<(Zeroizing<Vec<u8>>, Metadata), ReadError> {
        let read = move |path: &Path| read_regular(path, limit);
        self.look(path, read).unwrap_or(Err(ReadError::Hangs))
    }

    /// True if a file system did not answer in time since the start of the process.
    pub fn has_hung(&self) -> bool {
        self.state.lock().has_hung
    }

    /// Looks at a path; nothing if its file system does not answer. Blocks for its limit at most.
    pub(super) fn look<T: Send + 'static>(
        &self,
        path: &Path,
        look: impl FnOnce(&Path) -> T + Send + 'static,
    ) -> Option<T> {
        let directory = path.parent().unwrap_or(path).to_path_buf();
        let (thread, limit) = {
            let mut state = self.state.lock();
            if state.hung.contains(&directory) || state.hung.len() >= MAX_HUNG {
                return None;
            }
            let limit = if state.hung.is_empty() {
                self.limits[0]
            } else {
                self.limits[1]
            };
            (state.thread.take(), limit)
        };
        let Some(thread) = thread.or_else(start) else {
            // Better slow than not at all.
            return Some(look(path));
        };
        let (sender, answer) = mpsc::channel();
        let (looks, path, asked) = (self.clone(), path.to_path_buf(), directory.clone());
        let job = move || {
            let _ = sender.send(look(&path));
            looks.state.lock().hung.remove(&asked);
        };
        // The thread ends only when it can be sent nothing more.
        let _ = thread.send(Box::new(job));
        if let Ok(found) = answer.recv_timeout(limit) {
            self.state.lock().thread = Some(thread);
            return Some(found);
        }
        let mut state = self.state.lock();
        // The answer comes before the directory is taken out again.
        let late = answer.try_recv().ok();
        if late.is_none() {
            state.hung.insert(directory);
            state.has_hung = true;
        }
        late
    }
}

/// A thread for looks, if one can be had.
fn start() -> Option<Sender<LookJob>> {
    let (sender, jobs) = mpsc::channel::<LookJob>();
    let work = move || jobs.into_iter().for_each(|job| job());
    let started = thread::Builder::new().name("look".to_owned()).spawn(work);
    started.ok().map(|_| sender)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn directory_that_hangs_is_asked_again_only_when_it_has_answered() {
        let looks = Looks::default();
        let (release, held) = mpsc::channel::<()>();
        let hung = looks.look(Path::new("/hung/a"), move |_| held.recv().is_err());
        assert_eq!(hung, None);
        // A busy machine may be late once.
        let is_known = || {
            let began = Instant::now();
            assert_eq!(looks.look(Path::new("/hung/b"), |_| 7), None);
            began.elapsed() < LIMITS[0]
        };
        assert!((0..5).any(|_| is_known()));
        while looks.look(Path::new("/other/a"), |_| 7).is_none() {
            thread::yield_now();
        }
        assert!(looks.has_hung());
        drop(release);
        while looks.look(Path::new("/hung/b"), |_| 7).is_none() {
            thread::yield_now();
        }
    }
}
