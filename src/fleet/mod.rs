//! A fleet: many hosts that hold the same token and fetch it once. They agree through an engine, etcd. This is what the task of
//! an account needs of it: who leads, the shared record, a fenced write, and to be woken when something changes.

mod cards;
mod charter;
mod clocks;
mod doubt;
mod error;
mod etcd;
mod member;
mod record;
mod state;
mod tls;
mod trial;
mod watch;
mod wire;
mod write;

pub(crate) use doubt::{DoubtCard, VerdictCard, WishCard};
pub(crate) use record::{BadRecord, Envelope, Intent};
pub(crate) use state::{EngineState, Term};
pub(crate) use trial::try_engine;
pub(crate) use write::WriteError;

use crate::account::{Account, AccountName};
use crate::clock;
use crate::config::FleetSection;
use crate::event::Event;
use crate::handle::Inbox;
use crate::logging::Entry;
use crate::offload::{Device, Hazard, Offload};
use crate::schedule::Record;
use crate::seal::{FleetKeys, KeyId};
use crate::time::{Moment, Now};
use clocks::{HostCard, HostClocks};
use etcd::Etcd;
use parking_lot::{Mutex, MutexGuard};
use prometheus::IntCounter;
use record::{ORPHAN, RECORD, VERSION};
use state::{MemberState, Seat, key_of};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use wire::{Condition, EngineHeader, Op, Transaction};

/// Limit for giving up leadership at the end where the engine did not answer before.
const LEAVE_UNHEARD: Duration = Duration::from_millis(400);
/// Limit for reading the file of the key.
const KEY_LIMIT: Duration = Duration::from_secs(5);

/// This host's membership of a fleet. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Fleet(Arc<FleetShared>);

struct FleetShared {
    section: FleetSection,
    etcd: Etcd,
    offload: Offload,
    state: Mutex<MemberState>,
    /// There may be something to lead.
    kicked: Notify,
    /// The file of the key may hold another one.
    rejoin: Notify,
    /// Told when the status line may change.
    changed: Arc<Notify>,
}

/// The reason why this host is without its engine.
enum Absence {
    /// It does not answer.
    Away(Box<str>),
    /// This host may take no part until somebody acts.
    Refused(Box<str>),
}

/// The fleet as an account's task sees it.
pub(crate) struct Look {
    /// The engine.
    pub(crate) engine: EngineState,
    /// Set while this host leads.
    pub(crate) term: Option<Term>,
    /// The host that leads, and since when in Unix seconds.
    pub(crate) leader: Option<(Arc<str>, i64)>,
    /// The record that there is: its revision, and the reading of all keys that it belongs to.
    pub(crate) record: Option<(u32, i64)>,
    /// The key that the fleet encrypts with.
    pub(crate) key: Option<KeyId>,
}

/// A record that the engine holds, opened.
pub(crate) struct OpenedRecord {
    pub(crate) record: Record,
    /// The moment until which a call of the host that wrote it may last.
    pub(crate) call_until: Option<Moment>,
}

impl Fleet {
    /// Becomes a member, and takes part until it is dropped. Blocks on the files of certificates. Needs a runtime.
    pub(crate) fn start(
        section: &FleetSection,
        offload: &Offload,
        changed: Arc<Notify>,
        requests: [IntCounter; 2],
    ) -> Result<Self, String> {
        let shared = Arc::new(FleetShared {
            etcd: Etcd::new(section, offload, requests)?,
            offload: offload.clone(),
            state: Mutex::new(MemberState {
                engine: EngineState::Joining,
                lease: None,
                joins: 0,
                own_leases: Vec::new(),
                seats: BTreeMap::new(),
                keys: BTreeMap::new(),
                header: EngineHeader::default(),
                clocks: HostClocks::default(),
                own: HostCard {
                    host: section.host.to_string(),
                    version: crate::VERSION.to_owned(),
                    format: VERSION,
                    may_lead: section.may_lead,
                    key: String::new(),
                    asked: 0,
                    answers: BTreeMap::new(),
                },
                secrets: None,
                is_skew_told: false,
            }),
            kicked: Notify::new(),
            rejoin: Notify::new(),
            changed,
            section: section.clone(),
        });
        tokio::spawn(member::run(shared.clone()));
        Ok(Self(shared))
    }

