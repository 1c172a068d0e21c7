//! The daemon's loop in simulated time, and what the script does to it.

use super::host::{Host, Network, Reply, SECRET};
use super::script::{
    DAY, Event, HOUR, MINUTE, SECOND, Scope, Script, Trouble, What, any_duration, any_kill, millis,
    one_of,
};
use super::watch::Watch;
use fastrand::Rng;
use std::collections::VecDeque;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;
use wxtokend::account::Account;
use wxtokend::call::Call;
use wxtokend::platform::wechat::CLASSIC;
use wxtokend::schedule::{Outcome, Schedule, Step};
use wxtokend::sim::{self, Effect, Fault, Kill, World};
use wxtokend::snapshot::Verdict;
use wxtokend::time::Moment;
use wxtokend::value::{Value, ValueName};

/// 2026-03-02 12:00:10 in UTC+8.
const START: i64 = 1_772_424_010_000;

/// An account, its platform, its host, and what becomes of them.
pub(crate) struct Year {
    host: Host,
    world: World,
    schedule: Schedule,
    account: Arc<Account>,
    flight: Option<Flight>,
    trouble: Option<Trouble>,
    script: Script,
    watch: Watch,
    trail: Trail,
    rng: Rng,
}

/// What happened last, told when a promise is broken.
#[derive(Default)]
struct Trail(VecDeque<String>);

impl Trail {
    fn tell(&mut self, at: i64, what: impl Debug) {
        let (day, seconds) = ((at - START) / DAY, (at - START) % DAY / SECOND);
        self.0
            .push_back(format!("day {day}, {seconds} s: {what:?}"));
        if self.0.len() > 60 {
            self.0.pop_front();
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
            self.0.iter().for_each(|line| println!("{line}"));
        }
    }
}

/// A call under way.
struct Flight {
    call: Call,
    sent: Moment,
    ends: i64,
    reply: Reply,
}

impl Year {
    pub(crate) fn new(
        seed: u64,
        account: Account,
        platform: impl FnOnce(&mut sim::Account),
    ) -> Self {
        let (account, mut rng) = (Arc::new(account), Rng::with_seed(seed));
        let mut world = World::new();
        let simulated = world.account(&account.id, SECRET);
        platform(simulated);
        let look_new = simulated.ticket_looks_new;
        let host = Host::new(START);
        let schedule = Schedule::new(account.clone(), &host.now(), rng.fork());
        let mut script = Script::new();
        for event in [
            Event::TroubleBegins,
            Event::Spurious41002,
            Event::Kill,
            Event::Restart,
            Event::ClockSet(0),
            Event::Suspend,
            Event::Nuisance,
            Event::Attack { until: 0 },
            Event::Reload,
        ] {
            script.add_random(START, &mut rng, event);
        }
        Self {
            host,
            world,
            schedule,
            account,
            flight: None,
            trouble: None,
            script,
            watch: Watch::new(START, look_new),
            trail: Trail::default(),
            rng,
        }
    }

    pub(crate) fn live(mut self, time: Duration) {
        let end = START + millis(time);
        while self.host.truth < end {
            let now = self.host.now();
            let wake = match (&self.flight, self.schedule.next(&now)) {
                (Some(flight), _) => flight.ends,
                (None, Step::Sleep(until)) => self.host.truth_of(until),
                (None, Step::Call(call)) => {
                    self.send(call);
                    continue;
                }
            };
            let expiry = self.schedule.next_change(now.at);
            let wake = expiry.map_or(wake, |expiry| wake.min(self.host.truth_of(expiry)));
            if self.script.next_at() <= wake {
                self.host.truth = self.host.truth.max(self.script.next_at());
                let event = self.script.take().expect("it has a time");
                self.happen(event);
            } else {
                self.host.truth = self.host.truth.max(wake);
                self.schedule.tell(&self.host.now());
                if self.flight.as_ref().is_some_and(|f| f.ends <= wake) {
                    self.arrive();
                }
            }
            self.watch.check(&self.host, &self.world, &self.schedule);
            if self.watch.is_dead() && !self.script.has(&Event::AppReports) {
                let notices = self.host.truth + self.rng.i64(SECOND..100 * SECOND);
                self.script.add(notices, Event::AppReports);
            }
        }
        self.watch.report(&self.account, end - START);
    }

    fn send(&mut self, call: Call) {
        let now = self.host.now();
        self.watch.calls(&self.host, &self.schedule, call);
        self.schedule.on_sent(&now, call);
        self.host.save(self.schedule.record());
        let token = self.schedule.token();
        let rng = &mut self.rng;
        let reply = self
            .host
            .call(&mut self.world, rng, &self.account, call, token);
        let refusal = reply.answer.as_ref().err();
        if let Some(errcode @ (45009 | 45011)) = refusal.and_then(|refusal| refusal.errcode) {
            let wanted = What::Answer(Effect::errcode(errcode));
            let meant = self.trouble.as_ref().is_some_and(|t| t.what == wanted);
            assert!(meant, "a quota of the platform is used up: {errcode}");
        }
        self.flight = Some(Flight {
            call,
            sent: now.at,
            ends: self.host.truth + reply.took,
            reply,
        });
    }

