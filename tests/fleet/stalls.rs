//! The time in which the machine ran: limits on time are those of the fleet, and not of a machine that stalls.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

/// The pause between two looks. What a pause lasts longer than twice this, the machine has stalled.
const PAUSE: Duration = Duration::from_millis(10);

/// A thread that looks at the clock all the time.
pub(crate) struct Stalls {
    /// Milliseconds of all stalls together.
    total: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Stalls {
    pub(crate) fn watch() -> Self {
        let (total, stop) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (sum, ends) = (total.clone(), stop.clone());
        let thread = spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                let began = Instant::now();
                sleep(PAUSE);
                let late = began.elapsed().saturating_sub(2 * PAUSE).as_millis();
                sum.fetch_add(u64::try_from(late).unwrap(), Ordering::Relaxed);
            }
        });
        Self {
            total,
            stop,
            thread: Some(thread),
        }
    }

    /// Starts to measure a time.
    pub(crate) fn stopwatch(&self) -> Stopwatch {
        Stopwatch {
            began: Instant::now(),
            before: self.total.load(Ordering::Relaxed),
            total: self.total.clone(),
        }
    }
}

impl Drop for Stalls {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// A measure of time that stands still while the machine stalls.
pub(crate) struct Stopwatch {
    began: Instant,
    before: u64,
    total: Arc<AtomicU64>,
}

impl Stopwatch {
    pub(crate) fn elapsed(&self) -> Duration {
        let stalled = self.total.load(Ordering::Relaxed) - self.before;
        let all = self.began.elapsed();
        all.saturating_sub(Duration::from_millis(stalled))
    }
}
