//! The promises that are checked after each event. A tolerance is a named constant with its reason.

use super::host::YearHost;
use super::platform::{DAY, MINUTE, PlatformKind, SECOND, YearPlatform, YearTrouble};
use std::collections::{HashMap, HashSet, VecDeque};
use wxtokend::account::Account;
use wxtokend::call::Call;
use wxtokend::schedule::{Schedule, Step};
use wxtokend::value::{Grant, Value, ValueName};

/// The platform's last second is a whole one, and our clock is read before the request is sent.
const ROUNDING: i64 = 2 * SECOND;
/// A set or halted clock is noticed within half a minute; a whole one is promised.
const NOTICED: i64 = MINUTE;
/// 企业微信 grants the same token until its end: the next one takes a call, or two where the platform rounds.
const WECOM_GAP: i64 = 4 * SECOND;
/// A dead token stands until an app reports it, it is asked about (twice if it is young) and replaced.
const DEAD: i64 = 180 * SECOND;
/// A used-up budget leaves one call each ten minutes.
const LAST_RESORT: i64 = 600 * SECOND;
/// Calls that heal: the question whether the token lives, which is asked again if it is young, and the fetch, which a
/// spurious 41002 may refuse once.
const HEALING_CALLS: i64 = 4;
/// Longest time that a call takes while all is well.
const CALL: i64 = SECOND;
/// Apps report a dead token again after at most this time. Nobody else doubts it.
const REPORTED_AGAIN: i64 = 100 * SECOND;
/// After a start or a pause the first token takes a look at the clocks, a call, and what may fail before it.
const SETTLED: i64 = MINUTE;
/// A platform that grants a dead token again is asked anew at long intervals only; the first try after that trouble works.
const STUCK: i64 = 11 * MINUTE;
/// A token with less left may be given up at a restart: its replacement is a call away.
const WORTH_KEEPING: i64 = 61 * SECOND;
/// Longest wait of somebody who doubts the token: two calls that end at their limit, a young token's wait, and the pace.
const VERDICT: i64 = 90 * SECOND;
/// Waits of a class may be as long as this after the trouble has ended.
const PATIENCE: [(i64, i64); 5] = [
    (-1, 70),
    (45009, 3700),
    (45011, 70),
    (89507, 3700),
    (0, 310),
];

/// The longest wait after some trouble has ended.
pub(crate) fn patience_after(was: YearTrouble) -> i64 {
    let errcode = match was {
        YearTrouble::All(errcode) | YearTrouble::Token(errcode) => errcode,
        _ => -1,
    };
    let patience = PATIENCE.iter().find(|(of, _)| *of == errcode);
    let (_, seconds) = patience.unwrap_or(&PATIENCE[4]);
    seconds * SECOND
}

/// The calls that are left of the day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum CallsLeft {
    Plenty,
    /// Questions are spread over the day.
    ForHealing,
    /// Healing is, too.
    ForNothing,
}

pub(crate) struct Promises {
    kind: PlatformKind,
    budget: u32,
    /// The moment since which somebody waits for a verdict.
    pub(crate) waiting: Option<i64>,
    called_dead: Option<Value>,
    dead_since: Option<i64>,
    gap_since: Option<i64>,
    /// From when on all has to be well.
    well_from: i64,
    stuck_until: i64,
    clock_moved: i64,
    left: CallsLeft,
    /// The moment since which enough are left again.
    plenty_since: i64,
    day: i64,
    calls_of_day: u32,
    last_call: i64,
    call_before: i64,
    /// The host cannot know how long ago the last call was, and whether that was so before this call.
    is_last_call_unknown: bool,
    was_last_call_unknown: bool,
    last_minute: VecDeque<i64>,
    /// The latest end that apps were told of a token while the clock was right.
    told: HashMap<String, i64>,
    /// Values that were granted while the clock was wrong, which nobody has noticed since.
    misdated: HashSet<String>,
    /// Those of them from before a boot. Their end is known in the time of a clock that was wrong: no program can tell it
    /// before the platform grants them again.
    undated: HashSet<String>,
    rewrites: u32,
    rotations: i64,
}

