//! Time limits of connections, kept by one clock for all of them: a timer for each would cost more than the connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::watch::error::RecvError;
use tokio::sync::{Mutex, Notify, watch};
use tokio::time::{Interval, MissedTickBehavior, interval};

/// A connection is closed when for a whole tick, and at most for two, it makes no progress with sending a request or
/// with reading an answer.
const TICK: Duration = Duration::from_secs(10);

/// The clock of a server's connections. It runs only while a client has to get on.
#[derive(Debug)]
pub(super) struct ConnectionClock {
    ticks: watch::Sender<()>,
    /// Locked by whoever runs the clock.
    interval: Mutex<Interval>,
    waiting: Arc<WaitingClients>,
}

/// Connections on which the client has to get on.
#[derive(Debug, Default)]
struct WaitingClients {
    count: AtomicUsize,
    first: Notify,
}

/// Counts the steps of one connection.
#[derive(Debug)]
pub(super) struct Progress {
    /// Odd while a request is being answered: that takes the time it takes, and has limits of its own.
    steps: AtomicU32,
    ticks: watch::Receiver<()>,
    waiting: Arc<WaitingClients>,
}

/// A request that is being answered.
pub(super) struct Busy(Arc<Progress>);

impl ConnectionClock {
    pub(super) fn new() -> Self {
        let mut interval = interval(TICK);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            ticks: watch::Sender::new(()),
            interval: Mutex::new(interval),
            waiting: Arc::default(),
        }
    }

    /// The progress of a new connection.
    pub(super) fn start(&self) -> Arc<Progress> {
        self.waiting.add();
        Arc::new(Progress {
            steps: AtomicU32::new(0),
            ticks: self.ticks.subscribe(),
            waiting: self.waiting.clone(),
        })
    }

    /// Lets time pass, for ever. It may be dropped and run again.
    pub(super) async fn run(&self) -> ! {
        let mut interval = self.interval.lock().await;
        loop {
            if self.waiting.count.load(Ordering::Relaxed) == 0 {
                self.waiting.first.notified().await;
            } else {
                interval.tick().await;
                self.ticks.send_replace(());
            }
        }
    }
}

impl WaitingClients {
    fn add(&self) {
        if self.count.fetch_add(1, Ordering::Relaxed) == 0 {
            self.first.notify_one();
        }
    }

    fn remove(&self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Progress {
    /// A request has come.
    pub(super) fn begin(self: &Arc<Self>) -> Busy {
        self.steps.fetch_add(1, Ordering::Relaxed);
        self.waiting.remove();
        Busy(self.clone())
    }

    /// Waits until the client has made no progress for a tick, or the server is gone.
    pub(super) async fn stalled(&self) {
        let mut ticks = self.ticks.clone();
        loop {
            let before = self.steps.load(Ordering::Relaxed);
            let passed = two_ticks(&mut ticks).await;
            let after = self.steps.load(Ordering::Relaxed);
            if passed.is_err() || after == before && after.is_multiple_of(2) {
                return;
            }
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.waiting.remove();
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.steps.fetch_add(1, Ordering::Relaxed);
        self.0.waiting.add();
    }
}

/// At least one whole tick; an error when the server is gone.
async fn two_ticks(ticks: &mut watch::Receiver<()>) -> Result<(), RecvError> {
    ticks.changed().await?;
    ticks.changed().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{Instant, timeout};

    #[tokio::test(start_paused = true)]
    async fn stalled_client_is_noticed_within_two_ticks() {
        let clock = ConnectionClock::new();
        let progress = clock.start();
        let start = Instant::now();
        tokio::select! {
            never = clock.run() => never,
            () = progress.stalled() => {}
        }
        assert!((TICK..=2 * TICK).contains(&start.elapsed()));
    }

    #[tokio::test(start_paused = true)]
    async fn clock_stands_still_while_all_clients_are_being_answered() {
        let clock = ConnectionClock::new();
        let (one, two) = (clock.start(), clock.start());
        let mut ticks = clock.ticks.subscribe();
        let busy = (one.begin(), two.begin());
        assert!(timeout(10 * TICK, clock.run()).await.is_err());
        assert!(!ticks.has_changed().unwrap());
        drop(busy);
        drop(one);
        assert!(timeout(10 * TICK, clock.run()).await.is_err());
        assert!(ticks.has_changed().unwrap());
        ticks.mark_unchanged();
        drop(two);
        assert!(timeout(10 * TICK, clock.run()).await.is_err());
        assert!(!ticks.has_changed().unwrap());
    }
}
