//! A schedule over a restart, a changed configuration, and clocks that are wrong.

use super::*;
use crate::trouble::Class;

impl ScheduleBench {
    /// The daemon stops, and is started again `down` later.
    fn restart(self, down: Duration) -> Self {
        self.restart_with(down, 0, |_| ())
    }

    /// The same, on a clock of the day that says so many seconds more, with a changed account. As in a file, moments
    /// are kept as Unix time.
    fn restart_with(
        mut self,
        down: Duration,
        clock: i64,
        change: impl FnOnce(&mut Account),
    ) -> Self {
        let before = self.now;
        let record = self.schedule.record();
        self.pass(down);
        self.now.unix_millis += clock * 1000;
        // The host was booted anew as well.
        self.now.at = Moment::from_millis(777);
        let now = self.now;
        let record = record.after_boot(&before, &now);
        let mut account = Account::clone(self.schedule.account());
        change(&mut account);
        let rng = fastrand::Rng::with_seed(3);
        self.schedule = Schedule::restore(Arc::new(account), record, &self.now, rng);
        self
    }
}

fn with_ticket(method: &'static Terms) -> ScheduleBench {
    let mut account = account(method);
    account.tickets = Box::new([ValueName::JsapiTicket]);
    let mut bench = ScheduleBench::granted(account);
    bench.call(JSAPI, granted("J1", 7200));
    bench
}

#[test]
fn a_restart_costs_no_call() {
    for method in [STABLE, CLASSIC, GETTOKEN] {
        for age in [0, 1000, 3000, 4000, 6000, 7000, 7130] {
            let mut bench = with_ticket(method);
            bench.pass(secs(age));
            for _ in 0..20 {
                bench = bench.restart(secs(1));
                assert_eq!(bench.token().as_deref(), Some("T1"), "{method:?} {age}");
                assert!(
                    bench.wait() >= secs(1),
                    "{method:?}, {age} s old: {:?}",
                    bench.wait()
                );
            }
            assert_eq!(bench.left(), 7180 - age, "its expiry is as it was");
            assert_eq!(bench.ticket(ValueName::JsapiTicket).1, 7180 - age);
            let overdue = method == CLASSIC && age >= 3600;
            assert!(!overdue || bench.wait() <= secs(60), "but it is due");
        }
    }
}

#[test]
fn a_classic_call_without_an_answer_makes_the_token_due_after_a_restart() {
    let silence: fn(&mut ScheduleBench) = |bench| bench.schedule.on_sent(&bench.now, Call::Token);
    let failure: fn(&mut ScheduleBench) = |bench| drop(bench.call(Call::Token, unreachable()));
    let refusal: fn(&mut ScheduleBench) =
        |bench| drop(bench.call(Call::Token, refused(Call::Token, -1)));
    let success: fn(&mut ScheduleBench) =
        |bench| drop(bench.call(Call::Token, granted("T2", 7200)));
    for (n, (calls, is_due)) in [
        ([silence].as_slice(), true),
        (&[failure], true),
        (&[failure, refusal], true),
        (&[refusal], false),
        (&[failure, success], false),
    ]
    .into_iter()
    .enumerate()
    {
        for method in [STABLE, CLASSIC] {
            let mut bench = ScheduleBench::granted(account(method));
            bench.pass(secs(7000));
            for call in calls {
                assert_eq!(bench.sleep(), Call::Token);
                call(&mut bench);
            }
            let mut bench = bench.restart(secs(1));
            assert!(
                bench.token().is_some(),
                "it is handed out while it may live"
            );
            let due = bench.next() == Step::Call(Call::Token);
            assert_eq!(due, is_due && method == CLASSIC, "{method:?} {n}");
            if due {
                bench.call(Call::Token, granted("T3", 7200));
                assert!(bench.restart(secs(1)).wait() >= secs(1), "settled");
            }
        }
    }
}

#[test]
fn a_classic_call_that_was_never_made_needs_no_answer() {
    let mut bench = ScheduleBench::granted(account(CLASSIC));
    assert_eq!(bench.sleep(), Call::Token);
    bench.schedule.on_sent(&bench.now, Call::Token);
    bench.schedule.on_unsent();
    let sent = bench.now.at;
    let missing = Err(Refusal::local("no secret", "put one there"));
    bench
        .schedule
        .on_answer(&bench.now, sent, Call::Token, missing);
    assert!(bench.restart(secs(1)).wait() >= secs(1));
}