impl Promises {
    pub(crate) fn new(kind: PlatformKind, account: &Account, start: i64) -> Self {
        Self {
            kind,
            budget: account.daily_budget,
            waiting: None,
            called_dead: None,
            dead_since: None,
            gap_since: None,
            well_from: start + SETTLED,
            stuck_until: 0,
            clock_moved: 0,
            left: CallsLeft::Plenty,
            plenty_since: 0,
            day: 0,
            calls_of_day: 0,
            last_call: 0,
            call_before: 0,
            is_last_call_unknown: false,
            was_last_call_unknown: false,
            last_minute: VecDeque::new(),
            told: HashMap::new(),
            misdated: HashSet::new(),
            undated: HashSet::new(),
            rewrites: 0,
            rotations: 0,
        }
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.dead_since.is_some()
    }

    pub(crate) fn is_called_dead(&self, grant: Option<&Grant>) -> bool {
        grant.is_some_and(|grant| Some(&grant.value) == self.called_dead.as_ref())
    }

    pub(crate) fn on_called_dead(&mut self, token: Option<&Value>) {
        self.called_dead = token.cloned();
    }

    /// The platform says that the token lives. The end that is kept then is told in the time of the clock as it is now.
    pub(crate) fn on_alive(&mut self, host: &YearHost, token: Option<&Value>) {
        self.called_dead = None;
        if let Some(token) = token.filter(|_| host.clock_error != 0) {
            self.misdated.insert(token.expose().to_owned());
        }
    }

    pub(crate) fn on_granted(&mut self, changed: bool) {
        if changed {
            self.called_dead = None;
            self.rotations += 1;
        }
    }

    pub(crate) fn on_stuck(&mut self, until: i64) {
        self.stuck_until = until + STUCK;
    }

    pub(crate) fn on_clock(&mut self, at: i64) {
        self.clock_moved = at;
        self.told.clear();
    }

    /// The host stood still, and so did whoever waits.
    pub(crate) fn on_paused(&mut self, millis: i64) {
        self.waiting = self.waiting.map(|since| since + millis);
    }

    pub(crate) fn on_noticed(&mut self, host: &YearHost) {
        self.well_from = self.well_from.max(host.truth + SETTLED);
        if host.clock_error == 0 {
            self.misdated.clear();
        }
    }

    /// The platform granted a value, or the same one again.
    pub(crate) fn on_dated(&mut self, host: &YearHost, value: &Value) {
        let text = value.expose();
        self.undated.remove(text);
        if host.clock_error == 0 {
            self.misdated.remove(text);
        } else {
            self.misdated.insert(text.to_owned());
        }
    }

    pub(crate) fn on_reboot(&mut self) {
        self.undated.extend(self.misdated.drain());
    }

    pub(crate) fn on_healed(&mut self, at: i64, was: YearTrouble) {
        self.well_from = self.well_from.max(at + patience_after(was));
        if was == YearTrouble::Silent {
            // Nobody could know what the calls without an answer did.
            self.told.clear();
        }
    }

    pub(crate) fn on_call(&mut self, host: &YearHost, schedule: &Schedule, call: Call) {
        let (at, now) = (host.truth, host.now());
        self.last_minute.push_back(at);
        self.last_minute.retain(|earlier| earlier + MINUTE > at);
        assert!(self.last_minute.len() <= 90, "a storm of calls");
        // A day that a wrong clock began counts on until it is over in truth.
        if now.platform_day() > self.day || self.day > now.platform_day() + 1 {
            (self.day, self.calls_of_day) = (now.platform_day(), 0);
        }
        if self.calls_of_day >= self.budget {
            let since = at - self.last_call;
            // After a boot with a clock that is ahead ten minutes seem to be over too soon, once: no other clock tells.
            let is_due = since >= LAST_RESORT || self.is_last_call_unknown;
            assert!(is_due, "beyond the budget after {since} ms");
            let is_needed = call == Call::Verify || !schedule.stands(now.at) || self.is_dead();
            let is_needed = is_needed || self.called_dead.is_some();
            assert!(is_needed, "beyond the budget for {call:?}");
        }
        self.call_before = std::mem::replace(&mut self.last_call, at);
        self.was_last_call_unknown = std::mem::take(&mut self.is_last_call_unknown);
        self.calls_of_day += 1;
    }

