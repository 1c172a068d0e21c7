//! What happens in a year, and when.

use super::host::Network;
use fastrand::Rng;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;
use wxtokend::platform::wechat::{CLASSIC, STABLE};
use wxtokend::platform::wecom::GETTOKEN;
use wxtokend::sim::{Effect, Endpoint, Kill};
use wxtokend::terms::Terms;

pub(crate) const SECOND: i64 = 1000;
pub(crate) const MINUTE: i64 = 60 * SECOND;
pub(crate) const HOUR: i64 = 60 * MINUTE;
pub(crate) const DAY: i64 = 24 * HOUR;

pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Something that happens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Event {
    /// The platform or the network goes wrong for a while.
    TroubleBegins,
    TroubleEnds,
    /// 41002 to a correct body, once.
    Spurious41002,
    /// The token ends early.
    Kill,
    /// The daemon stops, perhaps with its host, and starts again.
    Restart,
    /// NTP or somebody sets the clock.
    ClockSet(i64),
    /// The host sleeps.
    Suspend,
    /// An app reports a token that it read, because it does not work.
    AppReports,
    /// Somebody reports a token or wishes for a longer life, for no good reason.
    Nuisance,
    /// The same all the time.
    Attack {
        until: i64,
    },
    Reload,
}

/// What goes wrong.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Trouble {
    pub(crate) what: What,
    pub(crate) scope: Scope,
    /// How long after its end it may take until all is well, milliseconds.
    pub(crate) patience: i64,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum What {
    Network(Network),
    Answer(Effect),
}

/// Which calls suffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    All,
    Token,
    Tickets,
}

impl Scope {
    pub(crate) fn endpoints(self, method: &'static Terms) -> &'static [Option<Endpoint>] {
        match (self, method) {
            (Self::All, _) => &[None],
            (Self::Token, STABLE) => &[Some(Endpoint::StableToken)],
            (Self::Token, CLASSIC) => &[Some(Endpoint::Token)],
            (Self::Token, _) => &[Some(Endpoint::GetToken)],
            (Self::Tickets, GETTOKEN) => {
                &[Some(Endpoint::GetJsapiTicket), Some(Endpoint::AgentTicket)]
            }
            (Self::Tickets, _) => &[Some(Endpoint::GetTicket)],
        }
    }
}

/// Every errcode of a token call that heals, with the seconds that its class may need after that.
const REFUSALS: [(i64, i64); 26] = [
    (-1, 60),
    (-1, 60),
    (-1000, 60),
    (45033, 60),
    (45011, 62),
    (45009, 1800),
    (40001, 300),
    (40002, 300),
    (43002, 300),
    (41002, 300),
    (41004, 300),
    (40013, 300),
    (40125, 300),
    (40164, 300),
    (61004, 300),
    (60020, 300),
    (40243, 300),
    (48006, 300),
    (50004, 300),
    (50007, 300),
    (61024, 300),
    (89501, 300),
    (89503, 300),
    (89507, 3600),
    (89506, 86_400),
    (98765, 300),
];

impl Trouble {
    pub(crate) fn random(rng: &mut Rng) -> Self {
        let (what, scope, seconds) = match rng.u32(..10) {
            0 | 1 => (What::Network(Network::Cut), Scope::All, 60),
            2 => (
                What::Network(Network::Silent { works: rng.bool() }),
                Scope::All,
                70,
            ),
            3 => (What::Answer(unusable(rng)), any_scope(rng), 60),
            4 => {
                // The ticket's way to say that the token is dead: it lives.
                let refusal = Effect::errcode(one_of(rng, &[40001, 40014, 42001]));
                (What::Answer(refusal), Scope::Tickets, 60)
            }
            _ => {
                let (errcode, seconds) = one_of(rng, &REFUSALS);
                let scope = match errcode {
                    // On another call it means that the token is dead.
                    40001 => Scope::Token,
                    _ => any_scope(rng),
                };
                (What::Answer(Effect::errcode(errcode)), scope, seconds)
            }
        };
        Self {
            what,
            scope,
            patience: seconds * SECOND + 30 * SECOND,
        }
    }
}

/// How long a trouble lasts: from half a minute to half a day, each order as likely.
pub(crate) fn any_duration(rng: &mut Rng) -> Duration {
    Duration::from_secs(30).mul_f64(1440.0_f64.powf(rng.f64()))
}

pub(crate) fn one_of<T: Copy>(rng: &mut Rng, these: &[T]) -> T {
    these[rng.usize(..these.len())]
}

fn any_scope(rng: &mut Rng) -> Scope {
    one_of(rng, &[Scope::All, Scope::All, Scope::Token, Scope::Tickets])
}

/// An answer that is none.
fn unusable(rng: &mut Rng) -> Effect {
    match rng.u32(..10) {
        0 => Effect::Status(500),
        1 => Effect::Status(412),
        2 => Effect::Hang,
        3 => Effect::HalfBody,
        4 => Effect::LoginPage,
        5 => Effect::Redirect,
        6 => Effect::Empty,
        7 => Effect::Value("no token \"at\" all".into()),
        8 => Effect::ExpiresIn(0.into()),
        _ => Effect::Echo,
    }
}

pub(crate) fn any_kill(rng: &mut Rng) -> Kill {
    one_of(
        rng,
        &[Kill::End, Kill::End, Kill::SecondFetcher, Kill::Stuck],
    )
}

/// What is to happen.
pub(crate) struct Script {
    queue: BinaryHeap<Reverse<(i64, usize)>>,
    events: Vec<Option<Event>>,
}

impl Script {
    pub(crate) fn new() -> Self {
        Self {
            queue: BinaryHeap::new(),
            events: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, at: i64, event: Event) {
        let free = self.events.iter().position(Option::is_none);
        let slot = free.unwrap_or_else(|| {
            self.events.push(None);
            self.events.len() - 1
        });
        self.events[slot] = Some(event);
        self.queue.push(Reverse((at, slot)));
    }

    /// Adds an event that comes every now and then.
    pub(crate) fn add_random(&mut self, now: i64, rng: &mut Rng, event: Event) {
        let hours = match event {
            Event::TroubleBegins => 16,
            Event::Nuisance => 6,
            Event::Spurious41002 => 24,
            Event::Kill => 2 * 24,
            Event::Restart => 3 * 24,
            Event::Suspend | Event::Reload => 10 * 24,
            Event::ClockSet(_) | Event::Attack { .. } => 20 * 24,
            Event::AppReports | Event::TroubleEnds => unreachable!("caused, not random"),
        };
        let wait = Duration::from_secs(hours * 3600).mul_f64(-(1.0 - rng.f64()).ln());
        self.add(now + SECOND + millis(wait), event);
    }

    pub(crate) fn has(&self, event: &Event) -> bool {
        self.events.iter().flatten().any(|one| one == event)
    }

    pub(crate) fn has_attack(&self) -> bool {
        let is_attack = |event: &Event| matches!(event, Event::Attack { .. });
        self.events.iter().flatten().any(is_attack)
    }

    pub(crate) fn next_at(&self) -> i64 {
        self.queue.peek().map_or(i64::MAX, |Reverse((at, _))| *at)
    }

    pub(crate) fn take(&mut self) -> Option<Event> {
        let Reverse((_, slot)) = self.queue.pop()?;
        self.events[slot].take()
    }
}
