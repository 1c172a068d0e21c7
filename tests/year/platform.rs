//! A model of the platform, written from its documentation. It shares no code with the policy or the simulated platform.
//! Times are true Unix milliseconds.

use std::collections::VecDeque;
use std::time::Duration;
use wxtokend::call::{Answer, Call, Refusal};
use wxtokend::trouble::Class;
use wxtokend::value::{Value, ValueName};

pub(crate) const SECOND: i64 = 1000;
pub(crate) const MINUTE: i64 = 60 * SECOND;
pub(crate) const HOUR: i64 = 60 * MINUTE;
pub(crate) const DAY: i64 = 24 * HOUR;
/// Lifetime of a value, and of a replaced classic token.
pub(crate) const LIFE: i64 = 7200 * SECOND;
pub(crate) const OVERLAP: i64 = 300 * SECOND;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PlatformKind {
    Stable,
    Classic,
    Wecom,
}

/// A trouble of the platform, or of the way to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum YearTrouble {
    None,
    /// Nothing leaves the host.
    Cut,
    /// Requests arrive and are done, but no answer comes back.
    Silent,
    /// Calls for a token are refused.
    Token(i64),
    /// Every call is refused.
    All(i64),
}

/// A value that the platform granted.
#[derive(Debug, Clone)]
pub(crate) struct Minted {
    pub(crate) text: String,
    /// The end of its life, and when it died if that was earlier.
    pub(crate) ends: i64,
    pub(crate) dies: i64,
    /// True if somebody else ended it.
    pub(crate) is_killed: bool,
}

impl Minted {
    pub(crate) fn is_alive(&self, now: i64) -> bool {
        now < self.dies
    }
}

pub(crate) struct YearPlatform {
    kind: PlatformKind,
    serial: u32,
    tokens: VecDeque<Minted>,
    tickets: Vec<(ValueName, Minted)>,
    pub(crate) trouble: YearTrouble,
    /// The platform grants the dead token again until then.
    pub(crate) stuck_until: i64,
    /// The next correct call is refused with 41002.
    pub(crate) spurious: bool,
    /// Calls for tickets in the last hour.
    ticket_calls: VecDeque<i64>,
    pub(crate) busiest_hour: usize,
}

/// An answer on its way.
pub(crate) struct YearReply {
    pub(crate) answer: Result<Answer, Refusal>,
    pub(crate) has_reached: bool,
    pub(crate) took: i64,
}

impl YearPlatform {
    pub(crate) fn new(kind: PlatformKind) -> Self {
        Self {
            kind,
            serial: 0,
            tokens: VecDeque::new(),
            tickets: Vec::new(),
            trouble: YearTrouble::None,
            stuck_until: 0,
            spurious: false,
            ticket_calls: VecDeque::new(),
            busiest_hour: 0,
        }
    }

    pub(crate) fn token(&self, text: &str) -> Option<&Minted> {
        self.tokens.iter().find(|token| token.text == text)
    }

    pub(crate) fn ticket(&self, text: &str) -> Option<&Minted> {
        let mut tickets = self.tickets.iter().map(|(_, ticket)| ticket);
        tickets.find(|ticket| ticket.text == text)
    }

    /// Somebody else ends the token that stands.
    pub(crate) fn kill(&mut self, now: i64) {
        if let Some(token) = self.tokens.back_mut().filter(|token| token.is_alive(now)) {
            token.dies = now;
            token.is_killed = true;
        }
    }

