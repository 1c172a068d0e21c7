//! A token that somebody doubts: who asks, and what an answer changes.

use super::*;
use crate::snapshot::State;

const ALIVE: Answered = Ok(Answer::Alive);

fn dead() -> Answered {
    refused(Call::Verify, 40001)
}

/// An account whose token `T1` is no longer young.
fn settled(method: &'static Terms, change: impl FnOnce(&mut Account)) -> ScheduleBench {
    let mut account = account(method);
    change(&mut account);
    let mut bench = ScheduleBench::granted(account);
    bench.pass(secs(60));
    bench
}

fn as_configured(_: &mut Account) {}

#[test]
fn a_token_that_was_replaced_already_is_superseded_without_a_call() {
    let mut bench = settled(CLASSIC, as_configured);
    for _ in 0..100 {
        assert_eq!(said(bench.suspect("T0", false)), "superseded");
    }
    assert!(bench.wait() > secs(3000));
    assert_eq!(said(bench.suspect("T1", false)), "later");
    assert_eq!(
        said(bench.suspect("T0", false)),
        "superseded",
        "whatever else is asked"
    );
}

#[test]
fn a_token_that_lives_is_still_valid() {
    for method in [STABLE, CLASSIC, GETTOKEN] {
        let mut bench = settled(method, as_configured);
        assert_eq!(said(bench.suspect("T1", false)), "later");
        let (outcome, verdict) = bench.call(Call::Verify, ALIVE);
        assert_eq!((named(&outcome), said(verdict)), ("alive", "still_valid"));
        assert!(bench.wait() > secs(200), "nothing else is called");
        assert_eq!(bench.schedule.state(bench.now.at), State::Fresh);
    }
}

#[test]
fn a_dead_token_is_replaced() {
    for method in [STABLE, CLASSIC, GETTOKEN] {
        for errcode in [40001, 40014, 42001] {
            let mut bench = settled(method, as_configured);
            assert_eq!(said(bench.suspect("T1", false)), "later");
            let (outcome, verdict) = bench.call(Call::Verify, refused(Call::Verify, errcode));
            let somebody_else = method == CLASSIC && errcode == 40001;
            let name = if somebody_else { "foreign" } else { "dead" };
            assert_eq!(
                (named(&outcome), said(verdict)),
                (name, "later"),
                "{method:?} {errcode}"
            );
            let (outcome, verdict) = bench.call(Call::Token, granted("T2", 7200));
            assert_eq!((named(&outcome), said(verdict)), ("granted", "refreshed"));
            assert_eq!(bench.token().as_deref(), Some("T2"));
            assert_eq!(said(bench.suspect("T1", false)), "superseded");
        }
    }
}

#[test]
fn a_classic_token_dead_near_its_end_is_nobody_elses_doing() {
    for (age, name) in [(6400, "foreign"), (6900, "dead")] {
        let mut bench = settled(CLASSIC, |account| account.refresh_at = 0.999);
        bench.pass(secs(age - 60));
        bench.suspect("T1", false);
        let (outcome, _) = bench.call(Call::Verify, dead());
        assert_eq!(named(&outcome), name, "at {age} s");
    }
}

#[test]
fn a_classic_token_that_a_lost_answer_may_have_replaced_is_nobody_elses_doing() {
    let mut bench = settled(CLASSIC, as_configured);
    bench.later(Call::Token, unreachable());
    bench.suspect("T1", false);
    let (outcome, _) = bench.call(Call::Verify, dead());
    assert_eq!(named(&outcome), "dead");
}

#[test]
fn all_who_ask_together_cost_one_question() {
    let mut bench = settled(CLASSIC, as_configured);
    for _ in 0..20 {
        assert_eq!(said(bench.suspect("T1", false)), "later");
    }
    bench.call(Call::Verify, dead());
    for _ in 0..20 {
        assert_eq!(said(bench.suspect("T1", false)), "later", "joins the fetch");
    }
    let (_, verdict) = bench.call(Call::Token, granted("T2", 7200));
    assert_eq!(said(verdict), "refreshed");
    assert!(bench.wait() > secs(60));
}

