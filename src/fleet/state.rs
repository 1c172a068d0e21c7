//! The knowledge of a member of a fleet: a copy of the engine's keys, its lease, and the accounts that take part.

use super::clocks::{HostCard, HostClocks};
use super::record::Envelope;
use super::wire::{EngineHeader, KeyValue};
use crate::account::{Account, AccountName};
use crate::handle::Inbox;
use crate::seal::FleetKeys;
use crate::time::{Moment, Now};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// A leader stops so long before its lease may end.
const MARGIN: Duration = Duration::from_secs(1);
/// A host without a value leaves it so long to those that hold one to lead an account of which the engine knows nothing.
const OTHERS_FIRST: Duration = Duration::from_millis(1500);

/// A host that rests leads again after this if nobody else does. With the end of a lease it is less than 10 s.
const OTHERS_LIMIT: Duration = Duration::from_secs(3);

/// The engine, as this host sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EngineState {
    /// It is asked for the first time.
    Joining,
    /// It answers.
    Present,
    /// It does not, or this host may take no part.
    Away {
        /// The moment since which it is away.
        since: Moment,
        /// The reason, and advice.
        why: Arc<str>,
        /// True if it answers, but this host may take no part.
        is_refused: bool,
    },
}

/// The lease of this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HeldLease {
    pub(crate) id: i64,
    pub(crate) life: Duration,
    /// Just before the last question that kept it alive was sent.
    pub(crate) renewed: Moment,
}

impl HeldLease {
    /// The moment until which this host may act as a leader, on a clock that counts suspend.
    pub(crate) fn until(&self) -> Moment {
        self.renewed + self.life.saturating_sub(MARGIN)
    }
}

/// The time for which this host leads an account: names the leader key for the fence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Term {
    /// The revision that made the leader key.
    pub(crate) fence: i64,
    /// The lease of it.
    pub(crate) lease: i64,
}

/// The content of a leader key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LeaderCard {
    /// The host's name.
    pub(crate) host: String,
    /// The moment since which it leads, Unix milliseconds.
    pub(crate) since: i64,
}

/// An account that takes part.
pub(crate) struct Seat {
    pub(crate) account: Arc<Account>,
    pub(crate) inbox: Arc<Inbox>,
    /// True if this host has a valid value of it.
    pub(crate) holds: bool,
    /// This host leaves it to others until then.
    pub(crate) rests_until: Option<Moment>,
    /// The moment since which nobody leads it, as far as this host knows.
    pub(crate) vacant_since: Option<Moment>,
    /// True while this host tries to lead it.
    pub(crate) is_campaigning: bool,
}

/// All that a member knows.
pub(crate) struct MemberState {
    pub(crate) engine: EngineState,
    pub(crate) lease: Option<HeldLease>,
    /// The leases that this process has held.
    pub(crate) own_leases: Vec<i64>,
    pub(crate) seats: BTreeMap<AccountName, Seat>,
    /// The engine's keys below the prefix, without it.
    pub(crate) keys: BTreeMap<Box<str>, KeyValue>,
    pub(crate) header: EngineHeader,
    /// Times that all keys were read: an engine that has lost its data counts its revisions anew.
    pub(crate) joins: u32,
    pub(crate) clocks: HostClocks,
    pub(crate) own: HostCard,
    pub(crate) secrets: Option<Arc<FleetKeys>>,
    pub(crate) is_skew_told: bool,
}

/// The key of an account's leader, record or orphan, without the prefix.
pub(crate) fn key_of(name: &AccountName, what: &str) -> String {
    format!("accounts/{name}/{what}")
}

/// The account of a key.
pub(crate) fn account_of(key: &str) -> Option<&str> {
    let (name, _) = key.strip_prefix("accounts/")?.split_once('/')?;
    Some(name)
}

impl MemberState {
    /// The leader key of an account.
    pub(crate) fn leader(&self, name: &AccountName) -> Option<&KeyValue> {
        self.keys.get(key_of(name, "leader").as_str())
    }

