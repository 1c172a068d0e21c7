//! The kinds of event that an administrator may want to alert on. The journal catalog in `packaging/` explains each.

/// A kind of event: its name is the journal's `WXTOKEND_EVENT`, its id the `MESSAGE_ID`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The daemon is ready.
    Started,
    /// The daemon ends because it was told to.
    Stopped,
    /// A new configuration is in force.
    ConfigReloaded,
    /// A new configuration has faults; the old one runs on.
    ConfigRejected,
    /// An account has no valid access token any more, or never got one.
    AccountExpired,
    /// An account that was in trouble is fresh again.
    AccountRecovered,
    /// The platform cannot be reached or gives no usable answer: passes by itself.
    RefreshFailing,
    /// The platform refuses until somebody changes something.
    OperatorActionNeeded,
    /// A quota of the platform is used up.
    QuotaExhausted,
    /// The platform refuses for a fixed time.
    TimedBlock,
    /// The account's own `daily_budget` is used up.
    BudgetUsedUp,
    /// Somebody else fetches tokens for the same appid and ends ours early.
    ForeignFetcher,
    /// A file or socket could not be published.
    OutputFailed,
    /// A file or socket that somebody changed was put right.
    OutputRepaired,
    /// The preferred host of the platform fails; another one serves.
    FallbackHost,
    /// The clock was set or the host slept.
    ClockStep,
    /// The state that was stored over a restart cannot be read.
    StateDamaged,
    /// The feed could not write to a database or to Redis.
    FeedFailed,
    /// A database or Redis holds again what the feed keeps there.
    FeedRecovered,
    /// Somebody else changed a row or key that the feed keeps.
    FeedRepaired,
    /// This host does not reach the engine of its fleet.
    FleetEngineAway,
    /// It does again.
    FleetEngineBack,
    /// Another host leads an account now.
    FleetLeader,
    /// This host may take no part in its fleet, or in an account of it, until somebody acts.
    FleetRefused,
    /// The clocks of two hosts of a fleet differ.
    FleetClock,
}

impl Event {
    /// Every kind.
    pub const ALL: [Self; 25] = [
        Self::Started,
        Self::Stopped,
        Self::ConfigReloaded,
        Self::ConfigRejected,
        Self::AccountExpired,
        Self::AccountRecovered,
        Self::RefreshFailing,
        Self::OperatorActionNeeded,
        Self::QuotaExhausted,
        Self::TimedBlock,
        Self::BudgetUsedUp,
        Self::ForeignFetcher,
        Self::OutputFailed,
        Self::OutputRepaired,
        Self::FallbackHost,
        Self::ClockStep,
        Self::StateDamaged,
        Self::FeedFailed,
        Self::FeedRecovered,
        Self::FeedRepaired,
        Self::FleetEngineAway,
        Self::FleetEngineBack,
        Self::FleetLeader,
        Self::FleetRefused,
        Self::FleetClock,
    ];

