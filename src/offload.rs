//! Work that blocks, beside the runtime. Each thing that can hang has a lane of its own, so that it hangs alone.
//!
//! A thread for each piece of work is awake for a moment and asleep again, which costs more than most of the work does:
//! `tests/bench/daemon.rs` prints the start of 10,000 accounts. In a lane one thread does all there is in turn; another
//! one helps only when something has waited for too long.

use crate::fault::reason;
use crate::logging::Entry;
use parking_lot::{Condvar, Mutex};
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Work that waited for so long has something slow before it: another thread helps.
const SLOW: Duration = Duration::from_millis(20);
/// A lane whose work takes so long hangs, as far as anybody knows.
const STUCK: Duration = Duration::from_secs(1);
/// Threads of one lane: enough to keep a disk busy, few enough to hang.
const MAX_THREADS: usize = 8;

/// A file system, by its device number.
pub(crate) type Device = (u32, u32);

/// Something that can hang as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Hazard {
    /// The state directory.
    State,
    /// Waiting for what was written to the state directory.
    StateSync,
    /// The configuration and the name service.
    Configuration,
    /// Files that are read on a file system: the accounts' secrets.
    Secrets(Device),
    /// Outputs on a file system.
    Outputs(Device),
    /// Expired values that are removed from a file system.
    Removal(Device),
}

type Job = Box<dyn FnOnce() + Send>;

/// All lanes. Clones are the same ones.
#[derive(Clone, Default)]
pub(crate) struct Offload(Arc<Mutex<HashMap<Hazard, Lane>>>);

/// A queue of work that hangs with nothing but itself. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Lane(Arc<LaneShared>);

struct LaneShared {
    max_threads: usize,
    queue: Mutex<LaneQueue>,
    arrived: Condvar,
}

#[derive(Default)]
struct LaneQueue {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
    /// The number of each job that is under way, and the moment when it began.
    running: Vec<(u64, Instant)>,
    next_number: u64,
    /// True if nobody needs it any more.
    is_closed: bool,
}

/// The work will not be done.
#[derive(Debug)]
pub(crate) struct Stopping;

impl fmt::Display for Stopping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the daemon is stopping")
    }
}

impl std::error::Error for Stopping {}

impl Offload {
    /// The lane of something that can hang. Its first thread is started at once and kept.
    pub(crate) fn lane(&self, hazard: Hazard) -> Lane {
        let mut lanes = self.0.lock();
        let lane = lanes.entry(hazard).or_insert_with(|| {
            let lane = Lane::new(match hazard {
                // In turn: the last line of an account is the one that counts.
                Hazard::State => 1,
                _ => MAX_THREADS,
            });
            lane.add_thread();
            lane
        });
        lane.clone()
    }

    /// Ends the lanes of file systems that are not needed any more, and gives the others the threads that could not be
    /// had.
    pub(crate) fn tend(&self, is_needed: impl Fn(Hazard) -> bool) {
        self.0.lock().retain(|hazard, lane| {
            let is_needed = is_needed(*hazard);
            if !is_needed {
                lane.0.queue.lock().is_closed = true;
                lane.0.arrived.notify_all();
            } else if lane.0.queue.lock().threads == 0 {
                lane.add_thread();
            }
            is_needed
        });
    }
}

impl Lane {
    fn new(max_threads: usize) -> Self {
        Self(Arc::new(LaneShared {
            max_threads,
            queue: Mutex::default(),
            arrived: Condvar::new(),
        }))
    }
    /// Begins work, to be done after all that was begun before, and gives what comes of it to whoever awaits it. It is
    /// done also when nobody does. To await it needs the time of a tokio runtime.
    pub(crate) fn run<T: Send + 'static, W: FnOnce() -> T + Send + 'static>(
        &self,
        work: W,
    ) -> impl Future<Output = Result<T, Stopping>> + Send + use<T, W> {
        let (done, mut result) = oneshot::channel();
        self.begin(move || drop(done.send(work())));
        let lane = self.clone();
        async move {
            let mut patience = SLOW;
            loop {
                match tokio::time::timeout(patience, &mut result).await {
                    Ok(result) => return result.map_err(|_| Stopping),
                    Err(_) => lane.help(),
                }
                patience *= 2;
            }
        }
    }

    /// Begins work that nobody waits for.
    pub(crate) fn begin(&self, work: impl FnOnce() + Send + 'static) {
        let mut queue = self.0.queue.lock();
        queue.jobs.push_back(Box::new(work));
        let has_idle = queue.idle > 0;
        let needs_help = queue.threads == 0 || queue.runs_for(SLOW);
        drop(queue);
        if has_idle {
            self.0.arrived.notify_one();
        } else if needs_help {
            self.add_thread();
        }
    }

