//! A year of one account: the policy, a host, the platform and apps, with everything going wrong at random times.

use super::host::YearHost;
use super::platform::{
    DAY, HOUR, MINUTE, PlatformKind, SECOND, YearPlatform, YearReply, YearTrouble,
};
use super::promises::Promises;
use fastrand::Rng;
use std::collections::VecDeque;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;
use wxtokend::account::Account;
use wxtokend::call::Call;
use wxtokend::ledger::TicketLedger;
use wxtokend::schedule::{Outcome, Schedule, Step};
use wxtokend::snapshot::Verdict;
use wxtokend::time::Moment;
use wxtokend::value::ValueName;

/// 2026-03-02 12:00:10 in UTC+8.
pub(crate) const START: i64 = 1_772_424_010_000;
/// Longest time that a set or halted clock goes unnoticed (the daemon looks every half minute).
const UNNOTICED: i64 = 30 * SECOND;
/// Time that an app takes to report a dead token.
const REPORTED: i64 = 60 * SECOND;

/// Something that happens by itself, and how often.
#[derive(Debug, Clone, Copy, PartialEq)]
enum YearEvent {
    Trouble,
    Healed,
    Spurious,
    Kill,
    Stuck,
    Restart,
    Reboot,
    ClockSet,
    ClockRight,
    Paused,
    Noticed,
    Nuisance,
    Reports,
}

const RANDOM: [(YearEvent, i64); 9] = [
    (YearEvent::Trouble, 16 * HOUR),
    (YearEvent::Spurious, DAY),
    (YearEvent::Kill, 2 * DAY),
    (YearEvent::Stuck, 9 * DAY),
    (YearEvent::Restart, 2 * DAY),
    (YearEvent::Reboot, 7 * DAY),
    (YearEvent::ClockSet, 15 * DAY),
    (YearEvent::Paused, 8 * DAY),
    (YearEvent::Nuisance, 5 * HOUR),
];

struct YearFlight {
    call: Call,
    sent: Moment,
    ends: i64,
    reply: YearReply,
}

/// An account, its platform, its host, and what becomes of them.
pub(crate) struct Life {
    host: YearHost,
    platform: YearPlatform,
    schedule: Schedule,
    account: Arc<Account>,
    ledger: Option<Arc<TicketLedger>>,
    flight: Option<YearFlight>,
    events: Vec<(i64, YearEvent)>,
    promises: Promises,
    /// The host was paused, and its clock was set back, since the daemon last looked.
    is_paused: bool,
    is_set_back: bool,
    trail: Trail,
    rng: Rng,
}

impl Life {
    pub(crate) fn new(seed: u64, kind: PlatformKind, account: Account) -> Self {
        let (account, mut rng) = (Arc::new(account), Rng::with_seed(seed));
        let host = YearHost::new(START);
        let schedule = Schedule::new(account.clone(), &host.now(), rng.fork());
        let mut life = Self {
            platform: YearPlatform::new(kind),
            promises: Promises::new(kind, &account, START),
            host,
            schedule,
            account,
            ledger: None,
            flight: None,
            events: Vec::new(),
            is_paused: false,
            is_set_back: false,
            trail: Trail::of(seed),
            rng,
        };
        for (event, _) in RANDOM {
            life.again(event);
        }
        life
    }

    /// Shares the limit on calls for tickets with other apps of a corp.
    pub(crate) fn share(&mut self, ledger: Arc<TicketLedger>) {
        self.schedule.share(Some(ledger.clone()));
        self.ledger = Some(ledger);
    }

    /// Runs until the account has lived for so long, without end of trouble.
    pub(crate) fn live(&mut self, time: Duration) {
        let end = START + i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        while self.host.truth < end {
            self.step();
        }
        self.promises.report((end - START) / DAY);
    }

    /// Ends all trouble, so that everything that follows is healthy; for corps, where only the load counts.
    pub(crate) fn calm(&mut self) {
        self.events.clear();
    }

