//! A year of one account on three hosts of a fleet: engine, network, hosts and platform fail at random times, and in the middle
//! of calls and writes.

use super::account;
use super::engine::{LEASE, YearEngine, YearWrite};
use super::host::YearHost;
use super::life::{START, Trail, any_trouble};
use super::member::{FleetMember, MemberAct, Reach, WriteEnd};
use super::pact::Pact;
use super::platform::{DAY, HOUR, MINUTE, PlatformKind, SECOND, YearPlatform, YearTrouble};
use fastrand::Rng;
use std::sync::Arc;
use std::time::Duration;
use wxtokend::account::Account;
use wxtokend::call::{Answer, Call, Refusal};
use wxtokend::schedule::Part;
use wxtokend::value::{Value, ValueName};

pub(crate) const HOSTS: usize = 3;
/// Limit on a request to the engine.
const REQUEST_LIMIT: i64 = 1500;
/// Interval of keeping a lease alive.
const KEEP_EVERY: i64 = 2 * SECOND;

/// Something that fails by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FleetFault {
    Killed,
    Restarted,
    Frozen,
    CutFromEngine,
    CutFromPlatform,
    EngineAway,
    EngineDataLost,
    LeaseLost,
    Trouble,
    Spurious,
    TokenKilled,
}

/// The mean interval of each.
const RANDOM: [(FleetFault, i64); 11] = [
    (FleetFault::Killed, 20 * HOUR),
    (FleetFault::Restarted, 20 * HOUR),
    (FleetFault::Frozen, 20 * HOUR),
    (FleetFault::CutFromEngine, 20 * HOUR),
    (FleetFault::CutFromPlatform, 20 * HOUR),
    (FleetFault::EngineAway, 2 * DAY),
    (FleetFault::EngineDataLost, 2 * DAY),
    (FleetFault::LeaseLost, DAY),
    (FleetFault::Trouble, DAY),
    (FleetFault::Spurious, DAY),
    (FleetFault::TokenKilled, 2 * DAY),
];

/// Those that strike in the middle of a call.
const IN_CALLS: [FleetFault; 7] = [
    FleetFault::Killed,
    FleetFault::Restarted,
    FleetFault::Frozen,
    FleetFault::CutFromEngine,
    FleetFault::CutFromPlatform,
    FleetFault::EngineDataLost,
    FleetFault::LeaseLost,
];

/// The place of a write's answer.
#[derive(Debug, Clone, Copy)]
enum WriteOf {
    Record,
    /// The lease is kept alive since.
    Intent(i64),
    Nobody,
}

#[derive(Debug)]
enum FleetEvent {
    Random(FleetFault),
    Strikes(FleetFault, usize),
    Healed,
    /// A fault of a host may be over.
    Mended(usize),
    Start(usize),
    EngineBack,
    LeaseEnds(i64),
    Joined(usize),
    Noticed(usize),
    Watched(usize),
    Reported(usize),
    Doubted(Value),
    DataLossOver,
    /// To the engine or the platform, or to a daemon: only to the one that it was meant for.
    Message(usize, u32, FleetMessage),
}

#[derive(Debug)]
enum FleetMessage {
    Campaign(i64),
    Apply(Box<YearWrite>, WriteOf, i64),
    Written(WriteEnd, WriteOf, i64),
    Execute(Call, Option<Value>, i64),
    Answered(Result<Answer, Refusal>, bool, i64),
}

/// A host, its faults, and the daemon on it.
pub(crate) struct FleetMachine {
    pub(crate) host: YearHost,
    pub(crate) member: Option<FleetMember>,
    /// Counts its daemons.
    incarnation: u32,
    pub(crate) is_frozen: bool,
    frozen_until: i64,
    cut_until: i64,
    platform_cut_until: i64,
    /// Since when it reaches the engine, and the platform.
    pub(crate) connected: Option<i64>,
    pub(crate) is_served_since: Option<i64>,
    mail: Vec<FleetMessage>,
    wake: i64,
    is_reported: bool,
}

/// The fleet, and the world around it.
pub(crate) struct FleetLife {
    truth: i64,
    machines: Vec<FleetMachine>,
    engine: YearEngine,
    engine_away_until: i64,
    platform: YearPlatform,
    account: Arc<Account>,
    events: Vec<(i64, FleetEvent)>,
    pact: Pact,
    trail: Trail,
    rng: Rng,
}