    fn arrive(&mut self) {
        let Flight {
            call, sent, reply, ..
        } = self.flight.take().expect("one is under way");
        let now = self.host.now();
        if !reply.reached {
            self.schedule.on_unsent();
            self.watch.never_reached();
        }
        let failed = reply.answer.is_err();
        let before = self.schedule.standing(now.at);
        let (outcome, verdict) = self.schedule.on_answer(&now, sent, call, reply.answer);
        self.trail.tell(self.host.truth, (call, &outcome, &verdict));
        self.host.save(self.schedule.record());
        let after = self.schedule.standing(now.at);
        match outcome {
            Outcome::FoundDead { foreign } => {
                let bad = before.expect("it was looked at").value;
                let truth = self.world.probe(self.host.truth, bad.expose());
                let young = truth.age_ms.is_some_and(|age| age < 15 * SECOND);
                assert!(!truth.alive || young, "a living token is called dead");
                assert!(!foreign || self.account.terms == CLASSIC);
                self.watch.called_dead = Some(bad);
            }
            Outcome::Granted {
                name: ValueName::AccessToken,
                changed: true,
                ..
            } => {
                self.watch.rotations += 1;
            }
            _ => {
                let dead = self.watch.called_dead.as_ref();
                let given_up = failed && before != after;
                assert!(
                    !given_up || before.map(|grant| grant.value).as_ref() == dead,
                    "a failure ended a valid token: {outcome:?}"
                );
            }
        }
        if let Some(verdict) = verdict {
            self.watch.waiting = None;
            self.judge(&verdict, None);
        }
    }

    /// A verdict tells the truth.
    fn judge(&self, verdict: &Verdict, bad: Option<&Value>) {
        let now = self.host.now();
        let standing = self.schedule.standing(now.at);
        match verdict {
            Verdict::Superseded => assert_ne!(standing.as_ref().map(|grant| &grant.value), bad),
            Verdict::StillValid | Verdict::Verified(_) | Verdict::Refreshed => {
                assert!(standing.is_some())
            }
            Verdict::TooSoon { retry_at } => {
                let wait = now.at.until(*retry_at);
                assert!(wait > Duration::ZERO && wait <= Duration::from_secs(600));
            }
            Verdict::Unavailable { retry_at, .. } => assert!(*retry_at >= now.at),
        }
    }

    fn suspect(&mut self, bad: Option<&Value>, admin: bool) {
        match self.schedule.suspect(&self.host.now(), bad, admin) {
            Some(verdict) => self.judge(&verdict, bad),
            None => {
                self.watch.waiting.get_or_insert(self.host.truth);
            }
        }
    }

    fn happen(&mut self, event: Event) {
        let (truth, again) = (self.host.truth, event);
        self.trail.tell(truth, event);
        match event {
            Event::TroubleBegins => return self.trouble_begins(),
            Event::TroubleEnds => return self.trouble_ends(),
            Event::AppReports => return self.app_reports(),
            Event::Spurious41002 if self.trouble.is_some() || self.flight.is_some() => {}
            Event::Spurious41002 => {
                // One of them: twice would be no longer spurious.
                self.world.heal_all();
                for endpoint in Scope::Token.endpoints(self.account.terms) {
                    let fault = Fault::from(Effect::errcode(41002)).times(1);
                    self.world.set_fault(Fault {
                        endpoint: *endpoint,
                        ..fault
                    });
                }
            }
            Event::Kill => self.kill(),
            Event::Restart => self.restart(),
            Event::ClockSet(error) => {
                self.host.clock_error = error;
                self.schedule.on_clock_set(&self.host.now());
                self.host.save(self.schedule.record());
                let next = self.rng.i64(-2 * HOUR..2 * HOUR) * self.rng.i64(0..2);
                self.script
                    .add_random(truth, &mut self.rng, Event::ClockSet(next));
                return;
            }
            Event::Suspend => {
                self.host.truth += self.rng.i64(MINUTE..10 * HOUR);
                self.watch.woke(self.host.truth, self.schedule.account());
                if let Some(flight) = &mut self.flight {
                    flight.ends = self.host.truth;
                }
            }
            Event::Nuisance => self.nuisance(),
            Event::Attack { until } if until < truth => {
                let until = truth + DAY;
                self.script.add(truth, Event::Attack { until });
            }
            Event::Attack { until } => {
                self.nuisance();
                let next = truth + self.rng.i64(SECOND..60 * SECOND);
                if next < until {
                    self.script.add(next, Event::Attack { until });
                    return;
                }
            }
            Event::Reload => self.reload(),
        }
        let attacked = matches!(again, Event::Attack { .. }) && self.script.has_attack();
        if !attacked {
            self.script
                .add_random(self.host.truth, &mut self.rng, again);
        }
    }

