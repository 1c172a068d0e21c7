//! The cards of the other hosts: read when they come, and answered.

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
        self.keys.clear();
        for kv in all {
            self.take(prefix, kv, false);
        }
        self.header = header;
        self.secrets = Some(keys);
        for seat in self.seats.values_mut() {
            seat.is_campaigning = false;
        }
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
