//! Apps that ask the mirror and cache what it says as their SDKs do: they use no dead token, and an old one for two minutes
//! at most. Hundreds of rotations, simulated.

use super::account;
use super::host::YearHost;
use super::platform::{MINUTE, PlatformKind, SECOND, YearPlatform};
use fastrand::Rng;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use wxtokend::mirror::{MarginRange, expires_in};
use wxtokend::schedule::{Outcome, Schedule, Step};
use wxtokend::time::Moment;
use wxtokend::value::ValueName;

const START: i64 = 1_772_424_010_000;
const ROTATIONS: usize = 200;
/// The longest use of a value that has been replaced.
const LONGEST_USE: i64 = 2 * MINUTE;

/// The seconds that SDKs take off `expires_in`, for the token and for a ticket.
const MARGINS: [(&str, u32, u32); 13] = [
    ("EasyWeChat 3", 1500, 500),
    ("EasyWeChat 4.0 to 4.2", 500, 500),
    ("EasyWeChat 5", 0, 500),
    ("EasyWeChat 6, node-easywechat", 0, 0),
    ("WxJava in memory", 200, 200),
    ("WxJava with Redis", 0, 200),
    ("Senparc", 0, 0),
    ("silenceper", 1500, 1500),
    ("silenceper, stable", 300, 1500),
    ("PowerWeChat", 0, 500),
    ("wechatpy", 60, 0),
    ("co-wechat-api", 10, 10),
    ("unservice", 300, 300),
];

/// A value as an app keeps it.
struct Cached {
    text: String,
    until: i64,
}

struct CachingApp {
    name: &'static str,
    margins: [u32; 2],
    cached: [Option<Cached>; 2],
    next_use: i64,
}

/// The account, its platform, and apps that use it all the time.
struct Caches {
    host: YearHost,
    platform: YearPlatform,
    schedule: Schedule,
    apps: Vec<CachingApp>,
    rng: Rng,
    /// The moment since which a value has been replaced.
    replaced: HashMap<String, i64>,
    /// The ends of tickets.
    ticket_ends: HashMap<String, i64>,
    standing: [Option<String>; 2],
    rotations: usize,
    uses: u64,
    /// Requests for token and ticket that the mirror had no value for.
    unanswered: [u64; 2],
}

const NAMES: [ValueName; 2] = [ValueName::AccessToken, ValueName::JsapiTicket];

impl Caches {
    fn new(kind: PlatformKind, seed: u64) -> Self {
        let (host, mut rng) = (YearHost::new(START), Rng::with_seed(seed));
        let account = Arc::new(account(kind, &[ValueName::JsapiTicket], |_| ()));
        let apps = MARGINS.map(|(name, token, ticket)| CachingApp {
            name,
            margins: [token, ticket],
            cached: [None, None],
            next_use: START + rng.i64(MINUTE..2 * MINUTE),
        });
        Self {
            schedule: Schedule::new(account, &host.now(), rng.fork()),
            platform: YearPlatform::new(kind),
            host,
            apps: apps.into(),
            rng,
            replaced: HashMap::new(),
            ticket_ends: HashMap::new(),
            standing: [None, None],
            rotations: 0,
            uses: 0,
            unanswered: [0, 0],
        }
    }

    /// The daemon calls, or sleeps; apps use what they have meanwhile.
    fn step(&mut self) {
        let now = self.host.now();
        match self.schedule.next(&now) {
            Step::Sleep(until) => self.until(self.host.truth_of(until)),
            Step::Call(call) => {
                self.schedule.on_sent(&now, call);
                let token = self.schedule.token().map(|token| token.expose().to_owned());
                let took = self.rng.i64(30..800);
                let sent_at = self.host.truth;
                let reply = self.platform.call(sent_at, call, token.as_deref(), took);
                self.until(sent_at + reply.took);
                let answer = self
                    .schedule
                    .on_answer(&self.host.now(), now.at, call, reply.answer);
                let changed = matches!(
                    answer.0,
                    Outcome::Granted {
                        name: ValueName::AccessToken,
                        changed: true,
                        ..
                    }
                );
                self.rotations += usize::from(changed);
                self.note_replaced();
            }
        }
    }

