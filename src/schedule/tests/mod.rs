//! The policy, tried rule by rule without clock or network.

mod doubt;
mod failures;
mod fleet;
mod renewal;
mod restart;
mod storms;

use super::{Belief, Outcome, Schedule, Step};
use crate::account::{Account, AccountName, SecretSource};
use crate::call::Call;
use crate::call::{Answer, Refusal};
use crate::platform::Ask;
use crate::platform::answer::interpret;
use crate::platform::wechat::{CLASSIC, STABLE, WECHAT};
use crate::platform::wecom::GETTOKEN;
use crate::snapshot::Verdict;
use crate::terms::Terms;
use crate::time::{Moment, Now};
use crate::value::{Value, ValueName};
use std::sync::Arc;
use std::time::Duration;

type Answered = Result<Answer, Refusal>;

const JSAPI: Call = Call::Ticket(ValueName::JsapiTicket);
const WX_CARD: Call = Call::Ticket(ValueName::WxCardTicket);
const AGENT: Call = Call::Ticket(ValueName::AgentTicket);
const DAY: u64 = 86_400;

/// 10 s after noon in UTC+8, 3 s after the host booted.
const NOON: Now = Now {
    at: Moment::from_millis(3_000),
    unix_millis: 1_772_424_010_000,
};

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn account(method: &'static Terms) -> Account {
    let id = if method.shares_id {
        "ww0123456789abcdef"
    } else {
        "wx0123456789abcdef"
    };
    Account {
        secret: SecretSource::File("/secret".into()),
        ..Account::usual(AccountName::parse("shop").unwrap(), id, method)
    }
}

fn value(text: &str) -> Value {
    Value::parse(text).unwrap()
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "as the platform's answers are passed on"
)]
fn granted(text: &str, life: u64) -> Answered {
    Ok(Answer::Granted(value(text), secs(life)))
}

