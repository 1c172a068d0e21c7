//! The promises of a fleet, checked before and after each event. A tolerance is a named constant with its reason.

use super::engine::YearEngine;
use super::fleet::FleetMachine;
use super::platform::{DAY, HOUR, LIFE, MINUTE, PlatformKind, SECOND, YearPlatform, YearTrouble};
use super::promises::patience_after;
use std::time::Duration;
use wxtokend::account::Account;
use wxtokend::call::Call;
use wxtokend::schedule::Outcome;
use wxtokend::value::ValueName;

/// The platform's last second is a whole one, and a clock is read before the request is sent.
const ROUNDING: i64 = 2 * SECOND;
/// 企业微信 grants the same token until its end: the next one takes a write and a call, or two where the platform rounds.
const WECOM_GAP: i64 = 5 * SECOND;
/// A dead token stands until an app reports it, it is asked about (twice if it is young) and replaced; the leader may change
/// meanwhile.
const DEAD: i64 = 200 * SECOND;
/// A token that somebody else ended is found and replaced within this time.
const HEALED: i64 = 10 * MINUTE;
/// A host that learns late of a lost call hands the token out until it has asked about it.
const LOOKED: i64 = MINUTE + ROUNDING;
/// Longest time without a leader.
const TAKEOVER: i64 = 10 * SECOND;
/// A host that has nothing is served so long after it reaches engine and platform: it joins, another one leads, and what failed
/// before is tried again.
const SETTLED: i64 = 90 * SECOND;
/// A token with less left may be polled often.
const NEAR_END: Duration = Duration::from_secs(600);
/// A used-up budget leaves one call each ten minutes.
const LAST_RESORT: i64 = 600 * SECOND;
/// The hosts meet, a leader is found, and the first token is fetched.
const STARTED: i64 = MINUTE;
/// Calls that heal: the question whether the token lives, a fetch that is refused, and the fetch.
const HEALING_CALLS: i64 = 3;
/// Time for which the last resort may still wait once calls are left again.
const SCARCE_AFTER: i64 = MINUTE;
/// The platform's zone.
const UTC_8: i64 = 8 * HOUR;

pub(crate) struct Pact {
    kind: PlatformKind,
    budget: u32,
    well_from: i64,
    last_fault: i64,
    killed: i64,
    silent_until: i64,
    /// The last moment at which few calls were left.
    scarce: i64,
    leaderless: Option<i64>,
    dead: [Option<i64>; 3],
    gap: [Option<i64>; 3],
    /// Calls for a token and questions whether one lives since the engine lost its data.
    since_loss: Option<(i64, u32)>,
    losses: u32,
    day: i64,
    calls_of_day: u32,
    last_call: i64,
    rotations: u32,
}

impl Pact {
    pub(crate) fn new(kind: PlatformKind, account: &Account, start: i64) -> Self {
        Self {
            kind,
            budget: account.daily_budget,
            well_from: start + STARTED,
            last_fault: start,
            killed: 0,
            silent_until: 0,
            scarce: 0,
            leaderless: None,
            dead: [None; 3],
            gap: [None; 3],
            since_loss: None,
            losses: 0,
            day: 0,
            calls_of_day: 0,
            last_call: 0,
            rotations: 0,
        }
    }

    pub(crate) fn on_fault(&mut self, at: i64) {
        self.last_fault = at;
        self.since_loss = None;
    }

    /// Somebody else has ended the token.
    pub(crate) fn on_killed(&mut self, at: i64) {
        self.killed = at;
    }

    pub(crate) fn on_healed(&mut self, at: i64, was: YearTrouble) {
        if was == YearTrouble::Silent {
            self.silent_until = at;
        }
        self.well_from = self.well_from.max(at + patience_after(was));
    }

    /// The engine has lost its data. If all is well otherwise, the calls of the next minute are counted.
    pub(crate) fn on_data_loss(
        &mut self,
        at: i64,
        machines: &[FleetMachine],
        platform: &YearPlatform,
    ) {
        let is_settled = |machine: &FleetMachine| {
            let connected = machine.connected.is_some_and(|since| since + SETTLED < at);
            let now = machine.host.now().at;
            let member = machine.member.as_ref();
            let grant = member.and_then(|member| member.schedule.standing(now));
            connected && grant.is_some_and(|grant| now + NEAR_END < grant.expires)
        };
        let is_calm = platform.trouble == YearTrouble::None
            && at > self.well_from
            && machines.iter().all(is_settled);
        self.since_loss = is_calm.then_some((at, 0));
    }

    pub(crate) fn on_data_loss_over(&mut self) {
        if let Some((_, calls)) = self.since_loss.take() {
            self.losses += 1;
            assert!(calls <= 1, "{calls} calls for a loss of data");
        }
    }

    pub(crate) fn on_call(&mut self, at: i64, call: Call) {
        let day = (at + UTC_8).div_euclid(DAY);
        if day != self.day {
            (self.day, self.calls_of_day) = (day, 0);
        }
        self.calls_of_day += 1;
        let is_last_resort = at - self.last_call + SECOND >= LAST_RESORT;
        self.last_call = at;
        assert!(
            self.calls_of_day <= self.budget || is_last_resort,
            "{} calls a day",
            self.calls_of_day
        );
        // One that was under way does not count.
        if let Some((lost, calls)) = &mut self.since_loss
            && at > *lost + SECOND
        {
            *calls += u32::from(!matches!(call, Call::Ticket(_)));
        }
    }