impl FleetLife {
    fn new(seed: u64, kind: PlatformKind, account: Account) -> Self {
        let account = Arc::new(account);
        let machines = (0..HOSTS).map(|_| FleetMachine {
            host: YearHost::new(START),
            member: None,
            incarnation: 0,
            is_frozen: false,
            frozen_until: 0,
            cut_until: 0,
            platform_cut_until: 0,
            connected: None,
            is_served_since: None,
            mail: Vec::new(),
            wake: i64::MAX,
            is_reported: false,
        });
        let mut life = Self {
            truth: START,
            machines: machines.collect(),
            engine: YearEngine::default(),
            engine_away_until: 0,
            platform: YearPlatform::new(kind),
            pact: Pact::new(kind, &account, START),
            account,
            events: Vec::new(),
            trail: Trail::of(seed),
            rng: Rng::with_seed(seed),
        };
        for at in 0..HOSTS {
            life.start(at);
        }
        for (fault, _) in RANDOM {
            life.again(fault);
        }
        life
    }

    fn live(&mut self, days: i64) {
        let (mut same, mut last) = (0, 0);
        while self.truth < START + days * DAY {
            self.step();
            same = if self.truth == last { same + 1 } else { 0 };
            last = self.truth;
            assert!(same < 1000, "it spins");
        }
        self.pact.report(days);
    }

    fn after(&mut self, least: i64, most: i64, event: FleetEvent) {
        let at = self.truth + self.rng.i64(least..most);
        self.events.push((at, event));
    }

    fn again(&mut self, fault: FleetFault) {
        if let Some((_, every)) = RANDOM.iter().find(|(of, _)| *of == fault) {
            self.after(MINUTE, 2 * every, FleetEvent::Random(fault));
        }
    }

    fn step(&mut self) {
        let event = self.events.iter().map(|(at, _)| *at).min();
        let event = event.expect("there are always faults to come");
        let running = self.machines.iter().filter(|machine| !machine.is_frozen);
        let wake = running.map(|machine| machine.wake).min();
        let wake = wake.unwrap_or(i64::MAX);
        self.pass(event.min(wake));
        if event <= wake {
            let at = self.events.iter().position(|(at, _)| *at == event);
            let (_, event) = self.events.swap_remove(at.expect("it was found"));
            self.happen(event);
        } else {
            let due = |machine: &FleetMachine| !machine.is_frozen && machine.wake == wake;
            let at = self.machines.iter().position(due);
            self.turn(at.expect("it was found"));
        }
        self.check();
    }

    /// Time passes, in which nothing changes.
    fn pass(&mut self, truth: i64) {
        self.truth = self.truth.max(truth);
        for machine in &mut self.machines {
            machine.host.truth = self.truth;
        }
        self.pact
            .check(self.truth, &self.machines, &self.engine, &self.platform);
    }

    fn check(&mut self) {
        self.pact
            .check(self.truth, &self.machines, &self.engine, &self.platform);
        for at in 0..HOSTS {
            if !self.machines[at].is_reported && self.dead_token(at).is_some() {
                self.machines[at].is_reported = true;
                self.after(SECOND, MINUTE, FleetEvent::Reported(at));
            }
        }
    }

    /// The dead token that apps of a host hold.
    fn dead_token(&self, at: usize) -> Option<Value> {
        let machine = &self.machines[at];
        let member = machine.member.as_ref().filter(|_| !machine.is_frozen)?;
        let grant = member.schedule.standing(machine.host.now().at)?;
        let minted = self.platform.token(grant.value.expose())?;
        (!minted.is_alive(self.truth)).then_some(grant.value)
    }

    fn start(&mut self, at: usize) {
        let rng = self.rng.fork();
        let machine = &mut self.machines[at];
        if machine.member.is_some() {
            return;
        }
        machine.member = Some(FleetMember::start(&self.account, &machine.host, rng));
        self.turn(at);
        self.reconsider(at);
        if self.machines[at].connected.is_none() {
            self.after(REQUEST_LIMIT, 5 * SECOND, FleetEvent::Noticed(at));
        }
    }