    pub(crate) fn truth(&self) -> i64 {
        self.host.truth - START
    }

    pub(crate) fn busiest_hour(&self) -> usize {
        self.platform.busiest_hour
    }

    pub(crate) fn step(&mut self) {
        let now = self.host.now();
        self.schedule.tell(&now);
        let next = self.schedule.next(&now);
        let wake = match (&self.flight, next) {
            (Some(flight), _) => flight.ends,
            (None, Step::Sleep(until)) => {
                assert!(until > now.at, "it sleeps into the past");
                self.host.truth_of(until)
            }
            (None, Step::Call(call)) => return self.send(call),
        };
        let change = self.schedule.next_change(now.at);
        let wake = change.map_or(wake, |change| wake.min(self.host.truth_of(change)));
        let first = self.events.iter().map(|(at, _)| *at).min();
        if let Some(at) = first.filter(|at| *at <= wake) {
            self.host.truth = self.host.truth.max(at);
            let event = self.events.iter().position(|(of, _)| *of == at);
            let (_, event) = self.events.swap_remove(event.expect("it was found"));
            self.trail.tell(self.host.truth, event);
            self.happen(event);
        } else {
            self.host.truth = self.host.truth.max(wake);
            if self
                .flight
                .as_ref()
                .is_some_and(|flight| flight.ends <= wake)
            {
                self.arrive();
            }
        }
        self.schedule.tell(&self.host.now());
        self.promises
            .check(&self.host, &self.platform, &self.schedule);
        let reports = self
            .events
            .iter()
            .any(|(_, event)| *event == YearEvent::Reports);
        if self.promises.is_dead() && !reports {
            let at = self.host.truth + self.rng.i64(SECOND..REPORTED);
            self.events.push((at, YearEvent::Reports));
        }
    }

    /// Sets the clock of the day, unless that would hide a pause that the daemon has not noticed yet: a pause of an hour and a
    /// clock that is set back by an hour look like nothing, and no program can tell. Returns false if so.
    fn set_clock(&mut self, error: i64) -> bool {
        let is_back = error < self.host.clock_error;
        if is_back && self.is_paused {
            return false;
        }
        self.is_set_back |= is_back;
        self.host.clock_error = error;
        self.promises.on_clock(self.host.truth);
        self.after(0, UNNOTICED, YearEvent::Noticed);
        true
    }

    fn send(&mut self, call: Call) {
        let now = self.host.now();
        self.promises.on_call(&self.host, &self.schedule, call);
        self.schedule.on_sent(&now, call);
        self.host.save(self.schedule.record());
        let token = self.schedule.token().map(|token| token.expose().to_owned());
        let took = self.rng.i64(30..800);
        let reply = self
            .platform
            .call(self.host.truth, call, token.as_deref(), took);
        self.flight = Some(YearFlight {
            call,
            sent: now.at,
            ends: self.host.truth + reply.took,
            reply,
        });
    }

    fn arrive(&mut self) {
        let Some(YearFlight {
            call, sent, reply, ..
        }) = self.flight.take()
        else {
            return;
        };
        let now = self.host.now();
        if !reply.has_reached {
            self.schedule.on_unsent();
            self.promises.on_unsent();
        }
        let is_dead = reply
            .answer
            .as_ref()
            .is_err_and(|r| r.errcode == Some(40001));
        let failed = reply.answer.is_err() && !is_dead;
        let before = self.schedule.standing(now.at);
        let (outcome, verdict) = self.schedule.on_answer(&now, sent, call, reply.answer);
        self.trail.tell(self.host.truth, (call, &outcome, &verdict));
        self.host.save(self.schedule.record());
        let after = self.schedule.standing(now.at);
        if failed && !self.promises.is_called_dead(before.as_ref()) {
            let value = |grant: &Option<wxtokend::value::Grant>| grant.clone().map(|g| g.value);
            let is_kept = before.is_none() || value(&before) == value(&after);
            assert!(is_kept, "a failure ended a valid token: {outcome:?}");
        }
        if let Outcome::Granted { name, .. } = &outcome {
            let grants = self.schedule.grants();
            if let Some((_, grant)) = grants.iter().find(|(of, _)| of == name) {
                self.promises.on_dated(&self.host, &grant.value);
            }
        }
        match outcome {
            Outcome::FoundDead { .. } => {
                let token = self.schedule.token().cloned();
                self.promises.on_called_dead(token.as_ref());
            }
            Outcome::Granted {
                name: ValueName::AccessToken,
                changed,
                ..
            } => self.promises.on_granted(changed),
            Outcome::Alive => self.promises.on_alive(&self.host, self.schedule.token()),
            _ => {}
        }
        if verdict.is_some() {
            self.promises.waiting = None;
        }
    }

