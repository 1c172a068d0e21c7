//! The promises that are checked after each event.

use super::host::Host;
use super::script::{DAY, MINUTE, SECOND, Scope, Trouble};
use std::collections::VecDeque;
use wxtokend::account::Account;
use wxtokend::call::Call;
use wxtokend::platform::wechat::{CLASSIC, STABLE};
use wxtokend::platform::wecom::GETTOKEN;
use wxtokend::schedule::{Schedule, Step};
use wxtokend::sim::{Truth, World};
use wxtokend::snapshot::State;
use wxtokend::trouble::Class;
use wxtokend::value::{Value, ValueName};

/// How long a token lives.
const LIFE: i64 = 7200 * SECOND;
/// What a used-up budget, or half of one, adds to the time that it takes until all is well.
const SPARING: i64 = 650 * SECOND;

/// What was seen so far. All times are true Unix milliseconds.
#[derive(Default)]
pub(crate) struct Watch {
    /// Which calls are in trouble.
    pub(crate) trouble: Option<Scope>,
    /// Until when the platform hands out a dead token.
    stuck_until: i64,
    /// Since when somebody waits for a verdict.
    pub(crate) waiting: Option<i64>,
    /// The token that the platform called dead.
    pub(crate) called_dead: Option<Value>,
    pub(crate) rotations: u32,
    /// From when on a token has to stand, and all has to be well.
    token_by: i64,
    all_by: i64,
    tickets_look_new: bool,
    /// Values whose life is not known, because the clock was wrong when they were restored.
    doubtful: Vec<Value>,
    dead_since: Option<i64>,
    spared_at: i64,
    gap_since: Option<i64>,
    was_spent: bool,
    last_minute: VecDeque<i64>,
    last_day_forced: VecDeque<i64>,
    day: i64,
    calls_of_day: u32,
    last_call: Option<i64>,
    call_before: Option<i64>,
    calls: i64,
    looked: i64,
    healthy: i64,
}

impl Watch {
    pub(crate) fn new(start: i64, tickets_look_new: bool) -> Self {
        Self {
            token_by: start + MINUTE,
            all_by: start + MINUTE,
            tickets_look_new,
            ..Self::default()
        }
    }

    /// Whether the token that stands is dead.
    pub(crate) fn is_dead(&self) -> bool {
        self.dead_since.is_some()
    }

    /// The daemon runs again.
    pub(crate) fn woke(&mut self, at: i64, account: &Account) {
        // A call that was under way, and 企业微信's token, which stays the same to its end.
        let method = if account.terms == GETTOKEN { 2 } else { 1 };
        self.well_after(at + method * MINUTE);
        self.waiting = self.waiting.map(|_| at);
        (self.dead_since, self.gap_since) = (None, None);
    }

    pub(crate) fn rebooted(&mut self) {
        self.last_call = None;
    }

    /// From now on the platform hands out a dead token, to the end of its life; then it is asked again in five minutes.
    pub(crate) fn stuck(&mut self, at: i64, account: &Account) {
        if account.terms != CLASSIC {
            self.stuck_until = at + LIFE + 330 * SECOND;
        }
    }

    pub(crate) fn wrong_clock(&mut self, at: i64, schedule: &Schedule, until: i64) {
        let values = schedule.grants().into_vec();
        self.doubtful = values.into_iter().map(|(_, grant)| grant.value).collect();
        self.well_after(until + MINUTE);
        // A ticket may be thought to end before its time, and is asked for then.
        self.all_by = self.all_by.max(at + LIFE + MINUTE);
        let error = schedule.last_error();
        if error.is_some_and(|error| matches!(error.class, Class::TimedBlock(_))) {
            // So may a block, or after it.
            self.well_after(at + DAY + MINUTE);
        }
    }

    pub(crate) fn healed(&mut self, at: i64, trouble: &Trouble) {
        let sparing = at - self.spared_at < SPARING;
        let patience = if sparing {
            trouble.patience.max(SPARING)
        } else {
            trouble.patience
        };
        if trouble.scope != Scope::Tickets {
            self.token_by = self.token_by.max(at + patience);
        }
        // Tickets take their time: up to five minutes.
        self.all_by = self
            .all_by
            .max(at + patience.max(300 * SECOND) + 30 * SECOND);
        self.trouble = None;
    }

    fn well_after(&mut self, at: i64) {
        self.token_by = self.token_by.max(at);
        self.all_by = self.all_by.max(at + MINUTE);
    }

    /// A call is about to be made.
    pub(crate) fn calls(&mut self, host: &Host, schedule: &Schedule, call: Call) {
        let (now, at, account) = (host.now(), host.truth, schedule.account());
        self.calls += 1;
        self.last_minute.push_back(at);
        self.last_minute.retain(|earlier| earlier + MINUTE > at);
        assert!(self.last_minute.len() <= 90, "a storm of calls");
        if self.day != now.platform_day() {
            (self.day, self.calls_of_day) = (now.platform_day(), 0);
        }
        if self.calls_of_day >= account.daily_budget {
            let stands = schedule.standing(now.at).is_some();
            assert!(!stands, "beyond the budget although a token stands");
            assert!(call.is_token(), "beyond the budget for {call:?}");
            let since = self.last_call.map_or(i64::MAX, |last| at - last);
            assert!(since >= 600 * SECOND, "beyond the budget after {since} ms");
        }
        self.call_before = self.last_call.replace(at);
        self.calls_of_day += 1;
        if call == Call::ForceToken {
            assert_eq!(account.terms, STABLE);
            self.last_day_forced.retain(|earlier| earlier + DAY > at);
            let since = self.last_day_forced.back().map_or(DAY, |last| at - last);
            assert!(since >= 30 * SECOND, "forced again after {since} ms");
            self.last_day_forced.push_back(at);
            // Ten in a day of the platform's: those of two may meet.
            assert!(self.last_day_forced.len() <= 20, "forced too often");
        }
    }