    /// True if this host may call the platform.
    pub(crate) fn may_lead(&self) -> bool {
        self.0.section.may_lead
    }

    /// The life of a lease.
    pub(crate) fn lease(&self) -> Duration {
        self.0.section.lease
    }

    /// Lets an account take part, in the place of one of that name. Its inbox is woken when something of it changes.
    pub(crate) fn seat(&self, account: &Arc<Account>, inbox: Arc<Inbox>, holds: bool) {
        let mut state = self.0.lock();
        let seat = Seat {
            inbox,
            holds,
            rests_until: None,
            vacant_since: None,
            is_campaigning: false,
            account: account.clone(),
        };
        state.seats.insert(account.name.clone(), seat);
        drop(state);
        self.0.kicked.notify_one();
    }

    /// Joins anew: the file of the key may hold another one.
    pub(crate) fn rejoin(&self) {
        self.0.rejoin.notify_one();
    }

    /// Notes whether this host has a valid value of an account.
    pub(crate) fn note_holding(&self, name: &AccountName, holds: bool) {
        if let Some(seat) = self.0.lock().seats.get_mut(name) {
            seat.holds = holds;
        }
    }

    /// The fleet as it stands for an account.
    pub(crate) fn look(&self, name: &AccountName, now: Moment) -> Look {
        let state = self.0.lock();
        let record = state.keys.get(key_of(name, RECORD).as_str());
        Look {
            engine: state.engine.clone(),
            term: state.term(name, now),
            leader: state.leading_host(name),
            record: record.map(|kv| (state.joins, kv.mod_revision)),
            key: state.secrets.as_ref().map(|keys| keys.id()),
        }
    }

    /// The record of an account, if there is one.
    pub(crate) fn record(
        &self,
        account: &Account,
        now: &Now,
    ) -> Option<Result<OpenedRecord, BadRecord>> {
        self.open(account, RECORD, now)
    }

    /// The answer of a leader before that came too late to be shared.
    pub(crate) fn orphan(&self, account: &Account, now: &Now) -> Option<Record> {
        let opened = self.open(account, ORPHAN, now)?;
        opened.ok().map(|opened| opened.record)
    }

    fn open(
        &self,
        account: &Account,
        value: &str,
        now: &Now,
    ) -> Option<Result<OpenedRecord, BadRecord>> {
        let state = self.0.lock();
        let kv = state.keys.get(key_of(&account.name, value).as_str())?;
        let keys = state.secrets.clone()?;
        Some(Envelope::read(&kv.value, account).and_then(|envelope| {
            let ahead = self.0.ahead_of_writer(&state, &envelope)?;
            let record = envelope.open(&account.name, value, &keys, ahead, now)?;
            let call_until = envelope.intent.map(|intent: Intent| {
                let limit = Duration::from_millis(intent.limit);
                let since = now.moment(intent.since + ahead).min(now.at);
                since + limit
            });
            Ok(OpenedRecord {
                record,
                call_until: call_until.filter(|until| *until > now.at),
            })
        }))
    }

    /// True if another host may lead in the place of this one.
    pub(crate) fn others_may_lead(&self) -> bool {
        self.0.lock().others_may_lead()
    }

    /// Leaves an account to the other hosts for a while. Works beside the caller.
    pub(crate) fn resign(&self, name: &AccountName, term: Term, rest: Duration) {
        let key = format!("{}{}", self.0.section.prefix, key_of(name, "leader"));
        if let Some(seat) = self.0.lock().seats.get_mut(name) {
            seat.rests_until = Some(clock::now().at + rest);
        }
        let shared = self.0.clone();
        tokio::spawn(async move {
            let delete = Transaction {
                conditions: vec![Condition::Is {
                    key: key.clone(),
                    revision: term.fence,
                    lease: term.lease,
                }],
                then: vec![Op::Delete(key)],
                otherwise: Vec::new(),
            };
            // If it cannot be done, the host goes on leading.
            let _ = shared.etcd.transact(&delete).await;
        });
    }

