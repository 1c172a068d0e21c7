//! Removes expired files at their end, whatever else the daemon does or waits for.

use super::file::{self, EARLY};
use super::place::Place;
use crate::clock;
use crate::logging::Entry;
use crate::offload::{Hazard, Offload};
use crate::time::Moment;
use parking_lot::Mutex;
use rustix::io::read;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// Pause before a removal that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// The files that have an end, and the thread that waits for it. The thread itself touches no file system: each has a
/// lane for removals, in which nothing else is done.
#[derive(Debug, Clone)]
pub(crate) struct Expiry(Arc<ExpiryShared>);

#[derive(Debug)]
struct ExpiryShared {
    /// Counts suspend, and needs no other wake-up.
    timer: OwnedFd,
    ends: Mutex<BTreeMap<(Moment, u64), Arc<Place>>>,
    offload: Offload,
    next_number: AtomicU64,
}

impl Expiry {
    /// Starts the thread.
    pub(crate) fn start(offload: Offload) -> io::Result<Self> {
        let shared = Arc::new(ExpiryShared {
            timer: timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::CLOEXEC)?,
            ends: Mutex::default(),
            offload,
            next_number: AtomicU64::new(0),
        });
        let thread = shared.clone();
        thread::Builder::new()
            .name("expiry".to_owned())
            .spawn(move || thread.run())?;
        Ok(Self(shared))
    }

    /// Has what is in a place removed at an end, unless something that lasts longer is there by then.
    pub(crate) fn add(&self, place: Arc<Place>, end: Moment) {
        // The lane is there before it is needed.
        let _ = self.0.lane(&place);
        self.0.add(place, end - EARLY);
    }
}

impl ExpiryShared {
    fn add(&self, place: Arc<Place>, at: Moment) {
        let mut ends = self.ends.lock();
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        ends.insert((at, number), place);
        if ends
            .first_key_value()
            .is_some_and(|(first, _)| *first == (at, number))
        {
            self.set_timer(at);
        }
    }

    fn set_timer(&self, at: Moment) {
        // Zero would mean never.
        let millis = at.as_millis().max(1);
        let timer = Itimerspec {
            it_interval: Timespec::default(),
            it_value: Timespec {
                tv_sec: millis / 1000,
                tv_nsec: millis % 1000 * 1_000_000,
            },
        };
        // Such a time is always valid.
        let _ = timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &timer);
    }

    fn run(self: Arc<Self>) {
        loop {
            let mut expirations = [0; 8];
            // An interruption is one more look.
            let _ = read(&self.timer, &mut expirations);
            let now = clock::now().at;
            loop {
                let mut ends = self.ends.lock();
                let Some(first) = ends.first_entry() else {
                    break;
                };
                let (at, _) = *first.key();
                if at > now {
                    self.set_timer(at);
                    break;
                }
                let place = first.remove();
                drop(ends);
                self.remove(place);
            }
        }
    }

    fn remove(self: &Arc<Self>, place: Arc<Place>) {
        let lane = self.lane(&place);
        let this = self.clone();
        let work = move || {
            let now = clock::now().at;
            if let Err(error) = file::remove_expired(&place, now + EARLY) {
                let path = &place.output().path;
                Entry::of(place.account()).output(path).warn(&error);
                this.add(place, now + RETRY);
            }
        };
        if lane.has_thread() {
            lane.begin(work);
        } else {
            // No thread can be had: better late than never.
            work();
        }
    }

    fn lane(&self, place: &Place) -> crate::offload::Lane {
        self.offload.lane(Hazard::Removal(place.device()))
    }
}
