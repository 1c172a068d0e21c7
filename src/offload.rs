//! Work that blocks, done beside the runtime.
//!
//! A thread for each piece of work is awake for a moment and asleep again, which costs more than most of the work does. Here
//! one thread does all there is in turn; another one helps only when something has waited for too long.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// What waits for so long has something slow before it.
const TOO_LONG: Duration = Duration::from_millis(20);

/// Threads at most: enough to keep a disk busy, few enough to stay small.
const THREADS: usize = 16;

type Job = Box<dyn FnOnce() + Send>;

/// A queue of work that blocks. Clones are the same one.
#[derive(Clone, Default)]
pub struct Offload(Arc<Shared>);

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    arrived: Condvar,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
}

/// The runtime ends before the work is done.
#[derive(Debug)]
pub struct Stopping;

impl fmt::Display for Stopping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the daemon is stopping")
    }
}

impl std::error::Error for Stopping {}

impl Offload {
    /// Begins work, to be done after all that was begun before, and gives what comes of it to whoever awaits it. It is done
    /// also when nobody does. Needs a tokio runtime.
    pub fn run<T: Send + 'static, W: FnOnce() -> T + Send + 'static>(
        &self,
        work: W,
    ) -> impl Future<Output = Result<T, Stopping>> + Send + use<T, W> {
        let (done, mut result) = oneshot::channel();
        let mut queue = self.queue();
        queue
            .jobs
            .push_back(Box::new(move || drop(done.send(work()))));
        let (has_none, has_idle) = (queue.threads == 0, queue.idle > 0);
        drop(queue);
        if has_idle {
            self.0.arrived.notify_one();
        } else if has_none {
            self.add_thread();
        }
        let this = self.clone();
        async move {
            let mut patience = TOO_LONG;
            loop {
                match tokio::time::timeout(patience, &mut result).await {
                    Ok(result) => return result.map_err(|_| Stopping),
                    Err(_) => this.add_thread(),
                }
                patience *= 2;
            }
        }
    }

    /// Has another thread help, if there is something to help with.
    fn add_thread(&self) {
        let mut queue = self.queue();
        if queue.jobs.is_empty() || queue.threads >= THREADS {
            return;
        }
        let (this, runtime) = (self.clone(), Handle::current());
        let work = move || {
            let _runtime = runtime.enter();
            this.work();
        };
        // What cannot be started now is tried again by whoever still waits.
        if thread::Builder::new()
            .name("offload".to_owned())
            .spawn(work)
            .is_ok()
        {
            queue.threads += 1;
        }
    }

    /// Does what there is to do. One thread stays and waits for more.
    fn work(&self) {
        let mut queue = self.queue();
        loop {
            if let Some(job) = queue.jobs.pop_front() {
                drop(queue);
                job();
                queue = self.queue();
            } else if queue.idle > 0 {
                queue.threads -= 1;
                return;
            } else {
                queue.idle += 1;
                queue = self
                    .0
                    .arrived
                    .wait(queue)
                    .unwrap_or_else(PoisonError::into_inner);
                queue.idle -= 1;
            }
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Offload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Offload").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap()
    }

    #[test]
    fn one_thread_does_what_is_quick_in_turn() {
        runtime().block_on(async {
            let offload = Offload::default();
            let (release, held) = mpsc::channel();
            let first = tokio::spawn({
                let offload = offload.clone();
                async move { offload.run(move || held.recv().unwrap()).await.unwrap() }
            });
            let order = Arc::new(Mutex::new(Vec::new()));
            let mut works = tokio::task::JoinSet::new();
            for n in 0..100 {
                let (offload, order) = (offload.clone(), order.clone());
                works.spawn(async move {
                    let work = move || {
                        order.lock().unwrap().push(n);
                        thread::current().id()
                    };
                    offload.run(work).await.unwrap()
                });
            }
            tokio::task::yield_now().await;
            release.send(()).unwrap();
            first.await.unwrap();
            let threads = works.join_all().await;
            assert!(threads.iter().all(|thread| *thread == threads[0]));
            assert!(order.lock().unwrap().is_sorted());
        });
    }

    #[test]
    fn what_hangs_holds_up_nothing_else() {
        runtime().block_on(async {
            let offload = Offload::default();
            let mut hang = Vec::new();
            for _ in 0..THREADS - 1 {
                let (release, held) = mpsc::channel::<()>();
                let offload = offload.clone();
                tokio::spawn(async move { offload.run(move || held.recv()).await.is_ok() });
                hang.push(release);
            }
            tokio::task::yield_now().await;
            assert_eq!(offload.run(|| 7).await.unwrap(), 7);
            drop(hang);
        });
    }

    #[test]
    fn work_is_done_though_nobody_waits() {
        runtime().block_on(async {
            let offload = Offload::default();
            let (done, wait) = mpsc::channel();
            drop(offload.run(move || done.send(7).unwrap()));
            let seen = offload.run(move || wait.recv().unwrap()).await;
            assert_eq!(seen.unwrap(), 7);
        });
    }
}
