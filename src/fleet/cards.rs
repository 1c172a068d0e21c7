//! The cards of the other hosts: read when they come, and answered.

use super::charter;
use super::clocks::HostCard;
use super::record::VERSION;
use super::state::MemberState;
use super::wire::{EngineHeader, KeyValue};
use crate::clock;
use crate::event::Event;
use crate::logging::Entry;
use crate::seal::FleetKeys;
use std::sync::Arc;

impl MemberState {
    /// All keys, read anew.
    pub(super) fn renew_all(
        &mut self,
        prefix: &str,
        all: Vec<KeyValue>,
        header: EngineHeader,
        keys: Arc<FleetKeys>,
    ) {
        let before = self.secrets.as_ref().map(|keys| keys.id());
        if before.is_some_and(|before| before != keys.id()) {
            Entry::new().info(format_args!(
                "the fleet encrypts with key {} from now on: an older one may be removed from `key_file`, on all hosts",
                keys.id()
            ));
        }
        self.keys.clear();
        for kv in all {
            self.take(prefix, kv, false);
        }
        self.header = header;
        self.joins = self.joins.wrapping_add(1);
        self.secrets = Some(keys);
        for seat in self.seats.values_mut() {
            seat.is_campaigning = false;
        }
    }

    /// True if the key that encrypts may be another one: the charter says so, or the last host has the new one first.
    pub(super) fn wants_other_key(&self) -> bool {
        let Some(secrets) = &self.secrets else {
            return false;
        };
        let sealing = secrets.id().to_string();
        let is_other = |kv| !charter::agrees(kv, &sealing);
        if self.keys.get(charter::NAME).is_some_and(is_other) {
            return true;
        }
        sealing != self.own.key
            && charter::without_key(self.cards(), &self.own.host, &self.own.key).is_empty()
    }

    /// True if a host is a member just now.
    pub(super) fn has_card(&self, host: &str) -> bool {
        self.cards().any(|card| card.host == host)
    }

    /// The cards of all hosts.
    fn cards(&self) -> impl Iterator<Item = HostCard> {
        let cards = self.keys.range(Box::<str>::from("hosts/")..);
        let cards = cards.take_while(|(key, _)| key.starts_with("hosts/"));
        cards.filter_map(|(_, kv)| serde_json::from_slice(&kv.value).ok())
    }

    /// Reads the card of a host. True if this host owes it an answer.
    pub(super) fn answer(&mut self, key: &str) -> bool {
        let Some(kv) = self.keys.get(key) else {
            return false;
        };
        let Ok(card) = serde_json::from_slice::<HostCard>(&kv.value) else {
            return false;
        };
        if card.host == self.own.host {
            if !self.own_leases.contains(&kv.lease) {
                Entry::new().event(Event::FleetRefused).warn(format_args!(
                    "another host of the fleet is called `{}` too: set `host` of [fleet], or this is a daemon that was killed a moment ago",
                    card.host
                ));
            }
            return false;
        }
        if card.format != VERSION {
            Entry::new().event(Event::FleetRefused).warn(format_args!(
                "host {} runs wxtokend {}, this one {}: upgrade the older one",
                card.host,
                card.version,
                crate::VERSION
            ));
        }
        let unix_millis = clock::now().unix_millis;
        self.clocks.read(&card, &mut self.own, unix_millis)
    }

    /// Reads the cards of all hosts.
    pub(super) fn answer_all(&mut self) {
        let cards: Vec<_> = self
            .keys
            .keys()
            .filter(|key| key.starts_with("hosts/"))
            .cloned()
            .collect();
        for key in cards {
            self.answer(&key);
        }
    }
}