    /// Returns whether it hangs, as far as anybody knows.
    pub(crate) fn is_stuck(&self) -> bool {
        self.0.queue.lock().runs_for(STUCK)
    }

    /// Returns whether a thread does its work. None does while none can be had.
    pub(crate) fn has_thread(&self) -> bool {
        self.0.queue.lock().threads > 0
    }

    /// Has another thread help, if there is something to help with.
    fn help(&self) {
        if !self.0.queue.lock().jobs.is_empty() {
            self.add_thread();
        }
    }

    fn add_thread(&self) {
        let mut queue = self.0.queue.lock();
        if queue.threads >= self.0.max_threads {
            return;
        }
        queue.threads += 1;
        drop(queue);
        let shared = self.0.clone();
        let started = thread::Builder::new()
            .name("offload".to_owned())
            .spawn(move || shared.work());
        if let Err(error) = started {
            self.0.queue.lock().threads -= 1;
            // The waiting caller tries again, and so does the next sweep.
            Entry::new().warn(format_args!(
                "cannot start a thread: {}; raise TasksMax= of the service, or the limit of processes of its user; tried again",
                reason(&error)
            ));
        }
    }
}

impl LaneQueue {
    fn runs_for(&self, time: Duration) -> bool {
        self.running.iter().any(|(_, began)| began.elapsed() > time)
    }
}

impl LaneShared {
    /// Does what there is to do. One thread stays and waits for more.
    fn work(&self) {
        let mut queue = self.queue.lock();
        loop {
            if let Some(job) = queue.jobs.pop_front() {
                let number = queue.next_number;
                queue.next_number += 1;
                queue.running.push((number, Instant::now()));
                drop(queue);
                job();
                queue = self.queue.lock();
                queue.running.retain(|(running, _)| *running != number);
            } else if queue.idle > 0 || queue.is_closed {
                queue.threads -= 1;
                return;
            } else {
                queue.idle += 1;
                self.arrived.wait(&mut queue);
                queue.idle -= 1;
            }
        }
    }
}

impl fmt::Debug for Offload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Offload").finish_non_exhaustive()
    }
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lane").finish_non_exhaustive()
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
    fn quick_work_is_done_by_one_thread_in_turn() {
        // A machine that stands still for a moment makes another one help.
        let in_turn = || {
            runtime().block_on(async {
                let lane = Lane::new(MAX_THREADS);
                let (release, held) = mpsc::channel();
                let first = tokio::spawn(lane.run(move || held.recv().unwrap()));
                let order = Arc::new(Mutex::new(Vec::new()));
                let mut works = tokio::task::JoinSet::new();
                for n in 0..100 {
                    let order = order.clone();
                    let work = move || {
                        order.lock().push(n);
                        thread::current().id()
                    };
                    works.spawn(lane.run(work));
                }
                release.send(()).unwrap();
                first.await.unwrap().unwrap();
                let threads = works.join_all().await;
                let threads: Vec<_> = threads.into_iter().map(Result::unwrap).collect();
                threads.iter().all(|thread| *thread == threads[0]) && order.lock().is_sorted()
            })
        };
        assert!((0..10).any(|_| in_turn()));
    }

    #[test]
    fn hanging_work_holds_up_neither_its_lane_nor_another() {
        runtime().block_on(async {
            let offload = Offload::default();
            let lane = offload.lane(Hazard::Outputs((0, 1)));
            let hang = |count| {
                let releases = (0..count).map(|_| {
                    let (release, held) = mpsc::channel::<()>();
                    lane.begin(move || {
                        let _ = held.recv();
                    });
                    release
                });
                releases.collect::<Vec<_>>()
            };
            let mut held = hang(MAX_THREADS - 1);
            assert_eq!(lane.run(|| 7).await.unwrap(), 7);
            held.extend(hang(2));
            while !lane.is_stuck() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            let other = offload.lane(Hazard::Outputs((0, 2)));
            assert_eq!(other.run(|| 7).await.unwrap(), 7);
            assert!(!other.is_stuck());
            drop(held);
            assert_eq!(lane.run(|| 7).await.unwrap(), 7);
        });
    }

    #[test]
    fn work_is_done_though_nobody_waits() {
        runtime().block_on(async {
            let lane = Lane::new(MAX_THREADS);
            let (done, wait) = mpsc::channel();
            drop(lane.run(move || done.send(7).unwrap()));
            let seen = lane.run(move || wait.recv().unwrap()).await;
            assert_eq!(seen.unwrap(), 7);
        });
    }

    #[test]
    fn lane_that_is_not_needed_ends_its_threads() {
        let offload = Offload::default();
        let lane = offload.lane(Hazard::Outputs((0, 1)));
        offload.tend(|_| false);
        while lane.has_thread() {
            thread::yield_now();
        }
    }
}