#[test]
fn value_that_expired_meanwhile_is_asked_for() {
    let mut bench = with_ticket(CLASSIC).restart(secs(7200));
    assert_eq!(bench.token(), None);
    bench.call(Call::Token, granted("T2", 7200));
    bench.call(JSAPI, granted("J2", 7200));
}

#[test]
fn a_ticket_keeps_its_life_over_a_restart() {
    let mut bench = with_ticket(STABLE);
    bench.pass(secs(3000));
    let mut bench = bench.restart(secs(60));
    while bench.sleep() != JSAPI {
        let left = bench.left();
        bench.call(Call::Token, granted("T1", left));
    }
    bench.call(JSAPI, granted("J1", 7200));
    let (_, left) = bench.ticket(ValueName::JsapiTicket);
    assert!(left < 4200, "{left}");
}

#[test]
fn counts_outlive_a_restart() {
    let mut bench = with_ticket(STABLE);
    assert_eq!(bench.schedule.calls(), (2, 20_514));
    bench = bench.restart(secs(60));
    assert_eq!(bench.schedule.calls(), (2, 20_514));
    assert_eq!(bench.schedule.last_success(), Some(bench.now.at - secs(60)));
}

#[test]
fn a_timed_block_is_slept_out_over_restarts_and_reloads() {
    for (errcode, block) in [(89507, 3600), (89506, DAY)] {
        for granted_before in [false, true] {
            let mut bench = if granted_before {
                let mut bench = ScheduleBench::granted(account(CLASSIC));
                bench.sleep();
                bench
            } else {
                ScheduleBench::new(account(CLASSIC))
            };
            bench.call(Call::Token, refused(Call::Token, errcode));
            let mut passed = 0;
            for _ in 0..5 {
                bench = bench.restart(secs(60));
                let mut changed = account(CLASSIC);
                changed.refresh_at = 0.4;
                bench.schedule.reconfigure(Arc::new(changed), &bench.now);
                passed += 60;
                assert_eq!(bench.wait(), secs(block - passed), "{errcode}");
                let error = bench.schedule.last_error().unwrap();
                assert_eq!(error.errcode, Some(errcode));
                let verdict = bench.schedule.suspect(&bench.now, None, true);
                assert_eq!(said(verdict), "later", "an administrator may try once");
                if granted_before {
                    bench.call(Call::Verify, Ok(Answer::Alive));
                }
                bench.call(Call::Token, refused(Call::Token, errcode));
                passed = 0;
                bench = bench.restart(Duration::ZERO);
            }
            let stable = Account {
                terms: STABLE,
                ..Account::clone(bench.schedule.account())
            };
            bench.schedule.reconfigure(Arc::new(stable), &bench.now);
            assert_eq!(
                bench.wait(),
                secs(block - passed),
                "it is the address that is blocked"
            );
            bench.later(Call::Token, granted("T9", 7200));
            assert_eq!(bench.schedule.record().block, None);
        }
    }
}

#[test]
fn a_block_from_a_clock_that_was_wrong_ends_within_a_day() {
    let mut bench = ScheduleBench::new(account(CLASSIC));
    bench.call(Call::Token, refused(Call::Token, 89507));
    let bench = bench.restart_with(secs(1), -400 * 86_400, |_| ());
    assert!(bench.wait() <= secs(DAY));
    let error = bench.schedule.last_error().unwrap();
    assert_eq!(error.class, Class::TimedBlock(secs(3600)));
}

#[test]
fn another_app_inherits_nothing() {
    let bench = with_ticket(STABLE);
    let bench = bench.restart_with(secs(1), 0, |account| account.id = "wx1".into());
    assert_eq!(bench.token(), None);
    let mut bench = with_ticket(GETTOKEN);
    let mut other = Account::clone(bench.schedule.account());
    other.agentid = Some(1_000_002);
    bench.schedule.reconfigure(Arc::new(other), &bench.now);
    assert_eq!(bench.token(), None);
    assert_eq!(bench.next(), Step::Call(Call::Token));
}