#[test]
fn a_token_is_looked_at_once_per_half_minute() {
    for admin in [false, true] {
        let mut bench = settled(STABLE, as_configured);
        bench.suspect("T1", admin);
        bench.call(Call::Verify, ALIVE);
        for age in [0, 1, 29] {
            let mut bench = ScheduleBench {
                schedule: Schedule::restore(
                    bench.schedule.account().clone(),
                    bench.schedule.record(),
                    &bench.now,
                    fastrand::Rng::with_seed(1),
                ),
                ..bench
            };
            bench.suspect("T1", admin);
            bench.call(Call::Verify, ALIVE);
            let looked = bench.now.at;
            bench.pass(secs(age));
            match bench.suspect("T1", admin) {
                Some(Verdict::Verified(at)) => assert_eq!(at, looked, "that look's verdict"),
                verdict => panic!("{verdict:?}"),
            }
        }
        bench.pass(secs(30));
        assert_eq!(said(bench.suspect("T1", admin)), "later");
    }
}

#[test]
fn a_young_token_is_asked_about_once_more_before_it_is_believed_dead() {
    for age in [0, 300, 5000, 9999] {
        for lives in [true, false] {
            let mut bench = ScheduleBench::granted(account(CLASSIC));
            let born = bench.now.at;
            bench.pass(Duration::from_millis(age));
            assert_eq!(said(bench.suspect("T1", false)), "later");
            let (outcome, verdict) = bench.call(Call::Verify, dead());
            assert_eq!((named(&outcome), said(verdict)), ("again", "later"));
            assert_eq!(bench.token().as_deref(), Some("T1"));
            assert_eq!(said(bench.suspect("T1", false)), "later", "it joins");
            let (outcome, verdict) = bench.later(Call::Verify, if lives { ALIVE } else { dead() });
            assert_eq!(bench.now.at, born + secs(10), "when it has settled");
            let expected = if lives {
                ("alive", "still_valid")
            } else {
                ("foreign", "later")
            };
            assert_eq!((named(&outcome), said(verdict)), expected);
        }
    }
    let mut bench = ScheduleBench::granted(account(CLASSIC));
    bench.pass(secs(10));
    bench.suspect("T1", false);
    let (outcome, _) = bench.call(Call::Verify, dead());
    assert_eq!(named(&outcome), "foreign", "settled, and dead");
}

#[test]
fn failed_question_changes_no_belief() {
    for answer in [
        unreachable(),
        refused(Call::Verify, -1),
        refused(Call::Verify, 45009),
        refused(Call::Verify, 40164),
    ] {
        let mut bench = settled(STABLE, as_configured);
        bench.suspect("T1", true);
        let (outcome, verdict) = bench.call(Call::Verify, answer);
        assert_eq!((named(&outcome), said(verdict)), ("unsure", "unavailable"));
        assert_eq!(bench.token().as_deref(), Some("T1"), "it is kept");
        assert_eq!(bench.schedule.state(bench.now.at), State::Fresh);
        assert!(bench.wait() > secs(100));
    }
}

#[test]
fn a_dead_token_is_withdrawn_once_no_other_can_be_had() {
    let mut bench = settled(CLASSIC, as_configured);
    bench.suspect("T1", false);
    bench.call(Call::Verify, dead());
    assert!(
        bench.token().is_some(),
        "better than nothing for the moment"
    );
    let (_, verdict) = bench.call(Call::Token, refused(Call::Token, 40164));
    let Some(Verdict::Unavailable { retry_at, error }) = verdict else {
        panic!("{verdict:?}")
    };
    assert!(bench.now.at.until(retry_at) <= secs(5), "a first failure");
    assert_eq!(error.unwrap().errcode, Some(40164));
    assert_eq!(bench.token(), None);
    assert!(bench.schedule.grants().is_empty());
    assert_eq!(bench.schedule.state(bench.now.at), State::Expired);
    bench.later(Call::Token, granted("T2", 7200));
    assert_eq!(bench.token().as_deref(), Some("T2"));
}

#[test]
fn dead_again_under_stable_is_forced_for_administrators_or_as_configured() {
    for (admin, force_on_dead, forces) in [
        (false, false, false),
        (true, false, true),
        (false, true, true),
        (true, true, true),
    ] {
        let mut bench = settled(STABLE, |account| {
            account.force_on_dead = force_on_dead;
        });
        bench.suspect("T1", admin);
        bench.call(Call::Verify, dead());
        let (outcome, verdict) = bench.call(Call::Token, granted("T1", 7000));
        if forces {
            assert_eq!((named(&outcome), said(verdict)), ("again", "later"));
            let (_, verdict) = bench.call(Call::ForceToken, granted("T2", 7200));
            assert_eq!(said(verdict), "refreshed");
            assert_eq!(bench.token().as_deref(), Some("T2"));
        } else {
            assert_eq!((named(&outcome), said(verdict)), ("failed", "unavailable"));
            assert_eq!(bench.token(), None, "the platform says that it is dead");
            assert_eq!(bench.wait(), secs(300));
            let error = bench.schedule.last_error().unwrap();
            assert!(error.hint.contains("wxtokend refresh shop"));
        }
    }
}