    fn again(&mut self, event: YearEvent) {
        if let Some((_, every)) = RANDOM.iter().find(|(of, _)| *of == event) {
            let at = self.host.truth + self.rng.i64(MINUTE..2 * every);
            self.events.push((at, event));
        }
    }

    fn after(&mut self, least: i64, most: i64, event: YearEvent) {
        let at = self.host.truth + self.rng.i64(least..most);
        self.events.push((at, event));
    }

    fn happen(&mut self, event: YearEvent) {
        match event {
            YearEvent::Trouble => {
                self.platform.trouble = any_trouble(&mut self.rng);
                self.trail.tell(self.host.truth, self.platform.trouble);
                // From half a minute to half a day, each order as likely.
                let long = 30_000.0 * 1440.0_f64.powf(self.rng.f64());
                #[expect(clippy::cast_possible_truncation, reason = "it is small")]
                let end = self.host.truth + long as i64;
                self.events.push((end, YearEvent::Healed));
                return;
            }
            YearEvent::Healed => {
                let was = std::mem::replace(&mut self.platform.trouble, YearTrouble::None);
                self.promises.on_healed(self.host.truth, was);
                return self.again(YearEvent::Trouble);
            }
            YearEvent::Spurious => {
                self.platform.spurious = self.platform.trouble == YearTrouble::None;
            }
            YearEvent::Kill => self.platform.kill(self.host.truth),
            YearEvent::Stuck => {
                self.platform.kill(self.host.truth);
                self.platform.stuck_until = self.host.truth + self.rng.i64(MINUTE..3 * HOUR);
                self.promises.on_stuck(self.platform.stuck_until);
            }
            YearEvent::Restart | YearEvent::Reboot => self.restart(event == YearEvent::Reboot),
            YearEvent::ClockSet => {
                let error = self.rng.i64(-2 * HOUR..2 * HOUR);
                if !self.set_clock(error) {
                    return self.after(UNNOTICED, 2 * UNNOTICED, event);
                }
                self.after(HOUR, 5 * HOUR, YearEvent::ClockRight);
            }
            YearEvent::ClockRight => {
                if !self.set_clock(0) {
                    return self.after(UNNOTICED, 2 * UNNOTICED, event);
                }
            }
            YearEvent::Paused if self.is_set_back => {
                return self.after(UNNOTICED, 2 * UNNOTICED, event);
            }
            YearEvent::Paused => {
                let paused = self.rng.i64(MINUTE..6 * HOUR);
                self.is_paused = true;
                self.host.pause(paused);
                self.promises.on_paused(paused);
                if let Some(flight) = &mut self.flight {
                    flight.ends = flight.ends.max(self.host.truth);
                }
                self.promises.on_clock(self.host.truth);
                self.after(0, UNNOTICED, YearEvent::Noticed);
            }
            YearEvent::Noticed => {
                (self.is_paused, self.is_set_back) = (false, false);
                self.schedule.on_clock_set(&self.host.now());
                self.host.save(self.schedule.record());
                self.promises.on_noticed(&self.host);
                return;
            }
            YearEvent::Nuisance => self.nuisance(),
            YearEvent::Reports => return self.report(),
        }
        self.again(event);
    }

