//! Whatever happens, in whatever order: no panic, no storm of calls, no sleep without an end, nobody kept waiting.

use super::*;
use crate::value::Grant;
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::VecDeque;

/// Something that happens.
#[derive(Debug, Clone)]
enum StormEvent {
    Pass(u64),
    /// The next call is sent, if it is due.
    Send,
    /// The answer to the call that was sent, or to the next one, if it is due.
    Refuse(i64),
    Grant(bool, u64),
    Alive,
    Unreachable,
    Suspect(bool, Option<bool>),
    Renew(usize, u64),
    Reconfigure(Account),
    Restart(i64),
    Clock(i64),
}

fn accounts() -> impl Strategy<Value = Account> {
    (
        prop_oneof![Just(STABLE), Just(CLASSIC), Just(GETTOKEN)],
        prop_oneof![Just(0), Just(1), 1_u64..8000, Just(u64::MAX)],
        0.001..0.999,
        prop_oneof![Just(0_u64), 1_u64..8000, Just(u64::MAX)],
        prop_oneof![0_u32..20, Just(1000), Just(u32::MAX)],
        any::<bool>(),
        0..3_usize,
    )
        .prop_map(
            |(method, poll, refresh_at, verify, budget, force, tickets)| {
                let names = [ValueName::JsapiTicket, ValueName::WxCardTicket];
                Account {
                    poll_every: secs(poll),
                    refresh_at,
                    verify_every: secs(verify),
                    daily_budget: budget,
                    force_on_dead: force,
                    tickets: names[..tickets].into(),
                    ..account(method)
                }
            },
        )
}

fn events() -> impl Strategy<Value = StormEvent> {
    let errcodes = prop::sample::select(vec![
        -1, 40001, 40014, 41002, 40164, 42001, 45009, 45011, 45033, 89506, 89507, 7,
    ]);
    prop_oneof![
        4 => prop_oneof![0_u64..60, 0_u64..20_000].prop_map(StormEvent::Pass),
        2 => Just(StormEvent::Send),
        3 => errcodes.prop_map(StormEvent::Refuse),
        3 => (any::<bool>(), prop_oneof![1_u64..60, 1_u64..=86_400])
            .prop_map(|(new, life)| StormEvent::Grant(new, life)),
        1 => Just(StormEvent::Alive),
        1 => Just(StormEvent::Unreachable),
        2 => (any::<bool>(), any::<Option<bool>>()).prop_map(|(admin, bad)| StormEvent::Suspect(admin, bad)),
        1 => (0..4_usize, 0_u64..100_000).prop_map(|(name, life)| StormEvent::Renew(name, life)),
        1 => accounts().prop_map(StormEvent::Reconfigure),
        1 => (-100_000..100_000_i64).prop_map(StormEvent::Restart),
        1 => prop_oneof![-90..90_i64, -40_000_000..40_000_000_i64].prop_map(StormEvent::Clock),
    ]
}

/// The schedule with those who wait for it.
struct StormTrial {
    bench: ScheduleBench,
    serial: u32,
    /// The call that is under way, and since when.
    flight: Option<(Call, Moment)>,
    /// The moments of its calls.
    calls: VecDeque<Moment>,
    /// The moment since which somebody waits for a verdict.
    doubted: Option<Moment>,
}

impl StormTrial {
    /// The next step is sane.
    fn check(&self) -> Result<(), TestCaseError> {
        let now = self.bench.now.at;
        if let Step::Sleep(until) = self.bench.next() {
            prop_assert!(until > now, "it sleeps into the past");
            prop_assert!(until <= now + secs(2 * DAY), "it sleeps for ever");
        }
        let standing = self.bench.schedule.standing(now);
        prop_assert!(standing.is_none_or(|grant| grant.is_valid(now)));
        if let Some(since) = self.doubted {
            prop_assert!(since.until(now) < secs(120), "somebody is kept waiting");
        }
        Ok(())
    }

    fn send(&mut self) {
        if let (None, Step::Call(call)) = (self.flight, self.bench.next()) {
            self.bench.schedule.on_sent(&self.bench.now, call);
            self.flight = Some((call, self.bench.now.at));
        }
    }

    fn answer(&mut self, answer: Answered) -> Result<(), TestCaseError> {
        self.send();
        let Some((call, sent)) = self.flight.take() else {
            return Ok(());
        };
        let answer = match (call, answer) {
            (Call::Verify, Ok(_)) => Ok(Answer::Alive),
            (_, Ok(Answer::Alive)) => granted("same", 7200),
            (call, Err(refusal)) => match refusal.errcode {
                Some(errcode) => refused(call, errcode),
                None => Err(refusal),
            },
            (_, granted) => granted,
        };
        let bench = &mut self.bench;
        let before: Option<Grant> = bench.schedule.standing(bench.now.at);
        let says_dead = matches!(&answer, Err(refusal) if call == Call::Verify
            && matches!(refusal.errcode, Some(40001 | 40014 | 42001)));
        let failed = answer.is_err();
        let reached = !matches!(&answer, Err(refusal) if refusal.errcode.is_none());
        if !reached {
            bench.schedule.on_unsent();
        }
        bench.pass(Duration::from_millis(50));
        let doubtful = bench.schedule.belief != Belief::Trusted;
        let (_, verdict) = bench.schedule.on_answer(&bench.now, sent, call, answer);
        if verdict.is_some() {
            self.doubted = None;
        }
        if failed && !says_dead && !doubtful {
            let after = bench.schedule.standing(bench.now.at);
            let before = before.filter(|grant| grant.is_valid(bench.now.at));
            let value = |grant: Option<Grant>| grant.map(|grant| grant.value);
            prop_assert_eq!(value(before), value(after), "a failure ended a valid token");
        }
        self.calls.push_back(sent);
        while self.calls[0] + secs(60) < sent {
            self.calls.pop_front();
        }
        prop_assert!(self.calls.len() < 200, "a storm of calls");
        Ok(())
    }