#[test]
fn an_administrator_who_joins_brings_the_right_to_force() {
    for late in [false, true] {
        let mut bench = settled(STABLE, as_configured);
        bench.suspect("T1", false);
        if !late {
            bench.suspect("T1", true);
        }
        bench.call(Call::Verify, dead());
        if late {
            bench.suspect("T1", true);
        }
        bench.call(Call::Token, granted("T1", 7000));
        let (_, verdict) = bench.call(Call::ForceToken, granted("T2", 7200));
        assert_eq!(said(verdict), "refreshed");
    }
}

#[test]
fn nothing_else_is_ever_forced() {
    for method in [CLASSIC, GETTOKEN] {
        let mut bench = settled(method, |account| account.force_on_dead = true);
        bench.suspect("T1", true);
        bench.call(Call::Verify, dead());
        let (outcome, _) = bench.call(Call::Token, granted("T1", 7000));
        assert_eq!(named(&outcome), "failed");
        let hint = &bench.schedule.last_error().unwrap().hint;
        assert!(
            !hint.contains("force"),
            "{method:?}: no hint at what cannot be done: {hint}"
        );
    }
}

#[test]
fn at_most_ten_a_day_are_forced_half_a_minute_apart() {
    let mut bench = settled(STABLE, |account| account.force_on_dead = true);
    let mut forced = Vec::new();
    let mut serial = 1;
    let midnight = bench.now.next_platform_midnight();
    // Each token is dead soon after it was forced, and apps report it all the time.
    while bench.now.at + secs(60) < midnight {
        let token = format!("T{serial}");
        let _ = bench.suspect(&token, true);
        let calls = bench.run(secs(10), |_, call| match call {
            Call::Verify => dead(),
            Call::ForceToken => {
                serial += 1;
                granted(&format!("T{serial}"), 7200)
            }
            _ => granted(&format!("T{serial}"), 7000),
        });
        let at = |(now, call): &(Now, Call)| (*call == Call::ForceToken).then_some(now.at);
        forced.extend(calls.iter().filter_map(at));
    }
    assert_eq!(forced.len(), 10);
    for pair in forced.windows(2) {
        assert!(pair[0].until(pair[1]) >= secs(30));
    }
}

#[test]
fn a_forced_token_that_is_due_keeps_its_turn() {
    let mut bench = settled(STABLE, |account| account.force_on_dead = true);
    let looked = bench.now.at;
    bench.suspect("T1", false);
    bench.pass(secs(12));
    bench.call(Call::Verify, dead());
    bench.call(Call::Token, granted("T1", 7000));
    bench.call(Call::ForceToken, granted("T2", 7200));
    bench.pass_until(looked + secs(30));
    assert_eq!(said(bench.suspect("T2", false)), "later");
    bench.call(Call::Verify, dead());
    bench.call(Call::Token, granted("T2", 40));
    assert_eq!(
        bench.token(),
        None,
        "it is dead, and no other can be had yet"
    );
    // 30 s after the first one; until then the schedule asks too, as so near the end it does.
    let mut asked = 0;
    while bench.sleep() == Call::Token {
        asked += 1;
        let (_, verdict) = bench.call(Call::Token, granted("T2", 40));
        assert_eq!(said(verdict), "later");
    }
    assert!(asked > 0);
    let (_, verdict) = bench.call(Call::ForceToken, granted("T3", 7200));
    assert_eq!(said(verdict), "refreshed");
}

#[test]
fn a_forced_refresh_that_changes_nothing_is_not_repeated() {
    let mut bench = settled(STABLE, as_configured);
    bench.suspect("T1", true);
    bench.call(Call::Verify, dead());
    bench.call(Call::Token, granted("T1", 7000));
    let (outcome, verdict) = bench.call(Call::ForceToken, granted("T1", 7000));
    assert_eq!((named(&outcome), said(verdict)), ("failed", "unavailable"));
    assert_eq!(bench.wait(), secs(300));
}

