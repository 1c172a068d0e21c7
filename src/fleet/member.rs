//! The task of a member: joins the fleet, keeps its lease, follows the one watch, leads what nobody leads.

use super::charter::{self, Charter};
use super::clocks::HostCard;
use super::error::EngineError;
use super::record::{ORPHAN, RECORD};
use super::state::{EngineState, HeldLease, LeaderCard, key_of};
use super::watch::{Batch, EtcdWatch};
use super::wire::{Condition, KeyValue, Op, Transaction};
use super::{Absence, FleetShared};
use crate::account::AccountName;
use crate::clock;
use crate::event::Event;
use crate::logging::Entry;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// Wait after the first attempt to join that failed. It doubles up to `RETRY_LONGEST`.
const RETRY_FIRST: Duration = Duration::from_millis(250);
/// Limit on the wait between two attempts to join.
const RETRY_LONGEST: Duration = Duration::from_secs(2);
/// Wait when this host may take no part.
const RETRY_REFUSED: Duration = Duration::from_secs(5);
/// Accounts that this host tries to lead at a time.
const CAMPAIGNS: usize = 16;
/// Interval at which the hosts compare their clocks.
const CLOCKS_EVERY: Duration = Duration::from_secs(600);
/// A wait that something else ends.
const FAR: Duration = Duration::from_secs(3600);

/// The reason why a session ended.
enum SessionEnd {
    /// Another member of etcd is asked from now on, or the watch broke: the next session begins at once.
    Again,
    /// The engine does not answer, or this host may take no part.
    Away(Absence),
}

impl From<EngineError> for SessionEnd {
    fn from(error: EngineError) -> Self {
        match &error {
            // The lease is gone, or the watch is too old: all is read anew.
            error if error.is_not_found() || error.is_compacted() => Self::Again,
            _ => Self::Away(Absence::Away(error.to_string().into())),
        }
    }
}

const LOST: &str = "etcd has lost data, or is another cluster: what this host still holds is written back; look at etcd's members";

/// Takes part for as long as the daemon runs.
pub(super) async fn run(shared: Arc<FleetShared>) {
    let mut retry = RETRY_FIRST;
    loop {
        let began = Instant::now();
        match session(&shared).await {
            SessionEnd::Again if began.elapsed() > RETRY_FIRST => {}
            SessionEnd::Again => sleep(RETRY_FIRST).await,
            SessionEnd::Away(why) => {
                let wait = match why {
                    Absence::Refused(_) => RETRY_REFUSED,
                    Absence::Away(_) => retry,
                };
                if shared.on_away(&why) {
                    retry = RETRY_FIRST;
                }
                sleep(wait).await;
                retry = (retry * 2).min(RETRY_LONGEST);
            }
        }
    }
}

/// Joins, and stays until something breaks.
async fn session(shared: &Arc<FleetShared>) -> SessionEnd {
    match join(shared).await {
        Ok((lease, watch, generation)) => {
            shared.on_present();
            stay(shared, lease, watch, generation).await
        }
        Err(ended) => ended,
    }
}

async fn join(shared: &Arc<FleetShared>) -> Result<(i64, EtcdWatch, usize), SessionEnd> {
    let etcd = &shared.etcd;
    let keys = shared.read_keys().await.map_err(SessionEnd::Away)?;
    let (all, header) = etcd.all(&shared.section.prefix).await?;
    let before = shared.lock().header;
    // What is read is never older than what was known, unless the engine has lost it.
    if header.revision < before.revision
        || (before.cluster_id != 0 && header.cluster_id != before.cluster_id)
    {
        Entry::new().event(Event::FleetEngineAway).warn(LOST);
    }
    let (prefix, host) = (&shared.section.prefix, &shared.section.host);
    let found = charter::find(&all, prefix, &keys, host);
    shared.lock().own.key = keys.id().to_string();
    let keys = match found.map_err(|why| SessionEnd::Away(Absence::Refused(why.into())))? {
        Charter::Ours => keys,
        Charter::New(put) => {
            etcd.transact(&put).await?;
            keys
        }
        Charter::Waits { key, hosts } => {
            Entry::new().info(format_args!(
                "the fleet goes over to key {} when all hosts have it first in `key_file`; not yet: {}",
                keys.id(),
                hosts.join(", ")
            ));
            keys.sealing_with(&key).map_or(keys, Arc::new)
        }
    };
    let lease = lease(shared).await?;
    shared
        .lock()
        .renew_all(&shared.section.prefix, all, header, keys);
    ask_clocks(shared, lease).await?;
    let generation = etcd.generation();
    let watch = etcd
        .watch(&shared.section.prefix, header.revision + 1)
        .await?;
    Ok((lease, watch, generation))
}