    /// A daemon does what there is to do, and asks the network.
    fn turn(&mut self, at: usize) {
        let machine = &mut self.machines[at];
        machine.wake = i64::MAX;
        let Some(member) = machine.member.as_mut().filter(|_| !machine.is_frozen) else {
            return;
        };
        let (wake, acts) = member.turn(&mut machine.host);
        machine.wake = wake;
        let token = member.schedule.token().cloned();
        for act in acts {
            let (least, most, message) = match act {
                MemberAct::Campaign(lease) => (2, 40, FleetMessage::Campaign(lease)),
                MemberAct::Share(write) => {
                    let message = FleetMessage::Apply(Box::new(write), WriteOf::Record, self.truth);
                    (1, 20, message)
                }
                MemberAct::Intend(write) => {
                    self.strike_in_call(at);
                    let of = WriteOf::Intent(self.truth);
                    (2, 40, FleetMessage::Apply(Box::new(write), of, self.truth))
                }
                MemberAct::Leave(write) => {
                    let message = FleetMessage::Apply(Box::new(write), WriteOf::Nobody, self.truth);
                    (1, 20, message)
                }
                MemberAct::Call(call, until) => {
                    (5, 400, FleetMessage::Execute(call, token.clone(), until))
                }
            };
            self.send(at, least, most, message);
        }
    }

    fn send(&mut self, at: usize, least: i64, most: i64, message: FleetMessage) {
        let incarnation = self.machines[at].incarnation;
        self.after(least, most, FleetEvent::Message(at, incarnation, message));
    }

    /// Now and then something fails between intent, call and write.
    fn strike_in_call(&mut self, at: usize) {
        let seldom = if self.account.terms().overlap().is_some() {
            8
        } else {
            60
        };
        if self.rng.u32(..seldom) == 0 {
            let fault = IN_CALLS[self.rng.usize(..IN_CALLS.len())];
            self.after(0, 1500, FleetEvent::Strikes(fault, at));
        }
    }

    fn is_cut(&self, at: usize) -> bool {
        self.truth < self.machines[at].cut_until.max(self.engine_away_until)
    }

    /// Sees if a host reaches the engine.
    fn reconsider(&mut self, at: usize) {
        let is_cut = self.is_cut(at);
        let truth = self.truth;
        let machine = &mut self.machines[at];
        let runs = machine.member.is_some() && !machine.is_frozen;
        let is_served = runs && truth >= machine.platform_cut_until;
        machine.is_served_since = is_served.then(|| machine.is_served_since.unwrap_or(truth));
        match (machine.connected, runs && !is_cut) {
            (None, true) => {
                machine.connected = Some(truth);
                self.after(50, KEEP_EVERY, FleetEvent::Joined(at));
            }
            (Some(_), false) => {
                machine.connected = None;
                if let Some(member) = &mut machine.member {
                    let kept = truth - self.rng.i64(0..KEEP_EVERY);
                    member.neglected.get_or_insert(kept);
                    if let Some(lease) = member.lease {
                        self.neglect(lease, kept);
                    }
                }
                if runs {
                    self.after(REQUEST_LIMIT, 5 * SECOND, FleetEvent::Noticed(at));
                }
            }
            _ => {}
        }
    }

    fn neglect(&mut self, lease: i64, since: i64) {
        self.engine.neglect(lease, since);
        let ends = since + LEASE + self.rng.i64(1..600);
        self.events.push((ends, FleetEvent::LeaseEnds(lease)));
    }

    /// The engine's keys have changed.
    fn tell_all(&mut self) {
        for at in 0..HOSTS {
            if self.machines[at].connected.is_some() {
                self.after(1, 30, FleetEvent::Watched(at));
            }
        }
    }

    fn happen(&mut self, event: FleetEvent) {
        match event {
            FleetEvent::Random(fault) => {
                let at = self.rng.usize(..HOSTS);
                self.strike(fault, at);
                self.again(fault);
            }
            FleetEvent::Strikes(fault, at) => self.strike(fault, at),
            FleetEvent::Healed => {
                let was = std::mem::replace(&mut self.platform.trouble, YearTrouble::None);
                self.pact.on_healed(self.truth, was);
            }
            FleetEvent::Mended(at) => self.mend(at),
            FleetEvent::Start(at) => self.start(at),
            FleetEvent::EngineBack => self.engine_back(),
            FleetEvent::LeaseEnds(lease) => {
                if self.truth >= self.engine_away_until && self.engine.end_if_due(lease, self.truth)
                {
                    self.tell_all();
                }
            }
            FleetEvent::Joined(at) => self.join(at),
            FleetEvent::Noticed(at) => self.notice(at),
            FleetEvent::Watched(at) => {
                let machine = &mut self.machines[at];
                if machine.connected.is_some()
                    && let Some(member) = &mut machine.member
                {
                    member.view = self.engine.keys.clone();
                    self.turn(at);
                }
            }
            FleetEvent::Reported(at) => self.report(at),
            FleetEvent::Doubted(value) => self.doubted(&value),
            FleetEvent::DataLossOver => self.pact.on_data_loss_over(),
            FleetEvent::Message(at, incarnation, message) => {
                self.message(at, incarnation, message);
            }
        }
    }

