//! The host that the daemon runs on: its clocks and its network.

use fastrand::Rng;
use wxtokend::account::Account;
use wxtokend::call::{Answer, Call, Refusal};
use wxtokend::platform::answer::interpret;
use wxtokend::platform::{Ask, Platforms, Request};
use wxtokend::schedule::Record;
use wxtokend::secret::Secret;
use wxtokend::sim::{self, Body, World};
use wxtokend::time::{Moment, Now};
use wxtokend::value::Value;

pub(crate) const SECRET: &str = "0123456789abcdef0123456789abcdef";

pub(crate) fn secret() -> Secret {
    Secret::parse(SECRET).expect("it is one")
}

/// How the network is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Network {
    Fine,
    /// Nothing leaves the host.
    Cut,
    /// Nothing comes back; what is asked for may be done all the same.
    Silent {
        works: bool,
    },
}

/// What came of a call.
pub(crate) struct Reply {
    pub(crate) answer: Result<Answer, Refusal>,
    /// Whether the platform heard of it.
    pub(crate) reached: bool,
    /// How long it took, milliseconds.
    pub(crate) took: i64,
}

/// The host. `truth` is Unix time, milliseconds; what the host believes is another matter.
pub(crate) struct Host {
    pub(crate) truth: i64,
    pub(crate) network: Network,
    /// How much the clock of the day is ahead, milliseconds.
    pub(crate) clock_error: i64,
    booted: i64,
    boots: u32,
    /// What the daemon saved last, on which clocks, in which boot.
    saved: Option<(Record, Now, u32)>,
}

impl Host {
    pub(crate) fn new(truth: i64) -> Self {
        Self {
            truth,
            network: Network::Fine,
            clock_error: 0,
            booted: truth - 60_000,
            boots: 0,
            saved: None,
        }
    }

    pub(crate) fn now(&self) -> Now {
        Now {
            at: Moment::from_millis(self.truth - self.booted),
            unix_millis: self.truth + self.clock_error,
        }
    }

    /// When a moment is, in truth.
    pub(crate) fn truth_of(&self, moment: Moment) -> i64 {
        moment.as_millis() + self.booted
    }

    pub(crate) fn reboot(&mut self) {
        self.booted = self.truth;
        self.boots += 1;
    }

    pub(crate) fn save(&mut self, record: Record) {
        self.saved = Some((record, self.now(), self.boots));
    }

    /// What was saved, with its moments as they are in this boot.
    pub(crate) fn load(&self) -> Record {
        let now = self.now();
        let (record, then, boot) = self.saved.clone().expect("saved with the first call");
        if boot == self.boots {
            record
        } else {
            record.after_boot(&then, &now)
        }
    }

    /// Calls the platform.
    pub(crate) fn call(
        &self,
        world: &mut World,
        rng: &mut Rng,
        account: &Account,
        call: Call,
        token: Option<&Value>,
    ) -> Reply {
        let lost = |reached, took| Reply {
            answer: Err(Refusal::transient("no answer", "wait")),
            reached,
            took,
        };
        let took = rng.i64(30..800);
        match self.network {
            Network::Cut => return lost(false, took),
            Network::Silent { works: false } => return lost(true, 10_000),
            Network::Silent { works: true } | Network::Fine => {}
        }
        let platform = Platforms::default();
        let platform = platform.of(account.terms.kind).expect("a platform");
        let secret = secret();
        let credential = if call.is_token() {
            secret.expose()
        } else {
            token.expect("called with a token").expose()
        };
        let ask = Ask::of(platform, account, call, credential);
        let wire = Wire::new((platform.request)(&ask));
        let reply = world.handle(self.truth, &wire.request());
        if self.network != Network::Fine {
            return lost(true, 10_000);
        }
        match reply.body {
            Body::Whole(bytes) => Reply {
                answer: interpret(platform, &ask, reply.status, &bytes),
                reached: true,
                took,
            },
            Body::Half(_) => lost(true, took),
            _ => lost(true, 10_000),
        }
    }
}

/// A request as it goes over the wire.
struct Wire {
    path: &'static str,
    query: String,
    body: Option<Vec<u8>>,
}

impl Wire {
    fn new(request: Request) -> Self {
        let mut query = form_urlencoded::Serializer::new(String::new());
        for (name, value) in &request.query {
            query.append_pair(name, value);
        }
        Self {
            path: request.path,
            query: query.finish(),
            body: request.body.map(|body| body.to_vec()),
        }
    }

    fn request(&self) -> sim::Request<'_> {
        let request = match &self.body {
            Some(body) => sim::Request::post(self.path, body),
            None => sim::Request::get(self.path),
        };
        sim::Request {
            query: &self.query,
            ..request
        }
    }
}
