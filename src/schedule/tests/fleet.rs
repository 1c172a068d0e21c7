//! The part of a host in a fleet: who calls, what is told, and what becomes of an answer that came too late.

use super::*;
use crate::schedule::{Part, Record, StoredGrant};

const CUT: fn(Moment) -> Part = |since| Part::Cut {
    since,
    may_call: true,
};

/// A host that follows what another one shares.
fn follower_of(leader: &ScheduleBench) -> ScheduleBench {
    let mut bench = ScheduleBench::seeded(Account::clone(leader.schedule.account()), 11);
    bench.now = leader.now;
    bench.schedule.set_part(Part::Follows, &bench.now);
    bench.follow(leader.schedule.record());
    bench
}

fn leader(method: &'static Terms) -> ScheduleBench {
    let mut bench = ScheduleBench::granted(account(method));
    bench.schedule.take_over(None, &bench.now);
    bench.schedule.on_shared(&bench.now);
    bench
}

impl ScheduleBench {
    fn follow(&mut self, record: Record) {
        self.schedule.follow(record, &self.now);
    }

    /// The end that apps are told, in seconds from now.
    fn told(&self) -> u64 {
        let grant = self.schedule.standing(self.now.at).expect("a token stands");
        self.now.at.until(grant.expires).as_secs()
    }
}

#[test]
fn follower_publishes_what_the_leader_told_and_makes_no_call() {
    for method in [CLASSIC, STABLE, GETTOKEN] {
        let leader = leader(method);
        let mut follower = follower_of(&leader);
        assert_eq!(follower.token().as_deref(), Some("T1"));
        assert_eq!(follower.told(), leader.told(), "{}", method.method);
        let calls = follower.run(secs(9000), |_, _| granted("T2", 7200));
        assert_eq!(calls, [], "{}", method.method);
        assert_eq!(follower.token(), None, "it ends as told");
    }
}

#[test]
fn takeover_is_not_a_reason_for_a_token_call_before_its_time() {
    let leader = leader(CLASSIC);
    let told = leader.told();
    let mut follower = follower_of(&leader);
    follower.pass(secs(600));
    follower.schedule.take_over(None, &follower.now);
    let mut calls = Vec::new();
    while calls.len() < 2 {
        let call = follower.sleep();
        calls.push((NOON.at.until(follower.now.at).as_secs(), call));
        follower.call(
            call,
            if call == Call::Verify {
                Ok(Answer::Alive)
            } else {
                granted("T2", 7200)
            },
        );
    }
    let [(looked, Call::Verify), (fetched, Call::Token)] = calls[..] else {
        panic!("{calls:?}");
    };
    assert!(
        (600..=840).contains(&looked),
        "within four minutes: {looked}"
    );
    assert!(
        fetched + 300 >= told && fetched <= told,
        "{fetched} of {told}"
    );
}

#[test]
fn young_intent_is_waited_out_unless_the_value_ends() {
    let mut leader = leader(CLASSIC);
    leader.later(Call::Verify, Ok(Answer::Alive));
    assert_eq!(leader.sleep(), Call::Token);
    leader.schedule.on_sent(&leader.now, Call::Token);
    let mut follower = follower_of(&leader);
    assert!(follower.told() <= 300, "the call may end the token");
    let hold = follower.now.at + secs(10);
    follower.schedule.take_over(Some(hold), &follower.now);
    assert_eq!(follower.wait(), secs(10));
    follower.later(Call::Token, granted("T2", 7200));
    assert_eq!(follower.token().as_deref(), Some("T2"));

    let mut other = follower_of(&leader);
    let ends = other.schedule.token.held.as_ref().unwrap().expires();
    other.pass_until(ends - secs(2));
    other
        .schedule
        .take_over(Some(other.now.at + secs(10)), &other.now);
    let allowed = other.schedule.allowed(Call::Token, &other.now);
    assert_eq!(allowed, Some(ends), "it does not wait beyond the end");
}