    /// The call that was about to be made never reached the platform.
    pub(crate) fn never_reached(&mut self) {
        self.calls -= 1;
        self.calls_of_day = self.calls_of_day.saturating_sub(1);
        self.last_call = self.call_before;
    }

    /// Everything that has to be true at any time.
    pub(crate) fn check(&mut self, host: &Host, world: &World, schedule: &Schedule) {
        let (now, at) = (host.now(), host.truth);
        if let Step::Sleep(until) = schedule.next(&now) {
            assert!(until > now.at, "it sleeps into the past");
            let wakes = host.truth_of(until);
            assert!(wakes < at + DAY + MINUTE, "it sleeps for ever");
        }
        let waits = self.waiting.map_or(0, |since| at - since);
        assert!(waits < 90 * SECOND, "somebody is kept waiting");
        self.check_expiry(host, world, schedule);
        self.check_health(host, world, schedule);
        self.looked = at;
    }

    /// Nothing is handed out past its true end.
    fn check_expiry(&self, host: &Host, world: &World, schedule: &Schedule) {
        let now = host.now();
        for (name, grant) in &schedule.grants() {
            if !grant.is_valid(now.at) || self.doubtful.contains(&grant.value) {
                continue;
            }
            let truth = world.probe(host.truth, grant.value.expose());
            let over = truth.ended_ms_ago.unwrap_or(0);
            // The platform's last second is a whole one. And a ticket whose answer was lost may be older than it looks.
            let looks_new = *name != ValueName::AccessToken && self.tickets_look_new;
            let slack = if looks_new { 1800 * SECOND } else { SECOND };
            assert!(
                over <= slack || ended_early(&truth),
                "{name} is handed out {over} ms after its end"
            );
        }
    }

    /// When nothing has been wrong for a while, a living token stands and everything is fresh.
    fn check_health(&mut self, host: &Host, world: &World, schedule: &Schedule) {
        let (now, at, account) = (host.now(), host.truth, schedule.account());
        let standing = schedule.standing(now.at);
        let alive = standing.map(|grant| world.probe(at, grant.value.expose()).alive);
        self.dead_since = (alive == Some(false)).then(|| self.dead_since.unwrap_or(at));
        let sparing = schedule.calls() >= (account.daily_budget / 2, now.platform_day());
        if sparing {
            self.spared_at = at;
        }
        let spent = schedule.is_spent(&now);
        if spent || self.was_spent {
            self.well_after(at + SPARING);
        }
        self.was_spent = spent;
        if self.dead_since.is_some() || at < self.stuck_until {
            // Tickets may have been refused for it.
            let again = if sparing { SPARING } else { 90 * SECOND };
            self.all_by = self.all_by.max(at + again);
        }
        let hindered = matches!(self.trouble, Some(Scope::All | Scope::Token));
        let well = !hindered && at >= self.token_by && at >= self.stuck_until;
        if !well {
            (self.dead_since, self.gap_since) = (self.dead_since.map(|_| at), None);
            return;
        }
        self.gap_since = alive.is_none().then(|| self.gap_since.unwrap_or(at));
        let gap = self.gap_since.map_or(0, |since| at - since);
        // 企业微信 may hand out a token until it ends: the next one is asked for each second.
        let tolerable = if account.terms == GETTOKEN {
            3 * SECOND
        } else {
            0
        };
        assert!(
            self.gap_since.is_none() || gap < tolerable,
            "no token stands, {gap} ms so far; {:?}",
            schedule.last_error()
        );
        let dead = self.dead_since.map_or(0, |since| at - since);
        // The day may have ended just now, and the sparing with it.
        let spared = at < self.spared_at + 90 * SECOND;
        let limit = if spared { 900 } else { 240 };
        assert!(dead <= limit * SECOND, "a dead token stands for {dead} ms");
        if self.trouble.is_none() && at >= self.all_by && alive == Some(true) {
            let (state, error) = (schedule.state(now.at), schedule.last_error());
            assert_eq!(
                state,
                State::Fresh,
                "all should be well: {error:?} {now:?} {schedule:?}"
            );
            self.healthy += at - self.looked;
        }
    }

    /// At the end: that the year was a year, and not all of it was trouble.
    pub(crate) fn report(&self, account: &Account, millis: i64) {
        let days = millis / DAY;
        let rotations = i64::from(self.rotations) / days;
        assert!((10..40).contains(&rotations), "{rotations} tokens a day");
        let calls = self.calls / days;
        let most = i64::from(account.daily_budget) / 3;
        assert!(
            calls < most.max(100),
            "{calls} calls a day of {}",
            account.daily_budget
        );
        let healthy = self.healthy / DAY;
        let least = if account.daily_budget > 100 {
            days / 2
        } else {
            days / 20
        };
        assert!(healthy > least, "all well on {healthy} days only");
    }
}

/// Whether a value ended before its time.
fn ended_early(truth: &Truth) -> bool {
    let life = truth.age_ms.zip(truth.ended_ms_ago);
    life.is_some_and(|(age, ended)| age - ended < LIFE)
}
