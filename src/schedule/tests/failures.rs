//! A failure changes when the call is tried again, and nothing else.

use super::*;
use crate::snapshot::State;
use crate::trouble::Class;

/// Errcodes of a token call, and the shortest and longest wait in seconds after the first failure.
const REFUSALS: &[(i64, f64, f64)] = &[
    (-1, 0.1, 1.0),
    (-1000, 0.1, 1.0),
    (45033, 0.1, 1.0),
    (45011, 50.0, 52.0),
    (45009, 1800.0, 1800.0),
    (40001, 300.0, 300.0),
    (40002, 300.0, 300.0),
    (43002, 300.0, 300.0),
    (41004, 300.0, 300.0),
    (40013, 300.0, 300.0),
    (40125, 300.0, 300.0),
    (40164, 300.0, 300.0),
    (61004, 300.0, 300.0),
    (60020, 300.0, 300.0),
    (40243, 300.0, 300.0),
    (48006, 300.0, 300.0),
    (50004, 300.0, 300.0),
    (50007, 300.0, 300.0),
    (61024, 300.0, 300.0),
    (89501, 300.0, 300.0),
    (89503, 300.0, 300.0),
    (89507, 3600.0, 3600.0),
    (89506, 86_400.0, 86_400.0),
    (42001, 300.0, 300.0),
    (40014, 300.0, 300.0),
    (98765, 300.0, 300.0),
];

#[test]
fn each_errcode_is_tried_again_when_its_class_says() {
    for &(errcode, least, most) in REFUSALS {
        let mut bench = ScheduleBench::new(account(CLASSIC));
        let (outcome, _) = bench.call(Call::Token, refused(Call::Token, errcode));
        assert_eq!(named(&outcome), "failed");
        let wait = bench.wait().as_secs_f64();
        assert!((least..=most).contains(&wait), "{errcode}: {wait} s");
        assert_eq!(bench.sleep(), Call::Token);
        assert_eq!(bench.schedule.state(bench.now.at), State::Expired);
        let error = bench.schedule.last_error().unwrap();
        assert_eq!(error.errcode, Some(errcode));
        assert_eq!(error.rid.as_deref(), Some("6aac005a-01bfdbee-79769285"));
    }
}

#[test]
fn each_errcode_is_over_by_itself_within_its_class_interval() {
    for method in [STABLE, CLASSIC, GETTOKEN] {
        for &(errcode, _, first) in REFUSALS.iter().chain(&[(41002, 300.0, 300.0)]) {
            // A transient failure is tried less often the longer it lasts, down to once a minute.
            let longest = Duration::from_secs_f64(first.max(60.0));
            for trouble in [5, 700, 3600] {
                let mut bench = ScheduleBench::granted(account(method));
                bench.sleep();
                bench.run(secs(trouble), |_, call| refused(call, errcode));
                let error = bench.schedule.last_error().unwrap();
                assert_eq!(error.errcode, Some(errcode));
                bench.run(longest + secs(1), |_, _| granted("T2", 7200));
                assert_eq!(
                    bench.schedule.state(bench.now.at),
                    State::Fresh,
                    "{method:?}: {errcode} for {trouble} s"
                );
                assert_eq!(bench.schedule.last_error(), None);
            }
        }
    }
}

#[test]
fn no_failure_ends_a_token_that_is_valid() {
    for method in [STABLE, CLASSIC, GETTOKEN] {
        for &(errcode, ..) in REFUSALS {
            let mut bench = ScheduleBench::granted(account(method));
            let expires = bench.now.at + secs(7200);
            let begin = bench.sleep();
            assert_eq!(begin, Call::Token);
            while bench.now.at + secs(60) < expires {
                bench.run(secs(60), |_, call| refused(call, errcode));
                assert_eq!(bench.token().as_deref(), Some("T1"), "{errcode}");
                let left = bench.now.at.until(expires).as_secs();
                assert_eq!(bench.left(), left);
                assert_eq!(bench.schedule.state(bench.now.at), State::Degraded);
            }
            bench.pass_until(expires);
            assert_eq!(bench.token(), None, "and none outlives its true expiry");
            assert_eq!(bench.schedule.state(bench.now.at), State::Expired);
        }
    }
}

