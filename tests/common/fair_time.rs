//! Time as the machine gives it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

/// The pause that is counted.
const TICK: Duration = Duration::from_millis(5);

/// A clock for limits on how long something may take: it counts the pauses that a thread got to take. While the machine
/// stands still, or has no time for anybody here, it stands still too.
pub struct FairTime {
    ticks: Arc<AtomicU32>,
    is_over: Arc<AtomicBool>,
}

impl FairTime {
    pub fn start() -> Self {
        let (ticks, is_over) = (Arc::<AtomicU32>::default(), Arc::<AtomicBool>::default());
        let (counted, ended) = (ticks.clone(), is_over.clone());
        std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                std::thread::sleep(TICK);
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { ticks, is_over }
    }

    pub fn elapsed(&self) -> Duration {
        TICK * self.ticks.load(Ordering::Relaxed)
    }

    /// Panics if more time has passed.
    #[track_caller]
    pub fn assert_within(&self, limit: Duration) {
        let took = self.elapsed();
        assert!(took < limit, "{took:?}, not within {limit:?}");
    }
}

impl Drop for FairTime {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}
