//! The moments when a value that stands is asked for again.

use super::*;

/// A platform with tokens of `life` seconds, of which it hands out a new one in the last `window`.
fn stable_platform(life: u64, window: u64) -> impl FnMut(&Now, Call) -> Answered {
    let mut minted: Option<(u32, Moment)> = None;
    move |now, _| {
        let (number, expires) = match minted {
            Some((number, expires)) if now.at.until(expires) > secs(window) => (number, expires),
            Some((number, _)) => (number + 1, now.at + secs(life)),
            None => (1, now.at + secs(life)),
        };
        minted = Some((number, expires));
        granted(&format!("T{number}"), now.at.until(expires).as_secs())
    }
}

fn shortest_and_longest(mut wait: impl FnMut(u64) -> Duration) -> (f64, f64) {
    let waits = (0..500).map(|seed| wait(seed).as_secs_f64());
    waits.fold((f64::MAX, 0.0), |(least, most), wait| {
        (least.min(wait), most.max(wait))
    })
}

#[test]
fn stable_is_asked_every_poll_less_a_tenth_of_jitter() {
    for (poll, least, most) in [(300, 270.0, 300.0), (60, 54.0, 60.0), (1, 0.9, 1.0)] {
        let (shortest, longest) = shortest_and_longest(|seed| {
            let mut account = account(STABLE);
            account.poll_every = secs(poll);
            let mut bench = ScheduleBench::seeded(account, seed);
            bench.call(Call::Token, granted("T1", 7200));
            bench.wait()
        });
        assert!(least <= shortest && longest <= most, "{shortest} {longest}");
        let tenth = (most - least) / 10.0;
        assert!(shortest < least + tenth && longest > most - tenth);
    }
}

#[test]
fn stable_is_asked_when_the_window_opens_at_the_latest() {
    for (poll, life, wait) in [
        (0, 7200, 6900),
        (3600, 500, 200),
        (DAY * 365, 7200, 6900),
        (u64::MAX, 7200, 6900),
    ] {
        let mut account = account(STABLE);
        account.poll_every = secs(poll);
        let mut bench = ScheduleBench::new(account);
        bench.call(Call::Token, granted("T1", life));
        assert_eq!(bench.wait(), secs(wait), "{poll} {life}");
    }
}

#[test]
fn stable_is_asked_every_eighth_of_what_is_left_in_the_window() {
    for (left, millis) in [
        (300, 20_000),
        (161, 20_000),
        (160, 20_000),
        (80, 10_000),
        (9, 1_125),
        (8, 1_000),
        (1, 1_000),
    ] {
        let mut bench = ScheduleBench::granted(account(STABLE));
        bench.pass(secs(200));
        bench.later(Call::Token, granted("T1", left));
        assert_eq!(bench.wait().as_millis(), millis, "{left} s left");
    }
}

#[test]
fn stable_readers_are_never_without_a_token_however_short_its_life() {
    for (life, window, calls_a_life) in [(7200, 300, 30), (40, 10, 12), (60, 15, 12), (20, 5, 12)] {
        let mut bench = ScheduleBench::new(account(STABLE));
        let mut platform = stable_platform(life, window);
        let first = bench.run(secs(1), &mut platform);
        assert_eq!(first.len(), 1);
        let mut calls = 0;
        for _ in 0..20 * life / 2 {
            calls += bench.run(secs(2), &mut platform).len();
            assert!(bench.left() > 0, "{life} s: nothing stands");
            assert!(
                bench.left() + 1 > window / 2,
                "{life} s: late, {} s left",
                bench.left()
            );
        }
        let rotations = usize::try_from(20 * life / (life - window)).unwrap();
        assert!(calls <= calls_a_life * rotations, "{life} s: {calls} calls");
    }
}

#[test]
fn the_same_value_again_is_a_success_that_updates_the_expiry() {
    // The second answer, and when the value is believed to end, in seconds after the first.
    for (after, life, ends) in [
        (100, 7100, 7200),
        (100, 7101, 7200), // the platform rounds
        (100, 7102, 7200),
        (100, 7103, 7203),
        (100, 7200, 7300),
        (100, 7099, 7199),
        (100, 30, 130),
    ] {
        let mut account = account(STABLE);
        account.poll_every = secs(100);
        let mut bench = ScheduleBench::granted(account);
        bench.pass(secs(after));
        let (outcome, _) = bench.call(Call::Token, granted("T1", life));
        assert_eq!(
            outcome,
            Outcome::Granted {
                name: ValueName::AccessToken,
                changed: false,
                ended: None
            }
        );
        assert_eq!(bench.left() + after, ends, "{life} s after {after} s");
        assert_eq!(bench.schedule.last_success(), Some(bench.now.at));
        let grant = bench.schedule.standing(bench.now.at).unwrap();
        assert_eq!(grant.obtained, NOON.at, "first seen then");
    }
}