    pub(crate) fn on_unsent(&mut self) {
        self.calls_of_day = self.calls_of_day.saturating_sub(1);
        self.last_call = self.call_before;
        self.is_last_call_unknown = self.was_last_call_unknown;
    }

    pub(crate) fn on_restart(
        &mut self,
        host: &YearHost,
        platform: &YearPlatform,
        schedule: &Schedule,
        before: Option<Grant>,
    ) {
        let now = host.now();
        self.waiting = None;
        self.well_from = self.well_from.max(host.truth + SETTLED);
        self.is_last_call_unknown |= host.overrates_downtime();
        let standing = schedule.standing(now.at);
        assert!(
            !self.is_called_dead(standing.as_ref()),
            "a dead token is handed out again after a restart"
        );
        let (true, Some(before)) = (self.is_clock_right(host), before) else {
            return;
        };
        let token = platform.token(before.value.expose());
        let lives = before.expires_unix - host.truth > WORTH_KEEPING
            && token.is_some_and(|token| token.is_alive(host.truth));
        if lives && self.called_dead.is_none() && platform.trouble == YearTrouble::None {
            assert_eq!(
                standing.map(|grant| grant.value),
                Some(before.value),
                "lost"
            );
        }
    }

    fn is_clock_right(&self, host: &YearHost) -> bool {
        host.clock_error == 0 && host.truth > self.clock_moved + NOTICED
    }

    /// Everything that has to be true at any time.
    pub(crate) fn check(&mut self, host: &YearHost, platform: &YearPlatform, schedule: &Schedule) {
        let (now, at) = (host.now(), host.truth);
        if let Step::Sleep(until) = schedule.next(&now) {
            assert!(
                host.truth_of(until) < at + DAY + MINUTE,
                "it sleeps for ever"
            );
        }
        let waits = self.waiting.map_or(0, |since| at - since);
        assert!(waits < VERDICT, "somebody is kept waiting");
        self.check_ends(host, platform, schedule);
        self.check_health(host, platform, schedule);
    }

    /// Nothing is handed out past its true end, and apps are told no later one.
    fn check_ends(&mut self, host: &YearHost, platform: &YearPlatform, schedule: &Schedule) {
        if !self.is_clock_right(host) {
            return;
        }
        let (now, at) = (host.now(), host.truth);
        for (name, grant) in &schedule.grants() {
            let text = grant.value.expose();
            let is_token = *name == ValueName::AccessToken;
            let minted = if is_token {
                platform.token(text)
            } else {
                platform.ticket(text)
            };
            let is_dated = grant.is_valid(now.at) && !self.undated.contains(text);
            let Some(minted) = minted.filter(|_| is_dated) else {
                continue;
            };
            assert!(
                at <= minted.ends + ROUNDING,
                "{name} is handed out past its end"
            );
            assert!(
                grant.expires_unix <= minted.ends + ROUNDING,
                "apps are told a later end of {name} than the platform's"
            );
            // One that is dead already was ended while the platform was silent, or by somebody else.
            if is_token && minted.is_alive(at) {
                let told = self.told.entry(text.to_owned()).or_insert(0);
                if grant.expires_unix != *told {
                    self.rewrites += 1;
                }
                *told = grant.expires_unix;
            }
        }
        let near = at - DAY;
        self.told.retain(|_, told| *told > near);
        self.check_caches(platform);
    }