    fn note_replaced(&mut self) {
        let now = self.host.now().at;
        for (name, standing) in NAMES.into_iter().zip(&mut self.standing) {
            let text = stands(&self.schedule, name, now).map(|(text, _)| text);
            if let Some(text) = &text
                && let Some(ticket) = self.platform.ticket(text)
            {
                self.ticket_ends.insert(text.clone(), ticket.ends);
            }
            if *standing != text
                && let Some(old) = std::mem::replace(standing, text)
            {
                self.replaced.insert(old, self.host.truth);
            }
        }
    }

    /// Lets apps use their values until then.
    fn until(&mut self, end: i64) {
        while let Some(at) = self.apps.iter().map(|app| app.next_use).min()
            && at < end
        {
            self.host.truth = self.host.truth.max(at);
            let due = self.apps.iter().position(|app| app.next_use == at);
            let index = due.expect("it was found");
            self.use_values(index);
            self.apps[index].next_use = at + self.rng.i64(100..30 * SECOND);
        }
        self.host.truth = self.host.truth.max(end);
    }

    fn use_values(&mut self, index: usize) {
        let (truth, now) = (self.host.truth, self.host.now().at);
        let app = &mut self.apps[index];
        for (at, name) in NAMES.into_iter().enumerate() {
            let is_cached = app.cached[at]
                .as_ref()
                .is_some_and(|kept| truth < kept.until);
            if !is_cached {
                let margin = app.margins[at];
                let told = stands(&self.schedule, name, now).and_then(|(text, left)| {
                    let told = expires_in(left, MarginRange::exactly(margin))?;
                    Some((text, told))
                });
                let Some((text, told)) = told else {
                    self.unanswered[at] += 1;
                    continue;
                };
                let life = i64::try_from(told).expect("it is small") - i64::from(margin);
                assert!(life > 0, "{} would choke on {told}", app.name);
                app.cached[at] = Some(Cached {
                    text,
                    until: truth + life * SECOND,
                });
            }
            let kept = app.cached[at].as_ref().expect("it was fetched");
            let is_alive = match name {
                ValueName::AccessToken => {
                    let minted = self.platform.token(&kept.text);
                    minted.is_some_and(|minted| minted.is_alive(truth))
                }
                _ => truth < self.ticket_ends[&kept.text],
            };
            assert!(is_alive, "{} uses a dead {name}", app.name);
            let old = self
                .replaced
                .get(&kept.text)
                .map_or(0, |since| truth - since);
            assert!(
                old <= LONGEST_USE,
                "{} uses {name} {old} ms after it was replaced",
                app.name
            );
            self.uses += 1;
        }
    }
}

/// The value that the mirror would hand out, and its life.
fn stands(schedule: &Schedule, name: ValueName, now: Moment) -> Option<(String, Duration)> {
    let grants = schedule.grants();
    let (_, grant) = grants
        .iter()
        .find(|(of, grant)| *of == name && grant.is_valid(now))?;
    Some((grant.value.expose().to_owned(), now.until(grant.expires)))
}

fn live(kind: PlatformKind, seed: u64) {
    let mut caches = Caches::new(kind, seed);
    while caches.rotations < ROTATIONS {
        caches.step();
    }
    let (uses, [tokens, tickets]) = (caches.uses, caches.unanswered);
    assert!(uses > 1_000_000, "{uses} uses");
    // The platform repeats a ticket, and 企业微信 a token, until its very end: there is a moment without one.
    let few = uses / 1000;
    let few_tokens = if kind == PlatformKind::Wecom { few } else { 0 };
    assert!(tokens <= few_tokens, "no token for {tokens} of {uses} uses");
    assert!(tickets <= few, "no ticket for {tickets} of {uses} uses");
}

#[test]
fn no_sdk_uses_a_dead_token_under_stable() {
    live(PlatformKind::Stable, 1);
}

#[test]
fn no_sdk_uses_a_dead_token_under_classic() {
    live(PlatformKind::Classic, 2);
}

#[test]
fn no_sdk_of_a_corp_uses_a_dead_token() {
    live(PlatformKind::Wecom, 3);
}