    fn join(&mut self, at: usize) {
        let machine = &mut self.machines[at];
        let (Some(_), Some(member)) = (machine.connected, &mut machine.member) else {
            return;
        };
        if member.lease.is_none_or(|lease| !self.engine.keep(lease)) {
            member.lease = Some(self.engine.grant());
        }
        member.neglected = None;
        member.is_campaigning = false;
        // An engine that has lost its data counts its revisions anew.
        member.seen = None;
        member.view = self.engine.keys.clone();
        member.reach = Reach::Present;
        self.turn(at);
    }

    fn notice(&mut self, at: usize) {
        let machine = &mut self.machines[at];
        let since = machine.host.now().at;
        if let Some(member) = machine.member.as_mut().filter(|_| !machine.is_frozen)
            && machine.connected.is_none()
            && !matches!(member.reach, Reach::Away { .. })
        {
            member.reach = Reach::Away { since };
            self.turn(at);
        }
    }

    fn engine_back(&mut self) {
        if self.truth < self.engine_away_until {
            return;
        }
        for lease in self.engine.extend_all(self.truth) {
            self.neglect(lease, self.truth);
        }
        (0..HOSTS).for_each(|at| self.reconsider(at));
    }

    fn mend(&mut self, at: usize) {
        if self.machines[at].is_frozen && self.truth >= self.machines[at].frozen_until {
            let machine = &mut self.machines[at];
            machine.is_frozen = false;
            let incarnation = machine.incarnation;
            for message in std::mem::take(&mut machine.mail) {
                self.message(at, incarnation, message);
            }
            self.turn(at);
            if self.is_cut(at) {
                self.after(REQUEST_LIMIT, 5 * SECOND, FleetEvent::Noticed(at));
            }
        }
        self.reconsider(at);
    }

    /// From half a second to some hours, each order as likely.
    fn lasts(&mut self) -> i64 {
        let long = 500.0 * 30_000.0_f64.powf(self.rng.f64());
        #[expect(clippy::cast_possible_truncation, reason = "it is small")]
        let long = long as i64;
        long
    }

    fn strike(&mut self, fault: FleetFault, at: usize) {
        let lasts = self.lasts();
        let until = self.truth + lasts;
        self.trail.tell(self.truth, (fault, at, lasts));
        self.pact.on_fault(self.truth);
        let machine = &mut self.machines[at];
        match fault {
            FleetFault::Killed => {
                self.kill(at);
                self.events.push((until, FleetEvent::Start(at)));
            }
            FleetFault::Restarted => {
                let lease = machine.member.as_ref().and_then(|member| member.lease);
                if let Some(lease) = lease.filter(|_| machine.connected.is_some()) {
                    self.engine.revoke(lease);
                    self.tell_all();
                }
                self.kill(at);
                self.after(200, 20 * SECOND, FleetEvent::Start(at));
            }
            FleetFault::Frozen => {
                machine.is_frozen = machine.member.is_some();
                machine.frozen_until = until;
                self.events.push((until, FleetEvent::Mended(at)));
            }
            FleetFault::CutFromEngine => {
                machine.cut_until = machine.cut_until.max(until);
                self.events.push((until, FleetEvent::Mended(at)));
            }
            FleetFault::CutFromPlatform => {
                machine.platform_cut_until = machine.platform_cut_until.max(until);
                self.events.push((until, FleetEvent::Mended(at)));
            }
            FleetFault::EngineAway => {
                self.engine_away_until = self.engine_away_until.max(until);
                self.events.push((until, FleetEvent::EngineBack));
                (0..HOSTS).for_each(|at| self.reconsider(at));
            }
            FleetFault::EngineDataLost => {
                self.engine.lose_everything();
                for at in 0..HOSTS {
                    self.after(50, 3 * SECOND, FleetEvent::Joined(at));
                }
                self.pact
                    .on_data_loss(self.truth, &self.machines, &self.platform);
                self.after(MINUTE, MINUTE + 1, FleetEvent::DataLossOver);
            }
            FleetFault::LeaseLost => {
                if let Some(leader) = self.engine.keys.leader {
                    self.engine.revoke(leader.term.lease);
                    self.tell_all();
                    self.after(10, KEEP_EVERY, FleetEvent::Joined(leader.host));
                }
            }
            FleetFault::Trouble => {
                if self.platform.trouble == YearTrouble::None {
                    self.platform.trouble = any_trouble(&mut self.rng);
                    self.trail.tell(self.truth, self.platform.trouble);
                    self.events.push((until, FleetEvent::Healed));
                }
            }
            FleetFault::Spurious => {
                self.platform.spurious = self.platform.trouble == YearTrouble::None;
            }
            FleetFault::TokenKilled => {
                self.platform.kill(self.truth);
                self.pact.on_killed(self.truth);
            }
        }
        self.reconsider(at);
    }