#[test]
fn a_transient_failure_is_tried_again_sooner_when_little_is_left() {
    for (left, longest) in [(3600, 60.0), (301, 60.0), (299, 10.0), (0, 10.0)] {
        let mut most = 0.0_f64;
        for seed in 0..40 {
            let mut bench = ScheduleBench::seeded(account(CLASSIC), seed);
            bench.call(Call::Token, granted("T1", 7200));
            bench.pass(secs(7200 - left));
            // Eight failures at once: from now on it doubles no more.
            for _ in 0..8 {
                let sent = bench.now.at;
                bench
                    .schedule
                    .on_answer(&bench.now, sent, Call::Token, unreachable());
            }
            let wait = bench.wait().as_secs_f64();
            assert!(wait <= longest, "{left} s left: {wait} s");
            most = most.max(wait);
        }
        assert!(most > longest * 0.8, "{left} s left: {most} s at most");
    }
}

#[test]
fn a_success_ends_the_trouble_and_says_so() {
    let mut bench = ScheduleBench::granted(account(STABLE));
    for times in 1..=3 {
        let (outcome, _) = bench.later(Call::Token, refused(Call::Token, -1));
        assert!(matches!(outcome, Outcome::Failed { times: t, .. } if t == times));
    }
    let (outcome, _) = bench.later(Call::Token, refused(Call::Token, 40164));
    assert!(matches!(outcome, Outcome::Failed { times: 1, .. }));
    let (outcome, _) = bench.later(Call::Token, granted("T1", 6000));
    let Outcome::Granted {
        ended: Some(ended), ..
    } = outcome
    else {
        panic!("{outcome:?}")
    };
    assert_eq!(ended.errcode, Some(40164));
    assert_eq!(bench.schedule.last_error(), None);
    assert_eq!(bench.schedule.state(bench.now.at), State::Fresh);
    let (outcome, _) = bench.later(Call::Token, refused(Call::Token, -1));
    assert!(matches!(outcome, Outcome::Failed { times: 1, .. }));
    assert!(bench.wait() <= secs(1), "the back-off starts anew");
}

#[test]
fn a_spurious_41002_is_asked_once_more_and_then_believed() {
    let mut bench = ScheduleBench::granted(account(STABLE));
    for _ in 0..3 {
        let (outcome, _) = bench.later(Call::Token, refused(Call::Token, 41002));
        assert_eq!(named(&outcome), "unsure");
        assert_eq!(bench.schedule.state(bench.now.at), State::Fresh);
        bench.call(Call::Token, granted("T1", 6000));
    }
    for n in 0..3 {
        let (outcome, _) = bench.later(Call::Token, refused(Call::Token, 41002));
        assert_eq!(named(&outcome), "unsure");
        let (outcome, _) = bench.call(Call::Token, refused(Call::Token, 41002));
        assert_eq!(named(&outcome), "failed");
        let longest = if n == 0 { 5 } else { 300 };
        assert!(bench.wait() <= secs(longest));
    }
}

#[test]
fn the_days_quota_is_probed_each_half_hour_until_midnight() {
    let mut bench = ScheduleBench::new(account(CLASSIC));
    let midnight = bench.now.next_platform_midnight();
    let calls = bench.run(secs(12 * 3600 + 60), |now, call| {
        if now.at < midnight {
            refused(call, 45009)
        } else {
            granted("T1", 7200)
        }
    });
    let (last, _) = calls.last().unwrap();
    assert_eq!(calls.len(), 25, "each half hour from noon");
    assert!(midnight <= last.at && last.at < midnight + secs(31));
    assert_eq!(bench.token().as_deref(), Some("T1"));
}

