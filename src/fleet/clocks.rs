//! The clocks of the other hosts, compared with this host's by questions and answers: each host answers in the key that tells
//! of it. A question and its answer bound the difference from both sides, so no delay makes a life look longer.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Clocks that differ by more are told, milliseconds.
pub(crate) const SKEW: i64 = 5_000;

/// A host's card, in a key of its own. Times are Unix milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HostCard {
    /// Its name.
    pub(crate) host: String,
    /// The version of its wxtokend.
    pub(crate) version: String,
    /// The format that it writes.
    pub(crate) format: u32,
    /// True if it may call the platform.
    pub(crate) may_lead: bool,
    /// The name of the key that stands first in its file.
    #[serde(default)]
    pub(crate) key: String,
    /// The moment when it last asked the others for their time, on its own clock.
    pub(crate) asked: i64,
    /// By host: when it asked, and this host's time then.
    #[serde(default)]
    pub(crate) answers: BTreeMap<String, (i64, i64)>,
}

/// The time by which this host's clock is ahead of the others', by name.
#[derive(Debug, Default)]
pub(crate) struct HostClocks(BTreeMap<String, Ahead>);

/// The least and the most, in milliseconds, that a clock can be ahead of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ahead {
    least: i64,
    most: i64,
}

impl Ahead {
    const fn width(self) -> i64 {
        self.most - self.least
    }

    /// The better of two measures; the later one if a clock was set in between.
    fn or_better(self, later: Self) -> Self {
        let agree = self.least <= later.most && later.least <= self.most;
        if agree && self.width() < later.width() {
            self
        } else {
            later
        }
    }

    /// Nothing where the clocks may be equal; else never more than the truth, so that no life looks longer.
    const fn millis(self) -> i64 {
        if self.least <= 0 && self.most >= 0 {
            0
        } else {
            self.least
        }
    }

    /// True if they are too far apart, whatever the truth is.
    const fn is_skewed(self) -> bool {
        self.least > SKEW || self.most < -SKEW
    }
}

/// Milliseconds by which this host's clock is ahead of that of a host that is gone, by the clock of the engine, which both
/// have seen. Never lengthens a life: the members of the engine may differ among themselves.
pub(super) fn by_engine(theirs: Option<i64>, own: Option<i64>) -> i64 {
    let ahead = theirs.zip(own).map_or(0, |(theirs, own)| own - theirs);
    // It tells whole seconds.
    if ahead < -SKEW { ahead - 2_000 } else { 0 }
}

impl HostClocks {
    /// Reads another host's card. True if this host owes it an answer, which is then in `own`.
    pub(crate) fn read(&mut self, card: &HostCard, own: &mut HostCard, unix_millis: i64) -> bool {
        if let Some((asked, then)) = card.answers.get(&own.host)
            && *asked == own.asked
        {
            // It answered after it was asked, and before the answer came.
            let now = Ahead {
                least: asked - then,
                most: unix_millis - then,
            };
            let known = self.0.entry(card.host.clone()).or_insert(now);
            *known = known.or_better(now);
        }
        let answer = own.answers.get(&card.host);
        if answer.is_some_and(|(asked, _)| *asked == card.asked) {
            return false;
        }
        own.answers
            .insert(card.host.clone(), (card.asked, unix_millis));
        true
    }

    /// True if another host's clock was compared with this one's.
    pub(crate) fn knows(&self, host: &str) -> bool {
        self.0.contains_key(host)
    }

    /// The hosts whose clocks were compared with this one's.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// Milliseconds by which this host's clock is ahead of another's; zero while nothing is known of it.
    pub(crate) fn ahead_of(&self, host: &str) -> i64 {
        self.0.get(host).map_or(0, |ahead| ahead.millis())
    }

    /// The clock that differs most, if one does by too much.
    pub(crate) fn worst(&self) -> Option<(&str, i64)> {
        let skewed = self.0.iter().filter(|(_, ahead)| ahead.is_skewed());
        let (host, ahead) = skewed.max_by_key(|(_, ahead)| ahead.millis().abs())?;
        Some((host, ahead.millis()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(host: &str, asked: i64) -> HostCard {
        HostCard {
            host: host.to_owned(),
            version: String::new(),
            format: 1,
            may_lead: true,
            key: String::new(),
            asked,
            answers: BTreeMap::new(),
        }
    }

    #[test]
    fn two_hosts_learn_how_far_apart_their_clocks_are() {
        // The clock of b is 180 s behind; messages take 40 ms.
        let (mut a, mut b) = (card("a", 1_000_000), card("b", 820_000));
        let (mut of_a, mut of_b) = (HostClocks::default(), HostClocks::default());
        assert!(of_b.read(&a, &mut b, 820_040));
        assert!(of_a.read(&b, &mut a, 1_000_080));
        assert!(
            !of_b.read(&a, &mut b, 820_120),
            "each question is answered once"
        );
        assert!(!of_a.read(&b, &mut a, 1_000_160));
        // Never more than the truth: no life of the other's looks longer.
        assert_eq!(of_a.ahead_of("b"), 179_960);
        assert_eq!(of_b.ahead_of("a"), -180_080);
        assert_eq!(of_a.worst(), Some(("b", 179_960)));
        assert_eq!(of_a.ahead_of("c"), 0);
    }

    #[test]
    fn clock_of_a_host_that_is_gone_only_shortens_lives() {
        assert_eq!(by_engine(Some(300_000), Some(0)), -302_000);
        assert_eq!(by_engine(Some(-300_000), Some(0)), 0);
        assert_eq!(by_engine(Some(4_000), Some(0)), 0);
        assert_eq!((by_engine(None, Some(0)), by_engine(Some(9), None)), (0, 0));
    }

    #[test]
    fn answer_to_an_earlier_question_says_nothing() {
        let (mut a, mut b) = (card("a", 1_000_000), card("b", 0));
        let mut clocks = HostClocks::default();
        clocks.read(&a, &mut b, 900_000);
        a.asked = 2_000_000;
        clocks.read(&b, &mut a, 2_000_100);
        assert_eq!(clocks.ahead_of("b"), 0);
    }

    #[test]
    fn late_answer_makes_no_clock_look_wrong() {
        let (mut a, mut b) = (card("a", 1_000_000), card("b", 1_000_000));
        let mut clocks = HostClocks::default();
        clocks.read(&a, &mut b, 1_000_020);
        // The host was cut off for half a minute.
        clocks.read(&b, &mut a, 1_030_000);
        assert_eq!((clocks.ahead_of("b"), clocks.worst()), (0, None));
        let late = Ahead {
            least: -29_000,
            most: 10,
        };
        let good = Ahead {
            least: -20,
            most: 20,
        };
        assert_eq!((late.or_better(good), good.or_better(late)), (good, good));
        let set = Ahead {
            least: 60_000,
            most: 60_500,
        };
        assert_eq!(good.or_better(set), set, "a clock was set");
    }
}