    pub(crate) fn on_outcome(&mut self, outcome: Option<&Outcome>) {
        let is_new = matches!(
            outcome,
            Some(Outcome::Granted {
                name: ValueName::AccessToken,
                changed: true,
                ..
            })
        );
        self.rotations += u32::from(is_new);
        if is_new {
            // It was due anyway.
            self.since_loss = None;
        }
    }

    /// Everything that has to be true at any time.
    pub(crate) fn check(
        &mut self,
        at: i64,
        machines: &[FleetMachine],
        engine: &YearEngine,
        platform: &YearPlatform,
    ) {
        self.check_leader(at, machines, engine);
        if self.calls_of_day * 2 >= self.budget {
            self.scarce = at;
        }
        let scarce = if at < self.scarce + SCARCE_AFTER {
            HEALING_CALLS * LAST_RESORT + SCARCE_AFTER
        } else {
            0
        };
        let serves = |machine: &&FleetMachine| {
            let since = machine.connected.max(machine.is_served_since);
            machine.connected.is_some()
                && machine.is_served_since.is_some()
                && since.is_some_and(|since| since + SETTLED < at)
        };
        // A host that reaches both has led for long enough to heal what there is.
        let is_healed = platform.trouble == YearTrouble::None
            && at > self.well_from
            && machines.iter().any(|machine| serves(&machine));
        for (number, machine) in machines.iter().enumerate() {
            let Some(member) = machine.member.as_ref().filter(|_| !machine.is_frozen) else {
                (self.dead[number], self.gap[number]) = (None, None);
                continue;
            };
            let standing = member.schedule.standing(machine.host.now().at);
            let token = standing
                .as_ref()
                .and_then(|grant| platform.token(grant.value.expose()));
            if let (Some(grant), Some(token)) = (&standing, token) {
                assert!(
                    grant.expires_unix <= token.ends + ROUNDING,
                    "apps of host {number} are told a later end than the platform's"
                );
                // Nobody in the fleet ends a token before the end that apps were told. Of calls to a silent platform nobody could
                // know anything.
                let is_beyond_knowing = !token.is_alive(at)
                    || token.is_killed
                    || platform.trouble == YearTrouble::Silent
                    || token.ends - LIFE < self.silent_until;
                assert!(
                    is_beyond_knowing
                        || grant.expires_unix <= (token.dies + ROUNDING).max(at + LOOKED),
                    "apps of host {number} hold {} for {} ms after its death",
                    token.text,
                    grant.expires_unix - token.dies
                );
            }
            let connected = machine.connected.is_some_and(|since| since + SETTLED < at);
            let is_well = is_healed && connected;
            let is_dead = token.is_some_and(|token| !token.is_alive(at));
            self.dead[number] = (is_dead && is_well).then(|| self.dead[number].unwrap_or(at));
            let dead = self.dead[number].map_or(0, |since| at - since);
            assert!(
                dead <= DEAD + scarce,
                "host {number} hands out a dead token for {dead} ms"
            );
            let is_missing = standing.is_none() && is_well;
            self.gap[number] = is_missing.then(|| self.gap[number].unwrap_or(at));
            let gap = self.gap[number].map_or(0, |since| at - since);
            // A new one comes only when the old one has ended, which may be when another host has to lead first.
            let tolerable = match self.kind {
                _ if at < self.killed + HEALED => DEAD,
                PlatformKind::Wecom if at < self.last_fault + 2 * TAKEOVER => WECOM_GAP + TAKEOVER,
                PlatformKind::Wecom => WECOM_GAP,
                _ => SECOND,
            };
            assert!(
                gap <= tolerable + scarce,
                "host {number} has no token for {gap} ms"
            );
        }
    }

    fn check_leader(&mut self, at: i64, machines: &[FleetMachine], engine: &YearEngine) {
        let leads = |machine: &FleetMachine| {
            let member = machine
                .member
                .as_ref()
                .filter(|_| machine.connected.is_some());
            member.is_some_and(|member| {
                let leader = engine.keys.leader.map(|leader| leader.term);
                leader.is_some() && member.leads(at) == leader
            })
        };
        if machines.iter().any(leads) {
            self.leaderless = None;
            return;
        }
        let since = *self.leaderless.get_or_insert(at);
        let first = machines
            .iter()
            .filter_map(|machine| machine.connected)
            .min();
        if let Some(first) = first {
            let without = at - since.max(first);
            assert!(without <= TAKEOVER, "no leader for {without} ms");
        }
    }

    /// At the end: that everything was seen, and what it cost.
    pub(crate) fn report(&self, days: i64) {
        let days = u32::try_from(days).expect("it is small");
        let rotations = self.rotations / days;
        assert!((10..45).contains(&rotations), "{rotations} tokens a day");
        assert!(self.losses > 0, "no loss of the engine's data was counted");
    }
}