#[test]
fn a_refusal_for_one_ticket_disturbs_nothing_else() {
    let mut account = account(STABLE);
    account.tickets = Box::new([ValueName::JsapiTicket, ValueName::WxCardTicket]);
    let mut bench = ScheduleBench::granted(account);
    bench.call(JSAPI, refused(JSAPI, 45009));
    bench.call(WX_CARD, granted("C1", 7200));
    assert_eq!(bench.schedule.state(bench.now.at), State::Degraded);
    let error = bench.schedule.last_error().unwrap();
    assert_eq!(error.class, Class::DailyQuota);
    assert!((secs(270)..=secs(300)).contains(&bench.wait()));
    bench.later(Call::Token, granted("T1", 6900));
    assert_eq!(bench.schedule.state(bench.now.at), State::Degraded);
    while bench.sleep() != JSAPI {
        bench.call(bench.sleep_call(), granted("T1", 6900));
    }
    bench.call(JSAPI, granted("J1", 7200));
    assert_eq!(bench.schedule.state(bench.now.at), State::Fresh);
}

impl ScheduleBench {
    fn sleep_call(&self) -> Call {
        match self.next() {
            Step::Call(call) => call,
            Step::Sleep(_) => panic!("it sleeps"),
        }
    }
}

#[test]
fn a_used_up_budget_leaves_a_call_each_ten_minutes_for_an_expired_token() {
    let mut account = account(CLASSIC);
    account.daily_budget = 4;
    let mut bench = ScheduleBench::new(account);
    let mut minted = 0;
    let calls = bench.run(secs(11 * 3600), |_, call| {
        minted += 1;
        match call {
            // As if somebody had only tokens of a minute.
            Call::Token => granted(&format!("T{minted}"), 60),
            _ => panic!("{call:?}"),
        }
    });
    assert!(bench.schedule.is_spent(&bench.now));
    assert_eq!(
        bench.schedule.calls(),
        (u32::try_from(calls.len()).unwrap(), 20_514)
    );
    let (within, beyond) = calls.split_at(4);
    assert!(within[3].0.at < NOON.at + secs(120));
    for pair in beyond.windows(2) {
        assert_eq!(pair[0].0.at.until(pair[1].0.at), secs(600));
    }
    assert!((65..=66).contains(&beyond.len()), "{}", beyond.len());
    bench.run(secs(2 * 3600), |_, _| granted("T", 7200));
    assert!(!bench.schedule.is_spent(&bench.now), "a new day");
}

#[test]
fn a_used_up_budget_asks_for_nothing_while_a_token_stands() {
    let mut account = account(CLASSIC);
    account.daily_budget = 1;
    account.tickets = Box::new([ValueName::JsapiTicket]);
    let mut bench = ScheduleBench::granted(account);
    assert_eq!(bench.wait(), secs(7200));
    assert_eq!(bench.sleep(), Call::Token, "at its expiry");
}

#[test]
fn a_call_that_never_reached_the_platform_is_not_counted_and_delays_no_last_resort() {
    let mut account = account(CLASSIC);
    account.daily_budget = 2;
    let mut bench = ScheduleBench::new(account);
    for _ in 0..20 {
        assert_eq!(bench.sleep(), Call::Token);
        bench.schedule.on_sent(&bench.now, Call::Token);
        bench.schedule.on_unsent();
        let sent = bench.now.at;
        bench
            .schedule
            .on_answer(&bench.now, sent, Call::Token, unreachable());
        assert!(bench.wait() <= secs(10));
    }
    assert_eq!(bench.schedule.calls().0, 0);
    for _ in 0..2 {
        bench.later(Call::Token, refused(Call::Token, 40164));
    }
    assert_eq!(bench.sleep(), Call::Token);
    for _ in 0..5 {
        bench.schedule.on_sent(&bench.now, Call::Token);
        bench.schedule.on_unsent();
        let sent = bench.now.at;
        bench
            .schedule
            .on_answer(&bench.now, sent, Call::Token, unreachable());
        assert!(bench.wait() <= secs(10), "{:?}", bench.wait());
        assert_eq!(bench.sleep(), Call::Token);
    }
}