#[test]
fn answer_for_the_former_app_is_dropped() {
    for waits in [false, true] {
        let mut bench = ScheduleBench::granted(account(STABLE));
        bench.pass(secs(60));
        if waits {
            bench.suspect("T1", false);
            bench.call(Call::Verify, refused(Call::Verify, 40001));
        }
        assert_eq!(bench.sleep(), Call::Token);
        let sent = bench.now.at;
        bench.schedule.on_sent(&bench.now, Call::Token);
        let mut other = Account::clone(bench.schedule.account());
        other.id = "wx1111111111111111".into();
        bench.schedule.reconfigure(Arc::new(other), &bench.now);
        let answer = granted("T2", 7200);
        let (outcome, verdict) = bench
            .schedule
            .on_answer(&bench.now, sent, Call::Token, answer);
        assert_eq!((named(&outcome), said(verdict)), ("again", "later"));
        assert_eq!(bench.token(), None, "no app ever gets another app's token");
        let (_, verdict) = bench.call(Call::Token, granted("T3", 7200));
        assert_eq!(said(verdict), if waits { "refreshed" } else { "later" });
        assert_eq!(bench.token().as_deref(), Some("T3"));
        bench.later(Call::Token, granted("T4", 7200));
        assert_eq!(bench.token().as_deref(), Some("T4"));
    }
}

#[test]
fn forced_refreshes_are_counted_over_restarts() {
    let mut bench = ScheduleBench::granted(account(STABLE));
    let mut forced = 0;
    for serial in 1..40 {
        bench.pass(secs(31));
        let token = format!("T{serial}");
        if bench.token().is_none() {
            break;
        }
        assert_eq!(said(bench.suspect(&token, true)), "later");
        bench.call(Call::Verify, refused(Call::Verify, 40001));
        bench.call(Call::Token, granted(&token, 7000));
        if bench.next() != Step::Call(Call::ForceToken) {
            break;
        }
        bench.call(Call::ForceToken, granted(&format!("T{}", serial + 1), 7200));
        forced += 1;
        bench = bench.restart(secs(1));
    }
    assert_eq!(forced, 10);
}

#[test]
fn a_clock_that_was_ahead_blocks_nothing() {
    let mut bench = ScheduleBench::granted(account(STABLE));
    bench.pass(secs(60));
    bench.suspect("T1", true);
    bench.call(Call::Verify, refused(Call::Verify, 40001));
    bench.call(Call::Token, granted("T1", 7000));
    bench.call(Call::ForceToken, granted("T2", 7200));
    // All moments of the record are ten days ahead.
    let mut bench = bench.restart_with(secs(60), -10 * 86_400, |_| ());
    assert_eq!(bench.token().as_deref(), Some("T2"), "its life is not over");
    assert!(bench.left() <= 7200, "nor longer than it ever was");
    assert_eq!(said(bench.suspect("T2", true)), "later");
    bench.call(Call::Verify, refused(Call::Verify, 40001));
    bench.later(Call::Verify, refused(Call::Verify, 40001));
    bench.call(Call::Token, granted("T2", 7000));
    bench.later(Call::ForceToken, granted("T3", 7200));
}

#[test]
fn a_last_resort_from_a_clock_that_was_ahead_is_not_far_away() {
    let mut account = account(CLASSIC);
    account.daily_budget = 0;
    let mut bench = ScheduleBench::new(account);
    bench.call(Call::Token, refused(Call::Token, 40164));
    let bench = bench.restart_with(secs(1), -400 * 86_400, |_| ());
    assert!(bench.next() == Step::Call(Call::Token) || bench.wait() <= secs(600));
}

#[test]
fn a_stored_value_is_asked_about_when_the_clock_is_set_after_the_start() {
    // A host without a clock of its own starts as if no time had passed; two hours later in truth.
    for method in [STABLE, CLASSIC] {
        let bench = with_ticket(method);
        let mut bench = bench.restart_with(secs(7000), -6000, |_| ());
        bench.pass(secs(10));
        assert!(bench.wait() > secs(10), "nothing is wrong yet");
        bench.set_clock(6000);
        assert_eq!(bench.left(), 190, "its stored end counts again");
        bench.call(Call::Token, granted("T2", 7200));
        bench.call(JSAPI, granted("J1", 190));
        assert!(bench.wait() >= secs(20), "and only once");
    }
}