    /// An app that keeps a token until the end that it was told never holds one that the daemon itself ended.
    fn check_caches(&self, platform: &YearPlatform) {
        if platform.trouble == YearTrouble::Silent {
            return;
        }
        for (text, told) in &self.told {
            let Some(token) = platform.token(text).filter(|token| !token.is_killed) else {
                continue;
            };
            assert!(
                *told <= token.dies + ROUNDING,
                "an app that caches holds a dead token for {} ms",
                told - token.dies
            );
        }
    }

    /// A living token stands if nothing has been wrong for a while.
    fn check_health(&mut self, host: &YearHost, platform: &YearPlatform, schedule: &Schedule) {
        let (now, at) = (host.now(), host.truth);
        let standing = schedule.standing(now.at);
        let token = standing.and_then(|grant| platform.token(grant.value.expose()));
        let is_dead = token.is_some_and(|token| !token.is_alive(at));
        self.dead_since = is_dead.then(|| self.dead_since.unwrap_or(at));
        self.count_what_is_left(host);
        let well = platform.trouble == YearTrouble::None
            && at > self.well_from
            && at > self.stuck_until
            && self.is_clock_right(host);
        if !well {
            self.gap_since = None;
            self.dead_since = self.dead_since.map(|_| at);
            return;
        }
        // While few calls are left, each comes when the last resort allows it.
        let since_call = |since: i64| at - since.max(self.last_call);
        self.gap_since = token.is_none().then(|| self.gap_since.unwrap_or(at));
        if let Some(since) = self.gap_since {
            let gap = at - since;
            let tolerable = match self.kind {
                PlatformKind::Wecom => WECOM_GAP,
                _ if self.called_dead.is_some() => DEAD,
                _ if since == self.plenty_since => 2 * CALL,
                _ => SECOND,
            };
            if self.left == CallsLeft::ForNothing {
                let waits = since_call(since);
                assert!(waits <= LAST_RESORT + CALL, "nothing heals for {waits} ms");
                assert!(
                    gap <= HEALING_CALLS * (LAST_RESORT + CALL),
                    "no token stands for {gap} ms, though some calls are left"
                );
            } else {
                assert!(gap <= tolerable, "no token stands for {gap} ms");
            }
        }
        if let Some(since) = self.dead_since {
            let dead = at - since;
            if self.left >= CallsLeft::ForHealing {
                let waits = since_call(since);
                assert!(
                    waits <= LAST_RESORT + REPORTED_AGAIN,
                    "nobody asks for {waits} ms about a dead token"
                );
                assert!(
                    dead <= HEALING_CALLS * (LAST_RESORT + REPORTED_AGAIN),
                    "a dead token stands for {dead} ms, though some calls are left"
                );
            } else {
                assert!(dead <= DEAD, "a dead token stands for {dead} ms");
            }
        }
    }

    /// Healing keeps the pace of the trouble while a tenth of the day's calls is left, and questions while half of them is.
    /// When there are enough again, at midnight, what waited for them begins anew.
    fn count_what_is_left(&mut self, host: &YearHost) {
        let is_new_day = host.now().platform_day() > self.day;
        let calls = if is_new_day { 0 } else { self.calls_of_day };
        let left = if calls * 10 >= self.budget * 9 {
            CallsLeft::ForNothing
        } else if calls * 2 >= self.budget {
            CallsLeft::ForHealing
        } else {
            CallsLeft::Plenty
        };
        if left < self.left {
            self.plenty_since = host.truth;
            self.gap_since = self.gap_since.map(|_| host.truth);
            self.dead_since = self.dead_since.map(|_| host.truth);
        }
        self.left = left;
    }

    /// At the end: that the year was a year, and that files were not rewritten all the time.
    pub(crate) fn report(&self, days: i64) {
        let rotations = self.rotations / days;
        assert!((10..45).contains(&rotations), "{rotations} tokens a day");
        let rewrites = i64::from(self.rewrites) / days;
        assert!(rewrites < 400, "{rewrites} rewrites a day");
    }
}