    /// Lets an account take part no more. If this host leads it, another one leads at once.
    pub(crate) fn unseat(&self, name: &AccountName) {
        let term = {
            let mut state = self.0.lock();
            state.seats.remove(name);
            state.term(name, clock::now().at)
        };
        if let Some(term) = term {
            self.resign(name, term, Duration::ZERO);
        }
    }

    /// Leaves the fleet: others lead at once. Takes no longer than `limit`.
    pub(crate) async fn leave(&self, limit: Duration) {
        let (lease, is_present) = {
            let mut state = self.0.lock();
            let is_present = state.engine == EngineState::Present;
            (state.lease.take(), is_present)
        };
        let limit = if is_present {
            limit
        } else {
            limit.min(LEAVE_UNHEARD)
        };
        if let Some(lease) = lease {
            let _ = tokio::time::timeout(limit, self.0.etcd.revoke(lease.id)).await;
        }
    }

    /// The state of the fleet, for the status line and for metrics.
    pub(crate) fn summary(&self, now: Moment) -> Summary {
        let state = self.0.lock();
        let leads = state
            .seats
            .keys()
            .filter(|name| state.term(name, now).is_some());
        Summary {
            engine: state.engine.clone(),
            leads: leads.count(),
            accounts: state.seats.len(),
            clock_ahead: state
                .clocks
                .worst()
                .map(|(host, ahead)| (host.to_owned(), ahead)),
        }
    }
}

/// The state of a fleet, as this host sees it.
pub(crate) struct Summary {
    pub(crate) engine: EngineState,
    /// Accounts that this host leads.
    pub(crate) leads: usize,
    /// Accounts of this host.
    pub(crate) accounts: usize,
    /// The host whose clock differs most, and by how many milliseconds this one's is ahead of it.
    pub(crate) clock_ahead: Option<(String, i64)>,
}

impl FleetShared {
    /// Milliseconds by which this host's clock is ahead of that of the host that wrote a record.
    fn ahead_of_writer(&self, state: &MemberState, envelope: &Envelope) -> Result<i64, BadRecord> {
        let host = envelope.host.as_str();
        if host == &*self.section.host {
            Ok(0)
        } else if state.clocks.knows(host) {
            Ok(state.clocks.ahead_of(host))
        } else if state.has_card(host) {
            // It answers in a moment, or is gone when its lease ends.
            Err(BadRecord::ClockUnknown)
        } else {
            Ok(clocks::by_engine(envelope.ahead, self.etcd.clock_ahead()))
        }
    }

    fn lock(&self) -> MutexGuard<'_, MemberState> {
        self.state.lock()
    }

    /// Reads the file of the key anew: it may hold another one by now.
    async fn read_keys(&self) -> Result<Arc<FleetKeys>, Absence> {
        let path = self.section.key_file.clone();
        let shown = path.display().to_string();
        let lane = self.offload.lane(Hazard::Secrets(Device::default()));
        let read = tokio::time::timeout(KEY_LIMIT, lane.run(move || FleetKeys::read(&path)));
        let why = match read.await {
            Ok(Ok(Ok(keys))) => return Ok(Arc::new(keys)),
            Ok(Ok(Err(error))) => error.to_string(),
            Ok(Err(_)) | Err(_) => "does not answer: look at the disk or mount below it".to_owned(),
        };
        Err(Absence::Refused(
            format!("`key_file` `{shown}` {why}; copy it from another host of the fleet").into(),
        ))
    }

    /// Tells of a clock that differs, once.
    fn tell_clocks(state: &mut MemberState) {
        let worst = state.clocks.worst();
        let was_told = std::mem::replace(&mut state.is_skew_told, worst.is_some());
        if let Some((host, ahead)) = worst.filter(|_| !was_told) {
            let (seconds, how) = (
                ahead.abs() / 1000,
                if ahead > 0 { "ahead of" } else { "behind" },
            );
            Entry::new().event(Event::FleetClock).warn(format_args!(
                "this host's clock is about {seconds} s {how} that of {host}: set both by NTP; ends of values are corrected for it meanwhile"
            ));
        }
    }
}