#[test]
fn life_counts_from_the_moment_before_the_request() {
    let mut bench = ScheduleBench::new(account(STABLE));
    let sent = bench.now.at;
    bench.schedule.on_sent(&bench.now, Call::Token);
    bench.pass(secs(9));
    bench
        .schedule
        .on_answer(&bench.now, sent, Call::Token, granted("T1", 7200));
    assert_eq!(bench.left(), 7191);
}

#[test]
fn classic_and_wecom_are_replaced_at_their_part_of_life_less_a_twentieth_of_jitter() {
    for method in [CLASSIC, GETTOKEN] {
        for (refresh_at, life, most) in [(0.5, 7200, 3600.0), (0.9, 7200, 6480.0), (0.5, 40, 20.0)]
        {
            let (shortest, longest) = shortest_and_longest(|seed| {
                let mut account = account(method);
                account.refresh_at = refresh_at;
                let mut bench = ScheduleBench::seeded(account, seed);
                bench.call(Call::Token, granted("T1", life));
                bench.wait()
            });
            let least = most * 0.95;
            assert!(least - 0.01 <= shortest && longest <= most + 0.01);
            let tenth = (most - least) / 10.0;
            assert!(shortest < least + tenth && longest > most - tenth);
        }
    }
}

#[test]
fn a_wecom_token_that_stays_the_same_until_it_ends_is_not_asked_for_all_the_time() {
    for refresh_at in [0.01, 0.5, 0.9, 0.99] {
        let mut account = account(GETTOKEN);
        account.refresh_at = refresh_at;
        let mut bench = ScheduleBench::new(account);
        let calls = bench.run(secs(7 * DAY + 100), stable_platform(7200, 0));
        let lives = 7 * 12;
        assert!(
            calls.len() <= 4 * lives,
            "{refresh_at}: {} calls in {lives} lives",
            calls.len()
        );
        assert!(bench.left() > 0);
        let mut gaps = 0;
        let mut platform = stable_platform(7200, 0);
        for _ in 0..7200 {
            bench.run(secs(2), &mut platform);
            gaps += usize::from(bench.left() == 0);
        }
        assert!(gaps < 4, "{refresh_at}: {gaps} gaps");
    }
}

#[test]
fn tickets_follow_the_token_and_are_asked_for_every_half_hour() {
    let (shortest, longest) = shortest_and_longest(|seed| {
        let mut account = account(CLASSIC);
        account.tickets = Box::new([ValueName::JsapiTicket, ValueName::WxCardTicket]);
        let mut bench = ScheduleBench::seeded(account, seed);
        bench.call(Call::Token, granted("T1", 7200));
        bench.call(JSAPI, granted("J1", 7200));
        bench.call(WX_CARD, granted("C1", 7200));
        let wait = bench.wait();
        assert!(matches!(bench.sleep(), Call::Ticket(_)));
        wait
    });
    assert!(1620.0 <= shortest && longest <= 1800.0);
    assert!(shortest < 1635.0 && longest > 1700.0);
}

#[test]
fn dearer_needs_are_served_first_when_calls_get_few() {
    let mut account = account(STABLE);
    account.tickets = Box::new([ValueName::JsapiTicket]);
    let mut bench = ScheduleBench::granted(account);
    bench.call(JSAPI, granted("J1", 7200));
    for _ in 0..8000 {
        bench.schedule.on_sent(&bench.now, Call::Token);
    }
    // Half a day is left: polls go on, a ticket's second look waits.
    let calls = bench.run(secs(3000), |_, _| granted("T1", 4000));
    assert!(calls.iter().all(|(_, call)| *call == Call::Token));
    assert!(calls.len() >= 10, "{}", calls.len());
    for _ in 0..1000 {
        bench.schedule.on_sent(&bench.now, Call::Token);
    }
    bench.later(Call::Token, granted("T1", 4000));
    assert!(
        bench.wait() >= secs(3000),
        "polls wait too: {:?}",
        bench.wait()
    );
}

#[test]
fn a_ticket_is_not_asked_for_without_a_token() {
    let mut account = account(STABLE);
    account.tickets = Box::new([ValueName::JsapiTicket]);
    let mut bench = ScheduleBench::new(account);
    bench.call(Call::Token, refused(Call::Token, 40164));
    assert_eq!(bench.sleep(), Call::Token);
}