    fn kill(&mut self, at: usize) {
        let machine = &mut self.machines[at];
        let lease = machine.member.as_ref().and_then(|member| member.lease);
        if let Some(lease) = lease.filter(|_| machine.connected.is_some()) {
            let since = self.truth - self.rng.i64(0..KEEP_EVERY);
            self.neglect(lease, since);
        }
        let machine = &mut self.machines[at];
        machine.member = None;
        machine.incarnation += 1;
        machine.is_frozen = false;
        machine.is_reported = false;
        machine.mail.clear();
        machine.wake = i64::MAX;
        machine.connected = None;
    }

    fn message(&mut self, at: usize, incarnation: u32, message: FleetMessage) {
        let is_cut = self.is_cut(at);
        match message {
            FleetMessage::Apply(write, of, sent) => {
                let written = if is_cut {
                    WriteEnd::Away
                } else if self.engine.write(*write) {
                    self.tell_all();
                    WriteEnd::Done
                } else {
                    WriteEnd::NotLeader
                };
                let took = self.rng.i64(1..20);
                let ends = if is_cut {
                    sent + REQUEST_LIMIT
                } else {
                    self.truth + took
                };
                let message = FleetMessage::Written(written, of, sent);
                let ends = ends.max(self.truth);
                self.events
                    .push((ends, FleetEvent::Message(at, incarnation, message)));
                return;
            }
            FleetMessage::Execute(call, token, until) => {
                return self.execute(at, incarnation, (call, token, until));
            }
            // The answer is lost on its way.
            FleetMessage::Written(written, of, sent) if is_cut && written != WriteEnd::Away => {
                let message = FleetMessage::Written(WriteEnd::Away, of, sent);
                let ends = (sent + REQUEST_LIMIT).max(self.truth);
                self.events
                    .push((ends, FleetEvent::Message(at, incarnation, message)));
                return;
            }
            FleetMessage::Answered(Ok(_), _, until)
                if self.truth < self.machines[at].platform_cut_until =>
            {
                let message = FleetMessage::Answered(no_answer(), true, until);
                let ends = until.max(self.truth);
                self.events
                    .push((ends, FleetEvent::Message(at, incarnation, message)));
                return;
            }
            _ => {}
        }
        let machine = &mut self.machines[at];
        let Some(member) = machine
            .member
            .as_mut()
            .filter(|_| machine.incarnation == incarnation)
        else {
            return;
        };
        if machine.is_frozen {
            machine.mail.push(message);
            return;
        }
        match message {
            FleetMessage::Campaign(lease) => {
                member.is_campaigning = false;
                if !is_cut {
                    let leads = self.engine.campaign(at, lease);
                    let is_gone = !leads && self.engine.keys.leader.is_none();
                    member.view = self.engine.keys.clone();
                    if leads {
                        self.trail.tell(self.truth, ("leads", at));
                        self.tell_all();
                    }
                    if is_gone {
                        // Its lease is.
                        self.after(5, 50, FleetEvent::Joined(at));
                        return;
                    }
                }
            }
            FleetMessage::Written(written, WriteOf::Record, _) => {
                member.on_shared(&machine.host, written);
            }
            FleetMessage::Written(written, WriteOf::Intent(kept), _) => {
                member.on_intended(&mut machine.host, written, kept);
            }
            FleetMessage::Answered(answer, has_reached, _) => {
                let outcome = member.on_ended(&mut machine.host, answer, has_reached);
                self.trail.tell(self.truth, (at, &outcome));
                self.pact.on_outcome(outcome.as_ref());
            }
            FleetMessage::Written(_, WriteOf::Nobody, _)
            | FleetMessage::Apply(..)
            | FleetMessage::Execute(..) => {}
        }
        self.turn(at);
    }