#[test]
fn answer_that_a_pause_delayed_brings_no_longer_life() {
    let mut bench = ScheduleBench::new(account(STABLE));
    assert_eq!(bench.next(), Step::Call(Call::Token));
    let sent = bench.now.at;
    bench.schedule.on_sent(&bench.now, Call::Token);
    // The host is paused for an hour: its own clock stands still.
    bench.now.unix_millis += 3_600_000;
    let answer = granted("T1", 7200);
    bench
        .schedule
        .on_answer(&bench.now, sent, Call::Token, answer);
    assert_eq!(bench.left(), 3600);
    bench.call(Call::Verify, Ok(Answer::Alive));
    assert_eq!(bench.left(), 3600);
}

#[test]
fn block_ends_when_the_clock_of_a_boot_is_put_right() {
    let mut bench = ScheduleBench::new(account(STABLE));
    bench.call(Call::Token, refused(Call::Token, 89507));
    let mut bench = bench.restart_with(secs(3500), -7200, |_| ());
    assert!(bench.wait() > secs(3600), "the clock says so");
    bench.set_clock(7200);
    bench.pass(secs(101));
    assert_eq!(bench.next(), Step::Call(Call::Token));
}

#[test]
fn a_ticket_read_by_a_clock_that_was_ahead_gets_its_life_back() {
    let mut bench = with_ticket(STABLE).restart_with(secs(1000), 3000, |_| ());
    assert_eq!(bench.ticket(ValueName::JsapiTicket).1, 3200);
    bench.set_clock(-3000);
    assert_eq!(bench.left(), 6200);
    assert_eq!(bench.ticket(ValueName::JsapiTicket).1, 6200);
}

#[test]
fn small_corrections_of_the_clock_cost_no_call() {
    let mut bench = with_ticket(CLASSIC).restart(secs(60));
    for _ in 0..10 {
        bench.set_clock(1);
        bench.pass(secs(1));
        assert!(bench.wait() > secs(100));
    }
}

#[test]
fn clock_set_back_does_not_move_the_life_of_a_value() {
    for step in [-400 * 86_400, -7200, -90] {
        for method in [STABLE, CLASSIC, GETTOKEN] {
            let mut bench = with_ticket(method);
            let due = bench.next();
            let told = bench.schedule.grants()[0].1.expire_time();
            bench.set_clock(step);
            assert_eq!(bench.next(), due, "{method:?} {step}");
            assert_eq!(bench.left(), 7200);
            assert_eq!(bench.schedule.grants()[0].1.expire_time(), told + step);
            assert!(!bench.schedule.is_spent(&bench.now));
        }
    }
}

#[test]
fn paused_virtual_machine_lengthens_no_life_that_was_published() {
    for (step, stands) in [
        (90, true),
        (3000, true),
        (3 * 3600, false),
        (400 * 86_400, false),
    ] {
        for method in [STABLE, CLASSIC, GETTOKEN] {
            let mut bench = with_ticket(method);
            bench.pass(secs(60));
            let told = |bench: &ScheduleBench| {
                let grants = bench.schedule.grants();
                grants
                    .iter()
                    .map(|(_, grant)| grant.expire_time())
                    .collect::<Vec<_>>()
            };
            let before = told(&bench);
            bench.set_clock(step);
            let after = told(&bench);
            assert!(
                after
                    .iter()
                    .zip(&before)
                    .all(|(after, before)| after <= before)
            );
            assert_eq!(bench.token().is_some(), stands, "{method:?} {step}");
            // In doubt: verified at once, and once.
            bench.call(Call::Verify, refused(Call::Verify, 42001));
            bench.call(Call::Token, granted("T2", 7200));
            assert_eq!(bench.left(), 7200);
        }
    }
}

#[test]
fn a_reload_after_a_pause_asks_before_the_token_ends() {
    let mut account = account(CLASSIC);
    account.refresh_at = 0.9;
    let mut bench = ScheduleBench::granted(account);
    // Paused: Unix time goes on, the daemon's clock stands still.
    bench.set_clock(2600);
    bench.call(Call::Verify, Ok(Answer::Alive));
    let same = bench.schedule.account().clone();
    bench.schedule.reconfigure(same, &bench.now);
    assert_eq!(bench.sleep(), Call::Token);
    assert!(bench.left() >= 700, "{} s are left", bench.left());
}

#[test]
fn token_that_lives_though_its_unix_end_is_past_stands_again() {
    let mut bench = with_ticket(STABLE);
    bench.pass(secs(60));
    bench.set_clock(3 * 3600);
    assert_eq!(bench.token(), None, "not before the platform says so");
    bench.call(Call::Verify, Ok(Answer::Alive));
    assert_eq!(bench.left(), 7140, "the clock was wrong before");
}