/// The lease of before if it still lives, else a new one.
async fn lease(shared: &FleetShared) -> Result<i64, SessionEnd> {
    let held = shared.lock().lease;
    let sent = clock::now().at;
    if let Some(held) = held
        && let (Some(life), _) = shared.etcd.keep_alive(held.id).await?
    {
        shared.lock().lease = Some(HeldLease {
            life,
            renewed: sent,
            ..held
        });
        return Ok(held.id);
    }
    let sent = clock::now().at;
    let (id, life) = shared.etcd.grant(shared.section.lease).await?;
    let mut state = shared.lock();
    state.own_leases.push(id);
    state.lease = Some(HeldLease {
        id,
        life,
        renewed: sent,
    });
    Ok(id)
}

/// Tells of this host, and asks the others for their time.
async fn ask_clocks(shared: &FleetShared, lease: i64) -> Result<(), SessionEnd> {
    let card = {
        let mut state = shared.lock();
        state.own.asked = clock::now().unix_millis;
        state.answer_all();
        state.own.clone()
    };
    put_card(shared, lease, &card).await
}

async fn put_card(shared: &FleetShared, lease: i64, card: &HostCard) -> Result<(), SessionEnd> {
    let text = serde_json::to_vec(card).unwrap_or_default();
    let key = format!("{}hosts/{lease:x}", shared.section.prefix);
    let put = Transaction {
        then: vec![Op::Put(key, text, lease)],
        ..Transaction::default()
    };
    shared.etcd.transact(&put).await?;
    Ok(())
}

/// Keeps the lease and follows the watch.
async fn stay(
    shared: &Arc<FleetShared>,
    lease: i64,
    mut watch: EtcdWatch,
    generation: usize,
) -> SessionEnd {
    let mut campaigns: JoinSet<Result<(), EngineError>> = JoinSet::new();
    let mut waiting: VecDeque<AccountName> = VecDeque::new();
    let mut keeping = Box::pin(keep(shared, lease, generation));
    let mut clocks_at = Instant::now() + CLOCKS_EVERY;
    loop {
        // Only those that wait already count as campaigning.
        let now = clock::now();
        let (vacant, again) = shared.lock().vacant(&now);
        waiting.extend(vacant);
        let again = again.map_or(FAR, |again| now.at.until(again) + Duration::from_millis(1));
        while campaigns.len() < CAMPAIGNS
            && let Some(name) = waiting.pop_front()
        {
            campaigns.spawn(campaign(shared.clone(), name, lease));
        }
        tokio::select! {
            batch = watch.next() => match batch {
                Ok(batch) => {
                    let owed = shared.on_batch(batch);
                    if shared.lock().wants_other_key() {
                        return SessionEnd::Again;
                    }
                    if let Some(card) = owed
                        && let Err(ended) = put_card(shared, lease, &card).await
                    {
                        return ended;
                    }
                }
                Err(EngineError::Away(_)) => {
                    // Another member may have more to tell.
                    shared.etcd.leave(generation);
                    return SessionEnd::Again;
                }
                Err(error) => return error.into(),
            },
            kept = &mut keeping => match kept {
                Ok(()) => keeping = Box::pin(keep(shared, lease, generation)),
                Err(ended) => return ended,
            },
            Some(done) = campaigns.join_next() => if let Ok(Err(error)) = done {
                return error.into();
            },
            () = shared.kicked.notified() => {}
            () = sleep(again) => {}
            () = shared.rejoin.notified() => return SessionEnd::Again,
            () = tokio::time::sleep_until(clocks_at) => {
                clocks_at = Instant::now() + CLOCKS_EVERY;
                if let Err(ended) = ask_clocks(shared, lease).await {
                    return ended;
                }
            }
        }
    }
}

/// Keeps the lease alive once, when it is time.
async fn keep(shared: &FleetShared, lease: i64, generation: usize) -> Result<(), SessionEnd> {
    sleep(shared.section.lease / 3).await;
    renew(shared, lease).await?;
    if shared.etcd.generation() == generation {
        Ok(())
    } else {
        // The watch hangs at the member that failed.
        Err(SessionEnd::Again)
    }
}