    /// The host that leads an account, and since when in Unix seconds of its clock.
    pub(crate) fn leading_host(&self, name: &AccountName) -> Option<(Arc<str>, i64)> {
        let card: LeaderCard = serde_json::from_slice(&self.leader(name)?.value).ok()?;
        Some((card.host.into(), card.since.div_euclid(1000)))
    }

    /// The term of this host for an account, if it leads it and its lease has not ended.
    pub(crate) fn term(&self, name: &AccountName, now: Moment) -> Option<Term> {
        let lease = self.lease.filter(|lease| now < lease.until())?;
        let leader = self.leader(name)?;
        (leader.lease == lease.id).then_some(Term {
            fence: leader.create_revision,
            lease: lease.id,
        })
    }

    /// Takes a key as it is now, unless what is known is as new. Returns the key without the prefix if it was taken.
    pub(crate) fn take(&mut self, prefix: &str, kv: KeyValue, is_gone: bool) -> Option<String> {
        let key = kv.key.strip_prefix(prefix)?.to_owned();
        let known = self.keys.get(key.as_str());
        if known.is_some_and(|known| known.mod_revision >= kv.mod_revision) {
            return None;
        }
        if is_gone {
            self.keys.remove(key.as_str());
        } else {
            self.keys.insert(key.as_str().into(), kv);
        }
        Some(key)
    }

    /// Wakes the task of the account that a key is about.
    pub(crate) fn wake(&self, key: &str) {
        if let Some(seat) = account_of(key).and_then(|name| self.seats.get(name)) {
            seat.inbox.wake();
        }
    }

    /// Wakes the tasks of all accounts.
    pub(crate) fn wake_all(&self) {
        self.seats.values().for_each(|seat| seat.inbox.wake());
    }

    /// The accounts that nobody leads and this host may, and when to look again for those that it leaves to others first.
    pub(crate) fn vacant(&mut self, now: &Now) -> (Vec<AccountName>, Option<Moment>) {
        let is_present = self.engine == EngineState::Present && self.lease.is_some();
        if !is_present || !self.own.may_lead {
            return (Vec::new(), None);
        }
        let (mut vacant, mut again) = (Vec::new(), None::<Moment>);
        for (name, seat) in &mut self.seats {
            if self.keys.contains_key(key_of(name, "leader").as_str()) {
                seat.vacant_since = None;
                continue;
            }
            let since = *seat.vacant_since.get_or_insert(now.at);
            let mut later = |at: Moment| {
                let is_later = now.at < at;
                if is_later {
                    again = Some(again.map_or(at, |again| again.min(at)));
                }
                is_later
            };
            // Nobody else wants it: then it has rested long enough.
            let rests = seat
                .rests_until
                .is_some_and(|until| later(until.min(since + OTHERS_LIMIT)));
            let record = self.keys.get(key_of(name, super::record::RECORD).as_str());
            let may_write = match record.map(|kv| Envelope::read(&kv.value, &seat.account)) {
                Some(Err(bad)) => bad == super::record::BadRecord::Damaged,
                Some(Ok(envelope)) => envelope.is_for(self.secrets.as_deref()),
                // Whoever still holds a value writes it back.
                None => seat.holds || !later(since + OTHERS_FIRST),
            };
            if !seat.is_campaigning && !rests && may_write {
                seat.is_campaigning = true;
                vacant.push(name.clone());
            }
        }
        (vacant, again)
    }

    /// True if another host may lead.
    pub(crate) fn others_may_lead(&self) -> bool {
        let own = self.lease.map_or(0, |lease| lease.id);
        let cards = self
            .keys
            .iter()
            .filter(|(key, _)| key.starts_with("hosts/"));
        cards
            .filter(|(_, kv)| kv.lease != own)
            .filter_map(|(_, kv)| serde_json::from_slice::<HostCard>(&kv.value).ok())
            .any(|card| card.may_lead)
    }
}