#[test]
fn ticket_is_looked_at_some_times_before_its_end_and_once_at_it() {
    let mut account = account(CLASSIC);
    account.refresh_at = 0.9;
    account.tickets = Box::new([ValueName::JsapiTicket]);
    let mut bench = ScheduleBench::granted(account);
    bench.call(JSAPI, granted("J1", 1200));
    assert_eq!(bench.wait(), secs(900), "its window");
    let mut looks = 0;
    let end = bench.now.at + secs(1200);
    while bench.sleep() == JSAPI && bench.now.at < end {
        let left = bench.now.at.until(end).as_secs();
        bench.call(JSAPI, granted("J1", left));
        looks += 1;
    }
    assert!((6..=8).contains(&looks), "{looks}");
    assert_eq!(bench.now.at, end);
    bench.call(JSAPI, granted("J2", 7200));
    assert!(bench.wait() > secs(1600));
}

#[test]
fn a_ticket_in_mid_life_keeps_the_life_that_it_was_first_seen_with() {
    let mut account = account(CLASSIC);
    account.refresh_at = 0.9;
    account.tickets = Box::new([ValueName::JsapiTicket]);
    let mut bench = ScheduleBench::granted(account);
    let name = ValueName::JsapiTicket;
    bench.call(JSAPI, granted("J1", 7200));
    bench.later(JSAPI, granted("J1", 7200));
    let (_, left) = bench.ticket(name);
    assert!((5400..5600).contains(&left), "{left}");
    bench.later(JSAPI, granted("J1", 1000));
    assert_eq!(bench.ticket(name).1, 1000, "less is believed");
    bench.later(JSAPI, granted("J2", 7200));
    assert_eq!(bench.ticket(name), ("J2".into(), 7200), "a new one");
    bench.pass(secs(7200));
    bench.later(Call::Token, granted("T2", 7200));
    bench.call(JSAPI, granted("J2", 7200));
    assert_eq!(
        bench.ticket(name),
        ("J2".into(), 7200),
        "the platform goes on with one that was to end"
    );
}

#[test]
fn a_changed_token_asks_for_new_tickets_of_wecom_only() {
    for (method, ticket) in [(GETTOKEN, AGENT), (CLASSIC, JSAPI)] {
        let Call::Ticket(name) = ticket else { panic!() };
        let mut account = account(method);
        account.refresh_at = 0.2;
        account.tickets = Box::new([name]);
        let mut bench = ScheduleBench::granted(account);
        bench.call(ticket, granted("X1", 7200));
        bench.later(Call::Token, granted("T1", 5700));
        assert!(bench.wait() > secs(60), "the same token");
        while bench.sleep() != Call::Token {
            bench.call(ticket, granted("X1", 7200));
        }
        bench.call(Call::Token, granted("T2", 7200));
        match method {
            GETTOKEN => assert_eq!(bench.next(), Step::Call(ticket)),
            _ => assert!(bench.wait() > secs(1)),
        }
    }
}

#[test]
fn a_token_is_looked_at_as_often_as_configured() {
    let mut account = account(CLASSIC);
    account.verify_every = secs(600);
    let mut bench = ScheduleBench::granted(account.clone());
    for _ in 0..4 {
        assert_eq!(bench.wait(), secs(600));
        let (outcome, verdict) = bench.later(Call::Verify, Ok(Answer::Alive));
        assert_eq!((named(&outcome), said(verdict)), ("alive", "later"));
    }
    bench.pass(secs(600));
    bench.later(Call::Verify, refused(Call::Verify, 40001));
    bench.call(Call::Token, granted("T2", 7200));
    assert_eq!(bench.wait(), secs(600), "a new one is not doubted at once");
    account.verify_every = Duration::ZERO;
    assert!(ScheduleBench::granted(account).wait() > secs(3000));
}

#[test]
fn however_short_the_configured_times_calls_are_a_second_apart() {
    for verify in [false, true] {
        let mut account = account(STABLE);
        let short = Duration::from_millis(1);
        (account.poll_every, account.verify_every) = if verify {
            (secs(300), short)
        } else {
            (short, Duration::ZERO)
        };
        let mut bench = ScheduleBench::new(account);
        let calls = bench.run(secs(60), |_, call| match call {
            Call::Verify => Ok(Answer::Alive),
            _ => granted("T1", 7200),
        });
        assert!((50..=70).contains(&calls.len()), "{}", calls.len());
    }
}