#[test]
fn orphan_of_the_leader_before_is_adopted_when_it_lives() {
    let mut late = leader(CLASSIC);
    let mut follower = follower_of(&late);
    follower.schedule.take_over(None, &follower.now);
    late.pass(secs(10));
    follower.pass(secs(10));
    late.schedule.on_sent(&late.now, Call::Token);
    let (sent, answer) = (late.now.at, granted("ORPHAN", 7200));
    late.schedule
        .on_answer(&late.now, sent, Call::Token, answer);
    let orphan = late.schedule.record().grants.remove(0);
    follower.schedule.on_orphan(orphan.clone(), &follower.now);
    follower.schedule.on_orphan(orphan, &follower.now);
    follower.call(Call::Verify, Ok(Answer::Alive));
    assert_eq!(follower.token().as_deref(), Some("ORPHAN"));
    follower.schedule.on_shared(&follower.now);
    assert!(follower.told() > 600, "nothing is in doubt any more");
}

#[test]
fn dead_orphan_is_dropped_and_the_token_before_serves_on() {
    let mut late = leader(CLASSIC);
    let mut follower = follower_of(&late);
    follower.schedule.take_over(None, &follower.now);
    for bench in [&mut late, &mut follower] {
        bench.pass(secs(20));
    }
    late.schedule.on_sent(&late.now, Call::Token);
    let sent = late.now.at;
    late.schedule
        .on_answer(&late.now, sent, Call::Token, granted("ORPHAN", 7200));
    let orphan = late.schedule.record().grants.remove(0);
    follower.pass(secs(30));
    follower.schedule.on_orphan(orphan, &follower.now);
    let dead = refused(Call::Verify, 40001);
    let (outcome, _) = follower.call(Call::Verify, dead);
    assert_eq!(named(&outcome), "again");
    assert_eq!(follower.token().as_deref(), Some("T1"));
    follower.call(Call::Verify, Ok(Answer::Alive));
    assert_eq!(follower.token().as_deref(), Some("T1"));
}

/// A call of the leader before that was sent at 10 s, and a token that the new one fetched at 20 s.
fn late_orphan_and_newer_token() -> (ScheduleBench, StoredGrant) {
    let mut late = leader(CLASSIC);
    let mut new = follower_of(&late);
    new.schedule.take_over(None, &new.now);
    late.pass(secs(10));
    late.schedule.on_sent(&late.now, Call::Token);
    let sent = late.now.at;
    late.schedule
        .on_answer(&late.now, sent, Call::Token, granted("ORPHAN", 7200));
    new.pass(secs(20));
    new.schedule.token.due = new.now.at;
    new.call(Call::Token, granted("T2", 7200));
    new.pass(secs(30));
    (new, late.schedule.record().grants.remove(0))
}

#[test]
fn orphan_of_an_earlier_call_serves_when_the_newer_token_turns_out_dead() {
    let (mut new, orphan) = late_orphan_and_newer_token();
    new.schedule.on_orphan(orphan, &new.now);
    assert_eq!(new.token().as_deref(), Some("T2"), "its own is newer");
    new.call(Call::Verify, refused(Call::Verify, 40001));
    assert_eq!(new.token().as_deref(), Some("ORPHAN"));
    new.call(Call::Verify, Ok(Answer::Alive));
    assert_eq!(new.token().as_deref(), Some("ORPHAN"));
}

#[test]
fn newer_token_that_came_back_from_the_engine_is_not_given_up_for_an_older_orphan() {
    let (mut new, orphan) = late_orphan_and_newer_token();
    let record = new.schedule.record();
    new.schedule.begin_term(Some(record), None, &new.now);
    new.schedule.on_orphan(orphan, &new.now);
    assert_eq!(new.token().as_deref(), Some("T2"));
}

#[test]
fn adopted_orphan_is_looked_at_again_when_a_question_brings_no_answer() {
    let mut late = leader(CLASSIC);
    let mut new = follower_of(&late);
    new.schedule.take_over(None, &new.now);
    late.pass(secs(10));
    new.pass(secs(10));
    late.schedule.on_sent(&late.now, Call::Token);
    let sent = late.now.at;
    late.schedule
        .on_answer(&late.now, sent, Call::Token, granted("ORPHAN", 7200));
    new.schedule
        .on_orphan(late.schedule.record().grants.remove(0), &new.now);
    new.call(Call::Verify, unreachable());
    assert_eq!(new.sleep(), Call::Verify);
    assert!(new.told() > 0, "before it has to be taken away");
}