    fn trouble_begins(&mut self) {
        let trouble = Trouble::random(&mut self.rng);
        self.trail.tell(self.host.truth, &trouble);
        match &trouble.what {
            What::Network(network) => self.host.network = *network,
            What::Answer(effect) => {
                for endpoint in trouble.scope.endpoints(self.account.terms) {
                    self.world.set_fault(Fault {
                        endpoint: *endpoint,
                        ..effect.clone().into()
                    });
                }
            }
        }
        self.watch.trouble = Some(trouble.scope);
        let end = self.host.truth + millis(any_duration(&mut self.rng));
        self.script.add(end, Event::TroubleEnds);
        self.trouble = Some(trouble);
    }

    fn trouble_ends(&mut self) {
        let trouble = self.trouble.take().expect("it began");
        self.host.network = Network::Fine;
        self.world.heal_all();
        self.watch.healed(self.host.truth, &trouble);
        self.script
            .add_random(self.host.truth, &mut self.rng, Event::TroubleBegins);
    }

    fn kill(&mut self) {
        let how = any_kill(&mut self.rng);
        if how == Kill::Stuck {
            self.watch.stuck(self.host.truth, &self.account);
        }
        self.world
            .kill(self.host.truth, &self.account.id, "access_token", how);
    }

    fn restart(&mut self) {
        let before = self.schedule.standing(self.host.now().at);
        let short = self.rng.u32(..3) > 0;
        let down = if short { 30 * SECOND } else { 3 * HOUR };
        self.host.truth += self.rng.i64(SECOND..down);
        let truth = self.host.truth;
        self.flight = None;
        let boots = self.rng.u32(..3) == 0;
        let wrong_clock = boots && self.rng.u32(..3) == 0;
        if boots {
            self.host.reboot();
            self.watch.rebooted();
        }
        if wrong_clock {
            self.host.clock_error += self.rng.i64(-3 * HOUR..3 * HOUR);
            let set = truth + self.rng.i64(10 * SECOND..600 * SECOND);
            self.script.add(set, Event::ClockSet(0));
            self.watch.wrong_clock(truth, &self.schedule, set);
        }
        let now = self.host.now();
        let rng = self.rng.fork();
        self.schedule = Schedule::restore(self.account.clone(), self.host.load(), &now, rng);
        self.watch.woke(truth, &self.account);
        self.watch.waiting = None;
        let lives = before.filter(|grant| {
            self.world.probe(truth, grant.value.expose()).ends_in_ms > Some(61 * SECOND)
        });
        if let Some(grant) = lives.filter(|_| !wrong_clock) {
            let standing = self.schedule.standing(now.at);
            assert_eq!(standing.map(|g| g.value), Some(grant.value), "it is lost");
            let next = self.schedule.next(&now);
            assert_ne!(next, Step::Call(Call::Token), "a restart costs a call");
        }
    }

    fn app_reports(&mut self) {
        let now = self.host.now();
        let Some(token) = self.schedule.standing(now.at).map(|g| g.value.clone()) else {
            return;
        };
        if !self.world.probe(self.host.truth, token.expose()).alive {
            self.suspect(Some(&token), false);
            let again = self.host.truth + 35 * SECOND;
            self.script.add(again, Event::AppReports);
        }
    }

    fn nuisance(&mut self) {
        let now = self.host.now();
        match self.rng.u32(..4) {
            0 => {
                let names: Vec<_> = self.account.values().collect();
                let name = one_of(&mut self.rng, &names);
                let until = now.at + Duration::from_secs(self.rng.u64(..7200));
                match self.schedule.wish(&now, name, until) {
                    Some(Verdict::Unavailable { retry_at, .. }) => assert!(retry_at >= now.at),
                    Some(verdict) => assert!(matches!(verdict, Verdict::StillValid)),
                    None => {}
                }
            }
            1 => self.suspect(Value::parse("an_old_one").as_ref(), false),
            _ => {
                let token = self.schedule.token().cloned();
                let admin = self.rng.u32(..20) == 0;
                self.suspect(token.as_ref(), admin);
            }
        }
    }

    fn reload(&mut self) {
        let mut account = Account::clone(&self.account);
        account.refresh_at *= 0.999;
        self.account = Arc::new(account);
        let now = self.host.now();
        let before = self.schedule.standing(now.at);
        self.schedule.reconfigure(self.account.clone(), &now);
        assert_eq!(self.schedule.standing(now.at), before);
    }
}