#[test]
fn long_trouble_leaves_a_tenth_of_the_budget() {
    for (what, errcode) in [(Call::Token, -1), (JSAPI, -1), (JSAPI, 40001)] {
        let mut account = account(CLASSIC);
        account.tickets = Box::new([ValueName::JsapiTicket]);
        let mut bench = ScheduleBench::granted(account);
        bench.call(JSAPI, granted("J1", 7200));
        let mut minted = 1;
        let mut healthy = |call: Call| {
            minted += 1;
            match call {
                Call::Verify => Ok(Answer::Alive),
                _ => granted(&format!("X{minted}"), 7200),
            }
        };
        // From noon to late in the evening.
        let calls = bench.run(secs(10 * 3600), |_, call| {
            if call == what {
                refused(call, errcode)
            } else {
                healthy(call)
            }
        });
        let least = if what == Call::Token { 850 } else { 300 };
        assert!((least..1010).contains(&calls.len()), "{}", calls.len());
        bench.run(secs(601), |_, call| healthy(call));
        assert!(bench.left() > 0, "{what:?}: back within ten minutes");
        // A budget that is used up leaves tickets for the next day.
        let rest = if what == Call::Token { 7200 } else { 1200 };
        bench.run(secs(rest), |_, call| healthy(call));
        assert_eq!(
            bench.schedule.state(bench.now.at),
            State::Fresh,
            "{what:?}: all is well again"
        );
    }
}

#[test]
fn a_ticket_in_trouble_keeps_within_the_quota_of_tickets() {
    let mut account = account(GETTOKEN);
    account.tickets = Box::new([ValueName::AgentTicket]);
    let mut bench = ScheduleBench::granted(account);
    for (hours, least, most) in [(1, 40, 80), (11, 500, 560)] {
        let calls = bench.run(secs(hours * 3600), |_, call| {
            if call == AGENT {
                refused(call, -1)
            } else {
                granted("T1", 7200)
            }
        });
        let of_ticket = calls.iter().filter(|(_, call)| *call == AGENT).count();
        assert!(
            (least..most).contains(&of_ticket),
            "{of_ticket} in {hours} h"
        );
    }
}

#[test]
fn hiccup_near_the_end_is_overcome_though_most_of_the_budget_is_spent() {
    let mut bench = ScheduleBench::granted(account(STABLE));
    for _ in 0..9000 {
        bench.schedule.on_sent(&bench.now, Call::Token);
    }
    assert_eq!(bench.wait(), secs(6900), "no polls are left");
    for _ in 0..6 {
        bench.later(Call::Token, refused(Call::Token, -1));
        assert!(bench.wait() <= secs(10));
    }
    bench.later(Call::Token, granted("T2", 7200));
    assert_eq!(bench.token().as_deref(), Some("T2"));
}

#[test]
fn healing_keeps_its_pace_while_a_tenth_of_the_budget_is_left() {
    // An hour of -1 with an expired token, which spends more than half of the budget.
    let mut bench = ScheduleBench::new(account(CLASSIC));
    let calls = bench.run(secs(3600), |_, call| refused(call, -1));
    assert!((500..900).contains(&calls.len()), "{}", calls.len());
    assert!(bench.wait() <= secs(10));
}

#[test]
fn used_up_budget_leaves_a_doubted_token_its_last_resort() {
    let mut bench = ScheduleBench::granted(account(CLASSIC));
    for _ in 0..1000 {
        bench.schedule.on_sent(&bench.now, Call::Verify);
    }
    let _ = bench.suspect("T1", false);
    bench.pass(secs(600));
    assert_eq!(said(bench.suspect("T1", false)), "later");
    bench.call(Call::Verify, refused(Call::Verify, 40001));
    assert_eq!(
        bench.token(),
        None,
        "withdrawn until another can be afforded"
    );
    assert_eq!(bench.wait(), secs(600));
    bench.later(Call::Token, granted("T2", 7200));
    assert_eq!(bench.token().as_deref(), Some("T2"));
}

