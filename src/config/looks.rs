//! Looks at files and directories where that may hang: on a dead disk or network mount.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Limit on the first look.
const LIMIT: Duration = Duration::from_secs(2);
/// Limit on a look while another one hangs.
const LIMIT_BESIDE_HUNG: Duration = Duration::from_millis(100);
/// Looks that may hang at a time.
const MAX_HUNG: usize = 16;

type LookJob = Box<dyn FnOnce() + Send>;

/// Looks at paths, each for a limited time. Clones share what hangs.
#[derive(Debug, Clone, Default)]
pub struct Looks(Arc<Mutex<LooksState>>);

#[derive(Debug, Default)]
struct LooksState {
    /// A thread that waits for the next look.
    thread: Option<Sender<LookJob>>,
    /// Directories in which a look has not ended.
    hung: HashSet<PathBuf>,
}

/// There is one in a process, so that all are equal.
impl PartialEq for Looks {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Looks {}

impl Looks {
    /// Looks at a path; nothing if its file system does not answer. Blocks for two seconds at most.
    pub(super) fn look<T: Send + 'static>(
        &self,
        path: &Path,
        look: impl FnOnce(&Path) -> T + Send + 'static,
    ) -> Option<T> {
        let directory = path.parent().unwrap_or(path).to_path_buf();
        let (thread, limit) = {
            let mut state = self.state();
            if state.hung.contains(&directory) || state.hung.len() >= MAX_HUNG {
                return None;
            }
            let limit = if state.hung.is_empty() {
                LIMIT
            } else {
                LIMIT_BESIDE_HUNG
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
            looks.state().hung.remove(&asked);
        };
        // The thread ends only when it can be sent nothing more.
        let _ = thread.send(Box::new(job));
        if let Ok(found) = answer.recv_timeout(limit) {
            self.state().thread = Some(thread);
            return Some(found);
        }
        let mut state = self.state();
        // The answer comes before the directory is taken out again.
        let late = answer.try_recv().ok();
        if late.is_none() {
            state.hung.insert(directory);
        }
        late
    }

    fn state(&self) -> MutexGuard<'_, LooksState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
        let began = Instant::now();
        assert_eq!(looks.look(Path::new("/hung/b"), |_| 7), None);
        assert_eq!(looks.look(Path::new("/other/a"), |_| 7), Some(7));
        assert!(began.elapsed() < LIMIT);
        drop(release);
        while looks.look(Path::new("/hung/b"), |_| 7).is_none() {
            thread::yield_now();
        }
    }
}