    fn execute(&mut self, at: usize, incarnation: u32, asked: (Call, Option<Value>, i64)) {
        let (call, token, until) = asked;
        let took = self.rng.i64(20..500);
        let reply = if self.truth < self.machines[at].platform_cut_until {
            (no_answer(), false, took)
        } else {
            let token = token.as_ref().map(Value::expose);
            let reply = self.platform.call(self.truth, call, token, took);
            if reply.has_reached {
                self.trail.tell(self.truth, (at, call, "arrives"));
                self.pact.on_call(self.truth, call);
            }
            (reply.answer, reply.has_reached, reply.took)
        };
        let (answer, has_reached, took) = reply;
        let answer = if self.truth + took > until {
            no_answer()
        } else {
            answer
        };
        let ends = (self.truth + took).min(until).max(self.truth);
        let message = FleetMessage::Answered(answer, has_reached, until);
        self.events
            .push((ends, FleetEvent::Message(at, incarnation, message)));
    }

    /// Apps of a host report a token that does not work.
    fn report(&mut self, at: usize) {
        self.machines[at].is_reported = false;
        let Some(bad) = self.dead_token(at) else {
            return;
        };
        let machine = &mut self.machines[at];
        let now = machine.host.now();
        let Some(member) = &mut machine.member else {
            return;
        };
        let overlap = member.schedule.account().terms().overlap();
        let calls = match member.schedule.part() {
            Part::Alone | Part::Leads => true,
            Part::Follows => false,
            Part::Cut { .. } => overlap.is_none(),
        };
        if calls {
            // The verdict is for apps, which take what is published.
            let _ = member.schedule.suspect(&now, Some(&bad), false);
            self.turn(at);
        } else if member.schedule.doubt(&now, Some(&bad)).is_none() && machine.connected.is_some() {
            self.after(5, 60, FleetEvent::Doubted(bad));
        }
        self.machines[at].is_reported = true;
        self.after(30 * SECOND, 40 * SECOND, FleetEvent::Reported(at));
    }

    /// A follower's doubt reaches the leader.
    fn doubted(&mut self, bad: &Value) {
        let Some(leader) = self.engine.keys.leader else {
            return;
        };
        let machine = &mut self.machines[leader.host];
        let now = machine.host.now();
        if machine.connected.is_some()
            && let Some(member) = &mut machine.member
            && member.schedule.holds(&bad.fingerprint().to_string())
        {
            let _ = member.schedule.suspect(&now, None, false);
            self.turn(leader.host);
        }
    }
}

fn no_answer() -> Result<Answer, Refusal> {
    Err(Refusal::transient("no answer", "wait"))
}

/// Lives through these days with each seed, and with as many more as `YEAR_SEEDS` says.
fn live(seeds: std::ops::Range<u64>, days: i64, kind: PlatformKind, account: &Account) {
    let more = std::env::var("YEAR_SEEDS").map_or(0, |more| more.parse().expect("it is a number"));
    for seed in seeds.chain(100..100 + more) {
        FleetLife::new(seed, kind, account.clone()).live(days);
    }
}

#[test]
fn fleet_under_classic() {
    let account = account(PlatformKind::Classic, &[ValueName::JsapiTicket], |_| ());
    live(1..2, 200, PlatformKind::Classic, &account);
}

#[test]
fn fleet_under_classic_with_a_small_budget() {
    let account = account(PlatformKind::Classic, &[], |account| {
        account.daily_budget = 100;
    });
    live(3..4, 200, PlatformKind::Classic, &account);
}

#[test]
fn fleet_under_stable() {
    let account = account(PlatformKind::Stable, &[ValueName::JsapiTicket], |account| {
        account.poll_every = Duration::from_secs(1800);
    });
    live(4..5, 60, PlatformKind::Stable, &account);
}

#[test]
fn fleet_of_a_corp() {
    let account = account(PlatformKind::Wecom, &[ValueName::JsapiTicket], |_| ());
    live(6..7, 100, PlatformKind::Wecom, &account);
}