    fn happen(&mut self, event: StormEvent) -> Result<(), TestCaseError> {
        let bench = &mut self.bench;
        match event {
            StormEvent::Pass(seconds) => {
                // Calls that come due meanwhile are made, and fail.
                let end = bench.now.at + secs(seconds);
                while self.bench.now.at < end {
                    if self.flight.is_some() {
                        let timeout = self.bench.now.at + secs(10);
                        self.bench.pass_until(timeout.min(end));
                        self.answer(unreachable())?;
                        continue;
                    }
                    match self.bench.next() {
                        Step::Call(_) => self.answer(unreachable())?,
                        Step::Sleep(until) => self.bench.pass_until(until.min(end)),
                    }
                    self.check()?;
                }
            }
            StormEvent::Send => self.send(),
            StormEvent::Refuse(errcode) => self.answer(refused(Call::Token, errcode))?,
            StormEvent::Grant(new, life) => {
                self.serial += u32::from(new);
                let name = format!("T{}", self.serial);
                self.answer(granted(&name, life))?;
            }
            StormEvent::Alive => self.answer(Ok(Answer::Alive))?,
            StormEvent::Unreachable => self.answer(unreachable())?,
            StormEvent::Suspect(admin, bad) => {
                let bad = bad.and_then(|current| {
                    let token = bench.schedule.token().filter(|_| current).cloned();
                    token.or_else(|| Value::parse("T0"))
                });
                let verdict = bench.schedule.suspect(&bench.now, bad.as_ref(), admin);
                if verdict.is_none() {
                    self.doubted.get_or_insert(bench.now.at);
                }
            }
            StormEvent::Renew(name, life) => {
                let until = bench.now.at + secs(life);
                let name = ValueName::ALL[name];
                let waits = bench.schedule.wish(&bench.now, name, until).is_none();
                if waits && self.flight.is_none() {
                    prop_assert!(matches!(bench.next(), Step::Call(_)), "nobody calls");
                }
            }
            StormEvent::Reconfigure(account) => {
                let old = bench.schedule.account();
                let account = Account {
                    id: old.id.clone(),
                    // Whoever waits while it is lowered waits for the next day.
                    daily_budget: account.daily_budget.max(old.daily_budget),
                    ..account
                };
                bench.schedule.reconfigure(Arc::new(account), &bench.now);
            }
            StormEvent::Restart(clock) => {
                bench.set_clock(clock);
                let record = bench.schedule.record();
                let account = bench.schedule.account().clone();
                let rng = fastrand::Rng::with_seed(5);
                bench.schedule = Schedule::restore(account, record, &bench.now, rng);
                (self.doubted, self.flight) = (None, None);
            }
            StormEvent::Clock(seconds) => bench.set_clock(seconds),
        }
        self.check()
    }
}

impl StormTrial {
    fn of(account: Account, seed: u64) -> Self {
        Self {
            bench: ScheduleBench::seeded(account, seed),
            serial: 0,
            flight: None,
            calls: VecDeque::new(),
            doubted: None,
        }
    }

    #[track_caller]
    fn stands(mut self, events: Vec<StormEvent>) {
        for event in events {
            let name = format!("{event:?}");
            self.happen(event)
                .unwrap_or_else(|fault| panic!("{name}: {fault}"));
        }
    }
}

/// The token ends before it is old enough to be asked about again.
#[test]
fn reporter_of_token_that_ends_in_a_moment_gets_an_answer() {
    let account = Account {
        poll_every: secs(0),
        daily_budget: 3,
        ..account(STABLE)
    };
    StormTrial::of(account, 0).stands(vec![
        StormEvent::Grant(false, 1),
        StormEvent::Suspect(false, None),
        StormEvent::Refuse(40001),
        StormEvent::Pass(120),
    ]);
}

#[test]
fn account_without_any_budget_starts() {
    let account = Account {
        tickets: Box::new([ValueName::JsapiTicket, ValueName::WxCardTicket]),
        poll_every: secs(0),
        refresh_at: 0.001,
        daily_budget: 0,
        ..account(STABLE)
    };
    StormTrial::of(account, 0).stands(vec![StormEvent::Pass(0)]);
}

/// A lost answer is asked about again and again, and nobody answers.
#[test]
fn question_about_a_lost_answer_keeps_its_pace_when_nobody_answers() {
    let classic = Account {
        refresh_at: 0.001,
        ..account(CLASSIC)
    };
    StormTrial::of(account(STABLE), 0).stands(vec![
        StormEvent::Grant(false, 250),
        StormEvent::Reconfigure(classic),
        StormEvent::Send,
        StormEvent::Restart(0),
        StormEvent::Pass(250),
    ]);
}

proptest! {
    #[test]
    fn no_order_of_events_breaks_it(
        account in accounts(),
        seed in any::<u64>(),
        events in vec(events(), 0..60),
    ) {
        let mut trial = StormTrial::of(account, seed);
        for event in events {
            trial.happen(event)?;
        }
    }
}
