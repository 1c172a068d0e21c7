//! Time as the pure floors see it: moments on a clock that never steps, and how to read them as Unix time.

use std::ops::{Add, Sub};
use std::time::Duration;

/// A moment in milliseconds on the daemon's clock, which counts suspend and never steps (`CLOCK_BOOTTIME`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(i64);

impl Moment {
    /// A moment from milliseconds since the host booted; may be negative for one before that.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the host booted.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// The time until `later`; zero when that is past.
    pub fn until(self, later: Self) -> Duration {
        Duration::from_millis(u64::try_from(later.0.saturating_sub(self.0)).unwrap_or(0))
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl Add<Duration> for Moment {
    type Output = Self;
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }
}

impl Sub<Duration> for Moment {
    type Output = Self;
    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(millis(duration)))
    }
}

/// One reading of both clocks: the moment, and what Unix time it is then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// The daemon's clock.
    pub at: Moment,
    /// Unix time of `at`, milliseconds.
    pub unix_millis: i64,
}

/// The end of a life on both clocks. The earlier one counts: the boot clock stands still while a virtual machine is
/// paused, and Unix time may be set. Nobody else compares the clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    boot: Option<Moment>,
    unix_millis: i64,
    moment: Moment,
}

impl End {
    /// An end that is known on the daemon's clock.
    pub fn of(moment: Moment, now: &Now) -> Self {
        Self {
            boot: Some(moment),
            unix_millis: now.unix_millis_of(moment),
            moment,
        }
    }

    /// An end that follows from the answer to a call that was sent at `sent`: the host may have been paused since.
    pub(crate) fn granted(moment: Moment, sent: &Now, now: &Now) -> Self {
        Self::stored(Some(moment), sent.unix_millis_of(moment), now)
    }

    /// An end that was stored. `boot` is nothing if the host has booted since.
    pub fn stored(boot: Option<Moment>, unix_millis: i64, now: &Now) -> Self {
        let unix = now.moment(unix_millis);
        Self {
            boot,
            unix_millis,
            moment: boot.map_or(unix, |boot| boot.min(unix)),
        }
    }

    /// The end on the daemon's clock, as both clocks told when they were last read.
    pub const fn moment(&self) -> Moment {
        self.moment
    }

    /// The end on the daemon's clock alone; nothing if it was learnt before the host booted.
    pub const fn boot(&self) -> Option<Moment> {
        self.boot
    }

    /// The end in Unix milliseconds.
    pub const fn unix_millis(&self) -> i64 {
        self.unix_millis
    }

    /// Reads both clocks anew, after one was set or stood still: neither makes the life longer than apps were told.
    pub(crate) fn reread(&mut self, now: &Now) {
        if let Some(boot) = self.boot {
            self.unix_millis = self.unix_millis.min(now.unix_millis_of(boot));
        }
        *self = Self::stored(self.boot, self.unix_millis, now);
    }

    /// No life is longer than this.
    pub fn limit(&mut self, latest: Moment) {
        self.moment = self.moment.min(latest);
    }

    /// The part of the life on the daemon's clock that is in doubt, because Unix time says that it ends earlier.
    pub(crate) fn doubted(&self, now: Moment) -> Duration {
        self.boot
            .map_or(Duration::ZERO, |boot| self.moment.max(now).until(boot))
    }
}

/// A duration as people say it, in its two largest units: `45s`, `4m`, `1h52m`.
pub(crate) fn human(duration: Duration) -> String {
    let rounded = jiff::SignedDuration::try_from(duration).unwrap_or(jiff::SignedDuration::MAX);
    let unit = match duration.as_secs() {
        0..60 => jiff::Unit::Second,
        _ => jiff::Unit::Minute,
    };
    let rounded = rounded.round(unit).unwrap_or(rounded);
    let printer = jiff::fmt::friendly::SpanPrinter::new()
        .spacing(jiff::fmt::friendly::Spacing::None)
        .precision(Some(0));
    printer.duration_to_string(&rounded)
}

