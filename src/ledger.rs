//! Limits on calls for tickets: of one app, and of all apps that share an id.

use crate::time::Moment;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);

/// A limit on the calls of an hour. A quarter of them may be made at once, and half of them in an hour after that.
#[derive(Debug, Clone, Copy)]
pub struct HourlyRate {
    limit: u32,
    /// The moment from which a whole burst is free.
    free_at: Moment,
}

impl HourlyRate {
    /// A rate that stays well below `limit` calls in any hour.
    pub fn below(limit: u32) -> Self {
        Self {
            limit,
            free_at: Moment::from_millis(i64::MIN),
        }
    }

    /// The time that a call takes of the hour.
    fn a_call(&self) -> Duration {
        HOUR / (self.limit / 2).max(1)
    }

    /// The earliest moment for a call.
    pub(crate) fn earliest(&self, now: Moment) -> Moment {
        let burst = self.a_call() * (self.limit / 4).saturating_sub(1);
        (self.free_at - burst).max(now)
    }

    /// Counts a call.
    pub(crate) fn spend(&mut self, now: Moment) {
        self.free_at = self.free_at.max(now) + self.a_call();
    }
}

/// The calls for tickets of all apps that share an id.
#[derive(Debug)]
pub struct TicketLedger(Mutex<(HourlyRate, Moment)>);

impl TicketLedger {
    /// A ledger for an id with a limit of so many calls an hour.
    pub fn new(limit: u32) -> Self {
        let never = Moment::from_millis(i64::MIN);
        Self(Mutex::new((HourlyRate::below(limit), never)))
    }

    /// The earliest moment for a call.
    pub(crate) fn earliest(&self, now: Moment) -> Moment {
        let (rate, blocked_until) = *self.0.lock();
        rate.earliest(now).max(blocked_until)
    }

    /// Counts a call.
    pub(crate) fn spend(&self, now: Moment) {
        self.0.lock().0.spend(now);
    }

    /// The platform refuses every app of the id until then.
    pub fn block(&self, until: Moment) {
        let mut state = self.0.lock();
        state.1 = state.1.max(until);
    }
}

/// The ledgers of all ids.
#[derive(Debug, Default)]
pub struct TicketLedgers(Mutex<HashMap<Box<str>, Weak<TicketLedger>>>);

impl TicketLedgers {
    /// The ledger that the apps of an id share; it goes with the last of them.
    pub fn of(&self, id: &str, limit: u32) -> Arc<TicketLedger> {
        let mut ledgers = self.0.lock();
        if ledgers.len().is_power_of_two() {
            ledgers.retain(|_, ledger| ledger.strong_count() > 0);
        }
        if let Some(ledger) = ledgers.get(id).and_then(Weak::upgrade) {
            return ledger;
        }
        let ledger = Arc::new(TicketLedger::new(limit));
        ledgers.insert(id.into(), Arc::downgrade(&ledger));
        ledger
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_hour_has_more_calls_than_three_quarters_of_the_limit() {
        for limit in [60, 100, 400] {
            let ledger = TicketLedger::new(limit);
            let (mut now, mut calls) = (Moment::from_millis(0), Vec::new());
            while now.as_millis() < 4 * 3_600_000 {
                now = ledger.earliest(now);
                ledger.spend(now);
                calls.push(now);
            }
            let busiest = calls.iter().map(|first| {
                let within = calls
                    .iter()
                    .filter(|at| *first <= **at && **at < *first + HOUR);
                within.count()
            });
            let most = busiest.max().unwrap_or_default();
            assert!(most <= limit as usize * 3 / 4 + 1, "{most} of {limit}");
            assert!(most >= limit as usize / 2, "{most} of {limit}");
        }
    }

    #[test]
    fn apps_of_one_id_share_a_ledger() {
        let ledgers = TicketLedgers::default();
        let (one, same) = (ledgers.of("ww1", 400), ledgers.of("ww1", 400));
        assert!(Arc::ptr_eq(&one, &same));
        assert!(!Arc::ptr_eq(&one, &ledgers.of("ww2", 400)));
        let (now, until) = (Moment::from_millis(0), Moment::from_millis(60_000));
        one.block(until);
        assert_eq!(same.earliest(now), until);
    }
}