/// Keeps the lease alive now.
pub(super) async fn renew(shared: &FleetShared, lease: i64) -> Result<(), EngineError> {
    let sent = clock::now().at;
    let (life, header) = shared.etcd.keep_alive(lease).await?;
    let mut state = shared.lock();
    // The revision of a keepalive says nothing: it may be that of before, or of a member that lags.
    if state.header.cluster_id != 0 && header.cluster_id != state.header.cluster_id {
        Entry::new().event(Event::FleetEngineAway).warn(LOST);
        state.lease = None;
    }
    let Some(life) = life.filter(|_| state.lease.is_some()) else {
        state.lease = None;
        state.wake_all();
        return Err(EngineError::lease_is_gone());
    };
    if let Some(held) = &mut state.lease {
        (held.life, held.renewed) = (life, held.renewed.max(sent));
    }
    Ok(())
}

/// Tries to lead an account.
async fn campaign(
    shared: Arc<FleetShared>,
    name: AccountName,
    lease: i64,
) -> Result<(), EngineError> {
    let prefix = &shared.section.prefix;
    let key = |what| format!("{prefix}{}", key_of(&name, what));
    let card = LeaderCard {
        host: shared.section.host.to_string(),
        since: clock::now().unix_millis,
    };
    let card = serde_json::to_vec(&card).unwrap_or_default();
    let leader = key("leader");
    let done = shared
        .etcd
        .transact(&Transaction {
            conditions: vec![Condition::Absent(leader.clone())],
            then: vec![
                Op::Put(leader.clone(), card.clone(), lease),
                Op::Get(key(RECORD)),
                Op::Get(key(ORPHAN)),
            ],
            otherwise: vec![Op::Get(leader.clone())],
        })
        .await;
    let mut state = shared.lock();
    if let Some(seat) = state.seats.get_mut(&name) {
        seat.is_campaigning = false;
    }
    let done = done?;
    let mut found = done.found;
    if done.succeeded {
        found.push(KeyValue {
            key: leader,
            value: card,
            create_revision: done.header.revision,
            mod_revision: done.header.revision,
            lease,
        });
    }
    for kv in found {
        state.take(prefix, kv, false);
    }
    if let Some(seat) = state.seats.get(&name) {
        seat.inbox.wake();
    }
    Ok(())
}

impl FleetShared {
    /// Applies changes. Returns this host's card if it owes others an answer.
    fn on_batch(&self, batch: Batch) -> Option<HostCard> {
        let mut state = self.lock();
        state.header.revision = state.header.revision.max(batch.header.revision);
        let mut owes = false;
        let clocks = state.clocks.count();
        for event in batch.events {
            let is_gone = event.is_deletion();
            let Some(key) = state.take(&self.section.prefix, event.kv, is_gone) else {
                continue;
            };
            if key.starts_with("hosts/") && !is_gone {
                owes |= state.answer(&key);
            }
            state.wake(&key);
        }
        if state.clocks.count() != clocks {
            // Records can be read that could not before.
            state.wake_all();
        }
        Self::tell_clocks(&mut state);
        owes.then(|| state.own.clone())
    }

    /// Notes that the engine does not answer. Returns whether it did before.
    fn on_away(&self, why: &Absence) -> bool {
        let text = match why {
            Absence::Away(text) | Absence::Refused(text) => text.clone(),
        };
        let mut state = self.lock();
        let since = match &state.engine {
            EngineState::Away { why, .. } if **why == *text => return false,
            EngineState::Away { since, .. } => *since,
            EngineState::Joining | EngineState::Present => clock::now().at,
        };
        let was_away = matches!(state.engine, EngineState::Away { .. });
        let entry = Entry::new();
        match why {
            Absence::Refused(_) => entry.event(Event::FleetRefused).error(format_args!(
                "this host takes no part in the fleet: {text}; it serves what it has"
            )),
            Absence::Away(_) if was_away => {}
            Absence::Away(_) => entry.event(Event::FleetEngineAway).warn(format_args!(
                "the fleet's engine is away: {text}; this host serves what it has until its end; classic accounts fetch nothing meanwhile, others only what is in need"
            )),
        }
        state.engine = EngineState::Away {
            since,
            why: text.as_ref().into(),
            is_refused: matches!(why, Absence::Refused(_)),
        };
        state.wake_all();
        self.changed.notify_one();
        !was_away
    }

    /// Notes that the engine answers.
    fn on_present(&self) {
        let mut state = self.lock();
        let before = std::mem::replace(&mut state.engine, EngineState::Present);
        let (host, prefix) = (&self.section.host, &self.section.prefix);
        match before {
            EngineState::Present => {}
            EngineState::Joining => Entry::new().info(format_args!(
                "this host is `{host}` in the fleet at {prefix}; etcd is {}",
                self.etcd.endpoint().as_str()
            )),
            EngineState::Away { .. } => Entry::new()
                .event(Event::FleetEngineBack)
                .info("the fleet's engine is back"),
        }
        state.wake_all();
        self.changed.notify_one();
    }
}