#[test]
fn a_withdrawn_token_comes_back_when_the_platform_changes_its_mind() {
    let mut account = account(STABLE);
    account.poll_every = Duration::ZERO;
    let mut bench = ScheduleBench::granted(account);
    bench.pass(secs(60));
    bench.suspect("T1", false);
    bench.call(Call::Verify, dead());
    bench.call(Call::Token, granted("T1", 7000));
    for answer in [dead(), refused(Call::Verify, -1), unreachable()] {
        let is_dead = answer == dead();
        bench.later(Call::Verify, answer);
        if is_dead {
            bench.call(Call::Token, granted("T1", 6700));
        }
        assert_eq!(bench.token(), None);
        assert!(bench.schedule.last_error().is_some(), "and it says why");
        assert!(bench.wait() <= secs(300), "{:?}", bench.wait());
    }
    bench.later(Call::Verify, ALIVE);
    assert_eq!(bench.token().as_deref(), Some("T1"));
    assert_eq!(bench.schedule.state(bench.now.at), State::Fresh);
}

#[test]
fn a_new_token_after_a_dead_one_ends_all_trouble() {
    let mut bench = settled(STABLE, as_configured);
    bench.suspect("T1", false);
    bench.call(Call::Verify, dead());
    bench.call(Call::Token, granted("T1", 7000));
    assert_eq!(bench.wait(), secs(300));
    bench.later(Call::Verify, dead());
    bench.call(Call::Token, granted("T2", 7200));
    assert_eq!(bench.schedule.state(bench.now.at), State::Fresh);
    assert!(bench.wait() >= secs(270));
}

#[test]
fn a_ticket_refused_for_its_token_makes_the_token_suspicious() {
    let mut account = account(CLASSIC);
    account.tickets = Box::new([ValueName::JsapiTicket]);
    let mut bench = ScheduleBench::granted(account);
    bench.call(JSAPI, granted("J1", 1000));
    bench.later(JSAPI, refused(JSAPI, 40001));
    bench.call(Call::Verify, dead());
    bench.call(Call::Token, granted("T2", 7200));
    bench.later(JSAPI, granted("J2", 7200));
    assert_eq!(bench.schedule.state(bench.now.at), State::Fresh);
}

#[test]
fn without_a_token_an_app_waits_for_the_next_try_and_an_administrator_causes_it() {
    for (errcode, app, admin) in [
        (40164, "unavailable", "later"),
        (-1, "unavailable", "later"),
        (45009, "unavailable", "later"),
        (89507, "unavailable", "later"),
    ] {
        let mut bench = ScheduleBench::new(account(CLASSIC));
        bench.call(Call::Token, refused(Call::Token, errcode));
        let due = bench.now.at + bench.wait();
        let verdict = bench.suspect("T0", false);
        if let Some(Verdict::Unavailable { retry_at, error }) = &verdict {
            assert_eq!(*retry_at, due);
            assert_eq!(error.as_ref().unwrap().errcode, Some(errcode));
        }
        assert_eq!(said(verdict), app, "{errcode}");
        assert_eq!(
            said(bench.schedule.suspect(&bench.now, None, true)),
            admin,
            "{errcode}"
        );
        if admin == "later" {
            let looked = bench.now.at;
            bench.call(Call::Token, refused(Call::Token, errcode));
            let due = bench.now.at + bench.wait();
            match bench.schedule.suspect(&bench.now, None, true) {
                Some(Verdict::Unavailable { retry_at, .. }) => {
                    assert_eq!(retry_at, due.min(looked + secs(30)), "{errcode}");
                }
                verdict => panic!("{errcode}: {verdict:?}"),
            }
        }
    }
}

#[test]
fn an_administrators_doubt_also_ends_the_wait_of_what_failed() {
    let mut bench = settled(STABLE, as_configured);
    bench.later(Call::Token, refused(Call::Token, 40164));
    bench.later(Call::Token, refused(Call::Token, 40164));
    bench.pass(secs(30));
    // The whitelist was mended; `refresh` is how one finds out.
    assert_eq!(said(bench.suspect("T1", false)), "later");
    bench.call(Call::Verify, ALIVE);
    assert!(bench.wait() > secs(200), "an app changes nothing");
    bench.pass(secs(30));
    let verdict = bench.schedule.suspect(&bench.now, None, true);
    assert_eq!(said(verdict), "later");
    bench.call(Call::Verify, ALIVE);
    bench.call(Call::Token, granted("T1", 6000));
    assert_eq!(bench.schedule.state(bench.now.at), State::Fresh);
}