#[test]
fn host_that_restarts_tells_no_later_end_than_it_told_before() {
    let leader = leader(CLASSIC);
    let mut follower = follower_of(&leader);
    let told = follower.told();
    follower.pass(secs(3500));
    let account = follower.schedule.account().clone();
    let record = follower.schedule.record();
    let rng = fastrand::Rng::with_seed(3);
    follower.schedule = Schedule::restored(account, record, &follower.now, rng, Part::Follows);
    assert_eq!(follower.told() + 3500, told);
}

#[test]
fn call_that_was_never_made_is_counted_by_no_host() {
    let mut leader = leader(STABLE);
    let before = leader.schedule.calls().0;
    leader.schedule.on_sent(&leader.now, Call::Token);
    let mut follower = follower_of(&leader);
    assert_eq!(follower.schedule.calls().0, before + 1);
    leader.schedule.on_not_called();
    follower.follow(leader.schedule.record());
    assert_eq!(follower.schedule.calls().0, before);
}

#[test]
fn calls_of_a_host_that_was_cut_off_are_counted_when_it_leads() {
    let mut leader = leader(STABLE);
    let mut other = follower_of(&leader);
    let before = leader.schedule.calls().0;
    other.schedule.set_part(CUT(other.now.at), &other.now);
    other.schedule.on_sent(&other.now, Call::Token);
    leader.schedule.on_sent(&leader.now, Call::Token);
    other.follow(leader.schedule.record());
    assert_eq!(other.schedule.calls().0, before + 2);
    other
        .schedule
        .begin_term(Some(leader.schedule.record()), None, &other.now);
    let record = other.schedule.record_to_share(&other.now);
    leader.follow(record.clone());
    other.follow(record);
    assert_eq!(leader.schedule.calls().0, before + 2);
    assert_eq!(other.schedule.calls().0, before + 2, "once");
}

#[test]
fn cut_off_host_fetches_nothing_under_classic() {
    let mut host = leader(CLASSIC);
    host.schedule.set_part(CUT(host.now.at), &host.now);
    let calls = host.run(secs(9000), |_, _| granted("T2", 7200));
    assert_eq!(calls, []);
    assert_eq!(host.token(), None);
}

#[test]
fn cut_off_host_tells_no_longer_life_than_another_leader_may_leave() {
    let mut host = leader(CLASSIC);
    host.later(Call::Verify, Ok(Answer::Alive));
    let call = host.sleep();
    host.call(call, granted("T2", 7200));
    assert_eq!(host.told(), 300, "nobody else knows of it");
    host.pass(secs(1));
    host.schedule.set_part(CUT(host.now.at), &host.now);
    assert_eq!(host.told(), 299, "and nobody will");
    host.schedule.on_shared(&host.now);
    host.schedule.set_part(Part::Leads, &host.now);
    assert!(host.told() > 3000, "the others know it");
}

#[test]
fn cut_off_host_fetches_for_itself_what_ends_no_token_and_only_in_need() {
    for (method, near) in [(STABLE, 150), (GETTOKEN, 0)] {
        let mut host = follower_of(&leader(method));
        host.schedule.set_part(CUT(host.now.at), &host.now);
        let call = host.sleep();
        assert_eq!(call, Call::Token, "{}", method.method);
        assert!(
            host.left() <= near.max(150),
            "{}: {} s left",
            method.method,
            host.left()
        );
        let mut empty = ScheduleBench::new(account(method));
        empty.schedule.set_part(CUT(empty.now.at), &empty.now);
        assert_eq!(empty.wait(), secs(3), "the engine may be back in a moment");
        let follows_only = Part::Cut {
            since: empty.now.at,
            may_call: false,
        };
        empty.schedule.set_part(follows_only, &empty.now);
        assert_eq!(empty.run(secs(600), |_, _| granted("T", 7200)), []);
    }
}

#[test]
fn own_trouble_keeps_its_pace_over_the_record_of_others() {
    let mut host = leader(STABLE);
    let record = host.schedule.record();
    host.pass(secs(300));
    host.call(Call::Token, unreachable());
    host.later(Call::Token, unreachable());
    let due = host.schedule.token.due;
    host.follow(record.clone());
    assert_eq!(host.schedule.token.due, due);
    let mut healed = follower_of(&host);
    healed.schedule.take_over(None, &healed.now);
    let call = healed.sleep();
    healed.call(call, granted("T1", 6000));
    host.follow(healed.schedule.record());
    assert_eq!(
        host.schedule.last_error(),
        None,
        "another host reached the platform"
    );
}