#[test]
fn refusal_near_the_end_is_tried_again_before_the_end() {
    // A host behind several addresses: the next call works.
    let mut bench = ScheduleBench::granted(account(STABLE));
    bench.pass(secs(7200 - 121));
    bench.call(Call::Token, refused(Call::Token, 40164));
    assert!(bench.wait() <= secs(5));
    while bench.left() > 10 {
        bench.later(Call::Token, refused(Call::Token, 40164));
    }
    bench.later(Call::Token, granted("T2", 7200));
    assert_eq!(bench.left(), 7200, "before the old one ended");
}

#[test]
fn frequency_limit_is_waited_out_for_longer_each_time() {
    let mut account = account(GETTOKEN);
    account.tickets = Box::new([ValueName::AgentTicket]);
    let mut bench = ScheduleBench::granted(account);
    let too_often = || {
        Err(Refusal {
            class: Class::Frequency,
            errcode: Some(45009),
            ..Refusal::transient("called too often", "wait")
        })
    };
    for minutes in [1, 2, 4, 8, 16, 32] {
        assert_eq!(bench.sleep(), AGENT);
        let (now, sent) = (bench.now, bench.now.at);
        bench.schedule.on_sent(&now, AGENT);
        bench.schedule.on_answer(&now, sent, AGENT, too_often());
        let next = bench.schedule.tickets.slots[0].due;
        assert_eq!(now.at.until(next), secs(60 * minutes));
    }
}

#[test]
fn lost_classic_answer_is_verified_before_the_old_token_can_die() {
    let mut bench = ScheduleBench::granted(account(CLASSIC));
    let lost = {
        assert_eq!(bench.sleep(), Call::Token);
        bench.call(Call::Token, unreachable());
        bench.now.at
    };
    let told = |bench: &ScheduleBench| bench.schedule.standing(bench.now.at).unwrap().expires;
    assert!(told(&bench) <= lost + secs(300));
    bench.later(Call::Token, refused(Call::Token, 45009));
    assert_eq!(bench.sleep(), Call::Verify);
    assert!(bench.now.at < lost + secs(300));
    assert!(told(&bench) <= lost + secs(300));
    // The overlap is not over: asked once more when it is.
    bench.call(Call::Verify, Ok(Answer::Alive));
    assert_eq!(bench.sleep(), Call::Verify);
    let after = (lost + secs(300)).until(bench.now.at);
    assert!(after > Duration::ZERO && after <= secs(2), "{after:?}");
    bench.call(Call::Verify, refused(Call::Verify, 40001));
    assert_eq!(bench.token(), None, "the quota allows no other");
}

#[test]
fn told_end_is_never_later_than_the_daemons_own_fetch_allows() {
    let mut bench = ScheduleBench::granted(account(CLASSIC));
    let told = |bench: &ScheduleBench| bench.schedule.standing(bench.now.at).unwrap().expires;
    let first = told(&bench);
    assert!(bench.now.at.until(first) <= secs(3900));
    assert_eq!(bench.sleep(), Call::Token);
    assert_eq!(first, bench.now.at + secs(300));
    // An outage moves it on, with no storm of rewrites.
    let end = bench.now.at + secs(3500);
    let mut rewrites = 0;
    let mut last = first;
    while bench.now.at < end && bench.token().is_some() {
        bench.run(secs(1), |_, call| refused(call, -1));
        let now = told(&bench);
        assert!(now > bench.now.at && now <= NOON.at + secs(7201));
        rewrites += u32::from(now != last);
        last = now;
    }
    assert!(
        (5..40).contains(&rewrites),
        "{rewrites} rewrites in an hour"
    );
}