    fn restart(&mut self, reboots: bool) {
        let before = self.schedule.standing(self.host.now().at);
        self.host.truth += self.rng.i64(SECOND..if reboots { HOUR } else { MINUTE });
        self.flight = None;
        if reboots {
            self.host.reboot();
            self.promises.on_reboot();
        }
        let is_wrong = reboots && self.rng.u32(..3) == 0;
        if is_wrong {
            self.host.clock_error = self.rng.i64(-3 * HOUR..3 * HOUR);
            self.promises.on_clock(self.host.truth);
            self.after(10 * SECOND, 600 * SECOND, YearEvent::ClockRight);
        }
        // It reads the clocks anew.
        (self.is_paused, self.is_set_back) = (false, false);
        let now = self.host.now();
        let record = self.host.load();
        self.trail.tell(self.host.truth, (&record.belief, is_wrong));
        self.schedule = Schedule::restore(self.account.clone(), record, &now, self.rng.fork());
        self.schedule.share(self.ledger.clone());
        self.promises
            .on_restart(&self.host, &self.platform, &self.schedule, before);
    }

    /// Apps report a token that does not work.
    fn report(&mut self) {
        let now = self.host.now();
        let Some(grant) = self.schedule.standing(now.at) else {
            return;
        };
        let token = self.platform.token(grant.value.expose());
        if token.is_some_and(|token| !token.is_alive(self.host.truth)) {
            self.suspect(Some(&grant.value), false);
            self.after(30 * SECOND, 40 * SECOND, YearEvent::Reports);
        }
    }

    fn suspect(&mut self, bad: Option<&wxtokend::value::Value>, admin: bool) {
        let now = self.host.now();
        match self.schedule.suspect(&now, bad, admin) {
            None => {
                self.promises.waiting.get_or_insert(self.host.truth);
            }
            Some(Verdict::Verified(at)) => assert!(now.at.until(at) == Duration::ZERO),
            Some(Verdict::TooSoon { retry_at } | Verdict::Unavailable { retry_at, .. }) => {
                assert!(retry_at >= now.at);
            }
            Some(_) => {}
        }
    }

    fn nuisance(&mut self) {
        let now = self.host.now();
        match self.rng.u32(..3) {
            0 => {
                let until = now.at + Duration::from_secs(self.rng.u64(..7200));
                let _ = self.schedule.wish(&now, ValueName::AccessToken, until);
            }
            1 => {
                let token = self.schedule.token().cloned();
                self.suspect(token.as_ref(), false);
            }
            _ => {
                let mut account = Account::clone(&self.account);
                account.poll_every += Duration::from_secs(1);
                self.account = Arc::new(account);
                self.schedule.reconfigure(self.account.clone(), &now);
            }
        }
    }
}

pub(crate) fn any_trouble(rng: &mut Rng) -> YearTrouble {
    let errcodes = [-1, -1, 45009, 45011, 40164, 40125, 89507, 98765];
    let errcode = errcodes[rng.usize(..errcodes.len())];
    match rng.u32(..5) {
        0 => YearTrouble::Cut,
        1 => YearTrouble::Silent,
        2 => YearTrouble::All(errcode),
        _ => YearTrouble::Token(errcode),
    }
}

/// The last events, told when a promise is broken.
pub(crate) struct Trail(u64, VecDeque<String>);

impl Trail {
    /// A trail that names its seed first.
    pub(crate) fn of(seed: u64) -> Self {
        Self(seed, VecDeque::new())
    }

    pub(crate) fn tell(&mut self, at: i64, what: impl Debug) {
        let (day, seconds) = ((at - START) / DAY, (at - START) % DAY / SECOND);
        self.1
            .push_back(format!("day {day}, {seconds} s: {what:?}"));
        if self.1.len() > 40 {
            self.1.pop_front();
        }
    }
}

impl Drop for Trail {
    #[expect(
        clippy::print_stdout,
        reason = "what the test runner shows of a failed test"
    )]
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("seed {}", self.0);
            self.1.iter().for_each(|line| println!("{line}"));
        }
    }
}