/// The meaning of the platform's refusal.
fn refused(call: Call, errcode: i64) -> Answered {
    let body = format!(r#"{{"errcode":{errcode},"errmsg":"no rid: 6aac005a-01bfdbee-79769285"}}"#);
    let ask = Ask {
        call,
        path: "",
        terms: STABLE,
        id: "",
        credential: "",
    };
    interpret(WECHAT, &ask, 200, body.as_bytes())
}

fn unreachable() -> Answered {
    Err(Refusal::transient("no answer", "wait"))
}

/// A schedule and the time.
#[derive(Debug)]
struct ScheduleBench {
    schedule: Schedule,
    now: Now,
}

impl ScheduleBench {
    fn new(account: Account) -> Self {
        Self::seeded(account, 7)
    }

    fn seeded(account: Account, seed: u64) -> Self {
        let rng = fastrand::Rng::with_seed(seed);
        Self {
            schedule: Schedule::new(Arc::new(account), &NOON, rng),
            now: NOON,
        }
    }

    /// One whose token `T1` was granted just now, for two hours.
    fn granted(account: Account) -> Self {
        let mut bench = Self::new(account);
        bench.call(Call::Token, granted("T1", 7200));
        bench
    }

    fn pass(&mut self, time: Duration) {
        self.now.at = self.now.at + time;
        self.now.unix_millis += i64::try_from(time.as_millis()).unwrap();
        self.schedule.tell(&self.now);
    }

    fn pass_until(&mut self, moment: Moment) {
        self.pass(self.now.at.until(moment));
    }

    /// Sets the clock of the day, as an administrator or NTP does.
    fn set_clock(&mut self, by_seconds: i64) {
        self.now.unix_millis += by_seconds * 1000;
        self.schedule.on_clock_set(&self.now);
    }

    fn next(&self) -> Step {
        self.schedule.next(&self.now)
    }

    /// The time that it sleeps now.
    #[track_caller]
    fn wait(&self) -> Duration {
        match self.next() {
            Step::Sleep(until) => self.now.at.until(until),
            Step::Call(call) => panic!("it sleeps no more: {call:?}"),
        }
    }

    /// Sleeps until there is something to call, and says what.
    fn sleep(&mut self) -> Call {
        loop {
            match self.next() {
                Step::Call(call) => return call,
                Step::Sleep(until) => {
                    assert!(until > self.now.at, "a sleep ends later");
                    self.pass_until(until);
                }
            }
        }
    }

    /// Makes the call that is due, which has to be this one.
    #[track_caller]
    fn call(&mut self, call: Call, answer: Answered) -> (Outcome, Option<Verdict>) {
        assert_eq!(self.next(), Step::Call(call));
        self.schedule.on_sent(&self.now, call);
        self.schedule
            .on_answer(&self.now, self.now.at, call, answer)
    }

    /// Sleeps until a call is due, which has to be this one, and makes it.
    #[track_caller]
    fn later(&mut self, call: Call, answer: Answered) -> (Outcome, Option<Verdict>) {
        assert_eq!(self.sleep(), call);
        self.call(call, answer)
    }

    /// Lets `time` pass, with a platform that answers after 100 ms. Says when it was called and for what.
    fn run(
        &mut self,
        time: Duration,
        mut platform: impl FnMut(&Now, Call) -> Answered,
    ) -> Vec<(Now, Call)> {
        let end = self.now.at + time;
        let mut calls = Vec::new();
        loop {
            match self.next() {
                Step::Sleep(until) => {
                    let change = self.schedule.next_change(self.now.at);
                    let until = change.map_or(until, |change| change.min(until));
                    if until >= end {
                        break;
                    }
                    self.pass_until(until);
                }
                Step::Call(call) => {
                    let sent = self.now.at;
                    calls.push((self.now, call));
                    self.schedule.on_sent(&self.now, call);
                    let answer = platform(&self.now, call);
                    self.pass(Duration::from_millis(100));
                    self.schedule.on_answer(&self.now, sent, call, answer);
                    assert!(calls.len() < 100_000, "it calls without an end");
                    if self.now.at >= end {
                        return calls;
                    }
                }
            }
        }
        self.pass_until(end);
        calls
    }

    /// Seconds of life that the standing token has left.
    fn left(&self) -> u64 {
        self.schedule
            .token
            .left(self.now.at)
            .map_or(0, |left| left.as_secs())
    }

    /// The token that a reader gets.
    fn token(&self) -> Option<String> {
        let grant = self.schedule.standing(self.now.at)?;
        Some(grant.value.expose().to_owned())
    }

    /// A ticket and the seconds that it has left.
    fn ticket(&self, name: ValueName) -> (String, u64) {
        let grants = self.schedule.grants();
        let (_, grant) = grants.iter().find(|(of, _)| *of == name).unwrap();
        (
            grant.value.expose().to_owned(),
            self.now.at.until(grant.expires).as_secs(),
        )
    }

    /// Somebody reports a token.
    fn suspect(&mut self, bad: &str, admin: bool) -> Option<Verdict> {
        self.schedule.suspect(&self.now, Some(&value(bad)), admin)
    }
}

/// The name of a verdict.
#[expect(clippy::needless_pass_by_value, reason = "as verdicts are passed on")]
fn said(verdict: Option<Verdict>) -> &'static str {
    match verdict {
        None => "later",
        Some(Verdict::Superseded) => "superseded",
        Some(Verdict::StillValid) => "still_valid",
        Some(Verdict::Verified(_)) => "verified",
        Some(Verdict::Refreshed) => "refreshed",
        Some(Verdict::TooSoon { .. }) => "too_soon",
        Some(Verdict::Unavailable { .. }) => "unavailable",
    }
}

fn named(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Granted { .. } => "granted",
        Outcome::Failed { .. } => "failed",
        Outcome::Alive => "alive",
        Outcome::FoundDead { foreign: false } => "dead",
        Outcome::FoundDead { foreign: true } => "foreign",
        Outcome::Unsure(_) => "unsure",
        Outcome::AskAgain => "again",
    }
}