#[test]
fn wrong_clock_at_boot_hands_out_nothing_past_its_stored_end() {
    // Booted an hour before the end by a clock that is two hours behind; then NTP sets it, and the platform refuses.
    for method in [STABLE, CLASSIC, GETTOKEN] {
        let bench = with_ticket(method);
        let mut bench = bench.restart_with(secs(3600), -7200, |_| ());
        bench.run(secs(20), |_, call| refused(call, 40164));
        bench.pass(secs(3500));
        assert!(bench.token().is_some());
        bench.set_clock(7200);
        assert_eq!(bench.left(), 80, "{method:?}: its stored end counts");
        bench.run(secs(81), |_, call| refused(call, 40164));
        assert_eq!(bench.token(), None);
    }
}

#[test]
fn stored_end_counts_again_once_a_clock_that_was_ahead_is_right() {
    let mut bench = with_ticket(STABLE).restart_with(secs(600), 3 * 3600, |_| ());
    assert_eq!(bench.token(), None);
    bench.call(Call::Token, refused(Call::Token, 40164));
    bench.set_clock(-3 * 3600);
    assert_eq!(bench.left(), 6600);
    assert_eq!(bench.token().as_deref(), Some("T1"));
}

#[test]
fn a_changed_configuration_keeps_values_and_costs_no_call() {
    for method in [STABLE, CLASSIC, GETTOKEN] {
        let mut bench = with_ticket(method);
        bench.pass(secs(100));
        let mut changed = Account::clone(bench.schedule.account());
        changed.poll_every = secs(600);
        changed.refresh_at = 0.8;
        changed.daily_budget = 77;
        bench.schedule.reconfigure(Arc::new(changed), &bench.now);
        assert_eq!(bench.token().as_deref(), Some("T1"));
        assert_eq!(bench.ticket(ValueName::JsapiTicket).0, "J1");
        assert!(bench.wait() >= secs(540), "{:?}", bench.wait());
    }
}

#[test]
fn tickets_come_and_go_with_the_configuration() {
    let mut bench = with_ticket(STABLE);
    let mut changed = Account::clone(bench.schedule.account());
    changed.tickets = Box::new([ValueName::WxCardTicket, ValueName::JsapiTicket]);
    bench
        .schedule
        .reconfigure(Arc::new(changed.clone()), &bench.now);
    bench.call(WX_CARD, granted("C1", 7200));
    assert!(bench.wait() > secs(200));
    changed.tickets = Box::new([ValueName::WxCardTicket]);
    bench.schedule.reconfigure(Arc::new(changed), &bench.now);
    let names: Vec<_> = bench.schedule.grants().iter().map(|(n, _)| *n).collect();
    assert_eq!(names, [ValueName::AccessToken, ValueName::WxCardTicket]);
}

#[test]
fn a_changed_account_in_trouble_is_tried_at_once() {
    for (what, errcode) in [(Call::Token, 40164), (Call::Token, -1), (JSAPI, 50004)] {
        let mut account = account(CLASSIC);
        account.tickets = Box::new([ValueName::JsapiTicket]);
        let mut bench = ScheduleBench::new(account);
        if what == JSAPI {
            bench.call(Call::Token, granted("T1", 7200));
        }
        bench.call(what, refused(what, errcode));
        let changed = Account::clone(bench.schedule.account());
        bench.schedule.reconfigure(Arc::new(changed), &bench.now);
        assert_eq!(bench.next(), Step::Call(what), "{errcode}");
    }
}

#[test]
fn another_method_is_tried_at_once() {
    let mut bench = ScheduleBench::granted(account(CLASSIC));
    let stable = account(STABLE);
    bench.schedule.reconfigure(Arc::new(stable), &bench.now);
    bench.call(Call::Token, granted("S1", 5000));
    assert_eq!(bench.token().as_deref(), Some("S1"));
}

#[test]
fn a_raised_budget_counts_at_once() {
    let mut low = account(CLASSIC);
    low.daily_budget = 1;
    let mut bench = ScheduleBench::new(low);
    bench.call(Call::Token, granted("T1", 60));
    bench.pass(secs(60));
    assert_eq!(bench.wait(), secs(540));
    let raised = account(CLASSIC);
    bench.schedule.reconfigure(Arc::new(raised), &bench.now);
    assert_eq!(bench.next(), Step::Call(Call::Token));
}