#[test]
fn a_dead_token_is_asked_for_as_soon_as_the_budget_allows() {
    let mut account = account(CLASSIC);
    account.daily_budget = 3;
    let mut bench = ScheduleBench::granted(account);
    bench.pass(secs(60));
    bench.schedule.on_sent(&bench.now, Call::Verify);
    bench.pass(secs(600));
    assert_eq!(said(bench.suspect("T1", true)), "later");
    let (outcome, verdict) = bench.call(Call::Verify, dead());
    assert_eq!((named(&outcome), said(verdict)), ("foreign", "unavailable"));
    assert_eq!(bench.wait(), secs(600), "the last resort");
    bench.later(Call::Token, granted("T2", 7200));
    assert_eq!(bench.token().as_deref(), Some("T2"));
    assert_eq!(said(bench.suspect("T2", true)), "verified");
    bench.pass(secs(600));
    assert_eq!(said(bench.suspect("T2", true)), "later");
    bench.call(Call::Verify, ALIVE);
}

#[test]
fn nobody_waits_for_a_question_that_cannot_be_afforded() {
    let mut account = account(STABLE);
    account.daily_budget = 2;
    let mut bench = ScheduleBench::granted(account);
    assert_eq!(said(bench.suspect("T1", true)), "later");
    let (_, verdict) = bench.call(Call::Verify, dead());
    assert_eq!(said(verdict), "unavailable", "young: to be asked again");
    assert_eq!(bench.sleep(), Call::Verify, "by the last resort");
    assert_eq!(NOON.at.until(bench.now.at), secs(600));
}

#[test]
fn no_app_can_use_up_the_calls_that_an_account_needs() {
    for method in [STABLE, CLASSIC, GETTOKEN] {
        let mut bench = settled(method, |account| account.daily_budget = 1000);
        let mut minted = 1;
        let mut now = bench.now;
        // A day and a half of an app that reports the token each second and wants a longer life.
        for second in 0..36 * 3600 {
            if let Some(token) = bench.token() {
                let _ = bench.suspect(&token, false);
            }
            if second % 7 == 0 {
                let until = bench.now.at + secs(7100);
                let _ = bench
                    .schedule
                    .wish(&bench.now, ValueName::AccessToken, until);
            }
            bench.run(secs(1), |_, call| {
                minted += 1;
                match call {
                    Call::Verify => ALIVE,
                    _ => granted(&format!("T{minted}"), 7200),
                }
            });
            assert!(bench.left() > 0, "{method:?}: nothing stands");
            if bench.now.platform_day() != now.platform_day() || second + 1 == 36 * 3600 {
                let calls = now;
                assert!(
                    !bench.schedule.is_spent(&calls),
                    "{method:?}: the budget of a day is used up"
                );
            }
            now = bench.now;
            if now.at.until(now.next_platform_midnight()) < secs(2) {
                let (calls, _) = bench.schedule.calls();
                assert!(calls < 950, "{method:?}: {calls} calls in a day");
            }
        }
    }
}

#[test]
fn a_wish_that_stands_is_met_without_a_call() {
    let mut bench = settled(CLASSIC, as_configured);
    let until = bench.now.at + secs(3600);
    let verdict = bench
        .schedule
        .wish(&bench.now, ValueName::AccessToken, until);
    assert_eq!(said(verdict), "still_valid");
    assert!(bench.wait() > secs(3000));
}

#[test]
fn a_wish_for_more_life_causes_a_call_now_and_then() {
    let mut bench = settled(STABLE, |account| account.poll_every = Duration::ZERO);
    bench.pass(secs(1000));
    let wish = |bench: &mut ScheduleBench, seconds| {
        let until = bench.now.at + secs(seconds);
        bench
            .schedule
            .wish(&bench.now, ValueName::AccessToken, until)
    };
    assert_eq!(
        said(wish(&mut bench, 7201)),
        "unavailable",
        "no token lives so long"
    );
    assert_eq!(said(wish(&mut bench, 7000)), "later");
    bench.call(Call::Token, granted("T2", 7200));
    for _ in 0..9 {
        bench.pass(secs(30));
        match wish(&mut bench, 7190) {
            Some(Verdict::Unavailable { retry_at, error }) => {
                assert!(retry_at > bench.now.at && error.is_none());
            }
            verdict => panic!("{verdict:?}"),
        }
    }
    bench.pass(secs(30));
    assert_eq!(said(wish(&mut bench, 7190)), "later", "after five minutes");
}