    pub(crate) fn call(
        &mut self,
        now: i64,
        call: Call,
        token: Option<&str>,
        took: i64,
    ) -> YearReply {
        let lost = |has_reached, took| YearReply {
            answer: Err(Refusal::transient("no answer", "wait")),
            has_reached,
            took,
        };
        let refusal = match self.trouble {
            YearTrouble::Cut => return lost(false, took),
            YearTrouble::Silent => {
                let _ = self.work(now, call, token);
                return lost(true, 10 * SECOND);
            }
            YearTrouble::All(errcode) => Some(errcode),
            YearTrouble::Token(errcode) if call.is_token() => Some(errcode),
            YearTrouble::Token(_) | YearTrouble::None => None,
        };
        let spurious = call.is_token() && std::mem::take(&mut self.spurious);
        let answer = match refusal.or(spurious.then_some(41002)) {
            Some(errcode) => Err(self.refused(errcode)),
            None => self.work(now, call, token),
        };
        YearReply {
            answer,
            has_reached: true,
            took,
        }
    }

    fn work(&mut self, now: i64, call: Call, token: Option<&str>) -> Result<Answer, Refusal> {
        let is_alive = |platform: &Self| {
            let token = token.and_then(|token| platform.token(token));
            token.is_some_and(|token| token.is_alive(now))
        };
        match call {
            Call::Token => Ok(granted(&self.token_call(now, false), now)),
            Call::ForceToken => Ok(granted(&self.token_call(now, true), now)),
            Call::Verify | Call::Ticket(_) if !is_alive(self) => Err(self.refused(40001)),
            Call::Verify => Ok(Answer::Alive),
            Call::Ticket(name) => Ok(granted(&self.ticket_call(now, name), now)),
        }
    }

    fn token_call(&mut self, now: i64, force: bool) -> Minted {
        if let Some(token) = self.tokens.back_mut() {
            let left = token.ends - now;
            let is_stuck = now < self.stuck_until && left > SECOND;
            let same = match self.kind {
                PlatformKind::Classic => false,
                PlatformKind::Stable => left > OVERLAP && (token.is_alive(now) || is_stuck),
                PlatformKind::Wecom => left >= SECOND && (token.is_alive(now) || is_stuck),
            };
            if same && !force {
                return token.clone();
            }
            let lives_on = if force { now } else { now + OVERLAP };
            if self.kind != PlatformKind::Wecom {
                token.dies = token.dies.min(lives_on);
            }
        }
        let token = self.mint(now);
        self.tokens.push_back(token.clone());
        if self.tokens.len() > 20 {
            self.tokens.pop_front();
        }
        token
    }

    fn ticket_call(&mut self, now: i64, name: ValueName) -> Minted {
        self.ticket_calls.push_back(now);
        self.ticket_calls.retain(|at| at + HOUR > now);
        self.busiest_hour = self.busiest_hour.max(self.ticket_calls.len());
        let fresh = self.mint(now);
        match self.tickets.iter_mut().find(|(of, _)| *of == name) {
            Some((_, ticket)) if ticket.ends - now >= SECOND => ticket.clone(),
            Some((_, ticket)) => {
                *ticket = fresh.clone();
                fresh
            }
            None => {
                self.tickets.push((name, fresh.clone()));
                fresh
            }
        }
    }

    fn mint(&mut self, now: i64) -> Minted {
        self.serial += 1;
        Minted {
            text: format!("V{}", self.serial),
            ends: now + LIFE,
            dies: now + LIFE,
            is_killed: false,
        }
    }

    fn refused(&self, errcode: i64) -> Refusal {
        let class = match errcode {
            -1 => Class::Transient,
            40001 => Class::DeadToken,
            45009 if self.kind == PlatformKind::Wecom => Class::Frequency,
            45009 => Class::DailyQuota,
            45011 => Class::MinuteQuota,
            89507 => Class::TimedBlock(Duration::from_secs(3600)),
            _ => Class::Operator,
        };
        Refusal {
            class,
            errcode: Some(errcode),
            ..Refusal::transient(format!("{errcode}"), "wait")
        }
    }
}

fn granted(minted: &Minted, now: i64) -> Answer {
    let seconds = u64::try_from((minted.ends - now) / SECOND).unwrap_or_default();
    let value = Value::parse(&minted.text).expect("it is a value");
    Answer::Granted(value, Duration::from_secs(seconds))
}