const DAY_MILLIS: i64 = 86_400_000;
/// The platform counts its days in UTC+8.
const PLATFORM_ZONE_MILLIS: i64 = 8 * 3_600_000;

impl Now {
    /// Unix time of a moment in whole seconds, rounded down: an expiry never looks later than it is.
    pub fn unix(&self, moment: Moment) -> i64 {
        (self.unix_millis + (moment.0 - self.at.0)).div_euclid(1000)
    }

    /// Unix time of a moment, milliseconds.
    pub(crate) fn unix_millis_of(&self, moment: Moment) -> i64 {
        self.unix_millis + (moment.0 - self.at.0)
    }

    /// The moment of a Unix time in milliseconds.
    pub fn moment(&self, unix_millis: i64) -> Moment {
        let ahead = unix_millis.saturating_sub(self.unix_millis);
        Moment(self.at.0.saturating_add(ahead))
    }

    /// The platform's day (UTC+8), counted from the epoch: quotas and budgets start anew with each.
    pub fn platform_day(&self) -> i64 {
        (self.unix_millis + PLATFORM_ZONE_MILLIS).div_euclid(DAY_MILLIS)
    }

    /// The moment when the platform's day ends: the next midnight in UTC+8.
    pub(crate) fn next_platform_midnight(&self) -> Moment {
        self.moment((self.platform_day() + 1) * DAY_MILLIS - PLATFORM_ZONE_MILLIS)
    }

    /// The moment when the current minute ends.
    pub(crate) fn next_minute(&self) -> Moment {
        self.moment((self.unix_millis.div_euclid(60_000) + 1) * 60_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_people_say_them() {
        for (millis, said) in [
            (0, "0s"),
            (1_400, "1s"),
            (59_000, "59s"),
            (240_000, "4m"),
            (6_735_000, "1h52m"),
            (7_200_000, "2h"),
        ] {
            assert_eq!(human(Duration::from_millis(millis)), said);
        }
    }

    /// The moment zero is 2023-11-14 15:59:00.500 UTC, 59.5 s before midnight in UTC+8.
    const NOW: Now = Now {
        at: Moment::from_millis(0),
        unix_millis: 1_699_977_540_500,
    };

    #[test]
    fn days_and_minutes_end_by_the_platforms_clock() {
        let day = NOW.platform_day();
        for (ahead, new_day, midnight, minute) in [
            (0, 0, 59_500, 59_500),
            (59_499, 0, 59_500, 59_500),
            (59_500, 1, 59_500 + DAY_MILLIS, 119_500),
            (DAY_MILLIS, 1, 59_500 + DAY_MILLIS, 59_500 + DAY_MILLIS),
        ] {
            let now = Now {
                at: Moment::from_millis(ahead),
                unix_millis: NOW.unix_millis + ahead,
            };
            assert_eq!(now.platform_day(), day + new_day, "{ahead}");
            assert_eq!(now.next_platform_midnight().as_millis(), midnight);
            assert_eq!(now.next_minute().as_millis(), minute);
        }
    }

    #[test]
    fn an_expiry_never_looks_later_than_it_is() {
        for (moment, unix) in [
            (0, 1_699_977_540),
            (499, 1_699_977_540),
            (500, 1_699_977_541),
            (-501, 1_699_977_539),
        ] {
            assert_eq!(NOW.unix(Moment::from_millis(moment)), unix, "{moment}");
        }
    }

    #[test]
    fn unix_time_and_moments_are_two_ways_to_say_the_same() {
        for millis in [-5, 0, 1_000_000] {
            let moment = Moment::from_millis(millis);
            assert_eq!(NOW.moment(NOW.unix_millis_of(moment)), moment);
        }
        assert_eq!(NOW.moment(i64::MAX).as_millis(), i64::MAX - NOW.unix_millis);
        let far = Moment::from_millis(i64::MAX);
        assert_eq!(far + Duration::MAX, far, "nothing overflows");
        assert_eq!(far.until(NOW.at), Duration::ZERO, "what is past is now");
        assert!((NOW.at - Duration::MAX).until(far) > Duration::from_secs(1));
    }
}