#[test]
fn wish_breaks_no_promise_that_apps_were_told() {
    let mut bench = settled(CLASSIC, as_configured);
    let told = bench.schedule.standing(bench.now.at).unwrap().expires;
    let until = bench.now.at + secs(7000);
    let wish = bench
        .schedule
        .wish(&bench.now, ValueName::AccessToken, until);
    match wish {
        Some(Verdict::Unavailable { retry_at, .. }) => assert_eq!(retry_at, told - secs(300)),
        verdict => panic!("a fetch now would end the token before its told end: {verdict:?}"),
    }
}

#[test]
fn a_wish_is_refused_at_once_where_no_call_will_come() {
    let name = ValueName::JsapiTicket;
    let wish = |bench: &mut ScheduleBench, name| {
        let until = bench.now.at + secs(600);
        said(bench.schedule.wish(&bench.now, name, until))
    };
    let with_ticket = |change: fn(&mut Account)| {
        let mut account = account(CLASSIC);
        account.tickets = Box::new([ValueName::JsapiTicket]);
        change(&mut account);
        ScheduleBench::new(account)
    };
    let mut bench = with_ticket(as_configured);
    assert_eq!(
        wish(&mut bench, ValueName::AgentTicket),
        "unavailable",
        "not kept here"
    );
    bench.call(Call::Token, refused(Call::Token, 40164));
    assert_eq!(
        wish(&mut bench, name),
        "unavailable",
        "no token to ask with"
    );

    let mut bench = with_ticket(as_configured);
    bench.call(Call::Token, granted("T1", 7200));
    bench.call(JSAPI, refused(JSAPI, 45009));
    assert_eq!(
        wish(&mut bench, name),
        "unavailable",
        "the quota is used up"
    );

    let mut bench = with_ticket(|account| account.daily_budget = 2);
    bench.call(Call::Token, granted("T1", 60));
    bench.call(JSAPI, granted("J1", 7200));
    bench.pass(secs(40));
    assert_eq!(
        wish(&mut bench, ValueName::AccessToken),
        "unavailable",
        "due, but the budget is used up"
    );

    let mut bench = with_ticket(as_configured);
    bench.call(Call::Token, refused(Call::Token, 89507));
    assert_eq!(wish(&mut bench, ValueName::AccessToken), "unavailable");

    let mut bench = settled(CLASSIC, as_configured);
    bench.suspect("T1", false);
    bench.call(Call::Verify, dead());
    bench.call(Call::Token, refused(Call::Token, 89507));
    assert_eq!(
        wish(&mut bench, ValueName::AccessToken),
        "unavailable",
        "a withdrawn token meets no wish"
    );
}

#[test]
fn a_changed_configuration_leaves_nobody_waiting() {
    let mut bench = settled(STABLE, as_configured);
    bench.suspect("T1", false);
    bench.call(Call::Verify, dead());
    let mut account = account(STABLE);
    account.poll_every = secs(600);
    bench.schedule.reconfigure(Arc::new(account), &bench.now);
    let (_, verdict) = bench.call(Call::Token, granted("T2", 7200));
    assert_eq!(said(verdict), "refreshed");
}

#[test]
fn tickets_that_a_dead_token_refuses_leave_a_call_for_the_question_whether_it_lives() {
    let mut bench = settled(GETTOKEN, |account| {
        account.tickets = Box::new([ValueName::JsapiTicket]);
        account.daily_budget = 100;
    });
    // It is dead, and few calls are left.
    bench.schedule.on_sent_again(&bench.now.clone(), 70);
    let calls = bench.run(secs(900), |_, call| match call {
        Call::Verify | Call::Ticket(_) => refused(Call::Verify, 40001),
        call => refused(call, -1),
    });
    let verify = calls.iter().position(|(_, call)| *call == Call::Verify);
    let verify = verify.expect("the platform is asked whether the token lives");
    assert!(verify <= 3, "tickets go first: {calls:?}");
    assert_eq!(bench.token(), None, "it is called dead");
}