    /// The name, as in the journal's `WXTOKEND_EVENT`.
    pub const fn name(self) -> &'static str {
        self.row().0
    }

    /// The id, as in the journal's `MESSAGE_ID`: never changes once released, since alerts match it.
    pub(crate) const fn message_id(self) -> &'static str {
        self.row().1
    }

    const fn row(self) -> (&'static str, &'static str) {
        match self {
            Self::Started => ("started", "5f386f2ba59e4fa69a83558322cab4e8"),
            Self::Stopped => ("stopped", "87e508204b1a4a4a90c428c6033028e4"),
            Self::ConfigReloaded => ("config_reloaded", "068ac6b8533847cda12e760e2bd26ef8"),
            Self::ConfigRejected => ("config_rejected", "d536e0e52e6842a484ce6c190d387d96"),
            Self::AccountExpired => ("account_expired", "1c444d33761a465d8ec7eb313e2b07ff"),
            Self::AccountRecovered => ("account_recovered", "ed9e2fac3c0c42f2bc04b11ddc7b4fe9"),
            Self::RefreshFailing => ("refresh_failing", "381169f324a0481f875a31d405402bc1"),
            Self::OperatorActionNeeded => {
                ("operator_action_needed", "73fd09f6265944318307c8293dbace31")
            }
            Self::QuotaExhausted => ("quota_exhausted", "0862e70e4edd4ebabd94bf67492706bb"),
            Self::TimedBlock => ("timed_block", "f797118198d646d7a644093cffdb1b10"),
            Self::BudgetUsedUp => ("budget_used_up", "5a3f8add6da34a959fd765e03bb7e02e"),
            Self::ForeignFetcher => ("foreign_fetcher", "7888014a54cd470297d7296c616a1809"),
            Self::OutputFailed => ("output_failed", "a1417ff4729e49079699a2b23e250b4a"),
            Self::OutputRepaired => ("output_repaired", "c3656d94ad4740dd874c83de2b524432"),
            Self::FallbackHost => ("fallback_host", "832f7a331b754fec8a5c29da68cd7535"),
            Self::ClockStep => ("clock_step", "728392e2e9fc4afba6438a43f678be8d"),
            Self::StateDamaged => ("state_damaged", "d01ec443f63048dca685eb2bb149969c"),
            Self::FeedFailed => ("feed_failed", "6b56298fad284326b4c0266d468227b6"),
            Self::FeedRecovered => ("feed_recovered", "e131ed8bd78943e4abd2b21e2dc71d19"),
            Self::FeedRepaired => ("feed_repaired", "f6312bd7a5dd4a5f8a0b55116d5b4231"),
            Self::FleetEngineAway => ("fleet_engine_away", "0c9a4e5b7d2f4f0b9d3e6a8117c5b2f4"),
            Self::FleetEngineBack => ("fleet_engine_back", "3b7e1d90c6a84c25a2f96e04d8b1735c"),
            Self::FleetLeader => ("fleet_leader", "91f0c2d4a65b4e7d8b3a5c17e92f6048"),
            Self::FleetRefused => ("fleet_refused", "d48b6a17f3c24a9e8e5d02b96c71f3a5"),
            Self::FleetClock => ("fleet_clock", "6e25b0f98d134c7ab1f4e3a72c8d9506"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    const ENGLISH: &str = include_str!("../packaging/wxtokend.catalog");
    const CHINESE: &str = include_str!("../packaging/wxtokend.zh_CN.catalog");

    /// The entries of a catalog: id → header and text.
    fn entries(catalog: &str) -> BTreeMap<&str, &str> {
        catalog
            .split("\n-- ")
            .skip(1)
            .map(|entry| entry.split_once('\n').expect("an id and a text"))
            .collect()
    }

    #[test]
    fn both_catalogs_explain_every_event_and_nothing_else() {
        for catalog in [ENGLISH, CHINESE] {
            let entries = entries(catalog);
            assert_eq!(entries.len(), catalog.matches("\n-- ").count());
            assert_eq!(entries.len(), Event::ALL.len());
            for event in Event::ALL {
                let entry = entries
                    .get(event.message_id())
                    .unwrap_or_else(|| panic!("no entry for {}", event.name()));
                let (header, text) = entry.split_once("\n\n").expect("a header and a text");
                assert!(header.starts_with("Subject: "), "{}", event.name());
                assert!(header.contains("\nDefined-By: wxtokend\n"));
                assert!(!text.trim().is_empty(), "{}", event.name());
            }
        }
    }

    #[test]
    fn names_and_ids_are_unique_and_well_formed() {
        for (i, event) in Event::ALL.into_iter().enumerate() {
            assert!(
                event
                    .name()
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b == b'_')
            );
            assert_eq!(event.message_id().len(), 32);
            assert!(
                event
                    .message_id()
                    .bytes()
                    .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
            );
            for other in &Event::ALL[i + 1..] {
                assert_ne!(event.name(), other.name());
                assert_ne!(event.message_id(), other.message_id());
            }
        }
    }
}
